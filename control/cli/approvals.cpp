// approvals list | show | approve | reject: what another person asked for.
#include <memory>

#include "control/cli/cli.hpp"
#include "control/cli/json_text.hpp"
#include "control/cli/render.hpp"
#include "control/model/approval.hpp"

namespace portcullis::cli {
namespace {

using nlohmann::json;

constexpr const char* kPath = "/v1/approvals";

struct ApprovalArguments {
  std::string id;
  std::string digest;
  std::string reason;
};

std::string Target(const ApprovalArguments& arguments, const char* below = "") {
  return fmt::format("{}/{}{}", kPath, UrlEncode(arguments.id), below);
}

// Computed here, from what is shown: control's word for it would be worth nothing to somebody who
// compares it with what he was told.
std::string DigestOf(const json& answer) {
  const json& change = At(answer, "pending");
  return model::ChangeDigest(Text(change, "method"), Text(change, "path"), Text(answer, "body"));
}

std::string RenderChange(const json& answer) {
  const json& change = At(answer, "pending");
  std::string text = RenderApprovals(json::array({change}));
  if (const std::string digest = DigestOf(answer); digest != Text(change, "digest")) {
    text += fmt::format("WRONG: what control shows has the digest {}\n", digest);
  }
  if (const std::string body = Text(answer, "body"); !body.empty()) text += body + "\n";
  const std::string problem = Text(answer, "problem");
  if (!problem.empty()) return text + "cannot be made now: " + problem + "\n";
  const json& would = At(answer, "would");
  return text +
         (IsDifference(would) ? "would change:\n" + RenderDifference(would)
                              : "would change nothing\n") +
         RenderWarnings(At(answer, "warnings"));
}

Outcome<ExitCode> Post(Cli& cli, const std::string& target, const json& body,
                       const std::string& done) {
  const auto control = cli.Control();
  if (!control) return tl::unexpected(control.error());
  const auto answer = (*control)->Send(ControlClient::Verb::post, target, body);
  if (!answer) return tl::unexpected(answer.error());
  if (cli.json()) {
    cli.Print(*answer);
  } else {
    cli.out() << done << '\n' << RenderDifference(At(*answer, "changes"));
  }
  return ExitCode::kOk;
}

}  // namespace

void AddApprovalCommands(Cli& cli) {
  const auto arguments = std::make_shared<ApprovalArguments>();
  const auto list = [&cli] {
    return cli.Show(kPath, [](const json& answer) { return RenderApprovals(At(answer, "items")); });
  };
  CLI::App* group = cli.Group("approvals", "Changes that wait for another person", list);
  cli.Command(group, "list", "All of them; the same as no command", list);
  CLI::App* show =
      cli.Command(group, "show", "One exactly, and what it would change now",
                  [&cli, arguments] { return cli.Show(Target(*arguments), RenderChange); });
  CLI::App* approve = cli.Command(
      group, "approve", "Make a change that somebody else asked for", [&cli, arguments] {
        return Post(cli, Target(*arguments, "/approve"), {{"digest", arguments->digest}},
                    fmt::format("change {} is made", arguments->id));
      });
  CLI::App* reject =
      cli.Command(group, "reject", "Drop a change, or withdraw your own", [&cli, arguments] {
        const json body =
            arguments->reason.empty() ? json::object() : json{{"reason", arguments->reason}};
        return Post(cli, Target(*arguments, "/reject"), body,
                    fmt::format("change {} is dropped", arguments->id));
      });
  for (CLI::App* command : {show, approve, reject}) {
    command->add_option("ID", arguments->id, "Number of the change")->required();
  }
  approve
      ->add_option("DIGEST", arguments->digest, "Of the change that you have looked at: see show")
      ->required();
  reject->add_option("--reason", arguments->reason, "For the audit log")->type_name("TEXT");
}

}  // namespace portcullis::cli
