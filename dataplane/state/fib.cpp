#include "dataplane/state/fib.hpp"

#include <utility>

namespace portcullis {

Result<std::unique_ptr<const Fib>> Fib::Build(FibInput input) {
  std::unique_ptr<Fib> fib(new Fib);
  auto map = PrefixMap::Make(input.routes.size());
  if (!map) return tl::unexpected(map.error());
  fib->map_ = std::move(*map);
  for (const Route& route : input.routes) {
    if (route.next_hop != Route::kUnreachable && route.next_hop >= input.next_hops.size()) {
      return Fail(ErrorKind::kInternal,
                  fmt::format("route {} names next hop {} of {}", route.prefix.Text(),
                              route.next_hop, input.next_hops.size()));
    }
    const auto inserted = fib->map_.Insert(route.prefix, route.next_hop);
    if (!inserted) return tl::unexpected(inserted.error());
    if (*inserted) ++fib->routes_;  // of equal prefixes the first
  }
  fib->next_hops_ = std::move(input.next_hops);
  return fib;
}

}  // namespace portcullis
