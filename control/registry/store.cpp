#include "control/registry/store.hpp"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

#include "control/model/json.hpp"
#include "control/model/validate.hpp"
#include "control/registry/statement.hpp"

namespace portcullis {

using nlohmann::json;

namespace {
constexpr int64_t kApplicationId = 0x50637463;  // "Pctc", in the file's header

// Each makes its version of the one before, so that an older store is taken along; never changed
// once it was released. STRICT makes a wrong type an error; what has a column `one` has one row.
constexpr const char* kVersion1 = R"(
  CREATE TABLE resource (
    kind TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (kind, name)) STRICT, WITHOUT ROWID;
  CREATE TABLE policy (one INTEGER PRIMARY KEY CHECK (one = 1), generation INTEGER NOT NULL) STRICT;
  CREATE TRIGGER generation_only_grows BEFORE UPDATE ON policy
    WHEN new.generation <= old.generation
    BEGIN SELECT raise(ABORT, 'the generation may only grow'); END;
  CREATE TABLE in_force (
    one INTEGER PRIMARY KEY CHECK (one = 1), incarnation TEXT NOT NULL,
    generation INTEGER NOT NULL) STRICT;
  CREATE TABLE revoked (peer TEXT PRIMARY KEY, since INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TABLE used_key (
    fingerprint TEXT PRIMARY KEY, sa TEXT NOT NULL, since INTEGER NOT NULL) STRICT, WITHOUT ROWID;
)";
// Not only peers can be revoked; and the high-water mark of time.
constexpr const char* kVersion2 = R"(
  CREATE TABLE denied (
    kind TEXT NOT NULL, issuer TEXT NOT NULL, id TEXT NOT NULL,
    reason TEXT NOT NULL, who TEXT NOT NULL, since INTEGER NOT NULL, until INTEGER,
    PRIMARY KEY (kind, issuer, id)) STRICT, WITHOUT ROWID;
  INSERT INTO denied SELECT 'peer', '', peer, '', '', since, NULL FROM revoked;
  DROP TABLE revoked;
  CREATE TABLE revocation_epoch (
    one INTEGER PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL) STRICT;
  INSERT INTO revocation_epoch VALUES (1, (SELECT count(*) FROM denied));
  CREATE TRIGGER epoch_only_grows BEFORE UPDATE ON revocation_epoch
    WHEN new.epoch <= old.epoch
    BEGIN SELECT raise(ABORT, 'the revocation epoch may only grow'); END;
  CREATE TABLE time_guard (
    one INTEGER PRIMARY KEY CHECK (one = 1), mark INTEGER NOT NULL, boot_id TEXT NOT NULL,
    time_offset INTEGER NOT NULL, forward_since INTEGER) STRICT;
)";
// Changes that wait for another person. Ids are never used again: whoever approves number 7 means
// the 7 that he has seen.
constexpr const char* kVersion3 = R"(
  CREATE TABLE pending_change (
    id INTEGER PRIMARY KEY AUTOINCREMENT, method TEXT NOT NULL, path TEXT NOT NULL,
    body TEXT NOT NULL, digest TEXT NOT NULL, base_generation INTEGER NOT NULL,
    rules TEXT NOT NULL, requested_by TEXT NOT NULL, requested INTEGER NOT NULL,
    expires INTEGER NOT NULL) STRICT;
)";
// Which peer a public key was first seen with.
constexpr const char* kVersion4 = R"(
  CREATE TABLE seen_key (
    id TEXT PRIMARY KEY, peer TEXT NOT NULL, identity TEXT NOT NULL,
    since INTEGER NOT NULL) STRICT, WITHOUT ROWID;
)";
// Which tenant a resource of a protected server belongs to.
constexpr const char* kVersion5 = R"(
  CREATE TABLE owner (
    interface TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, tenant TEXT NOT NULL,
    since INTEGER NOT NULL, PRIMARY KEY (interface, kind, id)) STRICT, WITHOUT ROWID;
)";
// Which peers are registered with which protected server.
constexpr const char* kVersion6 = R"(
  CREATE TABLE registration (
    interface TEXT NOT NULL, peer TEXT NOT NULL, since INTEGER NOT NULL,
    PRIMARY KEY (interface, peer)) STRICT, WITHOUT ROWID;
)";
// Access tokens that were good for one request and have had it.
constexpr const char* kVersion7 = R"(
  CREATE TABLE used_token (
    issuer TEXT NOT NULL, jti TEXT NOT NULL, expires INTEGER NOT NULL,
    PRIMARY KEY (issuer, jti)) STRICT, WITHOUT ROWID;
  CREATE INDEX used_token_expires ON used_token (expires);
)";
// Requests that wait for an operator, or for being sent again since he has decided.
constexpr const char* kVersion8 = R"(
  CREATE TABLE held_request (
    id TEXT PRIMARY KEY, peer TEXT NOT NULL, tenant TEXT NOT NULL, interface TEXT NOT NULL,
    operations TEXT NOT NULL, method TEXT NOT NULL, target TEXT NOT NULL,
    content_type TEXT NOT NULL, body TEXT NOT NULL, digest TEXT NOT NULL, state TEXT NOT NULL,
    decided_by TEXT NOT NULL, reason TEXT NOT NULL, held INTEGER NOT NULL,
    expires INTEGER NOT NULL, seconds INTEGER NOT NULL,
    UNIQUE (peer, interface, digest)) STRICT;
)";
constexpr std::array kVersions{kVersion1, kVersion2, kVersion3, kVersion4,
                               kVersion5, kVersion6, kVersion7, kVersion8};
constexpr auto kSchemaVersion = static_cast<int64_t>(kVersions.size());
}  // namespace

void Store::Close::operator()(sqlite3* db) const {
  sqlite3_close(db);
}
Store::Store(Store&&) noexcept = default;
Store& Store::operator=(Store&&) noexcept = default;
Store::~Store() = default;

Result<void> Store::Run(const char* sql) {
  if (sqlite3_exec(db_.get(), sql, nullptr, nullptr, nullptr) != SQLITE_OK) {
    return tl::unexpected(Broken(db_.get(), sql));
  }
  return {};
}

Result<Store> Store::Open(const std::string& path) {
  const auto refuse = [&](const std::string& why) {
    return tl::unexpected(Error{ErrorKind::kInvalid,
                                "the store cannot be used: " + why,
                                path,
                                "a Portcullis store, or no file",
                                {}});
  };
  // Created here, so that it never is readable by others; SQLite gives -wal the same mode.
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
  if (fd < 0) return refuse(std::strerror(errno));
  struct stat info {};
  const bool sound = fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
  std::array<char, 16> magic{};
  const auto got = read(fd, magic.data(), magic.size());
  const int mode_set = sound ? fchmod(fd, S_IRUSR | S_IWUSR) : 0;
  close(fd);
  if (!sound) return refuse("not a regular file");
  if (mode_set != 0) return refuse("its mode cannot be set to 0600");
  const bool fresh = info.st_size == 0;
  // SQLite would call a file that it does not know "not a database" only later, and less clearly.
  constexpr std::string_view kMagic("SQLite format 3\0", 16);
  if (!fresh && (got != static_cast<ssize_t>(kMagic.size()) ||
                 std::string_view(magic.data(), magic.size()) != kMagic)) {
    return refuse("it is not an SQLite file");
  }
  sqlite3* db = nullptr;
  const int opened = sqlite3_open_v2(path.c_str(), &db, SQLITE_OPEN_READWRITE, nullptr);
  Store store(db);
  if (opened != SQLITE_OK) return refuse(db == nullptr ? "out of memory" : sqlite3_errmsg(db));
  sqlite3_extended_result_codes(db, 1);
  const auto prepared = store.Prepare(path, fresh);
  if (!prepared) return refuse(prepared.error().message);
  return store;
}

Result<void> Store::Prepare(const std::string& path, bool fresh) {
  // Exclusive: a second control on the same file would break the one rule, generations that grow.
  // Checked before the first write, so that a file which is not ours stays as it was.
  if (auto r = Run("PRAGMA locking_mode = EXCLUSIVE"); !r) return r;
  int64_t version = 0;
  if (!fresh) {
    const auto number = [&](const char* pragma) -> Result<int64_t> {
      Statement s(db_.get(), pragma);
      const auto row = s.Step();
      if (!row) return tl::unexpected(row.error());
      return static_cast<int64_t>(s.Number(0));
    };
    const auto id = number("PRAGMA application_id");
    if (!id) return tl::unexpected(id.error());
    if (*id != kApplicationId) {
      return Fail(ErrorKind::kInvalid, "it is another application's database");
    }
    const auto stored = number("PRAGMA user_version");
    if (!stored) return tl::unexpected(stored.error());
    version = *stored;
    if (version < 1 || version > kSchemaVersion) {
      return Fail(ErrorKind::kInvalid,
                  fmt::format("it has schema version {}, this program knows 1 to {}", version,
                              kSchemaVersion));
    }
    Statement check(db_.get(), "PRAGMA integrity_check(1)");
    const auto row = check.Step();
    if (!row) return tl::unexpected(row.error());
    if (check.Text(0) != "ok") {
      return Fail(ErrorKind::kInvalid, "it is damaged: " + check.Text(0));
    }
  }
  for (const char* pragma : {"PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL",
                             "PRAGMA secure_delete = ON", "PRAGMA trusted_schema = OFF"}) {
    if (auto r = Run(pragma); !r) return r;
  }
  if (version == kSchemaVersion) return {};
  std::string steps;
  for (int64_t step = version; step < kSchemaVersion; ++step) {
    steps += kVersions[static_cast<size_t>(step)];
  }
  const std::string all =
      fmt::format("BEGIN; PRAGMA application_id = {}; PRAGMA user_version = {}; {} COMMIT;",
                  kApplicationId, kSchemaVersion, steps);
  auto made = Run(all.c_str());
  if (!made && fresh) unlink(path.c_str());  // it was empty or absent before
  return made;
}

Result<Store::Policy> Store::ReadPolicy() {
  Policy policy;
  Statement generation(db_.get(), "SELECT generation FROM policy");
  const auto has = generation.Step();
  if (!has) return tl::unexpected(has.error());
  if (*has) policy.generation = generation.Number(0);

  Statement rows(db_.get(), "SELECT kind, name, body FROM resource ORDER BY kind, name");
  for (;;) {
    const auto row = rows.Step();
    if (!row) return tl::unexpected(row.error());
    if (!*row) break;
    const std::string kind = rows.Text(0);
    const std::string where = fmt::format("{} '{}' in the store", kind, rows.Text(1));
    const json body = json::parse(rows.Text(2), nullptr, false);
    const auto add = [&](auto parsed, auto& into) -> Result<void> {
      if (!parsed) return tl::unexpected(parsed.error());
      into.push_back(std::move(*parsed));
      return {};
    };
    const auto set = [&](auto parsed, auto& into) -> Result<void> {
      if (!parsed) return tl::unexpected(parsed.error());
      into = std::move(*parsed);
      return {};
    };
    const auto read =
        kind == "interface"  ? add(model::ParseInterface(body, where), policy.document.interfaces)
        : kind == "peer"     ? add(model::ParsePeer(body, where), policy.document.peers)
        : kind == "approval" ? add(model::ParseApprovalRule(body, where), policy.document.approval)
        : kind == "request-block"
            ? add(model::ParseRequestBlock(body, where), policy.document.blocks)
        : kind == "first-line" ? set(model::ParseFirstLine(body, where), policy.document.first_line)
                               : add(model::ParsePolicy(body, where), policy.document.policies);
    if (!read) return tl::unexpected(read.error());
  }
  return policy;
}

Result<void> Store::WriteResources(const model::Document& document) {
  std::map<std::pair<std::string, std::string>, std::string> wanted;
  for (const auto& r : document.interfaces) wanted[{"interface", r.name}] = ToJson(r).dump();
  for (const auto& r : document.peers) wanted[{"peer", r.name}] = ToJson(r).dump();
  for (const auto& r : document.policies) wanted[{"policy", r.name}] = ToJson(r).dump();
  for (const auto& r : document.approval) wanted[{"approval", r.name}] = ToJson(r).dump();
  for (const auto& r : document.blocks) wanted[{"request-block", r.name}] = ToJson(r).dump();
  if (document.first_line) wanted[{"first-line", ""}] = ToJson(*document.first_line).dump();

  // Only what differs is written: a document may have thousands of peers.
  std::vector<std::pair<std::string, std::string>> gone;
  {
    Statement rows(db_.get(), "SELECT kind, name, body FROM resource");
    for (;;) {
      const auto row = rows.Step();
      if (!row) return tl::unexpected(row.error());
      if (!*row) break;
      const auto same = wanted.find({rows.Text(0), rows.Text(1)});
      if (same == wanted.end()) {
        gone.emplace_back(rows.Text(0), rows.Text(1));
      } else if (same->second == rows.Text(2)) {
        wanted.erase(same);
      }
    }
  }
  for (const auto& [kind, name] : gone) {
    Statement s(db_.get(), "DELETE FROM resource WHERE kind = ? AND name = ?");
    if (auto r = s.Bind(kind).Bind(name).Run(); !r) return r;
  }
  for (const auto& [key, body] : wanted) {
    Statement s(db_.get(), "INSERT OR REPLACE INTO resource VALUES (?, ?, ?)");
    if (auto r = s.Bind(key.first).Bind(key.second).Bind(body).Run(); !r) return r;
  }
  return {};
}

Result<void> Store::WritePolicy(const Policy& policy) {
  if (auto r = Run("BEGIN IMMEDIATE"); !r) return r;
  auto written = WriteResources(policy.document);
  if (written) {
    Statement s(db_.get(),
                "INSERT INTO policy VALUES (1, ?) "
                "ON CONFLICT (one) DO UPDATE SET generation = excluded.generation");
    written = s.Bind(policy.generation).Run();
  }
  return End(written);
}

Result<void> Store::End(Result<void> written) {
  if (written) written = Run("COMMIT");
  if (!written) static_cast<void>(Run("ROLLBACK"));
  return written;
}

Result<Store::InForce> Store::ReadInForce() {
  Statement s(db_.get(), "SELECT incarnation, generation FROM in_force");
  const auto row = s.Step();
  if (!row) return tl::unexpected(row.error());
  if (!*row) return InForce{};
  return InForce{s.Text(0), s.Number(1)};
}

Result<void> Store::WriteInForce(const InForce& in_force) {
  Statement s(db_.get(), "INSERT OR REPLACE INTO in_force VALUES (1, ?, ?)");
  return s.Bind(in_force.incarnation).Bind(in_force.generation).Run();
}

Result<bool> Store::KnowsKey(const std::string& fingerprint) {
  Statement s(db_.get(), "SELECT 1 FROM used_key WHERE fingerprint = ?");
  return s.Bind(fingerprint).Step();
}

Result<void> Store::RememberKey(const std::string& fingerprint, const std::string& sa) {
  const auto known = KnowsKey(fingerprint);
  if (!known) return tl::unexpected(known.error());
  if (*known) {
    return tl::unexpected(Error{ErrorKind::kConflict, "this key was used before", "/key",
                                "a key that was never used", "fingerprint " + fingerprint});
  }
  Statement s(db_.get(), "INSERT INTO used_key VALUES (?, ?, unixepoch())");
  return s.Bind(fingerprint).Bind(sa).Run();
}

Result<void> Store::NoteKeysInUse(const std::vector<std::pair<std::string, std::string>>& keys) {
  if (auto r = Run("BEGIN IMMEDIATE"); !r) return r;
  Result<void> written;
  for (const auto& [fingerprint, sa] : keys) {
    if (!written) break;
    Statement s(db_.get(), "INSERT OR IGNORE INTO used_key VALUES (?, ?, unixepoch())");
    written = s.Bind(fingerprint).Bind(sa).Run();
  }
  return End(written);
}

Result<void> Store::ForgetKey(const std::string& fingerprint) {
  Statement s(db_.get(), "DELETE FROM used_key WHERE fingerprint = ?");
  return s.Bind(fingerprint).Run();
}

bool Store::Healthy() {
  Statement s(db_.get(), "SELECT count(*) FROM policy");
  return s.Step().value_or(false) && sqlite3_db_readonly(db_.get(), "main") == 0;
}

}  // namespace portcullis
