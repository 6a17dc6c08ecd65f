// What control knows and how it changes. Holds the policy document, the security associations and
// the revocations; every change goes through here, one at a time: checked, accepted by the
// dataplane, stored. On each new connection the two sides are made to agree again.
//
//   gate_policy.cpp     changes of the policy, revocation
//   gate_sas.cpp        security associations
//   gate_time.cpp       is the clock right
//   gate_reconcile.cpp  agreement after either side restarted
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "control/core/turn.hpp"
#include "control/events/events.hpp"
#include "control/link/link.hpp"
#include "control/model/sa.hpp"
#include "control/model/types.hpp"
#include "control/registry/store.hpp"

namespace portcullis {

class Gate {
 public:
  /// `lab` admits keys installed by hand and less protection than interfaces ask for.
  Gate(boost::asio::any_io_executor executor, bool lab, Store store, Events& events,
       DataplaneLink& link);

  /// Takes what is stored. Refuses a policy that this configuration no longer admits. `boot_id`: of
  /// this boot, for the time guard.
  Result<void> Load(const std::string& boot_id);

  /// To be called each second, with both clocks.
  void CheckTime(TimeGuard::Wall wall, TimeGuard::Boot boot);
  /// What the last CheckTime() said.
  [[nodiscard]] TimeVerdict clock() const { return clock_; }

  /// What a change did, or with a dry run would do.
  struct Change {
    nlohmann::json difference;
    std::vector<model::Warning> warnings;
    uint64_t generation = 0;  // of the policy, afterwards
    bool in_force = false;    // the dataplane has it
    std::string fingerprint;  // of an SA's key
  };
  using Changed = boost::asio::awaitable<Result<Change>>;

  /// Who asks, and whether only to see what it would do.
  struct Wish {
    std::string operator_name;
    bool dry_run = false;
  };

  /// `edit` makes the wanted document from the present one; it runs when it is this change's turn.
  using Edit = std::function<Result<model::Document>(const model::Document&)>;
  Changed Apply(Edit edit, Wish wish);
  Changed Revoke(std::string peer, bool revoked, Wish wish);

  /// `replaces` empty: a new one. kForbidden without `lab`.
  Changed InstallSa(model::Sa sa, std::string replaces, Wish wish);
  Changed RemoveSa(std::string id, Wish wish);

  /// The dataplane's view of these, as far as it has them.
  boost::asio::awaitable<Result<std::vector<steer::SaState>>> LiveSas(std::vector<std::string> ids);
  /// An SPI for an inbound SA: unpredictable, in a slot of its own beside those in use and those
  /// that `reserved` names. kExhausted when there is no slot, kUnavailable without a dataplane.
  Result<uint32_t> ChooseSpi(const std::set<uint32_t>& reserved) const;

  /// For DataplaneLink::Run.
  boost::asio::awaitable<Result<void>> Reconcile(const steer::HelloReply& hello);

  [[nodiscard]] bool lab() const { return lab_; }
  [[nodiscard]] const model::Document& document() const { return document_; }
  [[nodiscard]] uint64_t generation() const { return generation_; }
  [[nodiscard]] const std::set<std::string>& revoked() const { return revoked_; }
  /// Grows whenever policy or revocations change, also when they change back. What was decided
  /// under another one must be decided again.
  [[nodiscard]] uint64_t epoch() const { return epoch_; }
  /// The peer is revoked, or was since that epoch, perhaps for a moment only.
  [[nodiscard]] bool RevokedSince(const std::string& peer, uint64_t epoch) const {
    const auto last = revoked_at_.find(peer);
    return revoked_.contains(peer) || (last != revoked_at_.end() && last->second > epoch);
  }
  [[nodiscard]] const std::map<std::string, model::Sa>& sas() const { return sas_; }
  [[nodiscard]] std::vector<model::Warning> Warnings() const;
  /// The dataplane is there and has the stored policy.
  [[nodiscard]] bool InSync() const { return link_.ready() && in_sync_; }
  /// Why it has not, when it is there; may be empty.
  [[nodiscard]] const std::string& sync_error() const { return sync_error_; }
  [[nodiscard]] bool StoreHealthy() { return store_.Healthy(); }
  [[nodiscard]] DataplaneLink& link() { return link_; }
  [[nodiscard]] Events& events() { return events_; }

 private:
  template <class T>
  using Later = boost::asio::awaitable<Result<T>>;

  Later<void> Push(steer::ApplySnapshot snapshot);
  Later<void> PushRevocations();
  Later<void> TakeBackSas();
  Later<void> ResumeSas();
  Later<std::vector<steer::SaState>> ListSas(bool with_keys);
  Result<void> SasKeepTheirPeers(const model::Document& wanted) const;
  Result<void> CheckSa(const model::Sa& sa, const std::string& replaces);
  void Hold(model::Sa sa);
  void Drop(const std::string& id);
  void NoteInForce();
  [[nodiscard]] uint64_t NextGeneration() const;

  bool lab_;
  Store store_;
  Events& events_;
  DataplaneLink& link_;
  Turn turn_;
  TimeGuard time_guard_{{}, {}, {}};
  TimeVerdict clock_ = TimeVerdict::ok;
  TimeGuard::Boot pruned_{0};  // when revocations were last forgotten

  model::Document document_;
  uint64_t generation_ = 0;
  std::vector<model::Warning> policy_warnings_;
  std::set<std::string> revoked_;
  uint64_t epoch_ = 1;
  std::map<std::string, uint64_t> revoked_at_;  // epochs, since this process began
  std::map<std::string, model::Sa> sas_;
  std::map<uint32_t, std::string> inbound_;  // SPI -> id, of the inbound ones in sas_

  std::string incarnation_;  // of the dataplane that we last agreed with; empty: none yet
  uint64_t dataplane_generation_ = 0;
  bool in_sync_ = false;
  std::string sync_error_;
};

}  // namespace portcullis
