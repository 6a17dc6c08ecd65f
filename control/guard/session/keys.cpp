#include "control/guard/session/keys.hpp"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>

#include <memory>
#include <span>
#include <type_traits>

namespace portcullis::guard {

namespace {

constexpr uint8_t kEncodingVersion = 1;
constexpr size_t kMostKeyBytes = 64;  // AES-256-CBC with HMAC-SHA-256

// Key material on its way from OpenSSL into a Secret.
template <size_t N>
struct Scratch {
  std::array<uint8_t, N> bytes{};
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { Wipe(bytes); }
};

// length (4 bytes) || value; numbers are big endian, as wide as their type.
class Encoder {
 public:
  void Bytes(std::span<const uint8_t> value) {
    Append(static_cast<uint32_t>(value.size()));
    out_.insert(out_.end(), value.begin(), value.end());
  }
  void Text(std::string_view value) {
    Bytes({reinterpret_cast<const uint8_t*>(value.data()), value.size()});
  }
  template <class T>
  void Number(T value) {
    Append(static_cast<uint32_t>(sizeof(T)));
    Append(value);
  }
  std::vector<uint8_t> Take() { return std::move(out_); }

 private:
  template <class T>
  void Append(T value) {
    static_assert(std::is_unsigned_v<T>);
    for (size_t i = sizeof(T); i-- > 0;) out_.push_back(static_cast<uint8_t>(value >> (8 * i)));
  }
  std::vector<uint8_t> out_;
};

// 4 or 16 bytes of address, then the length as people write it; nothing: any.
std::vector<uint8_t> Encode(const std::optional<Prefix>& prefix) {
  if (!prefix) return {};
  const auto address = prefix->address().bytes();
  std::vector<uint8_t> out(address.begin() + (prefix->IsV4() ? 12 : 0), address.end());
  out.push_back(static_cast<uint8_t>(prefix->WrittenLength()));
  return out;
}

std::vector<uint8_t> Encode(const SessionSelector& selector) {
  Encoder out;
  out.Bytes(Encode(selector.behind_gate));
  out.Bytes(Encode(selector.behind_peer));
  out.Number(selector.protocol);
  for (const auto& ports : {selector.gate_ports, selector.peer_ports}) {
    out.Number(ports.first);
    out.Number(ports.last);
  }
  return out.Take();
}

// Marks a connection whose secret was exported.
int ExportedIndex() {
  static const int kIndex = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return kIndex;
}

}  // namespace

std::vector<uint8_t> Encode(const KeyContext& c) {
  Encoder selectors;
  for (const SessionSelector& selector : c.selectors) selectors.Bytes(Encode(selector));
  Encoder out;
  out.Number(kEncodingVersion);
  out.Number(c.tls_version);
  out.Number(static_cast<uint8_t>(c.mode));
  out.Text(c.gate_identity);
  out.Text(c.peer_identity);
  out.Text(c.interface);
  out.Text(c.session_id);
  out.Number(c.generation);
  out.Number(Value(c.to_gate));
  out.Number(Value(c.to_peer));
  out.Text(Info(c.algorithm).name);
  out.Number(static_cast<uint8_t>(c.esn));
  out.Bytes(selectors.Take());
  out.Bytes(c.gate_nonce);
  out.Bytes(c.peer_nonce);
  return out.Take();
}

Result<MasterKey> MasterKey::Export(SSL* connection, const KeyContext& context) {
  if (SSL_is_init_finished(connection) == 0) {
    return Fail(ErrorKind::kConflict, "keys cannot be exported before the handshake's end");
  }
  if (SSL_version(connection) != context.tls_version) {
    return tl::unexpected(Error{ErrorKind::kConflict,
                                "the key context names another TLS version than was negotiated", "",
                                fmt::format("{:#06x}", SSL_version(connection)),
                                fmt::format("{:#06x}", context.tls_version)});
  }
  // Without it the master secret is not bound to the handshake (RFC 7627 1). TLS 1.3 always is.
  if (SSL_version(connection) == TLS1_2_VERSION && SSL_get_extms_support(connection) != 1) {
    return Fail(ErrorKind::kConflict, "TLS 1.2 without extended master secret cannot give keys");
  }
  if (SSL_get_ex_data(connection, ExportedIndex()) != nullptr) {
    return Fail(ErrorKind::kConflict,
                "this connection has given its keys; a new generation needs a new handshake");
  }
  SSL_set_ex_data(connection, ExportedIndex(), connection);

  const auto encoded = Encode(context);
  std::array<uint8_t, SHA256_DIGEST_LENGTH> hash{};
  SHA256(encoded.data(), encoded.size(), hash.data());
  Scratch<kMasterBytes> master;
  constexpr int kWithContext = 1;
  if (SSL_export_keying_material(connection, master.bytes.data(), master.bytes.size(),
                                 kExporterLabel.data(), kExporterLabel.size(), hash.data(),
                                 hash.size(), kWithContext) != 1) {
    return Fail(ErrorKind::kInternal, "OpenSSL did not export keying material");
  }
  return MasterKey(Secret(master.bytes));
}

Result<Secret> MasterKey::Expand(Direction direction, Spi spi, Algorithm algorithm) const {
  std::array<uint8_t, 5> info{static_cast<uint8_t>(direction)};
  const be32 wire(Value(spi));
  std::memcpy(info.data() + 1, &wire, sizeof(wire));

  const std::unique_ptr<EVP_KDF, decltype(&EVP_KDF_free)> hkdf(
      EVP_KDF_fetch(nullptr, OSSL_KDF_NAME_HKDF, nullptr), EVP_KDF_free);
  const std::unique_ptr<EVP_KDF_CTX, decltype(&EVP_KDF_CTX_free)> run(EVP_KDF_CTX_new(hkdf.get()),
                                                                      EVP_KDF_CTX_free);
  int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
  std::string digest = "SHA256";
  // OSSL_PARAM takes pointers to mutable memory also for what is only read.
  auto* key = const_cast<uint8_t*>(bytes_.bytes().data());
  const std::array<OSSL_PARAM, 5> params = {
      OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest.data(), 0),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, key, bytes_.size()),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info.data(), info.size()),
      OSSL_PARAM_construct_end()};
  Scratch<kMostKeyBytes> out;
  const size_t size = Info(algorithm).key_bytes;
  if (!run || EVP_KDF_derive(run.get(), out.bytes.data(), size, params.data()) != 1) {
    return Fail(ErrorKind::kInternal, "OpenSSL's HKDF failed");
  }
  return Secret(std::span(out.bytes).first(size));
}

}  // namespace portcullis::guard
