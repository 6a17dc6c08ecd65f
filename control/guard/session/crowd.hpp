// Connections in one state, half-open ones say, bounded in all and per source. When there is no
// room, the oldest one of the busiest source makes way: a source that floods the gate pushes out
// its own connections, and somebody whose handshake takes milliseconds gets through meanwhile.
#pragma once

#include <cstddef>
#include <functional>
#include <list>
#include <map>

#include "base/ip.hpp"

namespace portcullis::guard {

/// Not for several threads.
class Crowd {
 public:
  /// While it lives, a connection is counted. It stays where it is, so that it can be found again.
  class Place {
   public:
    /// `close` ends the connection, and comes back before this place does. The crowd outlives it.
    Place(Crowd& crowd, const Prefix& source, std::function<void()> close);
    ~Place();
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    /// It had to make way for another one, which called `close`.
    [[nodiscard]] bool evicted() const { return evicted_; }

   private:
    friend class Crowd;
    Crowd& crowd_;
    Prefix source_;
    std::function<void()> close_;
    bool evicted_ = false;
    std::list<Place*>::iterator self_;
  };

  /// Both at least 1.
  Crowd(size_t most, size_t most_per_source) : most_(most), most_per_source_(most_per_source) {}

  /// Closes all; they leave one by one.
  void CloseAll();
  [[nodiscard]] size_t size() const { return places_.size(); }

 private:
  void MakeRoomFor(const Prefix& source);
  void Remove(Place& place);

  const size_t most_;
  const size_t most_per_source_;
  std::list<Place*> places_;  // the oldest first
  std::map<Prefix, size_t> by_source_;
};

}  // namespace portcullis::guard
