#include "control/guard/session/crowd.hpp"

#include <algorithm>
#include <utility>

namespace portcullis::guard {

Crowd::Place::Place(Crowd& crowd, const Prefix& source, std::function<void()> close)
    : crowd_(crowd), source_(source), close_(std::move(close)) {
  crowd_.MakeRoomFor(source_);
  self_ = crowd_.places_.insert(crowd_.places_.end(), this);
  ++crowd_.by_source_[source_];
}

Crowd::Place::~Place() {
  if (!evicted_) crowd_.Remove(*this);
}

void Crowd::Remove(Place& place) {
  places_.erase(place.self_);
  const auto count = by_source_.find(place.source_);
  if (--count->second == 0) by_source_.erase(count);
}

void Crowd::MakeRoomFor(const Prefix& source) {
  const auto own = by_source_.find(source);
  const bool source_full = own != by_source_.end() && own->second >= most_per_source_;
  if (!source_full && places_.size() < most_) return;
  // Among equally busy sources, the oldest connection: the newest is the likeliest to be honest.
  size_t busiest = 0;
  for (const auto& [_, count] : by_source_) busiest = std::max(busiest, count);
  const auto victim = std::find_if(places_.begin(), places_.end(), [&](const Place* place) {
    return source_full ? place->source_ == source : by_source_[place->source_] == busiest;
  });
  Place& place = **victim;
  Remove(place);
  place.evicted_ = true;
  place.close_();
}

void Crowd::CloseAll() {
  for (Place* place : places_) place->close_();
}

}  // namespace portcullis::guard
