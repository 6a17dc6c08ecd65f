// Attaching by pinned bpf_link, updating in place, and writing the maps by difference. The order of
// steps is what keeps a port closed: the program is loaded with its maps before the link changes,
// and the link changes in one call.
#include "bpf/loader.hpp"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstring>
#include <set>
#include <utility>

#include "bpf/pins.hpp"
#include "bpf/portcullis_xdp.skel.h"
#include "bpf/shared.h"

namespace portcullis {
namespace {

/// A descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_;
};

struct DestroySkeleton {
  void operator()(portcullis_xdp* skeleton) const { portcullis_xdp__destroy(skeleton); }
};
using Skeleton = std::unique_ptr<portcullis_xdp, DestroySkeleton>;

/// While it lives, libbpf's warnings are kept for the error message instead of going to stderr.
class LibbpfMessages {
 public:
  LibbpfMessages() : before_(libbpf_set_print(&Keep)) { text_.clear(); }
  ~LibbpfMessages() { libbpf_set_print(before_); }
  LibbpfMessages(const LibbpfMessages&) = delete;
  LibbpfMessages& operator=(const LibbpfMessages&) = delete;
  /// The first warning: what follows are its consequences.
  [[nodiscard]] static std::string First() { return text_.substr(0, text_.find('\n')); }

 private:
  __attribute__((format(printf, 2, 0))) static int Keep(libbpf_print_level level,
                                                        const char* format, va_list arguments) {
    if (level != LIBBPF_WARN) return 0;
    char line[512];
    const int written = vsnprintf(line, sizeof(line), format, arguments);
    text_ += line;
    return written;
  }
  libbpf_print_fn_t before_;
  static thread_local std::string text_;
};
thread_local std::string LibbpfMessages::text_;

struct Attached {
  uint32_t program = 0;  // 0: none
  std::string mode;
};

Result<Attached> Query(int interface_index, const std::string& interface) {
  LIBBPF_OPTS(bpf_xdp_query_opts, found);
  if (const int error = bpf_xdp_query(interface_index, 0, &found); error != 0) {
    return SystemError("cannot ask which XDP program is on " + interface, error);
  }
  for (const auto& [id, mode] :
       {std::pair{found.drv_prog_id, "native"}, std::pair{found.skb_prog_id, "generic"},
        std::pair{found.hw_prog_id, "offloaded"}}) {
    if (id != 0) return Attached{id, mode};
  }
  return Attached{found.prog_id, found.prog_id != 0 ? "unknown" : ""};
}

std::string ProgramName(uint32_t id) {
  const Descriptor program(bpf_prog_get_fd_by_id(id));
  bpf_prog_info info{};
  uint32_t length = sizeof(info);
  if (!program || bpf_obj_get_info_by_fd(program.get(), &info, &length) != 0) return "unnamed";
  return info.name[0] != 0 ? info.name : "unnamed";
}

tl::unexpected<Error> Conflict(std::string message, std::string expected, std::string found) {
  return tl::unexpected(
      Error{ErrorKind::kConflict, std::move(message), {}, std::move(expected), std::move(found)});
}

/// Pins left by another version of the program may not fit. The maps behind them stay with the old
/// program until the link is updated; the new program starts with empty, that is closed, ones.
void RemoveUnfit(bpf_map* map, const std::string& pin) {
  const Descriptor pinned(bpf_obj_get(pin.c_str()));
  if (!pinned) return;
  bpf_map_info info{};
  uint32_t length = sizeof(info);
  if (bpf_obj_get_info_by_fd(pinned.get(), &info, &length) == 0 &&
      info.type == static_cast<uint32_t>(bpf_map__type(map)) &&
      info.key_size == bpf_map__key_size(map) && info.value_size == bpf_map__value_size(map) &&
      info.max_entries == bpf_map__max_entries(map) && info.map_flags == bpf_map__map_flags(map)) {
    return;
  }
  unlink(pin.c_str());
}

Result<Skeleton> Load(const std::string& directory, XdpRole role) {
  const LibbpfMessages messages;
  Skeleton skeleton(portcullis_xdp__open());
  if (!skeleton) return SystemError("cannot read the built-in XDP program", errno);
  skeleton->rodata->role = role == XdpRole::kUntrusted ? PORTCULLIS_UNTRUSTED
                           : role == XdpRole::kTrusted ? PORTCULLIS_TRUSTED
                                                       : PORTCULLIS_LOCAL;
  const auto& maps = skeleton->maps;
  for (bpf_map* map :
       {maps.xsks_map, maps.protected_nets, maps.own_addresses, maps.throttled, maps.counters}) {
    const std::string pin = directory + "/" + bpf_map__name(map);
    RemoveUnfit(map, pin);
    bpf_map__set_pin_path(map, pin.c_str());
  }
  if (const int error = portcullis_xdp__load(skeleton.get()); error != 0) {
    return SystemError("the kernel refused the XDP program (" + LibbpfMessages::First() + ")",
                       error);
  }
  return skeleton;
}

enum class Reuse { kUpdated, kNothingThere };

/// Swaps the program under the link that an earlier run pinned, if that link is this interface's.
Result<Reuse> UpdatePinned(const std::string& pin, int program, int index,
                           const std::string& interface) {
  const Descriptor link(bpf_obj_get(pin.c_str()));
  if (!link) {
    if (errno == ENOENT) return Reuse::kNothingThere;
    return SystemError("cannot open " + pin, errno);
  }
  bpf_link_info info{};
  uint32_t length = sizeof(info);
  if (bpf_obj_get_info_by_fd(link.get(), &info, &length) != 0 || info.type != BPF_LINK_TYPE_XDP) {
    return Conflict(pin + " is not an XDP link", "what this program pinned itself",
                    "something else: remove it");
  }
  if (info.xdp.ifindex == 0) {  // its interface is gone, so it holds nothing closed any more
    unlink(pin.c_str());
    return Reuse::kNothingThere;
  }
  const auto attached = Query(index, interface);
  if (!attached) return tl::unexpected(attached.error());
  // Two network namespaces may use one index, so that the index alone proves nothing.
  if (info.xdp.ifindex != static_cast<uint32_t>(index) || attached->program != info.prog_id) {
    char name[IF_NAMESIZE] = "?";
    if_indextoname(info.xdp.ifindex, name);
    return Conflict(
        pin + " keeps another interface closed, and moving it would open that one",
        "the link of " + interface + " (index " + std::to_string(index) + ")",
        "interface index " + std::to_string(info.xdp.ifindex) + " (" + name +
            " if it is in this network namespace): detach that port first, or use another instance "
            "or port name");
  }
  if (const int error = bpf_link_update(link.get(), program, nullptr); error != 0) {
    return SystemError("cannot replace the XDP program on " + interface, error);
  }
  return Reuse::kUpdated;
}

Result<void> AttachNew(const std::string& pin, int program, int index,
                       const std::string& interface) {
  const auto attached = Query(index, interface);
  if (!attached) return tl::unexpected(attached.error());
  if (attached->program != 0) {
    return Conflict(
        "there is an XDP program on " + interface + " that is not this port's", "no XDP program",
        "'" + ProgramName(attached->program) + "', id " + std::to_string(attached->program) +
            ", mode " + attached->mode + " (remove it: ip link set dev " + interface + " xdp" +
            (attached->mode == "generic" ? "generic" : "") +
            " off, or `bpftool link` when it was attached by a link)");
  }
  int link_fd = -1;
  for (const uint32_t mode : {XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE}) {
    LIBBPF_OPTS(bpf_link_create_opts, options, .flags = mode);
    link_fd = bpf_link_create(program, index, BPF_XDP, &options);
    if (link_fd >= 0 || errno == EPERM) break;
  }
  const int error = errno;
  const Descriptor link(link_fd);
  if (!link) return SystemError("cannot attach the XDP program to " + interface, error);
  if (bpf_obj_pin(link.get(), pin.c_str()) != 0) {
    return SystemError("cannot pin the link at " + pin, errno);
  }
  return {};
}

void RemovePins(const std::string& directory) {
  if (DIR* entries = opendir(directory.c_str()); entries != nullptr) {
    while (const dirent* entry = readdir(entries)) {
      if (entry->d_name[0] != '.') unlink((directory + "/" + entry->d_name).c_str());
    }
    closedir(entries);
  }
  rmdir(directory.c_str());
  rmdir(directory.substr(0, directory.rfind('/')).c_str());  // the instance's, when empty
}

int Duplicate(int fd) {
  return fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

template <size_t kSize>
using Key = std::array<uint8_t, kSize>;

/// Makes the map hold exactly `wanted`. Additions come first: what stays is never missing, and
/// what is replaced overlaps instead of leaving a gap.
template <size_t kSize>
Result<void> WriteSet(int map, const std::set<Key<kSize>>& wanted, const char* what,
                      size_t capacity) {
  std::set<Key<kSize>> present;
  Key<kSize> key;
  for (bool more = bpf_map_get_next_key(map, nullptr, key.data()) == 0; more;) {
    present.insert(key);
    const Key<kSize> before = key;
    more = bpf_map_get_next_key(map, before.data(), key.data()) == 0;
  }
  constexpr uint8_t kIsThere = 1;
  for (const Key<kSize>& k : wanted) {
    if (present.contains(k)) continue;
    if (bpf_map_update_elem(map, k.data(), &kIsThere, BPF_ANY) == 0) continue;
    const int error = errno;
    if (error == ENOSPC || error == E2BIG) {
      return tl::unexpected(Error{ErrorKind::kExhausted,
                                  std::string("no room in the XDP map for ") + what,
                                  {},
                                  "at most " + std::to_string(capacity) + " at any moment",
                                  std::to_string(wanted.size()) + " wanted beside " +
                                      std::to_string(present.size()) + " present"});
    }
    return SystemError(std::string("cannot write ") + what + " to the XDP map", error);
  }
  for (const Key<kSize>& k : present) {
    if (!wanted.contains(k) && bpf_map_delete_elem(map, k.data()) != 0 && errno != ENOENT) {
      return SystemError(std::string("cannot remove ") + what + " from the XDP map", errno);
    }
  }
  return {};
}

template <class T>
Key<sizeof(T)> Bytes(const T& value) {
  static_assert(std::has_unique_object_representations_v<T>);
  Key<sizeof(T)> key;
  std::memcpy(key.data(), &value, sizeof(T));
  return key;
}

}  // namespace

Result<XdpPort> XdpPort::Attach(const std::string& instance, const std::string& port,
                                const std::string& interface, XdpRole role) {
  const auto directory = PinDirectory(instance, port);
  if (!directory) return tl::unexpected(directory.error());
  const int index = static_cast<int>(if_nametoindex(interface.c_str()));
  if (index == 0) {
    return Fail(ErrorKind::kNotFound, "port " + port + ": there is no interface '" + interface +
                                          "' in this network namespace");
  }
  if (auto ready = EnsureBpffs(); !ready) return tl::unexpected(ready.error());
  if (auto made = MakePinDirectory(*directory); !made) return tl::unexpected(made.error());

  const auto skeleton = Load(*directory, role);
  if (!skeleton) return tl::unexpected(skeleton.error());
  const int program = bpf_program__fd((*skeleton)->progs.xsk_def_prog);

  const std::string pin = *directory + "/link";
  const auto reuse = UpdatePinned(pin, program, index, interface);
  if (!reuse) return tl::unexpected(reuse.error());
  if (*reuse == Reuse::kNothingThere) {
    if (auto attached = AttachNew(pin, program, index, interface); !attached) {
      RemovePins(*directory);  // maps that no program uses
      return tl::unexpected(attached.error());
    }
  }
  auto attached = Query(index, interface);
  if (!attached) return tl::unexpected(attached.error());

  XdpPort result;
  const auto& maps = (*skeleton)->maps;
  result.mode_ = attached->mode;
  result.program_ = Duplicate(program);
  result.xsks_map_ = Duplicate(bpf_map__fd(maps.xsks_map));
  result.protected_ = Duplicate(bpf_map__fd(maps.protected_nets));
  result.own_ = Duplicate(bpf_map__fd(maps.own_addresses));
  result.throttled_ = Duplicate(bpf_map__fd(maps.throttled));
  result.counters_ = Duplicate(bpf_map__fd(maps.counters));
  return result;
}

XdpPort::XdpPort(XdpPort&& other) noexcept {
  *this = std::move(other);
}

XdpPort& XdpPort::operator=(XdpPort&& other) noexcept {
  std::swap(mode_, other.mode_);
  std::swap(program_, other.program_);
  std::swap(xsks_map_, other.xsks_map_);
  std::swap(protected_, other.protected_);
  std::swap(own_, other.own_);
  std::swap(throttled_, other.throttled_);
  std::swap(counters_, other.counters_);
  return *this;
}

XdpPort::~XdpPort() {
  for (const int fd : {program_, xsks_map_, protected_, own_, throttled_, counters_}) {
    if (fd >= 0) close(fd);
  }
}

Result<void> XdpPort::SetProtected(std::span<const Prefix> prefixes) {
  std::set<Key<sizeof(portcullis_prefix)>> wanted;
  for (const Prefix& prefix : prefixes) {
    portcullis_prefix key{.length = prefix.length(), .address = {}};
    std::memcpy(key.address, prefix.address().bytes().data(), sizeof(key.address));
    wanted.insert(Bytes(key));
  }
  return WriteSet(protected_, wanted, "protected prefixes", PORTCULLIS_MAX_PREFIXES);
}

Result<void> XdpPort::SetOwnAddresses(std::span<const Address> addresses) {
  std::set<Key<sizeof(portcullis_address)>> wanted;
  for (const Address& address : addresses) wanted.insert(address.bytes());
  return WriteSet(own_, wanted, "own addresses", PORTCULLIS_MAX_ADDRESSES);
}

Result<void> XdpPort::Throttle(Spi spi, const Address& source,
                               std::chrono::nanoseconds for_how_long) {
  portcullis_flow key{};
  const be32 wire(Value(spi));
  std::memcpy(&key.spi, &wire, sizeof(key.spi));
  std::memcpy(key.source, source.bytes().data(), sizeof(key.source));
  if (for_how_long.count() <= 0) {
    if (bpf_map_delete_elem(throttled_, &key) != 0 && errno != ENOENT) {
      return SystemError("cannot remove from the XDP map of throttled flows", errno);
    }
    return {};
  }
  timespec now{};  // the clock of bpf_ktime_get_ns()
  clock_gettime(CLOCK_MONOTONIC, &now);
  const uint64_t until = static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 +
                         static_cast<uint64_t>(now.tv_nsec) +
                         static_cast<uint64_t>(for_how_long.count());
  if (bpf_map_update_elem(throttled_, &key, &until, BPF_ANY) != 0) {
    return SystemError("cannot write to the XDP map of throttled flows", errno);
  }
  return {};
}

XdpCounters XdpPort::Read() const {
  std::array<uint64_t, PORTCULLIS_COUNTERS> sums{};
  std::vector<uint64_t> per_cpu(static_cast<size_t>(libbpf_num_possible_cpus()));
  for (uint32_t counter = 0; counter < PORTCULLIS_COUNTERS; ++counter) {
    if (bpf_map_lookup_elem(counters_, &counter, per_cpu.data()) != 0) continue;
    for (const uint64_t value : per_cpu) sums[counter] += value;
  }
  XdpCounters result;
  result.passed = sums[PORTCULLIS_PASSED];
  result.redirected = sums[PORTCULLIS_REDIRECTED];
  result.throttled = sums[PORTCULLIS_THROTTLED];
  result.no_socket = sums[PORTCULLIS_NO_SOCKET];
  result.malformed = sums[PORTCULLIS_MALFORMED];
  result.not_for_us = sums[PORTCULLIS_NOT_FOR_US];
  result.dropped = result.no_socket + result.malformed + result.not_for_us;
  return result;
}

Result<void> XdpPort::Detach(const std::string& instance, const std::string& port) {
  const auto directory = PinDirectory(instance, port);
  if (!directory) return tl::unexpected(directory.error());
  const std::string pin = *directory + "/link";
  {
    const Descriptor link(bpf_obj_get(pin.c_str()));
    if (!link && errno == ENOENT) {
      return Fail(ErrorKind::kNotFound,
                  "nothing is attached for instance " + instance + ", port " + port);
    }
    if (!link) return SystemError("cannot open " + pin, errno);
    // Somebody else may hold the link; detaching says what was meant, unpinning would only hope.
    if (bpf_link_detach(link.get()) != 0 && errno != ENOLINK) {
      return SystemError("cannot detach " + pin, errno);
    }
  }
  RemovePins(*directory);
  return {};
}

}  // namespace portcullis
