// What belongs to whoever came first, until an operator says otherwise: peers' public keys, and
// tenants' resources on protected servers.
#include "control/core/gate.hpp"
#include "control/model/difference.hpp"

namespace portcullis {

Result<model::SeenKey> Gate::SeeKey(const model::SeenKey& key) {
  return store_.SeeKey(key);
}

Result<std::vector<model::SeenKey>> Gate::SeenKeys(const std::string& after, uint64_t most) {
  return store_.ReadSeenKeys(after, most);
}

Result<Gate::Change> Gate::ForgetSeenKey(const std::string& id, const Wish& wish) {
  const auto known = store_.FindSeenKey(id);
  if (!known) return tl::unexpected(known.error());
  if (!*known) return Fail(ErrorKind::kNotFound, "no peer has come with this key");
  Change change{model::OneDifference("removed", "key", id), {}, generation_, InSync(), {}};
  if (wish.dry_run) return change;
  if (auto forgotten = store_.ForgetSeenKey(id); !forgotten) {
    return tl::unexpected(forgotten.error());
  }
  events_.Tell("operator", fmt::format("key {} is no longer that of peer '{}'", id, (*known)->peer),
               wish.operator_name, (*known)->peer);
  return change;
}

Result<model::Owner> Gate::ForgetOwner(const model::Resource& resource, const Wish& wish) {
  const auto owner = store_.FindOwner(resource);
  if (!owner) return tl::unexpected(owner.error());
  if (!*owner) return Fail(ErrorKind::kNotFound, "no such resource belongs to anybody");
  if (wish.dry_run) return **owner;
  if (auto removed = store_.RemoveOwner(resource); !removed) {
    return tl::unexpected(removed.error());
  }
  NextEpoch();
  events_.Tell("operator",
               fmt::format("{} '{}' on {} is no longer tenant '{}'s", resource.kind, resource.id,
                           resource.interface, (*owner)->tenant),
               wish.operator_name);
  return **owner;
}

}  // namespace portcullis
