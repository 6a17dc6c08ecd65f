// What happened, for operators: a bounded ring of events, from the dataplane and from control
// itself, and a way to be woken when there is a new one. One thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

namespace portcullis {

struct Event {
  uint64_t number = 0;  // set by Publish, from 1
  std::chrono::system_clock::time_point time{};
  std::string source;  // "control" or "dataplane"
  std::string kind;
  std::string peer;           // may be empty
  std::string sa;             // may be empty
  std::string operator_name;  // may be empty
  std::string text;           // one sentence; never key material
};

class Events {
 public:
  static constexpr size_t kKept = 1024;

  Events();

  void Publish(Event event);
  /// An event of control's own.
  void Tell(std::string kind, std::string text, std::string operator_name = {},
            std::string peer = {}, std::string sa = {});

  /// Kept events with a number greater than `number`, oldest first.
  [[nodiscard]] std::vector<const Event*> After(uint64_t number) const;
  [[nodiscard]] uint64_t Last() const { return last_; }

  /// Ids look like "5f3c9a12-17": the run of this process, then the number. A client that comes
  /// back with an id of another run missed an unknown number of events, and gets all that are kept.
  [[nodiscard]] std::string IdOf(const Event& event) const;
  [[nodiscard]] uint64_t NumberOf(const std::string& id) const;
  [[nodiscard]] nlohmann::json ToJson(const Event& event) const;

  /// Calls `wake` after each Publish until the subscription is destroyed.
  class Subscription {
   public:
    Subscription(Events& events, std::function<void()> wake);
    ~Subscription();
    Subscription(const Subscription&) = delete;
    Subscription& operator=(const Subscription&) = delete;

   private:
    Events& events_;
    std::list<std::function<void()>>::iterator at_;
  };

 private:
  std::string run_;
  uint64_t last_ = 0;
  std::deque<Event> kept_;
  std::list<std::function<void()>> wakes_;
};

/// RFC 3339, UTC, milliseconds.
std::string TimeText(std::chrono::system_clock::time_point time);

}  // namespace portcullis
