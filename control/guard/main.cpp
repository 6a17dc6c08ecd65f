// portcullis-guard: lets peers in that prove who they are, and asks control what follows from it.
// SIGHUP reads the configuration and every file that it names again.
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <functional>

#include "control/guard/config.hpp"
#include "control/guard/guard.hpp"
#include "control/hardening.hpp"

namespace portcullis::guard {
namespace {

namespace asio = boost::asio;

constexpr std::chrono::seconds kTimeToEnd{5};

void Reload(Guard& guard, const std::string& config_path) {
  auto config = LoadGuardConfig(config_path);
  const auto reloaded =
      config ? guard.Reload(*std::move(config)) : Result<void>(tl::unexpected(config.error()));
  if (reloaded) {
    spdlog::info("the configuration was read again and is in force");
  } else {
    spdlog::error("nothing was changed: {}", reloaded.error().Text());
  }
}

Result<void> Run(const std::string& config_path) {
  auto config = LoadGuardConfig(config_path);
  if (!config) return tl::unexpected(config.error());

  asio::io_context io(1);
  auto guard = Guard::Create(io, *std::move(config));
  if (!guard) return tl::unexpected(guard.error());

  asio::signal_set end(io, SIGTERM, SIGINT);
  end.async_wait([&](boost::system::error_code, int signal) {
    spdlog::info("signal {}: ending", signal);
    io.stop();
  });
  asio::signal_set again(io, SIGHUP);
  std::function<void(boost::system::error_code, int)> reload = [&](boost::system::error_code error,
                                                                   int) {
    if (error) return;
    Reload(**guard, config_path);
    again.async_wait(reload);
  };
  again.async_wait(reload);

  (*guard)->Start();
  for (const uint16_t port : (*guard)->ports()) spdlog::info("listening on port {}", port);
  io.run();

  // What still runs refers to the objects above, so it ends before they do.
  (*guard)->Stop();
  again.cancel();
  io.restart();
  io.run_for(kTimeToEnd);
  if (!io.stopped()) {
    spdlog::warn("some requests did not end in {} s and are cut off", kTimeToEnd.count());
    std::_Exit(EXIT_FAILURE);
  }
  return {};
}

}  // namespace
}  // namespace portcullis::guard

// NOLINTNEXTLINE(bugprone-exception-escape): what start-up cannot cope with ends the program
int main(int argc, char** argv) {
  using namespace portcullis;
  CLI::App app("Portcullis guard: authenticates peers and opens their sessions");
  std::string config;
  app.add_option("--config", config, "Configuration (YAML)");
  CLI11_PARSE(app, argc, argv);
  spdlog::set_default_logger(spdlog::stderr_logger_mt("guard"));
  if (config.empty()) {
    spdlog::error("--config: expected the path of guard.yaml; found nothing");
    return EXIT_FAILURE;
  }
  HardenProcess();
  std::signal(SIGPIPE, SIG_IGN);
  try {
    const auto outcome = guard::Run(config);
    if (outcome) return EXIT_SUCCESS;
    spdlog::error("{}", outcome.error().Text());
  } catch (const std::exception& e) {
    spdlog::error("ended by an unexpected error: {}", e.what());
  }
  return EXIT_FAILURE;
}
