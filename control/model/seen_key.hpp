// A peer's public key, and who came with it first. The same key under a second name is a copied key
// or a mistake, and opens nothing.
#pragma once

#include <chrono>
#include <string>

namespace portcullis::model {

struct SeenKey {
  using Time = std::chrono::system_clock::time_point;

  /// SHA-256 of a certificate's SubjectPublicKeyInfo in hex; or of the key that a peer with a
  /// pre-shared key proves possession of, after RFC 7638 in base64url.
  std::string id;
  std::string peer;      // its name in policy
  std::string identity;  // what its certificate, or its pre-shared key's owner, was called
  Time since;            // kept in seconds
};

}  // namespace portcullis::model
