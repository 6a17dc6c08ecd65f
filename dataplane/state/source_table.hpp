// The first line of defence as workers ask it: state/first_line.hpp compiled. Immutable, part of a
// snapshot. What a source has used of its limits is not here but with each worker (SourceBuckets),
// and outlives the policy.
#pragma once

#include <cstdint>
#include <memory>

#include "base/ip.hpp"
#include "base/result.hpp"
#include "dataplane/state/first_line.hpp"
#include "dataplane/state/policer.hpp"
#include "dataplane/state/prefix_map.hpp"
#include "dataplane/state/time_table.hpp"

namespace portcullis {

class SourceTable {
 public:
  enum class Standing : uint8_t { stranger, admitted, denied };

  /// The EAL must run. Errors: no memory.
  static Result<std::shared_ptr<const SourceTable>> Make(const FirstLine& line, uint64_t tsc_hz);

  /// By the longest prefix that names it.
  [[nodiscard]] Standing Of(const Address& source) const noexcept;
  [[nodiscard]] bool Admits(Standing standing) const noexcept {
    return standing == Standing::admitted ||
           (standing == Standing::stranger && line_.admit_strangers);
  }
  /// What counts as one source for the limits.
  [[nodiscard]] Address OneOf(const Address& source) const noexcept;
  /// False: to the dataplane goes whoever wants.
  [[nodiscard]] bool judges_packets() const { return judges_packets_; }
  [[nodiscard]] bool limits_packets() const { return line_.packets.per_second != 0; }
  [[nodiscard]] bool limits_handshakes() const { return line_.handshakes.per_second != 0; }
  /// Full ones, to copy.
  [[nodiscard]] const Bucket& packets() const { return packets_; }
  [[nodiscard]] const Bucket& handshakes() const { return handshakes_; }
  [[nodiscard]] const Bucket& strangers() const { return strangers_; }
  /// False: all services of the host are open, and none is limited.
  [[nodiscard]] bool judges_services() const {
    return !line_.whole_host || !line_.sessions.empty();
  }
  [[nodiscard]] bool whole_host() const { return line_.whole_host; }
  /// Is that port one of the guard's? Is it open: one of the guard's or the host's that are named?
  [[nodiscard]] bool IsSession(uint8_t protocol, uint16_t port) const noexcept;
  [[nodiscard]] bool IsOpen(uint8_t protocol, uint16_t port) const noexcept;

 private:
  SourceTable() = default;

  FirstLine line_;  // without its sources
  PrefixMap sources_;
  bool judges_packets_ = false;
  Address ipv4_mask_;
  Address ipv6_mask_;
  Bucket packets_;
  Bucket handshakes_;
  Bucket strangers_;
};

/// What sources have used of their limits with one worker. A source that reaches several workers
/// has its limit with each of them.
struct SourceBuckets {
  static constexpr size_t kSources = 65536;

  TimeTable packets{kSources};  // TSC: when the debts are paid
  TimeTable handshakes{kSources};
  uint64_t strangers = 0;

  /// One unit; false when it is too much. `due` is the source's. A debt that this limit cannot have
  /// made is another policy's, and forgiven.
  static bool Take(const Bucket& full, uint64_t& due, uint64_t now) noexcept {
    const uint64_t after = Now(full, due, now).After(now, 1);
    if (!full.EarlyEnough(after, now)) return false;
    due = after;
    return true;
  }
  /// Would it take one?
  static bool Admits(const Bucket& full, uint64_t due, uint64_t now) noexcept {
    return Now(full, due, now).Admits(now, 1);
  }

 private:
  static Bucket Now(const Bucket& full, uint64_t due, uint64_t now) noexcept {
    Bucket bucket = full;
    if (full.EarlyEnough(due, now)) bucket.Set(due);
    return bucket;
  }
};

}  // namespace portcullis
