// Longest-prefix match over both families. Built once by the main thread, then read by every
// worker.
#pragma once

#include <rte_rib6.h>

#include <cstdint>
#include <memory>
#include <optional>

#include "base/ip.hpp"

namespace portcullis {

class PrefixMap {
 public:
  /// Room for `most` prefixes. Errors: no memory.
  static Result<PrefixMap> Make(size_t most);

  /// False when the prefix is already there (the first stays).
  bool Insert(const Prefix& prefix, uint32_t value);
  /// The value of the longest prefix that contains `address`. Safe on any worker.
  [[nodiscard]] std::optional<uint32_t> Lookup(const Address& address) const noexcept;

 private:
  struct Free {
    void operator()(rte_rib6* rib) const { rte_rib6_free(rib); }
  };
  std::unique_ptr<rte_rib6, Free> rib_;
};

}  // namespace portcullis
