// The key that signs an audit log's checkpoints, and its public half, which is all that a verifier
// needs. Ed25519 (RFC 8032), or ECDSA with SHA-256 on a curve of at least 256 bits.
#pragma once

#include <openssl/evp.h>

#include <memory>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace portcullis::audit {

/// Verifies. Cheap to copy: the key is shared and never changes.
class PublicKey {
 public:
  /// From a PEM file ("PUBLIC KEY"). The error names the file.
  static Result<PublicKey> Load(const std::string& path);
  explicit PublicKey(std::shared_ptr<EVP_PKEY> key) : key_(std::move(key)) {}

  /// `signature` in hex. False for anything that is not this key's signature of `text`.
  [[nodiscard]] bool Verifies(std::string_view text, std::string_view signature) const;
  /// SHA-256 of the SubjectPublicKeyInfo (RFC 5280 4.1.2.7), in hex.
  [[nodiscard]] std::string Fingerprint() const;
  [[nodiscard]] std::string Pem() const;

 private:
  std::shared_ptr<EVP_PKEY> key_;
};

class SigningKey {
 public:
  /// From a PEM file that only its owner can read.
  static Result<SigningKey> Load(const std::string& path);
  /// A new Ed25519 key into a file that does not exist yet, mode 0600.
  static Result<SigningKey> Create(const std::string& path);

  /// In hex.
  [[nodiscard]] Result<std::string> Sign(std::string_view text) const;
  [[nodiscard]] PublicKey Public() const { return PublicKey(key_); }

 private:
  explicit SigningKey(std::shared_ptr<EVP_PKEY> key) : key_(std::move(key)) {}
  std::shared_ptr<EVP_PKEY> key_;
};

}  // namespace portcullis::audit
