// Sends records to a remote log (RFC 5424), over UDP (RFC 5426) or TCP (RFC 6587, octet counting).
// It never makes anybody wait: what cannot be sent now waits in a bounded queue (TCP) or is lost
// (UDP), and loss is counted. What a network loses on its way is not. One thread.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <deque>
#include <string>

namespace portcullis {

class Syslog {
 public:
  enum class Transport { udp, tcp };
  struct Settings {
    boost::asio::ip::address address;
    uint16_t port = 514;
    Transport transport = Transport::udp;
  };
  static constexpr size_t kMostQueued = 1024;

  Syslog(const boost::asio::any_io_executor& executor, Settings settings);

  /// Facility 13 (log audit), severity notice.
  void Send(std::chrono::system_clock::time_point time, const std::string& text);
  /// Keeps the TCP connection and sends what is queued, until Stop(). Returns at once for UDP.
  boost::asio::awaitable<void> Run();
  void Stop();

  [[nodiscard]] uint64_t lost() const { return lost_; }

 private:
  [[nodiscard]] std::string MessageOf(std::chrono::system_clock::time_point time,
                                      const std::string& text) const;
  void SendUdp(const std::string& message);
  boost::asio::awaitable<bool> SendQueued();

  Settings settings_;
  std::string host_;
  boost::asio::ip::udp::socket udp_;
  boost::asio::ip::tcp::socket tcp_;
  boost::asio::steady_timer wake_;
  std::deque<std::string> queue_;  // framed
  uint64_t lost_ = 0;
  bool ends_ = false;
};

}  // namespace portcullis
