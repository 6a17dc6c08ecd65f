#include "control/admission/applicant.hpp"

#include <algorithm>
#include <utility>

namespace portcullis::admission {

using Kind = model::Revocable::Kind;

namespace {

std::chrono::system_clock::time_point FromUnix(uint64_t seconds) {
  // Far enough for anybody, and no overflow on the way to nanoseconds.
  constexpr uint64_t kLatest = uint64_t{1} << 33U;
  return std::chrono::system_clock::time_point(std::chrono::seconds(std::min(seconds, kLatest)));
}

std::vector<model::Revocable> ProofsOf(const Identity& identity, const Token& token) {
  std::vector<model::Revocable> proofs;
  for (const Certificate& c : identity.chain()) {
    proofs.push_back({Kind::certificate, c.issuer(), c.serial()});
  }
  if (!token.jti().empty()) proofs.push_back({Kind::token, token.issuer(), token.jti()});
  if (!token.kid().empty()) proofs.push_back({Kind::key, token.issuer(), token.kid()});
  proofs.push_back({Kind::issuer, "", token.issuer()});
  return proofs;
}

}  // namespace

Applicant ApplicantOf(Identity identity, Token token, std::string interface) {
  Applicant who;
  if (identity.mode() == PSK) {
    who.by = model::Authentication::psk;
    who.psk_peer = identity.psk_peer();
  } else {
    who.names.assign(identity.names().begin(), identity.names().end());
    who.certificate_expiry = FromUnix(identity.certificate_not_after());
  }
  who.issuer = token.issuer();
  who.client_id = token.client_id();
  who.proof_key_thumbprint = token.proof_key_thumbprint();
  who.scopes.insert(token.scopes().begin(), token.scopes().end());
  who.token_expiry = FromUnix(token.expiry());
  who.interface = std::move(interface);
  who.proofs = ProofsOf(identity, token);
  who.identity = std::move(identity);
  who.token = std::move(token);
  return who;
}

}  // namespace portcullis::admission
