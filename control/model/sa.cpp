#include "control/model/sa.hpp"

#include <charconv>
#include <nlohmann/json.hpp>

#include "control/model/compile.hpp"
#include "control/model/fields.hpp"
#include "control/model/json.hpp"
#include "dataplane/crypto/engine.hpp"
#include "dataplane/steer/messages.hpp"

namespace portcullis::model {

using nlohmann::json;
using enum Fields::Presence;

namespace {

constexpr uint32_t kLeastWindow = 64;
constexpr uint32_t kMostWindow = 8192;
constexpr uint32_t kUsualWindow = 1024;
constexpr uint32_t kLeastSpi = 256;  // RFC 4303 2.1 reserves 1..255, 0 is for local use

constexpr Choices<steer::Direction, 2> kDirections = {
    {{"inbound", steer::INBOUND}, {"outbound", steer::OUTBOUND}}};
constexpr Choices<steer::DontFragment, 3> kDf = {
    {{"copy", steer::DF_COPY}, {"set", steer::DF_SET}, {"clear", steer::DF_CLEAR}}};
constexpr Choices<Protocol, 6> kSelectorProtocols = {{{"any", Protocol::any},
                                                      {"tcp", Protocol::tcp},
                                                      {"udp", Protocol::udp},
                                                      {"sctp", Protocol::sctp},
                                                      {"icmp", Protocol::icmp},
                                                      {"icmpv6", Protocol::icmpv6}}};

// The schema's numbers are the engine's list, from 1.
constexpr Choices<steer::Algorithm, kAlgorithms.size()> kAlgorithmChoices = [] {
  Choices<steer::Algorithm, kAlgorithms.size()> out{};
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = {kAlgorithms[i].name, static_cast<steer::Algorithm>(i + 1)};
  }
  return out;
}();

std::string Bytes(const Address& a) {
  const auto wire = a.wire();
  return {reinterpret_cast<const char*>(wire.data()), wire.size()};
}

uint32_t ReadSpi(Fields& fields) {
  const json* value = fields.Find("spi", required);
  if (value == nullptr) return 0;
  constexpr size_t kLength = 10;  // 0x and 8 digits
  uint32_t spi = 0;
  if (value->is_string()) {
    const auto& text = value->get_ref<const std::string&>();
    if (text.size() == kLength && text.starts_with("0x")) {
      const char* end = text.data() + text.size();
      const auto [stop, failed] = std::from_chars(text.data() + 2, end, spi, 16);
      if (failed == std::errc() && stop == end && spi >= kLeastSpi) return spi;
    }
  }
  fields.Refuse("spi", "not an SPI", "\"0x\" and 8 hex digits, 0x00000100 to 0xffffffff",
                Describe(*value));
  return 0;
}

// Hex into locked memory. The caller wipes the text.
Secret ReadKey(Fields& fields, const AlgorithmInfo& algorithm) {
  const json* value = fields.Find("key", required);
  if (value == nullptr) return {};
  const std::string expected =
      fmt::format("{} hex digits for {}", 2 * algorithm.key_bytes, algorithm.name);
  if (!value->is_string()) {
    fields.Refuse("key", "not a key", expected, std::string("a ") + value->type_name());
    return {};
  }
  const auto& text = value->get_ref<const std::string&>();
  std::vector<uint8_t> bytes(text.size() / 2);
  bool valid = text.size() == 2U * algorithm.key_bytes;
  if (!valid) {
    fields.Refuse("key", "the key has the wrong length", expected,
                  std::to_string(text.size()) + " characters");
    return {};
  }
  for (size_t i = 0; i < bytes.size() && valid; ++i) {
    const char* digits = text.data() + 2 * i;
    const auto [stop, failed] = std::from_chars(digits, digits + 2, bytes[i], 16);
    valid = failed == std::errc() && stop == digits + 2;
  }
  Secret key;
  if (valid) {
    key = Secret(bytes);
  } else {
    fields.Refuse("key", "the key is not hex", expected, "another character");
  }
  Wipe(bytes);
  return key;
}

void ReadPortRange(Fields& fields, const char* field, std::optional<Error>& error,
                   Protocol protocol, steer::Ports* (*into)(steer::Selector&),
                   steer::Selector& selector) {
  const json* value = fields.Object(field, optional);
  if (value == nullptr) return;
  if (!HasPorts(protocol)) {
    fields.Refuse(field, "ports without a protocol that has them", "protocol tcp, udp or sctp",
                  std::string(TextOf(kSelectorProtocols, protocol)));
    return;
  }
  Fields range(*value, fields.Pointer(field), error);
  const auto first = static_cast<uint32_t>(range.Number("first", 0, kMostPort));
  const auto last = static_cast<uint32_t>(range.Number("last", 0, kMostPort));
  if (first > last) {
    range.Refuse("last", "the range ends before it starts", fmt::format("{} or more", first),
                 std::to_string(last));
  }
  range.RefuseOthers();
  into(selector)->set_first(first);
  into(selector)->set_last(last);
}

void ReadSelector(const json& value, const std::string& where, std::optional<Error>& error,
                  steer::Selector& out) {
  Fields fields(value, where, error);
  const auto local = fields.Net("local");
  const auto remote = fields.Net("remote");
  if (local && remote && local->IsV4() != remote->IsV4()) {
    fields.Refuse("remote", "the two ends of a selector are of different families",
                  local->IsV4() ? "an IPv4 prefix" : "an IPv6 prefix", remote->Text());
  }
  if (local) *out.mutable_local() = steer::ToMessage(*local);
  if (remote) *out.mutable_remote() = steer::ToMessage(*remote);
  const Protocol protocol = fields.Choice("protocol", kSelectorProtocols, {Protocol::any});
  out.set_protocol(static_cast<uint32_t>(protocol));
  ReadPortRange(
      fields, "local_ports", error, protocol,
      [](steer::Selector& s) { return s.mutable_local_ports(); }, out);
  ReadPortRange(
      fields, "remote_ports", error, protocol,
      [](steer::Selector& s) { return s.mutable_remote_ports(); }, out);
  fields.RefuseOthers();
}

void ReadTunnel(const json& value, const std::string& where, std::optional<Error>& error,
                bool outbound, steer::Tunnel& out) {
  Fields fields(value, where, error);
  const auto local = fields.Ip("local", required);
  const auto remote = fields.Ip("remote", outbound ? required : optional);
  if (local && remote && local->IsV4() != remote->IsV4()) {
    fields.Refuse("remote", "the tunnel's addresses are of different families",
                  local->IsV4() ? "an IPv4 address" : "an IPv6 address", remote->Text());
  }
  if (local) out.set_local(Bytes(*local));
  if (remote) out.set_remote(Bytes(*remote));
  out.set_udp_encap(fields.Flag("udp_encap", false));
  out.set_local_port(static_cast<uint32_t>(fields.Number("local_port", 1, kMostPort, 0)));
  out.set_remote_port(static_cast<uint32_t>(fields.Number("remote_port", 1, kMostPort, 0)));
  out.set_follow_nat(fields.Flag("follow_nat", false));
  out.set_df(fields.Choice("df", kDf, {steer::DF_COPY}));
  out.set_copy_dscp(fields.Flag("copy_dscp", false));
  fields.RefuseOthers();
}

void ReadLifetime(Fields& outer, std::optional<Error>& error, steer::Lifetime& out) {
  const json* value = outer.Object("lifetime", optional);
  if (value == nullptr) return;
  constexpr uint64_t kMost = uint64_t{1} << 53U;  // what every JSON reader can hold
  Fields fields(*value, outer.Pointer("lifetime"), error);
  const auto pair = [&](const char* soft_field, const char* hard_field) {
    const uint64_t soft = fields.Number(soft_field, 0, kMost, 0);
    const uint64_t hard = fields.Number(hard_field, 0, kMost, 0);
    if (hard != 0 && soft > hard) {
      fields.Refuse(soft_field, "the soft limit lies beyond the hard one",
                    fmt::format("at most {}", hard), std::to_string(soft));
    }
    return std::pair(soft, hard);
  };
  const auto seconds = pair("soft_seconds", "hard_seconds");
  const auto packets = pair("soft_packets", "hard_packets");
  const auto bytes = pair("soft_bytes", "hard_bytes");
  fields.RefuseOthers();
  out.set_soft_seconds(seconds.first);
  out.set_hard_seconds(seconds.second);
  out.set_soft_packets(packets.first);
  out.set_hard_packets(packets.second);
  out.set_soft_bytes(bytes.first);
  out.set_hard_bytes(bytes.second);
}

void ReadWindow(Fields& fields, bool inbound, bool lab, steer::SaSpec& out) {
  const json* value = fields.Find("replay_window", optional);
  if (!inbound) {
    if (value != nullptr) {
      fields.Refuse("replay_window", "only inbound security associations have a replay window",
                    "no replay_window", Describe(*value));
    }
    return;
  }
  out.set_replay_window(kUsualWindow);
  if (value == nullptr) return;
  const auto window = AsUnsigned(*value);
  if (window && ((*window >= kLeastWindow && *window <= kMostWindow) || (*window == 0 && lab))) {
    out.set_replay_window(static_cast<uint32_t>(*window));
    return;
  }
  fields.Refuse("replay_window", "not an admitted replay window",
                lab ? "64 to 8192 packets, or 0 for none" : "64 to 8192 packets", Describe(*value));
}

json SelectorJson(const steer::Selector& s) {
  json out = json::object();
  const auto net = [&](const char* field, const steer::Prefix& p) {
    if (const auto prefix = steer::FromMessage(p, field)) out[field] = prefix->Text();
  };
  if (s.has_local()) net("local", s.local());
  if (s.has_remote()) net("remote", s.remote());
  out["protocol"] = TextOf(kSelectorProtocols, static_cast<Protocol>(s.protocol()));
  const auto range = [&](const char* field, const steer::Ports& p) {
    out[field] = {{"first", p.first()}, {"last", p.last()}};
  };
  if (s.has_local_ports()) range("local_ports", s.local_ports());
  if (s.has_remote_ports()) range("remote_ports", s.remote_ports());
  return out;
}

json TunnelJson(const steer::Tunnel& t) {
  json out = {{"udp_encap", t.udp_encap()},
              {"follow_nat", t.follow_nat()},
              {"df", TextOf(kDf, t.df())},
              {"copy_dscp", t.copy_dscp()}};
  if (const auto local = steer::FromBytes(t.local())) out["local"] = local->Text();
  if (const auto remote = steer::FromBytes(t.remote())) out["remote"] = remote->Text();
  if (t.udp_encap() && t.local_port() != 0) out["local_port"] = t.local_port();
  if (t.udp_encap() && t.remote_port() != 0) out["remote_port"] = t.remote_port();
  return out;
}

json LifetimeJson(const steer::Lifetime& l) {
  json out = json::object();
  const auto put = [&](const char* field, uint64_t value) {
    if (value != 0) out[field] = value;
  };
  put("soft_seconds", l.soft_seconds());
  put("hard_seconds", l.hard_seconds());
  put("soft_packets", l.soft_packets());
  put("hard_packets", l.hard_packets());
  put("soft_bytes", l.soft_bytes());
  put("hard_bytes", l.hard_bytes());
  return out;
}

json LiveJson(const steer::SaState& s) {
  json out = {{"worker", s.worker()},
              {"sequence", s.sequence()},
              {"packets", s.packets()},
              {"bytes", s.bytes()},
              {"soft_expired", s.soft_expired()},
              {"hard_expired", s.hard_expired()},
              {"suspect", s.suspect()},
              {"age_seconds", s.age_seconds()},
              {"pmtu", s.pmtu()},
              {"remote_port", s.remote_port()}};
  if (const auto remote = steer::FromBytes(s.remote())) out["remote"] = remote->Text();
  return out;
}

}  // namespace

Result<Sa> ParseSa(json& value, bool lab) {
  std::optional<Error> error;
  Fields fields(value, "", error);
  Sa sa;
  sa.spec.set_id(fields.Name("id"));
  sa.spec.set_peer(fields.Name("peer"));
  const auto direction = fields.Choice("direction", kDirections);
  const bool inbound = direction == steer::INBOUND;
  sa.spec.set_direction(direction);
  sa.spec.set_spi(ReadSpi(fields));
  const auto algorithm = fields.Choice("algorithm", kAlgorithmChoices);
  sa.spec.set_algorithm(algorithm);
  const AlgorithmInfo& info = kAlgorithms[static_cast<size_t>(algorithm) - 1];
  sa.key = ReadKey(fields, info);
  sa.spec.set_esn(fields.Flag("esn", true));
  ReadWindow(fields, inbound, lab, sa.spec);
  fields.Each("selectors", required, [&](const json& element, const std::string& where) {
    ReadSelector(element, where, error, *sa.spec.add_selectors());
  });
  if (const json* tunnel = fields.Object("tunnel", required)) {
    ReadTunnel(*tunnel, "/tunnel", error, !inbound, *sa.spec.mutable_tunnel());
  }
  ReadLifetime(fields, error, *sa.spec.mutable_lifetime());
  *sa.spec.mutable_rate() = ToMessage(ReadRate(fields, error));
  sa.spec.set_pair(fields.Name("pair", optional));
  sa.spec.set_lab(true);
  fields.RefuseOthers();
  if (value.is_object() && value.contains("key") && value["key"].is_string()) {
    Wipe(value["key"].get_ref<std::string&>());
  }
  if (error) return tl::unexpected(*error);
  sa.fingerprint = KeyFingerprint(info.name, sa.key.bytes());
  return sa;
}

steer::SaSpec WithKey(const Sa& sa, steer::Mode mode) {
  steer::SaSpec spec = sa.spec;
  const auto key = sa.key.bytes();
  spec.set_key(key.data(), key.size());
  spec.set_mode(mode);
  return spec;
}

Sa Adopt(steer::SaSpec spec) {
  Sa sa;
  std::string& key = *spec.mutable_key();
  const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(key.data()), key.size());
  sa.key = Secret(bytes);
  sa.fingerprint = KeyFingerprint(TextOf(kAlgorithmChoices, spec.algorithm()), bytes);
  Wipe(key);
  spec.clear_replaces();
  sa.spec = std::move(spec);
  return sa;
}

json ToJson(const steer::SaSpec& spec, const std::string& fingerprint, const steer::SaState* live) {
  json selectors = json::array();
  for (const auto& s : spec.selectors()) selectors.push_back(SelectorJson(s));
  json out = {{"id", spec.id()},
              {"peer", spec.peer()},
              {"direction", TextOf(kDirections, spec.direction())},
              {"spi", fmt::format("0x{:08x}", spec.spi())},
              {"algorithm", TextOf(kAlgorithmChoices, spec.algorithm())},
              {"fingerprint", fingerprint},
              {"esn", spec.esn()},
              {"selectors", std::move(selectors)},
              {"tunnel", TunnelJson(spec.tunnel())},
              {"lab", spec.lab()},
              {"in_force", live != nullptr}};
  if (spec.direction() == steer::INBOUND) out["replay_window"] = spec.replay_window();
  if (json lifetime = LifetimeJson(spec.lifetime()); !lifetime.empty()) {
    out["lifetime"] = std::move(lifetime);
  }
  const Rate rate{spec.rate().packets_per_second(), spec.rate().bits_per_second(),
                  spec.rate().burst_ms()};
  if (json r = ToJson(rate); !r.empty()) out["rate"] = std::move(r);
  if (!spec.pair().empty()) out["pair"] = spec.pair();
  if (live != nullptr) out["state"] = LiveJson(*live);
  return out;
}

std::vector<Warning> WarningsOf(const steer::SaSpec& spec) {
  std::vector<Warning> warnings;
  if (spec.lab()) {
    warnings.push_back({"sa", spec.id(), "laboratory: its key was installed by hand"});
  }
  if (spec.direction() == steer::INBOUND && spec.replay_window() == 0) {
    warnings.push_back({"sa", spec.id(), "laboratory: replays are accepted"});
  }
  return warnings;
}

}  // namespace portcullis::model
