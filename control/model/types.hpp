// What operators configure, as plain types: which management interfaces are protected, which peers
// there are, and which role may reach which interface. Together they are one Document, which is
// valid or refused as a whole. JSON is in json.hpp, the rules in validate.hpp, what the dataplane
// gets in compile.hpp.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/ip.hpp"

namespace portcullis::model {

/// Text and value of an enumeration, in one place for both directions.
template <class E, size_t N>
using Choices = std::array<std::pair<std::string_view, E>, N>;

template <class E, size_t N>
constexpr std::string_view TextOf(const Choices<E, N>& choices, E value) {
  for (const auto& [text, v] : choices) {
    if (v == value) return text;
  }
  return {};
}

enum class Protocol : uint8_t { any = 0, icmp = 1, tcp = 6, udp = 17, icmpv6 = 58, sctp = 132 };
inline constexpr Choices<Protocol, 5> kServiceProtocols = {{{"tcp", Protocol::tcp},
                                                            {"udp", Protocol::udp},
                                                            {"sctp", Protocol::sctp},
                                                            {"icmp", Protocol::icmp},
                                                            {"icmpv6", Protocol::icmpv6}}};
inline constexpr uint64_t kMostPort = 65535;
constexpr bool HasPorts(Protocol p) {
  return p == Protocol::tcp || p == Protocol::udp || p == Protocol::sctp;
}

/// A transport protocol and its ports, first..last inclusive (0..0 where it has none).
struct ServicePorts {
  Protocol protocol = Protocol::tcp;
  uint16_t first = 0;
  uint16_t last = 0;
};

/// 0: unlimited.
struct Rate {
  uint64_t packets_per_second = 0;
  uint64_t bits_per_second = 0;
  uint32_t burst_ms = 0;
};

enum class InterfaceType : uint8_t {
  management_exposure,  // CSMF - NSMF, TS 28.531/28.532
  scef,                 // T8, TS 29.122
  msgin5g,
  os_ma_nfvo,
  or_vnfm,
  or_vi,
  vi_vnfm,
  ve_vnfm,
  nf_vi,
  nfvi_sm,  // NFVI - security manager
  catalogue,
  api_registry,
  other,
};
inline constexpr Choices<InterfaceType, 13> kInterfaceTypes = {{
    {"management-exposure", InterfaceType::management_exposure},
    {"scef", InterfaceType::scef},
    {"msgin5g", InterfaceType::msgin5g},
    {"os-ma-nfvo", InterfaceType::os_ma_nfvo},
    {"or-vnfm", InterfaceType::or_vnfm},
    {"or-vi", InterfaceType::or_vi},
    {"vi-vnfm", InterfaceType::vi_vnfm},
    {"ve-vnfm", InterfaceType::ve_vnfm},
    {"nf-vi", InterfaceType::nf_vi},
    {"nfvi-sm", InterfaceType::nfvi_sm},
    {"catalogue", InterfaceType::catalogue},
    {"api-registry", InterfaceType::api_registry},
    {"other", InterfaceType::other},
}};

/// Where the servers stand: behind this gate, or behind the peer.
enum class Side : uint8_t { local, remote };
inline constexpr Choices<Side, 2> kSides = {{{"local", Side::local}, {"remote", Side::remote}}};

enum class Zone : uint8_t { external, internal };
inline constexpr Choices<Zone, 2> kZones = {
    {{"external", Zone::external}, {"internal", Zone::internal}}};

enum class Protection : uint8_t { esp, tls, tls_esp, none };
inline constexpr Choices<Protection, 4> kProtections = {{{"esp", Protection::esp},
                                                         {"tls", Protection::tls},
                                                         {"tls+esp", Protection::tls_esp},
                                                         {"none", Protection::none}}};

/// Where the guard takes an interface's requests that come in ESP.
struct GuardPlace {
  Address address;
  uint16_t port = 0;
};

struct Interface {
  std::string name;
  InterfaceType type = InterfaceType::other;
  Side side = Side::local;
  std::vector<Prefix> prefixes;  // the servers
  std::vector<ServicePorts> ports;
  Zone zone = Zone::external;
  Protection protection = Protection::esp;
  std::vector<Prefix> clients;      // side remote: ours
  std::optional<GuardPlace> guard;  // protection tls+esp: what clients connect to
};

/// How a peer proves who it is. The two never mix: what admits by one does not admit by the other.
enum class Authentication : uint8_t { certificate, psk };
inline constexpr Choices<Authentication, 2> kAuthentications = {
    {{"certificate", Authentication::certificate}, {"psk", Authentication::psk}}};

/// Whose access tokens are the peer's own.
struct TokenClient {
  std::string issuer;          // `iss`
  std::string client_id;       // unique with the issuer
  std::string key_thumbprint;  // RFC 7638, base64url; psk: of the one key that proves possession
};

struct Peer {
  std::string name;
  std::string identity;  // certificate: its alternative name; psk: for people
  Authentication authentication = Authentication::certificate;
  std::optional<TokenClient> token;  // absent: it cannot open sessions
  std::string role;
  std::string tenant;
  std::string caller_id;  // what {scsAsId}, {afId} must be in its paths; empty: its client_id
  std::vector<std::string> callbacks;  // where it may be called: prefixes (model/callback.hpp)
  std::optional<Address> endpoint;
  std::vector<Prefix> prefixes;
  Rate rate;
  bool enabled = true;
};

/// 15 minutes, unless a policy says otherwise.
inline constexpr uint32_t kGrantSeconds = 900;

/// When a peer that has a session says from another outer address that it knows of none
/// (`initial_contact`): the old one goes; it stays and the newcomer is refused, until it has ended;
/// the old one goes and operators are told.
enum class SecondPlace : uint8_t { replace, refuse, alarm };
inline constexpr Choices<SecondPlace, 3> kSecondPlaces = {{{"replace", SecondPlace::replace},
                                                           {"refuse", SecondPlace::refuse},
                                                           {"alarm", SecondPlace::alarm}}};

/// At most so many of an operation, for each tenant, within any such time.
struct Quota {
  std::string operation;
  uint32_t count = 0;
  uint32_t seconds = 0;
};

/// One day, unless a rule or a policy says otherwise.
inline constexpr uint32_t kApprovalSeconds = 86400;

struct Policy {
  std::string name;
  std::string role;
  std::string interface;
  std::vector<std::string> operations;           // of the interface's profile; requests only
  std::vector<Quota> quotas;                     // requests only
  std::vector<std::string> approval;             // those of them that an operator must approve
  uint32_t approval_seconds = kApprovalSeconds;  // what waits for him, and what he has approved
  bool one_time = false;                         // a token is good for one request; requests only
  std::vector<ServicePorts> callback_ports;      // of the clients, for connections from the servers
  std::vector<ServicePorts> registration_ports;  // open before registration; none: all is, always
  std::string scope;                             // of the token that opens it; empty: none does
  uint32_t grant_seconds = kGrantSeconds;        // what a session gets at most
  SecondPlace second_place = SecondPlace::replace;
};

/// What a second person can be asked for. Revoking is not among it: it only ever closes, and must
/// be possible at once; nor is blocking requests, although taking a block back or changing it is a
/// change of policies. Nor are keys installed by hand, which could not wait without being kept.
enum class ApprovedChange : uint8_t { interfaces, peers, policies, first_line, readmission };
inline constexpr Choices<ApprovedChange, 5> kApprovedChanges = {
    {{"interfaces", ApprovedChange::interfaces},
     {"peers", ApprovedChange::peers},
     {"policies", ApprovedChange::policies},
     {"first-line", ApprovedChange::first_line},
     {"readmission", ApprovedChange::readmission}}};

/// Such changes are made when another person has agreed. Where there is one rule, changing or
/// removing any is such a change as well.
struct ApprovalRule {
  std::string name;
  std::vector<ApprovedChange> changes;
  uint32_t expires_seconds = kApprovalSeconds;  // how long a change waits for the other person
};

/// 0: unlimited.
struct SourceLimit {
  uint64_t per_second = 0;
  uint32_t burst = 0;
};

/// What the first line of defence (XDP) drops before it costs anything, by outer source alone.
/// Peers' endpoints are admitted by name, whatever is said here but `deny`.
struct FirstLine {
  static constexpr size_t kMostPrefixes = 65536;  // admit and deny together
  static constexpr size_t kMostServices = 16;     // sessions and host together

  bool admit_strangers = true;  // sources that are neither named here nor a peer's endpoint
  std::vector<Prefix> admit;    // the longest prefix decides
  std::vector<Prefix> deny;
  uint8_t ipv4_length = 32;  // what counts as one source for the limits
  uint8_t ipv6_length = 64;
  SourceLimit packets;     // ESP, and whatever else goes to the dataplane, for each source
  SourceLimit handshakes;  // sessions begun, for each source
  SourceLimit strangers;   // sessions begun, all strangers together
  std::vector<ServicePorts> sessions;             // the guard's
  std::optional<std::vector<ServicePorts>> host;  // open on the untrusted side; absent: all
};

/// Such requests are refused for now, whatever policies grant: a weakness became known
/// (Runtime-16).
struct RequestBlock {
  std::string name;
  std::string interface;
  std::string peer;    // empty: everybody's
  std::string method;  // empty: any
  std::string path;    // as in the request; with a '*' at its end: whatever begins so
};

struct Document {
  std::vector<Interface> interfaces;
  std::vector<Peer> peers;
  std::vector<Policy> policies;
  std::vector<ApprovalRule> approval;
  std::optional<FirstLine> first_line;
  std::vector<RequestBlock> blocks;
};

/// Something that is admitted, but that the operator should know.
struct Warning {
  std::string kind;  // "interface", "peer", "policy", "first-line", "sa"
  std::string name;
  std::string text;
};

}  // namespace portcullis::model
