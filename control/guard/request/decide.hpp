// May this request go on? Who asks, what it is, whose it is, whether all of that is permitted:
//
//   token → permit → profile → (body) → owner → judge → (whole) → (exchange) → account
//
// Each step refuses by its own reason; none is skipped.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <memory>
#include <string>

#include "control/guard/credentials.hpp"
#include "control/guard/request/books.hpp"
#include "control/guard/request/carried.hpp"
#include "control/guard/request/exchange.hpp"
#include "control/identity/token/token_exchanger.hpp"

namespace portcullis::guard {

/// One protected interface. A reload puts another profile or server here, between two requests.
struct RequestInterface {
  std::string name;  // in policy
  std::string root;  // before every path of the profile; empty: none
  std::shared_ptr<const profiles::Profile> profile;
  std::shared_ptr<Upstream> server;
  std::string url = {};  // how clients that make proofs call it; empty: none do
  std::shared_ptr<identity::TokenExchanger> exchanger = {};  // null: the server gets no tokens
};

/// What all connections share. One thread.
struct RequestContext {
  SessionContext& shared;
  Permits& permits;
  Outcomes& outcomes;
  CarriedConnections& carried;
};

/// Who asks, as the protected server is told (kClientField).
std::string ClientText(const admission::Permitted& permit, const std::string& reference);

/// Decides on the requests of one connection, which may be several at a time.
class Decider {
 public:
  /// All outlive this.
  Decider(RequestContext& context, const RequestInterface& interface, const ListenerLimits& limits,
          const Party& client)
      : context_(context),
        interface_(interface),
        limits_(limits),
        client_(client),
        books_(context.permits, context.outcomes),
        credentials_(context.shared, client, interface.url) {}

  /// Where it may go on, that is in the books, and must be ended there.
  boost::asio::awaitable<Step<Decided>> Decide(Exchange& exchange);
  /// Is what goes on still permitted? Judged anew when anything has changed since.
  boost::asio::awaitable<bool> Still(Decided& decided);

  [[nodiscard]] Books& books() { return books_; }
  [[nodiscard]] const CredentialCheck& credentials() const { return credentials_; }
  [[nodiscard]] CredentialCheck& credentials() { return credentials_; }

 private:
  boost::asio::awaitable<Step<std::shared_ptr<const Proven>>> Prove(const RequestHead& request);
  boost::asio::awaitable<Outcome<std::shared_ptr<const Proven>>> Permit(
      identity::AccessToken token);
  /// Nothing has taken back what was proved.
  [[nodiscard]] bool StillPermitted(const Proven& proven) const;
  boost::asio::awaitable<Outcome<void>> Renew(Decided& decided);
  boost::asio::awaitable<Step<void>> Read(Exchange& exchange, Decided& decided);
  boost::asio::awaitable<Step<void>> JudgeNow(Exchange& exchange, Decided& decided);
  static void Registration(Decided& decided);
  boost::asio::awaitable<Step<void>> ReadWhole(Exchange& exchange, Decided& decided);
  boost::asio::awaitable<Step<void>> ExchangeToken(const RequestHead& request, Decided& decided);
  boost::asio::awaitable<Outcome<std::optional<std::string>>> OwnerOf(const Decided& decided);

  RequestContext& context_;
  const RequestInterface& interface_;
  const ListenerLimits& limits_;
  const Party& client_;
  Books books_;
  CredentialCheck credentials_;
  // The last token that was shown, and its header's digest.
  std::shared_ptr<const Proven> proven_;
  identity::Sha256 digest_{};
};

}  // namespace portcullis::guard
