// Connections to peers that are called: mutual TLS with the gate as the client. Before anything is
// sent, whoever answers has proved to be the host that was called, by a certificate of the profile
// for peers, and control has said that this identity is the peer whose address it is.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/ssl/context.hpp>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "base/result.hpp"
#include "control/guard/credentials.hpp"
#include "control/guard/request/permits.hpp"
#include "control/guard/request/upstream.hpp"
#include "control/identity/certificate_verifier.hpp"

namespace portcullis::guard {

/// One thread.
class Callees {
 public:
  static constexpr size_t kMost = 1024;  // origins whose connections are kept

  /// `tls` has the gate's certificate and whose certificates are believed; `profile` is that of
  /// peers' certificates. `where` names the configuration's section in errors. `shared` outlives
  /// this.
  static Result<std::shared_ptr<Callees>> Create(boost::asio::any_io_executor executor,
                                                 SessionContext& shared,
                                                 const identity::ClientTls& tls,
                                                 identity::CertificateProfile profile,
                                                 const std::string& where);

  /// Connections to `origin` ("https://host[:port]"), which is the permit's peer's. They are kept
  /// for as long as nothing has changed: then everybody proves anew who he is.
  Result<std::shared_ptr<Upstream>> To(const Permits::CallPermit& permit,
                                       const std::string& origin);

 private:
  Callees(boost::asio::any_io_executor executor, SessionContext& shared,
          std::shared_ptr<boost::asio::ssl::context> tls,
          std::shared_ptr<const identity::CertificateVerifier> verifier)
      : executor_(std::move(executor)),
        shared_(shared),
        tls_(std::move(tls)),
        verifier_(std::move(verifier)) {}

  struct Kept {
    uint64_t version = 0;  // of the permit
    uint64_t epoch = 0;    // of revocation lists
    std::shared_ptr<Upstream> server;
  };

  boost::asio::any_io_executor executor_;
  SessionContext& shared_;
  std::shared_ptr<boost::asio::ssl::context> tls_;
  std::shared_ptr<const identity::CertificateVerifier> verifier_;
  std::map<std::pair<std::string, std::string>, Kept> kept_;  // by peer and origin
};

/// Why nobody is called at this address; nothing: he may be.
std::optional<std::string> NotCalledAt(const admission::CallPermitted& permit,
                                       const boost::asio::ip::address& address);

}  // namespace portcullis::guard
