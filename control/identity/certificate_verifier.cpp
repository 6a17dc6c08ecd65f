#include "control/identity/certificate_verifier.hpp"

#include <algorithm>
#include <utility>

namespace portcullis::identity {
namespace {

using ContextPtr = OpensslPtr<X509_STORE_CTX, X509_STORE_CTX_free>;

constexpr int kMostIntermediates = 10;
// Room for roots and cross-certificates that peers send though nobody needs them (RFC 8446 4.4.2).
constexpr int kMostPresented = 16;
// OpenSSL's security level of 112 bits: RSA 2048, SHA-224. Ours is stricter, but speaks only after
// the signatures were computed.
constexpr int kSecurityLevel = 2;

// What is wrong with one certificate is the profile's affair; what is wrong between certificates,
// the chain's.
Reason ReasonOf(int error) {
  switch (error) {
    case X509_V_ERR_CERT_NOT_YET_VALID:
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return Reason::cert_expired;
    case X509_V_ERR_EE_KEY_TOO_SMALL:
    case X509_V_ERR_CA_KEY_TOO_SMALL:
    case X509_V_ERR_CA_MD_TOO_WEAK:
    case X509_V_ERR_EC_KEY_EXPLICIT_PARAMS:
      return Reason::weak_alg_refused;
    case X509_V_ERR_UNSPECIFIED:
    case X509_V_ERR_OUT_OF_MEM:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_UNABLE_TO_DECRYPT_CERT_SIGNATURE:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_CHAIN_TOO_LONG:
    case X509_V_ERR_PATH_LENGTH_EXCEEDED:
    case X509_V_ERR_SUBJECT_ISSUER_MISMATCH:
    case X509_V_ERR_AKID_SKID_MISMATCH:
    case X509_V_ERR_AKID_ISSUER_SERIAL_MISMATCH:
    case X509_V_ERR_PERMITTED_VIOLATION:
    case X509_V_ERR_EXCLUDED_VIOLATION:
    case X509_V_ERR_NO_EXPLICIT_POLICY:
    case X509_V_ERR_CERT_UNTRUSTED:
    case X509_V_ERR_CERT_REJECTED:
      return Reason::cert_chain_fail;
    default:
      return Reason::cert_profile_fail;
  }
}

}  // namespace

Result<CertificateVerifier> CertificateVerifier::Create(
    std::shared_ptr<const Authorities> authorities, CertificateProfile profile) {
  if (profile.most_intermediates < 0 || profile.most_intermediates > kMostIntermediates) {
    return Invalid("most_intermediates", "the longest admitted chain is out of range",
                   fmt::format("0 to {} CAs below the anchor", kMostIntermediates),
                   std::to_string(profile.most_intermediates));
  }
  if (profile.name_kinds.empty()) {
    return Invalid("name_kinds", "no certificate could name its holder",
                   "at least one of dns, uri, ip");
  }
  const auto& roots = profile.name_roots;
  if (std::any_of(roots.begin(), roots.end(), [](const auto& root) { return root.empty(); })) {
    return Invalid("name_roots", "an empty name stands for no role", "a name");
  }
  return CertificateVerifier(std::move(authorities), std::move(profile));
}

tl::expected<ChainPtr, Refusal> CertificateVerifier::BuildChain(X509* certificate,
                                                                STACK_OF(X509) * presented,
                                                                Time now) const {
  if (presented != nullptr && sk_X509_num(presented) > kMostPresented) {
    return Refuse(
        Reason::cert_chain_fail, certificate,
        fmt::format("came with {} others, more than {}", sk_X509_num(presented), kMostPresented));
  }
  const ContextPtr context(X509_STORE_CTX_new());
  if (!context ||
      X509_STORE_CTX_init(context.get(), authorities_->store(), certificate, presented) != 1) {
    return Refuse(Reason::cert_chain_fail, certificate, "cannot be verified: " + OpensslError());
  }
  X509_VERIFY_PARAM* rules = X509_STORE_CTX_get0_param(context.get());
  X509_VERIFY_PARAM_set_time(rules, std::chrono::system_clock::to_time_t(now));
  X509_VERIFY_PARAM_set_depth(rules, profile_.most_intermediates);
  X509_VERIFY_PARAM_set_auth_level(rules, kSecurityLevel);
  // Strict: RFC 5280's requirements on CAs' extensions, which OpenSSL else forgives. Policies are
  // processed so that a CA's demand for an explicit one (RFC 5280 4.2.1.11) is not just accepted as
  // known. Partial chains stay off: only a self-signed anchor ends a chain.
  X509_VERIFY_PARAM_set_flags(rules, X509_V_FLAG_X509_STRICT | X509_V_FLAG_POLICY_CHECK);
  ERR_clear_error();
  const int verified = X509_verify_cert(context.get());
  ERR_clear_error();
  if (verified != 1) {
    const int error = X509_STORE_CTX_get_error(context.get());
    const X509* culprit = X509_STORE_CTX_get_current_cert(context.get());
    return Refuse(ReasonOf(error), culprit == nullptr ? certificate : culprit,
                  std::string("does not verify: ") + X509_verify_cert_error_string(error));
  }
  return ChainPtr(X509_STORE_CTX_get1_chain(context.get()));
}

tl::expected<CertificateIdentity, Refusal> CertificateVerifier::Verify(
    X509* certificate, STACK_OF(X509) * presented, const Revocations& revocations, Time now) const {
  if (certificate == nullptr) return tl::unexpected(Refusal{Reason::cert_missing, {}});
  // The profile first: it is cheap, and says best what is wrong.
  auto names = CheckEntity(certificate, profile_);
  if (!names) return tl::unexpected(names.error());
  const auto chain = BuildChain(certificate, presented, now);
  if (!chain) return tl::unexpected(chain.error());

  CertificateIdentity identity = Read(certificate, std::move(*names));
  identity.chain_not_after = identity.not_after;
  const int anchor_at = sk_X509_num(chain->get()) - 1;
  for (int i = 0; i < anchor_at; ++i) {
    const X509* subject = sk_X509_value(chain->get(), i);
    X509* issuer = sk_X509_value(chain->get(), i + 1);
    if (auto sound = CheckAuthority(issuer, profile_, i + 1 == anchor_at); !sound) {
      return tl::unexpected(sound.error());
    }
    identity.chain.push_back(
        {AuthorityOf(issuer), IdOf(subject), NameText(X509_get_subject_name(subject))});
    identity.chain_not_after = std::min(
        identity.chain_not_after, TimeOf(X509_get0_notAfter(issuer)).value_or(identity.not_after));
  }
  const auto* anchor = authorities_->Find(sk_X509_value(chain->get(), anchor_at));
  // Only what is in the store ends a chain; without this line a change there could forget it.
  if (anchor == nullptr || anchor_at == 0) {
    return Refuse(Reason::cert_chain_fail, certificate, "does not lead to a configured anchor");
  }
  identity.revocation_list_required = anchor->revocation_list_required;
  if (auto good = revocations.Check(identity, now); !good) return tl::unexpected(good.error());
  return identity;
}

}  // namespace portcullis::identity
