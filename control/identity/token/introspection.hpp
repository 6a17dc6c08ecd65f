// Opaque tokens: their issuer is asked what they are worth (RFC 7662), and its answer must meet the
// same rules as a JWT's claims. A short, bounded cache spares it the same question; an issuer that
// does not answer is left in peace for a while, and its tokens refused at once.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <map>
#include <string>
#include <tl/expected.hpp>

#include "base/result.hpp"
#include "control/identity/refusal.hpp"
#include "control/identity/token/access_token.hpp"
#include "control/identity/token/deny_list.hpp"
#include "control/identity/token/oauth_endpoint.hpp"

namespace portcullis::identity {

struct IntrospectionConfig {
  ClaimRules claims;
  OauthEndpointConfig endpoint;
  std::chrono::milliseconds cache_for{30'000};  // at most; never longer than the token
  size_t cache_most = 10'000;
};

/// All calls on the thread or strand of its executor. Stays where it is, and
/// alive, while a call is under way.
class Introspector {
 public:
  /// `denied` outlives this. `where` is the configuration's own name for this issuer, in errors.
  static Result<Introspector> Create(boost::asio::any_io_executor executor,
                                     IntrospectionConfig config, const DenyList& denied,
                                     const std::string& where);

  /// token_key_unknown: the issuer did not give an answer that can be used. token_revoked: it says
  /// that the token is not active, or we do. An introspected token has no kid.
  boost::asio::awaitable<tl::expected<AccessToken, Refusal>> Verify(std::string token,
                                                                    std::string interface);
  /// Whose tokens it asks about.
  [[nodiscard]] const std::string& issuer() const { return config_.claims.issuer; }

 private:
  using Answer = tl::expected<AccessToken, Refusal>;
  struct Known {
    AccessToken token;
    std::chrono::steady_clock::time_point until;
  };

  Introspector(IntrospectionConfig config, const DenyList& denied, OauthEndpoint endpoint)
      : config_(std::move(config)), denied_(denied), endpoint_(std::move(endpoint)) {}
  boost::asio::awaitable<Answer> Ask(const std::string& token, const std::string& interface,
                                     const Sha256& id);
  Answer Read(const std::string& text, const std::string& interface, const std::string& name) const;
  void Remember(const Sha256& id, const AccessToken& token, const Moment& now);

  IntrospectionConfig config_;
  const DenyList& denied_;
  OauthEndpoint endpoint_;
  std::map<Sha256, Known> cache_;  // by the token's digest: the cache holds nothing worth stealing
};

}  // namespace portcullis::identity
