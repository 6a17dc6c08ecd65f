#include "control/rest/audited.hpp"

#include <algorithm>

namespace portcullis::rest {

using nlohmann::json;

namespace {

constexpr unsigned kFirstServerError = 500;
// Whatever a client sends as a path or a method, a record stays short.
constexpr size_t kMostText = 256;

const char* OutcomeOf(unsigned status) {
  if (status < kFirstError) return audit::kDone;
  return status < kFirstServerError ? audit::kRefused : audit::kFailed;
}

}  // namespace

Audited::Audited(Context& context, const Request& request)
    : context_(context), reads_(request.method == "GET"), known_(request.who.role != Role::none) {
  entry_.who = request.who.name;
  entry_.action = request.method.substr(0, kMostText);
  entry_.subject = request.path.substr(0, kMostText);
  if (!request.body.empty()) entry_.digest = audit::Hex(audit::Sha256({request.body}));
  entry_.detail = {{"role", RoleText(request.who.role)}, {"certificate", request.who.certificate}};
  const Operator& who = request.who;
  if (who.common_name != who.name) entry_.detail["common_name"] = who.common_name;
  if (who.token) {
    entry_.detail["token"] = {
        {"issuer", who.token->issuer}, {"subject", who.token->subject}, {"id", who.token->jti}};
  }
  if (request.approved) {
    entry_.detail["approval"] = request.approved->change;
    entry_.detail["approved_by"] = request.approved->by;
  }
}

Result<void> Audited::Begin() {
  entry_.outcome = audit::kBegun;
  const auto number = context_.audit.Append(entry_);
  if (!number) return tl::unexpected(number.error());
  entry_.detail["begun"] = *number;
  begun_ = true;
  return {};
}

void Audited::End(const Response& response) {
  const bool may_not =
      response.status == kForbidden.status || response.status == kUnauthorized.status;
  const bool refused = response.status >= kFirstError && (!reads_ || may_not);
  if (!begun_ && !refused) return;
  entry_.outcome = response.held ? audit::kHeld : OutcomeOf(response.status);
  for (const auto& [name, value] : response.audit) entry_.detail[name] = value;
  entry_.detail["status"] = response.status;
  Result<void> written;
  if (begun_) {
    const auto number = context_.audit.Append(entry_);
    if (!number) written = tl::unexpected(number.error());
  } else {
    written = context_.journal.NoteRefusal(entry_, known_ ? entry_.who : "strangers");
  }
  if (written) return;
  // The answer stands, since what it tells has happened; that it was begun is recorded.
  context_.gate.events().Tell("audit_failed", written.error().Text(), entry_.who);
}

}  // namespace portcullis::rest
