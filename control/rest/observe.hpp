// What both /v1 and /metrics ask the dataplane, and what the guard has told.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <nlohmann/json_fwd.hpp>

#include "control/admission/guard_state.hpp"
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

/// Server-sent events, one for each; empty when there are none.
std::string DropsText(const std::vector<steer::Drop>& drops);

/// As it last told; what it told stays when it goes.
nlohmann::json GuardJson(const admission::GuardState& guard);
/// What is not valid for ever, of guard and control, the next first.
nlohmann::json ExpiringJson(const Alarms& alarms, std::chrono::system_clock::time_point now);

}  // namespace portcullis::rest
