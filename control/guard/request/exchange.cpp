#include "control/guard/request/exchange.hpp"

#include <array>

namespace portcullis::guard {

namespace asio = boost::asio;

tl::unexpected<Stopped> TooLarge(const char* what, size_t most) {
  return StopFor(Error{ErrorKind::kInvalid,
                       std::string(what) + " is too large",
                       {},
                       fmt::format("at most {} bytes", most),
                       "more"});
}

Step<void> CheckHasNoNeedlessBody(const Exchange& exchange) {
  const std::string& method = exchange.head().method;
  const bool may_have_one = method != "GET" && method != "HEAD" && method != "DELETE";
  if (!exchange.unread() || may_have_one) return {};
  return StopFor(Error{ErrorKind::kInvalid,
                       "a body where the method has none",
                       {},
                       "no body",
                       method + " with one"});
}

asio::awaitable<Step<std::string>> ReadAll(Exchange& exchange, size_t most,
                                           std::chrono::milliseconds time) {
  constexpr const char* kWhat = "the body, which is read to decide,";
  constexpr size_t kAtOnce = 4096;
  const auto length = exchange.head().body.bytes;
  if (length && *length > most) co_return TooLarge(kWhat, most);
  if (auto going = co_await exchange.GoOn(); !going) co_return tl::unexpected(going.error());
  const auto deadline = Exchange::Clock::now() + time;
  std::string all;
  std::array<char, kAtOnce> piece{};
  for (;;) {
    const auto got = co_await exchange.Read(asio::buffer(piece), deadline);
    if (!got) co_return tl::unexpected(got.error());
    if (*got == 0) co_return all;
    all.append(piece.data(), *got);
    if (all.size() > most) co_return TooLarge(kWhat, most);
  }
}

}  // namespace portcullis::guard
