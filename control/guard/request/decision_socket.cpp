#include "control/guard/request/decision_socket.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/steady_timer.hpp>
#include <exception>
#include <utility>
#include <vector>

#include "base/unix_socket.hpp"
#include "control/coroutines.hpp"
#include "control/guard/session/crowd.hpp"

namespace portcullis::guard {

namespace asio = boost::asio;
using namespace std::chrono_literals;

struct DecisionSocketState {
  UnixListener listener;
  UnixGatewayStream::Protocol::acceptor acceptor;
  DecisionSocketSettings settings;
  GatewayHandler handler;
  Refusals& refusals;
  Crowd open;
};

namespace {

constexpr auto kPauseAfterFailure = 100ms;

asio::awaitable<void> ServeOne(std::shared_ptr<DecisionSocketState> state,
                               UnixGatewayStream::Protocol::socket socket, std::string gateway) {
  try {
    UnixGatewayStream stream(std::move(socket));
    // All are this host: there is one source.
    const Crowd::Place place(state->open, Prefix(), [&stream] { stream.Close(); });
    const asio::ip::tcp::endpoint nowhere;
    co_await state->handler(stream, std::move(gateway), nowhere);
  } catch (const std::exception& e) {  // one connection's end, not the process's
    spdlog::error("a gateway's connection ended: {}", e.what());
  }
}

}  // namespace

Result<DecisionSocket> DecisionSocket::Listen(const asio::any_io_executor& executor,
                                              DecisionSocketSettings settings,
                                              GatewayHandler handler, Refusals& refusals,
                                              const std::string& where) {
  std::vector<uid_t> users;
  for (const auto& [uid, name] : settings.users) users.push_back(uid);
  auto listener = UnixListener::Listen(settings.path, std::move(users), where);
  if (!listener) return tl::unexpected(listener.error());
  if (!listener->note().empty()) spdlog::warn("{}: {}", where, listener->note());
  UnixGatewayStream::Protocol::acceptor acceptor(executor);
  // The acceptor closes what it is given, and so does the listener.
  boost::system::error_code error;
  acceptor.assign(UnixGatewayStream::Protocol(), dup(listener->fd()), error);
  if (error) {
    return Fail(ErrorKind::kInternal,
                fmt::format("cannot wait for {}: {}", listener->path(), error.message()));
  }
  const size_t most = settings.limits.open;
  return DecisionSocket(std::make_shared<DecisionSocketState>(
      DecisionSocketState{*std::move(listener), std::move(acceptor), std::move(settings),
                          std::move(handler), refusals, Crowd(most, most)}));
}

asio::awaitable<void> DecisionSocket::Run() {
  const auto state = state_;
  for (;;) {
    auto [failed, socket] = co_await state->acceptor.async_accept(kAwait);
    if (!state->acceptor.is_open()) co_return;
    if (failed) {  // no file descriptors left, say: it may pass
      spdlog::warn("{}: cannot accept a connection: {}", state->settings.path, failed.message());
      asio::steady_timer pause(state->acceptor.get_executor(), kPauseAfterFailure);
      co_await pause.async_wait(kAwait);
      continue;
    }
    const auto peer = state->listener.PeerOf(socket.native_handle());
    const auto named = peer ? state->settings.users.find(peer->uid) : state->settings.users.end();
    if (named == state->settings.users.end()) {
      const std::string who = peer ? fmt::format("user {}", peer->uid) : "who the kernel knows not";
      state->refusals.Note({identity::Reason::peer_unknown,
                            fmt::format("{} may not ask on {}", who, state->settings.path)},
                           {});
      continue;
    }
    asio::co_spawn(state->acceptor.get_executor(),
                   ServeOne(state, std::move(socket), named->second), asio::detached);
  }
}

void DecisionSocket::Stop() {
  boost::system::error_code ignored;
  state_->acceptor.close(ignored);
  state_->open.CloseAll();
}

}  // namespace portcullis::guard
