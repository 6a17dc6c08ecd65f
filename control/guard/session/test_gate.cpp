#include "control/guard/session/test_gate.hpp"

#include <array>

#include "control/http/connection.hpp"

namespace portcullis::guard {

namespace asio = boost::asio;

asio::awaitable<void> Echo(Connection& connection) {
  std::array<char, 1024> bytes{};
  web::ErrorCode ended;
  while (!ended) {
    const auto got = co_await web::ReadSome(connection.stream, asio::buffer(bytes));
    ended = got.error;
    const std::string_view text(bytes.data(), got.bytes);
    if (!ended) ended = co_await web::Write(connection.stream, text);
  }
}

}  // namespace portcullis::guard
