// Peers by the thousand, for bench/sessions.py: makes them and their PKI, then does what each line
// of standard input says, a JSON object, and answers with one. Beside that it is the loop of
// OpenSSL's own handshakes (--serve).
//
//   {"do": "handshakes" | "sessions" | "verify", "gate": "192.0.2.1", "port": 4433, "count": 1000,
//    "first": 0, "at_once": 4, "seconds": 0, "renew": false, "initial_contact": false,
//    "tell_every": 0}
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <iostream>
#include <mutex>

#include "bench/sessions/load.hpp"

namespace {

using namespace portcullis::bench;
using nlohmann::json;

Load LoadOf(const json& wish) {
  Load load;
  load.gate = {wish.value("gate", ""), wish.value("port", uint16_t{0})};
  load.first = wish.value("first", load.first);
  load.count = wish.value("count", load.count);
  load.at_once = wish.value("at_once", load.at_once);
  load.seconds = wish.value("seconds", load.seconds);
  load.initial_contact = wish.value("initial_contact", load.initial_contact);
  load.renew = wish.value("renew", load.renew);
  load.tell_every = wish.value("tell_every", load.tell_every);
  return load;
}

void Say(const json& what) {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  std::cout << what.dump() << std::endl;  // NOLINT: each line is waited for
}

json Do(World& world, const json& wish) {
  const std::string what = wish.value("do", "");
  const Load load = LoadOf(wish);
  if (what == "handshakes") return Handshakes(world, load);
  if (what == "sessions") return Sessions(world, load, [](const json& keys) { Say(keys); });
  if (what == "verify") return VerifyTokens(world, load.count);
  return {{"error", "no such thing to do: " + what}};
}

}  // namespace

// NOLINTNEXTLINE(bugprone-exception-escape): what it cannot cope with ends the program
int main(int argc, char** argv) {
  CLI::App app("Peers by the thousand, for bench/sessions.py");
  std::string folder;
  size_t peers = 1;
  size_t revoked = 0;
  GateAddress serve{"0.0.0.0", 0};
  app.add_option("folder", folder, "where the guard finds keys and certificates")->required();
  app.add_option("--peers", peers, "how many there are")->check(CLI::PositiveNumber);
  app.add_option("--revoked", revoked, "entries of the CA's revocation list");
  app.add_option("--serve", serve.port, "serve OpenSSL's own handshakes at this port instead");
  CLI11_PARSE(app, argc, argv);
  if (serve.port != 0) ServeHandshakes(folder, serve);

  signal(SIGPIPE, SIG_IGN);
  World world(folder, peers, revoked);
  Say({{"ready", peers}});
  for (std::string line; std::getline(std::cin, line);) Say(Do(world, json::parse(line)));
}
