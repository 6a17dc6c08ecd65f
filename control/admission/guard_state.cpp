#include "control/admission/guard_state.hpp"

#include <algorithm>

#include "control/identity/refusal.hpp"

namespace portcullis::admission {

using std::chrono::system_clock;

namespace {

constexpr int kMostEndings = 100;
constexpr int kMostFollowed = 40;
constexpr int kMostListeners = 64;
constexpr size_t kMostText = 512;

template <class List>
void Cut(List& list, int most) {
  if (list.size() > most) list.DeleteSubrange(most, list.size() - most);
}

// Labels of metrics come from here, so only names that exist.
void KeepReasons(Status& status) {
  Status kept;
  for (const Count& count : status.refusals()) {
    const bool known = std::ranges::any_of(
        identity::kReasons, [&](const auto& reason) { return reason.name == count.name(); });
    const bool twice = std::ranges::any_of(
        kept.refusals(), [&](const Count& other) { return other.name() == count.name(); });
    if (known && !twice) *kept.add_refusals() = count;
  }
  status.mutable_refusals()->Swap(kept.mutable_refusals());
}

template <class List>
void CheckFollowed(List& list) {
  Cut(list, kMostFollowed);
  for (Followed& followed : list) {
    followed.set_what(Plain(followed.what()));
    followed.set_error(Plain(followed.error()));
  }
}

}  // namespace

std::string Plain(std::string_view text) {
  std::string plain(text.substr(0, kMostText));
  std::ranges::replace_if(
      plain, [](unsigned char c) { return c < ' ' || c == 127; }, '?');
  return plain;
}

system_clock::time_point GuardTime(uint64_t seconds) {
  constexpr uint64_t kLatest = uint64_t{1} << 33U;
  return system_clock::time_point(std::chrono::seconds(std::min(seconds, kLatest)));
}

void GuardState::Connected() {
  ++connections_;
  since_ = system_clock::now();
}

void GuardState::Gone() {
  if (--connections_ == 0) since_.reset();
}

void GuardState::Take(const Status& status) {
  status_ = status;
  heard_ = system_clock::now();
  KeepReasons(*status_);
  Cut(*status_->mutable_expiring(), kMostEndings);
  Cut(*status_->mutable_listeners(), kMostListeners);
  CheckFollowed(*status_->mutable_lists());
  CheckFollowed(*status_->mutable_issuers());
  std::vector<Alarms::Ending> endings;
  for (Expiring& ending : *status_->mutable_expiring()) {
    ending.set_what(Plain(ending.what()));
    endings.push_back({ending.what(), GuardTime(ending.since()), GuardTime(ending.when())});
  }
  alarms_.Set("guard", std::move(endings), heard_);
  std::map<std::string, std::string> faults;
  for (const Followed& list : status_->lists()) {
    if (!list.error().empty()) faults["revocation list " + list.what()] = list.error();
  }
  for (const Followed& issuer : status_->issuers()) {
    if (!issuer.error().empty()) faults["key set of " + issuer.what()] = issuer.error();
  }
  alarms_.SetFaults("guard", std::move(faults));
}

}  // namespace portcullis::admission
