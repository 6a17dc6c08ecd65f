// The messages beside those that iproute2 6.1 sent for the commands above each of them (as strace
// saw them, without nlmsghdr), and against the kernel's rules where iproute2 has no opinion.
#include "control/peer/xfrm_message.hpp"

#include <gtest/gtest.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>

namespace portcullis::peer::xfrm {
namespace {

using guard::SessionSelector;

// ip xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x11223344 reqid 0x50490a0b mode
//   tunnel replay-window 256 flag icmp flag af-unspec flag esn aead rfc4106(gcm(aes))
//   0x000102030405060708090a0b0c0d0e0f10111213 128 encap espinudp 4500 4500 0.0.0.0 limit
//   time-hard 900
constexpr const char* kGcm =
    "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "000000000000000000000000c00002020000000000000000000000001122334432000000c000020100000000"
    "0000000000000000ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff00000000"
    "0000000084030000000000000000000000000000000000000000000000000000000000000000000000000000"
    "00000000000000000000000000000000000000000000000000000000000000000b0a495002000100b0000000"
    "0000000060001200726663343130362867636d28616573292900000000000000000000000000000000000000"
    "00000000000000000000000000000000000000000000000000000000a0000000800000000001020304050607"
    "08090a0b0c0d0e0f101112131c0004000200119411940000000000000000000000000000000000001c001700"
    "080000000000000000000000000000000000000000010000";
// ip xfrm state add src 192.0.2.2 dst 192.0.2.1 proto esp spi 0x55667788 reqid 0x50490a0b mode
//   tunnel replay-window 64 flag icmp flag af-unspec flag esn aead rfc7539esp(chacha20,poly1305)
//   0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223 128 limit
//   time-hard 900
constexpr const char* kChaCha =
    "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "000000000000000000000000c00002010000000000000000000000005566778832000000c000020200000000"
    "0000000000000000ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff00000000"
    "0000000084030000000000000000000000000000000000000000000000000000000000000000000000000000"
    "00000000000000000000000000000000000000000000000000000000000000000b0a495002000100b0000000"
    "0000000070001200726663373533396573702863686163686132302c706f6c79313330352900000000000000"
    "0000000000000000000000000000000000000000000000000000000020010000800000000001020304050607"
    "08090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122231c001700020000000000000000000000"
    "000000000000000040000000";
// ip xfrm state add src 2001:db8::1 dst 2001:db8::2 proto esp spi 0x11223344 reqid 0x50490a0b
//   mode tunnel replay-window 256 flag icmp flag af-unspec flag esn enc cbc(aes)
//   0x000102030405060708090a0b0c0d0e0f auth-trunc hmac(sha256)
//   0x101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f 128 limit time-hard 900
constexpr const char* kCbc =
    "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "00000000000000000000000020010db8000000000000000000000002112233443200000020010db800000000"
    "0000000000000001ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff00000000"
    "0000000084030000000000000000000000000000000000000000000000000000000000000000000000000000"
    "00000000000000000000000000000000000000000000000000000000000000000b0a49500a000100b0000000"
    "0000000058000200636263286165732900000000000000000000000000000000000000000000000000000000"
    "0000000000000000000000000000000000000000000000000000000080000000000102030405060708090a0b"
    "0c0d0e0f6c001400686d61632873686132353629000000000000000000000000000000000000000000000000"
    "0000000000000000000000000000000000000000000000000000000000010000800000001011121314151617"
    "18191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f1c00170008000000000000000000000000000000"
    "0000000000010000";
// ip xfrm policy add src 10.1.0.0/28 dst 10.2.0.10/32 proto udp dport 5000 dir out priority 20547
//   flag icmp tmpl src 192.0.2.2 dst 192.0.2.1 proto esp spi 0x55667788 reqid 0x50490a0b mode
//   tunnel
constexpr const char* kOut =
    "0a02000a0000000000000000000000000a0100000000000000000000000000001388ffff000000000200201c"
    "110000000000000000000000ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
    "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "00000000000000000000000000000000000000004350000000000000010002000000000044000500c0000201"
    "000000000000000000000000556677883200000002000000c00002020000000000000000000000000b0a4950"
    "01000000ffffffffffffffffffffffff";
// ip xfrm policy add src 10.2.0.10/32 dst 10.1.0.0/28 proto udp sport 5000 dir in priority 20547
//   flag icmp tmpl src 192.0.2.1 dst 192.0.2.2 proto esp reqid 0x50490a0b mode tunnel
constexpr const char* kIn =
    "0a0100000000000000000000000000000a02000a000000000000000000000000000000001388ffff02001c20"
    "110000000000000000000000ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
    "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "00000000000000000000000000000000000000004350000000000000000002000000000044000500c0000202"
    "000000000000000000000000000000003200000002000000c00002010000000000000000000000000b0a4950"
    "01000000ffffffffffffffffffffffff";
// ip xfrm policy add src 2001:db8:2::/48 dst ::/0 dir fwd action block priority 20548
constexpr const char* kBlockForward =
    "0000000000000000000000000000000020010db800020000000000000000000000000000000000000a000030"
    "000000000000000000000000ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
    "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "000000000000000000000000000000000000000044500000000000000201000000000000";

using Bytes = std::vector<uint8_t>;

Bytes FromHex(std::string_view text) {
  Bytes bytes;
  for (size_t i = 0; i < text.size(); i += 2) {
    bytes.push_back(static_cast<uint8_t>(std::stoi(std::string(text.substr(i, 2)), nullptr, 16)));
  }
  return bytes;
}

// A message's own header, and its attributes whatever their order. The padding is not compared.
struct Parts {
  Bytes header;
  std::map<uint16_t, Bytes> attributes;
  bool operator==(const Parts&) const = default;
};

Parts Take(std::span<const uint8_t> bytes, size_t header) {
  Parts parts{Bytes(bytes.begin(), bytes.begin() + static_cast<long>(header)), {}};
  bytes = bytes.subspan(NLMSG_ALIGN(header));
  while (!bytes.empty()) {
    nlattr one{};
    std::memcpy(&one, bytes.data(), sizeof(one));
    const auto value = bytes.subspan(NLA_HDRLEN, one.nla_len - NLA_HDRLEN);
    parts.attributes[one.nla_type] = Bytes(value.begin(), value.end());
    bytes = bytes.subspan(NLA_ALIGN(one.nla_len));
  }
  return parts;
}

template <class Header>
void ExpectSame(const Message& message, uint16_t type, const char* golden) {
  nlmsghdr header{};
  std::memcpy(&header, message.bytes().data(), sizeof(header));
  EXPECT_EQ(header.nlmsg_type, type);
  EXPECT_EQ(header.nlmsg_len, message.bytes().size());
  const Parts ours = Take(message.bytes().subspan(NLMSG_HDRLEN), sizeof(Header));
  const Parts theirs = Take(FromHex(golden), sizeof(Header));
  EXPECT_EQ(ours.header, theirs.header);
  EXPECT_EQ(ours.attributes, theirs.attributes);
}

Address Ip(std::string_view text) {
  return *Address::Parse(text);
}

Secret Counting(size_t size) {
  Bytes key(size);
  std::iota(key.begin(), key.end(), 0);
  return Secret(key);
}

SaPair Pair(Algorithm algorithm) {
  SaPair pair;
  pair.name = "nsmf/1-1";
  pair.to_peer = Spi{0x11223344};
  pair.to_gate = Spi{0x55667788};
  pair.algorithm = algorithm;
  pair.replay_window = 256;
  pair.selectors = {{*Prefix::Parse("10.2.0.10/32"),
                     *Prefix::Parse("10.1.0.0/28"),
                     IPPROTO_UDP,
                     {5000, 5000},
                     {}}};
  pair.peer_outer = Ip("192.0.2.2");
  pair.gate_outer = Ip("192.0.2.1");
  pair.life = std::chrono::seconds(900);
  pair.key_to_peer = Counting(Info(algorithm).key_bytes);
  pair.key_to_gate = Counting(Info(algorithm).key_bytes);
  return pair;
}

TEST(XfrmMessage, AssociationsAreWhatIproute2WouldSend) {
  const uint32_t reqid = ReqidOf("nsmf");
  SaPair gcm = Pair(Algorithm::aes_128_gcm_16);
  gcm.udp_encap = true;
  ExpectSame<xfrm_usersa_info>(AddSa(gcm, true, reqid), XFRM_MSG_NEWSA, kGcm);
  ExpectSame<xfrm_usersa_info>(AddSa(Pair(Algorithm::chacha20_poly1305), false, reqid),
                               XFRM_MSG_NEWSA, kChaCha);
  SaPair cbc = Pair(Algorithm::aes_128_cbc_hmac_sha_256_128);
  cbc.peer_outer = Ip("2001:db8::2");
  cbc.gate_outer = Ip("2001:db8::1");
  ExpectSame<xfrm_usersa_info>(AddSa(cbc, true, reqid), XFRM_MSG_NEWSA, kCbc);
}

TEST(XfrmMessage, AWindowBeyondTheKernelsIsItsWidest) {
  SaPair pair = Pair(Algorithm::aes_256_gcm_16);
  pair.replay_window = 8192;
  const Message message = AddSa(pair, true, ReqidOf("nsmf"));
  const Bytes window = Take(message.bytes().subspan(NLMSG_HDRLEN), sizeof(xfrm_usersa_info))
                           .attributes.at(XFRMA_REPLAY_ESN_VAL);
  xfrm_replay_state_esn state{};
  std::memcpy(&state, window.data(), sizeof(state));
  EXPECT_EQ(state.replay_window, 4096U);
  EXPECT_EQ(state.bmp_len, 128U);
}

TEST(XfrmMessage, PoliciesAreWhatIproute2WouldSend) {
  const auto policies = ProtectWith(Pair(Algorithm::aes_128_gcm_16), ReqidOf("nsmf"));
  ASSERT_TRUE(policies);
  ASSERT_EQ(policies->size(), 3U);
  for (const auto& [key, action] : *policies) {
    if (key.way == Way::forward) continue;
    ExpectSame<xfrm_userpolicy_info>(AddPolicy(key, action, false), XFRM_MSG_NEWPOLICY,
                                     key.way == Way::out ? kOut : kIn);
    ExpectSame<xfrm_userpolicy_info>(AddPolicy(key, action, true), XFRM_MSG_UPDPOLICY,
                                     key.way == Way::out ? kOut : kIn);
  }
  const std::vector<SessionSelector> selectors{
      {*Prefix::Parse("2001:db8:2::/48"), *Prefix::Parse("2001:db8:1::1/128"), 6, {}, {}}};
  const auto blocks = BlockCleartext(selectors);
  ASSERT_EQ(blocks.size(), 3U);
  for (const auto& [key, action] : blocks) {
    if (key.way != Way::forward) continue;
    ExpectSame<xfrm_userpolicy_info>(AddPolicy(key, action, false), XFRM_MSG_NEWPOLICY,
                                     kBlockForward);
  }
}

// As the kernel's dump of it would come back.
std::optional<Policies::value_type> Echo(const PolicyKey& key, const PolicyAction& action,
                                         uint32_t priority = 0) {
  const Message message = AddPolicy(key, action, false);
  Bytes bytes(message.bytes().begin(), message.bytes().end());
  if (priority != 0) {
    std::memcpy(bytes.data() + NLMSG_HDRLEN + offsetof(xfrm_userpolicy_info, priority), &priority,
                sizeof(priority));
  }
  return ReadPolicy(bytes);
}

TEST(XfrmMessage, OursAreReadBackAndOthersAreNot) {
  auto policies = *ProtectWith(Pair(Algorithm::aes_128_gcm_16), ReqidOf("nsmf"));
  policies.merge(BlockCleartext(Pair(Algorithm::aes_128_gcm_16).selectors));
  ASSERT_EQ(policies.size(), 6U);
  for (const auto& [key, action] : policies) {
    const auto back = Echo(key, action);
    ASSERT_TRUE(back) << Describe(key);
    EXPECT_EQ(back->first, key) << Describe(key);
    EXPECT_EQ(back->second, action);
    EXPECT_FALSE(Echo(key, action, 1000));
    if (action.reqid == 0) continue;
    PolicyAction others = action;
    others.reqid = 1;  // as strongSwan counts
    EXPECT_FALSE(Echo(key, others));
  }
  const Message sa = AddSa(Pair(Algorithm::aes_128_gcm_16), true, ReqidOf("nsmf"));
  const auto read = ReadSa(sa.bytes());
  ASSERT_TRUE(read);
  EXPECT_EQ(read->id, (SaId{Ip("192.0.2.2"), Spi{0x11223344}}));
  EXPECT_EQ(read->reqid, ReqidOf("nsmf"));
  EXPECT_FALSE(ReadSa(AddSa(Pair(Algorithm::aes_128_gcm_16), true, 1).bytes()));
}

TEST(XfrmMessage, WhatIsCutShortIsNotRead) {
  const Message sa = AddSa(Pair(Algorithm::aes_128_gcm_16), true, ReqidOf("nsmf"));
  for (const size_t size : {0U, 15U, 16U, 200U}) EXPECT_FALSE(ReadSa(sa.bytes().first(size)));
  const auto policies = *ProtectWith(Pair(Algorithm::aes_128_gcm_16), ReqidOf("nsmf"));
  const Message policy = AddPolicy(policies.begin()->first, policies.begin()->second, false);
  for (size_t size = 0; size < policy.bytes().size(); ++size) {
    EXPECT_FALSE(ReadPolicy(policy.bytes().first(size))) << size;
  }
  EXPECT_TRUE(ReadPolicy(policy.bytes()));
}

TEST(XfrmMessage, CountersAreRead) {
  xfrm_lifetime_cur so_far{};
  so_far.packets = 7;
  Message message(XFRM_MSG_NEWAE, 0);
  const xfrm_aevent_id id{};
  message.Put({reinterpret_cast<const uint8_t*>(&id), sizeof(id)});
  EXPECT_FALSE(ReadTraffic(message.bytes()));
  message.PutAttribute(XFRMA_LTIME_VAL,
                       {reinterpret_cast<const uint8_t*>(&so_far), sizeof(so_far)});
  EXPECT_EQ(ReadTraffic(message.bytes()), 7U);
}

bool Fits(const std::vector<PortBlock>& blocks, uint16_t port) {
  return std::ranges::any_of(blocks,
                             [&](const auto& one) { return (port & one.mask) == one.value; });
}

TEST(XfrmPorts, BlocksMakeUpTheRangeExactly) {
  using Ports = SessionSelector::Ports;
  for (const Ports range : {Ports{0, 65535}, Ports{443, 443}, Ports{443, 444}, Ports{0, 1023},
                            Ports{1, 65535}, Ports{1, 65534}, Ports{49152, 65535}}) {
    const auto blocks = Blocks(range);
    for (uint32_t port = 0; port <= UINT16_MAX; ++port) {
      ASSERT_EQ(Fits(blocks, static_cast<uint16_t>(port)),
                port >= range.first && port <= range.last)
          << range.first << " to " << range.last << ": " << port;
    }
  }
  EXPECT_EQ(Blocks({0, 65535}), (std::vector<PortBlock>{{0, 0}}));
  EXPECT_EQ(Blocks({1024, 2047}), (std::vector<PortBlock>{{1024, 0xfc00}}));
  EXPECT_EQ(Blocks({1, 65534}).size(), 30U);
}

TEST(XfrmPorts, MorePoliciesThanIsFitAreRefused) {
  SaPair pair = Pair(Algorithm::aes_128_gcm_16);
  pair.selectors[0].gate_ports = {1, 65534};
  EXPECT_EQ(ProtectWith(pair, ReqidOf("nsmf"))->size(), 90U);
  pair.selectors[0].peer_ports = {1, 65534};
  const auto refused = ProtectWith(pair, ReqidOf("nsmf"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kExhausted);
  pair.selectors[0].behind_peer.reset();
  EXPECT_FALSE(ProtectWith(pair, ReqidOf("nsmf")));
}

TEST(XfrmReqid, IsTheInterfacesOwnInEachRun) {
  EXPECT_EQ(ReqidOf("nsmf"), 0x50490a0bU);
  EXPECT_NE(ReqidOf("nsmf"), ReqidOf("scef"));
  EXPECT_TRUE(IsOurs(ReqidOf("scef")));
  EXPECT_FALSE(IsOurs(1));
  EXPECT_FALSE(IsOurs(0x60490a0b));
}

TEST(XfrmPolicies, SelectorsOfASessionComeBackFromTheFlows) {
  const auto policies = *ProtectWith(Pair(Algorithm::aes_128_gcm_16), ReqidOf("nsmf"));
  for (const auto& [key, action] : policies) {
    if (key.way != Way::in) continue;
    const auto selector = SelectorOf(key.flow);
    EXPECT_EQ(selector.behind_gate->Text(), "10.2.0.10/32");
    EXPECT_EQ(selector.behind_peer->Text(), "10.1.0.0/28");
    EXPECT_EQ(selector.gate_ports.first, 5000);
    EXPECT_EQ(selector.gate_ports.last, 5000);
    EXPECT_EQ(selector.peer_ports.last, 65535);
  }
}

}  // namespace
}  // namespace portcullis::peer::xfrm
