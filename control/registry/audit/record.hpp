// What an audit log is made of. One line of text a record:
//
//     HASH JSON\n        HASH = SHA-256(the previous record's hash || JSON), in 64 hex digits
//
// The hash covers the bytes as they stand, so nobody has to agree on a canonical form of JSON to
// check it; before the first record stand 32 zero bytes. Every so often a record is a checkpoint:
// how many records came before it and the hash of the last one, signed. A chain alone shows only
// that nobody changed one record; a signature, that nobody without the key wrote all of it anew;
// and a checkpoint that is kept elsewhere, that nobody with the key did, nor cut off the end.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "control/registry/audit/key.hpp"

namespace portcullis::audit {

constexpr size_t kHashBytes = 32;
using Hash = std::array<uint8_t, kHashBytes>;
constexpr Hash kBeforeTheFirst{};

Hash Sha256(std::initializer_list<std::string_view> parts);
std::string Hex(const Hash& hash);
std::optional<Hash> HashOf(std::string_view hex);  // exactly 64 hex digits

/// The longest line, newline included: a verifier need not hold a hostile file in memory.
constexpr size_t kLongestLine = 64U << 10U;

/// What there is to record. Never key material nor a token, in any field.
struct Entry {
  std::string who;      // operator, peer, or "control" itself
  std::string action;   // "PUT", "checkpoint" …
  std::string subject;  // what it was done to: a path, a name
  std::string outcome;  // kBegun …
  std::string digest;   // SHA-256 of the change in hex; empty: there is nothing to digest
  nlohmann::json detail = nlohmann::json::object();
};
// A change is recorded before it is made and again when it is known how it ended: a gate that is
// killed in between has not done anything that nobody wrote down.
constexpr const char* kBegun = "begun";
constexpr const char* kDone = "done";
constexpr const char* kDecided = "decided";  // permitted; who does it is somebody else
constexpr const char* kHeld = "held";        // until another person approves
constexpr const char* kRefused = "refused";
constexpr const char* kFailed = "failed";

/// When: the wall clock, and the boot-time clock (time since boot, suspension included), which
/// nobody can set. RFC 3339 with milliseconds.
struct Stamp {
  std::chrono::system_clock::time_point wall;
  std::chrono::milliseconds boot;
  static Stamp Now();
};
/// Names one run of the kernel, to which Stamp::boot belongs.
std::string BootId();

/// The JSON of record `number` (from 1).
std::string RecordText(uint64_t number, const Stamp& when, const Entry& entry);
Hash Chain(const Hash& previous, std::string_view json);
std::string LineOf(const Hash& hash, std::string_view json);

/// One line without its newline, taken apart but not verified. Empty: it has not that form.
struct Line {
  Hash hash;
  std::string_view json;
};
std::optional<Line> ParseLine(std::string_view line);

struct Checkpoint {
  uint64_t count = 0;  // records before it
  Hash head{};         // hash of the last of them
  std::string time;    // wall clock, RFC 3339
  std::string boot_id;
  uint64_t boot_ms = 0;
  std::string key;        // the signing key's fingerprint
  std::string signature;  // of SignedText(), hex

  /// "portcullis audit checkpoint 1" and the fields from `count` to `key`, a line each.
  [[nodiscard]] std::string SignedText() const;
};

nlohmann::json ToJson(const Checkpoint& checkpoint);
/// `where` goes in front of the fields' names in errors.
Result<Checkpoint> ParseCheckpoint(const nlohmann::json& json, const std::string& where);
/// A checkpoint that is kept outside the log: what GET /v1/audit/checkpoint answered.
Result<Checkpoint> LoadCheckpoint(const std::string& path);

/// The checkpoint in a record's JSON, where that record is one. An error: it says so but is none.
std::optional<Result<Checkpoint>> CheckpointIn(const nlohmann::json& record);
constexpr const char* kCheckpointAction = "checkpoint";

}  // namespace portcullis::audit
