#include "control/peer/xfrm_message.hpp"

#include <netinet/in.h>
#include <openssl/sha.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace portcullis::peer::xfrm {

using guard::SessionSelector;

namespace {

constexpr uint32_t kOurs = 0x50400000;
constexpr uint32_t kOursMask = 0xfff00000;
constexpr size_t kMost = 1024;  // bytes of a request; the longest has two keys, in less than 1 KiB
constexpr size_t kMostFlows = 512;  // of one session
constexpr uint16_t kNatPort = 4500;
constexpr uint32_t kUnusedWindow = 64;  // outbound: ESN needs one, and nothing is ever received
constexpr unsigned kBits = 8;
constexpr unsigned kWordBits = 32;

template <class T>
std::span<const uint8_t> Raw(const T& value) {
  return {reinterpret_cast<const uint8_t*>(&value), sizeof(value)};
}

template <class T>
std::optional<T> Take(std::span<const uint8_t>& bytes) {
  if (bytes.size() < sizeof(T)) return {};
  T value;
  std::memcpy(&value, bytes.data(), sizeof(T));
  bytes = bytes.subspan(std::min<size_t>(NLMSG_ALIGN(sizeof(T)), bytes.size()));
  return value;
}

xfrm_address_t ToKernel(const Address& address) {
  xfrm_address_t to{};
  std::ranges::copy(address.wire(), reinterpret_cast<uint8_t*>(&to));
  return to;
}
Address FromKernel(const xfrm_address_t& address, uint16_t family) {
  return family == AF_INET ? Address::V4(&address) : Address::V6(&address);
}
uint16_t FamilyOf(bool v4) {
  return v4 ? AF_INET : AF_INET6;
}

Prefix Anywhere(bool v4) {
  constexpr unsigned kMapped = 96;
  constexpr uint32_t kZero = 0;
  return v4 ? Prefix(Address::V4(&kZero), kMapped) : Prefix();
}

xfrm_selector ToKernel(const Flow& flow) {
  xfrm_selector to{};
  to.family = FamilyOf(flow.source.IsV4());
  to.saddr = ToKernel(flow.source.address());
  to.daddr = ToKernel(flow.destination.address());
  to.prefixlen_s = static_cast<uint8_t>(flow.source.WrittenLength());
  to.prefixlen_d = static_cast<uint8_t>(flow.destination.WrittenLength());
  to.proto = flow.protocol;
  to.sport = htons(flow.source_port.value);
  to.sport_mask = htons(flow.source_port.mask);
  to.dport = htons(flow.destination_port.value);
  to.dport_mask = htons(flow.destination_port.mask);
  return to;
}

Flow FromKernel(const xfrm_selector& from) {
  constexpr unsigned kMapped = 96;
  const unsigned extra = from.family == AF_INET ? kMapped : 0;
  return {Prefix(FromKernel(from.saddr, from.family), from.prefixlen_s + extra),
          Prefix(FromKernel(from.daddr, from.family), from.prefixlen_d + extra),
          from.proto,
          {ntohs(from.sport), ntohs(from.sport_mask)},
          {ntohs(from.dport), ntohs(from.dport_mask)}};
}

Flow Reversed(const Flow& flow) {
  return {flow.destination, flow.source, flow.protocol, flow.destination_port, flow.source_port};
}

struct KernelAlgorithm {
  const char* cipher;
  size_t key_bytes;  // of the cipher, the salt included (RFC 4106 8.1)
};

// As in the kernel's net/xfrm/xfrm_algo.c.
KernelAlgorithm ToKernel(Algorithm algorithm) {
  constexpr size_t kAes128 = 16;
  constexpr size_t kAes256 = 32;
  switch (algorithm) {
    case Algorithm::chacha20_poly1305:
      return {"rfc7539esp(chacha20,poly1305)", Info(algorithm).key_bytes};
    case Algorithm::aes_128_cbc_hmac_sha_256_128:
      return {"cbc(aes)", kAes128};
    case Algorithm::aes_256_cbc_hmac_sha_256_128:
      return {"cbc(aes)", kAes256};
    default:
      return {"rfc4106(gcm(aes))", Info(algorithm).key_bytes};
  }
}

// The three structures differ in what stands between name and key only.
template <class Header>
void PutKey(Message& message, uint16_t type, Header header, const char* name,
            std::span<const uint8_t> key) {
  std::strncpy(header.alg_name, name, sizeof(header.alg_name) - 1);
  header.alg_key_len = static_cast<unsigned>(key.size() * kBits);
  std::array<uint8_t, sizeof(Header) + UINT8_MAX> bytes{};
  const std::span<uint8_t> whole = std::span(bytes).first(sizeof(Header) + key.size());
  std::ranges::copy(Raw(header), whole.begin());
  std::ranges::copy(key, whole.begin() + sizeof(Header));
  message.PutAttribute(type, whole);
  Wipe(std::span<uint8_t>(bytes));
}

void PutKeys(Message& message, Algorithm algorithm, const Secret& key) {
  const KernelAlgorithm cipher = ToKernel(algorithm);
  const unsigned icv = Info(algorithm).icv_bytes * kBits;
  const auto cipher_key = key.bytes().first(cipher.key_bytes);
  if (Info(algorithm).aead) {
    xfrm_algo_aead header{};
    header.alg_icv_len = icv;
    PutKey(message, XFRMA_ALG_AEAD, header, cipher.cipher, cipher_key);
    return;
  }
  PutKey(message, XFRMA_ALG_CRYPT, xfrm_algo{}, cipher.cipher, cipher_key);
  xfrm_algo_auth header{};
  header.alg_trunc_len = icv;
  PutKey(message, XFRMA_ALG_AUTH_TRUNC, header, "hmac(sha256)",
         key.bytes().subspan(cipher.key_bytes));
}

// Without the bitmap itself, which begins empty (as iproute2 does).
void PutWindow(Message& message, uint32_t window) {
  xfrm_replay_state_esn state{};
  // The window is this receiver's own affair (RFC 4303 3.4.3): a narrower one is only stricter.
  state.replay_window = std::min<uint32_t>(window, XFRMA_REPLAY_ESN_MAX);
  state.bmp_len = (state.replay_window + kWordBits - 1) / kWordBits;
  message.PutAttribute(XFRMA_REPLAY_ESN_VAL, Raw(state));
}

xfrm_lifetime_cfg Unlimited() {
  xfrm_lifetime_cfg limits{};
  limits.soft_byte_limit = limits.hard_byte_limit = XFRM_INF;
  limits.soft_packet_limit = limits.hard_packet_limit = XFRM_INF;
  return limits;
}

xfrm_usersa_id ToKernel(const SaId& id) {
  xfrm_usersa_id to{};
  to.daddr = ToKernel(id.to);
  to.spi = htonl(Value(id.spi));
  to.family = FamilyOf(id.to.IsV4());
  to.proto = IPPROTO_ESP;
  return to;
}

// The payload of a message of that type.
std::optional<std::span<const uint8_t>> Payload(std::span<const uint8_t> message, uint16_t type) {
  const auto header = Take<nlmsghdr>(message);
  if (!header || header->nlmsg_type != type) return {};
  return message;
}

std::span<const uint8_t> Attribute(std::span<const uint8_t> rest, uint16_t type) {
  while (rest.size() >= sizeof(nlattr)) {
    nlattr header{};
    std::memcpy(&header, rest.data(), sizeof(header));
    if (header.nla_len < sizeof(header) || header.nla_len > rest.size()) return {};
    const auto value = rest.subspan(NLA_HDRLEN, header.nla_len - NLA_HDRLEN);
    if ((header.nla_type & NLA_TYPE_MASK) == type) return value;
    rest = rest.subspan(std::min<size_t>(NLA_ALIGN(header.nla_len), rest.size()));
  }
  return {};
}

}  // namespace

uint32_t ReqidOf(std::string_view interface) {
  std::array<uint8_t, SHA256_DIGEST_LENGTH> digest{};
  SHA256(reinterpret_cast<const uint8_t*>(interface.data()), interface.size(), digest.data());
  uint32_t bits = 0;
  std::memcpy(&bits, digest.data(), sizeof(bits));
  return kOurs | (ntohl(bits) & ~kOursMask);
}

bool IsOurs(uint32_t reqid) {
  return (reqid & kOursMask) == kOurs;
}

std::vector<PortBlock> Blocks(const SessionSelector::Ports& range) {
  if (range.first == 0 && range.last == UINT16_MAX) return {{0, 0}};
  std::vector<PortBlock> blocks;
  constexpr uint32_t kAll = 0x10000;
  for (uint32_t next = range.first; next <= range.last;) {
    uint32_t size = next == 0 ? kAll : next & -next;  // the largest that may begin here
    while (next + size - 1 > range.last) size /= 2;
    blocks.push_back({static_cast<uint16_t>(next), static_cast<uint16_t>(kAll - size)});
    next += size;
  }
  return blocks;
}

std::string Describe(const PolicyKey& key) {
  const Flow& flow = key.flow;
  const char* way = key.way == Way::in ? "in" : key.way == Way::out ? "out" : "fwd";
  return fmt::format("{} {} - {} protocol {} port {}/{:#x} - {}/{:#x}", way, flow.source.Text(),
                     flow.destination.Text(), flow.protocol, flow.source_port.value,
                     flow.source_port.mask, flow.destination_port.value,
                     flow.destination_port.mask);
}

Result<Policies> ProtectWith(const SaPair& pair, uint32_t reqid) {
  Policies policies;
  size_t flows = 0;
  for (const SessionSelector& selector : pair.selectors) {
    if (!selector.behind_gate || !selector.behind_peer) {
      return Fail(ErrorKind::kInvalid, "the kernel's IPsec needs both prefixes of a selector");
    }
    const auto gate_ports = Blocks(selector.gate_ports);
    const auto peer_ports = Blocks(selector.peer_ports);
    flows += gate_ports.size() * peer_ports.size();
    if (flows > kMostFlows) {
      return Fail(ErrorKind::kExhausted,
                  fmt::format("the kernel's IPsec knows no ranges of ports, only blocks of a power "
                              "of two; expected selectors that {} of them can make up",
                              kMostFlows));
    }
    for (const PortBlock& gate_port : gate_ports) {
      for (const PortBlock& peer_port : peer_ports) {
        const Flow out{*selector.behind_peer, *selector.behind_gate, selector.protocol, peer_port,
                       gate_port};
        policies[{Way::out, out}] = {reqid, pair.to_gate, pair.peer_outer, pair.gate_outer};
        for (const Way way : {Way::in, Way::forward}) {
          policies[{way, Reversed(out)}] = {reqid, Spi{}, pair.gate_outer, pair.peer_outer};
        }
      }
    }
  }
  return policies;
}

Policies BlockCleartext(std::span<const SessionSelector> selectors) {
  Policies policies;
  for (const SessionSelector& selector : selectors) {
    Flow out;
    out.destination = *selector.behind_gate;  // the configuration names both
    out.source = Anywhere(out.destination.IsV4());
    policies[{Way::out, out}] = {};
    policies[{Way::in, Reversed(out)}] = {};
    policies[{Way::forward, Reversed(out)}] = {};
  }
  return policies;
}

SessionSelector SelectorOf(const Flow& flow) {
  const auto range = [](const PortBlock& block) {
    return SessionSelector::Ports{block.value, static_cast<uint16_t>(block.value | ~block.mask)};
  };
  return {flow.source, flow.destination, flow.protocol, range(flow.source_port),
          range(flow.destination_port)};
}

Message::Message(uint16_t type, uint16_t flags) {
  bytes_.reserve(kMost);
  nlmsghdr header{};
  header.nlmsg_type = type;
  header.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
  Put(Raw(header));
}

Message::~Message() {
  Wipe(std::span<uint8_t>(bytes_));
}

void Message::Put(std::span<const uint8_t> bytes) {
  const size_t padded = NLMSG_ALIGN(bytes.size());
  if (bytes_.size() + padded > bytes_.capacity()) std::abort();  // kMost is for the longest
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  bytes_.resize(NLMSG_ALIGN(bytes_.size()));
  const auto length = static_cast<uint32_t>(bytes_.size());
  std::memcpy(bytes_.data(), &length, sizeof(length));  // nlmsg_len
}

void Message::PutAttribute(uint16_t type, std::span<const uint8_t> bytes) {
  const nlattr header{static_cast<uint16_t>(NLA_HDRLEN + bytes.size()), type};
  Put(Raw(header));
  Put(bytes);
}

void Message::Number(uint32_t sequence) {
  std::memcpy(bytes_.data() + offsetof(nlmsghdr, nlmsg_seq), &sequence, sizeof(sequence));
}

Message AddSa(const SaPair& pair, bool inbound, uint32_t reqid) {
  Message message(XFRM_MSG_NEWSA, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
  const Address& to = inbound ? pair.peer_outer : pair.gate_outer;
  xfrm_usersa_info sa{};
  sa.id.daddr = ToKernel(to);
  sa.id.spi = htonl(Value(inbound ? pair.to_peer : pair.to_gate));
  sa.id.proto = IPPROTO_ESP;
  sa.saddr = ToKernel(inbound ? pair.gate_outer : pair.peer_outer);
  sa.lft = Unlimited();
  // The grant's end, which the kernel keeps even when this agent does not live to see it.
  sa.lft.hard_add_expires_seconds = static_cast<uint64_t>(pair.life.count());
  sa.reqid = reqid;
  sa.family = FamilyOf(to.IsV4());
  sa.mode = XFRM_MODE_TUNNEL;
  // Selectors are the policies' (RFC 4301 4.4.1), so the association's own is open, for both
  // families. ICMP: errors about packets of the selectors may come through the tunnel.
  sa.flags = XFRM_STATE_AF_UNSPEC | XFRM_STATE_ICMP | (pair.esn ? XFRM_STATE_ESN : 0);
  message.Put(Raw(sa));
  PutKeys(message, pair.algorithm, inbound ? pair.key_to_peer : pair.key_to_gate);
  PutWindow(message, inbound ? pair.replay_window : kUnusedWindow);
  if (pair.udp_encap) {
    constexpr uint16_t kEspInUdp = 2;  // UDP_ENCAP_ESPINUDP, linux/udp.h
    xfrm_encap_tmpl encap{};
    encap.encap_type = kEspInUdp;
    encap.encap_sport = encap.encap_dport = htons(kNatPort);
    message.PutAttribute(XFRMA_ENCAP, Raw(encap));
  }
  return message;
}

Message DeleteSa(const SaId& id) {
  Message message(XFRM_MSG_DELSA, NLM_F_ACK);
  message.Put(Raw(ToKernel(id)));
  return message;
}

Message AskTraffic(const SaId& id) {
  Message message(XFRM_MSG_GETAE, 0);
  xfrm_aevent_id asked{};
  asked.sa_id = ToKernel(id);
  message.Put(Raw(asked));
  return message;
}

Message ListSas() {
  Message message(XFRM_MSG_GETSA, NLM_F_DUMP);
  message.Put(Raw(xfrm_usersa_id{}));
  constexpr uint8_t kEsp = IPPROTO_ESP;
  message.PutAttribute(XFRMA_PROTO, Raw(kEsp));
  return message;
}

Message AddPolicy(const PolicyKey& key, const PolicyAction& action, bool replace) {
  Message message(replace ? XFRM_MSG_UPDPOLICY : XFRM_MSG_NEWPOLICY, NLM_F_ACK);
  const bool protect = action.reqid != 0;
  xfrm_userpolicy_info policy{};
  policy.sel = ToKernel(key.flow);
  policy.lft = Unlimited();
  policy.priority = protect ? kProtect : kBlock;
  policy.dir = static_cast<uint8_t>(key.way);
  policy.action = protect ? XFRM_POLICY_ALLOW : XFRM_POLICY_BLOCK;
  policy.flags = protect ? XFRM_POLICY_ICMP : 0;
  message.Put(Raw(policy));
  if (!protect) return message;
  xfrm_user_tmpl tunnel{};
  tunnel.id.daddr = ToKernel(action.to);
  tunnel.id.spi = htonl(Value(action.spi));
  tunnel.id.proto = IPPROTO_ESP;
  tunnel.saddr = ToKernel(action.from);
  tunnel.family = FamilyOf(action.to.IsV4());
  tunnel.reqid = action.reqid;
  tunnel.mode = XFRM_MODE_TUNNEL;
  tunnel.aalgos = tunnel.ealgos = tunnel.calgos = UINT32_MAX;
  message.PutAttribute(XFRMA_TMPL, Raw(tunnel));
  return message;
}

Message DeletePolicy(const PolicyKey& key) {
  Message message(XFRM_MSG_DELPOLICY, NLM_F_ACK);
  xfrm_userpolicy_id id{};
  id.sel = ToKernel(key.flow);
  id.dir = static_cast<uint8_t>(key.way);
  message.Put(Raw(id));
  return message;
}

Message ListPolicies() {
  Message message(XFRM_MSG_GETPOLICY, NLM_F_DUMP);
  message.Put(Raw(xfrm_userpolicy_id{}));
  return message;
}

std::optional<OurSa> ReadSa(std::span<const uint8_t> message) {
  auto payload = Payload(message, XFRM_MSG_NEWSA);
  if (!payload) return {};
  const auto sa = Take<xfrm_usersa_info>(*payload);
  if (!sa || !IsOurs(sa->reqid) || sa->id.proto != IPPROTO_ESP) return {};
  return OurSa{{FromKernel(sa->id.daddr, sa->family), Spi{ntohl(sa->id.spi)}}, sa->reqid};
}

std::optional<Policies::value_type> ReadPolicy(std::span<const uint8_t> message) {
  auto payload = Payload(message, XFRM_MSG_NEWPOLICY);
  if (!payload) return {};
  const auto policy = Take<xfrm_userpolicy_info>(*payload);
  if (!policy || policy->dir > XFRM_POLICY_FWD) return {};
  const PolicyKey key{static_cast<Way>(policy->dir), FromKernel(policy->sel)};
  auto templates = Attribute(*payload, XFRMA_TMPL);
  if (policy->action == XFRM_POLICY_BLOCK) {
    if (policy->priority != kBlock || !templates.empty()) return {};
    return Policies::value_type{key, {}};
  }
  const bool one = templates.size() == sizeof(xfrm_user_tmpl);
  const auto tunnel = Take<xfrm_user_tmpl>(templates);
  if (policy->priority != kProtect || !one || !tunnel || !IsOurs(tunnel->reqid)) return {};
  return Policies::value_type{
      key,
      {tunnel->reqid, Spi{ntohl(tunnel->id.spi)}, FromKernel(tunnel->saddr, tunnel->family),
       FromKernel(tunnel->id.daddr, tunnel->family)}};
}

std::optional<uint64_t> ReadTraffic(std::span<const uint8_t> message) {
  auto payload = Payload(message, XFRM_MSG_NEWAE);
  if (!payload || !Take<xfrm_aevent_id>(*payload)) return {};
  auto lifetime = Attribute(*payload, XFRMA_LTIME_VAL);
  const auto so_far = Take<xfrm_lifetime_cur>(lifetime);
  if (!so_far) return {};
  return so_far->packets;
}

}  // namespace portcullis::peer::xfrm
