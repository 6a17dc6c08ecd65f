// The store's part that holds the requests which wait for an operator.
#include <nlohmann/json.hpp>

#include "control/registry/statement.hpp"
#include "control/registry/store.hpp"

namespace portcullis {

using model::HeldRequest;
using nlohmann::json;

namespace {

// Bodies have up to 32 KiB, and nobody reads a thousand requests.
constexpr uint64_t kMost = 1024;
constexpr uint64_t kMostOfOne = 16;

const std::string kSelect =
    "SELECT id, peer, tenant, interface, operations, method, target, content_type, body, digest, "
    "state, decided_by, reason, held, expires, seconds FROM held_request ";

Result<HeldRequest> Read(const Statement& s) {
  HeldRequest r;
  for (int column = 0; std::string * field : {&r.id, &r.peer, &r.tenant, &r.interface}) {
    *field = s.Text(column++);
  }
  r.operations = ListOf(s.Text(4));
  for (int column = 5;
       std::string * field : {&r.method, &r.target, &r.content_type, &r.body, &r.digest}) {
    *field = s.Text(column++);
  }
  const std::string state = s.Text(10);
  for (const auto& [text, value] : model::kHeldStates) {
    if (text == state) r.state = value;
  }
  r.decided_by = s.Text(11);
  r.reason = s.Text(12);
  r.held = s.Time(13);
  r.expires = s.Time(14);
  r.seconds = static_cast<uint32_t>(s.Number(15));
  // The digest is what somebody agrees to: it must be that of what he sees.
  if (r.digest != model::RequestDigest(r.method, r.target, r.content_type, r.body)) {
    return Fail(ErrorKind::kInternal,
                fmt::format("the store's held request {} is not what its digest says", r.id));
  }
  return r;
}

}  // namespace

Result<void> Store::AddHeld(const HeldRequest& r) {
  Statement count(db_.get(),
                  "SELECT count(*), count(*) FILTER (WHERE peer = ?1), count(*) FILTER "
                  "(WHERE id = ?2 OR (peer = ?1 AND interface = ?3 AND digest = ?4)) "
                  "FROM held_request");
  const auto counted = count.Bind(r.peer).Bind(r.id).Bind(r.interface).Bind(r.digest).Step();
  if (!counted) return tl::unexpected(counted.error());
  if (count.Number(2) > 0) return Fail(ErrorKind::kConflict, "this request is held already");
  if (count.Number(0) >= kMost || count.Number(1) >= kMostOfOne) {
    return tl::unexpected(
        Error{ErrorKind::kExhausted, "too many requests wait for an operator", "",
              fmt::format("at most {}, {} of one peer", kMost, kMostOfOne),
              fmt::format("{}, {} of '{}'", count.Number(0), count.Number(1), r.peer)});
  }
  Statement s(db_.get(),
              "INSERT INTO held_request VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
  for (const std::string& text :
       {r.id, r.peer, r.tenant, r.interface, json(r.operations).dump(), r.method, r.target,
        r.content_type, r.body, r.digest, std::string(TextOf(model::kHeldStates, r.state)),
        r.decided_by, r.reason}) {
    s.Bind(text);
  }
  return s.Bind(r.held).Bind(r.expires).Bind(uint64_t{r.seconds}).Run();
}

Result<std::optional<HeldRequest>> Store::FindHeld(const std::string& id) {
  const std::string sql = kSelect + "WHERE id = ?";
  Statement s(db_.get(), sql.c_str());
  return ReadRow(s.Bind(id), Read);
}

Result<std::optional<HeldRequest>> Store::FindHeld(const std::string& peer,
                                                   const std::string& interface,
                                                   const std::string& digest) {
  const std::string sql = kSelect + "WHERE peer = ? AND interface = ? AND digest = ?";
  Statement s(db_.get(), sql.c_str());
  return ReadRow(s.Bind(peer).Bind(interface).Bind(digest), Read);
}

Result<std::vector<HeldRequest>> Store::ReadHeld() {
  const std::string sql = kSelect + "ORDER BY held, id";
  Statement s(db_.get(), sql.c_str());
  return ReadRows(s, Read);
}

Result<std::vector<HeldRequest>> Store::ExpiredHeld(HeldRequest::Time now) {
  const std::string sql = kSelect + "WHERE expires <= ? ORDER BY held, id";
  Statement s(db_.get(), sql.c_str());
  return ReadRows(s.Bind(now), Read);
}

Result<bool> Store::DecideHeld(const HeldRequest& r) {
  Statement s(db_.get(),
              "UPDATE held_request SET state = ?, decided_by = ?, reason = ?, expires = ? "
              "WHERE id = ?");
  const auto written = s.Bind(std::string(TextOf(model::kHeldStates, r.state)))
                           .Bind(r.decided_by)
                           .Bind(r.reason)
                           .Bind(r.expires)
                           .Bind(r.id)
                           .Run();
  if (!written) return tl::unexpected(written.error());
  return sqlite3_changes(db_.get()) > 0;
}

Result<bool> Store::RemoveHeld(const std::string& id) {
  Statement s(db_.get(), "DELETE FROM held_request WHERE id = ?");
  if (auto r = s.Bind(id).Run(); !r) return tl::unexpected(r.error());
  return sqlite3_changes(db_.get()) > 0;
}

}  // namespace portcullis
