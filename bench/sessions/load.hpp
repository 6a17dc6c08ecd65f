// What peers do to the gate, many at once and at a pace: handshakes, sessions, renewals. What comes
// of it is counted; a peer that fails is not tried again.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>

#include "bench/sessions/connection.hpp"
#include "bench/sessions/world.hpp"

namespace portcullis::bench {

struct Load {
  GateAddress gate;
  size_t first = 0;      // peer
  size_t count = 1;      // peers, one after the other; begins again after the last
  unsigned at_once = 4;  // threads
  double seconds = 0;    // evenly over so long; 0: as fast as it goes
  bool initial_contact = false;
  bool renew = false;     // the session that each has
  size_t tell_every = 0;  // of so many peers one tells its keys; 0: none does
};

/// A JSON object: done, failed {why: count}, seconds, ms {p50, p99, max} of each.
nlohmann::json Handshakes(const World& world, const Load& load);
/// A session, confirmed. `tell` is given {peer, spi_to_gate, key_to_gate, spi_to_peer, key_to_peer}
/// before the confirmation; any thread.
nlohmann::json Sessions(World& world, const Load& load,
                        const std::function<void(const nlohmann::json&)>& tell);
/// {seconds}: of this thread's CPU, for so many bare signature checks (EVP_DigestVerify, ES256) of
/// a token.
nlohmann::json VerifyTokens(const World& world, size_t count);
/// OpenSSL's own: accepts mutual TLS 1.3 with the gate's files and profile, one after the other,
/// until the process is ended. Prints a line when it listens.
[[noreturn]] void ServeHandshakes(const std::string& folder, const GateAddress& at);

}  // namespace portcullis::bench
