// The first line of the ports that are shared with the kernel: it gets the policy in the same step
// as the workers, and the SPIs as they come and go.
#include <spdlog/spdlog.h>

#include <algorithm>

#include "dataplane/supervisor.hpp"

namespace portcullis {

namespace {

constexpr uint64_t kSecondNs = 1'000'000'000;
constexpr uint64_t kLookEachNs = kSecondNs / 20;
constexpr size_t kMostAtOnce = 50;      // of a port: a thousand a second, what people can look at
constexpr uint32_t kLongestWatch = 60;  // seconds
constexpr auto kNsPerMs = 1'000'000;
constexpr auto kSuspectFor = std::chrono::seconds(1);  // see Worker::TellSuspect

// What comes from inside is the workers' to judge, all of it.
bool GoesByPolicy(const Port& port) {
  return port.xdp && port.role == PortRole::kUntrusted;
}

// The prefixes behind the gate, and the peers'.
std::vector<Prefix> ProtectedNets(const Snapshot& policy) {
  std::vector<Prefix> all;
  for (const ProtectedInterface& interface : policy.interfaces) {
    all.insert(all.end(), interface.prefixes.begin(), interface.prefixes.end());
  }
  for (const auto& peer : policy.policies) {
    if (peer) all.insert(all.end(), peer->prefixes.begin(), peer->prefixes.end());
  }
  std::ranges::sort(all);
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

}  // namespace

// Nothing is in force yet; what one port refuses, all refuse.
Result<void> Supervisor::PrepareXdp(const Snapshot& policy) {
  const XdpPolicy wanted{.generation = policy.generation,
                         .protected_nets = ProtectedNets(policy),
                         .cleartext = !policy.bypasses.empty(),
                         .first_line = *policy.first_line};
  for (Port& port : parts_.ports.all()) {
    if (!GoesByPolicy(port)) continue;
    if (auto prepared = port.xdp->Prepare(wanted); !prepared) {
      Error error = prepared.error();
      error.message = fmt::format("port {}: {}", port.name, error.message);
      return tl::unexpected(std::move(error));
    }
  }
  return {};
}

void Supervisor::CommitXdp() {
  for (Port& port : parts_.ports.all()) {
    if (!GoesByPolicy(port)) continue;
    if (auto done = port.xdp->Commit(); !done) {
      spdlog::error("port {}: the first line is still that of policy {}: {}", port.name,
                    port.xdp->generation(), done.error().Text());
    }
  }
}

// A system call may have failed. Status shows the generation that each port has.
void Supervisor::CatchUpXdp() {
  const Snapshot* policy = parts_.state.snapshot();
  if (policy == nullptr) return;  // what an earlier process left stays
  const bool behind = std::ranges::any_of(parts_.ports.all(), [&](const Port& port) {
    return GoesByPolicy(port) && port.xdp->generation() != policy->generation;
  });
  if (!behind) return;
  if (auto prepared = PrepareXdp(*policy); !prepared) {
    spdlog::error("first line: {}", prepared.error().Text());
    return;
  }
  CommitXdp();
}

void Supervisor::SteerSa(const Sa& sa, bool there) {
  for (const Port& port : parts_.ports.all()) {
    if (!GoesByPolicy(port)) continue;
    if (there) {
      port.xdp->spis().Add(sa.spi, static_cast<uint32_t>(sa.oldest));
    } else {
      port.xdp->spis().Remove(sa.spi);
      // Not its successor's, should that have the same SPI.
      if (sa.suspicion.until != 0) (void)port.xdp->Suspect(sa.spi, {}, {});
    }
  }
}

void Supervisor::SuspectSa(Spi spi, const Address& endpoint) {
  for (const Port& port : parts_.ports.all()) {
    if (!GoesByPolicy(port)) continue;
    if (auto done = port.xdp->Suspect(spi, endpoint, kSuspectFor); !done) {
      spdlog::warn("port {}: {}", port.name, done.error().Text());
    }
  }
}

std::optional<XdpCounters> Supervisor::XdpTotal() const {
  std::optional<XdpCounters> total;
  for (const Port& port : parts_.ports.all()) {
    if (!port.xdp) continue;
    if (!total) total.emplace();
    const XdpCounters own = port.xdp->Read();
    std::ranges::transform(total->packets, own.packets, total->packets.begin(), std::plus<>());
  }
  return total;
}

// ---- drops, for people to look at

void Supervisor::WatchDrops(const steer::WatchDrops& request) {
  const uint32_t seconds = std::min(request.seconds(), kLongestWatch);
  if (watch_until_boot_ns_ == 0) {  // what is left of the last time is old
    for (Port& port : parts_.ports.all()) {
      while (port.xdp && !port.xdp->TakeDrops(kMostAtOnce).empty()) {
      }
    }
  }
  watch_until_boot_ns_ = seconds == 0 ? 0 : BootNs() + seconds * kSecondNs;
  const uint32_t one_in = seconds == 0 ? 0 : std::max(request.one_in(), 1U);
  for (Port& port : parts_.ports.all()) {
    if (!port.xdp) continue;
    if (auto done = port.xdp->WatchDrops(one_in); !done) {
      spdlog::warn("port {}: {}", port.name, done.error().Text());
    }
  }
}

void Supervisor::TakeDrops() {
  const uint64_t now = BootNs();
  if (now < next_look_boot_ns_) return;
  next_look_boot_ns_ = now + kLookEachNs;
  timespec monotonic{};
  clock_gettime(CLOCK_MONOTONIC, &monotonic);
  const auto since_boot =
      std::chrono::seconds(monotonic.tv_sec) + std::chrono::nanoseconds(monotonic.tv_nsec);
  const auto wall = std::chrono::system_clock::now().time_since_epoch();
  for (Port& port : parts_.ports.all()) {
    if (!port.xdp) continue;
    for (const XdpDrop& drop : port.xdp->TakeDrops(kMostAtOnce)) {
      steer::Drop message;
      message.set_wall_ms(
          static_cast<uint64_t>((wall - (since_boot - drop.at)).count() / kNsPerMs));
      message.set_port(port.name);
      message.set_verdict(fmt::format("xdp_{}", Info(drop.verdict).name));
      message.set_length(drop.length);
      message.set_frame(drop.frame.data(), drop.frame.size());
      server_->Publish(message);
    }
  }
  // Whoever looked has gone without saying so.
  if (now >= watch_until_boot_ns_) WatchDrops({});
}

}  // namespace portcullis
