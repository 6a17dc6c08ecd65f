// Asio's addresses as ours: an IPv4 address that an IPv6 socket shows as mapped is the same one.
#pragma once

#include <boost/asio/ip/address.hpp>

#include "base/ip.hpp"

namespace portcullis::guard {

inline Address ToAddress(const boost::asio::ip::address& address) {
  return address.is_v4() ? Address::V4(address.to_v4().to_bytes().data())
                         : Address::V6(address.to_v6().to_bytes().data());
}

}  // namespace portcullis::guard
