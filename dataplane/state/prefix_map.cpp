#include "dataplane/state/prefix_map.hpp"

#include <rte_errno.h>
#include <rte_memory.h>

#include <atomic>

namespace portcullis {

Result<PrefixMap> PrefixMap::Make(size_t most) {
  static std::atomic<unsigned> serial = 0;  // EAL wants a name that is unique
  const std::string name = "prefixes_" + std::to_string(serial++);
  rte_rib6_conf conf{};
  conf.ext_sz = 0;
  // A binary trie needs an inner node for each branching: at most one per leaf.
  conf.max_nodes = static_cast<int>(2 * most + 2);
  PrefixMap map;
  map.rib_.reset(rte_rib6_create(name.c_str(), SOCKET_ID_ANY, &conf));
  if (!map.rib_) {
    return Fail(ErrorKind::kExhausted, "no memory for a table of " + std::to_string(most) +
                                           " prefixes: " + rte_strerror(rte_errno));
  }
  return map;
}

bool PrefixMap::Insert(const Prefix& prefix, uint32_t value) {
  rte_rib6_node* node = rte_rib6_insert(rib_.get(), prefix.address().bytes().data(),
                                        static_cast<uint8_t>(prefix.length()));
  return node != nullptr && rte_rib6_set_nh(node, value) == 0;
}

std::optional<uint32_t> PrefixMap::Lookup(const Address& address) const noexcept {
  rte_rib6_node* node = rte_rib6_lookup(rib_.get(), address.bytes().data());
  uint64_t value = 0;
  if (node == nullptr || rte_rib6_get_nh(node, &value) != 0) return std::nullopt;
  return static_cast<uint32_t>(value);
}

}  // namespace portcullis
