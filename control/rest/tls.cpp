#include "control/rest/tls.hpp"

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/x509.h>

#include <algorithm>
#include <array>
#include <memory>

#include "control/identity/certificate.hpp"

#include "control/identity/own_chain.hpp"
#include "control/identity/private_key.hpp"

namespace portcullis::rest {

namespace {

std::string Why() {
  std::array<char, 256> text{};
  const unsigned long code = ERR_get_error();
  ERR_error_string_n(code, text.data(), text.size());
  ERR_clear_error();
  return code == 0 ? "unknown reason" : text.data();
}

}  // namespace

Result<boost::asio::ssl::context> MakeTls(const TlsFiles& files) {
  namespace ssl = boost::asio::ssl;
  const auto key = identity::LoadPrivateKey(files.key, "rest.key");
  if (!key) return tl::unexpected(key.error());
  ssl::context context(ssl::context::tls_server);
  SSL_CTX* native = context.native_handle();
  ERR_clear_error();
  const auto wrong = [](const char* field, const std::string& path) {
    return Invalid(field, "cannot be used: " + path, "a PEM file", Why());
  };
  if (SSL_CTX_use_certificate_chain_file(native, files.certificate.c_str()) != 1) {
    return wrong("rest.certificate", files.certificate);
  }
  // Which key, the message does not say: a URI is the operator's own affair.
  if (SSL_CTX_use_PrivateKey(native, key->get()) != 1 || SSL_CTX_check_private_key(native) != 1) {
    return Invalid("rest.key", "the key does not belong to the certificate",
                   "the key of " + files.certificate, Why());
  }
  if (SSL_CTX_load_verify_file(native, files.client_ca.c_str()) != 1) {
    return wrong("rest.client_ca", files.client_ca);
  }
  SSL_CTX_set_client_CA_list(native, SSL_load_client_CA_file(files.client_ca.c_str()));
  SSL_CTX_set_min_proto_version(native, TLS1_2_VERSION);
  SSL_CTX_set_cipher_list(native, "ECDHE+AESGCM:ECDHE+CHACHA20");  // TLS 1.2; 1.3 has only such
  // No resumption: each connection proves its certificate again. Plaintext buffers may hold keys.
  SSL_CTX_set_session_cache_mode(native, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(native, 0);
  SSL_CTX_set_options(native, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION |
                                  SSL_OP_CLEANSE_PLAINTEXT | SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_verify(native, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  return context;
}

std::vector<identity::Expiry> EndingsOf(boost::asio::ssl::context& context, const TlsFiles& files) {
  SSL_CTX* native = context.native_handle();
  auto all = identity::OwnChain(native, files.certificate);
  const auto* objects = X509_STORE_get0_objects(SSL_CTX_get_cert_store(native));
  for (int i = 0; i < sk_X509_OBJECT_num(objects); ++i) {
    const X509* ca = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(objects, i));
    if (ca == nullptr) continue;
    all.push_back(
        {fmt::format("CA of operators, {} in {}", identity::Describe(ca), files.client_ca),
         identity::TimeOf(X509_get0_notAfter(ca)).value_or(identity::Time{}),
         identity::TimeOf(X509_get0_notBefore(ca)).value_or(identity::Time{})});
  }
  return all;
}

std::string OperatorName(SSL* connection) {
  const std::unique_ptr<X509, decltype(&X509_free)> certificate(
      SSL_get1_peer_certificate(connection), X509_free);
  if (!certificate) return {};
  const X509_NAME* subject = X509_get_subject_name(certificate.get());
  const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (at < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0) return {};
  const ASN1_STRING* value = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at));
  unsigned char* utf8 = nullptr;
  const int length = ASN1_STRING_to_UTF8(&utf8, value);
  if (length < 0) return {};
  const std::string name(reinterpret_cast<const char*>(utf8), static_cast<size_t>(length));
  OPENSSL_free(utf8);
  const bool plain =
      std::none_of(name.begin(), name.end(), [](unsigned char c) { return c < ' ' || c == 127; });
  return plain ? name : std::string();
}

std::string CertificateDer(SSL* connection) {
  const std::unique_ptr<X509, decltype(&X509_free)> certificate(
      SSL_get1_peer_certificate(connection), X509_free);
  unsigned char* der = nullptr;
  const int length = certificate ? i2d_X509(certificate.get(), &der) : 0;
  if (length <= 0) return {};
  std::string text(reinterpret_cast<const char*>(der), static_cast<size_t>(length));
  OPENSSL_free(der);
  return text;
}

model::Revocable CertificateId(SSL* connection) {
  const std::unique_ptr<X509, decltype(&X509_free)> certificate(
      SSL_get1_peer_certificate(connection), X509_free);
  model::Revocable what{model::Revocable::Kind::certificate, "", ""};
  if (!certificate) return what;
  identity::CertificateId id = identity::IdOf(certificate.get());
  what.issuer = std::move(id.issuer);
  what.id = std::move(id.serial);
  return what;
}

}  // namespace portcullis::rest
