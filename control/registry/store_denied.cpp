// The store's part that says what is revoked and how far time was seen to go.
#include <string_view>

#include "control/registry/statement.hpp"
#include "control/registry/store.hpp"

namespace portcullis {

using model::Denial;
using model::Revocable;
using std::chrono::seconds;

namespace {

std::string NameOf(Revocable::Kind kind) {
  return std::string(TextOf(model::kRevocables, kind));
}

std::optional<Revocable::Kind> KindOf(std::string_view name) {
  for (const auto& [text, kind] : model::kRevocables) {
    if (name == text) return kind;
  }
  return {};
}

int64_t Since1970(Denial::Time time) {
  return std::chrono::ceil<seconds>(time).time_since_epoch().count();
}

Result<Denial> ReadDenial(const Statement& row) {
  const auto kind = KindOf(row.Text(0));
  if (!kind) {  // to skip it would admit it
    return Fail(ErrorKind::kInternal,
                fmt::format("the store denies a '{}', which nobody knows", row.Text(0)));
  }
  Denial denial{{*kind, row.Text(1), row.Text(2)}, row.Text(3), row.Text(4), row.Time(5), {}};
  if (const auto until = row.MaybeNumber(6)) denial.until = Denial::Time(seconds(*until));
  return denial;
}

}  // namespace

Result<uint64_t> Store::RevocationEpoch() {
  Statement s(db_.get(), "SELECT epoch FROM revocation_epoch");
  const auto row = s.Step();
  if (!row) return tl::unexpected(row.error());
  return s.Number(0);
}

Result<uint64_t> Store::WithNextEpoch(Statement& change) {
  if (auto r = Run("BEGIN IMMEDIATE"); !r) return tl::unexpected(r.error());
  auto written = change.Run();
  if (written) written = Run("UPDATE revocation_epoch SET epoch = epoch + 1");
  if (auto ended = End(written); !ended) return tl::unexpected(ended.error());
  return RevocationEpoch();
}

Result<uint64_t> Store::Deny(const Denial& denial) {
  std::optional<int64_t> until;  // rounded up: never forgotten too early
  if (denial.until) until = Since1970(*denial.until);
  // max() of SQLite is NULL as soon as one of the two is: never.
  Statement s(db_.get(),
              "INSERT INTO denied VALUES (?, ?, ?, ?, ?, ?, ?) "
              "ON CONFLICT (kind, issuer, id) DO UPDATE SET until = max(until, excluded.until)");
  return WithNextEpoch(s.Bind(NameOf(denial.what.kind))
                           .Bind(denial.what.issuer)
                           .Bind(denial.what.id)
                           .Bind(denial.reason)
                           .Bind(denial.who)
                           .Bind(std::optional(Since1970(denial.since)))
                           .Bind(until));
}

Result<uint64_t> Store::Admit(const Revocable& what) {
  const auto denied = IsDenied(what);
  if (!denied) return tl::unexpected(denied.error());
  if (!*denied) return RevocationEpoch();
  Statement s(db_.get(), "DELETE FROM denied WHERE kind = ? AND issuer = ? AND id = ?");
  return WithNextEpoch(s.Bind(NameOf(what.kind)).Bind(what.issuer).Bind(what.id));
}

Result<std::vector<Denial>> Store::ReadDenied() {
  Statement s(db_.get(),
              "SELECT kind, issuer, id, reason, who, since, until FROM denied "
              "ORDER BY kind, issuer, id");
  return ReadRows(s, ReadDenial);
}

Result<bool> Store::IsDenied(const Revocable& what) {
  Statement s(db_.get(), "SELECT 1 FROM denied WHERE kind = ? AND issuer = ? AND id = ?");
  return s.Bind(NameOf(what.kind)).Bind(what.issuer).Bind(what.id).Step();
}

Result<size_t> Store::Prune(TimeVerdict clock, TimeGuard::Wall now) {
  if (clock != TimeVerdict::ok) return size_t{0};
  // Down to the second: `until` itself is still within.
  const auto whole = std::chrono::floor<seconds>(now).time_since_epoch().count();
  Statement s(db_.get(), "DELETE FROM denied WHERE until < ?");
  if (auto r = s.Bind(std::optional<int64_t>(whole)).Run(); !r) return tl::unexpected(r.error());
  return static_cast<size_t>(sqlite3_changes(db_.get()));
}

Result<TimeGuard::State> Store::ReadTimeGuard() {
  using std::chrono::milliseconds;
  Statement s(db_.get(), "SELECT mark, boot_id, time_offset, forward_since FROM time_guard");
  const auto row = s.Step();
  if (!row) return tl::unexpected(row.error());
  if (!*row) return TimeGuard::State{};
  TimeGuard::State state{TimeGuard::Wall(milliseconds(s.Number(0))),
                         s.Text(1),
                         milliseconds(static_cast<int64_t>(s.Number(2))),
                         {}};
  if (const auto since = s.MaybeNumber(3)) state.forward_since = milliseconds(*since);
  return state;
}

Result<void> Store::WriteTimeGuard(const TimeGuard::State& state) {
  std::optional<int64_t> forward_since;
  if (state.forward_since) forward_since = state.forward_since->count();
  Statement s(db_.get(), "INSERT OR REPLACE INTO time_guard VALUES (1, ?, ?, ?, ?)");
  return s.Bind(std::optional<int64_t>(state.mark.time_since_epoch().count()))
      .Bind(state.boot_id)
      .Bind(std::optional<int64_t>(state.offset.count()))
      .Bind(forward_since)
      .Run();
}

}  // namespace portcullis
