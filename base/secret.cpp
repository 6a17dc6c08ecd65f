#include "base/secret.hpp"

#include <fmt/ranges.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/sha.h>

#include <array>
#include <cstring>
#include <memory>
#include <new>
#include <utility>

namespace portcullis {

// OpenSSL's secure heap does exactly this: mmap, mlock, MADV_DONTDUMP, guard pages. It is opened
// once, for the whole process, before the first secret. 32 MiB: 100,000 SAs of 64-byte chunks
// fill a fifth of it.
static bool OpenSecureHeap() {
  constexpr size_t kHeapBytes = 32U << 20U;
  constexpr size_t kSmallest = 64;
  return CRYPTO_secure_malloc_init(kHeapBytes, kSmallest) != 0;
}

Secret::Secret(std::span<const uint8_t> bytes) : size_(bytes.size()) {
  static const bool kOpened = OpenSecureHeap();
  if (size_ == 0) return;
  data_ = kOpened ? static_cast<uint8_t*>(OPENSSL_secure_malloc(size_)) : nullptr;
  // OpenSSL falls back to plain memory when the heap could not be opened; we do not.
  if (data_ == nullptr || CRYPTO_secure_allocated(data_) == 0) throw std::bad_alloc();
  std::memcpy(data_, bytes.data(), size_);
}

Secret::Secret(Secret&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Secret& Secret::operator=(Secret&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

Secret::~Secret() {
  OPENSSL_secure_clear_free(data_, size_);
}

void Wipe(std::span<uint8_t> bytes) {
  OPENSSL_cleanse(bytes.data(), bytes.size());
}

void Wipe(std::string& text) {
  OPENSSL_cleanse(text.data(), text.size());
  text.clear();
}

std::string KeyFingerprint(std::string_view algorithm, std::span<const uint8_t> key) {
  constexpr size_t kKeptBytes = 16;
  std::array<uint8_t, SHA256_DIGEST_LENGTH> digest{};
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> md(EVP_MD_CTX_new(),
                                                                   EVP_MD_CTX_free);
  constexpr std::string_view kLabel = "portcullis key";
  EVP_DigestInit_ex(md.get(), EVP_sha256(), nullptr);
  EVP_DigestUpdate(md.get(), kLabel.data(), kLabel.size());
  EVP_DigestUpdate(md.get(), algorithm.data(), algorithm.size());
  EVP_DigestUpdate(md.get(), "", 1);
  EVP_DigestUpdate(md.get(), key.data(), key.size());
  EVP_DigestFinal_ex(md.get(), digest.data(), nullptr);
  return fmt::format("{:02x}", fmt::join(std::span(digest).first(kKeptBytes), ""));
}

}  // namespace portcullis
