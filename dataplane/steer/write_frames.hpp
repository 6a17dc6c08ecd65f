// How frames that wait for a socket leave: all together.
#pragma once

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <cstddef>
#include <deque>
#include <vector>

#include "dataplane/steer/frame.hpp"

namespace portcullis::steer {

/// Until nothing waits in `out` any more, the socket is closed, or an error, which it returns. What
/// is added meanwhile goes as well. Both outlive it.
template <class Socket>
boost::asio::awaitable<boost::system::error_code> WriteFrames(Socket& socket,
                                                              std::deque<FrameBytes>& out) {
  namespace asio = boost::asio;
  // Whoever else has something to say in this turn says it first: one system call for all of them.
  co_await asio::post(socket.get_executor(), asio::use_awaitable);
  std::vector<asio::const_buffer> together;
  while (socket.is_open() && !out.empty()) {
    together.clear();
    for (const FrameBytes& frame : out) together.push_back(asio::buffer(frame));
    const auto [error, put] =
        co_await asio::async_write(socket, together, asio::as_tuple(asio::use_awaitable));
    if (error) co_return error;
    out.erase(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(together.size()));
  }
  co_return boost::system::error_code{};
}

}  // namespace portcullis::steer
