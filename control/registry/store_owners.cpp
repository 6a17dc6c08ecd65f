// The store's part that says to which tenant a resource of a protected server belongs.
#include "control/registry/statement.hpp"
#include "control/registry/store.hpp"

namespace portcullis {

using model::Owner;
using model::OwnerChange;
using model::Resource;

namespace {

Result<Owner> ReadOwner(const Statement& row) {
  return Owner{{row.Text(0), row.Text(1), row.Text(2)}, row.Text(3), row.Time(4)};
}

Statement& Name(Statement& s, const Resource& resource) {
  return s.Bind(resource.interface).Bind(resource.kind).Bind(resource.id);
}

}  // namespace

void Store::Finalize::operator()(Statement* statement) const {
  delete statement;
}

// Asked for each request: to read the statement's text costs more than to find the row.
Result<std::optional<Owner>> Store::FindOwner(const Resource& resource) {
  if (!find_owner_) {
    find_owner_.reset(new Statement(db_.get(),
                                    "SELECT interface, kind, id, tenant, since FROM owner "
                                    "WHERE interface = ? AND kind = ? AND id = ?"));
  }
  Statement& s = *find_owner_;
  auto owner = ReadRow(Name(s.Again(), resource), ReadOwner);
  s.Again();
  return owner;
}

Result<std::string> Store::ChangeOwner(const OwnerChange& change) {
  const Owner& owner = change.owner;
  if (change.gone) {
    Statement s(db_.get(),
                "DELETE FROM owner WHERE interface = ? AND kind = ? AND id = ? AND tenant = ?");
    const auto written = Name(s, owner.resource).Bind(owner.tenant).Run();
    if (!written) return tl::unexpected(written.error());
  } else {
    // Whoever was first keeps it: a server that answers with another's name must not take it away.
    Statement s(db_.get(), "INSERT OR IGNORE INTO owner VALUES (?, ?, ?, ?, ?)");
    const auto written = Name(s, owner.resource).Bind(owner.tenant).Bind(owner.since).Run();
    if (!written) return tl::unexpected(written.error());
  }
  const auto now = FindOwner(owner.resource);
  if (!now) return tl::unexpected(now.error());
  return *now ? (*now)->tenant : std::string();
}

Result<std::vector<std::string>> Store::ChangeOwners(const std::vector<OwnerChange>& changes) {
  std::vector<std::string> tenants;
  if (changes.empty()) return tenants;
  if (auto r = Run("BEGIN IMMEDIATE"); !r) return tl::unexpected(r.error());
  Result<void> written;
  for (const OwnerChange& change : changes) {
    auto tenant = ChangeOwner(change);
    if (!tenant) {
      written = tl::unexpected(tenant.error());
      break;
    }
    tenants.push_back(std::move(*tenant));
  }
  if (auto ended = End(written); !ended) return tl::unexpected(ended.error());
  return tenants;
}

Result<std::vector<Owner>> Store::ReadOwners(const Resource& after, const OwnersWanted& wanted,
                                             uint64_t most) {
  Statement s(db_.get(),
              "SELECT interface, kind, id, tenant, since FROM owner "
              "WHERE (interface, kind, id) > (?, ?, ?) AND (?4 = '' OR interface = ?4) "
              "AND (?5 = '' OR tenant = ?5) ORDER BY interface, kind, id LIMIT ?6");
  Name(s, after).Bind(wanted.interface).Bind(wanted.tenant).Bind(most);
  return ReadRows(s, ReadOwner);
}

Result<bool> Store::RemoveOwner(const Resource& resource) {
  Statement s(db_.get(), "DELETE FROM owner WHERE interface = ? AND kind = ? AND id = ?");
  if (auto r = Name(s, resource).Run(); !r) return tl::unexpected(r.error());
  return sqlite3_changes(db_.get()) > 0;
}

}  // namespace portcullis
