#include "control/guard/request/judge.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace portcullis::guard {

using identity::Reason;
using identity::Refusal;

namespace {

tl::unexpected<Refusal> Refuse(Reason reason, std::string detail) {
  return tl::unexpected(Refusal{reason, std::move(detail)});
}

bool Fits(const admission::Block& block, std::string_view method, std::string_view path) {
  if (!block.method().empty() && block.method() != method) return false;
  std::string_view form = block.path();
  if (!form.ends_with('*')) return form == path;
  form.remove_suffix(1);
  return path.starts_with(form);
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
    if (!Fits(block, method, path)) continue;
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
  if (owner) return CheckOwner(permit, request, *owner);
  return {};
}

}  // namespace portcullis::guard
