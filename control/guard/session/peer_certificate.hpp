// The check of a peer's certificate within the handshake, and what it found out, for whoever serves
// the connection afterwards: verifying a chain twice would cost as much as the handshake itself.
#pragma once

#include <memory>
#include <set>
#include <string>

#include "control/guard/session/handshake.hpp"
#include "control/identity/certificate_verifier.hpp"
#include "control/identity/revocations.hpp"

namespace portcullis::guard {

/// `revocations` outlives every connection.
VerifyPeer CertificateCheck(std::shared_ptr<const identity::CertificateVerifier> verifier,
                            const identity::Revocations& revocations);

/// The same, for those alone of whose names one is among these: servers and gateways of the
/// operator's own.
VerifyPeer NamedCheck(std::shared_ptr<const identity::CertificateVerifier> verifier,
                      const identity::Revocations& revocations, std::set<std::string> names);

/// Lives as long as the certificate. Null for one that CertificateCheck() did not admit.
const identity::CertificateIdentity* VerifiedIdentity(const X509* certificate);

}  // namespace portcullis::guard
