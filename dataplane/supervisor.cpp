#include "dataplane/supervisor.hpp"

#include <fmt/ranges.h>
#include <openssl/rand.h>
#include <pwd.h>
#include <rte_cycles.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <charconv>

#include "dataplane/telemetry.hpp"

namespace portcullis {
namespace {

constexpr auto kTick = std::chrono::milliseconds(2);
constexpr uint64_t kSecondNs = 1'000'000'000;
constexpr uint64_t kPmtuAgeNs = 600 * kSecondNs;  // RFC 1191 6.3 suggests ten minutes
constexpr uint64_t kRecentPackets = 65'536;       // a quoted number older than this proves little

std::string RandomHex() {
  std::array<uint8_t, 8> bytes{};
  RAND_bytes(bytes.data(), static_cast<int>(bytes.size()));
  return fmt::format("{:02x}", fmt::join(bytes, ""));
}

}  // namespace

Result<std::vector<uid_t>> ResolveUsers(const std::vector<std::string>& names) {
  std::vector<uid_t> users;
  for (const std::string& name : names) {
    uid_t number = 0;
    const auto [end, failed] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (failed == std::errc() && end == name.data() + name.size()) {
      users.push_back(number);
    } else if (const passwd* entry = getpwnam(name.c_str()); entry != nullptr) {
      users.push_back(entry->pw_uid);
    } else {
      return Invalid("steering.users", "no such user", "a user of this host", "\"" + name + "\"");
    }
  }
  return users;
}

Supervisor::Supervisor(Parts parts)
    : parts_(std::move(parts)),
      incarnation_(RandomHex()),
      started_boot_ns_(BootNs()),
      hosts_(RTE_MAX_ETHPORTS) {
  for (const Port& port : parts_.ports.all()) {
    for (const InterfaceAddress& address : port.addresses) {
      hosts_[port.id].push_back(address.address);
    }
  }
  parts_.state.Publish(std::make_unique<const HostAddresses>(hosts_));
}

Result<void> Supervisor::Start() {
  WatchDrops({});  // an earlier process may have been asked to
  parts_.state.WatchInbound([this](const Sa& sa, bool there) { SteerSa(sa, there); });
  auto mirror = NetlinkMirror::Open(
      NetworkPorts(parts_.ports), parts_.config.routes,
      {.routes =
           [this](FibInput input) {
             auto fib = Fib::Build(std::move(input));
             if (fib) {
               parts_.state.Publish(std::move(*fib));
             } else {
               spdlog::error("routes not taken over: {}", fib.error().Text());
             }
           },
       .own_addresses = [this](uint16_t port,
                               const std::vector<Address>& own) { SetOwnAddresses(port, own); },
       .link =
           [this](uint16_t port, bool up) {
             const Port* changed = parts_.ports.FindId(port);
             const std::string text =
                 fmt::format("port {} is {}", changed->name, up ? "up" : "down");
             spdlog::info("{}", text);
             Publish(up ? "port_up" : "port_down", "", "", text);
           }});
  if (!mirror) return tl::unexpected(mirror.error());
  mirror_ = std::move(*mirror);

  auto users = ResolveUsers(parts_.config.steering.users);
  if (!users) return tl::unexpected(users.error());
  auto server =
      SteerServer::Listen(parts_.config.steering.socket, std::move(*users),
                          [this](const steer::Request& request, steer::Response& response) {
                            Handle(request, response);
                          });
  if (!server) return tl::unexpected(server.error());
  server_ = std::make_unique<SteerServer>(std::move(*server));
  return {};
}

void Supervisor::Run(const volatile std::sig_atomic_t& stop) {
  while (stop == 0) {
    server_->Poll(kTick);
    if (auto ran = mirror_->Run(); !ran) spdlog::warn("netlink: {}", ran.error().Text());
    ServeWorkers();
    if (watch_until_boot_ns_ != 0) TakeDrops();
    if (BootNs() >= next_second_boot_ns_) {
      next_second_boot_ns_ = BootNs() + kSecondNs;
      EachSecond();
    }
  }
}

// ---- for workers

void Supervisor::ServeWorkers() {
  constexpr unsigned kAtOnce = 64;
  MainMessage messages[kAtOnce];
  const unsigned count = rte_ring_sc_dequeue_burst_elem(parts_.shared.to_main, messages,
                                                        sizeof(MainMessage), kAtOnce, nullptr);
  for (const MainMessage& message : std::span(messages, count)) {
    switch (message.kind) {
      case MainMessage::Kind::resolve:
        mirror_->Resolve(message.port, message.address);
        break;
      case MainMessage::Kind::touch:
        mirror_->Touch(message.port, message.address);
        break;
      case MainMessage::Kind::suspect:
        SuspectSa(message.spi, message.address);
        break;
      case MainMessage::Kind::pmtu:
        LearnPathMtu(message);
        break;
    }
  }
}

// Anybody can send an ICMP error. It is believed only when it quotes an SPI that we send under and
// a number that we sent lately, only downwards, and not below what every path must carry.
void Supervisor::LearnPathMtu(const MainMessage& message) {
  constexpr uint16_t kFloorV4 = 576;
  constexpr uint16_t kFloorV6 = 1280;
  Sa* sa = parts_.state.FindOutbound(message.address, message.spi);
  if (sa == nullptr) return;
  const uint64_t highest = ReadShared(sa->record->highest);
  const uint32_t behind = static_cast<uint32_t>(highest) - message.sequence;
  if (behind >= kRecentPackets || behind >= highest) return;  // long ago, or never sent
  const uint16_t mtu = std::max(message.mtu, message.address.IsV4() ? kFloorV4 : kFloorV6);
  const uint16_t now = sa->pmtu.load(std::memory_order_relaxed);
  const NextHop* hop =
      parts_.state.fib() == nullptr ? nullptr : parts_.state.fib()->Lookup(message.address);
  const uint16_t link = hop == nullptr ? UINT16_MAX : hop->mtu;
  if (mtu >= (now == 0 ? link : now)) return;
  sa->pmtu_until_boot_ns = BootNs() + kPmtuAgeNs;
  sa->pmtu.store(mtu, std::memory_order_relaxed);
  spdlog::info("path MTU to {} is {} (SA {})", message.address.Text(), mtu, sa->spec.id);
}

void Supervisor::SetOwnAddresses(uint16_t port, const std::vector<Address>& addresses) {
  const Port* changed = parts_.ports.FindId(port);
  if (changed == nullptr) return;
  if (changed->xdp) {
    if (auto set = changed->xdp->SetOwnAddresses(addresses); !set) {
      spdlog::error("port {}: {}", changed->name, set.error().Text());
    }
  }
  hosts_[port] = addresses;
  // A vdev on an interface that the kernel does not use has only the configured ones.
  for (const InterfaceAddress& configured : changed->addresses) {
    hosts_[port].push_back(configured.address);
  }
  parts_.state.Publish(std::make_unique<const HostAddresses>(hosts_));
}

// ---- what ends by itself

void Supervisor::EachSecond() {
  parts_.state.CheckDeadlines(BootNs());
  CatchUpXdp();
  for (const auto& [id, sa] : parts_.state.sas()) ReportSa(*sa);
  RefreshTelemetry(*this);
}

void Supervisor::ReportSa(Sa& sa) {
  const SaRecord& record = *sa.record;
  const auto reached = [&](const Limits& limits) {
    const uint64_t age = (BootNs() - record.born_boot_ns) / kSecondNs;
    return (limits.seconds != 0 && age >= limits.seconds) ||
           (limits.packets != 0 && ReadShared(record.packets) >= limits.packets) ||
           (limits.bytes != 0 && ReadShared(record.bytes) >= limits.bytes);
  };
  if (!sa.soft_reported && reached(sa.spec.soft)) {
    sa.soft_reported = true;
    Publish("sa_soft_expired", sa.spec.id, sa.spec.peer, "soft lifetime reached: re-key");
  }
  if (!sa.hard_reported && (sa.expired.load(std::memory_order_relaxed) || reached(sa.spec.hard))) {
    sa.hard_reported = true;
    sa.expired.store(true, std::memory_order_relaxed);
    Publish("sa_hard_expired", sa.spec.id, sa.spec.peer, "hard lifetime reached");
  }
  const bool suspect = sa.auth.Suspect(rte_rdtsc());
  if (suspect != sa.suspect_reported) {
    sa.suspect_reported = suspect;
    Publish(suspect ? "sa_suspect" : "sa_unsuspect", sa.spec.id, sa.spec.peer,
            suspect ? "too many failed integrity checks: strangers' packets are throttled"
                    : "no more failed integrity checks");
  }
}

void Supervisor::Publish(std::string kind, std::string sa, std::string peer, std::string text) {
  if (!server_) return;
  steer::Event event;
  event.set_number(++events_);
  event.set_boot_ns(BootNs());
  event.set_wall_ms(static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(
                                              std::chrono::system_clock::now().time_since_epoch())
                                              .count()));
  event.set_kind(std::move(kind));
  event.set_sa(std::move(sa));
  event.set_peer(std::move(peer));
  event.set_text(std::move(text));
  server_->Publish(event);
}

CounterValues Supervisor::Total() const {
  CounterValues total;
  for (const auto& worker : parts_.workers) total += worker->counters().Read();
  return total;
}

}  // namespace portcullis
