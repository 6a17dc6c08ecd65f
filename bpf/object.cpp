// The compiled XDP program as a file. bpftool's skeleton says what its maps and constants are
// called; the program itself is the file's.
#include "bpf/object.hpp"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

#include "bpf/handles.hpp"
#include "bpf/pins.hpp"
#include "bpf/portcullis_xdp.skel.h"
#include "bpf/portcullis_xdp_digest.h"
#include "bpf/shared.h"

namespace portcullis {
namespace {

constexpr char kObjectName[] = "portcullis_xdp.bpf.o";
constexpr char kInstalled[] = "/usr/lib/portcullis/";
// The largest array that nobody would take for a typing error.
constexpr uint32_t kMostSas = 1U << 24U;

std::string HexDigest(std::span<const uint8_t> bytes) {
  uint8_t digest[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  EVP_Digest(bytes.data(), bytes.size(), digest, &length, EVP_sha256(), nullptr);
  std::string text;
  for (const uint8_t byte : std::span(digest, length)) text += fmt::format("{:02x}", byte);
  return text;
}

tl::unexpected<Error> Refused(const std::string& path, std::string message, std::string found) {
  return Invalid(path, std::move(message),
                 "the object of this build, SHA-256 " + std::string(kXdpObjectDigest),
                 std::move(found));
}

/// Like portcullis_xdp__open(), but of `object` instead of the copy in the skeleton.
Result<Skeleton> Open(std::span<const uint8_t> object) {
  Skeleton skeleton(static_cast<portcullis_xdp*>(std::calloc(1, sizeof(portcullis_xdp))));
  if (!skeleton || portcullis_xdp__create_skeleton(skeleton.get()) != 0) {
    return SystemError("cannot open the XDP program", ENOMEM);
  }
  skeleton->skeleton->data = object.data();
  skeleton->skeleton->data_sz = object.size();
  if (const int error = bpf_object__open_skeleton(skeleton->skeleton, nullptr); error != 0) {
    return SystemError("cannot open the XDP program (" + LibbpfMessages::First() + ")", error);
  }
  return skeleton;
}

Result<void> Specialise(portcullis_xdp& skeleton, const XdpVariant& variant) {
  if (!std::has_single_bit(variant.sa_capacity) || variant.sa_capacity > kMostSas) {
    return Invalid("sa_capacity", "the XDP program's table of SPIs cannot have this size",
                   "a power of two up to " + std::to_string(kMostSas),
                   std::to_string(variant.sa_capacity));
  }
  skeleton.rodata->role = variant.role == XdpRole::kUntrusted ? PORTCULLIS_UNTRUSTED
                          : variant.role == XdpRole::kTrusted ? PORTCULLIS_TRUSTED
                                                              : PORTCULLIS_LOCAL;
  skeleton.rodata->spi_mask = variant.sa_capacity - 1;
  skeleton.rodata->reassemble = variant.reassemble ? 1 : 0;
  bpf_map__set_max_entries(skeleton.maps.spis, variant.sa_capacity);
  return {};
}

std::vector<bpf_map*> PinnedMaps(const portcullis_xdp& skeleton) {
  std::vector<bpf_map*> maps;
  for (bpf_map* map = nullptr; (map = bpf_object__next_map(skeleton.obj, map)) != nullptr;) {
    if (!bpf_map__is_internal(map)) maps.push_back(map);
  }
  return maps;
}

std::string PinOf(const std::string& directory, const bpf_map* map) {
  return directory + "/" + bpf_map__name(map);
}

bool Fits(const bpf_map* map, int pinned) {
  bpf_map_info info{};
  uint32_t length = sizeof(info);
  return bpf_obj_get_info_by_fd(pinned, &info, &length) == 0 &&
         info.type == static_cast<uint32_t>(bpf_map__type(map)) &&
         info.key_size == bpf_map__key_size(map) && info.value_size == bpf_map__value_size(map) &&
         info.max_entries == bpf_map__max_entries(map) && info.map_flags == bpf_map__map_flags(map);
}

/// All of them, or none.
Result<bool> ReusePinned(const portcullis_xdp& skeleton, const std::string& directory) {
  std::vector<Descriptor> pinned;
  const std::vector<bpf_map*> maps = PinnedMaps(skeleton);
  for (const bpf_map* map : maps) {
    pinned.emplace_back(bpf_obj_get(PinOf(directory, map).c_str()));
    if (!pinned.back() && errno != ENOENT) {
      return SystemError("cannot open " + PinOf(directory, map), errno);
    }
    if (!pinned.back() || !Fits(map, pinned.back().get())) return false;
  }
  for (size_t i = 0; i < maps.size(); ++i) {
    if (const int error = bpf_map__reuse_fd(maps[i], pinned[i].get()); error != 0) {
      return SystemError("cannot reuse " + PinOf(directory, maps[i]), error);
    }
  }
  return true;
}

/// In place of what another version left. The maps behind the old pins stay with the old program
/// until the link is updated; the new ones are empty, that is closed.
Result<void> PinNew(const portcullis_xdp& skeleton, const std::string& directory) {
  for (bpf_map* map : PinnedMaps(skeleton)) {
    const std::string pin = PinOf(directory, map);
    unlink(pin.c_str());
    if (const int error = bpf_map__pin(map, pin.c_str()); error != 0) {
      return SystemError("cannot pin the XDP map " + pin, error);
    }
  }
  return {};
}

}  // namespace

std::string ObjectPath() {
  char self[PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", self, sizeof(self));
  const std::string program(self, length > 0 ? static_cast<size_t>(length) : 0);
  const std::string beside = program.substr(0, program.rfind('/') + 1) + kObjectName;
  const std::string installed = std::string(kInstalled) + kObjectName;
  return access(beside.c_str(), F_OK) != 0 && access(installed.c_str(), F_OK) == 0 ? installed
                                                                                   : beside;
}

Result<std::vector<uint8_t>> ReadObject(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<uint8_t> bytes{std::istreambuf_iterator<char>(file), {}};
  if (!file || bytes.empty()) {
    return Refused(path, "the XDP program cannot be read", "no such file, or an empty one");
  }
  if (const std::string digest = HexDigest(bytes); digest != kXdpObjectDigest) {
    return Refused(path, "the XDP program is not the one that this program was built with",
                   "SHA-256 " + digest);
  }
  return bytes;
}

void DestroySkeleton::operator()(portcullis_xdp* skeleton) const {
  portcullis_xdp__destroy(skeleton);
}

Result<Skeleton> LoadProgram(std::span<const uint8_t> object, const std::string& directory,
                             const XdpVariant& variant) {
  const LibbpfMessages messages;
  auto skeleton = Open(object);
  if (!skeleton) return skeleton;
  if (auto special = Specialise(**skeleton, variant); !special) {
    return tl::unexpected(special.error());
  }
  const auto reused = ReusePinned(**skeleton, directory);
  if (!reused) return tl::unexpected(reused.error());
  if (const int error = portcullis_xdp__load(skeleton->get()); error != 0) {
    return SystemError("the kernel refused the XDP program (" + LibbpfMessages::First() + ")",
                       error);
  }
  if (*reused) return skeleton;
  if (auto pinned = PinNew(**skeleton, directory); !pinned) return tl::unexpected(pinned.error());
  return skeleton;
}

}  // namespace portcullis
