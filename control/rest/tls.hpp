// Mutual TLS for operators: who connects must show a certificate that chains to the configured CA;
// its subject CN is the operator's name.
#pragma once

#include <openssl/ssl.h>

#include <boost/asio/ssl/context.hpp>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "control/identity/certificate.hpp"
#include "control/model/denial.hpp"

namespace portcullis::rest {

struct TlsFiles {
  std::string certificate;  // PEM, chain included
  std::string key;          // see LoadPrivateKey
  std::string client_ca;    // PEM
};

Result<boost::asio::ssl::context> MakeTls(const TlsFiles& files);

/// Until when the server's own chain and the CAs of its clients are valid.
std::vector<identity::Expiry> EndingsOf(boost::asio::ssl::context& context, const TlsFiles& files);

/// The subject CN of the peer's certificate; empty when there is not exactly one, plain and without
/// control characters.
std::string OperatorName(SSL* connection);

/// The peer's certificate in DER; empty when there is none.
std::string CertificateDer(SSL* connection);
/// As it would be revoked.
model::Revocable CertificateId(SSL* connection);

}  // namespace portcullis::rest
