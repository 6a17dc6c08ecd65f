#include "control/guard/session/peer_certificate.hpp"

#include <new>
#include <utility>

namespace portcullis::guard {

using identity::CertificateIdentity;

namespace {

void FreeIdentity(void* /*parent*/, void* found, CRYPTO_EX_DATA* /*all*/, int /*index*/,
                  long /*number*/, void* /*pointer*/) {
  delete static_cast<CertificateIdentity*>(found);
}

int IdentityIndex() {
  static const int kIndex = X509_get_ex_new_index(0, nullptr, nullptr, nullptr, FreeIdentity);
  return kIndex;
}

// OpenSSL keeps it with the certificate and frees it with that.
void Attach(X509* certificate, CertificateIdentity identity) {
  delete static_cast<CertificateIdentity*>(X509_get_ex_data(certificate, IdentityIndex()));
  auto kept = std::make_unique<CertificateIdentity>(std::move(identity));
  if (X509_set_ex_data(certificate, IdentityIndex(), kept.get()) != 1) throw std::bad_alloc();
  static_cast<void>(kept.release());
}

}  // namespace

VerifyPeer CertificateCheck(std::shared_ptr<const identity::CertificateVerifier> verifier,
                            const identity::Revocations& revocations) {
  return [verifier = std::move(verifier), &revocations](
             X509* leaf, STACK_OF(X509) * chain) -> tl::expected<void, identity::Refusal> {
    auto identity = verifier->Verify(leaf, chain, revocations, std::chrono::system_clock::now());
    if (!identity) return tl::unexpected(identity.error());
    Attach(leaf, *std::move(identity));
    return {};
  };
}

const CertificateIdentity* VerifiedIdentity(const X509* certificate) {
  return static_cast<const CertificateIdentity*>(X509_get_ex_data(certificate, IdentityIndex()));
}

}  // namespace portcullis::guard
