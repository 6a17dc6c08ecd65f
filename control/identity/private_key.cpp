#include "control/identity/private_key.hpp"

#include <openssl/pem.h>

#include "control/identity/private_file.hpp"

namespace portcullis::identity {

bool IsPkcs11Uri(std::string_view setting) {
  return setting.starts_with("pkcs11:");
}

Result<KeyPtr> LoadPrivateKey(const std::string& setting, const std::string& where) {
  if (IsPkcs11Uri(setting)) return LoadPkcs11Key(setting, where);
  const auto pem = ReadPrivateFile(setting, where);
  if (!pem) return tl::unexpected(pem.error());
  ERR_clear_error();
  const BioPtr bio =
      Reader({reinterpret_cast<const char*>(pem->bytes().data()), pem->bytes().size()});
  // An empty password instead of OpenSSL's prompt at the terminal.
  std::string no_password;
  KeyPtr key(PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, no_password.data()));
  if (!key) {
    return Invalid(where, "cannot be used: " + setting, "a PEM private key without a password",
                   OpensslError());
  }
  return key;
}

}  // namespace portcullis::identity
