// A record outside any file, with its ring behind it: what the window and the crash tests work on.
#pragma once

#include <vector>

#include "dataplane/esp/sa_record.hpp"

namespace portcullis {

/// The largest ring right behind the record, as in the file's mapping.
struct alignas(64) TestRecord {
  SaRecord record{};
  std::array<uint64_t, RingWords(kMaxReplayWindow)> words{};

  explicit TestRecord(uint32_t window = 0) {
    record.window = static_cast<uint16_t>(window);
    record.words_offset = window == 0 ? 0 : 1;
    record.word_mask = static_cast<uint16_t>(window == 0 ? 0 : RingWords(window) - 1);
  }
  Verdict Check(uint64_t number) const { return CheckReplay(record, Sequence{number}); }
  Verdict Commit(uint64_t number) { return CommitReplay(record, Sequence{number}); }
};
static_assert(offsetof(TestRecord, words) == 64);

/// The windows that the project promises to hold.
inline constexpr uint32_t kWindows[] = {64, 100, 128, 1024, 2048, 8192};

}  // namespace portcullis
