#include "control/guard/request/http2.hpp"

#include <algorithm>
#include <array>
#include <boost/asio/co_spawn.hpp>
#include <exception>
#include <new>
#include <utility>
#include <vector>

#include "control/coroutines.hpp"

namespace portcullis::guard {

namespace asio = boost::asio;
using identity::Reason;
using Clock = Exchange::Clock;
using namespace std::chrono_literals;

namespace {

constexpr uint32_t kWindow =
    256U << 10U;  // of a body that is on its way, a stream's and all streams'
constexpr size_t kAllowance = 1U << 20U;  // of bytes that ask for nothing
constexpr size_t kMostContinuations = 8;
// Requests that their client takes back (CVE-2023-44487): so many at once, and so many a second.
constexpr uint64_t kMostResets = 100;
constexpr uint64_t kResetsPerSecond = 10;

std::string_view Text(const uint8_t* bytes, size_t size) {
  return {reinterpret_cast<const char*>(bytes), size};  // NOLINT(*-reinterpret-cast)
}

}  // namespace

bool ChoseHttp2(const SSL* connection) {
  const unsigned char* protocol = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(connection, &protocol, &size);
  return Text(protocol, size) == "h2";
}

// nghttp2 calls these while it reads. Exceptions must not travel through C.
struct Http2Connection::Callbacks {
  static Http2Connection& Of(void* connection) {
    return *static_cast<Http2Connection*>(connection);
  }
  static Http2Stream* At(nghttp2_session* session, int32_t id) {
    return static_cast<Http2Stream*>(nghttp2_session_get_stream_user_data(session, id));
  }
  template <class F>
  static int Guarded(const F& f) {
    try {
      f();
      return 0;
    } catch (const std::exception&) {
      return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
  }

  static int BeginHeaders(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
    return Guarded([&] {
      if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) return;
      Http2Connection& connection = Of(user);
      const int32_t id = frame->hd.stream_id;
      auto stream =
          std::make_shared<Http2Stream>(connection, id, connection.stream_.get_executor());
      nghttp2_session_set_stream_user_data(session, id, stream.get());
      connection.streams_[id] = std::move(stream);
    });
  }

  static int Header(nghttp2_session* session, const nghttp2_frame* frame, const uint8_t* name,
                    size_t name_size, const uint8_t* value, size_t value_size, uint8_t /*flags*/,
                    void* user) {
    return Guarded([&] {
      Of(user).useful_ += name_size + value_size;
      Http2Stream* stream = At(session, frame->hd.stream_id);
      // What follows a body nobody checks, and nobody gets.
      if (stream == nullptr || stream->whole()) return;
      stream->Take(Text(name, name_size), Text(value, value_size));
    });
  }

  // nghttp2 would leave the field out, and go on.
  static int InvalidHeader(nghttp2_session* session, const nghttp2_frame* frame,
                           const uint8_t* /*name*/, size_t /*size*/, const uint8_t* /*value*/,
                           size_t /*size*/, uint8_t /*flags*/, void* /*user*/) {
    return Guarded([&] {
      Http2Stream* stream = At(session, frame->hd.stream_id);
      if (stream != nullptr) stream->Blame("a field that HTTP/2 does not allow");
    });
  }

  static int FrameReceived(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
    return Guarded([&] {
      Http2Stream* stream = At(session, frame->hd.stream_id);
      if (stream == nullptr) return;
      const bool ends = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
      if (ends) stream->End();
      if (frame->hd.type != NGHTTP2_HEADERS || stream->whole()) return;
      stream->Conclude(!ends);
      Of(user).begun_.push_back(frame->hd.stream_id);
    });
  }

  static int Data(nghttp2_session* session, uint8_t /*flags*/, int32_t id, const uint8_t* bytes,
                  size_t size, void* user) {
    return Guarded([&] {
      Of(user).useful_ += size;
      Http2Stream* stream = At(session, id);
      if (stream == nullptr) {  // it is answered, or refused
        nghttp2_session_consume(session, id, size);
        return;
      }
      stream->Data(Text(bytes, size));
    });
  }

  static int StreamClosed(nghttp2_session* session, int32_t id, uint32_t /*why*/, void* user) {
    return Guarded([&] {
      if (Http2Stream* stream = At(session, id); stream != nullptr) {
        stream->Closed();
        if (!stream->whole()) Of(user).streams_.erase(id);  // no task has begun
      }
      Of(user).idle_since_ = Clock::now();
    });
  }

  static int FrameSent(nghttp2_session* /*session*/, const nghttp2_frame* frame, void* user) {
    return Guarded([&] {
      if (frame->hd.type != NGHTTP2_GOAWAY || frame->goaway.error_code == NGHTTP2_NO_ERROR) return;
      Of(user).Blame(nghttp2_http2_strerror(frame->goaway.error_code));
    });
  }
};

Http2Connection::Http2Connection(web::TlsStream& stream, const ListenerLimits& limits, Serve serve,
                                 Note note)
    : stream_(stream),
      limits_(limits),
      serve_(std::move(serve)),
      note_(std::move(note)),
      ended_(stream.get_executor(), Exchange::Deadline::max()),
      watch_(stream.get_executor()) {
  nghttp2_session_callbacks* made = nullptr;
  nghttp2_option* option = nullptr;
  if (nghttp2_session_callbacks_new(&made) != 0 || nghttp2_option_new(&option) != 0) {
    nghttp2_session_callbacks_del(made);
    throw std::bad_alloc();
  }
  const std::unique_ptr<nghttp2_session_callbacks, void (*)(nghttp2_session_callbacks*)> callbacks(
      made, nghttp2_session_callbacks_del);
  const std::unique_ptr<nghttp2_option, void (*)(nghttp2_option*)> options(option,
                                                                           nghttp2_option_del);
  nghttp2_session_callbacks_set_on_begin_headers_callback(made, Callbacks::BeginHeaders);
  nghttp2_session_callbacks_set_on_header_callback(made, Callbacks::Header);
  nghttp2_session_callbacks_set_on_invalid_header_callback(made, Callbacks::InvalidHeader);
  nghttp2_session_callbacks_set_on_frame_recv_callback(made, Callbacks::FrameReceived);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(made, Callbacks::Data);
  nghttp2_session_callbacks_set_on_stream_close_callback(made, Callbacks::StreamClosed);
  nghttp2_session_callbacks_set_on_frame_send_callback(made, Callbacks::FrameSent);
  nghttp2_option_set_no_auto_window_update(option, 1);  // a body is taken as fast as it goes on
  nghttp2_option_set_stream_reset_rate_limit(option, kMostResets, kResetsPerSecond);
  nghttp2_option_set_max_continuations(option, kMostContinuations);
  nghttp2_session* session = nullptr;
  if (nghttp2_session_server_new2(&session, made, this, option) != 0) throw std::bad_alloc();
  session_.reset(session);
  const auto settings = std::to_array<nghttp2_settings_entry>(
      {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, kMostStreams},
       {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kWindow},
       {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, kMostHeadBytes}});
  nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings.data(), settings.size());
  nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0, kWindow);
}

// A task that uses this: Run() ends after it.
void Http2Connection::Spawn(asio::awaitable<void> task) {
  ++running_;
  asio::co_spawn(stream_.get_executor(), std::move(task),
                 [this](const std::exception_ptr& failure) {
                   if (failure) Close();
                   if (--running_ == 0) ended_.cancel();
                 });
}

asio::awaitable<void> Http2Connection::Run() {
  Spawn(Watch());
  FlushSoon();
  co_await Receive();
  Close();
  while (running_ != 0) co_await ended_.async_wait(kAwait);
}

asio::awaitable<void> Http2Connection::Receive() {
  std::array<uint8_t, kPieceBytes> room{};
  stream_.next_layer().may_read(web::TcpStream::kAnyNumber);
  while (!closed_ && nghttp2_session_want_read(session_.get()) != 0) {
    stream_.next_layer().expires_never();  // of what reads; Watch() closes
    const auto got = co_await web::ReadSome(stream_, asio::buffer(room));
    if (got.error) co_return;
    received_ += got.bytes;
    const auto taken = nghttp2_session_mem_recv(session_.get(), room.data(), got.bytes);
    if (taken < 0 || Flooded()) {
      Blame(taken < 0 ? nghttp2_strerror(static_cast<int>(taken)) : "frames that ask for nothing");
      nghttp2_session_terminate_session(
          session_.get(), taken < 0 ? NGHTTP2_PROTOCOL_ERROR : NGHTTP2_ENHANCE_YOUR_CALM);
      break;
    }
    Begin();
    FlushSoon();
  }
  co_await Flush();
}

// Frames that ask for nothing (PING, SETTINGS, PRIORITY, empty DATA) cost time all the same.
bool Http2Connection::Flooded() const {
  constexpr uint64_t kOverhead = 8;
  return received_ / kOverhead > useful_ + kAllowance;
}

// Once: the client need not read what it is told.
void Http2Connection::Blame(const char* why) {
  if (std::exchange(blamed_, true)) return;
  note_({Reason::request_malformed, fmt::format("the HTTP/2 connection ends: {}", why)});
}

void Http2Connection::FlushSoon() {
  if (!writing_ && !closed_ && nghttp2_session_want_write(session_.get()) != 0) Spawn(Flush());
}

// One at a time, which takes along what the others have to say meanwhile.
asio::awaitable<void> Http2Connection::Flush() {
  if (writing_) co_return;
  writing_ = true;
  while (!closed_) {
    out_.clear();
    while (out_.size() < kPieceBytes) {
      const uint8_t* bytes = nullptr;
      const auto size = nghttp2_session_mem_send(session_.get(), &bytes);
      if (size <= 0) break;
      out_ += Text(bytes, static_cast<size_t>(size));
    }
    if (out_.empty()) break;
    stream_.next_layer().expires_after(kPieceTime);
    if (co_await web::Write(stream_, out_)) Close();
  }
  writing_ = false;
}

// Not while nghttp2 reads: it may not be asked to send then.
void Http2Connection::Begin() {
  for (const int32_t id : std::exchange(begun_, {})) {
    if (const auto at = streams_.find(id); at != streams_.end()) Spawn(ServeOne(id, at->second));
  }
}

asio::awaitable<void> Http2Connection::ServeOne(int32_t id, std::shared_ptr<Http2Stream> stream) {
  co_await serve_(*stream, stream->fault());
  stream->Leave();
  streams_.erase(id);
  idle_since_ = Clock::now();
}

// When there is nothing left to wait for.
Exchange::Deadline Http2Connection::Due() const {
  auto due = streams_.empty() ? idle_since_ + kIdleTime : Exchange::Deadline::max();
  for (const auto& [id, stream] : streams_) {
    if (!stream->whole()) due = std::min(due, stream->begun() + limits_.request_time);
  }
  return due;
}

asio::awaitable<void> Http2Connection::Watch() {
  while (!closed_ && Clock::now() < Due()) {
    watch_.expires_at(std::min(Due(), Clock::now() + limits_.request_time));
    co_await watch_.async_wait(kAwait);
  }
  if (closed_) co_return;
  if (!streams_.empty())
    note_({Reason::handshake_timeout, "a request's head did not come in time"});
  nghttp2_session_terminate_session(session_.get(), NGHTTP2_NO_ERROR);
  co_await Flush();
  Close();
}

// Whoever waits for the client stops waiting.
void Http2Connection::Close() {
  if (closed_) return;
  closed_ = true;
  watch_.cancel();
  for (const auto& [id, stream] : streams_) {
    stream->Closed();
  }
  stream_.next_layer().cancel();
}

}  // namespace portcullis::guard
