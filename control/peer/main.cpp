// portcullis-peer: the other end of portcullis-guard. Proves who it is, checks the gate as
// strictly, and keeps the keys of its sessions fresh in the dataplane of this host.
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <functional>

#include "control/hardening.hpp"
#include "control/peer/peer.hpp"
#include "control/peer/xfrm_path.hpp"

namespace portcullis::peer {
namespace {

namespace asio = boost::asio;

constexpr std::chrono::seconds kTimeToEnd{20};

Result<void> Run(const std::string& config_path) {
  auto config = LoadPeerConfig(config_path);
  if (!config) return tl::unexpected(config.error());

  asio::io_context io(1);
  auto peer = Peer::Create(io, *std::move(config));
  if (!peer) return tl::unexpected(peer.error());

  asio::signal_set end(io, SIGTERM, SIGINT);
  end.async_wait([&](boost::system::error_code, int signal) {
    spdlog::info("signal {}: ending", signal);
    io.stop();
  });
  asio::signal_set again(io, SIGHUP);
  std::function<void(boost::system::error_code, int)> refresh = [&](boost::system::error_code error,
                                                                    int) {
    if (error) return;
    spdlog::info("revocation lists are fetched again");
    (*peer)->RefreshLists();
    again.async_wait(refresh);
  };
  again.async_wait(refresh);
  (*peer)->Start();
  io.run();

  // What still runs refers to the objects above, so it ends before they do.
  (*peer)->Stop();
  again.cancel();
  io.restart();
  io.run_for(kTimeToEnd);
  if (!io.stopped()) {
    spdlog::warn("the gate was not told in {} s; its sessions end by themselves",
                 kTimeToEnd.count());
    std::_Exit(EXIT_FAILURE);
  }
  return {};
}

}  // namespace
}  // namespace portcullis::peer

// NOLINTNEXTLINE(bugprone-exception-escape): what start-up cannot cope with ends the program
int main(int argc, char** argv) {
  using namespace portcullis;
  CLI::App app("Portcullis peer: opens sessions with a gate and keeps them");
  std::string config;
  app.add_option("--config", config, "Configuration (YAML)");
  bool clear = false;
  app.add_flag(
      "--clear-kernel", clear,
      "Remove what this agent keeps in the kernel's IPsec, and end. What was protected may "
      "then pass in clear");
  CLI11_PARSE(app, argc, argv);
  spdlog::set_default_logger(spdlog::stderr_logger_mt("peer"));
  if (clear) {
    const auto cleared = peer::XfrmPath::Clear();
    if (!cleared) spdlog::error("{}", cleared.error().Text());
    return cleared ? EXIT_SUCCESS : EXIT_FAILURE;
  }
  if (config.empty()) {
    spdlog::error("--config: expected the path of peer.yaml; found nothing");
    return EXIT_FAILURE;
  }
  HardenProcess();
  std::signal(SIGPIPE, SIG_IGN);
  try {
    const auto outcome = peer::Run(config);
    if (outcome) return EXIT_SUCCESS;
    spdlog::error("{}", outcome.error().Text());
  } catch (const std::exception& e) {
    spdlog::error("ended by an unexpected error: {}", e.what());
  }
  return EXIT_FAILURE;
}
