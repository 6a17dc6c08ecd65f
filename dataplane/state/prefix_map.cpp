#include "dataplane/state/prefix_map.hpp"

#include <rte_errno.h>
#include <rte_memory.h>
#include <rte_rib6.h>

#include <algorithm>
#include <atomic>

namespace portcullis {

void PrefixMap::Free::operator()(rte_rib6* rib) const {
  rte_rib6_free(rib);
}

Result<PrefixMap> PrefixMap::Make(size_t most) {
  // DPDK knows tables by name, and the old one lives until no worker reads it any more.
  static std::atomic<unsigned> serial = 0;
  const std::string name = fmt::format("prefixes_{}", serial++);
  rte_rib6_conf conf{};
  // A tree of n prefixes branches at most n - 1 times; a pool of size 0 is refused.
  conf.max_nodes = static_cast<int>(2 * most + 1);
  PrefixMap map;
  map.v4_ = std::make_unique<Blocks>();
  map.rib_.reset(rte_rib6_create(name.c_str(), SOCKET_ID_ANY, &conf));
  if (!map.rib_) {
    return Fail(ErrorKind::kExhausted,
                fmt::format("no memory for a table of {} prefixes: {}; raise memory.megabytes",
                            most, rte_strerror(rte_errno)));
  }
  return map;
}

Result<bool> PrefixMap::Insert(const Prefix& prefix, uint32_t value) {
  rte_rib6_node* node = rte_rib6_insert(rib_.get(), prefix.address().bytes().data(),
                                        static_cast<uint8_t>(prefix.length()));
  if (node != nullptr) {
    rte_rib6_set_nh(node, value);
    if (!prefix.IsV4()) return true;
    constexpr unsigned kTopBits = 16;
    const unsigned free_bits = kTopBits - std::min(prefix.WrittenLength(), kTopBits);
    for (size_t block = 0; block < size_t{1} << free_bits; ++block) {
      v4_->set(Top(prefix.address()) + block);
    }
    return true;
  }
  if (rte_errno == EEXIST) return false;
  return Fail(ErrorKind::kExhausted,
              fmt::format("no memory for prefix {}: {}", prefix.Text(), rte_strerror(rte_errno)));
}

std::optional<uint32_t> PrefixMap::Search(const Address& address) const noexcept {
  constexpr uint8_t kMappedLength = 96;  // of ::ffff:0:0/96, which is all of IPv4
  const rte_rib6_node* node = rte_rib6_lookup(rib_.get(), address.bytes().data());
  if (node == nullptr) return std::nullopt;
  if (address.IsV4()) {
    uint8_t length = 0;
    rte_rib6_get_depth(node, &length);
    if (length < kMappedLength) return std::nullopt;
  }
  uint64_t value = 0;
  rte_rib6_get_nh(node, &value);
  return static_cast<uint32_t>(value);
}

}  // namespace portcullis
