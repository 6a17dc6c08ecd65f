#include "control/guard/session/peer_certificate.hpp"

#include <fmt/format.h>

#include <algorithm>
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

VerifyPeer NamedCheck(std::shared_ptr<const identity::CertificateVerifier> verifier,
                      const identity::Revocations& revocations, std::set<std::string> names) {
  return [check = CertificateCheck(std::move(verifier), revocations), names = std::move(names)](
             X509* leaf, STACK_OF(X509) * chain) -> tl::expected<void, identity::Refusal> {
    if (auto valid = check(leaf, chain); !valid) return valid;
    const auto& shown = VerifiedIdentity(leaf)->names;
    if (std::ranges::any_of(shown, [&](const auto& one) { return names.contains(one.text); })) {
      return {};
    }
    return tl::unexpected(identity::Refusal{
        identity::Reason::peer_unknown,
        fmt::format("'{}' is none of those that may come here", shown.front().text)});
  };
}

const CertificateIdentity* VerifiedIdentity(const X509* certificate) {
  return static_cast<const CertificateIdentity*>(X509_get_ex_data(certificate, IdentityIndex()));
}

}  // namespace portcullis::guard
