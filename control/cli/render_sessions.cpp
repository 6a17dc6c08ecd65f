// Sessions, and what was decided about peers.
#include "control/cli/json_text.hpp"
#include "control/cli/render.hpp"
#include "control/cli/table.hpp"

namespace portcullis::cli {
namespace {

using nlohmann::json;

std::string GenerationText(const json& item) {
  const uint64_t generation = Number(item, "generation");
  return generation == 0 ? "" : std::to_string(generation);
}

// "refused: token_expired", "ended by alice"
std::string WhatText(const json& decision) {
  std::string text = Text(decision, "what");
  if (const std::string reason = Text(decision, "reason"); !reason.empty()) text += ": " + reason;
  if (const std::string who = Text(decision, "who"); !who.empty()) text += " by " + who;
  return text;
}

}  // namespace

std::string RenderSessions(const json& items) {
  Table table(
      {{"ID"}, {"PEER"}, {"INTERFACE"}, {"GENERATION", kRight}, {"STATE"}, {"ENDS IN", kRight}});
  for (const json& item : items) {
    table.Add({Text(item, "id"), Text(item, "peer"), Text(item, "interface"), GenerationText(item),
               Flag(item, "confirmed") ? "in force" : "not confirmed yet",
               Duration(Number(item, "expires_in"))});
  }
  return table.empty() ? "no sessions\n" : table.Text();
}

std::string RenderDecisions(const json& items) {
  Table table({{"TIME"},
               {"ID"},
               {"WHAT"},
               {"GENERATION", kRight},
               {"PEER"},
               {"IDENTITY"},
               {"INTERFACE"},
               {"SOURCE"},
               {"DETAIL"}});
  for (const json& item : items) {
    table.Add({Text(item, "time"), Text(item, "id"), WhatText(item), GenerationText(item),
               Text(item, "peer"), Text(item, "identity"), Text(item, "interface"),
               Text(item, "source"), Text(item, "detail")});
  }
  return table.empty() ? "no decisions\n" : table.Text();
}

std::string RenderWhy(const json& answer) {
  const json& items = At(answer, "items");
  std::string text = items.empty() ? "" : RenderDecisions(items);
  if (const json& session = At(answer, "session"); !session.empty()) {
    text += fmt::format("{} {}, of {} on {}; ends in {}\n", Text(answer, "id"),
                        Flag(session, "confirmed") ? "is in force" : "is not confirmed yet",
                        Text(session, "peer"), Text(session, "interface"),
                        Duration(Number(session, "expires_in")));
  } else if (items.is_array() && !items.empty() && Text(items.back(), "what") != "refused") {
    text += fmt::format("{} is over\n", Text(answer, "id"));
  }
  return text;
}

}  // namespace portcullis::cli
