// HTTPS to control, with mutual TLS. Synchronous for its callers: a command line does one thing at
// a time.
#pragma once

#include <boost/beast/http/verb.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "control/cli/outcome.hpp"
#include "control/cli/settings.hpp"

namespace portcullis::cli {

class ControlClient {
 public:
  using Verb = boost::beast::http::verb;

  /// Loads the certificates; does not connect yet. kUsage when they cannot be used.
  static Outcome<ControlClient> Create(const Settings& settings, std::chrono::milliseconds timeout);
  ControlClient(ControlClient&&) noexcept;
  ControlClient& operator=(ControlClient&&) noexcept;
  ~ControlClient();

  /// The JSON of a 2xx answer; anything else is a Failure. `body` is wiped once sent, since it may
  /// hold a key; a null value sends none.
  Outcome<nlohmann::json> Send(Verb verb, const std::string& target,
                               const nlohmann::json& body = nullptr);
  Outcome<nlohmann::json> Get(const std::string& target) { return Send(Verb::get, target); }

  /// Server-sent events of `target` until `on_event` returns false or control ends the stream.
  /// `last_id` (may be empty) is what was seen last.
  using EventSink = std::function<bool(const nlohmann::json& event)>;
  Outcome<void> Events(const std::string& target, const std::string& last_id,
                       const EventSink& on_event);

 private:
  struct Impl;
  explicit ControlClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Percent-encodes one path segment or query value (RFC 3986 2.1).
std::string UrlEncode(std::string_view text);

}  // namespace portcullis::cli
