// Until when what this gate itself shows in TLS is valid.
#pragma once

#include <openssl/ssl.h>

#include <string>
#include <vector>

#include "control/identity/certificate.hpp"

namespace portcullis::identity {

/// The certificate that `context` took last, and what it sends with it. `file`: where from.
std::vector<Expiry> OwnChain(SSL_CTX* context, const std::string& file);

}  // namespace portcullis::identity
