// Clients with a certificate, for bench/requests.py: does what each line of standard input says, a
// JSON object, and answers with one.
//
//   {"do": "keep-alive" | "paced" | "handshakes" | "idle" | "close", "port": 4450,
//    "request": "GET / HTTP/1.1\r\n...", "expected": 200, "connections": 16, "seconds": 3,
//    "per_second": 0}
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <iostream>

#include "bench/requests/load.hpp"

namespace {

using namespace portcullis::bench;
using nlohmann::json;

Load LoadOf(const json& wish) {
  Load load;
  load.port = wish.value("port", load.port);
  load.request = wish.value("request", load.request);
  load.expected = wish.value("expected", load.expected);
  load.connections = wish.value("connections", load.connections);
  load.seconds = wish.value("seconds", load.seconds);
  load.per_second = wish.value("per_second", load.per_second);
  return load;
}

json Do(SSL_CTX* context, Idlers& idlers, const json& wish) {
  const std::string what = wish.value("do", "");
  const Load load = LoadOf(wish);
  if (what == "keep-alive") return KeepAlive(context, load);
  if (what == "paced") return Paced(context, load);
  if (what == "handshakes") return Handshakes(context, load);
  if (what == "idle") return idlers.Open(context, load);
  if (what == "close") return idlers.Close();
  return {{"error", "no such thing to do: " + what}};
}

json Tried(SSL_CTX* context, Idlers& idlers, const std::string& line) {
  try {
    return Do(context, idlers, json::parse(line));
  } catch (const std::exception& e) {
    return {{"error", e.what()}};
  }
}

}  // namespace

// NOLINTNEXTLINE(bugprone-exception-escape): what it cannot cope with ends the program
int main(int argc, char** argv) {
  CLI::App app("Clients with a certificate, for bench/requests.py");
  std::string certificate;
  std::string key;
  app.add_option("certificate", certificate, "the clients', PEM")->required();
  app.add_option("key", key, "its key, PEM")->required();
  CLI11_PARSE(app, argc, argv);
  signal(SIGPIPE, SIG_IGN);
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  const auto context = NewClientContext(certificate, key);
  Idlers idlers;
  for (std::string line; std::getline(std::cin, line);) {
    std::cout << Tried(context.get(), idlers, line).dump() << std::endl;  // NOLINT: waited for
  }
}
