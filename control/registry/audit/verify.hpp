// Is an audit log what was written? Reads the file and nothing else: `portcullisctl audit verify`
// does it on any machine, and the log itself does it before it writes on.
//
// An end without a newline is an append that a crash cut off. Nobody was told that it succeeded, so
// it is no damage; it is reported, and the log cuts it away when it is opened.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "base/result.hpp"
#include "control/registry/audit/key.hpp"
#include "control/registry/audit/record.hpp"

namespace portcullis::audit {

struct Against {
  std::optional<PublicKey> key;  // none: signatures are not checked
  // Kept outside the log; its own signature is checked, too, when there is a key.
  std::optional<Checkpoint> anchor;
};

struct Finding {
  uint64_t number = 0;  // of the first record that is wrong or missing, from 1
  std::string text;     // one sentence
};

struct Report {
  uint64_t count = 0;             // sound records, up to the first wrong one
  Hash head = kBeforeTheFirst;    // hash of the last of them
  uint64_t bytes = 0;             // where they end
  uint64_t checkpoints = 0;       // how many of them are checkpoints
  uint64_t covered = 0;           // so many of them, from the first, stand before a checkpoint
  uint64_t incomplete_bytes = 0;  // of an append that was cut off, at the end
  std::optional<Finding> wrong;
};

/// An error only when the file cannot be read. `on_record` gets the offset of each sound record.
Result<Report> Verify(const std::string& path, const Against& against,
                      const std::function<void(uint64_t offset)>& on_record = {});

}  // namespace portcullis::audit
