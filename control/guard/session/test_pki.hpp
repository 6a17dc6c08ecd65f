// Keys and certificates for tests, made on the spot, and the OpenSSL objects that go with them.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "control/identity/openssl_ptr.hpp"

namespace portcullis::guard {

using identity::KeyPtr;
using identity::OpensslPtr;
using CertPtr = identity::CertificatePtr;
using CtxPtr = OpensslPtr<SSL_CTX, SSL_CTX_free>;
using SslPtr = OpensslPtr<SSL, SSL_free>;

/// A certificate and its key.
struct Credential {
  KeyPtr key;
  CertPtr certificate;
};

inline KeyPtr MakeEcKey(const char* curve = "P-256") {
  return KeyPtr(EVP_EC_gen(curve));
}
inline KeyPtr MakeRsaKey(unsigned bits = 2048) {
  return KeyPtr(EVP_RSA_gen(bits));
}

/// A certificate for `key`, signed by `issuer` or, when that is null, by itself as a CA.
inline Credential Issue(const std::string& name, KeyPtr key, const Credential* issuer) {
  static long serial = 1;
  constexpr long kOneDay = 86400;
  constexpr long kVersion3 = 2;
  CertPtr cert(X509_new());
  X509_set_version(cert.get(), kVersion3);
  ASN1_INTEGER_set(X509_get_serialNumber(cert.get()), serial++);
  X509_gmtime_adj(X509_getm_notBefore(cert.get()), -kOneDay);
  X509_gmtime_adj(X509_getm_notAfter(cert.get()), kOneDay);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(cert.get()), "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(name.data()),
                             static_cast<int>(name.size()), -1, 0);
  X509_set_pubkey(cert.get(), key.get());
  X509* by = issuer == nullptr ? cert.get() : issuer->certificate.get();
  X509_set_issuer_name(cert.get(), X509_get_subject_name(by));
  const OpensslPtr<X509_EXTENSION, X509_EXTENSION_free> constraints(
      X509V3_EXT_conf_nid(nullptr, nullptr, NID_basic_constraints,
                          issuer == nullptr ? "critical,CA:TRUE" : "CA:FALSE"));
  X509_add_ext(cert.get(), constraints.get(), -1);
  X509_sign(cert.get(), issuer == nullptr ? key.get() : issuer->key.get(), EVP_sha256());
  return {std::move(key), std::move(cert)};
}

/// A folder that goes with its contents.
class TestFolder {
 public:
  TestFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "portcullis-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~TestFolder() { std::filesystem::remove_all(path_); }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;

  std::string Write(const std::string& name, const std::string& content, mode_t mode = 0600) const {
    std::string path = path_ / name;
    std::ofstream(path, std::ios::binary) << content;
    EXPECT_EQ(chmod(path.c_str(), mode), 0);
    return path;
  }

 private:
  std::filesystem::path path_;
};

inline std::string PemOf(const Credential& credential, bool key) {
  const OpensslPtr<BIO, BIO_free_all> bio(BIO_new(BIO_s_mem()));
  if (key) {
    PEM_write_bio_PrivateKey(bio.get(), credential.key.get(), nullptr, nullptr, 0, nullptr,
                             nullptr);
  } else {
    PEM_write_bio_X509(bio.get(), credential.certificate.get());
  }
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return {data, static_cast<size_t>(size)};
}

}  // namespace portcullis::guard
