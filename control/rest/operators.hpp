// Who operates this gate: which person a certificate and an access token speak for, and what that
// person may do.
//
// The certificate always authenticates. A token (RFC 9068), where one is shown, must be bound to it
// (RFC 8705) and must speak for the same person; its scope gives a role, and the lesser of that and
// the configured one holds. So a token never gives more than the configuration does, and whoever
// steals one has nothing without the key of the certificate. Nobody is waited for: key sets are
// fetched in the background.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "control/identity/token/issuer.hpp"
#include "control/identity/token/moment.hpp"
#include "control/model/denial.hpp"
#include "control/rest/http.hpp"

namespace portcullis::identity {
class DenyList;
class KeyFetcher;
class TokenVerifier;
}  // namespace portcullis::identity

namespace portcullis::rest {

struct TokenSubject {
  std::string issuer;   // `iss`
  std::string subject;  // `sub`

  auto operator<=>(const TokenSubject&) const = default;
};

/// One person.
struct OperatorSettings {
  std::string name;
  Role role = Role::viewer;               // at most
  std::vector<std::string> certificates;  // subject CNs
  std::vector<TokenSubject> subjects;
  std::set<std::string> interfaces;  // role server: at which it says who is registered
};

struct TokenSettings {
  /// The interface under which ClaimRules has administration's audience.
  static constexpr const char* kInterface = "administration";

  bool required = false;
  std::vector<identity::IssuerConfig> issuers;
  std::map<std::string, Role> scopes;  // at most
};

class Operators {
 public:
  struct Settings {
    std::vector<OperatorSettings> persons;  // no certificate and no subject is two persons'
    std::optional<TokenSettings> tokens;    // none: certificates alone
  };
  /// What it asks of the rest of control.
  struct Control {
    std::function<bool(const model::Revocable&)> denied;
    std::function<bool()> clock_went_back;
    std::function<void(const std::string&)> tell;  // what operators should know of key sets
  };

  static Result<std::unique_ptr<Operators>> Create(const boost::asio::any_io_executor& executor,
                                                   Settings settings, Control control);
  ~Operators();
  Operators(const Operators&) = delete;
  Operators& operator=(const Operators&) = delete;

  /// Begins to fetch the issuers' keys, on the executor, until Stop().
  void Start();
  void Stop();

  /// What a client shows.
  struct Shown {
    std::string common_name;
    std::string certificate;                 // DER
    model::Revocable certificate_id;         // as it would be revoked
    std::vector<std::string> authorization;  // values of that header
  };
  struct Identified {
    Operator who;                     // role none when refused
    std::optional<Response> refused;  // its instance is `path`
  };
  [[nodiscard]] Identified Identify(const Shown& shown, const std::string& path,
                                    const identity::Moment& now) const;

  /// What the configuration gives; none for somebody who is not there.
  [[nodiscard]] Role RoleOf(const std::string& person) const;
  /// How many may change things: with fewer than two nobody can approve.
  [[nodiscard]] size_t CountOf(Role role) const;

 private:
  struct Refusal;

  Operators(Settings settings, Control control);
  Result<void> Follow(const boost::asio::any_io_executor& executor,
                      const identity::IssuerConfig& config);
  [[nodiscard]] std::optional<Refusal> ByToken(const Shown& shown, const identity::Moment& now,
                                               Operator& who) const;
  [[nodiscard]] std::optional<Refusal> Speaks(const TokenUse& token, Operator& who) const;
  [[nodiscard]] bool Denied(const TokenUse& token, const std::string& kid) const;

  Settings settings_;
  Control control_;
  std::map<std::string, const OperatorSettings*> by_name_;
  std::map<std::string, const OperatorSettings*> by_certificate_;
  std::map<TokenSubject, const OperatorSettings*> by_subject_;
  boost::asio::any_io_executor executor_;
  std::vector<std::shared_ptr<identity::KeyFetcher>> fetchers_;
  std::vector<std::shared_ptr<const identity::Issuer>> issuers_;
  // Control's revocations are asked instead, so that what is taken back counts at once.
  std::unique_ptr<const identity::DenyList> nothing_denied_;
  std::unique_ptr<const identity::TokenVerifier> verifier_;
};

}  // namespace portcullis::rest
