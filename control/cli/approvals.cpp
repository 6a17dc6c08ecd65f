// approvals list | show | approve | reject: what another person asked for.
#include "control/cli/cli.hpp"
#include "control/cli/json_text.hpp"
#include "control/cli/render.hpp"
#include "control/cli/two_party.hpp"
#include "control/model/approval.hpp"

namespace portcullis::cli {
namespace {

using nlohmann::json;

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

constexpr TwoParty kApprovals{
    .path = "/v1/approvals",
    .group = "approvals",
    .about = "Changes that wait for another person",
    .id = "Number of the change",
    .digest = "Of the change that you have looked at: see show",
    .show = "One exactly, and what it would change now",
    .approval = {"approve", "Make a change that somebody else asked for", "change {} is made"},
    .refusal = {"reject", "Drop a change, or withdraw your own", "change {} is dropped"},
    .render_all = RenderApprovals,
    .render = RenderChange,
    .render_done = [](const json& answer) { return RenderDifference(At(answer, "changes")); }};

}  // namespace

void AddApprovalCommands(Cli& cli) {
  AddTwoPartyCommands(cli, kApprovals);
}

}  // namespace portcullis::cli
