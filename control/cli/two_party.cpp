#include "control/cli/two_party.hpp"

#include <fmt/format.h>

#include "control/cli/json_text.hpp"

namespace portcullis::cli {
namespace {

using nlohmann::json;

struct Arguments {
  std::string id;
  std::string digest;
  std::string reason;
};

std::string Target(const TwoParty& words, const std::string& id) {
  return fmt::format("{}/{}", words.path, UrlEncode(id));
}

Outcome<ExitCode> Post(Cli& cli, const TwoParty& words, const TwoParty::Command& command,
                       const std::string& id, const json& body) {
  const auto control = cli.Control();
  if (!control) return tl::unexpected(control.error());
  const auto target = fmt::format("{}/{}", Target(words, id), command.verb);
  const auto answer = (*control)->Send(ControlClient::Verb::post, target, body);
  if (!answer) return tl::unexpected(answer.error());
  if (cli.json()) {
    cli.Print(*answer);
  } else {
    cli.out() << fmt::format(fmt::runtime(command.done), id) << '\n' << words.render_done(*answer);
  }
  return ExitCode::kOk;
}

}  // namespace

void AddTwoPartyCommands(Cli& cli, const TwoParty& words) {
  const auto arguments = std::make_shared<Arguments>();
  const auto list = [&cli, &words] {
    return cli.Show(words.path,
                    [&words](const json& answer) { return words.render_all(At(answer, "items")); });
  };
  CLI::App* group = cli.Group(words.group, words.about, list);
  cli.Command(group, "list", "All of them; the same as no command", list);
  CLI::App* show = cli.Command(group, "show", words.show, [&cli, &words, arguments] {
    return cli.Show(Target(words, arguments->id), words.render);
  });
  CLI::App* approve =
      cli.Command(group, words.approval.verb, words.approval.about, [&cli, &words, arguments] {
        return Post(cli, words, words.approval, arguments->id, {{"digest", arguments->digest}});
      });
  CLI::App* refuse =
      cli.Command(group, words.refusal.verb, words.refusal.about, [&cli, &words, arguments] {
        const json body =
            arguments->reason.empty() ? json::object() : json{{"reason", arguments->reason}};
        return Post(cli, words, words.refusal, arguments->id, body);
      });
  for (CLI::App* command : {show, approve, refuse}) {
    command->add_option("ID", arguments->id, words.id)->required();
  }
  approve->add_option("DIGEST", arguments->digest, words.digest)->required();
  refuse->add_option("--reason", arguments->reason, "For the audit log")->type_name("TEXT");
}

}  // namespace portcullis::cli
