// What the generator is asked to do: the command line, or the same names in a file (--config). Sets
// of security associations come from one random seed, so that the file that --write-lab makes says
// all that both sides must agree on.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "dataplane/crypto/engine.hpp"
#include "dataplane/packet/bytes.hpp"

namespace portcullis::generator {

inline constexpr uint32_t kMaxSas = 65536;
inline constexpr uint16_t kMinSize = 60;    // IPv4, UDP and the tag
inline constexpr uint16_t kMaxSize = 9000;  // jumbo frames end about here
inline constexpr uint32_t kMaxSeconds = 86400;
inline constexpr uint64_t kMaxPackets = uint64_t{1} << 30;  // see Reserve() in sequence_file.hpp

using MacBytes = std::array<uint8_t, 6>;

struct Options {
  // who: the same on both sides
  std::string seed;  // 64 hex digits; the keys come from it
  Algorithm algorithm = Algorithm::aes_128_gcm_16;
  bool esn = true;
  bool udp_encap = false;  // RFC 3948
  uint32_t sas = 1;        // one a peer
  uint32_t flows = 1;      // a security association; they differ in the server's port
  uint16_t service_port = 8000;
  // addresses, IPv4 in host order. RFC 2544 C.2.2 has 198.18.0.0/15 for tests.
  uint32_t gate_wire = 0;  // the gate's end of the tunnel
  uint32_t wire = 0;       // ours
  uint32_t gate_core = 0;  // the gate on the trusted side
  uint32_t server = 0;     // we are the server there
  uint32_t clients = 0;    // inner address of SA 0's peer; the others follow
  std::string sequence_file;

  // where
  std::string wire_device;  // PCI address or vdev arguments
  std::string core_device;  // empty: the same port
  std::vector<unsigned> cores;
  bool small_pages = false;
  unsigned megabytes = 512;
  std::string gate_wire_mac;  // empty: ask by ARP
  std::string gate_core_mac;

  // what
  Direction direction = Direction::inbound;
  std::vector<uint16_t> sizes;  // inner packets, played in this order again and again
  double rate = 0;              // packets/s; 0: as fast as it goes
  uint64_t packets = 1'000'000;
  double seconds = 10;
  uint32_t drain_ms = 2000;                             // RFC 2544 23: wait for residual frames
  unsigned forge_icv = 0, replay = 0, unknown_spi = 0;  // per mille
  bool send_only = false;

  // report
  std::string json;
  std::string write_lab;  // a folder: write the gate's side and end

  /// The largest inner packet.
  [[nodiscard]] uint16_t MaxSize() const;
  /// Its frame without FCS, in the direction in which it is larger.
  [[nodiscard]] uint32_t MaxFrame() const;
};

/// Ends the program after --help or with a message about what is wrong.
Options ParseOptions(int argc, char** argv);

/// "64", "64x7,576x4,1400x1" or "imix".
Result<std::vector<uint16_t>> ParseSizes(const std::string& text);
std::string Ipv4Text(uint32_t address);

[[noreturn]] void Die(const std::string& why);

}  // namespace portcullis::generator
