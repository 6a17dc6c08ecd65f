// What both /v1 and /metrics ask the dataplane.
#pragma once

#include <boost/asio/awaitable.hpp>

#include "control/core/gate.hpp"
#include "dataplane/steer/steer.pb.h"

namespace portcullis::rest {

boost::asio::awaitable<Result<steer::StatusReply>> ReadStatus(Gate& gate);

struct CountersWanted {
  bool workers = false;
  bool peers = false;
  bool sas = false;
};
boost::asio::awaitable<Result<steer::CountersReply>> ReadCounters(Gate& gate,
                                                                  CountersWanted wanted);

}  // namespace portcullis::rest
