#include "control/identity/token/deny_list.hpp"

#include <algorithm>
#include <mutex>

namespace portcullis::identity {

Result<void> DenyList::Add(const Denial& denial, Until until) {
  const std::unique_lock lock(mutex_);
  const auto known = entries_.find(denial);
  if (known == entries_.end()) {
    if (entries_.size() >= most_) {
      return Fail(ErrorKind::kExhausted,
                  fmt::format("the list of revoked tokens is full: {} entries", most_));
    }
    entries_.emplace(denial, until);
    epoch_.fetch_add(1, std::memory_order_release);
  } else if (!until || !known->second) {
    known->second.reset();
  } else {
    known->second = std::max(known->second, until);
  }
  return {};
}

bool DenyList::Denies(const DenialView& what) const {
  const std::shared_lock lock(mutex_);
  return entries_.contains(what);
}

void DenyList::Purge(std::chrono::system_clock::time_point now) {
  const std::unique_lock lock(mutex_);
  std::erase_if(entries_, [&](const auto& entry) { return entry.second && *entry.second < now; });
}

}  // namespace portcullis::identity
