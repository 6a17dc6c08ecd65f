#include "dataplane/ports/netlink.hpp"

#include <linux/rtnetlink.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "dataplane/ports/kernel_reader.hpp"

namespace portcullis {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr milliseconds kQuiet{20};      // without news: they have settled
constexpr milliseconds kLongest{200};   // news are not held back longer
constexpr milliseconds kAskAgain{100};  // not the same neighbour more often
constexpr milliseconds kGatewayRetry{1000};
constexpr size_t kMostAsked = 4096;  // remembered, so that a scan costs no memory

// What is to be read again.
enum Part : unsigned { kLinks = 1, kAddresses = 2, kRoutes = 4, kNeighbours = 8, kAll = 15 };

/// A link takes its addresses, routes and neighbours with it, not all of which the kernel reports.
unsigned PartsOf(uint16_t message) {
  switch (message) {
    case RTM_NEWLINK:
    case RTM_DELLINK:
      return kAll;
    case RTM_NEWADDR:
    case RTM_DELADDR:
      return kAddresses | kRoutes;
    case RTM_NEWNEIGH:
    case RTM_DELNEIGH:
      return kNeighbours;
    default:
      return kRoutes;  // routes and next hop objects
  }
}

}  // namespace

class NetlinkMirror::Impl {
 public:
  Impl(std::vector<NetworkPort> ports, std::vector<StaticRoute> routes, Callbacks callbacks,
       KernelReader reader, NlSocket events)
      : ports_(std::move(ports)),
        statics_(std::move(routes)),
        callbacks_(std::move(callbacks)),
        reader_(std::move(reader)),
        events_(std::move(events)) {}

  /// Joins the groups before the first reading: what changes in between is news.
  Result<void> Subscribe() {
    nl_sock* s = events_.get();
    nl_socket_disable_seq_check(s);  // news answer no request
    nl_socket_modify_cb(s, NL_CB_VALID, NL_CB_CUSTOM, &Impl::OnMessage, this);
    nl_socket_set_nonblocking(s);
    nl_socket_set_buffer_size(s, 1 << 20, 0);
    for (const int group :
         {RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE,
          RTNLGRP_IPV6_ROUTE, RTNLGRP_NEIGH, RTNLGRP_NEXTHOP}) {
      if (const int rc = nl_socket_add_membership(s, group); rc < 0) {
        return Fail(ErrorKind::kUnavailable,
                    fmt::format("netlink: cannot join group {}: {}", group, NetlinkText(rc)));
      }
    }
    return {};
  }

  [[nodiscard]] int fd() const { return nl_socket_get_fd(events_.get()); }

  [[nodiscard]] milliseconds Timeout() const {
    const auto due = Due();
    if (!due) return milliseconds(-1);
    return std::max(milliseconds(0), std::chrono::ceil<milliseconds>(*due - Clock::now()));
  }

  Result<void> Run() {
    TakeNews();
    const auto due = Due();
    if (!due || Clock::now() < *due) return {};
    return Update();
  }

  /// Reads what is out of date, then calls back.
  Result<void> Update() {
    const unsigned stale = std::exchange(stale_, 0);
    if (auto read = Read(stale); !read) {
      stale_ |= stale;  // the next Run tries again
      first_news_ = last_news_ = Clock::now();
      return read;
    }
    CompiledRoutes compiled = CompileRoutes(state_, ports_, statics_);
    gateways_ = std::move(compiled.gateways);
    KeepGateways();
    TellLinks();
    TellAddresses();
    if (callbacks_.routes && (!fib_ || *fib_ != compiled.fib)) {
      fib_ = compiled.fib;
      callbacks_.routes(std::move(compiled.fib));
    }
    return {};
  }

  void Ask(uint16_t port, const Address& neighbour, bool keep) {
    const int ifindex = Ifindex(port);
    if (ifindex == 0) return;
    const KernelNeighbour* known = Find(ifindex, neighbour);
    if (known != nullptr && known->fixed) return;
    const auto now = Clock::now();
    if (asked_.size() >= kMostAsked) asked_.clear();
    const auto [at, first] = asked_.try_emplace({ifindex, neighbour}, now);
    if (!first) {
      if (now - at->second < kAskAgain) return;
      at->second = now;
    }
    // It fails when the interface is down or gone; that is news, and comes as such.
    (void)reader_.Ask(ifindex, neighbour, keep);
  }

  void Touch(uint16_t port, const Address& neighbour) {
    const KernelNeighbour* known = Find(Ifindex(port), neighbour);
    if (known != nullptr && known->stale) Ask(port, neighbour, IsGateway(port, neighbour));
  }

  [[nodiscard]] bool IsGateway(uint16_t port, const Address& neighbour) const {
    return std::ranges::binary_search(gateways_, std::pair(port, neighbour));
  }

 private:
  static int OnMessage(nl_msg* message, void* self) {
    static_cast<Impl*>(self)->News(PartsOf(nlmsg_hdr(message)->nlmsg_type));
    return NL_OK;
  }

  void News(unsigned parts) {
    const auto now = Clock::now();
    if (stale_ == 0) first_news_ = now;
    last_news_ = now;
    stale_ |= parts;
  }

  void TakeNews() {
    // Bounded, so that a storm of news cannot keep the caller here.
    for (int i = 0; i < 1000; ++i) {
      const int rc = nl_recvmsgs_default(events_.get());
      if (rc == -NLE_AGAIN) return;
      if (rc < 0) {
        News(kAll);  // overrun: something was said that we did not hear
        return;
      }
    }
  }

  [[nodiscard]] std::optional<Clock::time_point> Due() const {
    std::optional<Clock::time_point> due;
    if (stale_ != 0) due = std::min(last_news_ + kQuiet, first_news_ + kLongest);
    if (unresolved_gateways_) {
      const auto retry = last_gateways_ + kGatewayRetry;
      due = due ? std::min(*due, retry) : retry;
    }
    return due;
  }

  Result<void> Read(unsigned parts) {
    Result<void> read;
    if ((parts & kLinks) != 0) read = reader_.ReadLinks(state_);
    if (read && (parts & kAddresses) != 0) read = reader_.ReadAddresses(state_);
    if (read && (parts & kRoutes) != 0) read = reader_.ReadRoutes(state_);
    if (read && (parts & kNeighbours) != 0) {
      read = reader_.ReadNeighbours(state_);
      neighbours_.clear();
      for (const KernelNeighbour& n : state_.neighbours) neighbours_[{n.ifindex, n.address}] = &n;
    }
    return read;
  }

  /// What routes lead to is resolved before a packet needs it, and stays so.
  void KeepGateways() {
    last_gateways_ = Clock::now();
    unresolved_gateways_ = false;
    std::set<std::pair<uint16_t, Address>> kept;
    for (const auto& gateway : gateways_) {
      const KernelNeighbour* known = Find(Ifindex(gateway.first), gateway.second);
      const bool resolved = known != nullptr && known->usable;
      unresolved_gateways_ |= !resolved;
      // An entry that is resolved by chance is asked for once too: to be kept.
      const bool is_kept = resolved && !known->stale && kept_.contains(gateway);
      if (!is_kept) Ask(gateway.first, gateway.second, true);
      if (known != nullptr) kept.insert(gateway);
    }
    kept_ = std::move(kept);
  }

  void TellLinks() {
    for (const NetworkPort& port : ports_) {
      if (port.ifindex == 0) continue;
      const KernelLink* link = state_.Link(port.ifindex);
      const bool up = link != nullptr && link->up;
      const auto [at, first] = up_.try_emplace(port.id, up);
      if (!first && at->second == up) continue;
      at->second = up;
      if (callbacks_.link) callbacks_.link(port.id, up);
    }
  }

  void TellAddresses() {
    for (const NetworkPort& port : ports_) {
      if (port.ifindex == 0) continue;
      std::vector<Address> own;
      for (const KernelAddress& address : state_.addresses) {
        if (address.ifindex == port.ifindex) own.push_back(address.address);
      }
      std::ranges::sort(own);
      const auto [at, first] = own_.try_emplace(port.id, own);
      if (!first && at->second == own) continue;
      at->second = own;
      if (callbacks_.own_addresses) callbacks_.own_addresses(port.id, own);
    }
  }

  [[nodiscard]] int Ifindex(uint16_t id) const {
    const auto port = std::ranges::find(ports_, id, &NetworkPort::id);
    return port == ports_.end() ? 0 : port->ifindex;
  }
  [[nodiscard]] const KernelNeighbour* Find(int ifindex, const Address& address) const {
    const auto at = neighbours_.find({ifindex, address});
    return at == neighbours_.end() ? nullptr : at->second;
  }

  std::vector<NetworkPort> ports_;
  std::vector<StaticRoute> statics_;
  Callbacks callbacks_;
  KernelReader reader_;
  NlSocket events_;

  KernelState state_;
  std::map<std::pair<int, Address>, const KernelNeighbour*> neighbours_;  // into state_
  std::vector<std::pair<uint16_t, Address>> gateways_;                    // sorted
  std::set<std::pair<uint16_t, Address>> kept_;  // of gateways_, which the kernel has and keeps
  bool unresolved_gateways_ = false;
  unsigned stale_ = kAll;
  Clock::time_point first_news_, last_news_, last_gateways_;

  // What was told last.
  std::optional<FibInput> fib_;
  std::map<uint16_t, bool> up_;
  std::map<uint16_t, std::vector<Address>> own_;
  std::map<std::pair<int, Address>, Clock::time_point> asked_;
};

std::vector<NetworkPort> NetworkPorts(const Ports& ports) {
  std::vector<NetworkPort> out;
  for (const Port& port : ports.all()) {
    if (port.role == PortRole::kException) continue;
    out.push_back({port.id, port.name, port.role, port.ifindex, port.far_ifindex, port.mac,
                   port.mtu, port.addresses, port.prefixes});
  }
  return out;
}

NetlinkMirror::NetlinkMirror(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
NetlinkMirror::~NetlinkMirror() = default;

Result<std::unique_ptr<NetlinkMirror>> NetlinkMirror::Open(std::vector<NetworkPort> ports,
                                                           const std::vector<StaticRoute>& routes,
                                                           Callbacks callbacks) {
  auto reader = KernelReader::Open();
  if (!reader) return tl::unexpected(reader.error());
  auto events = ConnectNetlink();
  if (!events) return tl::unexpected(events.error());
  auto impl = std::make_unique<Impl>(std::move(ports), routes, std::move(callbacks),
                                     *std::move(reader), *std::move(events));
  if (auto subscribed = impl->Subscribe(); !subscribed) {
    return tl::unexpected(subscribed.error());
  }
  if (auto read = impl->Update(); !read) return tl::unexpected(read.error());
  return std::unique_ptr<NetlinkMirror>(new NetlinkMirror(std::move(impl)));
}

int NetlinkMirror::fd() const {
  return impl_->fd();
}
milliseconds NetlinkMirror::Timeout() const {
  return impl_->Timeout();
}
Result<void> NetlinkMirror::Run() {
  return impl_->Run();
}
void NetlinkMirror::Resolve(uint16_t port, const Address& next_hop) {
  impl_->Ask(port, next_hop, impl_->IsGateway(port, next_hop));
}
void NetlinkMirror::Touch(uint16_t port, const Address& next_hop) {
  impl_->Touch(port, next_hop);
}

}  // namespace portcullis
