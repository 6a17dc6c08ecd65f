// What will run out, and who is told in time: certificates, anchors, revocation lists, keys that
// must be fetched again. Each thing is announced once for each threshold that it crosses, and once
// when it has ended, as an event of kind "alarm"; a new one in its place is announced again. What
// was announced is not stored: after a restart whoever operates the gate hears it once more, rather
// than never.
//
// A threshold that is more than half of a thing's own life is left out, or a list that is published
// each day would be announced each day; what lives too shortly for all of them has one at a quarter
// of its life.
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "control/events/events.hpp"

namespace portcullis {

class Alarms {
 public:
  using Time = std::chrono::system_clock::time_point;
  struct Ending {
    std::string what;
    Time since;
    Time when;
  };

  /// `thresholds` before the end.
  Alarms(Events& events, std::vector<std::chrono::hours> thresholds);

  /// All that `source` ("guard", "control") has, in place of what it said before.
  void Set(const std::string& source, std::vector<Ending> endings, Time now);
  /// What `source` could not renew: name -> why. New ones and those that are over are told.
  void SetFaults(const std::string& source, std::map<std::string, std::string> faults);
  /// To be called now and then.
  void Check(Time now);

  struct Known {
    std::string source;
    Ending ending;
    bool told = false;  // a threshold is crossed
  };
  /// The next first.
  [[nodiscard]] std::vector<Known> All() const;

 private:
  struct Watched {
    Ending ending;
    // How far it was announced: so many seconds before the end, the last one 0; the largest value:
    // not yet.
    std::chrono::seconds told = std::chrono::seconds::max();
    Time end{};  // as it was when this was first seen: a later one is another thing
  };
  [[nodiscard]] std::chrono::seconds Crossed(const Ending& ending, Time now) const;

  Events& events_;
  std::vector<std::chrono::hours> thresholds_;
  std::map<std::string, std::map<std::string, Watched>> watched_;  // by source, by what
  std::map<std::string, std::map<std::string, std::string>> faults_;
};

}  // namespace portcullis
