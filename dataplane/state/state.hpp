// Everything that packets are judged by, and its two sides: workers read it between two quiescent
// points, the main thread changes it. Changes are made beside what is in force, published by one
// store and answered once every worker has passed a quiescent point.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/result.hpp"
#include "dataplane/crypto/engine.hpp"
#include "dataplane/esp/state_file.hpp"
#include "dataplane/state/fib.hpp"
#include "dataplane/state/rcu.hpp"
#include "dataplane/state/sa.hpp"
#include "dataplane/state/snapshot.hpp"

namespace portcullis {

struct StateConfig {
  uint32_t sa_capacity = 16384;  // a power of two; inbound and outbound SAs together
  unsigned workers = 1;
  bool lab = false;
  bool prefilter = true;  // some port has no XDP: the pipeline is its first line
  AuthLimits auth;
  uint64_t tsc_hz = 0;
};

using HostAddresses = std::vector<std::vector<Address>>;

class State {
 public:
  State(const StateConfig& config, std::unique_ptr<Engine> engine, StateFile file);
  ~State();
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  // ---- for workers
  [[nodiscard]] const Snapshot* snapshot() const noexcept {
    return snapshot_.load(std::memory_order_acquire);
  }
  [[nodiscard]] const Fib* fib() const noexcept { return fib_.load(std::memory_order_acquire); }
  /// Another one, never 0, whenever policy or routes are others. To be read before either: then
  /// what was concluded from them holds in every round that begins with the same view.
  [[nodiscard]] uint32_t view() const noexcept { return view_.load(std::memory_order_acquire); }
  /// An SPI is a slot and a tag: the slot is its low bits, the whole of it must agree. No hash.
  [[nodiscard]] Sa* FindInbound(Spi spi) const noexcept {
    Sa* sa = InboundSlot(spi);
    return sa != nullptr && sa->spi == spi ? sa : nullptr;
  }
  /// The SA of that slot, whatever its tag; read without looking at the SA.
  [[nodiscard]] Sa* InboundSlot(Spi spi) const noexcept {
    return slots_[Value(spi) & slot_mask_].load(std::memory_order_acquire);
  }
  /// Addresses of this host by DPDK port, for the source of ICMP errors.
  [[nodiscard]] const HostAddresses* hosts() const noexcept {
    return hosts_.load(std::memory_order_acquire);
  }
  [[nodiscard]] Rcu& rcu() noexcept { return rcu_; }

  // ---- for the main thread
  /// Called with what is about to be in force; an error refuses it.
  using Agree = std::function<Result<void>(const Snapshot& next)>;
  /// All or nothing. Errors: generation not newer, base not in force, overlapping peers, what
  /// `agree` says.
  Result<void> Apply(PolicyUpdate update, const Agree& agree = {});
  void Publish(std::unique_ptr<const Fib> fib);
  void Publish(std::unique_ptr<const HostAddresses> hosts);
  Result<void> Revoke(const std::string& peer, bool revoked);

  struct Added {
    std::string id;
    Result<std::string> fingerprint;  // or why it was refused
  };
  /// Each SA whole or not at all; `atomic`: one refused, none added, and nothing remembered: the
  /// same keys may come again.
  std::vector<Added> AddSas(std::vector<SaSpec> specs, bool atomic);
  /// Unknown ids are no error. Zeroises the keys; the record goes, its fingerprint stays known.
  size_t RemoveSas(std::span<const std::string> ids);

  /// Called whenever an inbound SA is there (true), or is no more, before the request that changed
  /// it is answered. One that takes another's slot is there before the other goes.
  using InboundWatch = std::function<void(const Sa& sa, bool there)>;
  void WatchInbound(InboundWatch watch) { inbound_watch_ = std::move(watch); }

  /// What these admit after registration they admit for so long from `boot_ns` on; 0: no longer.
  /// Unknown ids are no error.
  void Register(std::span<const std::string> ids, uint64_t seconds, uint64_t boot_ns);

  [[nodiscard]] const std::map<std::string, Sa*>& sas() const { return by_id_; }
  [[nodiscard]] const std::map<std::string, std::unique_ptr<PeerState>>& peers() const {
    return peers_;
  }
  /// By peer: those of its SAs, and what removed ones left behind.
  [[nodiscard]] std::map<std::string, CounterValues> PeerCounters() const;
  [[nodiscard]] uint32_t capacity() const { return config_.sa_capacity; }
  [[nodiscard]] std::string EngineName() const { return engine_->Name(); }
  /// Outbound SA by what an ICMP error quotes; null: none.
  [[nodiscard]] Sa* FindOutbound(const Address& remote, Spi spi) const;

  /// Once a second: time limits and deadlines, by CLOCK_BOOTTIME (a paused VM stops the TSC).
  void CheckDeadlines(uint64_t boot_ns);

 private:
  Result<std::unique_ptr<Snapshot>> Compile(PolicyUpdate& update);
  Result<std::shared_ptr<const SourceTable>> CompileSources(const FirstLine& line) const;
  struct Plan;
  Result<Sa*> FindReplaced(const SaSpec& spec, const Plan& plan) const;
  Result<void> CheckSlot(const SaSpec& spec, const Sa* replaced, const Plan& plan) const;
  Result<void> CheckSpec(const SaSpec& spec, const Sa* replaced, const Plan& plan) const;
  Result<Sa*> Make(SaSpec& spec, const Plan& plan);
  Result<void> MakeRecord(Sa* sa);
  void TakeBack(const Plan& plan);
  void Unmake(Sa* sa);
  void Link(Sa* sa);
  void Unlink(Sa* sa);
  void Destroy(std::span<Sa* const> sas);
  void EndRegistration(std::span<Sa* const> of);
  void UpdateOutbound(std::span<Sa* const> coming, std::span<Sa* const> going);
  void Reclaim();
  void ChangeView();
  uint32_t FreePeerIndex();
  void ForgetPeersNotIn(const Snapshot* snapshot);

  StateConfig config_;
  std::unique_ptr<Engine> engine_;  // expands keys; each worker has its own for packets
  StateFile file_;
  Rcu rcu_;
  std::atomic<const Snapshot*> snapshot_ = nullptr;
  std::atomic<const Fib*> fib_ = nullptr;
  std::atomic<uint32_t> view_ = 1;
  std::atomic<const HostAddresses*> hosts_ = nullptr;
  uint32_t slot_mask_;
  std::unique_ptr<std::atomic<Sa*>[]> slots_;
  std::map<std::string, Sa*> by_id_;
  std::unordered_multimap<uint32_t, Sa*> outbound_by_spi_;  // outsiders can cause look-ups
  std::map<std::string, std::unique_ptr<PeerState>> peers_;
  std::set<uint32_t> free_peer_indices_;
  uint32_t next_peer_index_ = 0;
  uint64_t last_serial_ = 0;
  InboundWatch inbound_watch_ = [](const Sa&, bool) {};
  std::vector<const std::vector<Sa*>*> garbage_;  // old outbound lists, until the next quiescence
};

/// Nanoseconds of CLOCK_BOOTTIME.
uint64_t BootNs();

}  // namespace portcullis
