// How the coroutines of these daemons wait, and end with their program.
#pragma once

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <exception>

namespace portcullis {

/// co_await ...(kAwait) gives the error code beside the result; nothing is thrown.
inline constexpr auto kAwait = boost::asio::as_tuple(boost::asio::use_awaitable);

/// For co_spawn: a background task that ends in an exception would leave half a program running.
inline void Rethrow(const std::exception_ptr& failure) {
  if (failure) std::rethrow_exception(failure);
}

}  // namespace portcullis
