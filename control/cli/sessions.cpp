// sessions, why.
#include <memory>

#include "control/cli/cli.hpp"
#include "control/cli/json_text.hpp"
#include "control/cli/render.hpp"

namespace portcullis::cli {
namespace {

using nlohmann::json;

struct SessionArguments {
  std::string id;
  bool dry_run = false;
  uint64_t limit = 100;
  std::string peer;
  std::string reason;
};

Outcome<ExitCode> End(Cli& cli, const SessionArguments& arguments) {
  const auto control = cli.Control();
  if (!control) return tl::unexpected(control.error());
  const auto answer = (*control)->Send(ControlClient::Verb::delete_,
                                       fmt::format("/v1/sessions/{}{}", UrlEncode(arguments.id),
                                                   arguments.dry_run ? "?dryRun=true" : ""));
  if (!answer) return tl::unexpected(answer.error());
  if (cli.json()) {
    cli.Print(*answer);
  } else if (arguments.dry_run) {
    cli.out() << "would change:\n" << RenderDifference(At(*answer, "would"));
  } else {
    cli.out() << fmt::format("session {} is ended{}\n", arguments.id,
                             Flag(*answer, "in_force")
                                 ? ""
                                 : "; its packets stop once the dataplane is back, or at its end");
  }
  return ExitCode::kOk;
}

Outcome<ExitCode> Why(Cli& cli, const SessionArguments& arguments) {
  if (!arguments.id.empty()) {
    return cli.Show("/v1/decisions/" + UrlEncode(arguments.id), RenderWhy);
  }
  std::string target = fmt::format("/v1/decisions?limit={}", arguments.limit);
  if (!arguments.peer.empty()) target += "&peer=" + UrlEncode(arguments.peer);
  if (!arguments.reason.empty()) target += "&reason=" + UrlEncode(arguments.reason);
  return cli.Show(target, [](const json& page) { return RenderDecisions(At(page, "items")); });
}

}  // namespace

void AddSessionCommands(Cli& cli) {
  const auto arguments = std::make_shared<SessionArguments>();
  const auto list = [&cli] {
    return cli.Show("/v1/sessions",
                    [](const json& page) { return RenderSessions(At(page, "items")); });
  };
  CLI::App* group = cli.Group("sessions", "Peers that are in", list);
  cli.Command(group, "list", "All of them; the same as no command", list);
  CLI::App* end = cli.Command(group, "end", "End one session; its peer may open another one",
                              [&cli, arguments] { return End(cli, *arguments); });
  end->add_option("ID", arguments->id)->required();
  end->add_flag("--dry-run", arguments->dry_run, "Say what would change; change nothing");

  CLI::App* why = cli.Command(
      nullptr, "why",
      "What was decided and why, of the reference that a refused peer was given or of a session; "
      "without an ID the latest decisions",
      [&cli, arguments] { return Why(cli, *arguments); });
  why->add_option("ID", arguments->id, "Reference or session");
  why->add_option("--limit", arguments->limit, "At most so many, up to 1000; default 100")
      ->type_name("N");
  why->add_option("--peer", arguments->peer, "Only about this peer")->type_name("NAME");
  why->add_option("--reason", arguments->reason,
                  "Only of this reason, or in_force, renewed, not_confirmed, ended")
      ->type_name("REASON");
}

}  // namespace portcullis::cli
