#include "control/admission/held.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace portcullis::admission {

using identity::Reason;
using model::HeldRequest;
using State = HeldRequest::State;
using std::chrono::seconds;

namespace {

constexpr size_t kMostTarget = 8192;
constexpr size_t kMostType = 255;
constexpr size_t kMostBody = 32U << 10U;

tl::unexpected<identity::Refusal> RefuseHeld(Reason reason, std::string detail,
                                             std::string held = {}) {
  return tl::unexpected(identity::Refusal{reason, std::move(detail), std::move(held)});
}

bool IsAscii(const std::string& text, char least) {
  return std::ranges::all_of(text, [&](char c) { return c >= least && c <= '~'; });
}

// Empty: it is all of this request, and of a size that can be kept.
std::string WhatCannotBeApproved(const Operate& r) {
  const Whole& whole = r.whole();
  const std::string& target = whole.target();
  if (target.size() > kMostTarget || whole.content_type().size() > kMostType ||
      whole.body().size() > kMostBody) {
    return fmt::format("what is to be approved has at most {} bytes of target and {} of body",
                       kMostTarget, kMostBody);
  }
  if (!IsAscii(target, '!') || !IsAscii(whole.content_type(), ' ') ||
      target.substr(0, target.find('?')) != r.path()) {
    return "target or content type is none";
  }
  const auto text =
      nlohmann::json(whole.body()).dump(-1, ' ', false, nlohmann::json::error_handler_t::ignore);
  if (nlohmann::json::parse(text) != whole.body()) {
    return "a body that is to be approved is UTF-8: somebody must read it";
  }
  return {};
}

HeldRequest HeldOf(const Operate& r, uint32_t life) {
  const Whole& whole = r.whole();
  const auto now = std::chrono::floor<seconds>(std::chrono::system_clock::now());
  return {.id = r.id(),
          .peer = r.peer(),
          .tenant = r.tenant(),
          .interface = r.interface(),
          .operations = {r.operations().begin(), r.operations().end()},
          .method = r.method(),
          .target = whole.target(),
          .content_type = whole.content_type(),
          .body = whole.body(),
          .digest =
              model::RequestDigest(r.method(), whole.target(), whole.content_type(), whole.body()),
          .held = now,
          .expires = now + seconds(life),
          .seconds = life};
}

}  // namespace

tl::expected<HeldRequest, identity::Refusal> HeldRequests::Check(const Operate& r,
                                                                 audit::Entry entry,
                                                                 uint32_t life) {
  if (!r.has_whole()) {
    return RefuseHeld(Reason::gate_unavailable, "policy asks for approval since a moment ago");
  }
  if (std::string wrong = WhatCannotBeApproved(r); !wrong.empty()) {
    return RefuseHeld(Reason::request_malformed, std::move(wrong));
  }
  if (gate_.clock() != TimeVerdict::ok) {
    return RefuseHeld(Reason::clock_wrong, Info(gate_.clock()).text);
  }
  HeldRequest asked = HeldOf(r, life);
  auto& store = gate_.store();
  auto found = store.FindHeld(asked.peer, asked.interface, asked.digest);
  if (!found) return RefuseHeld(Reason::gate_unavailable, found.error().Text());
  if (!*found) return Hold(std::move(asked), std::move(entry));
  HeldRequest& known = **found;
  if (being_made_.contains(known.id)) {
    return RefuseHeld(Reason::approval_needed, "the approved one is being made", known.id);
  }
  // The same bytes may have come to mean something else: another profile, another tenant.
  const bool same = known.operations == asked.operations && known.tenant == asked.tenant;
  if (!same || known.expires <= std::chrono::system_clock::now()) {
    if (auto gone = store.RemoveHeld(known.id); !gone) {
      return RefuseHeld(Reason::gate_unavailable, gone.error().Text());
    }
    return Hold(std::move(asked), std::move(entry));
  }
  if (known.state == State::approved) return std::move(known);
  if (known.state == State::denied) {
    return RefuseHeld(Reason::operation_denied, fmt::format("held request {}: '{}' has denied it",
                                                            known.id, known.decided_by));
  }
  return RefuseHeld(Reason::approval_needed,
                    fmt::format("held request {}: nobody has approved it yet", known.id), known.id);
}

tl::unexpected<identity::Refusal> HeldRequests::Hold(HeldRequest request, audit::Entry entry) {
  const auto added = gate_.store().AddHeld(request);
  if (!added) {
    const bool full = added.error().kind == ErrorKind::kExhausted;
    return RefuseHeld(full ? Reason::quota_exceeded : Reason::gate_unavailable,
                      added.error().Text());
  }
  entry.outcome = audit::kHeld;
  entry.detail["request_digest"] = request.digest;
  entry.detail["expires"] = TimeText(request.expires);
  record_ = std::move(entry);
  gate_.events().Tell(
      "held_request",
      fmt::format("request {} of peer '{}' waits for an operator: {} {} ({})", request.id,
                  request.peer, request.method, request.target.substr(0, request.target.find('?')),
                  fmt::join(request.operations, ", ")),
      {}, request.peer);
  return RefuseHeld(Reason::approval_needed, fmt::format("held request {}", request.id),
                    request.id);
}

std::string HeldRequests::Begin(const HeldRequest& approved) {
  being_made_.insert(approved.id);
  return approved.id;
}

}  // namespace portcullis::admission
