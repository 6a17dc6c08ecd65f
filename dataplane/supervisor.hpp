// The main thread's work beside the workers: it answers steering requests, mirrors the kernel's
// network, keeps XDP in step with policy, does for workers what needs a system call, and looks
// once a second after what ends by itself.
#pragma once

#include <csignal>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bpf/loader.hpp"
#include "dataplane/config.hpp"
#include "dataplane/ports/netlink.hpp"
#include "dataplane/ports/port.hpp"
#include "dataplane/state/state.hpp"
#include "dataplane/steer/server.hpp"
#include "dataplane/worker.hpp"

namespace portcullis {

class Supervisor {
 public:
  struct Parts {
    const DataplaneConfig& config;
    Ports& ports;
    State& state;
    WorkerShared& shared;
    const std::vector<std::unique_ptr<Worker>>& workers;
    bool hugepages = false;
    std::string boot_id;
  };
  explicit Supervisor(Parts parts);

  /// Opens the netlink mirror and the steering socket. After this control may connect.
  Result<void> Start();
  /// Serves until `stop` is set.
  void Run(const volatile std::sig_atomic_t& stop);

  /// What telemetry shows too.
  [[nodiscard]] CounterValues Total() const;
  /// Of all ports together; nothing where none is shared with the kernel.
  [[nodiscard]] std::optional<XdpCounters> XdpTotal() const;
  [[nodiscard]] const Parts& parts() const { return parts_; }

 private:
  void Handle(const steer::Request& request, steer::Response& response);
  Result<void> Hello(const steer::Hello& request, steer::HelloReply& reply);
  Result<void> Apply(const steer::ApplySnapshot& request, steer::SnapshotReply& reply);
  Result<void> AddSas(const steer::AddSas& request, steer::AddSasReply& reply);
  Result<void> RemoveSas(const steer::RemoveSas& request, steer::RemoveSasReply& reply);
  Result<void> ListSas(const steer::ListSas& request, steer::ListSasReply& reply);
  Result<void> ReadCounters(const steer::ReadCounters& request, steer::CountersReply& reply);
  Result<void> ReadStatus(steer::StatusReply& reply);

  void ServeWorkers();
  void LearnPathMtu(const MainMessage& message);
  void EachSecond();
  void ReportSa(Sa& sa);
  Result<void> PrepareXdp(const Snapshot& policy);
  void CommitXdp();
  void CatchUpXdp();
  void SteerSa(const Sa& sa, bool there);
  void SuspectSa(Spi spi, const Address& endpoint);
  void WatchDrops(const steer::WatchDrops& request);
  void TakeDrops();
  void SetOwnAddresses(uint16_t port, const std::vector<Address>& addresses);
  void Publish(std::string kind, std::string sa, std::string peer, std::string text);

  Parts parts_;
  std::string incarnation_;
  uint64_t started_boot_ns_ = 0;
  uint64_t next_second_boot_ns_ = 0;
  uint64_t events_ = 0;
  uint64_t watch_until_boot_ns_ = 0;  // 0: nobody looks at drops
  uint64_t next_look_boot_ns_ = 0;
  std::unique_ptr<SteerServer> server_;
  std::unique_ptr<NetlinkMirror> mirror_;
  HostAddresses hosts_;
};

/// Users by name or number; an unknown one is an error that names it.
Result<std::vector<uid_t>> ResolveUsers(const std::vector<std::string>& names);

}  // namespace portcullis
