#include "control/guard/request/relay.hpp"

#include <fmt/format.h>

#include <array>
#include <boost/asio/error.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/beast/http/verb.hpp>
#include <utility>

namespace portcullis::guard {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using namespace std::chrono_literals;

namespace {

constexpr auto kPieceTime = 30s;   // for each piece, on either side
constexpr auto kAnswerTime = 60s;  // until the server begins to answer
constexpr uint32_t kMostAnswerHead = 32U << 10U;
constexpr size_t kPieceBytes = 16U << 10U;  // a TLS record
constexpr unsigned kFirstFinal = 200;

constexpr unsigned kNoContent = 204;
constexpr unsigned kNotModified = 304;

tl::unexpected<Error> Broken(const Upstream& server, const char* during,
                             const web::ErrorCode& error) {
  return Fail(ErrorKind::kUnavailable,
              fmt::format("{}: {}: {}", server.authority(), during, error.message()));
}

tl::unexpected<Error> NoLonger() {
  return Fail(ErrorKind::kForbidden, "what was permitted when the request began is no longer");
}

// The server hung up before it answered: it has not read the request, or died over it.
bool HungUp(const web::ErrorCode& error) {
  return error == asio::error::eof || error == asio::error::connection_reset ||
         error == asio::error::broken_pipe || error == asio::ssl::error::stream_truncated ||
         error == http::error::end_of_stream;
}

// What a parser with a buffer_body reports when its buffer is full or the body ends.
bool IsEnd(const web::ErrorCode& error) {
  return error && error != http::error::need_buffer;
}

}  // namespace

asio::awaitable<Result<void>> Relay::Send(Onward onward) {
  const auto& request = incoming_.parser.get();
  // What was only to be created would be refused the second time, though the first has made it.
  repeatable_ = MayBeSentTwice() && !onward.only_absent;
  BodyLength length;
  if (incoming_.body) {
    length.bytes = incoming_.body->size();
  } else if (incoming_.parser.content_length()) {
    length.bytes = *incoming_.parser.content_length();
  } else {
    length.chunked = incoming_.parser.chunked();
  }
  const auto method = request.method_string();
  const auto target = request.target();
  head_ = RequestHead(method, target, incoming_.fields, onward, length);
  auto sent = co_await SendOnce(head_, false);
  if (!sent && connection_ && connection_->used && repeatable_) {
    sent = co_await SendOnce(head_, true);
  }
  if (!sent) co_return sent;
  auto body = co_await SendBody();
  co_return body;
}

// Connects if need be, and writes the head.
asio::awaitable<Result<void>> Relay::SendOnce(const std::string& head, bool fresh) {
  auto connection = co_await server_.Take(fresh);
  if (!connection) co_return tl::unexpected(connection.error());
  connection_ = *std::move(connection);
  connection_->stream->next_layer().expires_after(kPieceTime);
  const auto error = co_await web::Write(*connection_->stream, head);
  if (error) co_return Broken(server_, "sending the request", error);
  co_return Result<void>{};
}

asio::awaitable<Result<void>> Relay::SendBody() {
  if (incoming_.body) {
    request_bytes_ = incoming_.body->size();
    if (request_bytes_ == 0) co_return Result<void>{};
    connection_->stream->next_layer().expires_after(kPieceTime);
    const auto error = co_await web::Write(*connection_->stream, *incoming_.body);
    if (error) co_return Broken(server_, "sending the body", error);
    co_return Result<void>{};
  }
  RequestParser& parser = incoming_.parser;
  const bool chunked = parser.chunked();
  std::array<char, kPieceBytes> piece{};
  while (!parser.is_done()) {
    auto& body = parser.get().body();
    body.data = piece.data();
    body.size = piece.size();
    incoming_.stream.next_layer().expires_after(kPieceTime);
    incoming_.stream.next_layer().rate_policy().Set(2 * kPieceBytes);
    const auto error = co_await web::ReadSome(incoming_.stream, incoming_.buffer, parser);
    if (IsEnd(error)) {
      co_return Invalid("the body", "it breaks off or is not one: " + error.message(),
                        "a body of the length that its head gives");
    }
    const size_t got = piece.size() - body.size;
    if (!permitted_()) co_return NoLonger();
    if (got == 0) continue;
    request_bytes_ += got;
    const std::string_view bytes(piece.data(), got);
    const std::string out = chunked ? Chunk(bytes) : std::string(bytes);
    connection_->stream->next_layer().expires_after(kPieceTime);
    const auto failed = co_await web::Write(*connection_->stream, out);
    if (failed) co_return Broken(server_, "sending the body", failed);
  }
  if (chunked) {
    const std::string last = Chunk({});
    connection_->stream->next_layer().expires_after(kPieceTime);
    const auto failed = co_await web::Write(*connection_->stream, last);
    if (failed) co_return Broken(server_, "sending the body", failed);
  }
  co_return Result<void>{};
}

// RFC 9110 9.2.2, as long as nothing of the body has gone to the first connection.
bool Relay::MayBeSentTwice() const {
  switch (incoming_.parser.get().method()) {
    case http::verb::get:
    case http::verb::head:
    case http::verb::put:
    case http::verb::delete_:
      return incoming_.body || incoming_.parser.is_done();
    default:
      return false;
  }
}

asio::awaitable<Result<void>> Relay::ReadAnswer() {
  for (bool again = repeatable_;; again = false) {
    connection_->stream->next_layer().expires_after(kAnswerTime);
    web::ErrorCode error;
    do {  // interim answers are between this gate and the server
      answer_.emplace();
      answer_->header_limit(kMostAnswerHead);
      answer_->body_limit(boost::none);
      if (incoming_.parser.get().method() == http::verb::head) answer_->skip(true);
      error = co_await web::ReadHeader(*connection_->stream, connection_->buffer, *answer_);
    } while (!error && status() < kFirstFinal);
    if (!error) co_return Result<void>{};
    // The server may have closed the connection while the request was on its way.
    if (!again || !connection_->used || answer_->got_some() || !HungUp(error) || !permitted_()) {
      co_return Broken(server_, "reading the answer", error);
    }
    auto sent = co_await SendOnce(head_, true);
    if (sent) sent = co_await SendBody();
    if (!sent) co_return sent;
  }
}

std::string Relay::location() const {
  return std::string(answer_->get()[http::field::location]);
}

bool Relay::HasBody() const {
  return incoming_.parser.get().method() != http::verb::head && status() != kNoContent &&
         status() != kNotModified;
}

// The next of the answer's body; empty at its end.
asio::awaitable<Relay::Piece> Relay::NextPiece() {
  Piece piece;
  if (!kept_.empty()) {
    piece.bytes = std::exchange(kept_, {});
    co_return piece;
  }
  std::array<char, kPieceBytes> room{};
  while (!answer_->is_done() && piece.bytes.empty() && !piece.error) {
    auto& body = answer_->get().body();
    body.data = room.data();
    body.size = room.size();
    connection_->stream->next_layer().expires_after(kPieceTime);
    const auto error = co_await web::ReadSome(*connection_->stream, connection_->buffer, *answer_);
    piece.bytes.assign(room.data(), room.size() - body.size);
    if (IsEnd(error)) piece.error = error;
  }
  co_return piece;
}

asio::awaitable<Result<std::string>> Relay::Body(size_t most) {
  std::string all;
  for (;;) {
    Piece piece = co_await NextPiece();
    if (piece.error) co_return Broken(server_, "reading the answer", piece.error);
    if (piece.bytes.empty()) break;
    all += piece.bytes;
    if (all.size() > most) {
      kept_ = std::move(all);
      co_return Fail(ErrorKind::kExhausted, fmt::format("more than {} bytes", most));
    }
  }
  kept_ = all;
  co_return all;
}

asio::awaitable<bool> Relay::Stream(bool close) {
  const auto& answer = answer_->get();
  BodyLength length;
  if (answer_->content_length() && status() != kNoContent) {
    length.bytes = *answer_->content_length();
  }
  length.chunked = HasBody() && !length.bytes;
  // The head goes with the first piece: one record, where both are small.
  const auto reason = answer.reason();
  std::string out = ResponseHead(status(), reason, answer, length, close);
  // Behind an answer without a body could be one all the same, which would be the next answer.
  const bool reusable = answer_->keep_alive() && HasBody();
  for (bool more = HasBody(); more;) {
    Piece piece = co_await NextPiece();
    if (piece.error || !permitted_()) co_return false;
    more = !piece.bytes.empty();
    response_bytes_ += piece.bytes.size();
    if (length.chunked) {
      out += Chunk(piece.bytes);
    } else {
      out += piece.bytes;
    }
    if (more && out.size() < kPieceBytes / 2 && answer_->is_done()) continue;  // the end is near
    incoming_.stream.next_layer().expires_after(kPieceTime);
    const auto error = co_await web::Write(incoming_.stream, out);
    if (error) co_return false;
    out.clear();
  }
  if (!out.empty()) {
    incoming_.stream.next_layer().expires_after(kPieceTime);
    const auto error = co_await web::Write(incoming_.stream, out);
    if (error) co_return false;
  }
  if (reusable) server_.GiveBack(*std::move(connection_));
  co_return true;
}

}  // namespace portcullis::guard
