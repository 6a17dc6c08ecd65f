#include "control/http/connection.hpp"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509_vfy.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/connect.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/beast/core/error.hpp>
#include <cerrno>
#include <new>
#include <utility>

#include "control/coroutines.hpp"

namespace portcullis::web {

namespace asio = boost::asio;
using asio::ip::tcp;
using WaitType = asio::socket_base::wait_type;

struct TcpStream::State : std::enable_shared_from_this<State> {
  // Who waits for the socket, to read from it or to write to it.
  struct Waiting {
    bool waits = false;
    bool expired = false;
    Clock::time_point until;
  };

  explicit State(Socket own) : socket(std::move(own)), timer(socket.get_executor()) {}

  // One timer for all operations: most end long before their deadlines, and deadlines are mostly
  // later than those before them, so that it is hardly ever set.
  void Arm(Clock::time_point until) {
    if (until >= armed) return;
    armed = until;
    timer.expires_at(until);
    timer.async_wait([self = weak_from_this()](const ErrorCode& cancelled) {
      const auto state = self.lock();
      if (!cancelled && state) state->Expire();
    });
  }

  void Disarm() {
    if (armed == Clock::time_point::max()) return;
    armed = Clock::time_point::max();
    timer.cancel();
  }

  void Expire() {
    armed = Clock::time_point::max();
    const auto now = Clock::now();
    for (Waiting* one : {&reading, &writing}) {
      if (!one->waits) continue;
      one->expired = one->until <= now;
      if (one->expired) Close();
      Arm(one->until);
    }
  }

  void Close() {
    ErrorCode ignored;
    socket.close(ignored);
  }

  // Closes what is too late.
  bool TooLate() {
    if (deadline == Clock::time_point::max() || Clock::now() < deadline) return false;
    Close();
    return true;
  }

  ssize_t Receive(void* room, size_t size) {
    size = std::min(size, left);
    const ssize_t got = size == 0 ? -1 : recv(socket.native_handle(), room, size, MSG_DONTWAIT);
    if (size == 0) errno = EAGAIN;
    if (got > 0 && left != kAnyNumber) left -= static_cast<size_t>(got);
    ended = ended || got == 0;
    drained = got < static_cast<ssize_t>(size);
    return got;
  }

  ssize_t Send(const void* bytes, size_t size) {
    return send(socket.native_handle(), bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
  }

  Socket socket;
  asio::steady_timer timer;
  Clock::time_point armed = Clock::time_point::max();  // when `timer` rings
  Clock::time_point deadline = Clock::time_point::max();
  Waiting reading;
  Waiting writing;
  size_t left = kAnyNumber;  // may be read
  bool drained = false;      // when last read from, the socket had no more
  bool ended = false;        // the other end sends no more
  ErrorCode failure;         // of the socket, under TLS
};

namespace {

bool IsLater(int error) {
  return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

ErrorCode LastError() {
  return {errno, boost::system::system_category()};
}

// Until the socket is ready, or the deadline.
Awaitable<ErrorCode> Ready(TcpStream::State& state, WaitType what) {
  auto& waiting = what == asio::socket_base::wait_write ? state.writing : state.reading;
  waiting = {true, false, state.deadline};
  state.Arm(state.deadline);
  const auto [error] = co_await state.socket.async_wait(what, kAwait);
  waiting.waits = false;
  if (waiting.expired) co_return boost::beast::error::timeout;
  co_return error;
}

// Until there is something to read: nothing that may be, once all is read that may be. Then only
// the deadline is waited for, or an error of the connection.
Awaitable<ErrorCode> Readable(TcpStream::State& state) {
  if (state.left != 0) co_return co_await Ready(state, asio::socket_base::wait_read);
  const auto error = co_await Ready(state, asio::socket_base::wait_error);
  if (error) co_return error;
  co_return asio::error::connection_reset;
}

// OpenSSL's view of a socket (BIO_meth_new(3)).
TcpStream::State& StateOf(BIO* bio) {
  return *static_cast<TcpStream::State*>(BIO_get_data(bio));
}

int BioResult(BIO* bio, ssize_t result, int retry) {
  BIO_clear_retry_flags(bio);
  if (result >= 0) return static_cast<int>(result);
  if (IsLater(errno)) {
    BIO_set_flags(bio, retry | BIO_FLAGS_SHOULD_RETRY);
  } else {
    StateOf(bio).failure = LastError();
  }
  return -1;
}

int BioRead(BIO* bio, char* room, int size) {
  auto& state = StateOf(bio);
  ssize_t got = state.Receive(room, static_cast<size_t>(size));
  // OpenSSL would end the connection in both directions; but the other end may still read.
  if (got == 0) {
    got = -1;
    errno = EAGAIN;
  }
  return BioResult(bio, got, BIO_FLAGS_READ);
}

int BioWrite(BIO* bio, const char* bytes, int size) {
  return BioResult(bio, StateOf(bio).Send(bytes, static_cast<size_t>(size)), BIO_FLAGS_WRITE);
}

long BioControl(BIO* /*bio*/, int what, long /*number*/, void* /*pointer*/) {  // NOLINT
  return what == BIO_CTRL_FLUSH ? 1 : 0;
}

const BIO_METHOD* Method() {
  static const BIO_METHOD* const kMethod = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "stream");
    if (made == nullptr) throw std::bad_alloc();
    BIO_meth_set_read(made, BioRead);
    BIO_meth_set_write(made, BioWrite);
    BIO_meth_set_ctrl(made, BioControl);
    return made;
  }();
  return kMethod;
}

// Why an operation did not succeed; nothing: it has to wait for `wanted`.
ErrorCode Failure(const TcpStream::State& state, int wanted) {
  switch (wanted) {
    case SSL_ERROR_WANT_READ:
      return state.ended ? ErrorCode(asio::ssl::error::stream_truncated) : ErrorCode();
    case SSL_ERROR_WANT_WRITE:
      return {};
    case SSL_ERROR_ZERO_RETURN:
      return asio::error::eof;
    case SSL_ERROR_SYSCALL:
      return state.failure ? state.failure : ErrorCode(asio::error::eof);
    default:
      if (const auto first = static_cast<int>(ERR_get_error()); first != 0) {
        return {first, asio::error::get_ssl_category()};
      }
      return asio::ssl::error::unexpected_result;
  }
}

// One of OpenSSL's operations, `operation(SSL*, bytes done)`, as often as it takes.
template <class Operation>
Awaitable<Got> Perform(TlsStream& stream, Operation operation) {
  auto& state = stream.next_layer().state();
  SSL* const ssl = stream.native_handle();
  for (;;) {
    if (state.TooLate()) co_return Got{boost::beast::error::timeout};
    Got got;
    ERR_clear_error();
    const int result = operation(ssl, got.bytes);
    if (result > 0) co_return got;
    const int wanted = SSL_get_error(ssl, result);
    got.error = Failure(state, wanted);
    if (!got.error && wanted == SSL_ERROR_WANT_WRITE) {
      got.error = co_await Ready(state, asio::socket_base::wait_write);
    } else if (!got.error) {
      got.error = co_await Readable(state);
    }
    if (got.error) co_return Got{got.error};
  }
}

template <class Stream>
Awaitable<void> ReadAway(Stream& stream) {
  constexpr size_t kRoom = 4096;
  std::array<char, kRoom> away{};
  Got got;
  while (!got.error) got = co_await ReadSome(stream, asio::buffer(away));
}

template <class Stream, class Once>
Awaitable<ErrorCode> WriteAll(Stream& stream, std::string_view bytes, Once once) {
  while (!bytes.empty()) {
    const Got got = co_await once(stream, bytes);
    if (got.error) co_return got.error;
    bytes.remove_prefix(got.bytes);
  }
  co_return ErrorCode();
}

Awaitable<Got> WriteSomePlain(TcpStream& stream, std::string_view bytes) {
  auto& state = stream.state();
  for (;;) {
    if (state.TooLate()) co_return Got{boost::beast::error::timeout};
    const ssize_t sent = state.Send(bytes.data(), bytes.size());
    if (sent >= 0) co_return Got{{}, static_cast<size_t>(sent)};
    if (!IsLater(errno)) co_return Got{LastError()};
    const auto error = co_await Ready(state, asio::socket_base::wait_write);
    if (error) co_return Got{error};
  }
}

Awaitable<Got> WriteSome(TlsStream& stream, std::string_view bytes) {
  return Perform(stream, [bytes](SSL* ssl, size_t& done) {
    return SSL_write_ex(ssl, bytes.data(), bytes.size(), &done);
  });
}

}  // namespace

TcpStream::TcpStream(const asio::any_io_executor& executor)
    : state_(std::make_shared<State>(Socket(executor))) {}

// What is written is whole messages: none of them waits for the acknowledgement of another.
TcpStream::TcpStream(Socket socket) : state_(std::make_shared<State>(std::move(socket))) {
  ErrorCode ignored;
  state_->socket.set_option(tcp::no_delay(true), ignored);
}

void TcpStream::expires_at(Clock::time_point deadline) {
  state_->deadline = deadline;
}

void TcpStream::expires_never() {
  state_->deadline = Clock::time_point::max();
  if (!state_->reading.waits && !state_->writing.waits) state_->Disarm();
}

void TcpStream::may_read(size_t bytes) {
  state_->left = bytes;
}

void TcpStream::cancel() {
  ErrorCode ignored;
  state_->socket.cancel(ignored);
}

void TcpStream::close() {
  state_->Close();
}

TcpStream::Socket& TcpStream::socket() {
  return state_->socket;
}

const TcpStream::Socket& TcpStream::socket() const {
  return state_->socket;
}

asio::any_io_executor TcpStream::get_executor() {
  return state_->socket.get_executor();
}

TlsStream::TlsStream(TcpStream tcp, asio::ssl::context& context)
    : TlsStream(std::move(tcp), SSL_new(context.native_handle())) {}

TlsStream::TlsStream(TcpStream tcp, SSL* ssl) : tcp_(std::move(tcp)), ssl_(ssl) {
  BIO* const bio = ssl_ ? BIO_new(Method()) : nullptr;
  if (bio == nullptr) throw std::bad_alloc();
  BIO_set_data(bio, &tcp_.state());
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_.get(), bio, bio);
  SSL_set_mode(ssl_.get(), SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                               SSL_MODE_RELEASE_BUFFERS);
  SSL_set_read_ahead(ssl_.get(), 1);  // one system call for a record, not two
}

Awaitable<ErrorCode> Connect(TcpStream& stream, const tcp::resolver::results_type& endpoints) {
  auto& state = stream.state();
  if (state.TooLate()) co_return boost::beast::error::timeout;
  state.writing = {true, false, state.deadline};
  state.Arm(state.deadline);
  const auto [error, endpoint] = co_await asio::async_connect(state.socket, endpoints, kAwait);
  state.writing.waits = false;
  if (state.writing.expired) co_return boost::beast::error::timeout;
  ErrorCode ignored;
  if (!error) state.socket.set_option(tcp::no_delay(true), ignored);
  co_return error;
}

void Expect(TlsStream& stream, const std::string& host) {
  SSL* const ssl = stream.native_handle();
  SSL_set_verify(ssl, SSL_VERIFY_PEER, nullptr);
  ErrorCode is_a_name;
  asio::ip::make_address(host, is_a_name);
  // SNI carries names only (RFC 6066 3).
  const bool set = is_a_name
                       ? SSL_set1_host(ssl, host.c_str()) == 1 &&
                             SSL_set_tlsext_host_name(ssl, host.c_str()) == 1
                       : X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host.c_str()) == 1;
  if (!set) throw std::bad_alloc();
}

Awaitable<ErrorCode> Handshake(TlsStream& stream, asio::ssl::stream_base::handshake_type as) {
  const auto step = as == asio::ssl::stream_base::client ? SSL_connect : SSL_accept;
  const Got got =
      co_await Perform(stream, [step](SSL* ssl, size_t& /*done*/) { return step(ssl); });
  co_return got.error;
}

Awaitable<ErrorCode> Shutdown(TlsStream& stream) {
  const Got got = co_await Perform(stream, [](SSL* ssl, size_t& /*done*/) {
    const int result = SSL_shutdown(ssl);
    return result == 0 ? SSL_shutdown(ssl) : result;  // sent; now the other end's
  });
  co_return got.error;
}

Awaitable<Got> ReadSome(TcpStream& stream, asio::mutable_buffer room) {
  auto& state = stream.state();
  for (;;) {
    if (state.TooLate()) co_return Got{boost::beast::error::timeout};
    const ssize_t got = state.Receive(room.data(), room.size());
    if (got > 0) co_return Got{{}, static_cast<size_t>(got)};
    if (got == 0) co_return Got{asio::error::eof};
    if (!IsLater(errno)) co_return Got{LastError()};
    const auto error = co_await Readable(state);
    if (error) co_return Got{error};
  }
}

Awaitable<ErrorCode> AwaitInput(TlsStream& stream) {
  auto& state = stream.next_layer().state();
  if (!state.drained || state.ended || SSL_has_pending(stream.native_handle()) != 0) {
    co_return ErrorCode();
  }
  if (state.TooLate()) co_return boost::beast::error::timeout;
  const auto error = co_await Readable(state);
  if (!error) state.drained = false;
  co_return error;
}

Awaitable<Got> ReadSome(TlsStream& stream, asio::mutable_buffer room) {
  // Where nothing was left when it was read last, it is waited for at once.
  if (stream.next_layer().state().drained) {
    const auto error = co_await AwaitInput(stream);
    if (error) co_return Got{error};
  }
  const Got got = co_await Perform(stream, [room](SSL* ssl, size_t& done) {
    return SSL_read_ex(ssl, room.data(), room.size(), &done);
  });
  co_return got;
}

Awaitable<void> Drain(TcpStream& stream) {
  return ReadAway(stream);
}

Awaitable<void> Drain(TlsStream& stream) {
  return ReadAway(stream);
}

Awaitable<ErrorCode> Write(TcpStream& stream, std::string_view bytes) {
  return WriteAll(stream, bytes, WriteSomePlain);
}

Awaitable<ErrorCode> Write(TlsStream& stream, std::string_view bytes) {
  return WriteAll(stream, bytes, WriteSome);
}

}  // namespace portcullis::web
