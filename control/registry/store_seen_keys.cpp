// The store's part that says which peer a public key was first seen with.
#include "control/registry/statement.hpp"
#include "control/registry/store.hpp"

namespace portcullis {

using model::SeenKey;

namespace {

SeenKey Read(const Statement& row) {
  return {row.Text(0), row.Text(1), row.Text(2), row.Time(3)};
}

}  // namespace

Result<std::optional<SeenKey>> Store::FindSeenKey(const std::string& id) {
  Statement s(db_.get(), "SELECT id, peer, identity, since FROM seen_key WHERE id = ?");
  const auto row = s.Bind(id).Step();
  if (!row) return tl::unexpected(row.error());
  if (!*row) return std::optional<SeenKey>();
  return Read(s);
}

Result<SeenKey> Store::SeeKey(const SeenKey& key) {
  auto known = FindSeenKey(key.id);
  if (!known) return tl::unexpected(known.error());
  if (*known) return **std::move(known);
  Statement s(db_.get(), "INSERT INTO seen_key VALUES (?, ?, ?, ?)");
  const auto written = s.Bind(key.id).Bind(key.peer).Bind(key.identity).Bind(key.since).Run();
  if (!written) return tl::unexpected(written.error());
  return key;
}

Result<std::vector<SeenKey>> Store::ReadSeenKeys(const std::string& after, uint64_t most) {
  std::vector<SeenKey> keys;
  Statement s(db_.get(),
              "SELECT id, peer, identity, since FROM seen_key WHERE id > ? ORDER BY id LIMIT ?");
  s.Bind(after).Bind(most);
  for (;;) {
    const auto row = s.Step();
    if (!row) return tl::unexpected(row.error());
    if (!*row) return keys;
    keys.push_back(Read(s));
  }
}

Result<void> Store::ForgetSeenKey(const std::string& id) {
  Statement s(db_.get(), "DELETE FROM seen_key WHERE id = ?");
  return s.Bind(id).Run();
}

}  // namespace portcullis
