// For tests and benchmarks: the XDP program's code on many different frames, with the policy of a
// port that is attached. BPF_PROG_TEST_RUN by itself repeats one packet.
#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <string>

#include "base/result.hpp"
#include "bpf/loader.hpp"
#include "bpf/replay.h"

namespace portcullis {

class XdpReplay {
 public:
  /// What is run on each frame. All but kClassify take the first REPLAY_HEADER_BYTES of it.
  enum class Program {
    kCopy,      // nothing
    kParse,     // its headers are parsed, and it is dropped
    kDecide,    // all that the XDP program does
    kClassify,  // kind, counter and spi are written into the frame
  };

  /// Uses the maps of the port, which is attached by XdpPort with the same variant.
  static Result<XdpReplay> Load(const std::string& instance, const std::string& port,
                                const XdpVariant& variant);
  XdpReplay(XdpReplay&&) noexcept;
  XdpReplay& operator=(XdpReplay&&) noexcept;
  ~XdpReplay();

  /// All REPLAY_FRAMES of them, in memory that the kernel reads.
  [[nodiscard]] std::span<replay_frame> frames();
  /// Runs the program on the first `count` frames and then, when there are more, from the first
  /// again. Says what a frame took, by the kernel's own clock.
  Result<std::chrono::duration<double, std::nano>> Run(Program program, uint32_t count);

 private:
  struct Parts;
  XdpReplay();
  std::unique_ptr<Parts> parts_;
};

}  // namespace portcullis
