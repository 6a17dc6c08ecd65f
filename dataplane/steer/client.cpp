// A reader and a writer coroutine share the connection with the calls under way. A call waits on a
// timer of its own: the reader cancels it when the response is there.
#include "dataplane/steer/client.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <deque>
#include <map>
#include <optional>
#include <utility>

#include "dataplane/steer/frame.hpp"
#include "dataplane/steer/messages.hpp"
#include "dataplane/steer/write_frames.hpp"

namespace portcullis {
namespace {
namespace asio = boost::asio;
using Socket = asio::local::stream_protocol::socket;
constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr size_t kReadBytes = 64U << 10U;
}  // namespace

struct SteerClient::Connection : std::enable_shared_from_this<Connection> {
  struct Waiting {
    asio::steady_timer timer;
    std::optional<Result<steer::Response>> answer;
  };

  Socket socket;
  std::string path;
  EventHandler on_event;
  DropHandler on_drop;
  CloseHandler on_close;
  uint64_t last_id = 0;
  std::map<uint64_t, std::shared_ptr<Waiting>> waiting;
  std::deque<steer::FrameBytes> out;
  bool writing = false;

  Connection(const asio::any_io_executor& executor, std::string where, EventHandler event,
             CloseHandler close)
      : socket(executor),
        path(std::move(where)),
        on_event(std::move(event)),
        on_close(std::move(close)) {}

  // Idempotent; the first reason is the one that everybody hears.
  void Break(const Error& error) {
    if (!socket.is_open()) return;
    boost::system::error_code ignored;
    socket.close(ignored);
    for (auto& [id, call] : std::exchange(waiting, {})) {
      call->answer = tl::unexpected(error);
      boost::system::error_code never;
      call->timer.cancel(never);
    }
    if (on_close) std::exchange(on_close, nullptr)(error);
  }

  [[nodiscard]] Error Lost(const std::string& why) const {
    return {ErrorKind::kUnavailable,
            fmt::format("the connection to the dataplane at {} broke: {}", path, why),
            {},
            {},
            {}};
  }

  asio::awaitable<void> Read() {
    const auto self = shared_from_this();
    steer::FrameReader reader;
    while (socket.is_open()) {
      const auto room = reader.Room(kReadBytes);
      const auto [error, got] =
          co_await socket.async_read_some(asio::buffer(room.data(), room.size()), kAwait);
      if (error) {
        Break(Lost(error == asio::error::eof ? "it hung up" : error.message()));
        co_return;
      }
      reader.Filled(got);
      Dispatch(reader);
    }
  }

  void Dispatch(steer::FrameReader& reader) {
    while (socket.is_open()) {
      steer::ServerMessage message;
      const Result<bool> next = reader.Next(message);
      if (!next) return Break(Lost(next.error().Text()));
      if (!*next) return;
      if (message.has_event()) {
        if (on_event) on_event(message.event());
        continue;
      }
      if (message.has_drop()) {
        if (on_drop) on_drop(message.drop());
        continue;
      }
      steer::Response& response = *message.mutable_response();
      const auto call = waiting.find(response.id());
      if (call == waiting.end()) {  // it timed out
        steer::WipeKeys(response);
        continue;
      }
      if (response.has_failure()) {
        call->second->answer = tl::unexpected(steer::ToError(response.failure()));
      } else {
        call->second->answer = std::move(response);
      }
      call->second->timer.cancel();
      waiting.erase(call);
    }
  }

  asio::awaitable<void> Write() {
    const auto self = shared_from_this();
    writing = true;
    const auto error = co_await steer::WriteFrames(socket, out);
    if (error) Break(Lost(error.message()));
    writing = false;
  }
};

asio::awaitable<Result<SteerClient>> SteerClient::Connect(asio::any_io_executor executor,
                                                          std::string path, EventHandler on_event,
                                                          CloseHandler on_close,
                                                          std::chrono::milliseconds timeout) {
  constexpr size_t kMaxPath = 107;  // sun_path, unix(7)
  if (path.empty() || path.size() > kMaxPath) {
    co_return Invalid("steering", "the path of the steering socket cannot be used",
                      fmt::format("1 to {} characters", kMaxPath),
                      fmt::format("{} characters in '{}'", path.size(), path));
  }
  auto connection =
      std::make_shared<Connection>(executor, path, std::move(on_event), std::move(on_close));
  // connect() of a UNIX socket waits only when the listener's backlog is full.
  asio::steady_timer deadline(executor, timeout);
  deadline.async_wait([weak = std::weak_ptr(connection)](boost::system::error_code error) {
    if (const auto held = weak.lock(); !error && held) held->socket.cancel();
  });
  const auto [error] = co_await connection->socket.async_connect(
      asio::local::stream_protocol::endpoint(path), kAwait);
  deadline.cancel();
  if (error) {
    co_return Fail(ErrorKind::kUnavailable,
                   fmt::format("cannot reach the dataplane at {}: {}", path,
                               error == asio::error::operation_aborted
                                   ? fmt::format("no answer in {} ms", timeout.count())
                                   : error.message()));
  }
  asio::co_spawn(executor, connection->Read(), asio::detached);
  co_return SteerClient(std::move(connection));
}

asio::awaitable<Result<steer::Response>> SteerClient::Call(steer::Request request,
                                                           std::chrono::milliseconds timeout) {
  const auto connection = connection_;  // lives until the answer, whatever becomes of `this`
  if (!connection->socket.is_open()) {
    steer::WipeKeys(request);
    co_return Fail(ErrorKind::kUnavailable, "not connected to the dataplane");
  }
  const uint64_t id = ++connection->last_id;
  request.set_id(id);
  Result<steer::FrameBytes> frame = steer::ToFrame(request);
  steer::WipeKeys(request);
  if (!frame) co_return tl::unexpected(frame.error());
  const auto call = std::make_shared<Connection::Waiting>(
      Connection::Waiting{asio::steady_timer(connection->socket.get_executor(), timeout), {}});
  connection->waiting.emplace(id, call);
  connection->out.push_back(std::move(*frame));
  if (!connection->writing) {
    connection->writing = true;
    asio::co_spawn(connection->socket.get_executor(), connection->Write(), asio::detached);
  }
  co_await call->timer.async_wait(kAwait);
  if (call->answer) co_return std::move(*call->answer);
  connection->waiting.erase(id);
  co_return Fail(ErrorKind::kUnavailable,
                 fmt::format("no answer from the dataplane in {} ms", timeout.count()));
}

SteerClient::SteerClient(std::shared_ptr<Connection> connection)
    : connection_(std::move(connection)) {}
SteerClient::SteerClient(SteerClient&&) noexcept = default;
SteerClient& SteerClient::operator=(SteerClient&&) noexcept = default;
SteerClient::~SteerClient() {
  if (connection_) Close();
}

void SteerClient::OnDrop(DropHandler on_drop) {
  connection_->on_drop = std::move(on_drop);
}

bool SteerClient::connected() const {
  return connection_ && connection_->socket.is_open();
}

void SteerClient::Close() {
  connection_->on_close = nullptr;
  connection_->Break({ErrorKind::kUnavailable, "the connection was closed", {}, {}, {}});
}

}  // namespace portcullis
