#include "control/guard/session/handshake.hpp"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include <array>
#include <cstring>
#include <exception>
#include <optional>
#include <string_view>

#include "control/identity/own_chain.hpp"

namespace portcullis::guard {

using identity::PskHash;
using identity::PskKey;
using identity::Reason;
using identity::Refusal;
using identity::Require;
using identity::TlsVersion;

namespace {

// For DHE in TLS 1.2. RFC 7919's named groups are safe primes of known origin.
constexpr const char* kDhGroup = "ffdhe3072";

// What the callbacks of one handshake found out.
struct Progress {
  std::shared_ptr<const TlsServer> server;
  std::optional<Refusal> refusal;
  bool verified = false;        // the peer's certificate
  bool psk_asked = false;       // the client offered an identity
  const PskKey* key = nullptr;  // whose it is; null: nobody's, the dummy was used
};

void FreeProgress(void* /*parent*/, void* progress, CRYPTO_EX_DATA* /*all*/, int /*index*/,
                  long /*number*/, void* /*pointer*/) {
  delete static_cast<Progress*>(progress);
}

int ProgressIndex() {
  static const int kIndex = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, FreeProgress);
  return kIndex;
}

Progress& ProgressOf(const SSL* connection) {
  return *static_cast<Progress*>(SSL_get_ex_data(connection, ProgressIndex()));
}

EVP_PKEY* NewDhParameters() {
  const std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)> maker(
      EVP_PKEY_CTX_new_from_name(nullptr, "DH", nullptr), EVP_PKEY_CTX_free);
  std::string group = kDhGroup;
  std::array<OSSL_PARAM, 2> params = {
      OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group.data(), 0),
      OSSL_PARAM_construct_end()};
  EVP_PKEY* out = nullptr;
  Require(maker && EVP_PKEY_fromdata_init(maker.get()) == 1 &&
              EVP_PKEY_fromdata(maker.get(), &out, EVP_PKEY_KEY_PARAMETERS, params.data()) == 1,
          kDhGroup);
  return out;
}

}  // namespace

// OpenSSL calls these in the middle of a handshake.
struct Callbacks {
  // RFC 8446 8: what comes as early data can be replayed. OpenSSL would skip it and go on.
  static int ClientHello(SSL* connection, int* alert, void* /*argument*/) {
    const unsigned char* content = nullptr;
    size_t size = 0;
    if (SSL_client_hello_get0_ext(connection, TLSEXT_TYPE_early_data, &content, &size) != 1) {
      return SSL_CLIENT_HELLO_SUCCESS;
    }
    ProgressOf(connection).refusal = Refusal{Reason::tls_early_data_denied, ""};
    *alert = SSL_AD_HANDSHAKE_FAILURE;
    return SSL_CLIENT_HELLO_ERROR;
  }

  // RFC 7301 3.2. Who offers neither speaks of something else.
  static int ChooseHttp(SSL* /*connection*/, const unsigned char** chosen, unsigned char* size,
                        const unsigned char* offered, unsigned offered_size, void* /*argument*/) {
    static constexpr std::string_view kHttp = "\x02h2\x08http/1.1";
    unsigned char* out = nullptr;
    const int found =
        SSL_select_next_proto(&out, size, reinterpret_cast<const unsigned char*>(kHttp.data()),
                              kHttp.size(), offered, offered_size);
    *chosen = out;
    return found == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
  }

  static int VerifyCertificate(X509_STORE_CTX* store, void* /*argument*/) {
    const auto* connection = static_cast<const SSL*>(
        X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
    Progress& progress = ProgressOf(connection);
    try {
      const auto verified = progress.server->verify_(X509_STORE_CTX_get0_cert(store),
                                                     X509_STORE_CTX_get0_untrusted(store));
      progress.verified = verified.has_value();
      if (!verified) progress.refusal = verified.error();
    } catch (const std::exception& e) {  // must not travel through C
      progress.refusal = Refusal{Reason::cert_chain_fail, e.what()};
    }
    // One alert for all reasons: the peer is not told which.
    X509_STORE_CTX_set_error(store, progress.verified ? X509_V_OK : X509_V_ERR_CERT_REJECTED);
    return progress.verified ? 1 : 0;
  }

  // The key to go on with. The same steps for known and unknown identities.
  static const Secret& KeyFor(Progress& progress, std::string_view identity, TlsVersion version) {
    progress.psk_asked = true;
    progress.key = progress.server->keys_->Find(
        identity, {identity::PeerRole::client, version, progress.server->hash_});
    return progress.key == nullptr ? progress.server->keys_->dummy() : progress.key->key;
  }

  // TLS 1.3. OpenSSL takes a session object for a key.
  static int FindPsk13(SSL* connection, const unsigned char* identity, size_t size,
                       SSL_SESSION** out) {
    Progress& progress = ProgressOf(connection);
    const Secret& key =
        KeyFor(progress, {reinterpret_cast<const char*>(identity), size}, TlsVersion::v1_3);
    SSL_SESSION* session = identity::NewPskSession(connection, key, progress.server->hash_);
    if (session == nullptr) return 0;
    *out = session;
    return 1;
  }

  static unsigned FindPsk12(SSL* connection, const char* identity, unsigned char* out,
                            unsigned size) {
    if (SSL_version(connection) != TLS1_2_VERSION) return 0;
    const Secret& key = KeyFor(ProgressOf(connection), identity, TlsVersion::v1_2);
    if (key.size() > size) return 0;
    std::memcpy(out, key.bytes().data(), key.size());
    return static_cast<unsigned>(key.size());
  }
};

// Throws std::runtime_error where OpenSSL's build lacks what every profile needs.
TlsServer::TlsServer(bool tls_1_2)
    : context_(identity::NewTlsContext(TLS_server_method(),
                                       tls_1_2 ? TLS1_2_VERSION : TLS1_3_VERSION, TLS1_3_VERSION)) {
  SSL_CTX* c = context_.get();
  SSL_CTX_set_options(c, SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_num_tickets(c, 0);
  Require(SSL_CTX_set1_client_sigalgs_list(c, identity::kTlsSignatures) == 1,
          identity::kTlsSignatures);
  Require(SSL_CTX_set0_tmp_dh_pkey(c, NewDhParameters()) == 1, kDhGroup);
  SSL_CTX_set_client_hello_cb(c, Callbacks::ClientHello, nullptr);
}

Result<std::shared_ptr<TlsServer>> TlsServer::ForCertificates(const CertificateProfile& profile,
                                                              VerifyPeer verify,
                                                              const std::string& where) {
  const std::shared_ptr<TlsServer> server(new TlsServer(profile.tls_1_2));
  SSL_CTX* c = server->context_.get();
  server->verify_ = std::move(verify);
  identity::UseCertificateSuites(c);
  SSL_CTX_set_verify(c, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  SSL_CTX_set_cert_verify_callback(c, Callbacks::VerifyCertificate, nullptr);
  if (profile.http2) SSL_CTX_set_alpn_select_cb(c, Callbacks::ChooseHttp, nullptr);
  if (profile.own.empty()) {
    return Invalid(where, "the listener has no certificate", "at least one", "none");
  }
  for (size_t i = 0; i < profile.own.size(); ++i) {
    if (auto r = identity::UseOwnCertificate(c, profile.own[i],
                                             fmt::format("{}/certificates/{}", where, i));
        !r) {
      return tl::unexpected(r.error());
    }
    const auto endings = identity::OwnChain(c, profile.own[i].chain);
    server->endings_.insert(server->endings_.end(), endings.begin(), endings.end());
  }
  return server;
}

Result<std::shared_ptr<TlsServer>> TlsServer::ForPsk(
    const PskProfile& profile, std::shared_ptr<const identity::PskStore> keys) {
  const std::shared_ptr<TlsServer> server(new TlsServer(profile.tls_1_2));
  SSL_CTX* c = server->context_.get();
  server->keys_ = std::move(keys);
  server->hash_ = profile.hash;
  identity::UsePskSuites(c, profile.hash);
  if (profile.http2) SSL_CTX_set_alpn_select_cb(c, Callbacks::ChooseHttp, nullptr);
  // Nobody can show a certificate here: the gate has none itself, and without one no handshake but
  // by pre-shared key is possible.
  SSL_CTX_set_verify(c, SSL_VERIFY_NONE, nullptr);
  SSL_CTX_set_psk_find_session_callback(c, Callbacks::FindPsk13);
  SSL_CTX_set_psk_server_callback(c, Callbacks::FindPsk12);
  return server;
}

SslHandle TlsServer::NewConnection() const {
  SslHandle connection(SSL_new(context_.get()));
  if (!connection) return connection;
  auto progress = std::make_unique<Progress>();
  progress->server = shared_from_this();
  if (SSL_set_ex_data(connection.get(), ProgressIndex(), progress.get()) != 1) return nullptr;
  static_cast<void>(progress.release());  // FreeProgress
  SSL_set_accept_state(connection.get());
  return connection;
}

tl::expected<Authenticated, Refusal> Judge(SSL* connection) {
  const Progress& progress = ProgressOf(connection);
  if (progress.refusal) return tl::unexpected(*progress.refusal);
  const auto version = static_cast<uint16_t>(SSL_version(connection));
  // OpenSSL 3.0 cannot demand it. In TLS 1.3 there is no such thing to ask for.
  if (version == TLS1_2_VERSION && SSL_get_extms_support(connection) != 1) {
    return tl::unexpected(
        Refusal{Reason::tls_version_denied, "TLS 1.2 without extended master secret (RFC 7627)"});
  }
  Authenticated who;
  who.tls_version = version;
  who.cipher = SSL_CIPHER_standard_name(SSL_get_current_cipher(connection));
  X509* shown = SSL_get0_peer_certificate(connection);
  const bool reused = SSL_session_reused(connection) == 1;
  who.mode = progress.server->mode();
  if (who.mode == Mode::psk) {
    // To OpenSSL, an external key of TLS 1.3 is a session that is resumed; in TLS 1.2 it is none.
    if (progress.key == nullptr || shown != nullptr || reused != (version == TLS1_3_VERSION)) {
      return tl::unexpected(Refusal{Reason::psk_unknown, "not a handshake by pre-shared key"});
    }
    who.psk_identity = progress.key->identity;
    who.psk_peer = progress.key->peer;
    who.psk_thumbprint = progress.key->thumbprint;
    return who;
  }
  if (shown == nullptr) return tl::unexpected(Refusal{Reason::cert_missing, ""});
  if (!progress.verified || reused) {
    return tl::unexpected(Refusal{Reason::cert_chain_fail, "a resumed session proves nothing"});
  }
  X509_up_ref(shown);
  who.certificate.reset(shown);
  return who;
}

Refusal WhyFailed(SSL* connection, unsigned long error) {
  const Progress& progress = ProgressOf(connection);
  if (progress.refusal) return *progress.refusal;
  if (error == 0) return {Reason::tls_failed, "the connection broke"};
  const std::string text = identity::TlsErrorText(error);
  if (ERR_GET_LIB(error) != ERR_LIB_SSL) return {Reason::tls_failed, text};
  switch (ERR_GET_REASON(error)) {
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW:
    case SSL_R_NO_PROTOCOLS_AVAILABLE:
      return {Reason::tls_version_denied, text};
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_NO_SHARED_GROUPS:
    case SSL_R_NO_SUITABLE_KEY_SHARE:
    case SSL_R_NO_SUITABLE_GROUPS:
    case SSL_R_WRONG_CURVE:
      return {Reason::tls_cipher_denied, text};
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
      return {Reason::cert_missing, ""};
    case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
    case SSL_R_WRONG_SIGNATURE_TYPE:
      // Without a key on offer, TLS 1.3 looks for a certificate, and there is none to sign with.
      if (progress.server->mode() == Mode::psk) {
        return {Reason::psk_unknown, "the client offers no pre-shared key"};
      }
      return {Reason::weak_alg_refused, text};
    case SSL_R_BINDER_DOES_NOT_VERIFY:               // TLS 1.3
    case SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC:  // TLS 1.2: the Finished cannot be read
      if (!progress.psk_asked) break;
      return {Reason::psk_unknown, progress.key == nullptr
                                       ? "unknown identity"
                                       : "wrong key for the identity of " + progress.key->peer};
    default:
      break;
  }
  return {Reason::tls_failed, text};
}

}  // namespace portcullis::guard
