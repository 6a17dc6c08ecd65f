#include "control/guard/request/relay.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/error.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/beast/http/error.hpp>
#include <utility>
#include <vector>

namespace portcullis::guard {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using identity::Reason;
using namespace std::chrono_literals;

namespace {

constexpr auto kAnswerTime = 60s;  // until the server begins to answer
constexpr uint32_t kMostAnswerHead = 32U << 10U;
constexpr unsigned kFirstFinal = 200;
constexpr unsigned kNoContent = 204;
constexpr unsigned kNotModified = 304;

// The server hung up before it answered: it has not read the request, or died over it.
bool HungUp(const web::ErrorCode& error) {
  return error == asio::error::eof || error == asio::error::connection_reset ||
         error == asio::error::broken_pipe || error == asio::ssl::error::stream_truncated ||
         error == http::error::end_of_stream;
}

}  // namespace

tl::unexpected<Stopped> Relay::Broken(const char* during, const web::ErrorCode& error) const {
  return Stop(Reason::server_unavailable,
              fmt::format("{}: {}: {}", server_.authority(), during, error.message()));
}

asio::awaitable<Step<void>> Relay::Ask(Onward onward) {
  auto sent = co_await exchange_.GoOn();
  if (sent) sent = co_await Send(std::move(onward));
  if (sent) sent = co_await ReadAnswer();
  co_return sent;
}

asio::awaitable<Step<void>> Relay::Send(Onward onward) {
  const RequestHead& request = exchange_.head();
  // What was only to be created would be refused the second time, though the first has made it.
  repeatable_ = MayBeSentTwice() && !onward.only_absent;
  BodyLength length = request.body;
  if (body_) length = {body_->size(), false};
  head_ = RequestHeadText(request, onward, length);
  auto sent = co_await SendHead(false);
  if (!sent && connection_ && connection_->used && repeatable_) sent = co_await SendHead(true);
  if (sent) sent = co_await SendBody();
  co_return sent;
}

// Connects if need be.
asio::awaitable<Step<void>> Relay::SendHead(bool fresh) {
  auto connection = co_await server_.Take(fresh);
  if (!connection) {
    const bool forbidden = connection.error().kind == ErrorKind::kForbidden;
    co_return Stop(forbidden ? Reason::callback_denied : Reason::server_unavailable,
                   connection.error().Text());
  }
  connection_ = *std::move(connection);
  const auto error = co_await ToServer(head_);
  if (error) co_return Broken("sending the request", error);
  co_return Step<void>{};
}

asio::awaitable<web::ErrorCode> Relay::ToServer(std::string_view bytes) {
  connection_->stream->next_layer().expires_after(kPieceTime);
  return web::Write(*connection_->stream, bytes);
}

asio::awaitable<Step<void>> Relay::SendBody() {
  if (body_) {
    request_bytes_ = body_->size();
    if (request_bytes_ != 0) cut_ = (co_await ToServer(*body_)).failed();
    co_return Step<void>{};
  }
  const bool chunked = exchange_.head().body.chunked;
  std::vector<char> piece(exchange_.unread() ? kPieceBytes : 0);
  while (!cut_) {
    const auto got =
        co_await exchange_.Read(asio::buffer(piece), Exchange::Clock::now() + kPieceTime);
    if (!got) co_return tl::unexpected(got.error());
    if (const bool still = co_await permitted_(); !still) {
      co_return Stop(Reason::policy_denied,
                     "what was permitted when the request began is no longer");
    }
    const std::string_view bytes(piece.data(), *got);
    request_bytes_ += bytes.size();
    if (chunked) {
      const std::string chunk = Chunk(bytes);  // the last one, where there are no more bytes
      cut_ = (co_await ToServer(chunk)).failed();
    } else if (!bytes.empty()) {
      cut_ = (co_await ToServer(bytes)).failed();
    }
    if (bytes.empty()) break;
  }
  co_return Step<void>{};
}

// RFC 9110 9.2.2, as long as nothing of the body has gone to the first connection.
bool Relay::MayBeSentTwice() const {
  const std::string& method = exchange_.head().method;
  const bool idempotent =
      method == "GET" || method == "HEAD" || method == "PUT" || method == "DELETE";
  return idempotent && (body_ || !exchange_.unread());
}

asio::awaitable<Step<void>> Relay::ReadAnswer() {
  for (bool again = repeatable_;; again = false) {
    connection_->stream->next_layer().expires_after(kAnswerTime);
    web::ErrorCode error;
    do {  // interim answers are between this gate and the server
      answer_.emplace();
      answer_->header_limit(kMostAnswerHead);
      answer_->body_limit(boost::none);
      if (exchange_.head().method == "HEAD") answer_->skip(true);
      error = co_await web::ReadHeader(*connection_->stream, connection_->buffer, *answer_);
    } while (!error && status() < kFirstFinal);
    if (!error) co_return Step<void>{};
    // The server may have closed the connection while the request was on its way.
    bool repeat = again && connection_->used && !answer_->got_some() && HungUp(error);
    if (repeat) repeat = co_await permitted_();
    if (!repeat) co_return Broken("reading the answer", error);
    cut_ = false;
    auto sent = co_await SendHead(true);
    if (sent) sent = co_await SendBody();
    if (!sent) co_return sent;
  }
}

std::string Relay::location() const {
  return std::string(answer_->get()[http::field::location]);
}

bool Relay::HasBody() const {
  return exchange_.head().method != "HEAD" && status() != kNoContent && status() != kNotModified;
}

// Behind an answer that has no body could be one all the same, which would be the next answer: of
// those, only a 204 that announces none is believed.
bool Relay::Reusable() const {
  if (cut_ || !answer_->keep_alive()) return false;
  return HasBody() || (status() == kNoContent && !answer_->content_length() && !answer_->chunked());
}

// The next of the answer's body; empty at its end.
asio::awaitable<Relay::Piece> Relay::NextPiece() {
  Piece piece;
  if (!kept_.empty()) {
    piece.bytes = std::exchange(kept_, {});
    co_return piece;
  }
  while (!answer_->is_done() && piece.bytes.empty() && !piece.error) {
    const auto left = answer_->content_length_remaining();  // most answers are small
    piece.bytes.resize(left ? std::min<uint64_t>(*left, kPieceBytes) : kPieceBytes);
    connection_->stream->next_layer().expires_after(kPieceTime);
    const auto got = co_await web::ReadBody(*connection_->stream, connection_->buffer, *answer_,
                                            asio::buffer(piece.bytes));
    piece.bytes.resize(got.bytes);
    piece.error = got.error;
  }
  co_return piece;
}

asio::awaitable<std::optional<std::string>> Relay::Body(size_t most) {
  std::string all;
  for (;;) {
    Piece piece = co_await NextPiece();
    all += piece.bytes;
    if (!piece.error && !piece.bytes.empty() && all.size() <= most) continue;
    kept_ = all;
    if (piece.error || all.size() > most) co_return std::nullopt;
    co_return all;
  }
}

asio::awaitable<void> Relay::Stream() {
  const auto& answer = answer_->get();
  BodyLength length;
  if (answer_->content_length() && status() != kNoContent)
    length.bytes = *answer_->content_length();
  length.chunked = HasBody() && !length.bytes;
  exchange_.Answer({status(), answer.reason(), answer, length});
  for (bool last = false; !last;) {
    Piece piece;
    bool still = true;
    if (HasBody()) {
      piece = co_await NextPiece();
      still = co_await permitted_();
    }
    if (piece.error || !still) {
      exchange_.Abandon();
      co_return;
    }
    response_bytes_ += piece.bytes.size();
    last = piece.bytes.empty() || answer_->is_done();
    if (!co_await exchange_.Write(piece.bytes, last)) co_return;
  }
  if (Reusable()) server_.GiveBack(*std::move(connection_));
}

}  // namespace portcullis::guard
