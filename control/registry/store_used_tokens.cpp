// The store's part that knows what requests have used up: access tokens that were good for one, and
// approvals.
#include "control/registry/statement.hpp"
#include "control/registry/store.hpp"

namespace portcullis {

using model::UsedToken;

namespace {

std::optional<int64_t> ExpiryOf(UsedToken::Time time) {
  return std::chrono::ceil<std::chrono::seconds>(time).time_since_epoch().count();
}

}  // namespace

Result<bool> Store::IsUsed(const std::string& issuer, const std::string& jti) {
  Statement s(db_.get(), "SELECT 1 FROM used_token WHERE issuer = ? AND jti = ?");
  return s.Bind(issuer).Bind(jti).Step();
}

Result<void> Store::UseToken(const UsedToken& token) {
  const auto used = IsUsed(token.issuer, token.jti);
  if (!used) return tl::unexpected(used.error());
  if (*used) return Fail(ErrorKind::kConflict, "an access token was used before");
  Statement s(db_.get(), "INSERT INTO used_token VALUES (?, ?, ?)");
  return s.Bind(token.issuer).Bind(token.jti).Bind(ExpiryOf(token.expires)).Run();
}

Result<void> Store::UseApproval(const std::string& id) {
  Statement s(db_.get(), "DELETE FROM held_request WHERE id = ? AND state = 'approved'");
  if (auto r = s.Bind(id).Run(); !r) return r;
  if (sqlite3_changes(db_.get()) > 0) return {};
  return Fail(ErrorKind::kConflict, fmt::format("held request {} is not approved any more", id));
}

Result<void> Store::UseUp(const std::vector<model::Used>& used) {
  if (used.empty()) return {};
  if (auto r = Run("BEGIN IMMEDIATE"); !r) return r;
  Result<void> written;
  for (const model::Used& one : used) {
    if (written && one.token) written = UseToken(*one.token);
    if (written && !one.approval.empty()) written = UseApproval(one.approval);
  }
  return End(written);
}

Result<uint64_t> Store::CountUsedTokens() {
  Statement s(db_.get(), "SELECT count(*) FROM used_token");
  if (const auto row = s.Step(); !row) return tl::unexpected(row.error());
  return s.Number(0);
}

Result<void> Store::ForgetUsedTokens(TimeVerdict clock, UsedToken::Time now) {
  if (clock != TimeVerdict::ok) return {};
  Statement s(db_.get(), "DELETE FROM used_token WHERE expires <= ?");
  return s.Bind(ExpiryOf(now)).Run();
}

}  // namespace portcullis
