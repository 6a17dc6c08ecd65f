#include "control/peer/tls_client.hpp"

#include <openssl/err.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <new>
#include <optional>

#include "base/ip.hpp"

namespace portcullis::peer {

using guard::Mode;
using identity::PskUse;
using identity::Reason;
using identity::Refusal;
using identity::TlsVersion;

namespace {

// What the callbacks of one handshake found out.
struct Progress {
  std::shared_ptr<const TlsClient> client;
  std::optional<Refusal> refusal;
  std::optional<identity::CertificateIdentity> gate;
};

void FreeProgress(void* /*parent*/, void* progress, CRYPTO_EX_DATA* /*all*/, int /*index*/,
                  long /*number*/, void* /*pointer*/) {  // NOLINT: OpenSSL's type
  delete static_cast<Progress*>(progress);
}

int ProgressIndex() {
  static const int kIndex = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, FreeProgress);
  return kIndex;
}

Progress& ProgressOf(const SSL* connection) {
  return *static_cast<Progress*>(SSL_get_ex_data(connection, ProgressIndex()));
}

}  // namespace

// OpenSSL calls these in the middle of a handshake.
struct ClientCallbacks {
  static int VerifyCertificate(X509_STORE_CTX* store, void* /*argument*/) {
    const auto* connection = static_cast<const SSL*>(
        X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
    Progress& progress = ProgressOf(connection);
    try {
      if (progress.client->mode() == Mode::psk) {
        progress.refusal =
            Refusal{Reason::psk_unknown, "the gate shows a certificate instead of taking the key"};
      } else {
        auto verified = progress.client->verify_(X509_STORE_CTX_get0_cert(store),
                                                 X509_STORE_CTX_get0_untrusted(store));
        if (verified) {
          progress.gate = *std::move(verified);
        } else {
          progress.refusal = std::move(verified.error());
        }
      }
    } catch (const std::exception& e) {  // must not travel through C
      progress.refusal = Refusal{Reason::cert_chain_fail, e.what()};
    }
    const bool good = progress.gate && !progress.refusal;
    X509_STORE_CTX_set_error(store, good ? X509_V_OK : X509_V_ERR_CERT_REJECTED);
    return good ? 1 : 0;
  }

  // TLS 1.3. OpenSSL takes a session object for a key.
  static int UsePsk13(SSL* connection, const EVP_MD* /*digest*/, const unsigned char** identity,
                      size_t* size, SSL_SESSION** out) {
    const identity::PskKey& key = *ProgressOf(connection).client->key_;
    *out = identity::NewPskSession(connection, key.key, key.use.hash);
    *identity = reinterpret_cast<const unsigned char*>(key.identity.data());
    *size = key.identity.size();
    return *out == nullptr ? 0 : 1;
  }

  static unsigned UsePsk12(SSL* connection, const char* /*hint*/, char* identity,
                           unsigned identity_size, unsigned char* out, unsigned size) {
    const identity::PskKey& key = *ProgressOf(connection).client->key_;
    if (key.identity.size() >= identity_size || key.key.size() > size) return 0;
    std::memcpy(identity, key.identity.c_str(), key.identity.size() + 1);
    std::memcpy(out, key.key.bytes().data(), key.key.size());
    return static_cast<unsigned>(key.key.size());
  }
};

TlsClient::TlsClient(int least_version, int most_version)
    : context_(identity::NewTlsContext(TLS_client_method(), least_version, most_version)) {
  SSL_CTX_set_verify(context_.get(), SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_cert_verify_callback(context_.get(), ClientCallbacks::VerifyCertificate, nullptr);
}

Result<std::shared_ptr<TlsClient>> TlsClient::ForCertificates(const identity::OwnCertificate& own,
                                                              bool tls_1_2, VerifyGate verify,
                                                              const std::string& where) {
  const std::shared_ptr<TlsClient> client(
      new TlsClient(tls_1_2 ? TLS1_2_VERSION : TLS1_3_VERSION, TLS1_3_VERSION));
  client->verify_ = std::move(verify);
  identity::UseCertificateSuites(client->context_.get());
  if (auto r = identity::UseOwnCertificate(client->context_.get(), own, where); !r) {
    return tl::unexpected(r.error());
  }
  return client;
}

std::shared_ptr<TlsClient> TlsClient::ForPsk(std::shared_ptr<const identity::PskStore> keys,
                                             const std::string& identity, PskUse use) {
  const int version = use.version == TlsVersion::v1_2 ? TLS1_2_VERSION : TLS1_3_VERSION;
  std::shared_ptr<TlsClient> client(new TlsClient(version, version));
  SSL_CTX* c = client->context_.get();
  client->key_ = keys->Find(identity, use);
  if (client->key_ == nullptr) throw std::logic_error("a store without the key for its one use");
  client->keys_ = std::move(keys);
  identity::UsePskSuites(c, use.hash);
  if (version == TLS1_3_VERSION) {
    SSL_CTX_set_psk_use_session_callback(c, ClientCallbacks::UsePsk13);
  } else {
    SSL_CTX_set_psk_client_callback(c, ClientCallbacks::UsePsk12);
  }
  return client;
}

identity::SslHandle TlsClient::NewConnection(const std::string& name) const {
  identity::SslHandle connection(SSL_new(context_.get()));
  if (!connection) return connection;
  auto progress = std::make_unique<Progress>();
  progress->client = shared_from_this();
  if (SSL_set_ex_data(connection.get(), ProgressIndex(), progress.get()) != 1) return nullptr;
  static_cast<void>(progress.release());  // FreeProgress
  // SNI carries names only.
  const bool named = !name.empty() && !Address::Parse(name);
  if (named && SSL_set_tlsext_host_name(connection.get(), name.c_str()) != 1) return nullptr;
  SSL_set_connect_state(connection.get());
  return connection;
}

tl::expected<ProvenGate, Refusal> JudgeGate(SSL* connection) {
  Progress& progress = ProgressOf(connection);
  if (progress.refusal) return tl::unexpected(*progress.refusal);
  const auto version = static_cast<uint16_t>(SSL_version(connection));
  // OpenSSL 3.0 cannot demand it. In TLS 1.3 there is no such thing to ask for.
  if (version == TLS1_2_VERSION && SSL_get_extms_support(connection) != 1) {
    return tl::unexpected(
        Refusal{Reason::tls_version_denied, "TLS 1.2 without extended master secret (RFC 7627)"});
  }
  const bool certified = SSL_get0_peer_certificate(connection) != nullptr;
  const bool reused = SSL_session_reused(connection) == 1;
  ProvenGate gate{progress.client->mode(), version, {}};
  if (gate.mode == Mode::psk) {
    // To OpenSSL, an external key of TLS 1.3 is a session that is resumed; in TLS 1.2 it is none.
    if (certified || reused != (version == TLS1_3_VERSION)) {
      return tl::unexpected(Refusal{Reason::psk_unknown, "not a handshake by pre-shared key"});
    }
    return gate;
  }
  if (!certified || !progress.gate || reused) {
    return tl::unexpected(Refusal{Reason::cert_missing, "a resumed session proves nothing"});
  }
  gate.certificate = *progress.gate;
  return gate;
}

Refusal WhyNot(SSL* connection, unsigned long error) {  // NOLINT: OpenSSL's type
  const Progress& progress = ProgressOf(connection);
  if (progress.refusal) return *progress.refusal;
  if (error == 0) return {Reason::tls_failed, "the connection broke"};
  const std::string text = identity::TlsErrorText(error);
  if (ERR_GET_LIB(error) != ERR_LIB_SSL) return {Reason::tls_failed, text};
  const int reason = ERR_GET_REASON(error);
  switch (reason) {
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_WRONG_SSL_VERSION:
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
      return {Reason::tls_version_denied, text};
    case SSL_R_UNEXPECTED_MESSAGE:
      break;
    default:
      // Alerts that the gate sent: it says no more than that it does not take us.
      if (reason > SSL_AD_REASON_OFFSET) {
        return {Reason::tls_failed, "the gate ended it (" + text +
                                        "): it may not take what this peer proves itself by"};
      }
  }
  return {Reason::tls_failed, text};
}

}  // namespace portcullis::peer
