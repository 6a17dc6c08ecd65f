// What control must not forget: the policy and its generation, what is revoked, until when time was
// seen to go, whose the resources of protected servers are, and the fingerprint of every key that
// was ever used (the same key twice would repeat AES-GCM nonces). Never a key itself. One SQLite
// file in WAL mode, 0600, held exclusively while control runs. Everything here is called from one
// thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/result.hpp"
#include "control/model/approval.hpp"
#include "control/model/denial.hpp"
#include "control/model/held_request.hpp"
#include "control/model/owner.hpp"
#include "control/model/seen_key.hpp"
#include "control/model/time_guard.hpp"
#include "control/model/types.hpp"
#include "control/model/used_token.hpp"

struct sqlite3;

namespace portcullis {

class Statement;

class Store {
 public:
  struct Policy {
    uint64_t generation = 0;  // 0: nothing was ever stored
    model::Document document;
  };
  /// Which policy which dataplane process had last; empty incarnation: none yet.
  struct InForce {
    std::string incarnation;
    uint64_t generation = 0;
  };

  /// Creates the file when there is none. A file that is not ours, is damaged, or comes from a
  /// newer version is refused, and left as it is.
  static Result<Store> Open(const std::string& path);
  Store(Store&&) noexcept;
  Store& operator=(Store&&) noexcept;
  ~Store();

  Result<Policy> ReadPolicy();
  /// Replaces the policy in one transaction. `generation` is greater than the stored one.
  Result<void> WritePolicy(const Policy& policy);

  Result<InForce> ReadInForce();
  Result<void> WriteInForce(const InForce& in_force);

  // ---- what is revoked (store_denied.cpp)

  /// Grows with each change of what is denied, over restarts: whoever decided under an older one
  /// decides again before he acts. What Prune() forgets has expired anyway and changes nothing.
  Result<uint64_t> RevocationEpoch();
  /// Denying what is denied already can make it last longer, never shorter. The new epoch.
  Result<uint64_t> Deny(const model::Denial& denial);
  /// Takes a revocation back, where there is one. The new epoch.
  Result<uint64_t> Admit(const model::Revocable& what);
  /// In order of kind, issuer, id.
  Result<std::vector<model::Denial>> ReadDenied();
  Result<bool> IsDenied(const model::Revocable& what);
  /// Forgets what has expired by `now`, and how many that were; nothing unless the time guard says
  /// that the clock is right: set forward, it would forget what is still valid.
  Result<size_t> Prune(TimeVerdict clock, TimeGuard::Wall now);

  // ---- what waits for another person (store_pending.cpp)

  /// Its id. kExhausted: too many wait already, in all or from this person.
  Result<uint64_t> AddPending(const model::PendingChange& change);
  /// The oldest first.
  Result<std::vector<model::PendingChange>> ReadPending();
  Result<std::vector<model::PendingChange>> ExpiredPending(model::PendingChange::Time now);
  Result<std::optional<model::PendingChange>> FindPending(uint64_t id);
  /// False: it was not there.
  Result<bool> RemovePending(uint64_t id);

  // ---- peers' public keys (store_seen_keys.cpp)

  /// Who came with this key first: `key` itself, which is stored then, or an earlier one.
  Result<model::SeenKey> SeeKey(const model::SeenKey& key);
  Result<std::optional<model::SeenKey>> FindSeenKey(const std::string& id);
  /// In order of their ids, those greater than `after`.
  Result<std::vector<model::SeenKey>> ReadSeenKeys(const std::string& after, uint64_t most);
  Result<void> ForgetSeenKey(const std::string& id);

  // ---- whose the resources of protected servers are (store_owners.cpp)

  Result<std::optional<model::Owner>> FindOwner(const model::Resource& resource);
  /// All of them or none, in one transaction. Of each, the tenant that the resource belongs to
  /// afterwards, empty for nobody's: what is another tenant's already stays so.
  Result<std::vector<std::string>> ChangeOwners(const std::vector<model::OwnerChange>& changes);
  struct OwnersWanted {
    std::string interface;  // empty: any
    std::string tenant;     // empty: any
  };
  /// In order of interface, kind, id, those greater than `after`.
  Result<std::vector<model::Owner>> ReadOwners(const model::Resource& after,
                                               const OwnersWanted& wanted, uint64_t most);
  /// False: it was nobody's.
  Result<bool> RemoveOwner(const model::Resource& resource);

  // ---- who is registered with a protected server (store_registrations.cpp)

  /// Interface and peer, and since when.
  using Registrations =
      std::map<std::pair<std::string, std::string>, std::chrono::system_clock::time_point>;
  Result<Registrations> ReadRegistrations();
  /// Who is registered already stays so, since then.
  Result<void> AddRegistration(const std::string& interface, const std::string& peer,
                               std::chrono::system_clock::time_point since);
  Result<void> RemoveRegistration(const std::string& interface, const std::string& peer);

  // ---- tokens and approvals that were good for one request (store_used_tokens.cpp)

  Result<bool> IsUsed(const std::string& issuer, const std::string& jti);
  /// What a request uses up, all of it or nothing, on the disk when it returns. kConflict: a token
  /// was used before, or a held request is not there or not approved.
  Result<void> UseUp(const std::vector<model::Used>& used);
  Result<uint64_t> CountUsedTokens();
  /// Those that have expired by `now`; nothing unless the clock is right, as Prune().
  Result<void> ForgetUsedTokens(TimeVerdict clock, model::UsedToken::Time now);

  // ---- requests that wait for an operator (store_held.cpp)

  /// kExhausted: too many wait already, in all or of this peer. kConflict: this one is held.
  Result<void> AddHeld(const model::HeldRequest& request);
  Result<std::optional<model::HeldRequest>> FindHeld(const std::string& id);
  /// That of this peer on this interface which has the digest.
  Result<std::optional<model::HeldRequest>> FindHeld(const std::string& peer,
                                                     const std::string& interface,
                                                     const std::string& digest);
  /// The oldest first.
  Result<std::vector<model::HeldRequest>> ReadHeld();
  Result<std::vector<model::HeldRequest>> ExpiredHeld(model::HeldRequest::Time now);
  /// State, who decided and why, and until when: of `request`. False: it is not there.
  Result<bool> DecideHeld(const model::HeldRequest& request);
  /// False: it was not there.
  Result<bool> RemoveHeld(const std::string& id);

  /// TimeGuard::State{} when none was ever written.
  Result<TimeGuard::State> ReadTimeGuard();
  Result<void> WriteTimeGuard(const TimeGuard::State& state);

  /// kConflict when a key with this fingerprint was used before, ever.
  Result<void> RememberKey(const std::string& fingerprint, const std::string& sa);
  /// The same for keys in use that a dataplane gave back: known or not, afterwards they are.
  /// Fingerprint and SA id of each.
  Result<void> NoteKeysInUse(const std::vector<std::pair<std::string, std::string>>& keys);
  /// True when it was used before.
  Result<bool> KnowsKey(const std::string& fingerprint);
  /// Only for a key that was remembered but certainly never reached a dataplane.
  Result<void> ForgetKey(const std::string& fingerprint);

  /// Can it still be read and written?
  [[nodiscard]] bool Healthy();

 private:
  struct Close {
    void operator()(sqlite3* db) const;
  };
  explicit Store(sqlite3* db) : db_(db) {}
  Result<void> Run(const char* sql);
  Result<void> Prepare(const std::string& path, bool fresh);
  Result<uint64_t> WithNextEpoch(Statement& change);
  Result<void> UseToken(const model::UsedToken& token);
  Result<void> UseApproval(const std::string& id);
  Result<std::string> ChangeOwner(const model::OwnerChange& change);
  Result<void> WriteResources(const model::Document& document);
  /// COMMIT when `written` is a success, else ROLLBACK.
  Result<void> End(Result<void> written);

  struct Finalize {
    void operator()(Statement* statement) const;
  };

  std::unique_ptr<sqlite3, Close> db_;
  std::unique_ptr<Statement, Finalize> find_owner_;  // of db_, hence gone before it
};

}  // namespace portcullis
