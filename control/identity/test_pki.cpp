#include "control/identity/test_pki.hpp"

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace portcullis::identity::test {
namespace {

using BignumPtr = OpensslPtr<BIGNUM, BN_free>;
using IntegerPtr = OpensslPtr<ASN1_INTEGER, ASN1_INTEGER_free>;
using TimePtr = OpensslPtr<ASN1_TIME, ASN1_TIME_free>;
using NamePtr = OpensslPtr<X509_NAME, X509_NAME_free>;
using ExtensionPtr = OpensslPtr<X509_EXTENSION, X509_EXTENSION_free>;
using KeyContextPtr = OpensslPtr<EVP_PKEY_CTX, EVP_PKEY_CTX_free>;

void Must(bool done, const std::string& what) {
  if (done) return;
  std::fprintf(stderr, "test PKI: %s: %s\n", what.c_str(), OpensslError().c_str());
  std::abort();
}

KeyPtr RsaKey(int bits, unsigned long exponent) {  // NOLINT: OpenSSL's type
  const KeyContextPtr context(EVP_PKEY_CTX_new_from_name(nullptr, "RSA", nullptr));
  const BignumPtr e(BN_new());
  EVP_PKEY* key = nullptr;
  Must(BN_set_word(e.get(), exponent) == 1 && EVP_PKEY_keygen_init(context.get()) == 1 &&
           EVP_PKEY_CTX_set_rsa_keygen_bits(context.get(), bits) == 1 &&
           EVP_PKEY_CTX_set1_rsa_keygen_pubexp(context.get(), e.get()) == 1 &&
           EVP_PKEY_generate(context.get(), &key) == 1,
       "an RSA key");
  return KeyPtr(key);
}

KeyPtr EcKey(const char* curve) {
  KeyPtr key(EVP_EC_gen(curve));
  Must(key != nullptr, "an EC key");
  return key;
}

KeyPtr ExplicitEcKey(const char* curve) {
  KeyPtr key = EcKey(curve);
  Must(EVP_PKEY_set_utf8_string_param(key.get(), OSSL_PKEY_PARAM_EC_ENCODING,
                                      OSSL_PKEY_EC_ENCODING_EXPLICIT) == 1,
       "an EC key with its curve written out");
  return key;
}

NamePtr NameOf(const std::string& common_name) {
  NamePtr name(X509_NAME_new());
  const auto add = [&](const char* field, const std::string& value) {
    Must(X509_NAME_add_entry_by_txt(name.get(), field, MBSTRING_UTF8,
                                    reinterpret_cast<const unsigned char*>(value.data()),
                                    static_cast<int>(value.size()), -1, 0) == 1,
         "a name");
  };
  add("C", "DE");
  add("O", "Portcullis test");
  add("CN", common_name);
  return name;
}

IntegerPtr Number(const std::string& hex) {
  BIGNUM* number = nullptr;
  Must(BN_hex2bn(&number, hex.c_str()) > 0, "the number " + hex);
  const BignumPtr owner(number);
  return IntegerPtr(BN_to_ASN1_INTEGER(number, nullptr));
}

IntegerPtr RandomSerial() {
  std::array<unsigned char, 16> bytes{};
  Must(RAND_bytes(bytes.data(), bytes.size()) == 1, "random octets");
  bytes[0] = static_cast<unsigned char>((bytes[0] & 0x7fU) | 0x40U);  // positive, all octets used
  const BignumPtr number(BN_bin2bn(bytes.data(), bytes.size(), nullptr));
  return IntegerPtr(BN_to_ASN1_INTEGER(number.get(), nullptr));
}

TimePtr Time(Clock::time_point when) {
  return TimePtr(ASN1_TIME_set(nullptr, Clock::to_time_t(when)));
}

ExtensionPtr Extension(X509V3_CTX& context, const std::string& name, const std::string& value) {
  ExtensionPtr extension(X509V3_EXT_nconf(nullptr, &context, name.c_str(), value.c_str()));
  Must(extension != nullptr, "the extension " + name + " = " + value);
  return extension;
}

// Ed25519 and Ed448 sign without a digest of their own.
const EVP_MD* DigestFor(EVP_PKEY* key, const char* digest) {
  const bool none = EVP_PKEY_is_a(key, "ED25519") == 1 || EVP_PKEY_is_a(key, "ED448") == 1;
  return none ? nullptr : EVP_get_digestbyname(digest);
}

CertificateSpec EntitySpec(const std::string& name, const char* usage) {
  CertificateSpec spec;
  spec.name = name;
  spec.extensions = {{"basicConstraints", "critical,CA:FALSE"},
                     {"keyUsage", "critical,digitalSignature"},
                     {"extendedKeyUsage", usage},
                     {"subjectAltName", "DNS:" + name},
                     {"subjectKeyIdentifier", "hash"},
                     {"authorityKeyIdentifier", "keyid"},
                     {"crlDistributionPoints", "URI:http://crl.example/ca.crl"}};
  return spec;
}

template <class Write>
std::string InMemory(const Write& write) {
  const BioPtr memory(BIO_new(BIO_s_mem()));
  Must(write(memory.get()) == 1, "writing to memory");
  return Written(memory.get());
}

}  // namespace

KeyPtr NewKey(KeyKind kind) {
  switch (kind) {
    case KeyKind::p256:
      return EcKey("P-256");
    case KeyKind::p384:
      return EcKey("P-384");
    case KeyKind::p256_explicit:
      return ExplicitEcKey("P-256");
    case KeyKind::secp256k1:
      return EcKey("secp256k1");
    case KeyKind::rsa2048:
      return RsaKey(2048, RSA_F4);
    case KeyKind::rsa1024:
      return RsaKey(1024, RSA_F4);
    case KeyKind::rsa_exponent3:
      return RsaKey(2048, RSA_3);
    case KeyKind::ed25519:
      return KeyPtr(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
    case KeyKind::ed448:
      return KeyPtr(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED448"));
  }
  std::abort();
}

CertificateSpec CertificateSpec::With(const std::string& extension,
                                      const std::string& value) const {
  CertificateSpec changed = *this;
  changed.extensions[extension] = value;
  return changed;
}

CertificateSpec CertificateSpec::Without(const std::string& extension) const {
  CertificateSpec changed = *this;
  changed.extensions.erase(extension);
  return changed;
}

CertificateSpec CaSpec(const std::string& name, std::optional<int> path_length) {
  CertificateSpec spec;
  spec.name = name;
  spec.extensions = {{"basicConstraints", "critical,CA:TRUE"},
                     {"keyUsage", "critical,keyCertSign,cRLSign"},
                     {"subjectKeyIdentifier", "hash"},
                     {"authorityKeyIdentifier", "keyid"}};
  if (path_length) {
    spec.extensions["basicConstraints"] += ",pathlen:" + std::to_string(*path_length);
  }
  return spec;
}

CertificateSpec ClientSpec(const std::string& name) {
  return EntitySpec(name, "clientAuth");
}
CertificateSpec ServerSpec(const std::string& name) {
  return EntitySpec(name, "serverAuth");
}

Issued Issue(const CertificateSpec& spec, const Issued* issuer, EVP_PKEY* signer) {
  Issued issued{CertificatePtr(X509_new()), NewKey(spec.key)};
  X509* certificate = issued.certificate.get();
  X509* above = issuer == nullptr ? certificate : issuer->certificate.get();
  const NamePtr subject = NameOf(spec.name);
  const IntegerPtr serial = spec.serial.empty() ? RandomSerial() : Number(spec.serial);
  Must(X509_set_version(certificate, spec.version - 1) == 1 &&
           X509_set_serialNumber(certificate, serial.get()) == 1 &&
           X509_set_subject_name(certificate, subject.get()) == 1 &&
           X509_set_issuer_name(certificate, X509_get_subject_name(above)) == 1 &&
           X509_set1_notBefore(certificate, Time(spec.not_before).get()) == 1 &&
           X509_set1_notAfter(certificate, Time(spec.not_after).get()) == 1 &&
           X509_set_pubkey(certificate, issued.key.get()) == 1,
       "the fields of " + spec.name);
  X509V3_CTX context;
  X509V3_set_ctx(&context, above, certificate, nullptr, nullptr, 0);
  const auto add = [&](const std::string& name, const std::string& value) {
    Must(X509_add_ext(certificate, Extension(context, name, value).get(), -1) == 1, name);
  };
  // The authority's identifier is copied from the subject's, which must therefore be there before
  // it where the two certificates are one.
  constexpr std::string_view kFirst = "subjectKeyIdentifier";
  if (const auto id = spec.extensions.find(std::string(kFirst)); id != spec.extensions.end()) {
    add(id->first, id->second);
  }
  for (const auto& [name, value] : spec.extensions) {
    if (name != kFirst) add(name, value);
  }
  EVP_PKEY* key = signer != nullptr   ? signer
                  : issuer != nullptr ? issuer->key.get()
                                      : issued.key.get();
  Must(X509_sign(certificate, key, DigestFor(key, spec.digest)) > 0, "signing " + spec.name);
  // Read again, as whoever receives it does: this object still remembers how it was made.
  const std::string der = InMemory([&](BIO* out) { return i2d_X509_bio(out, certificate); });
  issued.certificate.reset(d2i_X509_bio(Reader(der).get(), nullptr));
  Must(issued.certificate != nullptr, "reading " + spec.name);
  return issued;
}

CrlPtr IssueCrl(const CrlSpec& spec, const Issued& issuer, EVP_PKEY* signer) {
  CrlPtr list(X509_CRL_new());
  Must(X509_CRL_set_version(list.get(), 1) == 1 &&
           X509_CRL_set_issuer_name(list.get(), X509_get_subject_name(issuer.certificate.get())) ==
               1 &&
           X509_CRL_set1_lastUpdate(list.get(), Time(spec.this_update).get()) == 1 &&
           (!spec.next_update ||
            X509_CRL_set1_nextUpdate(list.get(), Time(*spec.next_update).get()) == 1),
       "the fields of a revocation list");
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer.certificate.get(), nullptr, nullptr, list.get(), 0);
  const TimePtr when = Time(spec.this_update);
  const auto revoke = [&](const ASN1_INTEGER* serial, bool extend) {
    X509_REVOKED* entry = X509_REVOKED_new();
    Must(X509_REVOKED_set_serialNumber(entry, const_cast<ASN1_INTEGER*>(serial)) == 1 &&
             X509_REVOKED_set_revocationDate(entry, when.get()) == 1,
         "an entry");
    if (extend) {
      for (const auto& [name, value] : spec.entry_extensions) {
        Must(X509_REVOKED_add_ext(entry, Extension(context, name, value).get(), -1) == 1, name);
      }
    }
    Must(X509_CRL_add0_revoked(list.get(), entry) == 1, "an entry");
  };
  for (const X509* certificate : spec.revoked) {
    revoke(X509_get0_serialNumber(certificate), true);
  }
  for (size_t i = 0; i < spec.others; ++i) revoke(RandomSerial().get(), false);
  auto extensions = spec.extensions;
  extensions["authorityKeyIdentifier"] = "keyid";
  for (const auto& [name, value] : extensions) {
    Must(X509_CRL_add_ext(list.get(), Extension(context, name, value).get(), -1) == 1, name);
  }
  if (!spec.number.empty()) {
    Must(X509_CRL_add1_ext_i2d(list.get(), NID_crl_number, Number(spec.number).get(), 0,
                               X509V3_ADD_APPEND) == 1,
         "the list's number");
  }
  EVP_PKEY* key = signer != nullptr ? signer : issuer.key.get();
  Must(X509_CRL_sort(list.get()) == 1 &&
           X509_CRL_sign(list.get(), key, DigestFor(key, spec.digest)) > 0,
       "signing a revocation list");
  return list;
}

ChainPtr Chain(const std::vector<const Issued*>& certificates) {
  ChainPtr chain(sk_X509_new_null());
  for (const Issued* one : certificates) {
    sk_X509_push(chain.get(), Share(one->certificate.get()).release());
  }
  return chain;
}

std::string Pem(const X509* certificate) {
  return InMemory([&](BIO* out) { return PEM_write_bio_X509(out, certificate); });
}

std::string Pem(const EVP_PKEY* private_key) {
  return InMemory([&](BIO* out) {
    return PEM_write_bio_PrivateKey(out, private_key, nullptr, nullptr, 0, nullptr, nullptr);
  });
}

std::string Pem(const X509_CRL* list) {
  return InMemory([&](BIO* out) { return PEM_write_bio_X509_CRL(out, list); });
}

std::string Der(const X509_CRL* list) {
  return InMemory([&](BIO* out) { return i2d_X509_CRL_bio(out, list); });
}

}  // namespace portcullis::identity::test
