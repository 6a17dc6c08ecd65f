// Key material. Move-only, in locked memory that is left out of core dumps, wiped when it goes.
// There is deliberately no way to print it: what people see is its fingerprint.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace portcullis {

class Secret {
 public:
  Secret() = default;
  /// Copies `bytes`; wiping the source is the caller's duty. Throws std::bad_alloc when no memory
  /// can be locked (see RLIMIT_MEMLOCK).
  explicit Secret(std::span<const uint8_t> bytes);
  Secret(Secret&& other) noexcept;
  Secret& operator=(Secret&& other) noexcept;
  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;
  ~Secret();

  [[nodiscard]] std::span<const uint8_t> bytes() const { return {data_, size_}; }
  [[nodiscard]] size_t size() const { return size_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  /// A second copy, where ownership must be in two places (steering). Explicit on purpose.
  [[nodiscard]] Secret Clone() const { return Secret(bytes()); }

 private:
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

/// Overwrites `bytes` in a way that the compiler does not remove.
void Wipe(std::span<uint8_t> bytes);
/// Wipes and empties a string that held key material (protobuf, JSON, HTTP bodies).
void Wipe(std::string& text);

/// First 16 bytes of SHA-256("portcullis key" || algorithm || 0x00 || key), in hex: the name under
/// which a key is known once it went in. One-way as long as the key is random.
std::string KeyFingerprint(std::string_view algorithm, std::span<const uint8_t> key);

}  // namespace portcullis
