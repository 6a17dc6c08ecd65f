// What carries the packets of a session on this host: two security associations are one pair, and
// go in and out together.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "base/ip.hpp"
#include "base/result.hpp"
#include "base/secret.hpp"
#include "control/guard/session/keys.hpp"

namespace portcullis::peer {

struct SaPair {
  std::string name;  // unique; begins with the interface's name and a '/'
  Spi to_gate{};
  Spi to_peer{};
  Algorithm algorithm = Algorithm::aes_256_gcm_16;
  bool esn = true;
  uint32_t replay_window = 0;
  std::vector<guard::SessionSelector> selectors;
  Address peer_outer;
  Address gate_outer;
  bool udp_encap = false;
  std::chrono::seconds life{};
  Secret key_to_gate;
  Secret key_to_peer;
};

/// Packets so far.
struct Traffic {
  uint64_t sent = 0;
  uint64_t received = 0;
};

/// All on one thread.
class Datapath {
 public:
  virtual ~Datapath() = default;
  /// What it has to do of its own accord, until Stop().
  virtual boost::asio::awaitable<void> Run() = 0;
  virtual void Stop() = 0;
  /// Whether it can take pairs now; if not, WhyNotReady() says why.
  [[nodiscard]] virtual bool ready() const = 0;
  [[nodiscard]] virtual std::string WhyNotReady() const = 0;
  /// For a new inbound association; random, and of no other that is there.
  virtual Result<Spi> ChooseSpi() = 0;
  /// Both or none; the newest pair of an interface sends from then on.
  virtual boost::asio::awaitable<Result<void>> Install(SaPair pair) = 0;
  /// Unknown names are no error.
  virtual boost::asio::awaitable<Result<void>> Remove(std::vector<std::string> names) = 0;
  /// Of all that are there, whoever installed them.
  virtual boost::asio::awaitable<Result<std::vector<std::string>>> Names() = 0;
  /// kNotFound: it is not there, or no longer.
  virtual boost::asio::awaitable<Result<Traffic>> Read(std::string name) = 0;
};

}  // namespace portcullis::peer
