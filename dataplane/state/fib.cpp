// The forwarding table: librte_rib's compressed binary tree in the 128-bit space of IPv4-mapped
// addresses. It is written once, before any worker sees it, and only read from then on: lookups
// write nothing, so any number of workers may share it.
#include "dataplane/state/fib.hpp"

#include <rte_errno.h>
#include <rte_memory.h>
#include <rte_rib6.h>

#include <atomic>
#include <utility>

namespace portcullis {
namespace {

constexpr uint8_t kMappedLength = 96;  // of ::ffff:0:0/96, which is all of IPv4

tl::unexpected<Error> NoRoom(size_t routes, const char* step) {
  return Fail(ErrorKind::kExhausted,
              fmt::format("no memory for a forwarding table of {} routes: {}: {}; raise "
                          "memory.megabytes",
                          routes, step, rte_strerror(rte_errno)));
}

}  // namespace

Result<std::unique_ptr<const Fib>> Fib::Build(FibInput input) {
  // DPDK knows tables by name, and the old one lives until no worker reads it any more.
  static std::atomic<uint32_t> built = 0;
  const std::string name = fmt::format("fib{}", built.fetch_add(1));

  std::unique_ptr<Fib> fib(new Fib);
  // A tree of n prefixes branches at most n - 1 times; a pool of size 0 is refused.
  const rte_rib6_conf conf = {.ext_sz = 0,
                              .max_nodes = static_cast<int>(2 * input.routes.size() + 1)};
  fib->rib_ = rte_rib6_create(name.c_str(), SOCKET_ID_ANY, &conf);
  if (fib->rib_ == nullptr) return NoRoom(input.routes.size(), "creating it");

  for (const Route& route : input.routes) {
    if (route.next_hop != Route::kUnreachable && route.next_hop >= input.next_hops.size()) {
      return Fail(ErrorKind::kInternal,
                  fmt::format("route {} names next hop {} of {}", route.prefix.Text(),
                              route.next_hop, input.next_hops.size()));
    }
    const auto length = static_cast<uint8_t>(route.prefix.length());
    rte_rib6_node* node = rte_rib6_insert(fib->rib_, route.prefix.address().bytes().data(), length);
    if (node == nullptr) {
      if (rte_errno == EEXIST) continue;  // of equal prefixes the first
      return NoRoom(input.routes.size(), "inserting a route");
    }
    rte_rib6_set_nh(node, route.next_hop);
    ++fib->routes_;
  }
  fib->next_hops_ = std::move(input.next_hops);
  return fib;
}

Fib::~Fib() {
  rte_rib6_free(rib_);
}

const NextHop* Fib::Lookup(const Address& destination) const noexcept {
  const rte_rib6_node* node = rte_rib6_lookup(rib_, destination.bytes().data());
  if (node == nullptr) return nullptr;
  if (destination.IsV4()) {
    uint8_t length = 0;
    rte_rib6_get_depth(node, &length);
    if (length < kMappedLength) return nullptr;  // ::/0 and the like are IPv6's
  }
  uint64_t next_hop = 0;
  rte_rib6_get_nh(node, &next_hop);
  return next_hop == Route::kUnreachable ? nullptr : &next_hops_[next_hop];
}

}  // namespace portcullis
