// time.
#include <memory>

#include "control/cli/cli.hpp"
#include "control/cli/json_text.hpp"

namespace portcullis::cli {
namespace {

using nlohmann::json;

Outcome<ExitCode> Confirm(Cli& cli, bool dry_run) {
  const auto control = cli.Control();
  if (!control) return tl::unexpected(control.error());
  const auto answer = (*control)->Send(
      ControlClient::Verb::post, fmt::format("/v1/time/confirm{}", dry_run ? "?dryRun=true" : ""),
      json::object());
  if (!answer) return tl::unexpected(answer.error());
  if (cli.json()) {
    cli.Print(*answer);
  } else {
    cli.out() << fmt::format(
        "{} {} (before: {})\n",
        dry_run ? "would believe the clock, which says" : "the clock is believed:",
        Text(*answer, "time"), Text(*answer, "was"));
  }
  return ExitCode::kOk;
}

std::string RenderClock(const json& status) {
  return fmt::format("{}  {}\n", Text(status, "time"), Text(status, "clock"));
}

}  // namespace

void AddTimeCommands(Cli& cli) {
  const auto dry_run = std::make_shared<bool>(false);
  CLI::App* group = cli.Group("time", "What control's clock says, and whether it is believed",
                              [&cli] { return cli.Show("/v1/status", RenderClock); });
  CLI::App* confirm = cli.Command(
      group, "confirm", "The clock is right as it stands, whatever was seen: after it was set",
      [&cli, dry_run] { return Confirm(cli, *dry_run); });
  confirm->add_flag("--dry-run", *dry_run, "Say what time would be believed; change nothing");
}

}  // namespace portcullis::cli
