#include "control/peer/token_source.hpp"

#include <algorithm>
#include <boost/beast/core/string.hpp>
#include <boost/url/encode.hpp>
#include <boost/url/rfc/unreserved_chars.hpp>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/secret.hpp"
#include "control/identity/private_file.hpp"
#include "control/model/fields.hpp"

namespace portcullis::peer {

namespace asio = boost::asio;

namespace {

constexpr size_t kLongestToken = 8192;
constexpr size_t kLongestAnswer = 64U << 10U;
constexpr std::chrono::seconds kTime{5};

// RFC 6750 2.1: what a token in a header is made of. Anything else could end the header.
bool IsToken(std::string_view text) {
  return !text.empty() && text.size() <= kLongestToken &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  std::string_view("-._~+/=").find(c) != std::string_view::npos;
         });
}

Result<std::string> ReadToken(const std::string& path) {
  const auto content = identity::ReadPrivateFile(path, "token_file");
  if (!content) return tl::unexpected(content.error());
  std::string token(content->bytes().begin(), content->bytes().end());
  token.resize(std::min(token.find_last_not_of(" \r\n") + 1, token.size()));
  if (IsToken(token)) return token;
  const size_t size = token.size();
  Wipe(token);
  return Invalid("token_file", "not an access token: " + path,
                 fmt::format("1 to {} characters of RFC 6750 2.1", kLongestToken),
                 fmt::format("{} characters", size));
}

Result<identity::HttpsClient> Connect(const TokenEndpoint& endpoint) {
  // HttpsClient reads the key as well, but asks nobody whose it is.
  const auto key = identity::ReadPrivateFile(endpoint.tls.key, "token_endpoint.key");
  if (!key) return tl::unexpected(key.error());
  return identity::HttpsClient::Create(endpoint.url, endpoint.tls, "token_endpoint");
}

std::string Encode(const std::string& text) {
  return boost::urls::encode(text, boost::urls::unreserved_chars);
}

// RFC 6749 5.1. `type`: how the token will be used.
Result<std::string> ReadAnswer(const std::string& text, const char* type) {
  const auto unusable = [](const char* why, std::string expected) {
    return tl::unexpected(Error{ErrorKind::kUnavailable,
                                std::string("the token endpoint's answer cannot be used: ") + why,
                                {},
                                std::move(expected),
                                {}});
  };
  auto answer = model::ParseJson(text);
  if (!answer || !answer->is_object()) return unusable("not JSON", "an object (RFC 6749 5.1)");
  const auto text_of = [&](const char* name) {
    const auto at = answer->find(name);
    return at != answer->end() && at->is_string() ? at->get<std::string>() : std::string();
  };
  if (!boost::beast::iequals(text_of("token_type"), type)) {
    return unusable("a token of another type", std::string("token_type ") + type);
  }
  std::string token = text_of("access_token");
  if (!IsToken(token)) return unusable("no token", "access_token, as RFC 6750 2.1 has it");
  return token;
}

}  // namespace

Result<TokenSource> TokenSource::Create(asio::any_io_executor executor,
                                        std::optional<TokenEndpoint> endpoint,
                                        std::shared_ptr<const identity::ProofKey> proof_key) {
  if (endpoint) {
    if (const auto usable = Connect(*endpoint); !usable) return tl::unexpected(usable.error());
  }
  return TokenSource(std::move(executor), std::move(endpoint), std::move(proof_key));
}

asio::awaitable<Result<std::string>> TokenSource::Get(SessionSettings session) const {
  if (!session.token_file.empty()) co_return ReadToken(session.token_file);
  co_return co_await Ask(std::move(session));
}

asio::awaitable<Result<std::string>> TokenSource::Ask(SessionSettings session) const {
  const auto client = Connect(*endpoint_);
  if (!client) co_return tl::unexpected(client.error());
  identity::HttpsClient::Question question;
  question.form =
      fmt::format("grant_type=client_credentials&client_id={}&scope={}&resource={}",
                  Encode(endpoint_->client_id), Encode(session.scope), Encode(session.audience));
  question.most_bytes = kLongestAnswer;
  question.timeout = kTime;
  if (proof_key_) {
    question.headers.emplace_back("DPoP", proof_key_->Prove({"POST", endpoint_->url, "", ""}));
  }
  auto answer = co_await client->Ask(executor_, std::move(question));
  if (!answer) {
    Error error = answer.error();
    error.message = "no token from its endpoint: " + error.message;
    co_return tl::unexpected(std::move(error));
  }
  auto token = ReadAnswer(*answer, proof_key_ ? "DPoP" : "Bearer");
  Wipe(*answer);
  co_return token;
}

}  // namespace portcullis::peer
