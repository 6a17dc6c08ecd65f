#include "control/identity/token/oauth_endpoint.hpp"

#include <openssl/evp.h>

#include <utility>

#include "control/identity/private_file.hpp"
#include "control/identity/token/encoding.hpp"

namespace portcullis::identity {

namespace asio = boost::asio;
using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

namespace {

constexpr size_t kLongestAnswer = 64U << 10U;
constexpr unsigned kRefused = 400;

// RFC 6749 2.3.1: both parts encoded as in a form, then as RFC 7617 says.
Result<Secret> Basic(const OauthEndpointConfig& config, const std::string& where) {
  if (config.client_secret.empty()) return Secret();
  const auto file = ReadPrivateFile(config.client_secret, where + ".client_secret");
  if (!file) return tl::unexpected(file.error());
  std::string secret(file->bytes().begin(), file->bytes().end());
  while (secret.ends_with('\n') || secret.ends_with('\r')) secret.pop_back();
  std::string pair = EncodeForForm(config.client_id) + ":" + EncodeForForm(secret);
  const bool none = secret.empty();
  Wipe(secret);
  if (none) {
    return Invalid(where + ".client_secret", "not a secret: " + config.client_secret,
                   "at least one character", "none");
  }
  std::string header = "Basic ";
  std::string encoded(4 * ((pair.size() + 2) / 3) + 1, '\0');
  const int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(encoded.data()),
                                     reinterpret_cast<const unsigned char*>(pair.data()),
                                     static_cast<int>(pair.size()));
  header.append(encoded, 0, static_cast<size_t>(length));
  Wipe(pair);
  Wipe(encoded);
  Secret out{Bytes(header)};
  Wipe(header);
  return out;
}
}  // namespace

Result<OauthEndpoint> OauthEndpoint::Create(asio::any_io_executor executor,
                                            OauthEndpointConfig config, const std::string& where) {
  if (config.timeout <= milliseconds(0) || config.at_once_most == 0) {
    return Invalid(where, "timeout or at_once_most is out of range", "more than 0");
  }
  auto client = HttpsClient::Create(config.url, config.tls, where);
  if (!client) return tl::unexpected(client.error());
  auto authorization = Basic(config, where);
  if (!authorization) return tl::unexpected(authorization.error());
  return OauthEndpoint(std::move(executor), std::move(config), *std::move(client),
                       *std::move(authorization));
}

asio::awaitable<Result<HttpsClient::Answer>> OauthEndpoint::Ask(std::string form) {
  if (Clock::now() < silent_until_ || under_way_ >= config_.at_once_most) {
    Wipe(form);
    co_return Fail(ErrorKind::kUnavailable, "it does not answer now, and is not asked again yet");
  }
  HttpsClient::Question question;
  question.form = std::move(form);
  if (!authorization_.empty()) {
    const auto header = authorization_.bytes();
    question.headers.emplace_back("Authorization", std::string(header.begin(), header.end()));
  } else if (!config_.client_id.empty()) {
    question.form += "&client_id=" + EncodeForForm(config_.client_id);  // RFC 8705 2.2
  }
  question.most_bytes = kLongestAnswer;
  question.timeout = config_.timeout;
  ++under_way_;
  auto answer = co_await client_.AskForAny(executor_, std::move(question));
  --under_way_;
  if (answer && (answer->ok() || answer->status == kRefused)) co_return answer;
  silent_until_ = Clock::now() + config_.pause_after_failure;
  if (answer) co_return WrongStatus(*answer);
  co_return answer;
}

}  // namespace portcullis::identity
