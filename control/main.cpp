// portcullis-control: policy from operators over REST, into the store and the dataplane. One
// thread; what takes time waits as a coroutine.
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <optional>

#include "control/admission/notes.hpp"
#include "control/config.hpp"
#include "control/core/gate.hpp"
#include "control/coroutines.hpp"
#include "control/hardening.hpp"
#include "control/rest/approvals.hpp"
#include "control/rest/held_requests.hpp"
#include "control/rest/operators.hpp"
#include "control/rest/server.hpp"

namespace portcullis {
namespace {

namespace asio = boost::asio;

constexpr std::chrono::seconds kTimeToEnd{5};

// Until the timer is cancelled.
asio::awaitable<void> WatchTime(Gate& gate, AuditLog& audit, Alarms& alarms,
                                asio::steady_timer& each_second) {
  for (;;) {
    const auto now = audit::Stamp::Now();
    gate.CheckTime(std::chrono::floor<std::chrono::milliseconds>(now.wall), now.boot);
    rest::ExpireApprovals(gate, audit, now.wall);
    rest::ExpireHeldRequests(gate, audit, now.wall);
    alarms.Check(now.wall);
    each_second.expires_after(std::chrono::seconds(1));
    const auto [ended] = co_await each_second.async_wait(kAwait);
    if (ended) co_return;
  }
}

Result<void> Run(const std::string& config_path) {
  auto config = LoadControlConfig(config_path);
  if (!config) return tl::unexpected(config.error());

  auto store = Store::Open(config->store);
  if (!store) return tl::unexpected(store.error());

  auto audit = AuditLog::Open(config->audit);
  if (!audit) return tl::unexpected(audit.error());

  asio::io_context io(1);
  Events events;
  DataplaneLink link(io.get_executor(), config->steering, events);
  Gate gate(io.get_executor(), config->lab, std::move(*store), events, link);
  if (auto loaded = gate.Load(audit::BootId()); !loaded) return loaded;

  std::optional<Syslog> syslog;
  if (config->syslog) {
    syslog.emplace(io.get_executor(), *config->syslog);
    // Another thread may have written it.
    audit->Forward([&](const audit::Stamp& when, const std::string& line) {
      asio::post(io, [&, wall = when.wall, line] { syslog->Send(wall, line); });
    });
    asio::co_spawn(io, syslog->Run(), Rethrow);
  }
  asio::steady_timer each_second(io);
  Alarms alarms(events, config->alarms);
  asio::co_spawn(io, WatchTime(gate, *audit, alarms, each_second), Rethrow);

  admission::Journal journal(io.get_executor(), events, *audit);
  asio::co_spawn(io, journal.Run(), Rethrow);
  admission::GuardState guard_state(alarms);
  admission::Sessions sessions(io.get_executor(), gate);
  asio::co_spawn(io, sessions.Run(), Rethrow);
  sessions.OnNews([&](const admission::SessionNews& news) { admission::NoteNews(journal, news); });
  admission::Permits permits(io.get_executor(), gate, sessions);
  admission::Operations operations(io.get_executor(), gate, permits, *audit, journal);
  if (auto restored = operations.Restore(); !restored) return restored;
  asio::co_spawn(io, operations.Run(), Rethrow);
  std::optional<admission::Server> guard;
  if (config->guard) {
    auto listening = admission::Server::Listen(
        io.get_executor(), *config->guard,
        {gate, sessions, permits, operations, journal, guard_state, events});
    if (!listening) return tl::unexpected(listening.error());
    guard.emplace(std::move(*listening));
    asio::co_spawn(io, guard->Run(), Rethrow);
  }

  auto operators = rest::Operators::Create(
      io.get_executor(), std::move(config->operators),
      {[&](const model::Revocable& what) { return gate.denials().Has(what); },
       [&] { return gate.clock() == TimeVerdict::stepped_back; },
       [&](const std::string& text) { events.Tell("token_keys", text); }});
  if (!operators) return tl::unexpected(operators.error());
  (*operators)->Start();

  Drops drops(io.get_executor(), link);
  rest::Context context{gate,
                        *audit,
                        sessions,
                        **operators,
                        journal,
                        alarms,
                        drops,
                        guard ? &guard_state : nullptr,
                        syslog ? &*syslog : nullptr,
                        guard ? &operations : nullptr};
  auto server = rest::Server::Listen(io.get_executor(), config->rest, context);
  if (!server) return tl::unexpected(server.error());
  std::vector<Alarms::Ending> own;
  for (const auto& e : server->endings()) own.push_back({e.what, e.since, e.when});
  alarms.Set("control", std::move(own), std::chrono::system_clock::now());

  asio::signal_set signals(io, SIGTERM, SIGINT);
  signals.async_wait([&](boost::system::error_code, int signal) {
    spdlog::info("signal {}: ending", signal);
    io.stop();
  });
  asio::co_spawn(
      io, link.Run([&](const steer::HelloReply& hello) { return gate.Reconcile(hello); }), Rethrow);
  asio::co_spawn(io, server->Run(), Rethrow);
  events.Tell("started", fmt::format("policy generation {}{}", gate.generation(),
                                     gate.lab() ? "; laboratory: keys by hand are admitted" : ""));
  spdlog::info("listening on {} port {}", config->rest.address, server->port());
  io.run();

  // What still runs refers to the objects above, so it ends before they do.
  server->Stop();
  (*operators)->Stop();
  link.Stop();
  if (guard) guard->Stop();
  sessions.Stop();
  permits.Stop();
  operations.Stop();
  journal.Stop();
  each_second.cancel();
  if (syslog) syslog->Stop();
  io.restart();
  io.run_for(kTimeToEnd);
  journal.Stop();
  if (!io.stopped()) {
    spdlog::warn("some requests did not end in {} s and are cut off", kTimeToEnd.count());
    std::_Exit(EXIT_FAILURE);
  }
  io.restart();
  io.poll();  // what the remote log gets of the last records
  return {};
}

void PrintRoutes() {
  for (const auto& route : rest::Routes()) {
    std::printf("%s %s %s\n", route.method, route.path, rest::RoleText(route.role).data());
  }
}

}  // namespace
}  // namespace portcullis

// NOLINTNEXTLINE(bugprone-exception-escape): what start-up cannot cope with ends the program
int main(int argc, char** argv) {
  using namespace portcullis;
  CLI::App app("Portcullis control: policy in over REST, into the dataplane");
  std::string config;
  bool routes = false;
  app.add_option("--config", config, "Configuration (YAML)");
  app.add_flag("--routes", routes, "Print the route table and end")->group("");
  CLI11_PARSE(app, argc, argv);
  if (routes) {
    PrintRoutes();
    return EXIT_SUCCESS;
  }
  spdlog::set_default_logger(spdlog::stderr_logger_mt("control"));
  if (config.empty()) {
    spdlog::error("--config: expected the path of control.yaml; found nothing");
    return EXIT_FAILURE;
  }
  HardenProcess();
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);  // no room for the store is an error to report, not the end
  try {
    const auto outcome = Run(config);
    if (outcome) return EXIT_SUCCESS;
    spdlog::error("{}", outcome.error().Text());
  } catch (const std::exception& e) {
    spdlog::error("ended by an unexpected error: {}", e.what());
  }
  return EXIT_FAILURE;
}
