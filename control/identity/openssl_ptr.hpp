// Owners of OpenSSL's objects, and its error queue as text.
#pragma once

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include <array>
#include <memory>
#include <string>
#include <string_view>

namespace portcullis::identity {

template <auto free_function>
struct FreeWith {
  template <class T>
  void operator()(T* object) const {
    free_function(object);
  }
};
template <class T, auto free_function>
using OpensslPtr = std::unique_ptr<T, FreeWith<free_function>>;

// As a function, since sk_X509_pop_free is a macro. (Not a lambda: its type would differ from file
// to file.)
inline void FreeChain(STACK_OF(X509) * chain) {
  sk_X509_pop_free(chain, X509_free);
}

using BioPtr = OpensslPtr<BIO, BIO_free>;
using KeyPtr = OpensslPtr<EVP_PKEY, EVP_PKEY_free>;
using CertificatePtr = OpensslPtr<X509, X509_free>;
using ChainPtr = OpensslPtr<STACK_OF(X509), FreeChain>;
using CrlPtr = OpensslPtr<X509_CRL, X509_CRL_free>;

inline CertificatePtr Share(X509* certificate) {
  X509_up_ref(certificate);
  return CertificatePtr(certificate);
}

/// A BIO that reads `bytes`, which must outlive it.
inline BioPtr Reader(std::string_view bytes) {
  return BioPtr(BIO_new_mem_buf(bytes.data(), static_cast<int>(bytes.size())));
}

/// What was written to a memory BIO.
inline std::string Written(BIO* memory) {
  char* data = nullptr;
  const auto length = BIO_get_mem_data(memory, &data);
  return {data, static_cast<size_t>(length)};
}

/// The first reason in OpenSSL's queue of this thread; empties the queue.
inline std::string OpensslError() {
  const unsigned long code = ERR_get_error();  // NOLINT: OpenSSL's type
  ERR_clear_error();
  if (code == 0) return "unknown reason";
  std::array<char, 256> text{};
  ERR_error_string_n(code, text.data(), text.size());
  return text.data();
}

}  // namespace portcullis::identity
