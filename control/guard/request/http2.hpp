// HTTP/2 as a connection brings it (RFC 9113), by nghttp2: several requests at a time, each an
// Exchange. Its heads are held to the rules of HTTP/1.1 (FramingFault), for that is what goes on:
// what could be read in two ways there does not begin here.
#pragma once

#include <nghttp2/nghttp2.h>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "control/guard/request/http2_stream.hpp"
#include "control/guard/session/listener.hpp"

namespace portcullis::guard {

/// The handshake chose it (RFC 7301).
bool ChoseHttp2(const SSL* connection);

class Http2Connection final : public Http2Wire {
 public:
  static constexpr uint32_t kMostStreams = 100;

  /// Told why the whole connection ends, when it is the client's doing.
  using Note = std::function<void(const identity::Refusal&)>;

  /// All outlive the connection, which outlives Run().
  Http2Connection(web::TlsStream& stream, const ListenerLimits& limits, Serve serve, Note note);
  Http2Connection(const Http2Connection&) = delete;
  Http2Connection& operator=(const Http2Connection&) = delete;
  ~Http2Connection() override = default;

  /// Until the client goes, is idle for too long, or asks for too much. All requests have ended
  /// then.
  boost::asio::awaitable<void> Run();

 private:
  struct Callbacks;
  struct SessionDeleter {
    void operator()(nghttp2_session* session) const { nghttp2_session_del(session); }
  };

  [[nodiscard]] nghttp2_session* session() const override { return session_.get(); }
  boost::asio::awaitable<void> Flush() override;
  void FlushSoon() override;
  boost::asio::awaitable<void> Receive();
  boost::asio::awaitable<void> Watch();
  boost::asio::awaitable<void> ServeOne(int32_t id, std::shared_ptr<Http2Stream> stream);
  void Spawn(boost::asio::awaitable<void> task);
  void Begin();
  [[nodiscard]] Exchange::Deadline Due() const;
  [[nodiscard]] bool Flooded() const;
  void Blame(const char* why);
  void Close();

  web::TlsStream& stream_;
  const ListenerLimits& limits_;
  Serve serve_;
  Note note_;
  std::unique_ptr<nghttp2_session, SessionDeleter> session_;
  std::map<int32_t, std::shared_ptr<Http2Stream>> streams_;  // whose heads have begun, by id
  std::vector<int32_t> begun_;                               // of those, who have no task yet
  size_t running_ = 0;                                       // tasks that use this
  boost::asio::steady_timer ended_;  // is cancelled when the last of them ends
  boost::asio::steady_timer watch_;
  Exchange::Deadline idle_since_ = Exchange::Clock::now();
  std::string out_;
  bool writing_ = false;
  bool closed_ = false;
  bool blamed_ = false;
  uint64_t received_ = 0;  // bytes, and those of them that said something
  uint64_t useful_ = 0;
};

}  // namespace portcullis::guard
