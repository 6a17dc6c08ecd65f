#include "bpf/replay.hpp"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "bpf/handles.hpp"
#include "bpf/pins.hpp"
#include "bpf/portcullis_replay.skel.h"

namespace portcullis {
namespace {

struct DestroyReplay {
  void operator()(portcullis_replay* skeleton) const { portcullis_replay__destroy(skeleton); }
};

constexpr size_t kBytes = sizeof(replay_frame) * REPLAY_FRAMES;

}  // namespace

struct XdpReplay::Parts {
  std::unique_ptr<portcullis_replay, DestroyReplay> skeleton;
  replay_frame* frames = nullptr;

  ~Parts() {
    if (frames != nullptr) munmap(frames, kBytes);
  }
};

XdpReplay::XdpReplay() = default;
XdpReplay::XdpReplay(XdpReplay&&) noexcept = default;
XdpReplay& XdpReplay::operator=(XdpReplay&&) noexcept = default;
XdpReplay::~XdpReplay() = default;

Result<XdpReplay> XdpReplay::Load(const std::string& instance, const std::string& port,
                                  const XdpVariant& variant) {
  const auto directory = PinDirectory(instance, port);
  if (!directory) return tl::unexpected(directory.error());
  const LibbpfMessages messages;
  XdpReplay replay;
  replay.parts_ = std::make_unique<Parts>();
  auto& skeleton = replay.parts_->skeleton;
  skeleton.reset(portcullis_replay__open());
  if (!skeleton) return SystemError("cannot open the replay programs", errno);
  skeleton->rodata->role = static_cast<uint32_t>(variant.role);
  skeleton->rodata->spi_mask = variant.sa_capacity - 1;
  skeleton->rodata->reassemble = variant.reassemble ? 1 : 0;
  bpf_map__set_max_entries(skeleton->maps.spis, variant.sa_capacity);
  for (bpf_map* map = nullptr; (map = bpf_object__next_map(skeleton->obj, map)) != nullptr;) {
    const Descriptor pinned(bpf_obj_get((*directory + "/" + bpf_map__name(map)).c_str()));
    if (!pinned) continue;
    if (const int error = bpf_map__reuse_fd(map, pinned.get()); error != 0) {
      return SystemError(std::string("cannot use the port's map ") + bpf_map__name(map), error);
    }
  }
  if (const int error = portcullis_replay__load(skeleton.get()); error != 0) {
    return SystemError("the kernel refused the replay programs (" + LibbpfMessages::First() + ")",
                       error);
  }
  void* memory = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                      bpf_map__fd(skeleton->maps.frames), 0);
  if (memory == MAP_FAILED) return SystemError("cannot map the frames", errno);
  replay.parts_->frames = static_cast<replay_frame*>(memory);
  return replay;
}

std::span<replay_frame> XdpReplay::frames() {
  return {parts_->frames, REPLAY_FRAMES};
}

Result<std::chrono::duration<double, std::nano>> XdpReplay::Run(Program program, uint32_t count) {
  const auto& progs = parts_->skeleton->progs;
  const bpf_program* chosen = program == Program::kCopy     ? progs.replay_copy
                              : program == Program::kParse  ? progs.replay_parse
                              : program == Program::kDecide ? progs.replay_decide
                                                            : progs.replay_classify;
  constexpr uint32_t kZero = 0;
  bpf_map_update_elem(bpf_map__fd(parts_->skeleton->maps.cursor), &kZero, &kZero, BPF_ANY);
  const uint8_t packet[REPLAY_FRAME_BYTES] = {};
  LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = packet, .data_size_in = sizeof(packet),
              .repeat = static_cast<int>(count));
  if (const int error = bpf_prog_test_run_opts(bpf_program__fd(chosen), &run); error != 0) {
    return SystemError("cannot run the replay program", error);
  }
  if (run.retval == XDP_ABORTED) {
    return Fail(ErrorKind::kInternal, "the replay program could not take the last frame");
  }
  return std::chrono::duration<double, std::nano>(run.duration);
}

}  // namespace portcullis
