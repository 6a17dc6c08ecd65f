// What is revoked now, and since which epoch. An epoch is a number that grows whenever policy or
// revocations change: what was decided under an older one is decided again before it is acted on.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "control/model/denial.hpp"

namespace portcullis {

class Denials {
 public:
  void Deny(model::Denial denial, uint64_t epoch) {
    latest_[denial.what] = epoch;
    now_.insert_or_assign(denial.what, std::move(denial));
  }
  void Admit(const model::Revocable& what) { now_.erase(what); }
  /// In place of what is denied now, when some of it has expired.
  void Replace(std::vector<model::Denial> denials) {
    now_.clear();
    for (auto& denial : denials) now_.insert_or_assign(denial.what, std::move(denial));
  }

  [[nodiscard]] bool Has(const model::Revocable& what) const { return now_.contains(what); }
  /// The first of these that is denied, or was after that epoch, perhaps for a moment only. Null:
  /// none.
  [[nodiscard]] const model::Revocable* FirstSince(std::span<const model::Revocable> of,
                                                   uint64_t epoch) const {
    for (const auto& what : of) {
      const auto last = latest_.find(what);
      if (now_.contains(what) || (last != latest_.end() && last->second > epoch)) return &what;
    }
    return nullptr;
  }

  [[nodiscard]] const std::map<model::Revocable, model::Denial>& now() const { return now_; }
  [[nodiscard]] std::vector<std::string> Peers() const {
    std::vector<std::string> names;
    for (const auto& [what, denial] : now_) {
      if (what.kind == model::Revocable::Kind::peer) names.push_back(what.id);
    }
    return names;
  }

 private:
  std::map<model::Revocable, model::Denial> now_;
  std::map<model::Revocable, uint64_t> latest_;  // since this process began
};

}  // namespace portcullis
