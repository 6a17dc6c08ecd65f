// Who applies, and for what. Everything in it was verified by the guard.
#pragma once

#include <chrono>
#include <set>
#include <string>
#include <vector>

#include "control/admission/admission.pb.h"
#include "control/model/denial.hpp"
#include "control/model/types.hpp"

namespace portcullis::admission {

struct Applicant {
  model::Authentication by = model::Authentication::certificate;
  std::vector<std::string> names;  // certificate: its alternative names
  std::string psk_peer;            // psk: the peer that the key belongs to
  std::string issuer;              // of the token
  std::string client_id;
  std::string proof_key_thumbprint;  // psk: of the key that the token is bound to
  std::set<std::string> scopes;
  std::chrono::system_clock::time_point token_expiry;
  std::chrono::system_clock::time_point certificate_expiry =
      std::chrono::system_clock::time_point::max();
  std::string interface;

  std::vector<model::Revocable> proofs;  // certificates, token, key, issuer
  Identity identity;                     // as the guard said it
  Token token;
};

Applicant ApplicantOf(Identity identity, Token token, std::string interface);

}  // namespace portcullis::admission
