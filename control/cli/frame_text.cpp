// Nothing is decided by this; it reads what hostile packets look like, so that each byte is looked
// at only when it is there.
#include "control/cli/frame_text.hpp"

#include <fmt/format.h>

#include <optional>

#include "base/ip.hpp"
#include "control/cli/json_text.hpp"
#include "control/cli/render.hpp"

namespace portcullis::cli {
namespace {

using Bytes = std::span<const uint8_t>;
constexpr const char* kCut = "[cut short]";
constexpr uint16_t kEspInUdp = 4500;

uint32_t Word(Bytes bytes, size_t at, size_t size) {
  uint32_t value = 0;
  for (size_t i = 0; i < size; ++i) value = value << 8U | bytes[at + i];
  return value;
}

std::string Host(const Address& address, std::optional<uint16_t> port) {
  if (!port) return address.Text();
  return address.IsV4() ? fmt::format("{}:{}", address.Text(), *port)
                        : fmt::format("[{}]:{}", address.Text(), *port);
}

std::string ProtocolName(unsigned protocol) {
  switch (protocol) {
    case 1:
      return "icmp";
    case 6:
      return "tcp";
    case 17:
      return "udp";
    case 50:
      return "esp";
    case 58:
      return "icmpv6";
    case 132:
      return "sctp";
    default:
      return fmt::format("protocol {}", protocol);
  }
}

// What stands behind the IP header; `first` is false in a fragment that is not the first.
std::string UpperText(const Address& from, const Address& to, unsigned protocol, Bytes upper,
                      bool first) {
  constexpr unsigned kTcp = 6, kUdp = 17, kEsp = 50, kSctp = 132, kIcmp = 1, kIcmpv6 = 58;
  const bool ports = protocol == kTcp || protocol == kUdp || protocol == kSctp;
  std::string text;
  if (first && ports && upper.size() >= 4) {
    const auto source = static_cast<uint16_t>(Word(upper, 0, 2));
    const auto destination = static_cast<uint16_t>(Word(upper, 2, 2));
    text = fmt::format("{} > {} {}", Host(from, source), Host(to, destination),
                       ProtocolName(protocol));
    constexpr size_t kUdpHeader = 8;
    if (protocol == kUdp && destination == kEspInUdp && upper.size() >= kUdpHeader + 4) {
      text += fmt::format(" esp {:#010x}", Word(upper, kUdpHeader, 4));
    }
    constexpr size_t kFlags = 13;
    if (protocol == kTcp && upper.size() > kFlags) {
      if ((upper[kFlags] & 0x02U) != 0) text += " syn";
      if ((upper[kFlags] & 0x10U) != 0) text += " ack";
    }
    return text;
  }
  text = fmt::format("{} > {} {}", Host(from, {}), Host(to, {}), ProtocolName(protocol));
  if (!first) return text + " fragment";
  if (protocol == kEsp && upper.size() >= 4) text += fmt::format(" {:#010x}", Word(upper, 0, 4));
  if ((protocol == kIcmp || protocol == kIcmpv6) && upper.size() >= 2) {
    text += fmt::format(" type {} code {}", upper[0], upper[1]);
  }
  return text;
}

std::string Ipv4Text(Bytes ip) {
  constexpr size_t kHeader = 20;
  if (ip.size() < kHeader) return kCut;
  const size_t length = size_t{ip[0] & 0x0fU} * 4;
  const bool first = (Word(ip, 6, 2) & 0x1fffU) == 0;
  const bool whole = length >= kHeader && length <= ip.size();
  return UpperText(Address::V4(&ip[12]), Address::V4(&ip[16]), ip[9],
                   whole ? ip.subspan(length) : Bytes(), first);
}

std::string Ipv6Text(Bytes ip) {
  constexpr size_t kHeader = 40;
  constexpr unsigned kHopByHop = 0, kRouting = 43, kFragment = 44, kOptions = 60;
  if (ip.size() < kHeader) return kCut;
  unsigned next = ip[6];
  Bytes rest = ip.subspan(kHeader);
  bool first = true;
  while ((next == kHopByHop || next == kRouting || next == kFragment || next == kOptions) &&
         rest.size() >= 8) {
    if (next == kFragment && (Word(rest, 2, 2) & 0xfff8U) != 0) first = false;
    const size_t length = next == kFragment ? 8 : (size_t{rest[1]} + 1) * 8;
    next = rest[0];
    rest = length <= rest.size() ? rest.subspan(length) : Bytes();
  }
  return UpperText(Address::V6(&ip[8]), Address::V6(&ip[24]), next, rest, first);
}

}  // namespace

std::string FrameText(Bytes frame) {
  constexpr unsigned kVlan = 0x8100, kQinq = 0x88a8, kIpv4 = 0x0800, kIpv6 = 0x86dd;
  constexpr size_t kMacs = 12;
  if (frame.size() < kMacs + 2) return kCut;
  size_t at = kMacs;
  unsigned type = Word(frame, at, 2);
  std::string tags;
  while ((type == kVlan || type == kQinq) && frame.size() >= at + 6) {
    tags += fmt::format("vlan {} ", Word(frame, at + 2, 2) & 0x0fffU);
    at += 4;
    type = Word(frame, at, 2);
  }
  const Bytes rest = frame.subspan(at + 2);
  if (type == kIpv4) return tags + Ipv4Text(rest);
  if (type == kIpv6) return tags + Ipv6Text(rest);
  return tags + fmt::format("ethertype {:#06x}", type);
}

std::string RenderDrop(const nlohmann::json& drop) {
  const std::string hex = Text(drop, "frame");
  std::vector<uint8_t> frame;
  const auto digit = [](char c) {
    return static_cast<unsigned>(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
  };
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    frame.push_back(static_cast<uint8_t>((digit(hex[i]) << 4U | digit(hex[i + 1])) & 0xffU));
  }
  return fmt::format("{}  {:<8} {:<21} {}, {} bytes\n", Text(drop, "time"), Text(drop, "port"),
                     Text(drop, "verdict"), FrameText(frame), Number(drop, "length"));
}

}  // namespace portcullis::cli
