#include "control/guard/request/http1.hpp"

#include <boost/beast/core/error.hpp>
#include <utility>

namespace portcullis::guard {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using identity::Reason;
using namespace std::chrono_literals;

namespace {

constexpr size_t kAtOnce = 4096;
constexpr auto kLeaveTime = 2s;  // and bytes that a client still sends
constexpr size_t kLeaveBytes = 16U << 20U;

tl::unexpected<Stopped> NoHttp(const std::string& fault) {
  return StopFor(Error{ErrorKind::kInvalid, "not an HTTP/1.1 request: " + fault, {}, {}, {}});
}

}  // namespace

// Its length, once it stands whole at the buffer's front; 0: the client has gone.
asio::awaitable<Step<size_t>> Http1Exchange::HeadBytes() {
  auto& tcp = stream_.next_layer();
  bool begun = buffer_.size() != 0;
  tcp.expires_after(begun ? std::chrono::milliseconds(limits_.request_time) : kIdleTime);
  tcp.may_read(2 * kMostHeadBytes);  // what TLS adds must not be what ends it
  if (!begun) {
    buffer_.shrink_to_fit();  // a connection on which nothing comes holds no room for it
    const auto error = co_await web::AwaitInput(stream_);
    if (error) co_return size_t{0};
  }
  for (;;) {
    const std::string_view bytes(static_cast<const char*>(buffer_.data().data()), buffer_.size());
    if (const size_t length = HeadLength(bytes); length != 0) co_return length;
    if (bytes.size() >= kMostHeadBytes) co_return TooLarge("the head", kMostHeadBytes);
    const auto got = co_await web::ReadSome(stream_, buffer_.prepare(kAtOnce));
    if (got.error == beast::error::timeout && begun) {
      co_return Stop(Reason::handshake_timeout, "a request's head did not come in time");
    }
    if (got.error) co_return size_t{0};
    buffer_.commit(got.bytes);
    if (!begun) tcp.expires_after(limits_.request_time);
    begun = true;
  }
}

Step<void> Http1Exchange::Take(std::string_view head) {
  if (auto fault = FramingFault(head)) return NoHttp(*fault);
  parser_.header_limit(static_cast<uint32_t>(kMostHeadBytes));
  parser_.body_limit(boost::none);
  web::ErrorCode error;
  buffer_.consume(parser_.put(buffer_.data(), error));
  if (error || !parser_.is_header_done()) return NoHttp(error.message());
  const auto& message = parser_.get();
  head_.method = message.method_string();
  head_.target = message.target();
  head_.fields = message;
  if (const auto length = parser_.content_length()) head_.body.bytes = *length;
  head_.body.chunked = parser_.chunked();
  return {};
}

asio::awaitable<Step<bool>> Http1Exchange::ReadHead() {
  const auto length = co_await HeadBytes();
  if (!length) co_return tl::unexpected(length.error());
  if (*length == 0) co_return false;
  const auto front = buffer_.data();
  const std::string_view head(static_cast<const char*>(front.data()), *length);
  if (auto taken = Take(head); !taken) co_return tl::unexpected(std::move(taken.error()));
  ends_ = !parser_.get().keep_alive();
  co_return true;
}

asio::awaitable<Step<void>> Http1Exchange::GoOn() {
  // What it expects can be nothing but this: FramingFault() has looked.
  if (head_.fields.count(http::field::expect) == 0 || !unread()) co_return Step<void>{};
  stream_.next_layer().expires_after(limits_.request_time);
  const auto failed = co_await web::Write(stream_, "HTTP/1.1 100 Continue\r\n\r\n");
  if (failed) co_return Stop(Reason::request_malformed, "the connection broke");
  co_return Step<void>{};
}

asio::awaitable<Step<size_t>> Http1Exchange::Read(asio::mutable_buffer room, Deadline deadline) {
  auto& tcp = stream_.next_layer();
  tcp.expires_at(deadline);
  while (unread()) {
    tcp.may_read(2 * kPieceBytes);
    const auto got = co_await web::ReadBody(stream_, buffer_, parser_, room);
    if (got.error) {
      const std::string what = "the body breaks off or is none: " + got.error.message();
      co_return StopFor(Error{ErrorKind::kInvalid, what, {}, {}, {}});
    }
    if (got.bytes != 0) co_return got.bytes;
  }
  co_return size_t{0};
}

void Http1Exchange::Answer(const AnswerHead& answer) {
  if (unread()) ends_ = true;  // nobody knows where the next request would begin
  chunked_ = answer.body.chunked;
  out_ = AnswerHeadText(answer, ends_, nonce_);
}

void Http1Exchange::Append(std::string_view bytes, bool last) {
  if (!chunked_) {
    out_ += bytes;
    return;
  }
  if (!bytes.empty()) out_ += Chunk(bytes);
  if (last) out_ += Chunk({});
}

asio::awaitable<bool> Http1Exchange::Write(std::string_view bytes, bool last) {
  stream_.next_layer().expires_after(kPieceTime);
  const bool alone = out_.empty() && !chunked_;
  if (!alone) Append(bytes, last);
  const auto error = co_await web::Write(stream_, alone ? bytes : out_);
  out_.clear();
  if (error) Abandon();
  co_return !error;
}

asio::awaitable<void> Http1Exchange::TakeLeave() {
  if (broken_ || !unread()) co_return;
  stream_.next_layer().expires_after(kLeaveTime);
  stream_.next_layer().may_read(kLeaveBytes);
  co_await web::Drain(stream_);
}

asio::awaitable<void> ServeHttp1(web::TlsStream& stream, const ListenerLimits& limits,
                                 Serve serve) {
  web::Buffer buffer;
  for (bool ends = false; !ends;) {
    Http1Exchange exchange(stream, buffer, limits);
    auto there = co_await exchange.ReadHead();
    if (there && !*there) co_return;
    std::optional<Stopped> fault;
    if (!there) fault = std::move(there.error());
    co_await serve(exchange, std::move(fault));
    co_await exchange.TakeLeave();
    ends = exchange.ends();
  }
}

}  // namespace portcullis::guard
