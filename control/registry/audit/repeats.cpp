#include "control/registry/audit/repeats.hpp"

namespace portcullis::audit {

bool Repeats::Singly(const std::string& kind, Clock::time_point now) {
  Minute& minute = minutes_.try_emplace(kind, Minute{now, 0}).first->second;
  return ++minute.seen <= most_;
}

std::vector<Repeats::Count> Repeats::Over(Clock::time_point now) {
  std::vector<Count> counts;
  std::erase_if(minutes_, [&](const auto& entry) {
    const auto& [kind, minute] = entry;
    if (now - minute.began < kWindow) return false;
    if (minute.seen > most_) counts.push_back({kind, minute.seen - most_});
    return true;
  });
  return counts;
}

}  // namespace portcullis::audit
