#include "control/guard/session/test_gate.hpp"

#include <array>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

namespace portcullis::guard {

namespace asio = boost::asio;

asio::awaitable<void> Echo(Connection& connection) {
  std::array<char, 1024> bytes{};
  boost::system::error_code ended;
  while (!ended) {
    const size_t got = co_await connection.stream.async_read_some(
        asio::buffer(bytes), asio::redirect_error(asio::use_awaitable, ended));
    if (!ended) {
      co_await asio::async_write(connection.stream, asio::buffer(bytes, got),
                                 asio::redirect_error(asio::use_awaitable, ended));
    }
  }
}

}  // namespace portcullis::guard
