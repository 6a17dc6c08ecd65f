// One function per section of the file. The first wrong field throws (see Section);
// LoadPeerConfig() turns that into a value.
#include "control/peer/config.hpp"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <filesystem>

#include "control/model/fields.hpp"
#include "dataplane/yaml_section.hpp"

namespace portcullis::peer {

namespace {

using guard::SessionSelector;
using identity::RequiredText;
using std::chrono::seconds;

constexpr size_t kMostSocketPath = 107;  // sun_path, unix(7)

struct Reader {
  std::filesystem::path folder;
  PeerConfig config{};

  [[nodiscard]] std::string FromHere(const std::string& file) const { return folder / file; }
};

template <class T>
T Parsed(const Section& s, const char* key, const char* expected,
         Result<T> (*parse)(std::string_view)) {
  const auto value = parse(RequiredText(s, key, expected));
  if (!value) s.Refuse(key, value.error().message, expected);
  return *value;
}

// "https://host:port" and no more.
std::string ReadWebAddress(const Section& s, const char* key, bool with_path,
                           identity::WebAddress& parts) {
  const std::string expected = with_path ? "https://host[:port]/path" : "https://host:port";
  std::string url = RequiredText(s, key, expected.c_str());
  auto read = identity::ParseWebAddress(url, "");
  if (!read) s.Refuse(key, read.error().message, expected);
  if (!with_path && (!read->tls || read->target != "/" || url.ends_with('/'))) {
    s.Refuse(key, "not the beginning of the gate's URLs", expected + ", without a path");
  }
  parts = *std::move(read);
  return url;
}

void ReadGate(Reader& in, const Section& root) {
  if (!root.Has("gate")) root.Refuse("gate", "missing", "identity and url", "nothing");
  const Section s = root.Sub("gate", {"identity", "url", "address", "tls_1_2"});
  in.config.gate_identity = RequiredText(s, "identity", "the name that the gate goes by");
  in.config.gate.url = ReadWebAddress(s, "url", false, in.config.gate.parts);
  if (s.Has("address")) {
    in.config.gate.address = Parsed(s, "address", "an IP address", Address::Parse);
  }
  s.Read("tls_1_2", in.config.tls_1_2);
}

void ReadCertificate(Reader& in, const Section& root) {
  const Section s = root.Sub("certificate", {"identity", "chain", "key"});
  in.config.mode = guard::Mode::certificate;
  in.config.identity = RequiredText(s, "identity", "the first alternative name of the certificate");
  in.config.own = {in.FromHere(RequiredText(s, "chain", "a PEM file")),
                   in.FromHere(RequiredText(s, "key", "a PEM file"))};
  in.config.trust = identity::ReadTrust(root, in.folder, true, "the gate's certificate");
  in.config.profile.usage = identity::Usage::server;
  identity::ReadCertificateProfile(root, in.config.profile);
}

void ReadPsk(Reader& in, const Section& root) {
  const Section s = root.Sub("psk", {"identity", "file", "tls", "hash", "proof_key"});
  in.config.mode = guard::Mode::psk;
  identity::PskSetting& psk = in.config.psk;
  psk.identity = in.config.identity = RequiredText(s, "identity", "the key's identity");
  psk.peer = in.config.gate_identity;
  psk.use.peer = identity::PeerRole::server;
  psk.file = in.FromHere(RequiredText(s, "file", "a file of hex digits"));
  s.Read("tls", psk.use.version,
         {{"1.3", identity::TlsVersion::v1_3}, {"1.2", identity::TlsVersion::v1_2}});
  s.Read("hash", psk.use.hash,
         {{"sha256", identity::PskHash::sha256}, {"sha384", identity::PskHash::sha384}});
  in.config.proof_key = in.FromHere(RequiredText(s, "proof_key", "a P-256 key in a PEM file"));
  for (const char* other : {"anchors", "intermediates", "crls", "profile"}) {
    if (root.Has(other)) root.Refuse(other, "not of use with psk", "certificate", "psk");
  }
  if (in.config.tls_1_2) {
    root.Refuse("gate", "tls_1_2 is not of use with psk", "psk.tls, the one version of the key");
  }
}

void ReadProof(Reader& in, const Section& root) {
  if (root.Has("certificate") == root.Has("psk")) {
    root.Refuse("certificate", "one way to prove who this peer is", "either certificate or psk",
                root.Has("psk") ? "both" : "none");
  }
  if (root.Has("psk")) {
    ReadPsk(in, root);
  } else {
    ReadCertificate(in, root);
  }
}

void ReadTokenEndpoint(Reader& in, const Section& root) {
  if (!root.Has("token_endpoint")) return;
  const Section s = root.Sub("token_endpoint", {"url", "ca", "certificate", "key", "client_id"});
  TokenEndpoint endpoint;
  identity::WebAddress parts;
  endpoint.url = ReadWebAddress(s, "url", true, parts);
  if (!parts.tls) s.Refuse("url", "client credentials need TLS", "https://host[:port]/path");
  endpoint.tls = {in.FromHere(RequiredText(s, "ca", "a PEM file")),
                  in.FromHere(RequiredText(s, "certificate", "a PEM file")),
                  in.FromHere(RequiredText(s, "key", "a PEM file"))};
  endpoint.client_id = RequiredText(s, "client_id", "this peer's name with the issuer");
  in.config.token_endpoint = std::move(endpoint);
}

guard::SessionSelector::Ports ReadPorts(const Section& s, const char* key) {
  if (!s.Has(key)) return {};
  std::vector<unsigned> ports;
  s.ReadNumbers(key, ports, UINT16_MAX);
  if (ports.size() != 2 || ports[0] > ports[1]) {
    s.Refuse(key, "not a range of ports", "[first, last]");
  }
  return {static_cast<uint16_t>(ports[0]), static_cast<uint16_t>(ports[1])};
}

SessionSelector ReadSelector(const Section& s) {
  SessionSelector selector;
  selector.behind_gate = Parsed(s, "gate", "a prefix behind the gate", Prefix::Parse);
  selector.behind_peer = Parsed(s, "peer", "a prefix of this peer", Prefix::Parse);
  if (selector.behind_gate->IsV4() != selector.behind_peer->IsV4()) {
    s.Refuse("peer", "prefixes of two families", "gate and peer both IPv4 or both IPv6");
  }
  model::Protocol protocol = model::Protocol::any;
  s.Read("protocol", protocol,
         {{"any", model::Protocol::any},
          {"tcp", model::Protocol::tcp},
          {"udp", model::Protocol::udp},
          {"sctp", model::Protocol::sctp},
          {"icmp", model::Protocol::icmp},
          {"icmpv6", model::Protocol::icmpv6}});
  selector.protocol = static_cast<uint8_t>(protocol);
  for (const char* ports : {"gate_ports", "peer_ports"}) {
    if (s.Has(ports) && !model::HasPorts(protocol)) {
      s.Refuse(ports, "ports without a protocol that has them", "protocol tcp, udp or sctp");
    }
  }
  selector.gate_ports = ReadPorts(s, "gate_ports");
  selector.peer_ports = ReadPorts(s, "peer_ports");
  return selector;
}

void ReadToken(Reader& in, const Section& s, SessionSettings& session) {
  if (s.Has("token_file")) {
    session.token_file = in.FromHere(RequiredText(s, "token_file", "a file"));
    for (const char* other : {"audience", "scope"}) {
      if (s.Has(other)) s.Refuse(other, "not of use with token_file", "token_endpoint", "both");
    }
    return;
  }
  if (!in.config.token_endpoint) {
    s.Refuse("token_file", "missing", "a file, or audience and scope with token_endpoint",
             "nothing");
  }
  session.audience = RequiredText(s, "audience", "what aud will be");
  session.scope = RequiredText(s, "scope", "what the token is to admit");
}

void ReadSessions(Reader& in, const Section& root) {
  constexpr std::string_view kOffered = "of aes-256-gcm-16, aes-128-gcm-16, chacha20-poly1305";
  for (const Section& one : root.Items("sessions", {"interface", "algorithms", "selectors",
                                                    "token_file", "audience", "scope"})) {
    SessionSettings session;
    session.interface = RequiredText(one, "interface", "the interface's name in the gate's policy");
    if (!model::IsName(session.interface)) {
      one.Refuse("interface", "not a name", "1 to 63 of a-z, 0-9, '.', '_', '-'");
    }
    if (std::ranges::any_of(in.config.sessions, [&](const auto& other) {
          return other.interface == session.interface;
        })) {
      one.Refuse("interface", "the same interface twice", "each once");
    }
    session.algorithms = {Algorithm::aes_256_gcm_16, Algorithm::aes_128_gcm_16,
                          Algorithm::chacha20_poly1305};
    one.ReadList("algorithms", session.algorithms,
                 [&](const std::string& text) -> Result<Algorithm> {
                   for (size_t i = 0; i < kAlgorithms.size(); ++i) {
                     if (kAlgorithms[i].aead && kAlgorithms[i].name == text) {
                       return static_cast<Algorithm>(i);
                     }
                   }
                   return Invalid("", "not an algorithm", std::string(kOffered));
                 });
    if (session.algorithms.empty()) {
      one.Refuse("algorithms", "none", "at least one " + std::string(kOffered));
    }
    for (const Section& s :
         one.Items("selectors", {"gate", "peer", "protocol", "gate_ports", "peer_ports"})) {
      session.selectors.push_back(ReadSelector(s));
    }
    if (session.selectors.empty()) {
      one.Refuse("selectors", "missing", "what the session may carry at most", "nothing");
    }
    ReadToken(in, one, session);
    in.config.sessions.push_back(std::move(session));
  }
  if (in.config.sessions.empty()) {
    root.Refuse("sessions", "missing", "a list of interfaces", "nothing");
  }
}

void ReadOuter(Reader& in, const Section& root) {
  root.Read("udp_encap", in.config.udp_encap);
  if (!root.Has("outer")) return;
  const Section s = root.Sub("outer", {"peer", "gate"});
  if (s.Has("peer")) in.config.outer_peer = Parsed(s, "peer", "an IP address", Address::Parse);
  if (s.Has("gate")) in.config.outer_gate = Parsed(s, "gate", "an IP address", Address::Parse);
}

bool Overlap(const SessionSelector& a, const SessionSelector& b) {
  const auto meet = [](const SessionSelector::Ports& one, const SessionSelector::Ports& other) {
    return one.first <= other.last && other.first <= one.last;
  };
  return a.behind_gate->Overlaps(*b.behind_gate) && a.behind_peer->Overlaps(*b.behind_peer) &&
         (a.protocol == 0 || b.protocol == 0 || a.protocol == b.protocol) &&
         meet(a.gate_ports, b.gate_ports) && meet(a.peer_ports, b.peer_ports);
}

// The kernel has one policy for a packet, and it is not to depend on who came last. What is behind
// the gate never goes in clear, so the gate itself cannot be there: TLS would never reach it.
void ReadKernel(const Reader& in, const Section& root) {
  (void)root.Sub("kernel", {});
  for (const auto& outer : {in.config.gate.address, in.config.outer_gate}) {
    for (const auto& session : in.config.sessions) {
      for (const auto& selector : session.selectors) {
        if (!outer || !selector.behind_gate->Contains(*outer)) continue;
        root.Refuse("kernel", "the gate's own address is among those behind it",
                    "selectors without " + outer->Text(), selector.behind_gate->Text());
      }
    }
  }
  const auto& sessions = in.config.sessions;
  for (size_t i = 0; i < sessions.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      for (const auto& a : sessions[i].selectors) {
        if (std::ranges::none_of(sessions[j].selectors,
                                 [&](const auto& b) { return Overlap(a, b); })) {
          continue;
        }
        root.Refuse("kernel", "selectors of two sessions overlap", "a packet to be of one session",
                    fmt::format("{} and {}, both with {}", sessions[j].interface,
                                sessions[i].interface, a.behind_gate->Text()));
      }
    }
  }
}

void ReadDatapath(Reader& in, const Section& root) {
  if (root.Has("dataplane") == root.Has("kernel")) {
    root.Refuse("dataplane", "one way for packets to go", "either dataplane or kernel",
                root.Has("kernel") ? "both" : "none");
  }
  if (root.Has("kernel")) {
    ReadKernel(in, root);
    return;
  }
  const Section s = root.Sub("dataplane", {"socket"});
  in.config.dataplane_socket = in.FromHere(RequiredText(s, "socket", "its steering socket"));
  if (in.config.dataplane_socket.size() > kMostSocketPath) {
    s.Refuse("socket", "too long for a socket", fmt::format("at most {} bytes", kMostSocketPath));
  }
}

PeerConfig Read(const std::string& path) {
  Reader in{std::filesystem::absolute(path).parent_path()};
  const Section root(YAML::LoadFile(path), path, "",
                     {"gate", "certificate", "psk", "anchors", "intermediates", "crls", "profile",
                      "token_endpoint", "sessions", "udp_encap", "outer", "dataplane", "kernel",
                      "liveness_seconds"});
  ReadGate(in, root);
  ReadProof(in, root);
  ReadTokenEndpoint(in, root);
  ReadSessions(in, root);
  ReadOuter(in, root);
  ReadDatapath(in, root);
  auto liveness = in.config.liveness.count();
  constexpr uint64_t kMostLiveness = 86400;
  root.Read("liveness_seconds", liveness, 0, kMostLiveness);
  in.config.liveness = seconds(liveness);
  return std::move(in.config);
}

}  // namespace

Result<PeerConfig> LoadPeerConfig(const std::string& path) {
  try {
    return Read(path);
  } catch (const WrongField& wrong) {
    return tl::unexpected(wrong.error);
  } catch (const YAML::BadFile&) {
    return Invalid(path, "the configuration cannot be read", "a YAML file");
  } catch (const YAML::Exception& e) {
    return Invalid(fmt::format("{}:{}", path, e.mark.line + 1), e.msg, "YAML");
  }
}

}  // namespace portcullis::peer
