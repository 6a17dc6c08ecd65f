#include "dataplane/steer/convert.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "dataplane/steer/messages.hpp"

namespace portcullis::steer {
namespace {

constexpr uint32_t kFirstSpi = 256;  // RFC 4303 2.1: 1..255 are reserved
constexpr uint32_t kMinReplayWindow = 64;

// Ends the conversion of a message at the first field that is wrong.
#define PORTCULLIS_TRY(into, expression)              \
  if (auto result = (expression); result) {           \
    (into) = std::move(*result);                      \
  } else {                                            \
    return tl::unexpected(std::move(result.error())); \
  }

Result<PortRange> ToPorts(const Ports& message, const std::string& where) {
  if (message.first() > message.last() || message.last() > UINT16_MAX) {
    return Invalid(where, "not a port range", "first <= last <= 65535",
                   fmt::format("{}..{}", message.first(), message.last()));
  }
  return PortRange{static_cast<uint16_t>(message.first()), static_cast<uint16_t>(message.last())};
}

Result<portcullis::Selector> ToSelector(const Selector& message, const std::string& where) {
  portcullis::Selector selector;
  if (message.has_local()) {
    PORTCULLIS_TRY(selector.local, FromMessage(message.local(), where + ".local"));
  }
  if (message.has_remote()) {
    PORTCULLIS_TRY(selector.remote, FromMessage(message.remote(), where + ".remote"));
  }
  if (message.protocol() > UINT8_MAX) {
    return Invalid(where + ".protocol", "not an IP protocol number", "0 to 255",
                   std::to_string(message.protocol()));
  }
  selector.protocol = static_cast<uint8_t>(message.protocol());
  if (message.has_local_ports()) {
    PORTCULLIS_TRY(selector.local_ports, ToPorts(message.local_ports(), where + ".local_ports"));
  }
  if (message.has_remote_ports()) {
    PORTCULLIS_TRY(selector.remote_ports, ToPorts(message.remote_ports(), where + ".remote_ports"));
  }
  return selector;
}

portcullis::Rate ToRate(const Rate& message) {
  portcullis::Rate rate{message.packets_per_second(), message.bits_per_second()};
  if (message.burst_ms() != 0) rate.burst_ms = message.burst_ms();
  return rate;
}

Result<PeerPolicy> ToPeer(const Peer& message, const std::string& where) {
  PeerPolicy peer{.name = message.name(),
                  .tenant = message.tenant(),
                  .rate = ToRate(message.rate()),
                  .deadline_boot_ns = message.grant_deadline_boot_ns()};
  if (peer.name.empty()) return Invalid(where + ".name", "a peer needs a name");
  for (int i = 0; i < message.prefixes_size(); ++i) {
    portcullis::Prefix prefix;
    PORTCULLIS_TRY(prefix,
                   FromMessage(message.prefixes(i), fmt::format("{}.prefixes[{}]", where, i)));
    peer.prefixes.push_back(prefix);
  }
  for (int i = 0; i < message.rules_size(); ++i) {
    portcullis::Selector selector;
    PORTCULLIS_TRY(selector, ToSelector(message.rules(i).selector(),
                                        fmt::format("{}.rules[{}].selector", where, i)));
    peer.rules.push_back(selector);
  }
  return peer;
}

Result<Address> ToAddress(const std::string& bytes, const std::string& where) {
  if (const auto address = FromBytes(bytes)) return *address;
  return Invalid(where, "not an address", "4 or 16 bytes", fmt::format("{} bytes", bytes.size()));
}

Result<portcullis::Tunnel> ToTunnel(const Tunnel& message, portcullis::Direction direction) {
  portcullis::Tunnel tunnel;
  PORTCULLIS_TRY(tunnel.local, ToAddress(message.local(), "tunnel.local"));
  const bool anywhere = message.remote().empty() && direction == portcullis::Direction::inbound;
  if (!anywhere) {
    PORTCULLIS_TRY(tunnel.remote, ToAddress(message.remote(), "tunnel.remote"));
    if (tunnel.local.IsV4() != tunnel.remote.IsV4()) {
      return Invalid("tunnel", "the addresses are of different families", "both IPv4 or both IPv6",
                     tunnel.local.Text() + ", " + tunnel.remote.Text());
    }
  }
  const auto port = [](uint32_t value) { return static_cast<uint16_t>(value == 0 ? 4500 : value); };
  if (message.local_port() > UINT16_MAX || message.remote_port() > UINT16_MAX) {
    return Invalid("tunnel", "not a UDP port", "0 to 65535",
                   std::to_string(std::max(message.local_port(), message.remote_port())));
  }
  if (!DontFragment_IsValid(message.df())) {
    return Invalid("tunnel.df", "not a way to set DF", "DF_COPY, DF_SET or DF_CLEAR",
                   std::to_string(message.df()));
  }
  tunnel.local_port = port(message.local_port());
  tunnel.remote_port = port(message.remote_port());
  tunnel.udp_encap = message.udp_encap();
  tunnel.follow_nat = message.follow_nat();
  tunnel.df = static_cast<portcullis::DontFragment>(message.df());
  tunnel.copy_dscp = message.copy_dscp();
  return tunnel;
}

Result<portcullis::Algorithm> ToAlgorithm(Algorithm message) {
  switch (message) {
    case AES_128_GCM_16:
      return portcullis::Algorithm::aes_128_gcm_16;
    case AES_256_GCM_16:
      return portcullis::Algorithm::aes_256_gcm_16;
    case CHACHA20_POLY1305:
      return portcullis::Algorithm::chacha20_poly1305;
    case AES_128_CBC_HMAC_SHA_256_128:
      return portcullis::Algorithm::aes_128_cbc_hmac_sha_256_128;
    case AES_256_CBC_HMAC_SHA_256_128:
      return portcullis::Algorithm::aes_256_cbc_hmac_sha_256_128;
    default:
      return Invalid("algorithm", "not an algorithm that can be configured",
                     "one of steer.Algorithm", std::to_string(message));
  }
}

Result<portcullis::SourceLimit> ToLimit(const SourceLimit& message, const std::string& where) {
  constexpr uint64_t kMost = 1'000'000'000;  // a bucket counts the nanoseconds between two
  if (message.per_second() > kMost || (message.per_second() != 0 && message.burst() == 0)) {
    return Invalid(where, "not a limit",
                   fmt::format("per_second of at most {}, and a burst of 1 or more", kMost),
                   fmt::format("{} and {}", message.per_second(), message.burst()));
  }
  return portcullis::SourceLimit{message.per_second(), message.burst()};
}

Result<std::vector<ServiceRange>> ToServices(
    const google::protobuf::RepeatedPtrField<Service>& messages, const std::string& where) {
  std::vector<ServiceRange> services;
  for (const Service& message : messages) {
    const std::string at = fmt::format("{}[{}]", where, services.size());
    if (message.protocol() > UINT8_MAX) {
      return Invalid(at + ".protocol", "not an IP protocol number", "0 to 255",
                     std::to_string(message.protocol()));
    }
    ServiceRange& service = services.emplace_back();
    service.protocol = static_cast<uint8_t>(message.protocol());
    if (!message.has_ports()) continue;
    PortRange ports;
    PORTCULLIS_TRY(ports, ToPorts(message.ports(), at + ".ports"));
    service.first = ports.first;
    service.last = ports.last;
  }
  return services;
}

// In the prefixes' order, so that one that stands twice is seen.
Result<std::vector<portcullis::SourceRule>> ToSources(const FirstLine& message) {
  std::vector<portcullis::SourceRule> sources;
  sources.reserve(static_cast<size_t>(message.sources_size()));
  for (int i = 0; i < message.sources_size(); ++i) {
    portcullis::SourceRule& rule = sources.emplace_back();
    rule.admit = !message.sources(i).deny();
    PORTCULLIS_TRY(rule.prefix, FromMessage(message.sources(i).prefix(),
                                            fmt::format("first_line.sources[{}].prefix", i)));
  }
  std::ranges::sort(sources, {}, &portcullis::SourceRule::prefix);
  const auto twice = std::ranges::adjacent_find(sources, {}, &portcullis::SourceRule::prefix);
  if (twice != sources.end()) {
    return Invalid("first_line.sources", "a prefix stands twice", "each once",
                   twice->prefix.Text());
  }
  return sources;
}

Result<uint8_t> ToLength(uint32_t message, uint8_t most, uint8_t fallback,
                         const std::string& where) {
  if (message <= most) return message == 0 ? fallback : static_cast<uint8_t>(message);
  return Invalid(where, "not a prefix length", fmt::format("0 to {}", most),
                 std::to_string(message));
}

Result<portcullis::FirstLine> ToFirstLine(const FirstLine& message) {
  portcullis::FirstLine line;
  line.admit_strangers = !message.deny_strangers();
  line.whole_host = !message.some_of_host();
  PORTCULLIS_TRY(line.sources, ToSources(message));
  PORTCULLIS_TRY(line.ipv4_length,
                 ToLength(message.ipv4_length(), 32, line.ipv4_length, "first_line.ipv4_length"));
  PORTCULLIS_TRY(line.ipv6_length,
                 ToLength(message.ipv6_length(), 128, line.ipv6_length, "first_line.ipv6_length"));
  PORTCULLIS_TRY(line.packets, ToLimit(message.packets(), "first_line.packets"));
  PORTCULLIS_TRY(line.handshakes, ToLimit(message.handshakes(), "first_line.handshakes"));
  PORTCULLIS_TRY(line.strangers, ToLimit(message.strangers(), "first_line.strangers"));
  PORTCULLIS_TRY(line.sessions, ToServices(message.sessions(), "first_line.sessions"));
  PORTCULLIS_TRY(line.host, ToServices(message.host(), "first_line.host"));
  const size_t services = line.sessions.size() + line.host.size();
  if (services > portcullis::FirstLine::kMostServices) {
    return Invalid("first_line", "too many services",
                   fmt::format("at most {}", portcullis::FirstLine::kMostServices),
                   std::to_string(services));
  }
  return line;
}

void Fill(Selector& message, const portcullis::Selector& selector) {
  if (selector.local) *message.mutable_local() = ToMessage(*selector.local);
  if (selector.remote) *message.mutable_remote() = ToMessage(*selector.remote);
  message.set_protocol(selector.protocol);
  const auto ports = [](const PortRange& range, auto&& mutable_ports) {
    if (range.any()) return;
    mutable_ports()->set_first(range.first);
    mutable_ports()->set_last(range.last);
  };
  ports(selector.local_ports, [&] { return message.mutable_local_ports(); });
  ports(selector.remote_ports, [&] { return message.mutable_remote_ports(); });
}

void Fill(SaSpec& message, const portcullis::SaSpec& spec) {
  message.set_id(spec.id);
  message.set_peer(spec.peer);
  message.set_direction(static_cast<Direction>(spec.direction));
  message.set_spi(Value(spec.spi));
  message.set_algorithm(static_cast<Algorithm>(static_cast<int>(spec.algorithm) + 1));
  message.set_esn(spec.esn);
  message.set_replay_window(spec.replay_window);
  for (const portcullis::Selector& selector : spec.selectors) {
    Fill(*message.add_selectors(), selector);
  }
  Tunnel& tunnel = *message.mutable_tunnel();
  tunnel.set_local(ToBytes(spec.tunnel.local));
  if (spec.tunnel.remote != Address()) tunnel.set_remote(ToBytes(spec.tunnel.remote));
  tunnel.set_udp_encap(spec.tunnel.udp_encap);
  tunnel.set_local_port(spec.tunnel.local_port);
  tunnel.set_remote_port(spec.tunnel.remote_port);
  tunnel.set_follow_nat(spec.tunnel.follow_nat);
  tunnel.set_df(static_cast<DontFragment>(spec.tunnel.df));
  tunnel.set_copy_dscp(spec.tunnel.copy_dscp);
  Lifetime& lifetime = *message.mutable_lifetime();
  lifetime.set_soft_seconds(spec.soft.seconds);
  lifetime.set_soft_packets(spec.soft.packets);
  lifetime.set_soft_bytes(spec.soft.bytes);
  lifetime.set_hard_seconds(spec.hard.seconds);
  lifetime.set_hard_packets(spec.hard.packets);
  lifetime.set_hard_bytes(spec.hard.bytes);
  Rate& rate = *message.mutable_rate();
  rate.set_packets_per_second(spec.rate.packets_per_second);
  rate.set_bits_per_second(spec.rate.bits_per_second);
  rate.set_burst_ms(spec.rate.burst_ms);
  message.set_mode(RESUME);  // whoever reads it back can only go on with it
  message.set_lab(spec.lab);
  message.set_pair(spec.pair);
  message.set_note(spec.note);
  for (const portcullis::Selector& selector : spec.registered_selectors) {
    Fill(*message.add_registered_selectors(), selector);
  }
}

}  // namespace

Result<PolicyUpdate> ToPolicyUpdate(const ApplySnapshot& message) {
  PolicyUpdate update{.generation = message.generation(),
                      .full = message.full(),
                      .base_generation = message.base_generation()};
  for (int i = 0; i < message.peers_size(); ++i) {
    PeerPolicy peer;
    PORTCULLIS_TRY(peer, ToPeer(message.peers(i), fmt::format("peers[{}]", i)));
    update.peers.push_back(std::move(peer));
  }
  update.removed_peers.assign(message.removed_peers().begin(), message.removed_peers().end());
  for (int i = 0; i < message.interfaces_size(); ++i) {
    portcullis::ProtectedInterface interface { .name = message.interfaces(i).name() };
    for (int j = 0; j < message.interfaces(i).prefixes_size(); ++j) {
      portcullis::Prefix prefix;
      PORTCULLIS_TRY(prefix, FromMessage(message.interfaces(i).prefixes(j),
                                         fmt::format("interfaces[{}].prefixes[{}]", i, j)));
      interface.prefixes.push_back(prefix);
    }
    update.interfaces.push_back(std::move(interface));
  }
  for (int i = 0; i < message.bypasses_size(); ++i) {
    BypassRule rule{.name = message.bypasses(i).name()};
    PORTCULLIS_TRY(rule.selector, ToSelector(message.bypasses(i).selector(),
                                             fmt::format("bypasses[{}].selector", i)));
    update.bypasses.push_back(std::move(rule));
  }
  if (message.has_first_line()) {
    portcullis::FirstLine line;
    PORTCULLIS_TRY(line, ToFirstLine(message.first_line()));
    update.first_line = std::make_shared<const portcullis::FirstLine>(std::move(line));
  }
  return update;
}

Result<portcullis::SaSpec> ToSaSpec(const SaSpec& message, const DataplaneConfig& config) {
  portcullis::SaSpec spec;
  spec.id = message.id();
  spec.peer = message.peer();
  spec.direction = static_cast<portcullis::Direction>(message.direction());
  spec.spi = Spi{message.spi()};
  spec.esn = message.esn();
  spec.mode = message.mode() == RESUME ? SaMode::resume : SaMode::fresh;
  spec.lab = message.lab();
  spec.replaces = message.replaces();
  spec.pair = message.pair();
  spec.note = message.note();
  spec.registered_seconds = message.registered_seconds();
  spec.rate = ToRate(message.rate());
  const Lifetime& lifetime = message.lifetime();
  spec.soft = {lifetime.soft_seconds(), lifetime.soft_packets(), lifetime.soft_bytes()};
  spec.hard = {lifetime.hard_seconds(), lifetime.hard_packets(), lifetime.hard_bytes()};

  if (spec.id.empty()) return Invalid("id", "an SA needs a name");
  constexpr size_t kLongestNote = 4096;
  if (spec.note.size() > kLongestNote) {
    return Invalid("note", "too long", fmt::format("at most {} bytes", kLongestNote),
                   fmt::format("{} bytes", spec.note.size()));
  }
  if (!Direction_IsValid(message.direction())) {
    return Invalid("direction", "not a direction", "INBOUND or OUTBOUND",
                   std::to_string(message.direction()));
  }
  if (message.spi() < kFirstSpi) {
    return Invalid("spi", "the SPI is reserved", "256 to 4294967295",
                   std::to_string(message.spi()));
  }
  PORTCULLIS_TRY(spec.algorithm, ToAlgorithm(message.algorithm()));
  const AlgorithmInfo& algorithm = Info(spec.algorithm);
  if (message.key().size() != algorithm.key_bytes) {
    return Invalid("key", fmt::format("the key does not fit {}", algorithm.name),
                   fmt::format("{} bytes", algorithm.key_bytes),
                   fmt::format("{} bytes", message.key().size()));
  }
  const uint32_t window = message.replay_window();
  if (spec.direction == portcullis::Direction::inbound) {
    const bool none = window == 0 && config.lab;
    if (!none && (window < kMinReplayWindow || window > config.sas.max_replay_window)) {
      return Invalid("replay_window", "the anti-replay window cannot be kept",
                     fmt::format("{} to {} packets{}", kMinReplayWindow,
                                 config.sas.max_replay_window, config.lab ? ", or 0 for none" : ""),
                     std::to_string(window));
    }
    spec.replay_window = static_cast<uint16_t>(window);
  } else {
    spec.replay_window = 0;
  }
  if (message.selectors_size() == 0) {
    return Invalid("selectors", "an SA without selectors admits nothing", "at least one");
  }
  for (int i = 0; i < message.selectors_size(); ++i) {
    portcullis::Selector selector;
    PORTCULLIS_TRY(selector, ToSelector(message.selectors(i), fmt::format("selectors[{}]", i)));
    spec.selectors.push_back(selector);
  }
  for (int i = 0; i < message.registered_selectors_size(); ++i) {
    portcullis::Selector selector;
    PORTCULLIS_TRY(selector, ToSelector(message.registered_selectors(i),
                                        fmt::format("registered_selectors[{}]", i)));
    spec.registered_selectors.push_back(selector);
  }
  PORTCULLIS_TRY(spec.tunnel, ToTunnel(message.tunnel(), spec.direction));
  try {
    spec.key =
        Secret({reinterpret_cast<const uint8_t*>(message.key().data()), message.key().size()});
  } catch (const std::bad_alloc&) {
    return Fail(ErrorKind::kExhausted,
                "no memory could be locked for another key: raise RLIMIT_MEMLOCK (LimitMEMLOCK=)");
  }
  return spec;
}

SaState ToMessage(const Sa& sa, bool with_key, uint64_t now_tsc, uint64_t boot_ns) {
  SaState state;
  Fill(*state.mutable_spec(), sa.spec);
  if (with_key) {
    state.mutable_spec()->set_key(sa.spec.key.bytes().data(), sa.spec.key.size());
  }
  if (sa.registered && boot_ns < sa.registered_until_boot_ns) {
    state.mutable_spec()->set_registered_seconds((sa.registered_until_boot_ns - boot_ns) /
                                                 kNsPerSecond);
  }
  const SaRecord& record = *sa.record;
  state.set_fingerprint(sa.fingerprint);
  state.set_worker(sa.worker);
  state.set_sequence(ReadShared(record.highest));
  state.set_packets(ReadShared(record.packets));
  state.set_bytes(ReadShared(record.bytes));
  state.set_soft_expired(sa.soft_reported);
  state.set_hard_expired(sa.expired.load(std::memory_order_relaxed));
  state.set_suspect(sa.auth.Suspect(now_tsc));
  state.set_age_seconds((boot_ns - record.born_boot_ns) / 1'000'000'000);
  state.set_pmtu(sa.pmtu.load(std::memory_order_relaxed));
  state.set_remote(ToBytes(sa.endpoint.address()));
  state.set_remote_port(sa.endpoint.port());
  return state;
}

void Fill(Counters& message, std::string name, const CounterValues& values) {
  message.set_name(std::move(name));
  for (const uint64_t packets : values.packets) message.add_verdicts(packets);
  message.set_bytes(values.bytes);
}

}  // namespace portcullis::steer
