#include "control/guard/request/intake.hpp"

#include <array>
#include <boost/beast/core/error.hpp>
#include <utility>

#include "control/guard/request/head.hpp"

namespace portcullis::guard {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using identity::Reason;
using namespace std::chrono_literals;

namespace {

constexpr size_t kMostHeadBytes = 32U << 10U;
constexpr size_t kAtOnce = 4096;
constexpr auto kIdleTime = 60s;  // between two requests
constexpr auto kDrainTime = 2s;

tl::unexpected<Stopped> NoHttp(const std::string& fault) {
  return StopFor(Error{ErrorKind::kInvalid, "not an HTTP/1.1 request: " + fault, {}, {}, {}});
}

tl::unexpected<Stopped> TooLarge(const char* what, size_t most) {
  return StopFor(Error{ErrorKind::kInvalid,
                       std::string(what) + " is too large",
                       {},
                       fmt::format("at most {} bytes", most),
                       "more"});
}

}  // namespace

// Its length, once it stands whole at the buffer's front; 0: the client has gone.
asio::awaitable<Step<size_t>> Intake::HeadBytes() {
  auto& tcp = stream_.next_layer();
  bool begun = buffer_.size() != 0;
  tcp.expires_after(begun ? std::chrono::milliseconds(limits_.request_time) : kIdleTime);
  tcp.rate_policy().Set(kMostHeadBytes);
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

asio::awaitable<Step<bool>> Intake::Head(RequestParser& parser) {
  const auto length = co_await HeadBytes();
  if (!length) co_return tl::unexpected(length.error());
  if (*length == 0) co_return false;
  const auto front = buffer_.data();
  const std::string_view head(static_cast<const char*>(front.data()), *length);
  if (auto fault = FramingFault(head)) co_return NoHttp(*fault);
  parser.header_limit(static_cast<uint32_t>(kMostHeadBytes));
  parser.body_limit(boost::none);
  web::ErrorCode error;
  buffer_.consume(parser.put(front, error));
  if (error || !parser.is_header_done()) co_return NoHttp(error.message());
  co_return true;
}

asio::awaitable<Step<std::string>> Intake::Body(RequestParser& parser, size_t most) {
  if (parser.content_length() && *parser.content_length() > most)
    co_return TooLarge("the body, which is read to decide,", most);
  if (auto going = co_await GoOn(parser); !going) co_return tl::unexpected(going.error());
  std::string all;
  std::array<char, kAtOnce> piece{};
  stream_.next_layer().expires_after(limits_.request_time);
  stream_.next_layer().rate_policy().Set(2 * most + kMostHeadBytes);
  while (!parser.is_done()) {
    auto& body = parser.get().body();
    body.data = piece.data();
    body.size = piece.size();
    const auto error = co_await web::ReadSome(stream_, buffer_, parser);
    if (error && error != http::error::need_buffer) {
      co_return StopFor(Error{
          ErrorKind::kInvalid, "the body breaks off or is none: " + error.message(), {}, {}, {}});
    }
    all.append(piece.data(), piece.size() - body.size);
    if (all.size() > most) co_return TooLarge("the body, which is read to decide,", most);
  }
  co_return all;
}

asio::awaitable<Step<void>> Intake::GoOn(const RequestParser& parser) {
  const auto expect = parser.get()[http::field::expect];
  if (expect.empty() || parser.is_done()) co_return Step<void>{};  // it is 100-continue: see Head()
  stream_.next_layer().expires_after(limits_.request_time);
  const auto failed = co_await web::Write(stream_, "HTTP/1.1 100 Continue\r\n\r\n");
  if (failed) co_return Stop(Reason::request_malformed, "the connection broke");
  co_return Step<void>{};
}

asio::awaitable<void> Intake::Drain() {
  stream_.next_layer().expires_after(kDrainTime);
  stream_.next_layer().rate_policy().Set(kMostHeadBytes * 8);
  std::array<char, kAtOnce> away{};
  for (bool ended = false; !ended;) {
    const auto got = co_await web::ReadSome(stream_, asio::buffer(away));
    ended = got.error.failed();
  }
}

}  // namespace portcullis::guard
