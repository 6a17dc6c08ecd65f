// Longest-prefix match over both families: librte_rib's compressed binary tree in the 128-bit space
// of IPv4-mapped addresses. Written by the main thread before any worker sees it, and only read
// from then on: look-ups write nothing, so any number of workers may share it.
#pragma once

#include <bitset>
#include <cstdint>
#include <memory>
#include <optional>

#include "base/ip.hpp"

struct rte_rib6;  // so that whoever knows a next hop needs no DPDK

namespace portcullis {

class PrefixMap {
 public:
  /// Empty, without room: Lookup finds nothing, Insert is not allowed.
  PrefixMap() = default;
  /// Room for `most` prefixes. The EAL must run: the nodes live in its memory. Errors: no memory.
  static Result<PrefixMap> Make(size_t most);

  /// False when the prefix is already there (the first stays). Errors: no memory.
  Result<bool> Insert(const Prefix& prefix, uint32_t value);
  /// The value of the longest prefix that contains `address`. An IPv4 address never matches an IPv6
  /// prefix, not even ::/0, although they share the space. Safe on any worker.
  [[nodiscard]] std::optional<uint32_t> Lookup(const Address& address) const noexcept {
    if (!rib_ || (address.IsV4() && !(*v4_)[Top(address)])) return std::nullopt;
    return Search(address);
  }

 private:
  // Which blocks of 2^16 IPv4 addresses have a prefix in or around them. It tells most strangers
  // without a search, however many come.
  using Blocks = std::bitset<65536>;
  static size_t Top(const Address& v4) { return size_t{v4.bytes()[12]} << 8U | v4.bytes()[13]; }
  [[nodiscard]] std::optional<uint32_t> Search(const Address& address) const noexcept;

  std::unique_ptr<Blocks> v4_;
  struct Free {
    void operator()(rte_rib6* rib) const;
  };
  std::unique_ptr<rte_rib6, Free> rib_;
};

}  // namespace portcullis
