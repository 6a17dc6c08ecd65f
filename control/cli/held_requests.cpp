// held-requests list | show | approve | deny: what peers ask for that an operator must approve.
#include <algorithm>
#include <memory>

#include "control/cli/cli.hpp"
#include "control/cli/json_text.hpp"
#include "control/cli/render.hpp"
#include "control/model/held_request.hpp"

namespace portcullis::cli {
namespace {

using nlohmann::json;

constexpr const char* kPath = "/v1/held-requests";

struct HeldArguments {
  std::string id;
  std::string digest;
  std::string reason;
};

std::string Target(const HeldArguments& arguments, const char* below = "") {
  return fmt::format("{}/{}{}", kPath, UrlEncode(arguments.id), below);
}

// A peer wrote it: it must not write on the terminal what was not asked for.
std::string Shown(const std::string& body) {
  const bool plain = std::ranges::all_of(
      body, [](char c) { return c == '\n' || c == '\t' || (c >= ' ' && c <= '~'); });
  return plain ? body : json(body).dump(-1, ' ', /*ensure_ascii=*/true);
}

// The digest is computed here, from what is shown: see approvals.cpp.
std::string RenderFull(const json& answer) {
  const json& request = At(answer, "request");
  const std::string body = Text(answer, "body");
  std::string text = RenderHeldRequests(json::array({request}));
  const std::string digest = model::RequestDigest(Text(request, "method"), Text(request, "target"),
                                                  Text(request, "content_type"), body);
  if (digest != Text(request, "digest")) {
    text += fmt::format("WRONG: what control shows has the digest {}\n", digest);
  }
  const std::string type = Text(request, "content_type");
  if (!type.empty()) text += fmt::format("Content-Type: {}\n", type);
  return body.empty() ? text : text + Shown(body) + "\n";
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
    cli.out() << done << '\n';
  }
  return ExitCode::kOk;
}

}  // namespace

void AddHeldRequestCommands(Cli& cli) {
  const auto arguments = std::make_shared<HeldArguments>();
  const auto list = [&cli] {
    return cli.Show(kPath,
                    [](const json& answer) { return RenderHeldRequests(At(answer, "items")); });
  };
  CLI::App* group =
      cli.Group("held-requests", "Requests of peers that an operator must approve", list);
  cli.Command(group, "list", "All of them; the same as no command", list);
  CLI::App* show = cli.Command(group, "show", "One exactly", [&cli, arguments] {
    return cli.Show(Target(*arguments), RenderFull);
  });
  CLI::App* approve = cli.Command(
      group, "approve", "Let it pass once, when its peer sends it again", [&cli, arguments] {
        return Post(cli, Target(*arguments, "/approve"), {{"digest", arguments->digest}},
                    fmt::format("request {} is approved", arguments->id));
      });
  CLI::App* deny = cli.Command(
      group, "deny", "Refuse it, or take an approval back that was not used yet",
      [&cli, arguments] {
        const json body =
            arguments->reason.empty() ? json::object() : json{{"reason", arguments->reason}};
        return Post(cli, Target(*arguments, "/deny"), body,
                    fmt::format("request {} is denied", arguments->id));
      });
  for (CLI::App* command : {show, approve, deny}) {
    command->add_option("ID", arguments->id, "The reference that its peer was given")->required();
  }
  approve
      ->add_option("DIGEST", arguments->digest, "Of the request that you have looked at: see show")
      ->required();
  deny->add_option("--reason", arguments->reason, "For the audit log")->type_name("TEXT");
}

}  // namespace portcullis::cli
