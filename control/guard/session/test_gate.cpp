#include "control/guard/session/test_gate.hpp"

#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

namespace portcullis::guard {

boost::asio::awaitable<void> Echo(Connection& connection) {
  constexpr auto kAwait = boost::asio::as_tuple(boost::asio::use_awaitable);
  std::array<char, 1024> bytes{};
  for (;;) {
    const auto [ended, got] =
        co_await connection.stream.async_read_some(boost::asio::buffer(bytes), kAwait);
    if (ended) co_return;
    co_await boost::asio::async_write(connection.stream, boost::asio::buffer(bytes, got), kAwait);
  }
}

}  // namespace portcullis::guard
