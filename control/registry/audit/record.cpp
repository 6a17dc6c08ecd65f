#include "control/registry/audit/record.hpp"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>

#include "control/events/events.hpp"

namespace portcullis::audit {

using nlohmann::json;

namespace {

std::string_view AsText(const Hash& hash) {
  return {reinterpret_cast<const char*>(hash.data()), hash.size()};
}

bool IsHex(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

}  // namespace

Hash Sha256(std::initializer_list<std::string_view> parts) {
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        EVP_MD_CTX_free);
  Hash hash{};
  // Fetched once: EVP_sha256() would be looked up anew each time.
  static EVP_MD* const kSha256 = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  bool good = context && EVP_DigestInit_ex(context.get(), kSha256, nullptr) == 1;
  for (const auto& part : parts) {
    good = good && EVP_DigestUpdate(context.get(), part.data(), part.size()) == 1;
  }
  good = good && EVP_DigestFinal_ex(context.get(), hash.data(), nullptr) == 1;
  // Only want of memory gets here, or an OpenSSL without SHA-256: nothing can go on without it.
  if (!good) throw std::runtime_error("OpenSSL does not compute SHA-256");
  return hash;
}

std::string Hex(const Hash& hash) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string hex;
  hex.reserve(2 * hash.size());
  for (const uint8_t byte : hash) {
    hex += kDigits[byte >> 4U];
    hex += kDigits[byte & 0xfU];
  }
  return hex;
}

std::optional<Hash> HashOf(std::string_view hex) {
  Hash hash{};
  size_t length = 0;
  // OpenSSL also takes upper case: one value would have two texts.
  if (hex.size() != 2 * kHashBytes || !IsHex(hex) ||
      OPENSSL_hexstr2buf_ex(hash.data(), hash.size(), &length, std::string(hex).c_str(), '\0') !=
          1) {
    return {};
  }
  return hash;
}

Stamp Stamp::Now() {
  timespec boot{};
  clock_gettime(CLOCK_BOOTTIME, &boot);
  return {std::chrono::system_clock::now(),
          std::chrono::duration_cast<std::chrono::milliseconds>(
              std::chrono::seconds(boot.tv_sec) + std::chrono::nanoseconds(boot.tv_nsec))};
}

std::string BootId() {
  std::string id;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> id;
  return id;
}

// Member by member: peers cause these by the thousand, and a JSON value of the whole would be a
// second one of `detail`.
std::string RecordText(uint64_t number, const Stamp& when, const Entry& entry) {
  // Names and paths come from outside and may be no UTF-8; a line always is, and always one line,
  // since JSON escapes control characters.
  const auto text = [](const json& value) {
    return value.dump(-1, ' ', false, json::error_handler_t::replace);
  };
  return fmt::format(
      R"({{"action":{},"boot_ms":{},"detail":{},"digest":{},"number":{},"outcome":{},"subject":{},)"
      R"("time":"{}","who":{}}})",
      text(entry.action), when.boot.count(), text(entry.detail), text(entry.digest), number,
      text(entry.outcome), text(entry.subject), TimeText(when.wall), text(entry.who));
}

Hash Chain(const Hash& previous, std::string_view json) {
  return Sha256({AsText(previous), json});
}

std::string LineOf(const Hash& hash, std::string_view json) {
  return fmt::format("{} {}\n", Hex(hash), json);
}

std::optional<Line> ParseLine(std::string_view line) {
  constexpr size_t kHexDigits = 2 * kHashBytes;
  if (line.size() < kHexDigits + 1 || line[kHexDigits] != ' ') return {};
  const auto hash = HashOf(line.substr(0, kHexDigits));
  if (!hash) return {};
  return Line{*hash, line.substr(kHexDigits + 1)};
}

std::string Checkpoint::SignedText() const {
  return fmt::format("portcullis audit checkpoint 1\n{}\n{}\n{}\n{}\n{}\n{}\n", count, Hex(head),
                     time, boot_id, boot_ms, key);
}

json ToJson(const Checkpoint& checkpoint) {
  return {{"count", checkpoint.count},        {"head", Hex(checkpoint.head)},
          {"time", checkpoint.time},          {"boot_id", checkpoint.boot_id},
          {"boot_ms", checkpoint.boot_ms},    {"key", checkpoint.key},
          {"signature", checkpoint.signature}};
}

Result<Checkpoint> ParseCheckpoint(const json& value, const std::string& where) {
  const auto number = [&](const char* name) -> std::optional<uint64_t> {
    const auto at = value.is_object() ? value.find(name) : value.end();
    if (at == value.end() || !at->is_number_unsigned()) return {};
    return at->get<uint64_t>();
  };
  // A newline in a text would let one signed text stand for two checkpoints.
  const auto text = [&](const char* name) -> std::optional<std::string> {
    const auto at = value.is_object() ? value.find(name) : value.end();
    if (at == value.end() || !at->is_string()) return {};
    auto found = at->get<std::string>();
    if (found.find('\n') != std::string::npos) return {};
    return found;
  };
  const auto count = number("count");
  const auto boot_ms = number("boot_ms");
  const auto head = HashOf(text("head").value_or(""));
  const auto time = text("time");
  const auto boot_id = text("boot_id");
  const auto key = text("key");
  const auto signature = text("signature");
  if (!count || !boot_ms || !head || !time || !boot_id || !key || !signature || value.size() != 7) {
    return Invalid(where, "not a checkpoint of an audit log",
                   "an object with count, head, time, boot_id, boot_ms, key, signature");
  }
  return Checkpoint{*count, *head, *time, *boot_id, *boot_ms, *key, *signature};
}

Result<Checkpoint> LoadCheckpoint(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(kLongestLine, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!file.is_open() || file.bad()) {
    return Invalid(path, "the checkpoint cannot be read",
                   "a file with the answer of GET /v1/audit/checkpoint");
  }
  text.resize(static_cast<size_t>(file.gcount()));
  return ParseCheckpoint(json::parse(text, nullptr, /*allow_exceptions=*/false), path);
}

std::optional<Result<Checkpoint>> CheckpointIn(const json& record) {
  const auto action = record.find("action");
  if (action == record.end() || *action != kCheckpointAction) return {};
  const auto detail = record.find("detail");
  return ParseCheckpoint(detail == record.end() ? json() : *detail, "detail");
}

}  // namespace portcullis::audit
