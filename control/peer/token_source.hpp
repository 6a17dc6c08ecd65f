// Access tokens for sessions: from a file that something else keeps fresh, or by client credentials
// (RFC 6749 4.4) at a token endpoint over mutual TLS (RFC 8705 2), which binds them to the
// certificate shown there or, with a proof key, by DPoP (RFC 9449 5). Files are read anew each
// time.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <memory>
#include <optional>
#include <string>

#include "base/result.hpp"
#include "control/identity/token/proof_key.hpp"
#include "control/peer/config.hpp"

namespace portcullis::peer {

class TokenSource {
 public:
  /// `proof_key` null: tokens are bound to the certificate. kInvalid when the endpoint's files
  /// cannot be used.
  static Result<TokenSource> Create(boost::asio::any_io_executor executor,
                                    std::optional<TokenEndpoint> endpoint,
                                    std::shared_ptr<const identity::ProofKey> proof_key);

  /// Errors never quote a token. The caller wipes it.
  boost::asio::awaitable<Result<std::string>> Get(SessionSettings session) const;

 private:
  TokenSource(boost::asio::any_io_executor executor, std::optional<TokenEndpoint> endpoint,
              std::shared_ptr<const identity::ProofKey> proof_key)
      : executor_(std::move(executor)),
        endpoint_(std::move(endpoint)),
        proof_key_(std::move(proof_key)) {}
  boost::asio::awaitable<Result<std::string>> Ask(SessionSettings session) const;

  boost::asio::any_io_executor executor_;
  std::optional<TokenEndpoint> endpoint_;
  std::shared_ptr<const identity::ProofKey> proof_key_;
};

}  // namespace portcullis::peer
