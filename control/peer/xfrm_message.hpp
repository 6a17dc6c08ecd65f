// What is said to the kernel's IPsec over NETLINK_XFRM, and what it answers (linux/xfrm.h;
// libnl-xfrm would keep keys in memory that it frees without wiping, and does not read
// XFRM_MSG_NEWAE).
//
// Ours are told from everybody else's by what they carry: associations by a reqid that begins with
// kOurs, policies by their priority. strongSwan counts reqids from 1, and its policies have larger
// priorities, which count for less.
#pragma once

#include <linux/netlink.h>
#include <linux/xfrm.h>

#include <array>
#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ip.hpp"
#include "base/result.hpp"
#include "control/guard/session/keys.hpp"
#include "control/peer/datapath.hpp"

namespace portcullis::peer::xfrm {

/// As policy priorities, of which the smaller one decides.
inline constexpr uint32_t kProtect = 0x5043;  // "PC"
inline constexpr uint32_t kBlock = 0x5044;

/// The reqid of an interface's associations: 0x504 and 20 bits of its name's SHA-256, so that it is
/// the same in each run.
uint32_t ReqidOf(std::string_view interface);
bool IsOurs(uint32_t reqid);

/// A port p is of it when (p & mask) == value: the kernel knows no ranges.
struct PortBlock {
  uint16_t value = 0;
  uint16_t mask = 0;
  auto operator<=>(const PortBlock&) const = default;
};
/// The fewest blocks that make up the range exactly.
std::vector<PortBlock> Blocks(const guard::SessionSelector::Ports& range);

/// Packets, as the kernel selects them.
struct Flow {
  Prefix source;
  Prefix destination;
  uint8_t protocol = 0;  // 0: any
  PortBlock source_port;
  PortBlock destination_port;
  auto operator<=>(const Flow&) const = default;
};

enum class Way : uint8_t {
  in = XFRM_POLICY_IN,
  out = XFRM_POLICY_OUT,
  forward = XFRM_POLICY_FWD,  // from the gate, for hosts behind this one
};

/// The kernel has at most one policy for each.
struct PolicyKey {
  Way way = Way::in;
  Flow flow;
  auto operator<=>(const PolicyKey&) const = default;
};

/// A tunnel's associations of one interface, or (reqid 0) none: such packets are dropped.
struct PolicyAction {
  uint32_t reqid = 0;
  Spi spi{};  // 0: any of that reqid
  Address from;
  Address to;
  bool operator==(const PolicyAction&) const = default;
};

using Policies = std::map<PolicyKey, PolicyAction>;

/// "out 10.1.0.2/32 - 10.2.0.10/32 protocol 17 port 0/0x0 - 5000/0xffff"
std::string Describe(const PolicyKey& key);

/// Those of a session, for exactly its selectors. kInvalid: a selector without its prefixes;
/// kExhausted: the ports need more blocks than anybody should ask of a kernel.
Result<Policies> ProtectWith(const SaPair& pair, uint32_t reqid);
/// Nothing in clear to or from what is behind the gate.
Policies BlockCleartext(std::span<const guard::SessionSelector> selectors);
/// What the selector of an "in" policy admits, in the words of a session.
guard::SessionSelector SelectorOf(const Flow& flow);

/// A request. Wiped when it goes.
class Message {
 public:
  Message(uint16_t type, uint16_t flags);
  Message(Message&&) noexcept = default;
  Message& operator=(Message&&) = delete;
  Message(const Message&) = delete;
  Message& operator=(const Message&) = delete;
  ~Message();

  /// The family's own header, then attributes of at most kMost bytes in all.
  void Put(std::span<const uint8_t> bytes);
  void PutAttribute(uint16_t type, std::span<const uint8_t> bytes);
  void Number(uint32_t sequence);
  [[nodiscard]] std::span<const uint8_t> bytes() const { return bytes_; }

 private:
  std::vector<uint8_t> bytes_;  // never grows: no copy of a key is left behind
};

/// How the kernel knows an association.
struct SaId {
  Address to;
  Spi spi{};
  auto operator<=>(const SaId&) const = default;
};

/// `inbound`: the one on which this peer receives.
Message AddSa(const SaPair& pair, bool inbound, uint32_t reqid);
Message DeleteSa(const SaId& id);
/// Answered by ReadTraffic()'s message; unlike XFRM_MSG_GETSA's answer, it has no keys in it.
Message AskTraffic(const SaId& id);
Message ListSas();
Message AddPolicy(const PolicyKey& key, const PolicyAction& action, bool replace);
Message DeletePolicy(const PolicyKey& key);
Message ListPolicies();

/// Absent: a message of another kind, or somebody else's.
struct OurSa {
  SaId id;
  uint32_t reqid = 0;
};
std::optional<OurSa> ReadSa(std::span<const uint8_t> message);
std::optional<Policies::value_type> ReadPolicy(std::span<const uint8_t> message);
/// Packets so far.
std::optional<uint64_t> ReadTraffic(std::span<const uint8_t> message);

}  // namespace portcullis::peer::xfrm
