// An endpoint of an authorisation server at which the gate asks in its own name: by mutual TLS (RFC
// 8705 2) or by a secret (RFC 6749 2.3.1). One that does not answer is left in peace for a while,
// and whoever would ask it is told so at once.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <string>

#include "base/result.hpp"
#include "base/secret.hpp"
#include "control/identity/token/https_client.hpp"

namespace portcullis::identity {

struct OauthEndpointConfig {
  std::string url;            // as HttpsClient takes it
  ClientTls tls;              // whom we believe, and as whom we ask
  std::string client_id;      // with a certificate, it may be empty
  std::string client_secret;  // a file (see ReadPrivateFile); empty: we have a certificate
  std::chrono::milliseconds timeout{2'000};
  std::chrono::milliseconds pause_after_failure{5'000};
  size_t at_once_most = 32;
};

/// All calls on the thread or strand of its executor. Stays where it is, and alive, while a call is
/// under way.
class OauthEndpoint {
 public:
  /// `where` names the configuration's section in errors.
  static Result<OauthEndpoint> Create(boost::asio::any_io_executor executor,
                                      OauthEndpointConfig config, const std::string& where);

  /// The answer, of at most 64 KiB, to a form that is POSTed and wiped. Its status is 200, or 400,
  /// with which such endpoints refuse (RFC 6749 5.2). kUnavailable: there is none.
  boost::asio::awaitable<Result<HttpsClient::Answer>> Ask(std::string form);
  /// kUnavailable, for a refusal that its reader has no use for.
  [[nodiscard]] tl::unexpected<Error> WrongStatus(const HttpsClient::Answer& answer) const {
    return client_.WrongStatus(answer);
  }

 private:
  OauthEndpoint(boost::asio::any_io_executor executor, OauthEndpointConfig config,
                HttpsClient client, Secret authorization)
      : executor_(std::move(executor)),
        config_(std::move(config)),
        client_(std::move(client)),
        authorization_(std::move(authorization)) {}

  boost::asio::any_io_executor executor_;
  OauthEndpointConfig config_;
  HttpsClient client_;
  Secret authorization_;  // the header's value; empty: we have a certificate
  size_t under_way_ = 0;
  std::chrono::steady_clock::time_point silent_until_;
};

}  // namespace portcullis::identity
