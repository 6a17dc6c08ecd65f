#include "control/guard/request/http2_stream.hpp"

#include <algorithm>
#include <boost/beast/core/string.hpp>
#include <utility>
#include <vector>

#include "control/coroutines.hpp"

namespace portcullis::guard {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;

namespace {

// nghttp2 copies both, and writes to neither.
nghttp2_nv Pair(std::string_view name, std::string_view value) {
  const auto bytes = [](std::string_view text) {
    return reinterpret_cast<uint8_t*>(const_cast<char*>(text.data()));  // NOLINT
  };
  return {bytes(name), bytes(value), name.size(), value.size(), NGHTTP2_NV_FLAG_NONE};
}

bool IsLine(std::string_view text) {
  return std::ranges::none_of(text, [](char c) {
    return (static_cast<unsigned char>(c) < ' ' && c != '\t') || c == '\x7f';
  });
}

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return lower;
}

}  // namespace

// ---- the head

void Http2Stream::Take(std::string_view name, std::string_view value) {
  head_bytes_ += name.size() + value.size();
  if (head_bytes_ > kMostHeadBytes) Blame("a head that is too large");
  if (!IsLine(name) || !IsLine(value)) Blame("a control character");
  if (fault_) return;
  if (name == ":method") {
    head_.method = value;
  } else if (name == ":path") {
    head_.target = value;
  } else if (name == ":authority") {
    authority_ = value;
  } else if (name == "host") {
    if (host_) Blame("Host twice");
    host_ = value;
  } else if (name == "cookie" && head_.fields.count(name) > 0) {
    // In pieces for the sake of compression; one field to HTTP/1.1 (RFC 9113 8.2.3).
    std::string all(head_.fields[name]);
    head_.fields.set(http::field::cookie, all.append("; ").append(value));
  } else if (!name.starts_with(':')) {
    head_.fields.insert(name, value);
  }
}

void Http2Stream::Blame(std::string fault) {
  if (!fault_) fault_ = "not a request as HTTP/1.1 knows them: " + std::move(fault);
}

void Http2Stream::Conclude(bool has_body) {
  whole_ = true;
  if (authority_ && host_ && !beast::iequals(*authority_, *host_)) Blame("Host is not :authority");
  std::string text = fmt::format("{} {} HTTP/1.1\r\n", head_.method, head_.target);
  if (authority_ || host_) text += fmt::format("Host: {}\r\n", authority_ ? *authority_ : *host_);
  for (const auto& field : head_.fields) {
    text += fmt::format("{}: {}\r\n", std::string_view(field.name_string()),
                        std::string_view(field.value()));
  }
  if (auto fault = FramingFault(text + "\r\n")) Blame(*std::move(fault));
  const auto length = head_.fields.find(http::field::content_length);
  if (length != head_.fields.end() && !fault_) {
    head_.body.bytes = std::stoull(std::string(length->value()));  // FramingFault(): digits
  } else {
    head_.body.chunked = has_body;
  }
}

std::optional<Stopped> Http2Stream::fault() const {
  if (!fault_) return {};
  return StopFor(Error{ErrorKind::kInvalid, *fault_, {}, {}, {}}).value();
}

// ---- the body

void Http2Stream::Data(std::string_view bytes) {
  in_ += bytes;
  changed_.cancel();
}

void Http2Stream::End() {
  ended_ = true;
  changed_.cancel();
}

void Http2Stream::Closed() {
  closed_ = true;
  changed_.cancel();
}

// Until something has happened to it, or until then.
asio::awaitable<void> Http2Stream::Changed(Deadline until) {
  changed_.expires_at(until);
  co_await changed_.async_wait(kAwait);
}

asio::awaitable<Step<void>> Http2Stream::GoOn() {
  // What it expects can be nothing but this: FramingFault() has looked.
  if (head_.fields.count(http::field::expect) == 0 || !unread()) co_return Step<void>{};
  const nghttp2_nv status = Pair(":status", "100");
  nghttp2_submit_headers(wire_.session(), NGHTTP2_FLAG_NONE, id_, nullptr, &status, 1, nullptr);
  wire_.FlushSoon();
  co_return Step<void>{};
}

asio::awaitable<Step<size_t>> Http2Stream::Read(asio::mutable_buffer room, Deadline deadline) {
  while (in_.empty() && !ended_) {
    if (closed_ || Clock::now() >= deadline) {
      co_return StopFor(Error{ErrorKind::kInvalid, "the body breaks off or is none", {}, {}, {}});
    }
    co_await Changed(deadline);
  }
  const size_t size = std::min(room.size(), in_.size());
  std::copy_n(in_.begin(), size, static_cast<char*>(room.data()));
  in_.erase(0, size);
  nghttp2_session_consume(wire_.session(), id_, size);
  wire_.FlushSoon();
  co_return size;
}

// ---- the answer

void Http2Stream::Answer(const AnswerHead& answer) {
  if (closed_) return;
  const std::string status = std::to_string(answer.status);
  const std::string length = answer.body.bytes ? std::to_string(*answer.body.bytes) : "";
  std::vector<std::string> names;  // until nghttp2 has copied them
  names.reserve(static_cast<size_t>(std::distance(answer.fields.begin(), answer.fields.end())));
  std::vector<nghttp2_nv> all = {Pair(":status", status)};
  if (answer.body.bytes) all.push_back(Pair("content-length", length));
  if (!nonce_.empty()) all.push_back(Pair("dpop-nonce", nonce_));
  for (const auto& field : answer.fields) {
    if (!GoesOn(answer, field.name_string())) continue;
    names.push_back(Lower(field.name_string()));
    all.push_back(Pair(names.back(), field.value()));
  }
  nghttp2_data_provider body{};
  body.read_callback = Out;
  nghttp2_submit_response(wire_.session(), id_, all.data(), all.size(), &body);
}

// What nghttp2 takes of the answer's body when it may send some.
ssize_t Http2Stream::Out(nghttp2_session* session, int32_t id, uint8_t* room, size_t size,
                         uint32_t* flags, nghttp2_data_source* /*source*/, void* /*user*/) {
  auto* stream = static_cast<Http2Stream*>(nghttp2_session_get_stream_user_data(session, id));
  if (stream == nullptr) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  const size_t taken = std::min(size, stream->out_.size());
  if (taken == 0 && !stream->last_) return NGHTTP2_ERR_DEFERRED;
  std::copy_n(stream->out_.begin(), taken, room);
  stream->out_.erase(0, taken);
  if (stream->out_.empty()) {
    stream->last_sent_ = stream->last_;
    if (stream->last_) *flags |= NGHTTP2_DATA_FLAG_EOF;
    stream->changed_.cancel();
  }
  return static_cast<ssize_t>(taken);
}

asio::awaitable<bool> Http2Stream::Write(std::string_view bytes, bool last) {
  out_ += bytes;
  last_ = last;
  const auto deadline = Clock::now() + kPieceTime;
  while (!closed_) {
    nghttp2_session_resume_data(wire_.session(), id_);
    co_await wire_.Flush();
    if (out_.empty() && last_sent_ == last_) co_return true;
    if (Clock::now() >= deadline) break;
    co_await Changed(deadline);
  }
  // The last of it may be what has closed it.
  if (out_.empty() && last_sent_ == last_) co_return true;
  Abandon();
  co_return false;
}

void Http2Stream::Reset(uint32_t why) {
  if (closed_) return;
  nghttp2_submit_rst_stream(wire_.session(), NGHTTP2_FLAG_NONE, id_, why);
  wire_.FlushSoon();
}

void Http2Stream::Leave() {
  if (unread()) Reset(NGHTTP2_NO_ERROR);
  nghttp2_session_set_stream_user_data(wire_.session(), id_, nullptr);
  nghttp2_session_consume_connection(wire_.session(), in_.size());
  wire_.FlushSoon();
}

}  // namespace portcullis::guard
