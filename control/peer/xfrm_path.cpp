#include "control/peer/xfrm_path.hpp"

#include <openssl/rand.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <random>
#include <set>
#include <utility>

#include "control/coroutines.hpp"
#include "control/peer/offer.hpp"

namespace portcullis::peer {

namespace asio = boost::asio;
using xfrm::KernelError;
using xfrm::OurSa;
using xfrm::Policies;
using xfrm::SaId;
using xfrm::Socket;

namespace {

constexpr uint32_t kLeastSpi = 256;  // RFC 4303 2.1
constexpr std::chrono::seconds kTick{1};
constexpr unsigned kKeepaliveTicks = 20;  // RFC 3948 4
constexpr int kListings = 5;              // that others' changes may spoil in a row

Error ToError(const std::string& what, const KernelError& error) {
  const ErrorKind kind = error.number == EPERM ? ErrorKind::kForbidden
                         : error.number == ENOMEM || error.number == ENOBUFS
                             ? ErrorKind::kExhausted
                             : ErrorKind::kUnavailable;
  // What this process may do is the same whatever it asks for.
  const char* expected =
      error.number == EPERM
          ? "CAP_NET_ADMIN in this network namespace (docs/peer.md: the unit's drop-in)"
          : "";
  return {kind, fmt::format("the kernel's IPsec: {}: {}", what, error.Text()), {}, expected, {}};
}

// Whether deleting failed other than by there being nothing to delete.
bool Failed(const xfrm::Answer<void>& answer) {
  return !answer && answer.error().number != ESRCH && answer.error().number != ENOENT;
}

/// A list of what `read` makes of each message.
template <class T>
Result<std::vector<T>> List(const Socket& kernel, xfrm::Message (*request)(),
                            std::optional<T> (*read)(std::span<const uint8_t>)) {
  for (int tried = 1;; ++tried) {
    std::vector<T> all;
    const auto listed = kernel.Ask(request(), [&](std::span<const uint8_t> message) {
      if (auto one = read(message)) all.push_back(*std::move(one));
    });
    if (listed) return all;
    if (listed.error().number != EINTR || tried == kListings) {
      return tl::unexpected(ToError("listing what is there", listed.error()));
    }
  }
}

Secret RandomKey(size_t size) {
  std::array<uint8_t, UINT8_MAX> bytes{};
  const std::span<uint8_t> key = std::span(bytes).first(size);
  if (RAND_bytes(key.data(), static_cast<int>(size)) != 1) throw std::bad_alloc();
  Secret secret{std::span<const uint8_t>(key)};
  Wipe(key);
  return secret;
}

Spi RandomSpi() {
  std::random_device random;  // the kernel's
  return Spi{std::uniform_int_distribution<uint32_t>(kLeastSpi, UINT32_MAX)(random)};
}

std::string InterfaceOf(const std::string& pair) {
  return pair.substr(0, pair.find('/'));
}

}  // namespace

Result<std::unique_ptr<XfrmPath>> XfrmPath::Open(const asio::any_io_executor& executor,
                                                 const PeerConfig& config) {
  auto socket = Socket::Open();
  if (!socket) return tl::unexpected(socket.error());
  std::unique_ptr<XfrmPath> path(new XfrmPath(executor, *std::move(socket)));
  const auto known = config.outer_gate ? config.outer_gate : config.gate.address;
  std::set<Algorithm> algorithms;
  for (const auto& session : config.sessions) {
    algorithms.insert(session.algorithms.begin(), session.algorithms.end());
  }
  if (auto begun = path->Begin(config); !begun) return tl::unexpected(begun.error());
  for (const Algorithm algorithm : algorithms) {
    const auto works = path->Try(algorithm, !known || known->IsV4());
    if (!works) return tl::unexpected(works.error());
  }
  if (config.udp_encap) {
    auto ports = NatPorts::Open();
    if (!ports) return tl::unexpected(ports.error());
    path->nat_ = *std::move(ports);
  }
  spdlog::info("the kernel's IPsec carries the packets; {} policies of an earlier run go on",
               path->Wanted().size() - path->blocks_.size());
  return path;
}

// An association between addresses that no packet comes from, gone by itself in any case.
Result<void> XfrmPath::Try(Algorithm algorithm, bool v4) const {
  SaPair pair;
  pair.to_peer = RandomSpi();
  pair.algorithm = algorithm;
  pair.replay_window = 64;
  pair.peer_outer = pair.gate_outer = *Address::Parse(v4 ? "127.0.0.1" : "::1");
  pair.life = std::chrono::seconds(10);
  pair.key_to_peer = RandomKey(Info(algorithm).key_bytes);
  const auto added = kernel_.Ask(xfrm::AddSa(pair, true, xfrm::ReqidOf("")));
  if (added) {
    (void)kernel_.Ask(xfrm::DeleteSa({pair.peer_outer, pair.to_peer}));
    return {};
  }
  const std::string tried = fmt::format("adding a security association with {} over {} was tried",
                                        Info(algorithm).name, v4 ? "IPv4" : "IPv6");
  Error error = ToError(tried, added.error());
  // The cipher is looked for first: without ESP there may be none either.
  const int number = added.error().number;
  if (number == EPROTONOSUPPORT || number == ENOSYS || number == ENOENT) {
    error.expected = fmt::format(
        "a kernel with ESP (CONFIG_INET{0}_ESP, module esp{1}) and this cipher, or `algorithms` "
        "without it",
        v4 ? "" : "6", v4 ? 4 : 6);
  }
  return tl::unexpected(std::move(error));
}

Result<void> XfrmPath::Begin(const PeerConfig& config) {
  for (const auto& session : config.sessions) {
    const auto [at, added] =
        interfaces_.emplace(xfrm::ReqidOf(session.interface), session.interface);
    if (!added) {
      return Invalid("sessions", "two interfaces have the same reqid in the kernel",
                     "another name for one of them", at->second + " and " + session.interface);
    }
    blocks_.merge(xfrm::BlockCleartext(session.selectors));
  }
  if (auto read = ReadPolicies(); !read) return read;
  // What an earlier run admitted and this configuration still does.
  const auto admitted = [&](const Policies::value_type& policy) {
    const xfrm::Flow& flow = policy.first.flow;
    const bool out = policy.first.way == xfrm::Way::out;
    const auto selector =
        xfrm::SelectorOf(out ? xfrm::Flow{flow.destination, flow.source, flow.protocol,
                                          flow.destination_port, flow.source_port}
                             : flow);
    return std::ranges::any_of(config.sessions, [&](const auto& session) {
      return xfrm::ReqidOf(session.interface) == policy.second.reqid &&
             std::ranges::any_of(session.selectors,
                                 [&](const auto& outer) { return Within(selector, outer); });
    });
  };
  for (const auto& policy : present_) {
    if (admitted(policy)) protections_[policy.second.reqid].policies.insert(policy);
  }
  if (auto applied = Apply(Wanted()); !applied) return applied;
  const auto sas = OurSas();
  if (!sas) return tl::unexpected(sas.error());
  for (const OurSa& sa : *sas) {
    if (!interfaces_.contains(sa.reqid)) (void)kernel_.Ask(xfrm::DeleteSa(sa.id));
  }
  return {};
}

Result<void> XfrmPath::Clear() {
  const auto kernel = Socket::Open();
  if (!kernel) return tl::unexpected(kernel.error());
  const auto sas = List<OurSa>(*kernel, xfrm::ListSas, xfrm::ReadSa);
  if (!sas) return tl::unexpected(sas.error());
  const auto policies = List<Policies::value_type>(*kernel, xfrm::ListPolicies, xfrm::ReadPolicy);
  if (!policies) return tl::unexpected(policies.error());
  for (const OurSa& sa : *sas) {
    const auto gone = kernel->Ask(xfrm::DeleteSa(sa.id));
    if (Failed(gone)) return tl::unexpected(ToError("deleting an association", gone.error()));
  }
  for (const auto& [key, action] : *policies) {
    const auto gone = kernel->Ask(xfrm::DeletePolicy(key));
    if (Failed(gone)) {
      return tl::unexpected(ToError("deleting the policy " + Describe(key), gone.error()));
    }
  }
  spdlog::info("{} associations and {} policies are removed from the kernel's IPsec", sas->size(),
               policies->size());
  return {};
}

Result<void> XfrmPath::ReadPolicies() {
  auto all = List<Policies::value_type>(kernel_, xfrm::ListPolicies, xfrm::ReadPolicy);
  if (!all) return tl::unexpected(all.error());
  present_ = Policies(all->begin(), all->end());
  return {};
}

Result<std::vector<OurSa>> XfrmPath::OurSas() const {
  return List<OurSa>(kernel_, xfrm::ListSas, xfrm::ReadSa);
}

// A session's policy may be about the very packets that a blocking one is about: there is one
// policy for each key, and the blocking one comes back when the session goes.
Policies XfrmPath::Wanted() const {
  Policies wanted = blocks_;
  for (const auto& [reqid, protection] : protections_) {
    for (const auto& [key, action] : protection.policies) wanted[key] = action;
  }
  return wanted;
}

// What is new comes before what is old goes: nothing is in clear in between.
Result<void> XfrmPath::Apply(const Policies& wanted) {
  for (const auto& [key, action] : wanted) {
    const auto at = present_.find(key);
    const bool there = at != present_.end();
    if (there && at->second == action) continue;
    const auto added = kernel_.Ask(xfrm::AddPolicy(key, action, there));
    if (!added) {
      Error error = ToError("adding the policy " + Describe(key), added.error());
      if (added.error().number == EEXIST) error.expected = "that nobody else has one for these";
      return tl::unexpected(std::move(error));
    }
    present_[key] = action;
  }
  std::vector<xfrm::PolicyKey> stale;
  for (const auto& [key, action] : present_) {
    if (!wanted.contains(key)) stale.push_back(key);
  }
  for (const auto& key : stale) {
    const auto gone = kernel_.Ask(xfrm::DeletePolicy(key));
    if (Failed(gone)) {
      return tl::unexpected(ToError("deleting the policy " + Describe(key), gone.error()));
    }
    present_.erase(key);
  }
  return {};
}

asio::awaitable<void> XfrmPath::Run() {
  for (unsigned tick = 1; !stopping_; ++tick) {
    pause_.expires_after(kTick);
    co_await pause_.async_wait(kAwait);
    if (stopping_) break;
    Restore();
    if (nat_ && tick % kKeepaliveTicks == 0) KeepNatOpen();
  }
}

void XfrmPath::Stop() {
  stopping_ = true;
  pause_.cancel();
}

// An administrator's or another daemon's flush takes ours with it, and what was protected would go
// in clear from then on.
void XfrmPath::Restore() {
  const Policies wanted = Wanted();
  auto outcome = ReadPolicies();
  if (outcome && present_ != wanted) {
    spdlog::warn("the kernel's IPsec: somebody changed this agent's policies; they are restored");
    outcome = Apply(wanted);
  }
  const std::string why_not = outcome ? "" : outcome.error().Text();
  if (why_not != why_not_ && !outcome) spdlog::error("{}", why_not);
  why_not_ = why_not;
}

void XfrmPath::KeepNatOpen() const {
  std::set<Address> gates;
  for (const auto& [name, pair] : pairs_) {
    if (pair.udp_encap) gates.insert(pair.to_gate.to);
  }
  for (const Address& gate : gates) nat_->KeepOpen(gate);
}

// One that is somebody else's after all is refused when it is installed, and another one tried.
Result<Spi> XfrmPath::ChooseSpi() {
  const auto taken = [&](Spi spi) {
    return std::ranges::any_of(pairs_,
                               [&](const auto& one) { return one.second.to_peer.spi == spi; });
  };
  Spi spi = RandomSpi();
  while (taken(spi)) spi = RandomSpi();
  return spi;
}

Result<void> XfrmPath::Put(const SaPair& pair) {
  const uint32_t reqid = xfrm::ReqidOf(InterfaceOf(pair.name));
  auto policies = xfrm::ProtectWith(pair, reqid);
  if (!policies) return tl::unexpected(policies.error());
  const Pair ids{{pair.peer_outer, pair.to_peer}, {pair.gate_outer, pair.to_gate}, pair.udp_encap};
  const auto inbound = kernel_.Ask(xfrm::AddSa(pair, true, reqid));
  if (!inbound) return tl::unexpected(ToError("adding the inbound association", inbound.error()));
  const auto outbound = kernel_.Ask(xfrm::AddSa(pair, false, reqid));
  if (!outbound) {
    (void)kernel_.Ask(xfrm::DeleteSa(ids.to_peer));
    return tl::unexpected(ToError("adding the outbound association", outbound.error()));
  }
  const auto before = protections_;
  protections_[reqid] = {pair.name, *std::move(policies)};
  if (auto applied = Apply(Wanted()); !applied) {
    protections_ = before;
    (void)Apply(Wanted());  // and again each second
    (void)kernel_.Ask(xfrm::DeleteSa(ids.to_gate));
    (void)kernel_.Ask(xfrm::DeleteSa(ids.to_peer));
    return applied;
  }
  pairs_[pair.name] = ids;
  return {};
}

asio::awaitable<Result<void>> XfrmPath::Install(SaPair pair) {
  co_return Put(pair);
}

// What an older pair of the interface still receives goes with the newest one's policies.
asio::awaitable<Result<void>> XfrmPath::Remove(std::vector<std::string> names) {
  for (const auto& name : names) {
    std::erase_if(protections_, [&](const auto& one) { return one.second.pair == name; });
  }
  if (auto applied = Apply(Wanted()); !applied) co_return applied;
  for (const auto& name : names) {
    std::vector<SaId> ids;
    if (const auto at = pairs_.find(name); at != pairs_.end()) {
      ids = {at->second.to_gate, at->second.to_peer};
    } else if (const auto left = left_.find(name); left != left_.end()) {
      ids = {left->second};
    }
    for (const SaId& id : ids) {
      const auto gone = kernel_.Ask(xfrm::DeleteSa(id));
      if (Failed(gone)) {
        co_return tl::unexpected(ToError("deleting an association", gone.error()));
      }
    }
    pairs_.erase(name);
    left_.erase(name);
  }
  co_return Result<void>{};
}

std::string XfrmPath::NameOf(const OurSa& sa) const {
  for (const auto& [name, pair] : pairs_) {
    if (sa.id == pair.to_peer || sa.id == pair.to_gate) return name;
  }
  return fmt::format("{}/spi-{:08x}-{}", interfaces_.at(sa.reqid), Value(sa.id.spi),
                     sa.id.to.Text());
}

asio::awaitable<Result<std::vector<std::string>>> XfrmPath::Names() {
  const auto sas = OurSas();
  if (!sas) co_return tl::unexpected(sas.error());
  std::set<std::string> names;
  for (const OurSa& sa : *sas) {
    if (!interfaces_.contains(sa.reqid)) continue;
    const std::string name = NameOf(sa);
    names.insert(name);
    if (!pairs_.contains(name)) left_[name] = sa.id;
  }
  co_return std::vector<std::string>(names.begin(), names.end());
}

asio::awaitable<Result<Traffic>> XfrmPath::Read(std::string name) {
  Traffic traffic;
  const auto at = pairs_.find(name);
  if (at == pairs_.end()) co_return Fail(ErrorKind::kNotFound, "no such session");
  for (const bool inbound : {true, false}) {
    uint64_t& packets = inbound ? traffic.received : traffic.sent;
    const SaId& id = inbound ? at->second.to_peer : at->second.to_gate;
    const auto answer = kernel_.Ask(xfrm::AskTraffic(id), [&](std::span<const uint8_t> message) {
      packets = xfrm::ReadTraffic(message).value_or(0);
    });
    if (answer) continue;
    if (answer.error().number == ESRCH) {
      co_return Fail(ErrorKind::kNotFound, "the kernel no longer has the session's keys");
    }
    co_return tl::unexpected(ToError("reading an association's counters", answer.error()));
  }
  co_return traffic;
}

}  // namespace portcullis::peer
