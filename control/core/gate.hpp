// What control knows and how it changes. Holds the policy document, the security associations and
// the revocations; every change goes through here, one at a time: checked, accepted by the
// dataplane, stored. On each new connection the two sides are made to agree again.
//
//   gate_policy.cpp      changes of the policy
//   gate_revocation.cpp  what is denied, whatever the policy says
//   gate_keys.cpp        which peer a public key belongs to, and which tenant a resource
//   gate_registrations.cpp  which peers are registered with a protected server
//   gate_sas.cpp         security associations
//   gate_time.cpp        is the clock right
//   gate_reconcile.cpp   agreement after either side restarted
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <unordered_set>
#include <vector>

#include "base/result.hpp"
#include "control/core/denials.hpp"
#include "control/core/turn.hpp"
#include "control/events/events.hpp"
#include "control/link/link.hpp"
#include "control/model/approval.hpp"
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

  /// Who asks, and whether only to see what it would do.
  struct Wish {
    std::string operator_name;
    bool dry_run = false;
    /// Another person has agreed to this, on the policy of that generation and no other.
    std::optional<uint64_t> approved_on{};
  };

  /// To be called each second, with both clocks.
  void CheckTime(TimeGuard::Wall wall, TimeGuard::Boot boot);
  /// What the last CheckTime() said.
  [[nodiscard]] TimeVerdict clock() const { return clock_; }
  /// The operator says that the wall clock is right as it stands, whatever was seen. Stored before
  /// it counts. What was said of the clock until now.
  Result<TimeVerdict> ConfirmTime(TimeGuard::Wall wall, TimeGuard::Boot boot, const Wish& wish);

  /// What a change did, or with a dry run would do.
  struct Change {
    nlohmann::json difference;
    std::vector<model::Warning> warnings;
    uint64_t generation = 0;              // of the policy, afterwards
    bool in_force = false;                // the dataplane has it
    std::string fingerprint;              // of an SA's key
    std::optional<model::Cover> cover{};  // another person must agree
    bool held = false;                    // and nobody has: nothing was changed
  };
  using Changed = boost::asio::awaitable<Result<Change>>;

  /// `edit` makes the wanted document from the present one; it runs when it is this change's turn.
  using Edit = std::function<Result<model::Document>(const model::Document&)>;
  Changed Apply(Edit edit, Wish wish);
  /// Denies a thing, by the one who wishes it and from now on. kNotFound: no such peer or policy.
  /// Sessions that rest on it are the sessions' to end.
  Changed Revoke(model::Denial denial, Wish wish);
  /// Takes that back; nothing when it is not denied.
  Changed Readmit(model::Revocable what, Wish wish);

  /// `replaces` empty: a new one. kForbidden without `lab`.
  Changed InstallSa(model::Sa sa, std::string replaces, Wish wish);
  Changed RemoveSa(std::string id, Wish wish);
  /// What these SAs admit after registration, for so long; zero: no longer.
  boost::asio::awaitable<Result<void>> RegisterSas(std::vector<std::string> ids,
                                                   std::chrono::seconds duration);
  /// All of these that there are, for who knows their names; nothing is told of it.
  boost::asio::awaitable<Result<void>> RemoveSas(std::vector<std::string> ids);

  /// Who came with this key first: see Store.
  Result<model::SeenKey> SeeKey(const model::SeenKey& key);
  Result<std::vector<model::SeenKey>> SeenKeys(const std::string& after, uint64_t most);
  /// The next peer that comes with it has it. kNotFound: nobody had.
  Result<Change> ForgetSeenKey(const std::string& id, const Wish& wish);

  /// The resource is nobody's from now on, whatever anybody remembers of it: the epoch grows. Whose
  /// it was. kNotFound: nobody's.
  Result<model::Owner> ForgetOwner(const model::Resource& resource, const Wish& wish);

  /// The protected server has taken the peer in, or let it go: its word, as the guard heard it. In
  /// force and stored when this returns. The epoch stays: the guard keeps nothing of it. Ends by
  /// itself with the peer's right to be here: when it is removed, disabled or revoked.
  Result<void> SetRegistered(const std::string& interface, const std::string& peer,
                             bool registered);
  /// By an operator. kNotFound: it is not registered there.
  Result<Change> EndRegistration(const std::string& interface, const std::string& peer,
                                 const Wish& wish);
  [[nodiscard]] bool IsRegistered(const std::string& interface, const std::string& peer) const {
    return registrations_.contains({interface, peer});
  }
  using Registrations = Store::Registrations;
  [[nodiscard]] const Registrations& registrations() const { return registrations_; }

  /// The dataplane's view of these, as far as it has them.
  boost::asio::awaitable<Result<std::vector<steer::SaState>>> LiveSas(std::vector<std::string> ids);
  /// An SPI for an inbound SA: unpredictable, in a slot of its own beside those in use and those
  /// that `reserved` names. kExhausted when there is no slot, kUnavailable without a dataplane.
  Result<uint32_t> ChooseSpi(const std::set<uint32_t>& reserved);

  /// For DataplaneLink::Run.
  boost::asio::awaitable<Result<void>> Reconcile(const steer::HelloReply& hello);

  [[nodiscard]] bool lab() const { return lab_; }
  [[nodiscard]] const model::Document& document() const { return document_; }
  [[nodiscard]] uint64_t generation() const { return generation_; }
  [[nodiscard]] const Denials& denials() const { return denials_; }
  /// Grows whenever policy or revocations change, also when they change back, and when an operator
  /// takes a resource from its tenant. What was decided under another one must be decided again.
  [[nodiscard]] uint64_t epoch() const { return epoch_; }
  /// Called whenever that grows, by what goes on: to wake who waits for it, and nothing else.
  void OnEpoch(std::function<void()> wake) { wake_ = std::move(wake); }
  [[nodiscard]] const std::map<std::string, model::Sa>& sas() const { return sas_; }
  [[nodiscard]] std::vector<model::Warning> Warnings() const;
  /// The dataplane is there and has the stored policy.
  [[nodiscard]] bool InSync() const { return link_.ready() && in_sync_; }
  /// Why it has not, when it is there; may be empty.
  [[nodiscard]] const std::string& sync_error() const { return sync_error_; }
  [[nodiscard]] bool StoreHealthy() { return store_.Healthy(); }
  /// For what is stored but no part of what control pushes: changes that wait for approval.
  [[nodiscard]] Store& store() { return store_; }
  [[nodiscard]] DataplaneLink& link() { return link_; }
  [[nodiscard]] Events& events() { return events_; }

 private:
  template <class T>
  using Later = boost::asio::awaitable<Result<T>>;

  Later<void> Push(steer::ApplySnapshot snapshot);
  Later<void> PushRevocations();
  Later<void> PushRevocation(std::string peer, bool revoked);
  Later<bool> RevocationInForce(model::Revocable what, bool revoked);
  [[nodiscard]] model::Document Admitted(model::Document document) const;
  Later<void> TakeBackSas();
  Later<void> ResumeSas();
  Later<std::vector<steer::SaState>> ListSas(bool with_keys);
  Result<void> SasKeepTheirPeers(const model::Document& wanted) const;
  [[nodiscard]] Result<void> IsStillTheBase(const Wish& wish) const;
  Result<void> CheckSa(const model::Sa& sa, const std::string& replaces);
  Later<void> TakeOut(std::vector<std::string> ids);
  void Hold(model::Sa sa);
  void Drop(const std::string& id);
  void NoteInForce();
  [[nodiscard]] uint64_t NextGeneration() const;
  void NextEpoch();
  void DropRegistrations();

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
  Denials denials_;
  uint64_t epoch_ = 1;
  Registrations registrations_;
  std::function<void()> wake_;
  std::map<std::string, model::Sa> sas_;
  std::map<uint32_t, std::string> inbound_;  // SPI -> id, of the inbound ones in sas_
  std::unordered_set<uint32_t> slots_;       // SPI mod capacity_, of the same
  uint32_t capacity_ = 0;                    // of the dataplane, when slots_ was made; 0: never

  std::string incarnation_;  // of the dataplane that we last agreed with; empty: none yet
  uint64_t dataplane_generation_ = 0;
  bool in_sync_ = false;
  std::string sync_error_;
};

}  // namespace portcullis
