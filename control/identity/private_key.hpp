// A private key that TLS signs with: from a PEM file that nobody else can read, or in a PKCS#11
// token, which signs for us and never gives it away.
#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"
#include "control/identity/openssl_ptr.hpp"

namespace portcullis::identity {

/// A setting that names a key is a file's path unless this says so.
bool IsPkcs11Uri(std::string_view setting);

/// `setting` is the path of a PEM file without a password (see ReadPrivateFile), or a PKCS#11 URI
/// (RFC 7512; see LoadPkcs11Key). `where` is the setting that names it, for messages.
Result<KeyPtr> LoadPrivateKey(const std::string& setting, const std::string& where);

/// The one private key that the URI names. The PIN comes from a file of its own
/// (`pin-source=file:`, see ReadPrivateFile) and never stands in the URI; the module is
/// `module-path`, or whatever modules the host has registered with p11-kit. What was loaded stays
/// so until the process ends. One thread at a time.
Result<KeyPtr> LoadPkcs11Key(const std::string& uri, const std::string& where);

}  // namespace portcullis::identity
