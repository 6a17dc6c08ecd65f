// The check of an access token in the form of a JWT (RFC 9068, after the rules of RFC 8725). It
// reads and answers, keeps no decision and waits for nobody: an issuer that is down costs nothing
// here.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

#include "control/identity/refusal.hpp"
#include "control/identity/token/access_token.hpp"
#include "control/identity/token/deny_list.hpp"
#include "control/identity/token/issuer.hpp"
#include "control/identity/token/moment.hpp"

namespace portcullis::identity {

class TokenVerifier {
 public:
  /// Issuers have different names. `denied` outlives the verifier.
  TokenVerifier(std::vector<std::shared_ptr<const Issuer>> issuers, const DenyList& denied);

  /// `interface` is the one at which the token was shown. Who is let in must still hold the key in
  /// `binding`: see CheckBinding() and VerifyProof(). The refusal names the token by its short
  /// hash. Any thread.
  [[nodiscard]] tl::expected<AccessToken, Refusal> Verify(std::string_view token,
                                                          std::string_view interface,
                                                          const Moment& now) const;

  /// Is the key that signed it still its issuer's? Between the check of a token and what follows
  /// from it the key may have vanished.
  [[nodiscard]] bool KnowsKeyOf(const AccessToken& token, const Moment& now) const;

 private:
  [[nodiscard]] tl::expected<AccessToken, Refusal> Check(std::string_view token,
                                                         std::string_view interface,
                                                         const Moment& now) const;

  std::map<std::string, std::shared_ptr<const Issuer>, std::less<>> issuers_;
  const DenyList& denied_;
};

}  // namespace portcullis::identity
