#include "control/identity/own_chain.hpp"

namespace portcullis::identity {

std::vector<Expiry> OwnChain(SSL_CTX* context, const std::string& file) {
  std::vector<Expiry> all;
  const auto add = [&](const X509* certificate) {
    all.push_back({fmt::format("{} in {}", Describe(certificate), file),
                   TimeOf(X509_get0_notAfter(certificate)).value_or(Time{}),
                   TimeOf(X509_get0_notBefore(certificate)).value_or(Time{})});
  };
  if (const X509* leaf = SSL_CTX_get0_certificate(context)) add(leaf);
  STACK_OF(X509)* above = nullptr;
  SSL_CTX_get0_chain_certs(context, &above);
  for (int i = 0; i < sk_X509_num(above); ++i) add(sk_X509_value(above, i));
  return all;
}

}  // namespace portcullis::identity
