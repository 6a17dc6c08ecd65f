#include "control/guard/session/listener.hpp"

#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/error.hpp>
#include <cerrno>
#include <cstring>
#include <exception>
#include <new>
#include <utility>

#include "bpf/shared.h"
#include "control/coroutines.hpp"
#include "control/guard/session/crowd.hpp"

namespace portcullis::guard {

namespace asio = boost::asio;
namespace beast = boost::beast;
using identity::Reason;
using identity::Refusal;
using tcp = asio::ip::tcp;
using namespace std::chrono_literals;

namespace {

constexpr auto kFarewellTime = 2s;
constexpr size_t kFarewellBytes = 64U << 10U;
constexpr auto kPauseAfterFailedAccept = 100ms;

Prefix SourceOf(const tcp::endpoint& from, const ListenerLimits& limits) {
  const auto address = from.address();
  if (address.is_v4()) {
    constexpr unsigned kMapped = 96;
    return {Address::V4(address.to_v4().to_bytes().data()), kMapped + limits.source_v4};
  }
  const Address v6 = Address::V6(address.to_v6().to_bytes().data());
  // A socket for both families shows IPv4 clients as mapped ones, which all share one /64.
  constexpr unsigned kMapped = 96;
  return {v6, v6.IsV4() ? kMapped + limits.source_v4 : limits.source_v6};
}

// The connections that it accepts inherit it: neither do their packets leave elsewhere.
Result<void> BindToDevice(tcp::acceptor& acceptor, const std::string& device,
                          const std::string& where) {
  if (setsockopt(acceptor.native_handle(), SOL_SOCKET, SO_BINDTODEVICE, device.data(),
                 static_cast<socklen_t>(device.size())) == 0) {
    return {};
  }
  const beast::error_code error(errno, boost::system::system_category());
  return Invalid(where + "/device", "cannot listen at this interface: " + error.message(),
                 "one that is there, with what the dataplane decrypts", device);
}

}  // namespace

struct ListenerState {
  tcp::acceptor acceptor;
  ListenerLimits limits;
  bool decrypted;
  std::shared_ptr<const TlsServer> tls;
  ConnectionHandler handler;
  identity::RefusalCounters& counters;
  RefusalObserver observer;
  Crowd half_open;
  Crowd open;
  ListenerCounters counted{};
};

namespace {

// One connection.
class Service {
 public:
  Service(ListenerState& listener, tcp::socket socket, tcp::endpoint from, SslHandle tls)
      : listener_(listener),
        from_(std::move(from)),
        stream_(web::TcpStream(std::move(socket)), tls.release()),
        connection_{{{}, from_, listener.decrypted}, stream_} {}

  asio::awaitable<void> Run() {
    if (!co_await Authenticate()) co_return;
    const Crowd::Place place(listener_.open, SourceOf(from_, listener_.limits), Closer());
    Allow(listener_.limits.request_time, listener_.limits.request_bytes);
    co_await listener_.handler(connection_);
    if (place.evicted()) co_return;
    Allow(kFarewellTime, kFarewellBytes);
    co_await web::Shutdown(stream_);
  }

 private:
  // False: refused, and counted.
  asio::awaitable<bool> Authenticate() {
    const Crowd::Place place(listener_.half_open, SourceOf(from_, listener_.limits), Closer());
    Allow(listener_.limits.handshake_time, listener_.limits.handshake_bytes);
    const auto failed = co_await web::Handshake(stream_, asio::ssl::stream_base::server);
    tl::expected<Authenticated, Refusal> who =
        failed ? tl::unexpected(Why(failed, place)) : Judge(stream_.native_handle());
    if (who) {
      connection_.who = std::move(*who);
      ++listener_.counted.authenticated;
      TellFirstLine();
      co_return true;
    }
    listener_.counters.Count(who.error().reason);
    if (listener_.observer) listener_.observer(who.error(), from_);
    if (!place.evicted()) co_await Farewell();
    co_return false;
  }

  Refusal Why(const beast::error_code& failed, const Crowd::Place& place) {
    if (place.evicted()) {
      return {Reason::handshake_timeout, "too many are open; the oldest of its source made way"};
    }
    if (failed == beast::error::timeout) {
      return {Reason::handshake_timeout, fmt::format("no handshake within {} ms and {} bytes",
                                                     listener_.limits.handshake_time.count(),
                                                     listener_.limits.handshake_bytes)};
    }
    const bool from_openssl = failed.category() == asio::error::get_ssl_category();
    return WhyFailed(stream_.native_handle(),
                     from_openssl ? static_cast<unsigned>(failed.value()) : 0);
  }

  // Its packets are not those of anybody who sends to this port (bpf/connections.h).
  void TellFirstLine() {
    const int priority = PORTCULLIS_AUTHENTICATED_PRIORITY;
    const int socket = stream_.next_layer().socket().native_handle();
    if (setsockopt(socket, SOL_SOCKET, SO_PRIORITY, &priority, sizeof priority) != 0) {
      spdlog::warn("a connection stays a newcomer to the first line: {}", std::strerror(errno));
    }
  }

  // The client sees the alert, and then the end.
  asio::awaitable<void> Farewell() {
    beast::error_code ignored;
    stream_.next_layer().socket().shutdown(tcp::socket::shutdown_send, ignored);
    Allow(kFarewellTime, kFarewellBytes);
    co_await web::Drain(stream_.next_layer());
  }

  void Allow(std::chrono::milliseconds time, size_t bytes) {
    stream_.next_layer().expires_after(time);
    stream_.next_layer().may_read(bytes);
  }

  std::function<void()> Closer() {
    return [this] { stream_.next_layer().close(); };
  }

  ListenerState& listener_;
  tcp::endpoint from_;
  web::TlsStream stream_;
  Connection connection_;
};

asio::awaitable<void> Serve(std::shared_ptr<ListenerState> listener, tcp::socket socket,
                            tcp::endpoint from) {
  try {
    auto tls = listener->tls->NewConnection();
    if (!tls) throw std::bad_alloc();
    Service service(*listener, std::move(socket), std::move(from), std::move(tls));
    co_await service.Run();
  } catch (const std::exception& e) {  // one connection's end, not the process's
    spdlog::error("a connection ended: {}", e.what());
  }
}

}  // namespace

Result<Listener> Listener::Listen(const asio::any_io_executor& executor,
                                  const ListenerSettings& settings,
                                  std::shared_ptr<const TlsServer> tls, ConnectionHandler handler,
                                  identity::RefusalCounters& counters, RefusalObserver observer,
                                  const std::string& where) {
  beast::error_code error;
  const auto address = asio::ip::make_address(settings.address, error);
  if (error) {
    return Invalid(where + "/address", "not an IP address", "such as 192.0.2.1", settings.address);
  }
  const tcp::endpoint endpoint(address, settings.port);
  tcp::acceptor acceptor(executor);
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error && !settings.device.empty()) {
    if (auto bound = BindToDevice(acceptor, settings.device, where); !bound) {
      return tl::unexpected(bound.error());
    }
  }
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) {
    return Invalid(where, "cannot listen: " + error.message(), "a free address and port",
                   fmt::format("{} port {}", settings.address, settings.port));
  }
  const ListenerLimits& limits = settings.limits;
  return Listener(std::make_shared<ListenerState>(ListenerState{
      std::move(acceptor), limits, !settings.device.empty(), std::move(tls), std::move(handler),
      counters, std::move(observer), Crowd(limits.half_open, limits.half_open_per_source),
      Crowd(limits.open, limits.open_per_source)}));
}

asio::awaitable<void> Listener::Run() {
  const auto state = state_;
  for (;;) {
    tcp::endpoint from;
    auto [failed, socket] = co_await state->acceptor.async_accept(from, kAwait);
    if (!state->acceptor.is_open()) co_return;
    if (failed) {  // no file descriptors left, say: it may pass
      spdlog::warn("cannot accept a connection: {}", failed.message());
      asio::steady_timer pause(state->acceptor.get_executor(), kPauseAfterFailedAccept);
      co_await pause.async_wait(kAwait);
      continue;
    }
    ++state->counted.accepted;
    asio::co_spawn(state->acceptor.get_executor(), Serve(state, std::move(socket), from),
                   asio::detached);
  }
}

void Listener::Stop() {
  beast::error_code ignored;
  state_->acceptor.close(ignored);
  state_->half_open.CloseAll();
  state_->open.CloseAll();
}

Result<void> Listener::Replace(std::shared_ptr<const TlsServer> tls) {
  if (tls->mode() != state_->tls->mode()) {
    return Fail(
        ErrorKind::kConflict,
        "certificates and pre-shared keys have listeners apart; one cannot become the other");
  }
  state_->tls = std::move(tls);
  return {};
}

uint16_t Listener::port() const {
  return state_->acceptor.local_endpoint().port();
}

size_t Listener::half_open() const {
  return state_->half_open.size();
}

size_t Listener::open() const {
  return state_->open.size();
}

ListenerCounters Listener::counted() const {
  return state_->counted;
}

const TlsServer& Listener::tls() const {
  return *state_->tls;
}

}  // namespace portcullis::guard
