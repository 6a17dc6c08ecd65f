// held-requests list | show | approve | deny: what peers ask for that an operator must approve.
#include <algorithm>

#include "control/cli/cli.hpp"
#include "control/cli/json_text.hpp"
#include "control/cli/render.hpp"
#include "control/cli/two_party.hpp"
#include "control/model/held_request.hpp"

namespace portcullis::cli {
namespace {

using nlohmann::json;

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

constexpr TwoParty kHeldRequests{
    .path = "/v1/held-requests",
    .group = "held-requests",
    .about = "Requests of peers that an operator must approve",
    .id = "The reference that its peer was given",
    .digest = "Of the request that you have looked at: see show",
    .show = "One exactly",
    .approval = {"approve", "Let it pass once, when its peer sends it again",
                 "request {} is approved"},
    .refusal = {"deny", "Refuse it, or take an approval back that was not used yet",
                "request {} is denied"},
    .render_all = RenderHeldRequests,
    .render = RenderFull,
    .render_done = [](const json&) { return std::string(); }};

}  // namespace

void AddHeldRequestCommands(Cli& cli) {
  AddTwoPartyCommands(cli, kHeldRequests);
}

}  // namespace portcullis::cli
