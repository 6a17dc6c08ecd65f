#include "bench/sessions/world.hpp"

#include <fmt/format.h>
#include <openssl/rand.h>
#include <sys/stat.h>

#include <ctime>
#include <filesystem>
#include <fstream>

namespace portcullis::bench {

using namespace identity::test;

namespace {

constexpr int64_t kTokenSeconds = 3600;

void Write(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path) << text;
  chmod(path.c_str(), S_IRUSR | S_IWUSR);  // keys are refused otherwise
}

std::string Der(X509* certificate) {
  unsigned char* bytes = nullptr;
  const int size = i2d_X509(certificate, &bytes);
  std::string der(reinterpret_cast<const char*>(bytes), static_cast<size_t>(size));
  OPENSSL_free(bytes);
  return der;
}

}  // namespace

World::World(const std::string& folder, size_t count, size_t revoked)
    : ca_(Issue(CaSpec("peers CA"))), token_key_(TestKey::Ec()) {
  const std::filesystem::path to(folder);
  const Issued gate = Issue(ServerSpec(kGateName), &ca_);
  Write(to / "ca.pem", Pem(ca_.certificate.get()));
  Write(to / "gate.pem", Pem(gate.certificate.get()));
  Write(to / "gate.key", Pem(gate.key.get()));
  Write(to / "as.jwks", json({{"keys", {With(token_key_.Jwk(), kKeyId)}}}).dump());
  Write(to / "peers.crl", Pem(IssueCrl({.others = revoked}, ca_).get()));
  peers.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    const std::string name = fmt::format("peer-{}", i);
    peers.push_back({name, Issue(ClientSpec(name + ".example"), &ca_), {}});
  }
}

std::string World::Token(size_t peer) const {
  const Peer& who = peers.at(peer);
  std::array<uint8_t, 16> id{};
  RAND_bytes(id.data(), static_cast<int>(id.size()));
  const int64_t now = std::time(nullptr);
  const json claims = {
      {"iss", kIssuer},
      {"sub", who.name},
      {"client_id", who.name},
      {"aud", kAudience},
      {"iat", now - 5},
      {"exp", now + kTokenSeconds},
      {"jti", identity::EncodeBase64Url(id)},
      {"scope", kScope},
      {"cnf",
       {{"x5t#S256",
         identity::EncodeBase64Url(identity::DigestOf(Der(who.credential.certificate.get())))}}}};
  return token_key_.Jws(identity::Algorithm::es256, Header("ES256", kKeyId).dump(), claims.dump());
}

}  // namespace portcullis::bench
