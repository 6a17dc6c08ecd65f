#include "dataplane/state/source_table.hpp"

#include <algorithm>
#include <array>
#include <functional>

namespace portcullis {
namespace {

Address MaskOf(unsigned length) {
  std::array<uint8_t, 16> ones{};
  ones.fill(UINT8_MAX);
  return Prefix(Address::V6(ones.data()), length).address();
}

Bucket FullBucket(const SourceLimit& limit, uint64_t tsc_hz) {
  if (limit.per_second == 0) return {};
  // A century is as good as ever, and far from where the TSC and it would overflow.
  const unsigned __int128 cycles =
      static_cast<unsigned __int128>(limit.burst) * tsc_hz / limit.per_second;
  const auto most = static_cast<unsigned __int128>(tsc_hz) * 3'000'000'000U;
  return {limit.per_second, static_cast<uint64_t>(std::min(cycles, most)), tsc_hz, 1};
}

bool Names(const std::vector<ServiceRange>& services, uint8_t protocol, uint16_t port) noexcept {
  return std::ranges::any_of(services, [&](const ServiceRange& service) {
    return service.protocol == protocol && service.first <= port && port <= service.last;
  });
}

}  // namespace

Result<std::shared_ptr<const SourceTable>> SourceTable::Make(const FirstLine& line,
                                                             uint64_t tsc_hz) {
  auto table = std::shared_ptr<SourceTable>(new SourceTable());
  if (!line.sources.empty()) {
    auto map = PrefixMap::Make(line.sources.size());
    if (!map) return tl::unexpected(map.error());
    table->sources_ = std::move(*map);
    for (const SourceRule& rule : line.sources) {
      const auto standing = rule.admit ? Standing::admitted : Standing::denied;
      const auto inserted = table->sources_.Insert(rule.prefix, static_cast<uint32_t>(standing));
      if (!inserted) return tl::unexpected(inserted.error());
    }
  }
  const bool denies = std::ranges::any_of(line.sources, std::not_fn(&SourceRule::admit));
  table->judges_packets_ = denies || !line.admit_strangers || line.packets.per_second != 0;
  constexpr unsigned kMapped = 96;
  table->ipv4_mask_ = MaskOf(kMapped + line.ipv4_length);
  table->ipv6_mask_ = MaskOf(line.ipv6_length);
  table->packets_ = FullBucket(line.packets, tsc_hz);
  table->handshakes_ = FullBucket(line.handshakes, tsc_hz);
  table->strangers_ = FullBucket(line.strangers, tsc_hz);
  table->line_ = line;
  table->line_.sources = {};
  return table;
}

SourceTable::Standing SourceTable::Of(const Address& source) const noexcept {
  const auto found = sources_.Lookup(source);
  return found ? static_cast<Standing>(*found) : Standing::stranger;
}

Address SourceTable::OneOf(const Address& source) const noexcept {
  const Address& mask = source.IsV4() ? ipv4_mask_ : ipv6_mask_;
  const uint64_t halves[] = {source.Half(0) & mask.Half(0), source.Half(1) & mask.Half(1)};
  return Address::V6(halves);
}

bool SourceTable::IsSession(uint8_t protocol, uint16_t port) const noexcept {
  return Names(line_.sessions, protocol, port);
}

bool SourceTable::IsOpen(uint8_t protocol, uint16_t port) const noexcept {
  return Names(line_.host, protocol, port) || IsSession(protocol, port);
}

}  // namespace portcullis
