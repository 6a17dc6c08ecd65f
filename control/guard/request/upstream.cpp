#include "control/guard/request/upstream.hpp"

#include <sys/socket.h>

#include <cerrno>
#include <utility>

namespace portcullis::guard {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

namespace {

constexpr size_t kMostBuffered = 64U << 10U;  // a head is smaller; a body is taken as it comes

// A server that closes an idle connection does so unasked. Looking first spares most requests that
// may not be sent twice from meeting that.
bool IsOpen(const Upstream::Connection& connection) {
  if (SSL_has_pending(connection.stream->native_handle()) != 0) return false;
  char ahead = 0;
  const auto socket = connection.stream->next_layer().socket().native_handle();
  return recv(socket, &ahead, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

}  // namespace

Result<std::shared_ptr<Upstream>> Upstream::Create(asio::any_io_executor executor,
                                                   UpstreamSettings settings,
                                                   const std::string& where) {
  if (settings.tls.certificate.empty()) {
    return Invalid(where + ".certificate", "missing",
                   "the certificate that the gate shows to the server", "nothing");
  }
  auto tls = identity::MakeClientTls(settings.tls, where);
  if (!tls) return tl::unexpected(tls.error());
  return Create(std::move(executor), std::move(settings), *std::move(tls), where);
}

Result<std::shared_ptr<Upstream>> Upstream::Create(asio::any_io_executor executor,
                                                   UpstreamSettings settings,
                                                   std::shared_ptr<asio::ssl::context> tls,
                                                   const std::string& where) {
  auto address = identity::ParseWebAddress(settings.url, where + ".url");
  if (!address) return tl::unexpected(address.error());
  if (!address->tls || address->target != "/" || settings.url.ends_with('/')) {
    return Invalid(where + ".url", "not the beginning of a protected server's URLs",
                   "https://host:port, without a path", settings.url);
  }
  return std::shared_ptr<Upstream>(
      new Upstream(std::move(executor), std::move(settings), *std::move(address), std::move(tls)));
}

asio::awaitable<Result<Upstream::Connection>> Upstream::Take(bool fresh) {
  const auto too_old = Clock::now() - settings_.idle_time;
  std::erase_if(idle_, [&](const Connection& one) { return one.since < too_old; });
  while (!fresh && !idle_.empty()) {
    Connection connection = std::move(idle_.back());
    idle_.pop_back();
    if (IsOpen(connection)) co_return connection;
  }
  const identity::AddressCheck* refuses = settings_.refuses ? &settings_.refuses : nullptr;
  auto stream = co_await identity::Dial(executor_, address_, *tls_,
                                        Clock::now() + settings_.connect_time, refuses);
  if (!stream) co_return tl::unexpected(stream.error());
  if (settings_.recognise) {
    auto known = co_await settings_.recognise(**stream);
    if (!known) co_return tl::unexpected(known.error());
  }
  Connection connection;
  connection.stream = *std::move(stream);
  connection.buffer.max_size(kMostBuffered);
  connection.buffer.reserve(kMostBuffered / 4);
  co_return connection;
}

void Upstream::GiveBack(Connection connection) {
  // What the server says unasked is no answer to anybody.
  if (connection.buffer.size() != 0) return;
  if (idle_.size() >= settings_.most_idle) idle_.erase(idle_.begin());
  connection.stream->next_layer().expires_never();
  connection.used = true;
  connection.since = Clock::now();
  idle_.push_back(std::move(connection));
}

}  // namespace portcullis::guard
