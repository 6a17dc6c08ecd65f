#include "control/admission/decisions.hpp"

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>

#include "control/events/events.hpp"

namespace portcullis::admission {

using nlohmann::json;
using What = Decision::What;

namespace {

constexpr size_t kStrangers = 0;
constexpr size_t kPeers = 1;
constexpr size_t kSessions = 2;

size_t RingOf(const Decision& decision) {
  if (decision.what != What::refused) return kSessions;
  return decision.stranger ? kStrangers : kPeers;
}

bool Fits(const Decision& decision, const Decisions::Filter& filter) {
  const std::string_view reason =
      decision.what == What::refused ? std::string_view(decision.reason) : NameOf(decision.what);
  return (filter.peer.empty() || filter.peer == decision.peer) &&
         (filter.reason.empty() || filter.reason == reason);
}

}  // namespace

std::string_view NameOf(What what) {
  static constexpr std::array<std::string_view, 6> kNames{
      "refused", "admitted", "in_force", "renewed", "not_confirmed", "ended"};  // the enum's order
  return kNames[static_cast<size_t>(what)];
}

json ToJson(const Decision& d) {
  json out = {{"id", d.id}, {"time", TimeText(d.time)}, {"what", NameOf(d.what)}};
  const auto text = [&](const char* name, const std::string& value) {
    if (!value.empty()) out[name] = value;
  };
  text("peer", d.peer);
  text("identity", d.identity);
  text("interface", d.interface);
  text("source", d.source);
  text("reason", d.reason);
  text("detail", d.detail);
  text("who", d.who);
  if (d.generation != 0) out["generation"] = d.generation;
  return out;
}

const Decision& Decisions::Add(Decision decision) {
  decision.number = ++last_;
  decision.time = std::chrono::system_clock::now();
  Ring& ring = rings_[RingOf(decision)];
  if (ring.size() >= kKept) Forget(ring);
  const Decision& kept = ring.emplace_back(std::move(decision));
  by_id_.emplace(std::pair(kept.id, kept.number), &kept);
  return kept;
}

void Decisions::Forget(Ring& ring) {
  by_id_.erase({ring.front().id, ring.front().number});
  ring.pop_front();
}

std::vector<const Decision*> Decisions::Of(const std::string& id) const {
  std::vector<const Decision*> all;
  for (auto at = by_id_.lower_bound({id, 0}); at != by_id_.end() && at->first.first == id; ++at) {
    all.push_back(at->second);
  }
  return all;
}

std::vector<const Decision*> Decisions::Newest(const Filter& filter, size_t most) const {
  std::vector<const Decision*> all;
  for (const Ring& ring : rings_) {
    size_t found = 0;
    for (auto d = ring.rbegin(); d != ring.rend() && found < most; ++d) {
      if (!Fits(*d, filter)) continue;
      all.push_back(&*d);
      ++found;
    }
  }
  std::ranges::sort(all, std::greater(), &Decision::number);
  if (all.size() > most) all.resize(most);
  return all;
}

}  // namespace portcullis::admission
