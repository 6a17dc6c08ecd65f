#include "control/identity/token/token_answer.hpp"

#include <boost/beast/core/string.hpp>
#include <nlohmann/json.hpp>
#include <utility>

#include "control/identity/token/encoding.hpp"
#include "control/identity/token/moment.hpp"
#include "control/model/fields.hpp"

namespace portcullis::identity {

namespace {

tl::unexpected<Error> Unusable(const char* why, std::string expected) {
  return tl::unexpected(Error{ErrorKind::kUnavailable,
                              std::string("the token endpoint's answer cannot be used: ") + why,
                              {},
                              std::move(expected),
                              {}});
}

// Empty: it is not there, or no text.
std::string TextOf(const nlohmann::json& object, const char* name) {
  const auto at = object.find(name);
  return at != object.end() && at->is_string() ? at->get<std::string>() : std::string();
}

}  // namespace

Result<TokenAnswer> ReadTokenAnswer(std::string_view text, std::string_view type) {
  const auto json = model::ParseJson(text);
  if (!json || !json->is_object()) return Unusable("not JSON", "an object (RFC 6749 5.1)");
  if (!boost::beast::iequals(TextOf(*json, "token_type"), type)) {
    return Unusable("a token of another type", "token_type " + std::string(type));
  }
  TokenAnswer answer;
  answer.token = TextOf(*json, "access_token");
  if (!IsBearerToken(answer.token)) {
    return Unusable("no token", "access_token, as RFC 6750 2.1 has it");
  }
  answer.issued_type = TextOf(*json, "issued_token_type");
  const auto life = json->find("expires_in");
  if (life == json->end()) return answer;
  if (!life->is_number_unsigned() || life->get<uint64_t>() > kLastSecond) {
    return Unusable("expires_in is no time", "a number of seconds");
  }
  answer.expires_in = std::chrono::seconds(life->get<uint64_t>());
  return answer;
}

std::string ReadTokenError(std::string_view text) {
  const auto json = model::ParseJson(text);
  return json && json->is_object() ? TextOf(*json, "error") : std::string();
}

}  // namespace portcullis::identity
