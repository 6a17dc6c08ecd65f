#include "control/peer/token_source.hpp"

#include <algorithm>
#include <utility>

#include "base/secret.hpp"
#include "control/identity/private_file.hpp"
#include "control/identity/token/encoding.hpp"
#include "control/identity/token/token_answer.hpp"

namespace portcullis::peer {

namespace asio = boost::asio;

namespace {

constexpr size_t kLongestAnswer = 64U << 10U;
constexpr std::chrono::seconds kTime{5};

Result<std::string> ReadToken(const std::string& path) {
  const auto content = identity::ReadPrivateFile(path, "token_file");
  if (!content) return tl::unexpected(content.error());
  std::string token(content->bytes().begin(), content->bytes().end());
  token.resize(std::min(token.find_last_not_of(" \r\n") + 1, token.size()));
  if (identity::IsBearerToken(token)) return token;
  const size_t size = token.size();
  Wipe(token);
  return Invalid("token_file", "not an access token: " + path,
                 fmt::format("1 to {} characters of RFC 6750 2.1", identity::kLongestToken),
                 fmt::format("{} characters", size));
}

Result<identity::HttpsClient> Connect(const TokenEndpoint& endpoint) {
  // HttpsClient reads the key as well, but asks nobody whose it is.
  const auto key = identity::ReadPrivateFile(endpoint.tls.key, "token_endpoint.key");
  if (!key) return tl::unexpected(key.error());
  return identity::HttpsClient::Create(endpoint.url, endpoint.tls, "token_endpoint");
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
  question.form = fmt::format("grant_type=client_credentials&client_id={}&scope={}&resource={}",
                              identity::EncodeForForm(endpoint_->client_id),
                              identity::EncodeForForm(session.scope),
                              identity::EncodeForForm(session.audience));
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
  auto token = identity::ReadTokenAnswer(*answer, proof_key_ ? "DPoP" : "Bearer");
  Wipe(*answer);
  if (!token) co_return tl::unexpected(token.error());
  co_return std::move(token->token);
}

}  // namespace portcullis::peer
