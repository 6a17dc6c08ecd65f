// What is revoked now: the verified revocation list of each CA, and the certificates that operators
// deny. One question for both: may this chain still be used? It is asked in each handshake and
// again for each live session when the epoch has moved. Any thread may ask and change; readers
// take the lock only to copy a pointer to an immutable state, so a handshake never waits for a list
// to be read.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "control/identity/refusal.hpp"
#include "control/identity/revocation_list.hpp"

namespace portcullis::identity {

class Revocations {
 public:
  /// A list closes `grace` after its nextUpdate.
  explicit Revocations(std::chrono::seconds grace);

  /// Puts a list in force in place of its CA's former one. The same list again changes nothing.
  /// kConflict: its number is lower than the one in force, or the same on other content. kInvalid:
  /// it is of the future.
  Result<void> Install(std::shared_ptr<const RevocationList> list, Time now);

  /// Denies certificates, each until its notAfter or later. One that is denied already keeps the
  /// later of both ends.
  void Deny(const std::map<CertificateId, Time>& entries);
  /// Takes back a denial that was a mistake. False: there was none.
  bool Allow(const CertificateId& id);
  /// Removes denials of what has expired; call now and then.
  void DropExpired(Time now);

  /// Refuses with cert_revoked or crl_stale. All of the chain counts, not only the peer's own.
  [[nodiscard]] tl::expected<void, Refusal> Check(std::span<const ChainLink> chain,
                                                  bool list_required, Time now) const;
  [[nodiscard]] tl::expected<void, Refusal> Check(const CertificateIdentity& identity,
                                                  Time now) const {
    return Check(identity.chain, identity.revocation_list_required, now);
  }

  /// Grows with each change that may refuse somebody who was admitted before. Read before Check()
  /// and compared when the decision is committed, it tells whether to ask again.
  [[nodiscard]] uint64_t epoch() const;

  [[nodiscard]] std::vector<std::shared_ptr<const RevocationList>> lists() const;
  [[nodiscard]] std::map<CertificateId, Time> denied() const;
  /// Lists whose nextUpdate is at `time` or earlier.
  [[nodiscard]] std::vector<Expiry> ExpiringBy(Time time) const;

 private:
  struct State {
    std::map<AuthorityId, std::shared_ptr<const RevocationList>> lists;
    std::map<CertificateId, Time> denied;
    uint64_t epoch = 0;
  };
  [[nodiscard]] std::shared_ptr<const State> Now() const;
  /// Lets `change` (State&) -> bool alter a copy; true means that somebody may be refused now.
  template <class Change>
  void Alter(const Change& change);

  std::chrono::seconds grace_;
  std::mutex changing_;         // one change at a time
  mutable std::mutex current_;  // guards state_, never held for longer than a pointer's copy
  std::shared_ptr<const State> state_ = std::make_shared<const State>();
};

}  // namespace portcullis::identity
