// first-line show | apply | remove: what is dropped before it costs anything; drops: what was.
#include <memory>

#include "control/cli/cli.hpp"
#include "control/cli/document.hpp"
#include "control/cli/json_text.hpp"
#include "control/cli/render.hpp"

namespace portcullis::cli {
namespace {

using nlohmann::json;
using Verb = ControlClient::Verb;

constexpr const char* kPath = "/v1/first-line";
constexpr uint32_t kMostOneIn = 1U << 20U;

struct FirstLineArguments {
  std::string file;
  bool dry_run = false;
  bool watch = false;
  uint32_t one_in = 1;
};

std::string Target(const FirstLineArguments& arguments) {
  return fmt::format("{}{}", kPath, arguments.dry_run ? "?dryRun=true" : "");
}

Outcome<ExitCode> Apply(Cli& cli, const FirstLineArguments& arguments) {
  const auto line = ReadDocument(arguments.file);
  if (!line) return tl::unexpected(line.error());
  return cli.Change(Verb::put, Target(arguments), *line, "first line is set", arguments.dry_run);
}

Outcome<ExitCode> WatchDrops(Cli& cli, uint32_t one_in) {
  const auto control = cli.Control();
  if (!control) return tl::unexpected(control.error());
  const auto print = [&](const json& drop) {
    cli.out() << (cli.json() ? drop.dump() + '\n' : RenderDrop(drop)) << std::flush;
    return static_cast<bool>(cli.out());
  };
  const auto ended = (*control)->Events(fmt::format("/v1/drops?oneIn={}", one_in), "", print);
  if (!ended) return tl::unexpected(ended.error());
  if (!cli.out()) return ExitCode::kOk;
  return Fails(ExitCode::kUnreachable, "control ended the stream of drops");
}

}  // namespace

void AddFirstLineCommands(Cli& cli) {
  const auto arguments = std::make_shared<FirstLineArguments>();
  const auto show = [&cli] { return cli.Show(kPath, ToYaml); };
  CLI::App* group = cli.Group(
      "first-line", "What XDP drops before it costs anything: sources, limits, services", show);
  cli.Command(group, "show", "As YAML that apply takes; the same as no command", show);
  CLI::App* apply = cli.Command(group, "apply", "Set it to what FILE says",
                                [&cli, arguments] { return Apply(cli, *arguments); });
  apply->add_option("FILE", arguments->file, "YAML or JSON; - is standard input")->required();
  CLI::App* remove =
      cli.Command(group, "remove", "Admit every source, without limits", [&cli, arguments] {
        return cli.Change(Verb::delete_, Target(*arguments), nullptr, "first line removed",
                          arguments->dry_run);
      });
  for (CLI::App* command : {apply, remove}) {
    command->add_flag("--dry-run", arguments->dry_run, "Say what would change; change nothing");
  }

  CLI::App* drops = cli.Command(
      nullptr, "drops", "What the first line of each port made of its packets", [&cli, arguments] {
        return arguments->watch ? WatchDrops(cli, arguments->one_in)
                                : cli.Show("/v1/status", RenderFirstLineCounters);
      });
  CLI::Option* watch = drops->add_flag(
      "--watch", arguments->watch, "Show packets that it drops, as they come, until interrupted");
  drops->add_option("--one-in", arguments->one_in, "Only one drop in so many; default each")
      ->needs(watch)
      ->check(CLI::Range(1U, kMostOneIn).description(""))
      ->type_name("N");
}

}  // namespace portcullis::cli
