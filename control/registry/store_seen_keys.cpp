// The store's part that says which peer a public key was first seen with.
#include "control/registry/statement.hpp"
#include "control/registry/store.hpp"

namespace portcullis {

using model::SeenKey;

namespace {

Result<SeenKey> Read(const Statement& row) {
  return SeenKey{row.Text(0), row.Text(1), row.Text(2), row.Time(3)};
}

}  // namespace

Result<std::optional<SeenKey>> Store::FindSeenKey(const std::string& id) {
  Statement s(db_.get(), "SELECT id, peer, identity, since FROM seen_key WHERE id = ?");
  return ReadRow(s.Bind(id), Read);
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
  Statement s(db_.get(),
              "SELECT id, peer, identity, since FROM seen_key WHERE id > ? ORDER BY id LIMIT ?");
  return ReadRows(s.Bind(after).Bind(most), Read);
}

Result<void> Store::ForgetSeenKey(const std::string& id) {
  Statement s(db_.get(), "DELETE FROM seen_key WHERE id = ?");
  return s.Bind(id).Run();
}

}  // namespace portcullis
