#include "control/admission/server.hpp"

#include <spdlog/spdlog.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <deque>
#include <list>

#include "base/unix_socket.hpp"
#include "control/coroutines.hpp"
#include "dataplane/steer/frame.hpp"
#include "dataplane/steer/write_frames.hpp"

namespace portcullis::admission {

namespace asio = boost::asio;

namespace {
constexpr size_t kReadBytes = 64U << 10U;
// More than a guard has handshakes (guard/session/listener.hpp) and requests at once.
constexpr unsigned kMostUnderWay = 32'768;
}  // namespace

struct Server::State {
  using Protocol = asio::local::stream_protocol;

  // One guard. Its requests are worked on side by side: many peers come at once.
  struct Client {
    Client(Protocol::socket connected, uint64_t count)
        : socket(std::move(connected)), number(count) {}
    Protocol::socket socket;
    const uint64_t number;  // from 1
    unsigned under_way = 0;
    std::deque<steer::FrameBytes> out;
    bool writing = false;
  };

  State(UnixListener bound, const asio::any_io_executor& on, Context with)
      : listener(std::move(bound)), acceptor(on), context(with) {}

  UnixListener listener;
  Protocol::acceptor acceptor;
  Context context;
  std::list<std::weak_ptr<Client>> clients;
  uint64_t connected = 0;  // since this began
};

namespace {

template <class Client>
asio::awaitable<void> Write(std::shared_ptr<Client> client) {
  client->writing = true;
  const auto error = co_await steer::WriteFrames(client->socket, client->out);
  if (error) client->socket.close();
  client->writing = false;
}

template <class State, class Client>
asio::awaitable<void> Work(std::shared_ptr<State> state, std::shared_ptr<Client> client,
                           Request request) {
  const Response response = co_await Answer(state->context, request, client->number);
  --client->under_way;
  if (request.id() == 0) co_return;
  auto frame = steer::ToFrame(response);
  if (!frame) co_return;
  client->out.push_back(std::move(*frame));
  if (!client->writing) co_await Write(client);
}

template <class State, class Client>
asio::awaitable<void> Read(std::shared_ptr<State> state, std::shared_ptr<Client> client) {
  steer::FrameReader reader;
  while (client->socket.is_open()) {
    const auto room = reader.Room(kReadBytes);
    const auto [error, got] =
        co_await client->socket.async_read_some(asio::buffer(room.data(), room.size()), kAwait);
    if (error) break;
    reader.Filled(got);
    for (;;) {
      Request request;
      const Result<bool> next = reader.Next(request);
      if (!next || client->under_way >= kMostUnderWay) {
        spdlog::warn("admission: hung up on the guard: {}",
                     next ? "too many requests at once" : next.error().Text());
        client->socket.close();
        break;
      }
      if (!*next) break;
      ++client->under_way;
      asio::co_spawn(client->socket.get_executor(), Work(state, client, std::move(request)),
                     asio::detached);
    }
  }
  state->context.guard.Gone();
  state->context.operations.GuardGone(client->number);
  state->context.events.Tell("guard_gone",
                             "the guard hung up: nobody can open a session until it is back");
}

}  // namespace

Result<Server> Server::Listen(const asio::any_io_executor& executor, ServerSettings settings,
                              Context context) {
  auto listener =
      UnixListener::Listen(std::move(settings.path), std::move(settings.users), "guard.socket");
  if (!listener) return tl::unexpected(listener.error());
  if (!listener->note().empty()) spdlog::warn("admission: {}", listener->note());
  auto state = std::make_shared<State>(std::move(*listener), executor, context);
  // The acceptor closes what it is given, and so does the listener.
  const int fd = dup(state->listener.fd());
  boost::system::error_code error;
  state->acceptor.assign(State::Protocol(), fd, error);
  if (error) {
    return Fail(ErrorKind::kInternal,
                fmt::format("cannot wait for {}: {}", state->listener.path(), error.message()));
  }
  return Server(std::move(state));
}

asio::awaitable<void> Server::Run() {
  const auto state = state_;
  while (state->acceptor.is_open()) {
    auto [error, socket] = co_await state->acceptor.async_accept(kAwait);
    if (error) continue;
    const auto peer = state->listener.PeerOf(socket.native_handle());
    if (!peer || !peer->admitted) {
      if (peer) spdlog::warn("admission: refused process {} of user {}", peer->pid, peer->uid);
      continue;
    }
    auto client = std::make_shared<State::Client>(std::move(socket), ++state->connected);
    state->clients.remove_if([](const auto& gone) { return gone.expired(); });
    state->clients.push_back(client);
    state->context.guard.Connected();
    state->context.events.Tell("guard_connected",
                               fmt::format("the guard is process {}", peer->pid));
    asio::co_spawn(state->acceptor.get_executor(), Read(state, std::move(client)), asio::detached);
  }
}

void Server::Stop() {
  boost::system::error_code ignored;
  state_->acceptor.close(ignored);
  for (const auto& weak : state_->clients) {
    if (const auto client = weak.lock()) client->socket.close(ignored);
  }
}

}  // namespace portcullis::admission
