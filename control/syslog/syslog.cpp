#include "control/syslog/syslog.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/write.hpp>

#include "control/coroutines.hpp"
#include "control/events/events.hpp"

namespace portcullis {

namespace asio = boost::asio;
using asio::ip::tcp;
using asio::ip::udp;

namespace {

constexpr std::chrono::milliseconds kFirstPause{250};
constexpr std::chrono::milliseconds kLongestPause{30'000};

// RFC 5424 6.2.4: printable ASCII without blanks, at most 255; "-" when unknown.
std::string HostName() {
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) != 0) return "-";
  const std::string text(name.data());
  const bool plain = !text.empty() && std::all_of(text.begin(), text.end(),
                                                  [](char c) { return c > ' ' && c < 127; });
  return plain ? text : "-";
}

// Somebody who went away is noticed before a message is given to the void.
bool PeerIsGone(tcp::socket& socket) {
  std::array<char, 1> byte{};
  boost::system::error_code error;
  socket.non_blocking(true, error);
  socket.receive(asio::buffer(byte), tcp::socket::message_peek, error);
  return error && error != asio::error::would_block && error != asio::error::try_again;
}

}  // namespace

Syslog::Syslog(const asio::any_io_executor& executor, Settings settings)
    : settings_(std::move(settings)),
      host_(HostName()),
      udp_(executor),
      tcp_(executor),
      wake_(executor) {}

std::string Syslog::MessageOf(std::chrono::system_clock::time_point time,
                              const std::string& text) const {
  constexpr int kAuditNotice = 13 * 8 + 5;  // RFC 5424 6.2.1
  return fmt::format("<{}>1 {} {} portcullis-control {} audit - {}", kAuditNotice, TimeText(time),
                     host_, getpid(), text);
}

void Syslog::Send(std::chrono::system_clock::time_point time, const std::string& text) {
  const std::string message = MessageOf(time, text);
  if (settings_.transport == Transport::udp) return SendUdp(message);
  if (queue_.size() >= kMostQueued) {
    ++lost_;
    return;
  }
  queue_.push_back(fmt::format("{} {}", message.size(), message));
  wake_.cancel();
}

void Syslog::SendUdp(const std::string& message) {
  const udp::endpoint to(settings_.address, settings_.port);
  boost::system::error_code error;
  if (!udp_.is_open()) {
    udp_.open(to.protocol(), error);
    if (!error) udp_.non_blocking(true, error);
  }
  if (!error) udp_.send_to(asio::buffer(message), to, 0, error);
  if (error) ++lost_;
}

// True: nothing is queued any more. False: the connection is broken; what was not sent as a whole
// is sent again on the next one.
asio::awaitable<bool> Syslog::SendQueued() {
  while (!queue_.empty()) {
    if (PeerIsGone(tcp_)) co_return false;
    const std::string message = queue_.front();
    const auto [failed, sent] = co_await asio::async_write(tcp_, asio::buffer(message), kAwait);
    if (failed) co_return false;
    queue_.pop_front();
  }
  co_return true;
}

asio::awaitable<void> Syslog::Run() {
  if (settings_.transport == Transport::udp) co_return;
  auto pause = kFirstPause;
  while (!ends_) {
    const auto [refused] = co_await tcp_.async_connect({settings_.address, settings_.port}, kAwait);
    if (!refused) {
      pause = kFirstPause;
      while (!ends_ && co_await SendQueued()) {
        wake_.expires_at(asio::steady_timer::time_point::max());
        // Woken by the next message: what ends the wait is no failure.
        if (queue_.empty() && !ends_) co_await wake_.async_wait(kAwait);
      }
    }
    boost::system::error_code ignored;
    tcp_.close(ignored);
    if (ends_) co_return;
    spdlog::warn("the remote log {} port {} cannot be reached; {} records wait",
                 settings_.address.to_string(), settings_.port, queue_.size());
    const auto again = std::chrono::steady_clock::now() + pause;
    while (!ends_ && std::chrono::steady_clock::now() < again) {  // messages wake the timer, too
      wake_.expires_at(again);
      co_await wake_.async_wait(kAwait);
    }
    pause = std::min(2 * pause, kLongestPause);
  }
}

void Syslog::Stop() {
  ends_ = true;
  boost::system::error_code ignored;
  tcp_.close(ignored);
  wake_.cancel();
}

}  // namespace portcullis
