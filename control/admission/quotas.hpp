// How often each tenant used an operation lately, against what policy gives it. In any time as long
// as a quota's there are no more uses than it says: each use is remembered for as long as it
// counts. In memory: a restart forgets them. One thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "control/model/types.hpp"

namespace portcullis::admission {

class Quotas {
 public:
  using Clock = std::chrono::steady_clock;

  /// Whose a use is. A peer without a tenant counts by itself.
  struct Whose {
    std::string tenant;  // empty: the peer's own
    std::string peer;
    std::string interface;
  };
  /// Null: all of these had room, and this use counts for each operation among them. Else the one
  /// that is used up, and nothing counts.
  const model::Quota* Take(const Whose& whose, const std::vector<const model::Quota*>& quotas,
                           Clock::time_point now);
  /// Forgets what counts no more.
  void Prune(Clock::time_point now);

  [[nodiscard]] size_t remembered() const { return uses_.size(); }

 private:
  using Key = std::tuple<std::string, std::string, std::string, std::string>;
  struct Uses {
    std::deque<Clock::time_point> at;  // oldest first
    std::chrono::seconds longest{};    // of the quotas that they count for
  };
  static Key KeyOf(const Whose& whose, const std::string& operation);

  std::map<Key, Uses> uses_;
};

}  // namespace portcullis::admission
