// The latest decisions about peers, in memory, so that an operator who was given a reference or
// the name of a session can be told what became of it and why. Bounded: refusals of strangers, of
// authenticated peers, and sessions have a ring each, so that no flood of the first makes anybody
// forget the others. Nothing secret is in a decision: no key, no token. One thread.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace portcullis::admission {

struct Decision {
  enum class What : uint8_t { refused, admitted, in_force, renewed, not_confirmed, ended };

  uint64_t number = 0;  // set by Add, from 1; grows with time
  std::chrono::system_clock::time_point time{};
  What what = What::refused;
  std::string id;           // the reference that the peer was given, or the session
  std::string peer;         // its name in policy; may be empty
  std::string identity;     // what it proved to be; may be empty
  std::string interface;    // may be empty
  std::string source;       // address; may be empty
  std::string reason;       // refused: a name of identity/refusal.hpp
  std::string detail;       // why, for people
  std::string who;          // ended: the operator, "peer" or "control"
  uint64_t generation = 0;  // of a session; 0: none
  bool stranger = false;    // refused before anybody had proved anything
};

std::string_view NameOf(Decision::What what);
nlohmann::json ToJson(const Decision& decision);

class Decisions {
 public:
  static constexpr size_t kKept = 10'000;  // of each ring

  /// What it kept, number and time set.
  const Decision& Add(Decision decision);

  /// All of this reference or session, oldest first. Valid until the next Add.
  [[nodiscard]] std::vector<const Decision*> Of(const std::string& id) const;
  [[nodiscard]] bool Knows(const std::string& id) const { return !Of(id).empty(); }

  struct Filter {
    std::string peer;    // empty: any
    std::string reason;  // empty: any; a reason's name, or NameOf() of what is no refusal
  };
  /// Newest first, at most so many. Valid until the next Add.
  [[nodiscard]] std::vector<const Decision*> Newest(const Filter& filter, size_t most) const;

 private:
  using Ring = std::deque<Decision>;
  void Forget(Ring& ring);

  std::array<Ring, 3> rings_;  // references to a deque's elements survive changes at its ends
  std::map<std::pair<std::string, uint64_t>, const Decision*> by_id_;  // and by number
  uint64_t last_ = 0;
};

}  // namespace portcullis::admission
