// May the holder of these certificates come in? The chain is built and checked by OpenSSL
// (X509_verify_cert: signatures, validity, CA:TRUE, path length, name constraints, unknown critical
// extensions) up to a configured anchor, then held against the profile of TS 33.310
// (certificate_profile.hpp) and against what is revoked (revocations.hpp).
#pragma once

#include <memory>

#include "control/identity/authorities.hpp"
#include "control/identity/certificate_profile.hpp"
#include "control/identity/revocations.hpp"

namespace portcullis::identity {

/// Immutable; any number of threads may verify at once.
class CertificateVerifier {
 public:
  /// `authorities` is not null. kInvalid when the profile admits nobody or a number is out of
  /// range.
  static Result<CertificateVerifier> Create(std::shared_ptr<const Authorities> authorities,
                                            CertificateProfile profile);

  /// `certificate` is the peer's own, `presented` what it sent beside it (either may be null: a
  /// peer that showed nothing is refused with cert_missing). `now` is the one time that counts.
  [[nodiscard]] tl::expected<CertificateIdentity, Refusal> Verify(X509* certificate,
                                                                  STACK_OF(X509) * presented,
                                                                  const Revocations& revocations,
                                                                  Time now) const;

  [[nodiscard]] const CertificateProfile& profile() const { return profile_; }
  [[nodiscard]] const Authorities& authorities() const { return *authorities_; }

 private:
  CertificateVerifier(std::shared_ptr<const Authorities> authorities, CertificateProfile profile)
      : authorities_(std::move(authorities)), profile_(std::move(profile)) {}

  [[nodiscard]] tl::expected<ChainPtr, Refusal> BuildChain(X509* certificate,
                                                           STACK_OF(X509) * presented,
                                                           Time now) const;

  std::shared_ptr<const Authorities> authorities_;
  CertificateProfile profile_;
};

}  // namespace portcullis::identity
