// Name lookups that end in time.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <chrono>
#include <string>
#include <utility>

namespace portcullis::identity {

struct Resolved {
  boost::system::error_code error;  // beast::error::timeout: not in time
  boost::asio::ip::tcp::resolver::results_type found;
};

/// Addresses of `host` (also an address itself) and `port`, a number.
boost::asio::awaitable<Resolved> Resolve(boost::asio::any_io_executor executor, std::string host,
                                         std::string port,
                                         std::chrono::steady_clock::time_point deadline);

}  // namespace portcullis::identity
