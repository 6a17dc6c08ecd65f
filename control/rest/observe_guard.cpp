// The guard's part of the status, as it last told it, and what will run out anywhere.
#include <nlohmann/json.hpp>

#include "control/rest/observe.hpp"
#include "control/rest/routes.hpp"

namespace portcullis::rest {

using admission::Followed;
using nlohmann::json;

namespace {

json ListenersJson(const admission::Status& status) {
  json listeners = json::array();
  for (const auto& listener : status.listeners()) {
    listeners.push_back({{"port", listener.port()},
                         {"mode", listener.mode() == admission::PSK ? "psk" : "certificate"},
                         {"accepted", listener.accepted()},
                         {"authenticated", listener.authenticated()},
                         {"half_open", listener.half_open()},
                         {"open", listener.open()}});
  }
  return listeners;
}

template <class List>
json FollowedJson(const List& list) {
  json all = json::array();
  for (const Followed& followed : list) {
    json one = {{"name", followed.what()}};
    if (!followed.error().empty()) one["error"] = followed.error();
    if (followed.succeeded() != 0) {
      one["succeeded"] = TimeText(admission::GuardTime(followed.succeeded()));
    }
    all.push_back(std::move(one));
  }
  return all;
}

}  // namespace

json GuardJson(const admission::GuardState& guard) {
  json out = {{"connected", guard.connected()}};
  if (guard.since()) out["since"] = TimeText(*guard.since());
  const admission::Status* status = guard.status();
  if (status == nullptr) return out;
  out["heard"] = TimeText(guard.heard());
  out["started"] = TimeText(admission::GuardTime(status->started()));
  json refusals = json::object();
  for (const auto& count : status->refusals()) {
    if (count.value() != 0) refusals[count.name()] = count.value();
  }
  out["refusals"] = std::move(refusals);
  out["listeners"] = ListenersJson(*status);
  out["lists"] = FollowedJson(status->lists());
  out["issuers"] = FollowedJson(status->issuers());
  return out;
}

json ExpiringJson(const Alarms& alarms, std::chrono::system_clock::time_point now) {
  json all = json::array();
  for (const auto& [source, ending, told] : alarms.All()) {
    all.push_back(
        {{"where", source},
         {"what", ending.what},
         {"when", TimeText(ending.when)},
         {"alarm", told},
         {"seconds_left", std::chrono::floor<std::chrono::seconds>(ending.when - now).count()}});
  }
  return all;
}

}  // namespace portcullis::rest
