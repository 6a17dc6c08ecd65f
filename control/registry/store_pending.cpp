// The store's part that holds the changes which wait for another person.
#include <nlohmann/json.hpp>

#include "control/registry/statement.hpp"
#include "control/registry/store.hpp"

namespace portcullis {

using model::PendingChange;
using nlohmann::json;

namespace {

// Bodies have up to 4 MiB, and nobody reads a hundred changes.
constexpr uint64_t kMost = 64;
constexpr uint64_t kMostOfOne = 16;

const std::string kSelect =
    "SELECT id, method, path, body, digest, base_generation, rules, requested_by, requested, "
    "expires FROM pending_change ";

Result<PendingChange> Read(const Statement& s) {
  PendingChange change{s.Number(0), s.Text(1),         s.Text(2), s.Text(3), s.Text(4),
                       s.Number(5), ListOf(s.Text(6)), s.Text(7), s.Time(8), s.Time(9)};
  // The digest is what somebody agrees to: it must be that of what is then done.
  if (change.digest != model::ChangeDigest(change.method, change.path, change.body)) {
    return Fail(ErrorKind::kInternal,
                fmt::format("the store's change {} is not what its digest says", change.id));
  }
  return change;
}

}  // namespace

Result<uint64_t> Store::AddPending(const PendingChange& change) {
  Statement count(db_.get(),
                  "SELECT count(*), count(*) FILTER (WHERE requested_by = ?) FROM pending_change");
  const auto counted = count.Bind(change.requested_by).Step();
  if (!counted) return tl::unexpected(counted.error());
  if (count.Number(0) >= kMost || count.Number(1) >= kMostOfOne) {
    return tl::unexpected(Error{
        ErrorKind::kExhausted, "too many changes wait for approval", "",
        fmt::format("at most {}, {} from one person", kMost, kMostOfOne),
        fmt::format("{}, {} from '{}'", count.Number(0), count.Number(1), change.requested_by)});
  }
  Statement s(db_.get(),
              "INSERT INTO pending_change (method, path, body, digest, base_generation, rules, "
              "requested_by, requested, expires) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)");
  const auto written = s.Bind(change.method)
                           .Bind(change.path)
                           .Bind(change.body)
                           .Bind(change.digest)
                           .Bind(change.base_generation)
                           .Bind(json(change.rules).dump())
                           .Bind(change.requested_by)
                           .Bind(change.requested)
                           .Bind(change.expires)
                           .Run();
  if (!written) return tl::unexpected(written.error());
  return static_cast<uint64_t>(sqlite3_last_insert_rowid(db_.get()));
}

Result<std::vector<PendingChange>> Store::ReadPending() {
  const std::string sql = kSelect + "ORDER BY id";
  Statement s(db_.get(), sql.c_str());
  return ReadRows(s, Read);
}

Result<std::vector<PendingChange>> Store::ExpiredPending(PendingChange::Time now) {
  const std::string sql = kSelect + "WHERE expires <= ? ORDER BY id";
  Statement s(db_.get(), sql.c_str());
  return ReadRows(s.Bind(now), Read);
}

Result<std::optional<PendingChange>> Store::FindPending(uint64_t id) {
  const std::string sql = kSelect + "WHERE id = ?";
  Statement s(db_.get(), sql.c_str());
  return ReadRow(s.Bind(id), Read);
}

Result<bool> Store::RemovePending(uint64_t id) {
  Statement s(db_.get(), "DELETE FROM pending_change WHERE id = ?");
  if (auto r = s.Bind(id).Run(); !r) return tl::unexpected(r.error());
  return sqlite3_changes(db_.get()) > 0;
}

}  // namespace portcullis
