#include "control/admission/quotas.hpp"

#include <algorithm>

namespace portcullis::admission {

using std::chrono::seconds;

Quotas::Key Quotas::KeyOf(const Whose& whose, const std::string& operation) {
  return {whose.tenant, whose.tenant.empty() ? whose.peer : std::string(), whose.interface,
          operation};
}

const model::Quota* Quotas::Take(const Whose& whose, const std::vector<const model::Quota*>& quotas,
                                 Clock::time_point now) {
  std::map<std::string, seconds> longest;  // of each operation
  for (const model::Quota* quota : quotas) {
    seconds& of = longest[quota->operation];
    of = std::max(of, seconds(quota->seconds));
    const auto used = uses_.find(KeyOf(whose, quota->operation));
    if (used == uses_.end() || used->second.at.size() < quota->count) continue;
    // Full, if the use that many before the next one still counts.
    const auto& at = used->second.at;
    if (now - at[at.size() - quota->count] < seconds(quota->seconds)) return quota;
  }
  for (const auto& [operation, time] : longest) {
    Uses& uses = uses_[KeyOf(whose, operation)];
    uses.longest = time;
    while (!uses.at.empty() && now - uses.at.front() >= time) uses.at.pop_front();
    uses.at.push_back(now);
  }
  return nullptr;
}

void Quotas::Prune(Clock::time_point now) {
  std::erase_if(uses_,
                [&](const auto& use) { return now - use.second.at.back() >= use.second.longest; });
}

}  // namespace portcullis::admission
