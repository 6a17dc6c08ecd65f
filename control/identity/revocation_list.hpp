// One CA's certificate revocation list (RFC 5280 5), read and verified once, then a set of serial
// numbers: OpenSSL would verify the whole list again in every handshake. Only complete lists,
// signed by the CA itself, are admitted; what would need care in use (deltas, indirect lists, lists
// of a part) is refused here.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_set>

#include "control/identity/authorities.hpp"

namespace portcullis::identity {

class RevocationList {
 public:
  /// From DER or PEM. kInvalid, with `where` in front, when it is no list, has no number, signature
  /// or algorithm fail, or something critical in it is not understood; kNotFound when no configured
  /// CA has signed it.
  static Result<std::shared_ptr<const RevocationList>> Read(std::string_view bytes,
                                                            const Authorities& authorities,
                                                            const std::string& where);

  /// `serial` as SerialText() writes it.
  [[nodiscard]] bool Lists(const std::string& serial) const { return serials_.contains(serial); }

  [[nodiscard]] const AuthorityId& authority() const { return authority_; }
  [[nodiscard]] const std::string& issuer() const { return issuer_; }
  /// Upper-case hex, two digits an octet.
  [[nodiscard]] const std::string& number() const { return number_; }
  [[nodiscard]] Time this_update() const { return this_update_; }
  [[nodiscard]] Time next_update() const { return next_update_; }
  [[nodiscard]] size_t size() const { return serials_.size(); }
  /// SHA-256 over its DER, in hex.
  [[nodiscard]] const std::string& digest() const { return digest_; }

  /// By their numbers (RFC 5280 5.2.3: they only grow).
  [[nodiscard]] bool IsOlderThan(const RevocationList& other) const;

 private:
  RevocationList() = default;

  AuthorityId authority_;
  std::string issuer_;
  std::string number_;
  std::string digest_;
  Time this_update_;
  Time next_update_;
  std::unordered_set<std::string> serials_;
};

}  // namespace portcullis::identity
