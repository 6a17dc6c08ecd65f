// A token that is bound to its client's key is of no use to the protected server: the gate has the
// authorisation server exchange it for one of its own (RFC 8693), with which it goes on. What it
// got is kept for as long as both tokens last and nothing has changed; requests with the same token
// make one exchange. An authorisation server that is away opens nothing, and stops nobody whose
// token was exchanged before.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <tl/expected.hpp>

#include "base/result.hpp"
#include "base/secret.hpp"
#include "control/identity/refusal.hpp"
#include "control/identity/token/encoding.hpp"
#include "control/identity/token/oauth_endpoint.hpp"
#include "control/identity/token/token_answer.hpp"

namespace portcullis::identity {

struct TokenExchangeConfig {
  OauthEndpointConfig endpoint;
  // For whom the tokens are (RFC 8693 2.1); one of the first two is not empty.
  std::string audience;
  std::string resource;                          // an absolute URI (RFC 8707 2)
  std::string scope;                             // empty: the authorisation server's choice
  std::chrono::milliseconds margin{10'000};      // a token is kept until so long before its end
  std::chrono::milliseconds refused_for{5'000};  // a refusal is not asked for again
  size_t most = 1'000;                           // tokens that are kept, in locked memory
};

/// One protected server's. All calls on the thread or strand of its executor.
class TokenExchanger {
 public:
  /// `where` names the configuration's section in errors.
  static Result<std::shared_ptr<TokenExchanger>> Create(boost::asio::any_io_executor executor,
                                                        TokenExchangeConfig config,
                                                        const std::string& where);

  /// A client's token, verified.
  struct Subject {
    std::string token;
    std::chrono::system_clock::time_point expiry;
    /// Another number than the last time: rights have changed, and nothing that was had before
    /// counts.
    uint64_t epoch = 0;
  };
  /// Never null.
  using Answer = tl::expected<std::shared_ptr<const Secret>, Refusal>;
  /// The token for the server, to be sent as `Authorization: Bearer`. exchange_denied: the
  /// authorisation server gives none for this one. gate_unavailable: it gives no answer, or none
  /// that can be used. This lives until the call returns.
  boost::asio::awaitable<Answer> Exchange(Subject subject);

 private:
  struct Known {
    Answer answer;
    std::chrono::steady_clock::time_point until;
  };
  // Who comes while it is under way waits for it.
  struct Pending {
    explicit Pending(const boost::asio::any_io_executor& executor) : over(executor) {}
    boost::asio::steady_timer over;  // cancelled then
    Answer answer = tl::unexpected(Refusal{Reason::gate_unavailable, "the exchange broke off"});
  };

  TokenExchanger(boost::asio::any_io_executor executor, TokenExchangeConfig config,
                 OauthEndpoint endpoint)
      : executor_(std::move(executor)),
        config_(std::move(config)),
        endpoint_(std::move(endpoint)) {}
  [[nodiscard]] std::string Form(const std::string& token) const;
  boost::asio::awaitable<Known> Ask(const Subject& subject);
  [[nodiscard]] Known Use(const Result<TokenAnswer>& got, const Subject& subject) const;
  void Remember(const Sha256& id, Known known);

  boost::asio::any_io_executor executor_;
  TokenExchangeConfig config_;
  OauthEndpoint endpoint_;
  uint64_t epoch_ = 0;
  std::map<Sha256, Known> known_;  // by the digest of the client's token
  std::map<Sha256, std::shared_ptr<Pending>> pending_;
};

}  // namespace portcullis::identity
