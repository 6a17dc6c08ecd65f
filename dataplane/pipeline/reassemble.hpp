// Reassembly of outer fragments, off by default: fragments cost memory before anything about them
// is authenticated. One worker does it for all, with a quota for each source.
#pragma once

#include <rte_ip_frag.h>

#include <array>
#include <cstdint>
#include <memory>

#include "base/result.hpp"
#include "dataplane/packet/packet.hpp"
#include "dataplane/state/policer.hpp"

namespace portcullis {

class Worker;

class Reassembler {
 public:
  static constexpr unsigned kWorker = 0;

  static Result<std::unique_ptr<Reassembler>> Make(unsigned worker, uint64_t tsc_hz);
  ~Reassembler();

  /// Takes a fragment. True: `packet` is now the whole one, linear, to be parsed again. False: it
  /// waits for its siblings or was ended.
  bool Complete(Packet& packet, Worker& worker) noexcept;
  /// Ends what did not become whole in time.
  void Expire(Worker& worker) noexcept;

 private:
  Reassembler() = default;
  void EndDead(Worker& worker) noexcept;
  Bucket& QuotaOf(const Address& source) noexcept;

  struct Free {
    void operator()(rte_ip_frag_tbl* table) const { rte_ip_frag_table_destroy(table); }
  };
  std::unique_ptr<rte_ip_frag_tbl, Free> table_;
  rte_ip_frag_death_row dead_{};
  std::array<Bucket, 1024> quotas_;  // by hash of the source
};

}  // namespace portcullis
