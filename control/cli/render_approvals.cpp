// Changes and requests that wait for another person.
#include "control/cli/json_text.hpp"
#include "control/cli/render.hpp"
#include "control/cli/table.hpp"

namespace portcullis::cli {

using nlohmann::json;

std::string RenderApprovals(const json& items) {
  Table table({{"ID", Table::Align::kRight},
               {"REQUESTED BY"},
               {"CHANGE"},
               {"RULES"},
               {"EXPIRES"},
               {"STATE"},
               {"DIGEST"}});
  for (const json& item : items) {
    table.Add({Text(item, "id"), Text(item, "requested_by"),
               Text(item, "method") + " " + Text(item, "path"), Joined(At(item, "rules")),
               Text(item, "expires"), Flag(item, "stale") ? "stale: ask anew" : "waits",
               Text(item, "digest")});
  }
  return table.empty() ? "no change waits for approval\n" : table.Text();
}

std::string RenderHeldRequests(const json& items) {
  Table table({{"ID"},
               {"PEER"},
               {"INTERFACE"},
               {"REQUEST"},
               {"OPERATIONS"},
               {"BODY", Table::Align::kRight},
               {"EXPIRES"},
               {"STATE"},
               {"DIGEST"}});
  for (const json& item : items) {
    const std::string by = Text(item, "decided_by");
    table.Add({Text(item, "id"), Text(item, "peer"), Text(item, "interface"),
               Text(item, "method") + " " + Text(item, "target"), Joined(At(item, "operations")),
               Text(item, "body_bytes"), Text(item, "expires"),
               Text(item, "state") + (by.empty() ? "" : " by " + by), Text(item, "digest")});
  }
  return table.empty() ? "no request is held\n" : table.Text();
}

bool IsHeld(const json& answer) {
  return answer.is_object() && answer.contains("pending");
}

std::string RenderHeld(const json& answer) {
  const json& change = At(answer, "pending");
  return fmt::format(
      "not made: change {} waits for another person, by rule {}, until {}; it would change:\n"
      "{}digest {}\n",
      Text(change, "id"), Joined(At(change, "rules")), Text(change, "expires"),
      RenderDifference(At(answer, "would")), Text(change, "digest"));
}

std::string RenderNeed(const json& answer) {
  const json& rules = At(answer, "needs_approval");
  return rules.empty() ? ""
                       : fmt::format("another person must approve it, by rule {}\n", Joined(rules));
}

}  // namespace portcullis::cli
