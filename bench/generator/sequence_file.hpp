// The next sequence number, kept between runs: a number that was used once under a key is refused
// as a replay, and would break GCM if it were sealed a second time (RFC 4106 3.1). One number
// serves all security associations of a laboratory.
#pragma once

#include <cstdint>
#include <string>

namespace portcullis::generator {

class SequenceFile {
 public:
  /// Without a path every run starts at 1. Reserves `packets` numbers: the file already says that
  /// they are used, so that a run that is killed leaves a gap and never a second use. The gap stays
  /// below 2^31, since a larger apparent jump is stale at the gate (packets <= 2^30).
  SequenceFile(std::string path, uint64_t packets);
  [[nodiscard]] uint64_t first() const { return first_; }
  /// The highest number that was really used.
  void Used(uint64_t highest);

 private:
  void Write(uint64_t next) const;
  std::string path_;
  uint64_t first_ = 1;
};

}  // namespace portcullis::generator
