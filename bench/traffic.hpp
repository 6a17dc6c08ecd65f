// Prepared packets: which SAs, peers, rules and flows there are, and the frames of one lap. Written
// as a pcap file, so that any DPDK program can be fed the same.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dataplane/crypto/engine.hpp"
#include "dataplane/packet/bytes.hpp"
#include "dataplane/state/state.hpp"

namespace portcullis::bench {

using Frame = std::vector<uint8_t>;

/// What is wrong with every packet of a lap.
enum class Attack : uint8_t {
  none,
  unknown_spi,
  replay,
  bad_icv,
  selector_miss,
  no_policy,
  denied_source
};

/// Who there is. One SA a peer; each peer has one address; flows differ by the server's port and,
/// where there are more flows than rules, by the client's.
struct Layout {
  Algorithm algorithm = Algorithm::aes_128_gcm_16;
  uint32_t sas = 1;
  uint32_t rules = 1;  // selector rules a peer; flow f is admitted by rule f modulo rules
  uint32_t flows = 1;  // a peer
  unsigned workers = 1;
  uint16_t window = 1024;
  bool esn = true;
  bool first_line = false;  // with a denied source prefix, and a limit for each source
  bool client = false;      // the peer's own gate, for one SA: what is local there is remote here

  [[nodiscard]] uint32_t capacity() const;  // of the SA table
  [[nodiscard]] Spi SpiOf(uint32_t sa) const;
  [[nodiscard]] std::vector<uint8_t> KeyOf(uint32_t sa) const;
  [[nodiscard]] Address PeerOf(uint32_t sa) const;
};

/// Inner packets in bytes; a mix is played in this order again and again.
using Sizes = std::vector<uint16_t>;

struct Lap {
  std::vector<Frame> frames;
  std::vector<uint32_t> sa;  // of each frame
  double inner_bytes = 0;    // mean
  bool esp = false;          // or cleartext
};

/// ESP frames for the untrusted port, `count` of them. SAs come in random order, each with its own
/// sequence numbers from 1 on.
Lap MakeInbound(const Layout& layout, const Sizes& sizes, uint32_t count, Attack attack);
/// Cleartext frames for the trusted port.
Lap MakeOutbound(const Layout& layout, const Sizes& sizes, uint32_t count, Attack attack);

void WritePcap(const std::string& path, const std::vector<Frame>& frames);

inline constexpr uint16_t kFirstPort =
    8000;  // of the server; flow f is at kFirstPort + f modulo rules

}  // namespace portcullis::bench
