// policy show | diff | apply: the whole policy as one document and one transaction.
#include <memory>

#include "control/cli/cli.hpp"
#include "control/cli/document.hpp"
#include "control/cli/json_text.hpp"
#include "control/cli/render.hpp"

namespace portcullis::cli {
namespace {

using nlohmann::json;

struct PolicyArguments {
  std::string file;
  bool dry_run = false;
};

Outcome<json> Put(Cli& cli, const std::string& file, bool dry_run) {
  auto document = ReadDocument(file);
  if (!document) return document;
  const auto control = cli.Control();
  if (!control) return tl::unexpected(control.error());
  return (*control)->Send(ControlClient::Verb::put,
                          dry_run ? "/v1/policy?dryRun=true" : "/v1/policy", *document);
}

Outcome<ExitCode> Diff(Cli& cli, const std::string& file, ExitCode if_different) {
  const auto answer = Put(cli, file, true);
  if (!answer) return tl::unexpected(answer.error());
  const json& would = At(*answer, "would");
  const bool different = IsDifference(would);
  if (cli.json()) {
    cli.Print(*answer);
  } else {
    cli.out() << (different ? RenderDifference(would) : "no difference\n") << RenderNeed(*answer)
              << RenderWarnings(At(*answer, "warnings"));
  }
  return different ? if_different : ExitCode::kOk;
}

Outcome<ExitCode> Apply(Cli& cli, const std::string& file) {
  const auto answer = Put(cli, file, false);
  if (!answer) return tl::unexpected(answer.error());
  const ExitCode code = IsHeld(*answer) ? ExitCode::kHeld : ExitCode::kOk;
  if (cli.json()) {
    cli.Print(*answer);
    return code;
  }
  if (code == ExitCode::kHeld) {
    cli.out() << RenderHeld(*answer) << RenderWarnings(At(*answer, "warnings"));
    return code;
  }
  cli.out() << RenderDifference(At(*answer, "changes"))
            << fmt::format("policy generation {} is {}\n", Number(*answer, "generation"),
                           Flag(*answer, "in_force")
                               ? "in force"
                               : "stored; in force once the dataplane is back")
            << RenderWarnings(At(*answer, "warnings"));
  return ExitCode::kOk;
}

}  // namespace

void AddPolicyCommands(Cli& cli) {
  const auto arguments = std::make_shared<PolicyArguments>();
  const auto show = [&cli] { return cli.Show("/v1/policy", ToYaml); };
  CLI::App* group = cli.Group(
      "policy",
      "The whole policy (interfaces, peers, policies, approval, first line) as one document", show);
  cli.Command(group, "show", "The policy, as YAML that apply takes; the same as no command", show);
  CLI::App* diff =
      cli.Command(group, "diff", "What apply would change; exits 6 if anything",
                  [&cli, arguments] { return Diff(cli, arguments->file, ExitCode::kDifference); });
  CLI::App* apply =
      cli.Command(group, "apply", "Replace the policy by FILE, all or nothing", [&cli, arguments] {
        return arguments->dry_run ? Diff(cli, arguments->file, ExitCode::kOk)
                                  : Apply(cli, arguments->file);
      });
  apply->add_flag("--dry-run", arguments->dry_run, "As diff, but exits 0 when valid");
  for (CLI::App* command : {diff, apply}) {
    command->add_option("FILE", arguments->file, "YAML or JSON; - is standard input")->required();
  }
}

}  // namespace portcullis::cli
