// One question to an issuer's web server and its answer: bounded in size and in time, name lookup
// included; no redirects, no cookies, no connection kept.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/ssl/context.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.hpp"
#include "control/http/stream.hpp"
#include "control/identity/token/url.hpp"

namespace portcullis::identity {

/// PEM files; the key as LoadPrivateKey() takes it. Without a client certificate both of its fields
/// are empty.
struct ClientTls {
  std::string ca;  // the only ones believed
  std::string certificate;
  std::string key;
};

/// For a client that believes `files.ca` alone. `where` names the configuration's section in
/// errors.
Result<std::shared_ptr<boost::asio::ssl::context>> MakeClientTls(const ClientTls& files,
                                                                 const std::string& where);

/// Why nothing may be sent to an address that a name turned out to have; nothing: it may.
using AddressCheck = std::function<std::optional<std::string>(const boost::asio::ip::address&)>;

/// A connection to `address` whose server has proved that it is that host: before this nothing is
/// said to it. kUnavailable; kForbidden: one of its addresses is refused, and no connection is made
/// to any. What was checked is what is connected to: the name is looked up once. `tls` outlives the
/// connection, `refuses` (null: nothing is) the call.
boost::asio::awaitable<Result<std::unique_ptr<web::TlsStream>>> Dial(
    boost::asio::any_io_executor executor, WebAddress address, boost::asio::ssl::context& tls,
    std::chrono::steady_clock::time_point deadline, const AddressCheck* refuses = nullptr);

class HttpsClient {
 public:
  /// `url` as ParseWebAddress() admits it. `where` names the configuration's section in errors.
  static Result<HttpsClient> Create(const std::string& url, const ClientTls& files,
                                    const std::string& where);

  struct Question {
    std::string form;  // POSTed as a form; empty: GET. Wiped once it is sent
    size_t most_bytes = 0;
    std::chrono::milliseconds timeout{};
    std::vector<std::pair<std::string, std::string>> headers;  // beside the usual ones
  };
  struct Answer {
    unsigned status = 0;
    std::string body;
    [[nodiscard]] bool ok() const { return status == kOk; }
    static constexpr unsigned kOk = 200;
  };
  /// `executor` is the caller's, which has one thread or is a strand.
  [[nodiscard]] boost::asio::awaitable<Result<Answer>> AskForAny(
      boost::asio::any_io_executor executor, Question question) const;
  /// The body of a 200 answer; kUnavailable for every other one.
  [[nodiscard]] boost::asio::awaitable<Result<std::string>> Ask(
      boost::asio::any_io_executor executor, Question question) const;
  /// kUnavailable, for an answer that nobody can use.
  [[nodiscard]] tl::unexpected<Error> WrongStatus(const Answer& answer) const;

 private:
  HttpsClient(WebAddress address, std::shared_ptr<boost::asio::ssl::context> tls)
      : address_(std::move(address)), tls_(std::move(tls)) {}

  WebAddress address_;
  std::shared_ptr<boost::asio::ssl::context> tls_;  // null: http, loopback
};

}  // namespace portcullis::identity
