// One function per section of the file. The first wrong field throws (see Section);
// LoadGuardConfig() turns that into a value.
#include "control/guard/config.hpp"

#include <pwd.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>

#include "control/identity/private_key.hpp"
#include "control/identity/token/issuer_section.hpp"
#include "control/identity/token/oauth_endpoint_section.hpp"
#include "control/identity/token/url.hpp"
#include "control/identity/trust_config.hpp"
#include "control/model/fields.hpp"
#include "dataplane/yaml_section.hpp"

namespace portcullis::guard {

namespace {

using std::chrono::seconds;

constexpr size_t kMostSocketPath = 107;  // sun_path, unix(7)
constexpr size_t kLongestIdentity = 255;

using identity::RequiredText;

struct Reader {
  std::filesystem::path folder;
  GuardConfig config{};

  [[nodiscard]] std::string FromHere(const std::string& file) const { return folder / file; }
  // A private key: a file, or in a token.
  [[nodiscard]] std::string KeyFromHere(const std::string& key) const {
    return identity::IsPkcs11Uri(key) ? key : FromHere(key);
  }
};

std::vector<Section> RequiredItems(const Section& s, const char* key, const char* expected,
                                   std::initializer_list<std::string_view> known) {
  auto items = s.Items(key, known);
  if (items.empty()) s.Refuse(key, "missing", expected, "nothing");
  return items;
}

// What another part finds wrong with a value that stands under `key`.
template <class T>
T Admitted(Result<T> result, const Section& s, const char* key) {
  if (!result) {
    const Error& error = result.error();
    s.Refuse(key, error.message, error.expected, error.found.empty() ? "another" : error.found);
  }
  return *std::move(result);
}

std::string ReadSocket(const Reader& in, const Section& s, const char* expected) {
  std::string path = in.FromHere(RequiredText(s, "socket", expected));
  if (path.size() > kMostSocketPath) {
    s.Refuse("socket", "too long for a socket", fmt::format("at most {} bytes", kMostSocketPath));
  }
  return path;
}

void ReadControl(Reader& in, const Section& root) {
  if (!root.Has("control")) root.Refuse("control", "missing", "socket and user", "nothing");
  const Section s = root.Sub("control", {"socket", "user"});
  in.config.control_socket = ReadSocket(in, s, "the path of control's socket");
  const std::string user = RequiredText(s, "user", "the user that control runs as");
  const passwd* entry = getpwnam(user.c_str());
  if (entry == nullptr) s.Refuse("user", "no such user", "the user that control runs as");
  in.config.control_user = entry->pw_uid;
}

ListenerLimits ReadLimits(const Section& root) {
  ListenerLimits limits;
  if (!root.Has("limits")) return limits;
  const Section s =
      root.Sub("limits", {"source_v4", "source_v6", "half_open", "half_open_per_source", "open",
                          "open_per_source", "handshake_seconds", "request_seconds"});
  constexpr uint64_t kMost = 65536;
  constexpr uint64_t kMostSeconds = 60;
  s.Read("source_v4", limits.source_v4, 0, 32);
  s.Read("source_v6", limits.source_v6, 0, 128);
  s.Read("half_open", limits.half_open, 1, kMost);
  s.Read("half_open_per_source", limits.half_open_per_source, 1, kMost);
  s.Read("open", limits.open, 1, kMost);
  s.Read("open_per_source", limits.open_per_source, 1, kMost);
  const auto read_time = [&](const char* key, std::chrono::milliseconds& out) {
    auto count = std::chrono::duration_cast<seconds>(out).count();
    s.Read(key, count, 1, kMostSeconds);
    out = seconds(count);
  };
  read_time("handshake_seconds", limits.handshake_time);
  read_time("request_seconds", limits.request_time);
  return limits;
}

ListenerSettings ReadAddress(const Section& s, const ListenerLimits& limits) {
  ListenerSettings at;
  at.address = RequiredText(s, "address", "an IP address to listen on");
  if (!Address::Parse(at.address)) s.Refuse("address", "not an IP address", "such as 192.0.2.1");
  if (!s.Has("port")) s.Refuse("port", "missing", "a number from 0 to 65535", "nothing");
  s.Read("port", at.port, 0, UINT16_MAX);
  at.limits = limits;
  return at;
}

CertificateListener ReadCertificateListener(const Reader& in, const Section& s,
                                            const ListenerLimits& limits) {
  CertificateListener listener;
  listener.at = ReadAddress(s, limits);
  s.Read("tls_1_2", listener.tls.tls_1_2);
  for (const Section& own :
       RequiredItems(s, "certificates", "a list of {chain, key}", {"chain", "key"})) {
    listener.tls.own.push_back(
        {in.FromHere(RequiredText(own, "chain", "a PEM file")),
         in.KeyFromHere(RequiredText(own, "key", "a PEM file or a PKCS#11 URI"))});
  }
  return listener;
}

constexpr auto kHashes = {std::pair{"sha256", identity::PskHash::sha256},
                          std::pair{"sha384", identity::PskHash::sha384}};

std::string ReadUrl(const Section& one) {
  std::string url = RequiredText(one, "url", "how peers call it: https://host:port");
  const auto parts = Admitted(identity::ParseWebAddress(url, ""), one, "url");
  if (!parts.tls || parts.target != "/" || url.ends_with('/')) {
    one.Refuse("url", "not the beginning of this listener's URLs",
               "https://host:port, without a path");
  }
  return url;
}

PskListener ReadPskListener(const Section& one, const ListenerLimits& limits) {
  PskListener listener;
  listener.at = ReadAddress(one, limits);
  listener.url = ReadUrl(one);
  one.Read("hash", listener.tls.hash, kHashes);
  one.Read("tls_1_2", listener.tls.tls_1_2);
  return listener;
}

void ReadListeners(Reader& in, const Section& root) {
  const ListenerLimits limits = ReadLimits(root);
  if (!root.Has("listeners")) {
    root.Refuse("listeners", "missing", "certificate or psk, or both", "nothing");
  }
  const Section s = root.Sub("listeners", {"certificate", "psk"});
  for (const Section& one :
       s.Items("certificate", {"address", "port", "tls_1_2", "certificates"})) {
    in.config.certificate_listeners.push_back(ReadCertificateListener(in, one, limits));
  }
  for (const Section& one : s.Items("psk", {"address", "port", "url", "hash", "tls_1_2"})) {
    in.config.psk_listeners.push_back(ReadPskListener(one, limits));
  }
  if (in.config.certificate_listeners.empty() && in.config.psk_listeners.empty()) {
    root.Refuse("listeners", "nobody could come in", "at least one of certificate and psk", "none");
  }
}

// How clients prove who they are: by certificates, or by keys that both sides know.
void ReadDoor(const Reader& in, const Section& one, const ListenerLimits& limits,
              RequestSetting& setting) {
  bool psk = false;
  one.Read("psk", psk);
  if (psk && one.Has("certificates")) {
    one.Refuse("certificates", "clients with pre-shared keys are shown none", "none, or no psk",
               "both");
  }
  bool dpop = false;
  one.Read("dpop", dpop);
  if (psk && one.Has("dpop")) {
    one.Refuse("dpop", "clients with pre-shared keys make proofs in any case", "none, or no psk",
               "both");
  }
  if (!psk && !dpop && one.Has("url")) {
    one.Refuse("url", "for clients that make proofs only", "psk: true or dpop: true, or none",
               "neither");
  }
  if (!psk && one.Has("hash")) {
    one.Refuse("hash", "for clients with pre-shared keys only", "psk: true, or none", "no psk");
  }
  if (psk) {
    setting.psk = ReadPskListener(one, limits);
    setting.psk->tls.http2 = true;
    setting.url = setting.psk->url;
    return;
  }
  if (dpop) setting.url = ReadUrl(one);
  setting.listener = ReadCertificateListener(in, one, limits);
  setting.listener.tls.http2 = true;
}

// Which requests there are, where each is judged.
template <class Setting>
void ReadJudged(const Reader& in, const Section& one, Setting& setting) {
  setting.interface = RequiredText(one, "interface", "the interface's name in policy");
  const auto& known = in.config.interfaces;
  if (std::ranges::find(known, setting.interface) == known.end()) {
    one.Refuse("interface", "has no audience: no token would be good for it",
               "one of `interfaces`");
  }
  setting.profile = in.FromHere(RequiredText(one, "profile", "the file of its profile"));
  one.Read("root", setting.root);
  if (!setting.root.empty() && (!setting.root.starts_with('/') || setting.root.ends_with('/'))) {
    one.Refuse("root", "not the beginning of a path", "such as /nsmf");
  }
}

// Where what the dataplane decrypts comes in.
std::string ReadDevice(const Section& one) {
  constexpr size_t kLongest = 15;  // IFNAMSIZ, less its end
  std::string device;
  one.Read("device", device);
  if (one.Has("device") && (device.empty() || device.size() > kLongest)) {
    one.Refuse("device", "not the name of an interface",
               fmt::format("1 to {} characters, such as guard0", kLongest));
  }
  return device;
}

// How the guard shows itself to whom it calls, and of which CA they must be.
identity::ClientTls ReadClientTls(const Reader& in, const Section& s) {
  return {.ca = in.FromHere(RequiredText(s, "ca", "a PEM file: whose certificates they have")),
          .certificate = in.FromHere(RequiredText(s, "certificate", "a PEM file")),
          .key = in.KeyFromHere(RequiredText(s, "key", "a PEM file or a PKCS#11 URI"))};
}

void ReadRequests(Reader& in, const Section& root) {
  const ListenerLimits limits = ReadLimits(root);
  for (const Section& one : root.Items(
           "requests", {"interface", "profile", "root", "address", "port", "device", "tls_1_2",
                        "certificates", "psk", "dpop", "url", "hash", "server"})) {
    RequestSetting setting;
    ReadJudged(in, one, setting);
    ReadDoor(in, one, limits, setting);
    setting.at().device = ReadDevice(one);
    if (!one.Has("server")) one.Refuse("server", "missing", "url, ca, certificate, key", "nothing");
    const Section server = one.Sub("server", {"url", "ca", "certificate", "key", "exchange"});
    setting.server.url = RequiredText(server, "url", "the protected server: https://host:port");
    setting.server.tls = ReadClientTls(in, server);
    if (server.Has("exchange")) {
      setting.exchange = identity::ReadTokenExchange(server, in.folder);
    }
    in.config.requests.push_back(std::move(setting));
  }
}

std::vector<std::string> ReadTexts(const Section& s, const char* key) {
  std::vector<std::string> texts;
  s.ReadList(key, texts, [](const std::string& text) -> Result<std::string> { return text; });
  return texts;
}

// Whom a listener lets in: certificates of a CA with one of some names.
void ReadNamed(const Reader& in, const Section& one, const char* key, std::string& ca,
               std::vector<std::string>& names) {
  if (!one.Has(key)) one.Refuse(key, "missing", "ca and names", "nothing");
  const Section s = one.Sub(key, {"ca", "names"});
  ca = in.FromHere(RequiredText(s, "ca", "a PEM file: whose their certificates are"));
  names = ReadTexts(s, "names");
  if (names.empty())
    s.Refuse("names", "missing", "the DNS names of those that may come", "nothing");
}

void ReadEgress(Reader& in, const Section& root) {
  const ListenerLimits limits = ReadLimits(root);
  for (const Section& one : root.Items("egress", {"interface", "profile", "address", "port",
                                                  "tls_1_2", "certificates", "servers", "peers"})) {
    EgressSetting setting;
    setting.interface = RequiredText(one, "interface", "the interface's name in policy");
    if (!model::IsName(setting.interface)) {
      one.Refuse("interface", "not a name", "1 to 63 of a-z, 0-9, '.', '_', '-'");
    }
    setting.profile = in.FromHere(RequiredText(one, "profile", "the file of its profile"));
    setting.listener = ReadCertificateListener(in, one, limits);
    ReadNamed(in, one, "servers", setting.server_ca, setting.servers);
    if (!one.Has("peers")) one.Refuse("peers", "missing", "ca, certificate, key", "nothing");
    const Section peers = one.Sub("peers", {"ca", "certificate", "key"});
    setting.peers = ReadClientTls(in, peers);
    in.config.egress.push_back(std::move(setting));
  }
}

// Who may ask on a UNIX socket, by user; or on a listener, by certificate.
void ReadGateways(const Reader& in, const Section& one, const ListenerLimits& limits,
                  DecisionSetting& setting) {
  const bool local = one.Has("socket");
  for (const char* other : {"address", "port", "tls_1_2", "certificates", "gateways"}) {
    if (local && one.Has(other)) one.Refuse(other, "a socket has none", "one of the two", "both");
  }
  setting.listener.at.limits = limits;
  if (!local) {
    if (one.Has("users")) one.Refuse("users", "for a socket only", "`socket`, or `gateways`");
    setting.listener = ReadCertificateListener(in, one, limits);
    ReadNamed(in, one, "gateways", setting.gateway_ca, setting.gateways);
    return;
  }
  setting.socket = ReadSocket(in, one, "the path of the socket");
  for (const std::string& name : ReadTexts(one, "users")) {
    const passwd* entry = getpwnam(name.c_str());
    if (entry == nullptr) one.Refuse("users", "no such user", "users of this host", name);
    setting.users.emplace(entry->pw_uid, name);
  }
  if (setting.users.empty()) one.Refuse("users", "missing", "the users who may ask", "nothing");
}

void ReadDecisions(Reader& in, const Section& root) {
  const ListenerLimits limits = ReadLimits(root);
  for (const Section& one :
       root.Items("decisions", {"interface", "profile", "root", "protocol", "socket", "users",
                                "address", "port", "tls_1_2", "certificates", "gateways"})) {
    DecisionSetting setting;
    ReadJudged(in, one, setting);
    static_cast<void>(RequiredText(one, "protocol", "auth_request or ext_authz"));
    one.Read("protocol", setting.protocol,
             {{"auth_request", DecisionProtocol::auth_request},
              {"ext_authz", DecisionProtocol::ext_authz}});
    ReadGateways(in, one, limits, setting);
    in.config.decisions.push_back(std::move(setting));
  }
}

void ReadKeys(Reader& in, const Section& root) {
  for (const Section& one : root.Items("keys", {"identity", "peer", "tls", "hash", "file"})) {
    identity::PskSetting key;
    key.identity = RequiredText(one, "identity", "an identity that tells nothing");
    key.peer = RequiredText(one, "peer", "the peer in policy that the key belongs to");
    one.Read("tls", key.use.version,
             {{"1.3", identity::TlsVersion::v1_3}, {"1.2", identity::TlsVersion::v1_2}});
    one.Read("hash", key.use.hash, kHashes);
    key.file = in.FromHere(RequiredText(one, "file", "a file of hex digits"));
    const auto takes = [&](const PskListener& listener) {
      return listener.tls.hash == key.use.hash &&
             (key.use.version == identity::TlsVersion::v1_3 || listener.tls.tls_1_2);
    };
    const bool served = std::ranges::any_of(in.config.psk_listeners, takes) ||
                        std::ranges::any_of(in.config.requests, [&](const RequestSetting& r) {
                          return r.psk && takes(*r.psk);
                        });
    if (!served) {
      one.Refuse("identity", "no PSK listener has this key's hash and version of TLS",
                 "a listener that takes it");
    }
    in.config.keys.push_back(std::move(key));
  }
  if (HasPskListener(in.config) && in.config.keys.empty()) {
    root.Refuse("keys", "missing", "a key for the PSK listener", "nothing");
  }
}

void ReadAuthorities(Reader& in, const Section& root) {
  const bool needed = TakesCertificates(in.config);
  auto trust = identity::ReadTrust(root, in.folder, needed, "peers' certificates");
  in.config.authorities = std::move(trust.authorities);
  in.config.crls = std::move(trust.crls);
  in.config.crl_grace = trust.crl_grace;
  identity::ReadCertificateProfile(root, in.config.profile);
}

void ReadIssuers(Reader& in, const Section& root) {
  std::map<std::string, std::string, std::less<>> audiences;
  for (const Section& one :
       RequiredItems(root, "interfaces", "a list of {name, audience}", {"name", "audience"})) {
    const std::string name = RequiredText(one, "name", "the interface's name in policy");
    if (!model::IsName(name))
      one.Refuse("name", "not a name", "1 to 63 of a-z, 0-9, '.', '_', '-'");
    const std::string audience = RequiredText(one, "audience", "what aud will be");
    if (!audiences.emplace(name, audience).second) {
      one.Refuse("name", "the same interface twice", "each once");
    }
    in.config.interfaces.push_back(name);
  }
  in.config.issuers = identity::ReadIssuers(root, in.folder, audiences, &in.config.introspections);
}

GuardConfig Read(const std::string& path) {
  Reader in{std::filesystem::absolute(path).parent_path()};
  const Section root(
      YAML::LoadFile(path), path, "",
      {"identity", "control", "listeners", "limits", "keys", "anchors", "intermediates", "crls",
       "profile", "interfaces", "issuers", "requests", "egress", "decisions"});
  in.config.identity = RequiredText(root, "identity", "by which name peers know this gate");
  if (in.config.identity.size() > kLongestIdentity) {
    root.Refuse("identity", "too long", fmt::format("at most {} bytes", kLongestIdentity));
  }
  ReadControl(in, root);
  ReadListeners(in, root);
  ReadIssuers(in, root);
  ReadRequests(in, root);
  ReadEgress(in, root);
  ReadDecisions(in, root);
  ReadKeys(in, root);
  ReadAuthorities(in, root);
  return std::move(in.config);
}

}  // namespace

bool TakesCertificates(const GuardConfig& config) {
  return !config.certificate_listeners.empty() || !config.decisions.empty() ||
         std::ranges::any_of(config.requests, [](const auto& r) { return !r.psk; });
}

bool HasPskListener(const GuardConfig& config) {
  return !config.psk_listeners.empty() ||
         std::ranges::any_of(config.requests, [](const auto& r) { return r.psk.has_value(); });
}

Result<GuardConfig> LoadGuardConfig(const std::string& path) {
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

}  // namespace portcullis::guard
