// One request of an HTTP/2 connection and its answer (RFC 9113).
#pragma once

#include <nghttp2/nghttp2.h>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "control/guard/request/exchange.hpp"

namespace portcullis::guard {

/// What the streams of a connection share.
class Http2Wire {
 public:
  Http2Wire() = default;
  Http2Wire(const Http2Wire&) = delete;
  Http2Wire& operator=(const Http2Wire&) = delete;
  virtual ~Http2Wire() = default;

  [[nodiscard]] virtual nghttp2_session* session() const = 0;
  /// All that there is to send is sent then, or somebody else is about it.
  virtual boost::asio::awaitable<void> Flush() = 0;
  virtual void FlushSoon() = 0;
};

/// Its head comes field by field: Take(), then Conclude().
class Http2Stream final : public Exchange {
 public:
  Http2Stream(Http2Wire& wire, int32_t id, const boost::asio::any_io_executor& executor)
      : wire_(wire), id_(id), changed_(executor) {}

  [[nodiscard]] bool unread() const override { return !ended_ || !in_.empty(); }
  boost::asio::awaitable<Step<void>> GoOn() override;
  boost::asio::awaitable<Step<size_t>> Read(boost::asio::mutable_buffer room,
                                            Deadline deadline) override;
  void Answer(const AnswerHead& answer) override;
  boost::asio::awaitable<bool> Write(std::string_view bytes, bool last) override;
  void Abandon() override { Reset(NGHTTP2_INTERNAL_ERROR); }

  // ---- what the client sends

  void Take(std::string_view name, std::string_view value);
  /// What makes it no request, as HTTP/1.1 knows them; the first counts.
  void Blame(std::string fault);
  /// The head is whole. As HTTP/1.1 it must have one meaning.
  void Conclude(bool has_body);
  void Data(std::string_view bytes);
  void End();     // of the request
  void Closed();  // nghttp2 has forgotten it, or the connection has ended

  /// It is answered: what the client still sends of it is not wanted (RFC 9113 8.1).
  void Leave();

  [[nodiscard]] bool whole() const { return whole_; }
  [[nodiscard]] Deadline begun() const { return begun_; }
  [[nodiscard]] std::optional<Stopped> fault() const;

 private:
  void Reset(uint32_t why);
  boost::asio::awaitable<void> Changed(Deadline until);
  static ssize_t Out(nghttp2_session* session, int32_t id, uint8_t* room, size_t size,
                     uint32_t* flags, nghttp2_data_source* source, void* user);

  Http2Wire& wire_;
  int32_t id_;
  boost::asio::steady_timer changed_;
  Deadline begun_ = Clock::now();
  bool whole_ = false;
  bool ended_ = false;
  bool closed_ = false;
  std::optional<std::string> fault_;
  std::optional<std::string> authority_;
  std::optional<std::string> host_;
  size_t head_bytes_ = 0;
  std::string in_;   // of the body, not read yet
  std::string out_;  // of the answer's, not sent yet
  bool last_ = false;
  bool last_sent_ = false;
};

}  // namespace portcullis::guard
