// The compiled XDP program as a file: found, held against the digest that was compiled in, opened
// from the very bytes that were checked, specialised and loaded.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "bpf/loader.hpp"

struct portcullis_xdp;  // bpftool's skeleton

namespace portcullis {

/// Where the object is: beside the program that runs, or where the package puts it.
std::string ObjectPath();

/// The file's bytes. Errors: it cannot be read, or it is not the one that this loader was built
/// with.
Result<std::vector<uint8_t>> ReadObject(const std::string& path);

struct DestroySkeleton {
  void operator()(portcullis_xdp* skeleton) const;
};
using Skeleton = std::unique_ptr<portcullis_xdp, DestroySkeleton>;

/// Loads the program on the maps that are pinned in `directory`; on new ones, pinned there instead,
/// when those are not all there or belong to another version: half of a policy would be worse than
/// none. Nothing that is pinned changes before the kernel has taken the program.
Result<Skeleton> LoadProgram(std::span<const uint8_t> object, const std::string& directory,
                             const XdpVariant& variant);

}  // namespace portcullis
