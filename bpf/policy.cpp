// What the program decides by: policy in generations, and beside it what outlives them. A slot that
// is not in force is filled at leisure; one 32-bit store puts it in force; and before it is emptied
// or filled again, every packet that may have begun with it has ended.
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <linux/in.h>
#include <openssl/evp.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <set>

#include "bpf/handles.hpp"
#include "bpf/pins.hpp"
#include "bpf/shared.h"

namespace portcullis {
namespace {

constexpr uint32_t kZero = 0;
constexpr uint64_t kSecondNs = 1'000'000'000;

/// Returns when no packet is being judged any more that was when it was called. The kernel promises
/// that of a change to a map of maps (since 4.20), so one is made, to a map that no program has.
Result<void> WaitForPackets() {
  const Descriptor inner(bpf_map_create(BPF_MAP_TYPE_ARRAY, "inner", 4, 4, 1, nullptr));
  LIBBPF_OPTS(bpf_map_create_opts, options,
              .inner_map_fd = static_cast<uint32_t>(std::max(inner.get(), 0)));
  const Descriptor outer(
      bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, "grace_period", 4, 4, 1, &options));
  const int fd = inner.get();
  if (!inner || !outer || bpf_map_update_elem(outer.get(), &kZero, &fd, BPF_ANY) != 0) {
    return SystemError("cannot wait for the packets that XDP is judging", errno);
  }
  return {};
}

portcullis_prefix KeyOf(const Prefix& prefix) {
  portcullis_prefix key{.length = prefix.length(), .address = {}};
  std::memcpy(key.address, prefix.address().bytes().data(), sizeof(key.address));
  return key;
}

struct Prefixes {
  std::vector<portcullis_prefix> keys;
  std::vector<uint8_t> values;
};

/// A table of prefixes, complete.
Result<Descriptor> MakeTable(const char* name, const Prefixes& prefixes) {
  const auto& [keys, values] = prefixes;
  LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_NO_PREALLOC);
  Descriptor table(bpf_map_create(BPF_MAP_TYPE_LPM_TRIE, name, sizeof(portcullis_prefix), 1,
                                  static_cast<uint32_t>(keys.size()), &options));
  if (!table) return SystemError(std::string("cannot make the XDP table of ") + name, errno);
  auto count = static_cast<uint32_t>(keys.size());
  if (bpf_map_update_batch(table.get(), keys.data(), values.data(), &count, nullptr) == 0) {
    return table;
  }
  for (size_t i = 0; i < keys.size(); ++i) {  // a kernel without batches, or an error to be named
    if (bpf_map_update_elem(table.get(), &keys[i], &values[i], BPF_ANY) == 0) continue;
    const int error = errno;
    if (error != ENOMEM && error != ENOSPC) {
      return SystemError(std::string("cannot fill the XDP table of ") + name, error);
    }
    return tl::unexpected(Error{ErrorKind::kExhausted,
                                std::string("no memory for the XDP table of ") + name,
                                {},
                                "room for " + std::to_string(keys.size()),
                                "it ended after " + std::to_string(i)});
  }
  return table;
}

Result<std::array<uint8_t, 32>> DigestOf(const Prefixes& prefixes) {
  std::array<uint8_t, 32> digest;
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        &EVP_MD_CTX_free);
  const size_t key_bytes = prefixes.keys.size() * sizeof(portcullis_prefix);
  if (!context || EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) != 1 ||
      EVP_DigestUpdate(context.get(), prefixes.keys.data(), key_bytes) != 1 ||
      EVP_DigestUpdate(context.get(), prefixes.values.data(), prefixes.values.size()) != 1 ||
      EVP_DigestFinal_ex(context.get(), digest.data(), nullptr) != 1) {
    return tl::unexpected(Error{ErrorKind::kInternal, "no SHA-256 from OpenSSL", {}, {}, {}});
  }
  return digest;
}

/// The table of these prefixes: `present` when it is that, since filling one takes seconds per
/// million.
Result<std::shared_ptr<const PrefixTable>> TableOf(
    const char* name, const Prefixes& prefixes, const std::shared_ptr<const PrefixTable>& present) {
  if (prefixes.keys.empty()) return nullptr;
  const auto digest = DigestOf(prefixes);
  if (!digest) return tl::unexpected(digest.error());
  if (present != nullptr && present->digest == *digest) return present;
  auto made = MakeTable(name, prefixes);
  if (!made) return tl::unexpected(made.error());
  return std::make_shared<const PrefixTable>(PrefixTable{*digest, *std::move(made)});
}

/// In the space that both families share ::/0 and whatever else lies above ::ffff:0:0/96 contain
/// all of IPv4. Nobody who writes them means that: an entry of value 0 for IPv4 keeps it out.
void KeepIpv4Out(Prefixes& prefixes) {
  auto& [keys, values] = prefixes;
  constexpr unsigned kMapped = 96;
  const std::array<uint8_t, 4> zeros{};
  const Prefix ipv4(Address::V4(zeros.data()), kMapped);
  const auto contains = [&](const portcullis_prefix& key) {
    return key.length < kMapped && Prefix(Address::V6(key.address), key.length).Contains(ipv4);
  };
  const auto is_ipv4 = [&](const portcullis_prefix& key) {
    return key.length == kMapped && Address::V6(key.address) == ipv4.address();
  };
  if (std::ranges::none_of(keys, contains) || std::ranges::any_of(keys, is_ipv4)) return;
  keys.push_back(KeyOf(ipv4));
  values.push_back(0);
}

/// Puts `table`, or nothing, into a slot of a map of tables.
Result<void> PutTable(int tables, uint32_t slot, const PrefixTable* table) {
  int rc = 0;
  if (table == nullptr) {
    rc = bpf_map_delete_elem(tables, &slot);
  } else {
    const int fd = table->map.get();
    rc = bpf_map_update_elem(tables, &slot, &fd, BPF_ANY);
  }
  if (rc != 0 && (table != nullptr || errno != ENOENT)) {
    return SystemError("cannot write XDP policy", errno);
  }
  return {};
}

portcullis_limit Compile(const SourceLimit& limit) {
  if (limit.per_second == 0) return {};
  const uint64_t interval = std::max<uint64_t>(kSecondNs / limit.per_second, 1);
  return {.interval_ns = interval, .tolerance_ns = (std::max(limit.burst, 1U) - 1) * interval};
}

void Mask(unsigned length, uint8_t (&mask)[16]) {
  std::array<uint8_t, 16> ones;
  ones.fill(UINT8_MAX);
  const Prefix prefix(Address::V6(ones.data()), length);
  std::memcpy(mask, prefix.address().bytes().data(), sizeof(mask));
}

Result<portcullis_settings> Compile(const XdpPolicy& policy) {
  const FirstLine& line = policy.first_line;
  const size_t services = line.sessions.size() + (line.whole_host ? 0 : line.host.size());
  static_assert(FirstLine::kMostServices == PORTCULLIS_MAX_SERVICES);
  if (services > PORTCULLIS_MAX_SERVICES) {
    return Invalid("first_line", "too many services for the XDP program",
                   "at most " + std::to_string(PORTCULLIS_MAX_SERVICES), std::to_string(services));
  }
  constexpr unsigned kV4Bits = 32;
  constexpr unsigned kV6Bits = 128;
  if (line.ipv4_length > kV4Bits || line.ipv6_length > kV6Bits) {
    return Invalid("first_line", "no such prefix length", "at most 32 and 128",
                   std::to_string(line.ipv4_length) + " and " + std::to_string(line.ipv6_length));
  }
  portcullis_settings settings{};
  settings.generation = policy.generation;
  settings.deny_strangers = line.admit_strangers ? 0 : 1;
  settings.cleartext = policy.cleartext ? 1 : 0;
  settings.some_of_host = line.whole_host ? 0 : 1;
  Mask(kV6Bits - kV4Bits + line.ipv4_length, settings.ipv4_mask);
  Mask(line.ipv6_length, settings.ipv6_mask);
  settings.packets = Compile(line.packets);
  settings.handshakes = Compile(line.handshakes);
  settings.strangers = Compile(line.strangers);
  const auto add = [&settings](const ServiceRange& range, portcullis_service_kind kind) {
    settings.services[settings.service_count++] = {.protocol = range.protocol,
                                                   .kind = static_cast<uint8_t>(kind),
                                                   .first = range.first,
                                                   .last = range.last};
  };
  for (const ServiceRange& range : line.sessions) add(range, PORTCULLIS_SESSIONS);
  if (!line.whole_host) {
    for (const ServiceRange& range : line.host) add(range, PORTCULLIS_HOST);
  }
  return settings;
}

Result<void> CheckRoom(const char* what, size_t wanted, size_t most) {
  if (wanted <= most) return {};
  return tl::unexpected(Error{ErrorKind::kExhausted,
                              std::string("too many ") + what + " for the XDP program",
                              {},
                              "at most " + std::to_string(most),
                              std::to_string(wanted)});
}

/// The tables that the policy asks for; those of `present` that it asks for again are the same.
Result<PrefixTables> MakeTables(const XdpPolicy& policy, const PrefixTables& present) {
  const std::vector<SourceRule>& rules = policy.first_line.sources;
  if (auto room =
          CheckRoom("protected prefixes", policy.protected_nets.size(), PORTCULLIS_MAX_PREFIXES);
      !room) {
    return tl::unexpected(room.error());
  }
  if (auto room = CheckRoom("source prefixes", rules.size(), PORTCULLIS_MAX_SOURCES); !room) {
    return tl::unexpected(room.error());
  }
  Prefixes nets;
  for (const Prefix& prefix : policy.protected_nets) nets.keys.push_back(KeyOf(prefix));
  nets.values.assign(nets.keys.size(), 1);
  KeepIpv4Out(nets);
  auto nets_table = TableOf("protected", nets, present.nets);
  if (!nets_table) return tl::unexpected(nets_table.error());
  Prefixes sources;
  sources.keys.reserve(rules.size());
  sources.values.reserve(rules.size());
  for (const SourceRule& rule : rules) {
    sources.keys.push_back(KeyOf(rule.prefix));
    sources.values.push_back(rule.admit ? PORTCULLIS_ADMITTED : PORTCULLIS_DENIED);
  }
  KeepIpv4Out(sources);
  auto sources_table = TableOf("sources", sources, present.sources);
  if (!sources_table) return tl::unexpected(sources_table.error());
  return PrefixTables{*std::move(nets_table), *std::move(sources_table)};
}

uint32_t CurrentSlot(int current) {
  uint32_t slot = 0;
  bpf_map_lookup_elem(current, &kZero, &slot);
  return slot % PORTCULLIS_SLOTS;
}

using AddressSet = std::set<std::array<uint8_t, 16>>;

AddressSet PresentAddresses(int map) {
  AddressSet present;
  std::array<uint8_t, 16> key;
  for (bool more = bpf_map_get_next_key(map, nullptr, key.data()) == 0; more;) {
    present.insert(key);
    const auto before = key;
    more = bpf_map_get_next_key(map, before.data(), key.data()) == 0;
  }
  return present;
}

Result<void> AddAddresses(int map, const AddressSet& wanted, const AddressSet& present) {
  constexpr uint8_t kIsThere = 1;
  for (const auto& address : wanted) {
    if (present.contains(address)) continue;
    if (bpf_map_update_elem(map, address.data(), &kIsThere, BPF_ANY) == 0) continue;
    const int error = errno;
    if (error != ENOSPC && error != E2BIG) {
      return SystemError("cannot write own addresses to the XDP map", error);
    }
    return tl::unexpected(
        Error{ErrorKind::kExhausted,
              "no room in the XDP map for own addresses",
              {},
              "at most " + std::to_string(PORTCULLIS_MAX_ADDRESSES) + " at any moment",
              std::to_string(wanted.size()) + " wanted beside " + std::to_string(present.size()) +
                  " present"});
  }
  return {};
}

}  // namespace

// The kernel waits for every reader at each change to a map of tables, ten milliseconds or more, so
// what is where it belongs already is left there.
Result<void> XdpPort::Prepare(const XdpPolicy& policy) {
  handles_->prepared.reset();
  const auto settings = Compile(policy);
  if (!settings) return tl::unexpected(settings.error());
  const uint32_t current = CurrentSlot(handles_->current.get());
  auto tables = MakeTables(policy, handles_->slots[current].value_or(PrefixTables()));
  if (!tables) return tl::unexpected(tables.error());
  // A process that died between Commit()'s store and its end may have left readers.
  if (!handles_->idle) {
    if (auto waited = WaitForPackets(); !waited) return waited;
    handles_->idle = true;
  }
  const uint32_t slot = 1 - current;
  const auto held = std::exchange(handles_->slots[slot], std::nullopt);
  if (bpf_map_update_elem(handles_->settings.get(), &slot, &*settings, BPF_ANY) != 0) {
    return SystemError("cannot write XDP policy", errno);
  }
  if (!held || held->nets != tables->nets) {
    auto put = PutTable(handles_->protected_nets.get(), slot, tables->nets.get());
    if (!put) return put;
  }
  if (!held || held->sources != tables->sources) {
    auto put = PutTable(handles_->sources.get(), slot, tables->sources.get());
    if (!put) return put;
  }
  handles_->slots[slot] = *std::move(tables);
  handles_->prepared = slot;
  return {};
}

Result<void> XdpPort::Commit() {
  if (!handles_->prepared) return {};
  const uint32_t slot = *handles_->prepared;
  if (bpf_map_update_elem(handles_->current.get(), &kZero, &slot, BPF_ANY) != 0) {
    return SystemError("cannot put XDP policy in force", errno);
  }
  handles_->prepared.reset();
  handles_->idle = false;
  // What is in force from here on cannot fail any more. The old tables' memory goes now, or, when
  // the kernel does not let us wait, with the next Prepare().
  if (!WaitForPackets()) return {};
  handles_->idle = true;
  const uint32_t old = 1 - slot;
  const auto held = std::exchange(handles_->slots[old], std::nullopt);
  PrefixTables kept = *handles_->slots[slot];
  if (!held || held->nets != kept.nets) {
    if (!PutTable(handles_->protected_nets.get(), old, nullptr)) return {};
    kept.nets = nullptr;
  }
  if (!held || held->sources != kept.sources) {
    if (!PutTable(handles_->sources.get(), old, nullptr)) return {};
    kept.sources = nullptr;
  }
  handles_->slots[old] = std::move(kept);
  return {};
}

uint64_t XdpPort::generation() const {
  const uint32_t slot = CurrentSlot(handles_->current.get());
  portcullis_settings settings{};
  bpf_map_lookup_elem(handles_->settings.get(), &slot, &settings);
  return settings.generation;
}

// Additions come first: what stays is never missing.
Result<void> XdpPort::SetOwnAddresses(std::span<const Address> addresses) {
  const int map = handles_->own_addresses.get();
  AddressSet wanted;
  portcullis_first_addresses first{};
  for (const Address& address : addresses) {
    const size_t place = wanted.size();
    if (!wanted.insert(address.bytes()).second || place >= PORTCULLIS_FIRST_ADDRESSES) continue;
    std::memcpy(&first.addresses[place], address.bytes().data(), sizeof(first.addresses[0]));
  }
  const AddressSet present = PresentAddresses(map);
  if (auto added = AddAddresses(map, wanted, present); !added) return added;
  if (bpf_map_update_elem(handles_->first_addresses.get(), &kZero, &first, BPF_ANY) != 0) {
    return SystemError("cannot write own addresses to the XDP map", errno);
  }
  for (const auto& address : present) {
    if (wanted.contains(address)) continue;
    if (bpf_map_delete_elem(map, address.data()) != 0 && errno != ENOENT) {
      return SystemError("cannot remove own addresses from the XDP map", errno);
    }
  }
  return {};
}

Result<void> XdpPort::Suspect(Spi spi, const Address& endpoint,
                              std::chrono::nanoseconds for_how_long) {
  const int map = handles_->suspects.get();
  const uint32_t key = htonl(Value(spi));
  if (for_how_long.count() <= 0) {
    if (bpf_map_delete_elem(map, &key) != 0 && errno != ENOENT) {
      return SystemError("cannot remove from the XDP map of suspects", errno);
    }
    return {};
  }
  timespec now{};  // the clock of bpf_ktime_get_ns()
  clock_gettime(CLOCK_MONOTONIC, &now);
  portcullis_suspect suspect{};  // and the debts that there are
  bpf_map_lookup_elem(map, &key, &suspect);
  suspect.until = static_cast<uint64_t>(now.tv_sec) * kSecondNs +
                  static_cast<uint64_t>(now.tv_nsec) + static_cast<uint64_t>(for_how_long.count());
  std::memcpy(suspect.endpoint.bytes, endpoint.bytes().data(), sizeof(suspect.endpoint.bytes));
  if (bpf_map_update_elem(map, &key, &suspect, BPF_ANY) != 0) {
    return SystemError("cannot write to the XDP map of suspects", errno);
  }
  return {};
}

}  // namespace portcullis
