#include "control/guard/request/judge.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "control/model/callback.hpp"
#include "control/model/requests.hpp"

namespace portcullis::guard {

using identity::Reason;
using identity::Refusal;

namespace {

tl::unexpected<Refusal> Refuse(Reason reason, std::string detail) {
  return tl::unexpected(Refusal{reason, std::move(detail)});
}

// What a body holds, for logs.
std::string Shown(std::string_view url) {
  constexpr size_t kMost = 200;
  std::string shown = "\"";
  for (const char c : url.substr(0, kMost)) shown += c >= ' ' && c <= '~' ? c : '?';
  return shown + (url.size() > kMost ? "...\"" : "\"");
}

// {scsAsId}, {afId}, a message's originator: the peer itself, and nobody else.
tl::expected<void, Refusal> CheckCallers(const admission::Permitted& permit,
                                         const Reading& request) {
  const auto check = [&](const std::string& named,
                         const char* where) -> tl::expected<void, Refusal> {
    if (named == permit.self()) return {};
    return Refuse(Reason::tenant_violation,
                  fmt::format("peer '{}' is '{}'; {} names '{}'", permit.peer(), permit.self(),
                              where, named));
  };
  if (const auto caller = request.match.Caller()) {
    if (auto own = check(*caller, "the path"); !own) return own;
  }
  for (const std::string& caller : request.callers) {
    if (auto own = check(caller, "the body"); !own) return own;
  }
  return {};
}

// An address that is given now is called later, when nobody sees any more who gave it.
tl::expected<void, Refusal> CheckCallbacks(const admission::Permitted& permit,
                                           const Reading& request) {
  for (const std::string& url : request.callbacks) {
    if (const auto fault = model::CallbackFault(url)) {
      return Refuse(Reason::callback_denied, fmt::format("peer '{}' wants to be called at {}: {}",
                                                         permit.peer(), Shown(url), *fault));
    }
    if (std::ranges::any_of(permit.callbacks(), [&](const std::string& prefix) {
          return model::IsBelow(url, prefix);
        })) {
      continue;
    }
    return Refuse(Reason::callback_denied,
                  fmt::format("peer '{}' wants to be called at {}, which is below none of its "
                              "{} prefixes in policy",
                              permit.peer(), Shown(url), permit.callbacks_size()));
  }
  return {};
}

tl::expected<void, Refusal> CheckOwner(const admission::Permitted& permit, const Reading& request,
                                       const std::string& owner) {
  // Nobody's is not everybody's: a peer without a tenant has nothing.
  if (!owner.empty() && owner == permit.tenant()) return {};
  const bool creates = request.match.rule->creates.from == profiles::Creates::From::path;
  // A PUT to what is not there yet; what it makes needs somebody to belong to.
  if (owner.empty() && creates && !permit.tenant().empty()) return {};
  return Refuse(Reason::tenant_violation,
                owner.empty() ? fmt::format("peer '{}' of tenant '{}': nobody owns {}",
                                            permit.peer(), permit.tenant(), request.path)
                              : fmt::format("peer '{}' of tenant '{}': {} is tenant '{}''s",
                                            permit.peer(), permit.tenant(), request.path, owner));
}

}  // namespace

tl::expected<void, Refusal> CheckBlocks(const admission::Permitted& permit, std::string_view method,
                                        std::string_view path) {
  for (const admission::Block& block : permit.blocks()) {
    if (!model::Matches(block.method(), block.path(), method, path)) continue;
    return Refuse(Reason::request_blocked, fmt::format("peer '{}': {} {} is blocked by '{}'",
                                                       permit.peer(), method, path, block.name()));
  }
  return {};
}

tl::expected<void, Refusal> Judge(const admission::Permitted& permit, const Reading& request,
                                  const std::optional<std::string>& owner) {
  if (auto open = CheckBlocks(permit, request.method, request.path); !open) return open;
  for (const profiles::Operation* operation : request.operations) {
    if (std::ranges::find(permit.operations(), operation->name) != permit.operations().end()) {
      continue;
    }
    return Refuse(Reason::operation_denied,
                  fmt::format("peer '{}' on this interface: {} {} is '{}', which it may not",
                              permit.peer(), request.method, request.path, operation->name));
  }
  if (auto own = CheckCallers(permit, request); !own) return own;
  if (auto own = CheckCallbacks(permit, request); !own) return own;
  if (owner) return CheckOwner(permit, request, *owner);
  return {};
}

}  // namespace portcullis::guard
