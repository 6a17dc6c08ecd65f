#include "control/identity/token/resolve.hpp"
#include "control/coroutines.hpp"

#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/error.hpp>
#include <memory>

namespace portcullis::identity {

namespace asio = boost::asio;
using asio::ip::tcp;

// A lookup cannot be broken off: it runs in a thread of its own, and is left behind when it is
// late.
asio::awaitable<Resolved> Resolve(asio::any_io_executor executor, std::string host,
                                  std::string port,
                                  std::chrono::steady_clock::time_point deadline) {
  struct Lookup {
    tcp::resolver resolver;
    asio::steady_timer late;
    Resolved result{boost::beast::error::timeout, {}};
  };
  auto lookup = std::make_shared<Lookup>(
      Lookup{tcp::resolver(executor), asio::steady_timer(executor, deadline)});
  lookup->resolver.async_resolve(
      host, port, [lookup](boost::system::error_code error, tcp::resolver::results_type found) {
        lookup->result = {error, std::move(found)};
        lookup->late.cancel();
      });
  co_await lookup->late.async_wait(kAwait);
  co_return lookup->result;
}

}  // namespace portcullis::identity
