#include "control/events/alarms.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace portcullis {

using std::chrono::seconds;

namespace {

constexpr seconds kNotYet = seconds::max();
// By how much a time may move without being another one: some are reckoned from a clock that is
// not the wall's.
constexpr seconds kJitter{60};

std::string LeftText(seconds left) {
  using namespace std::chrono;
  if (left >= 48h) return fmt::format("{} days", duration_cast<days>(left).count());
  if (left >= 2h) return fmt::format("{} hours", duration_cast<hours>(left).count());
  return fmt::format("{} minutes", duration_cast<minutes>(left).count());
}

}  // namespace

Alarms::Alarms(Events& events, std::vector<std::chrono::hours> thresholds)
    : events_(events), thresholds_(std::move(thresholds)) {}

void Alarms::Set(const std::string& source, std::vector<Ending> endings, Time now) {
  auto& before = watched_[source];
  std::map<std::string, Watched> after;
  for (Ending& ending : endings) {
    Watched watched{std::move(ending)};
    watched.end = watched.ending.when;
    const auto known = before.find(watched.ending.what);
    if (known != before.end() && watched.end <= known->second.end + kJitter) {
      watched.told = known->second.told;
      watched.end = known->second.end;
    }
    after.insert_or_assign(watched.ending.what, std::move(watched));
  }
  before = std::move(after);
  Check(now);
}

void Alarms::SetFaults(const std::string& source, std::map<std::string, std::string> faults) {
  auto& before = faults_[source];
  for (const auto& [what, why] : faults) {
    if (!before.contains(what)) {
      events_.Tell("alarm", fmt::format("{} cannot be renewed: {}", what, why));
    }
  }
  for (const auto& [what, why] : before) {
    if (!faults.contains(what)) events_.Tell("alarm_over", what + " was renewed");
  }
  before = std::move(faults);
}

seconds Alarms::Crossed(const Ending& ending, Time now) const {
  if (ending.when <= now) return seconds(0);
  const auto life = ending.when - ending.since;
  seconds crossed = kNotYet;
  bool any = false;
  for (const auto threshold : thresholds_) {
    if (threshold > life / 2) continue;
    any = true;
    if (ending.when - now <= threshold) crossed = std::min<seconds>(crossed, threshold);
  }
  if (!any && ending.when - now <= life / 4) {
    crossed = std::max(seconds(1), std::chrono::floor<seconds>(life / 4));
  }
  return crossed;
}

void Alarms::Check(Time now) {
  for (auto& [source, all] : watched_) {
    for (auto& [what, watched] : all) {
      const seconds crossed = Crossed(watched.ending, now);
      if (crossed >= watched.told) continue;
      watched.told = crossed;
      const std::string at = TimeText(watched.ending.when);
      const auto left = std::chrono::floor<seconds>(watched.ending.when - now);
      events_.Tell("alarm",
                   crossed == seconds(0)
                       ? fmt::format("{}: {} ended at {}", source, what, at)
                       : fmt::format("{}: {} ends in {}, at {}", source, what, LeftText(left), at));
    }
  }
}

std::vector<Alarms::Known> Alarms::All() const {
  std::vector<Known> known;
  for (const auto& [source, all] : watched_) {
    for (const auto& [what, watched] : all)
      known.push_back({source, watched.ending, watched.told != kNotYet});
  }
  std::ranges::sort(known, {}, [](const Known& k) { return k.ending.when; });
  return known;
}

}  // namespace portcullis
