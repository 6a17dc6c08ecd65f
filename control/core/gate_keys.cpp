// Peers' public keys: each belongs to the peer that first came with it, until an operator says
// otherwise.
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

}  // namespace portcullis
