// As in dataplane/steer/client.cpp, a reader and a writer coroutine share the connection with the
// calls under way, each of which waits on a timer that the reader cancels when its answer is there.
#include "control/guard/control_link.hpp"

#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <cerrno>
#include <cstring>
#include <deque>
#include <map>
#include <optional>
#include <utility>

#include "base/secret.hpp"
#include "control/coroutines.hpp"
#include "dataplane/steer/frame.hpp"
#include "dataplane/steer/write_frames.hpp"

namespace portcullis::guard {

namespace asio = boost::asio;

namespace {

constexpr uint32_t kProtocol = 1;
constexpr size_t kMostMessageBytes = 64U << 10U;  // admission.proto
constexpr size_t kReadBytes = 16U << 10U;
constexpr size_t kMostUnsent = 1024;  // frames, before Tell() gives up
constexpr std::chrono::milliseconds kFirstPause{100};
constexpr std::chrono::milliseconds kLongestPause{2000};

void WipeKeys(admission::Request& request) {
  if (!request.has_install()) return;
  Wipe(*request.mutable_install()->mutable_inbound_key());
  Wipe(*request.mutable_install()->mutable_outbound_key());
}

Result<void> CheckListener(int socket, uid_t user, const std::string& path) {
  ucred listener{};
  socklen_t size = sizeof(listener);
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &listener, &size) != 0) {
    return Fail(ErrorKind::kUnavailable,
                fmt::format("cannot tell who listens on {}: {}", path, std::strerror(errno)));
  }
  if (listener.uid == user || listener.uid == 0) return {};
  return tl::unexpected(Error{ErrorKind::kForbidden, "somebody else than control listens", path,
                              fmt::format("a process of user {}", user),
                              fmt::format("one of user {}", listener.uid)});
}

}  // namespace

struct ControlLink::Connection : std::enable_shared_from_this<Connection> {
  struct Waiting {
    asio::steady_timer timer;
    std::optional<Result<admission::Response>> answer;
  };

  explicit Connection(const asio::any_io_executor& executor) : socket(executor), ended(executor) {
    ended.expires_at(asio::steady_timer::time_point::max());
  }

  asio::local::stream_protocol::socket socket;
  asio::steady_timer ended;  // cancelled when the connection breaks
  std::string why;           // it broke
  uint64_t last_id = 0;
  std::map<uint64_t, std::shared_ptr<Waiting>> waiting;
  std::deque<steer::FrameBytes> out;
  bool writing = false;

  // Idempotent; the first reason is the one that everybody hears.
  void Break(const std::string& reason) {
    if (!socket.is_open()) return;
    why = "the connection to control broke: " + reason;
    boost::system::error_code ignored;
    socket.close(ignored);
    for (auto& [id, call] : std::exchange(waiting, {})) {
      call->answer = Fail(ErrorKind::kUnavailable, why);
      call->timer.cancel();
    }
    ended.cancel();
  }

  asio::awaitable<void> Read() {
    const auto self = shared_from_this();
    steer::FrameReader reader;
    while (socket.is_open()) {
      const auto room = reader.Room(kReadBytes);
      const auto [error, got] =
          co_await socket.async_read_some(asio::buffer(room.data(), room.size()), kAwait);
      if (error) {
        Break(error == asio::error::eof ? "it hung up" : error.message());
        co_return;
      }
      reader.Filled(got);
      Dispatch(reader);
    }
  }

  void Dispatch(steer::FrameReader& reader) {
    while (socket.is_open()) {
      admission::Response response;
      const Result<bool> next = reader.Next(response);
      if (!next) return Break(next.error().Text());
      if (!*next) return;
      const auto call = waiting.find(response.id());
      if (call == waiting.end()) continue;  // nobody waits, or no longer
      call->second->answer = std::move(response);
      call->second->timer.cancel();
      waiting.erase(call);
    }
  }

  Result<void> Send(admission::Request request) {
    Result<steer::FrameBytes> frame = steer::ToFrame(request);
    WipeKeys(request);
    if (!frame) return tl::unexpected(frame.error());
    if (frame->size() > steer::kLengthBytes + kMostMessageBytes) {
      return tl::unexpected(Error{ErrorKind::kExhausted, "the message to control is too large", "",
                                  fmt::format("at most {} bytes", kMostMessageBytes),
                                  fmt::format("{} bytes", frame->size())});
    }
    out.push_back(std::move(*frame));
    if (!std::exchange(writing, true)) {
      asio::co_spawn(socket.get_executor(), Write(), asio::detached);
    }
    return {};
  }

  asio::awaitable<void> Write() {
    const auto self = shared_from_this();
    const auto error = co_await steer::WriteFrames(socket, out);
    if (error) Break(error.message());
    writing = false;
  }

  asio::awaitable<Result<admission::Response>> Call(admission::Request request,
                                                    std::chrono::milliseconds timeout) {
    const auto self = shared_from_this();
    const uint64_t id = ++last_id;
    request.set_id(id);
    if (const auto sent = Send(std::move(request)); !sent) co_return tl::unexpected(sent.error());
    const auto call =
        std::make_shared<Waiting>(Waiting{asio::steady_timer(socket.get_executor(), timeout), {}});
    waiting.emplace(id, call);
    co_await call->timer.async_wait(kAwait);
    if (call->answer) co_return std::move(*call->answer);
    waiting.erase(id);
    co_return Fail(ErrorKind::kUnavailable,
                   fmt::format("no answer from control in {} ms", timeout.count()));
  }
};

ControlLink::ControlLink(asio::any_io_executor executor, std::string socket, uid_t user)
    : executor_(std::move(executor)), socket_(std::move(socket)), user_(user), pause_(executor_) {}

asio::awaitable<void> ControlLink::Run() {
  auto pause = kFirstPause;
  std::string told;
  while (!stopping_) {
    const auto connected = co_await Connect();
    if (connected) {
      ready_ = true;
      ++connections_;
      error_.clear();
      told.clear();
      pause = kFirstPause;
      spdlog::info("connected to control at {}", socket_);
      co_await connection_->ended.async_wait(kAwait);
      ready_ = false;
      error_ = connection_->why;
    } else {
      error_ = connected.error().Text();
      if (connection_) connection_->Break(error_);
    }
    if (stopping_) co_return;
    if (error_ != told) spdlog::warn("{}", error_);  // once per reason, not once per attempt
    told = error_;
    pause_.expires_after(pause);
    co_await pause_.async_wait(kAwait);
    pause = std::min(pause * 2, kLongestPause);
  }
}

asio::awaitable<Result<void>> ControlLink::Connect() {
  connection_ = std::make_shared<Connection>(executor_);
  const auto connection = connection_;
  // connect() of a UNIX socket waits only while the listener's backlog is full; Stop() ends that.
  const auto [error] = co_await connection->socket.async_connect(
      asio::local::stream_protocol::endpoint(socket_), kAwait);
  if (error) {
    co_return Fail(ErrorKind::kUnavailable,
                   fmt::format("cannot reach control at {}: {}", socket_, error.message()));
  }
  if (auto known = CheckListener(connection->socket.native_handle(), user_, socket_); !known) {
    co_return known;
  }
  asio::co_spawn(executor_, connection->Read(), asio::detached);
  admission::Request greeting;
  greeting.mutable_hello()->set_protocol(kProtocol);
  const auto greeted = co_await connection->Call(std::move(greeting), kDefaultTimeout);
  if (!greeted) co_return tl::unexpected(greeted.error());
  if (greeted->hello().protocol() != kProtocol) {
    co_return Invalid(socket_, "control speaks another protocol", std::to_string(kProtocol),
                      std::to_string(greeted->hello().protocol()));
  }
  co_return Result<void>{};
}

void ControlLink::Stop() {
  stopping_ = true;
  ready_ = false;
  error_ = "the guard is ending";
  if (connection_) connection_->Break(error_);
  pause_.cancel();
}

asio::awaitable<Result<admission::Response>> ControlLink::Call(admission::Request request,
                                                               std::chrono::milliseconds timeout) {
  // What breaks the connection is noticed by Run() a turn later.
  if (!ready_ || !connection_->socket.is_open()) {
    WipeKeys(request);
    co_return Fail(ErrorKind::kUnavailable, "control is away: " + error_);
  }
  co_return co_await connection_->Call(std::move(request), timeout);
}

bool ControlLink::Tell(admission::Request request) {
  if (!ready_ || !connection_->socket.is_open() || connection_->out.size() >= kMostUnsent) {
    return false;
  }
  return connection_->Send(std::move(request)).has_value();
}

}  // namespace portcullis::guard
