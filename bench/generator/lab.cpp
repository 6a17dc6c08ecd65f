#include "bench/generator/lab.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

namespace portcullis::generator {
namespace {

using Json = nlohmann::ordered_json;

std::string Hex(std::span<const uint8_t> bytes) {
  std::string text;
  for (const uint8_t byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}

// Readable by its owner alone: it holds keys, even if only a laboratory's.
void WriteFile(const std::string& path, const std::string& text) {
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  const bool ok =
      file >= 0 && write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  if (!ok || close(file) != 0) Die(fmt::format("cannot write {}: {}", path, std::strerror(errno)));
}

std::string Host(uint32_t address) {
  return Ipv4Text(address) + "/32";
}

Json Ports(const Options& o) {
  return {{"first", o.service_port}, {"last", o.service_port + o.flows - 1}};
}

Json Policy(const Options& o) {
  Json ports = Ports(o);
  ports["protocol"] = "udp";
  Json policy = {
      {"interfaces",
       {{{"name", "generator-server"},
         {"type", "other"},
         {"side", "local"},
         {"prefixes", {Host(o.server)}},
         {"ports", {ports}},
         {"zone", "internal"},
         {"protection", "esp"}}}},
      {"peers", Json::array()},
      {"policies",
       {{{"name", "generator"}, {"role", "generator"}, {"interface", "generator-server"}}}}};
  for (uint32_t sa = 0; sa < o.sas; ++sa) {
    const std::string name = fmt::format("generator-{}", sa);
    policy["peers"].push_back({{"name", name},
                               {"identity", name + ".example"},
                               {"role", "generator"},
                               {"endpoint", Ipv4Text(o.wire)},
                               {"prefixes", {Host(o.clients + sa)}}});
  }
  return policy;
}

Json Sas(const Options& o) {
  Json tunnel = {{"local", Ipv4Text(o.gate_wire)}, {"remote", Ipv4Text(o.wire)}};
  if (o.udp_encap) tunnel["udp_encap"] = true;
  Json sas = Json::array();
  for (uint32_t sa = 0; sa < o.sas; ++sa) {
    const Json selector = {{"local", Host(o.server)},
                           {"remote", Host(o.clients + sa)},
                           {"protocol", "udp"},
                           {"local_ports", Ports(o)}};
    for (const Direction direction : {Direction::inbound, Direction::outbound}) {
      const bool in = direction == Direction::inbound;
      sas.push_back({{"id", fmt::format("generator-{}-{}", sa, in ? "in" : "out")},
                     {"peer", fmt::format("generator-{}", sa)},
                     {"direction", in ? "inbound" : "outbound"},
                     {"spi", fmt::format("0x{:08x}", Value(SpiOf(sa, direction)))},
                     {"algorithm", Info(o.algorithm).name},
                     {"key", Hex(KeyOf(o, sa, direction))},
                     {"esn", o.esn},
                     {"selectors", {selector}},
                     {"tunnel", tunnel}});
    }
  }
  return sas;
}

std::string Configuration(const Options& o) {
  std::string text = fmt::format(
      "# portcullis-generator --config FILE; the other half of policy.json and sas.json\n"
      "seed=\"{}\"\nalgorithm=\"{}\"\nsas={}\nflows={}\nservice-port={}\ngate-wire=\"{}\"\n"
      "wire=\"{}\"\ngate-core=\"{}\"\nserver=\"{}\"\nclients=\"{}\"\nsequence-file=\"{}\"\n",
      o.seed, Info(o.algorithm).name, o.sas, o.flows, o.service_port, Ipv4Text(o.gate_wire),
      Ipv4Text(o.wire), Ipv4Text(o.gate_core), Ipv4Text(o.server), Ipv4Text(o.clients),
      std::filesystem::absolute(o.write_lab).string() + "/sequence");
  if (!o.esn) text += "no-esn=true\n";
  if (o.udp_encap) text += "udp-encap=true\n";
  return text;
}

}  // namespace

std::vector<uint8_t> KeyOf(const Options& o, uint32_t sa, Direction direction) {
  const size_t size = Info(o.algorithm).key_bytes;
  std::vector<uint8_t> key;
  for (unsigned block = 0; key.size() < size; ++block) {
    const std::string input = fmt::format("{} {} {} {} {}", o.seed, Info(o.algorithm).name,
                                          static_cast<unsigned>(direction), sa, block);
    std::array<uint8_t, SHA256_DIGEST_LENGTH> digest{};
    SHA256(reinterpret_cast<const uint8_t*>(input.data()), input.size(), digest.data());
    key.insert(key.end(), digest.begin(), digest.end());
  }
  key.resize(size);
  return key;
}

Keys::Keys(const Options& o, const Engine& engine) : schedules_(o.sas) {
  for (uint32_t sa = 0; sa < o.sas; ++sa) {
    const auto done = engine.Expand(o.algorithm, KeyOf(o, sa, o.direction), schedules_[sa]);
    if (!done) Die(done.error().Text());
  }
}

void WriteLab(Options o) {
  std::array<uint8_t, 32> seed{};
  if (RAND_bytes(seed.data(), seed.size()) != 1) Die("no random numbers");
  o.seed = Hex(seed);
  if (mkdir(o.write_lab.c_str(), 0700) != 0) {
    Die(fmt::format("cannot make the folder {}: {}", o.write_lab, std::strerror(errno)));
  }
  WriteFile(o.write_lab + "/policy.json", Policy(o).dump(1) + "\n");
  WriteFile(o.write_lab + "/sas.json", Sas(o).dump(1) + "\n");
  WriteFile(o.write_lab + "/generator.conf", Configuration(o));
}

}  // namespace portcullis::generator
