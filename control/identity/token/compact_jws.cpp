#include "control/identity/token/compact_jws.hpp"

#include <algorithm>

#include "control/identity/token/encoding.hpp"
#include "control/model/fields.hpp"

namespace portcullis::identity {

using nlohmann::json;

namespace {
Result<json> Object(std::string_view encoded, const char* part) {
  const auto text = DecodeBase64Url(encoded);
  if (!text) return Invalid(part, "not canonical base64url", "base64url without padding");
  auto value = model::ParseJson(*text);
  if (!value) {
    Error error = value.error();
    error.where = error.where.empty() ? part : fmt::format("{}, {}", part, error.where);
    return tl::unexpected(std::move(error));
  }
  if (!value->is_object()) {
    return Invalid(part, "not a JSON object", "an object", model::Describe(*value));
  }
  return value;
}
}  // namespace

std::string_view CompactJws::Header(const char* member) const {
  const auto found = header.find(member);
  return found != header.end() && found->is_string() ? found->get_ref<const std::string&>()
                                                     : std::string_view();
}

bool ClaimsToBeJws(std::string_view text) {
  if (std::count(text.begin(), text.end(), '.') != 2) return false;
  const auto header = DecodeBase64Url(text.substr(0, text.find('.')));
  return header && header->starts_with('{');
}

Result<CompactJws> ParseCompact(std::string_view text, size_t longest) {
  if (text.size() > longest) {
    return Invalid("", "too long", fmt::format("at most {} bytes", longest),
                   fmt::format("{} bytes", text.size()));
  }
  const size_t first = text.find('.');
  const size_t second = text.find('.', first == text.npos ? first : first + 1);
  if (second == text.npos || text.find('.', second + 1) != text.npos) {
    return Invalid("", "not a compact JWS", "three parts with two dots between them");
  }
  CompactJws jws;
  auto header = Object(text.substr(0, first), "header");
  if (!header) return tl::unexpected(header.error());
  jws.header = std::move(*header);
  // RFC 7515 4.1.11: who does not know what is critical refuses, and here nothing is known.
  if (jws.header.contains("crit")) {
    return Invalid("header/crit", "it asks for an extension", "no critical extensions");
  }
  for (const char* required : {"alg", "typ"}) {
    if (jws.Header(required).empty()) {
      return Invalid(std::string("header/") + required, "a required member is missing", "a text");
    }
  }
  auto payload = Object(text.substr(first + 1, second - first - 1), "payload");
  if (!payload) return tl::unexpected(payload.error());
  jws.payload = std::move(*payload);
  auto signature = DecodeBase64Url(text.substr(second + 1));
  if (!signature) {
    return Invalid("signature", "not canonical base64url", "base64url without padding");
  }
  jws.signature = std::move(*signature);
  jws.signing_input = text.substr(0, second);
  return jws;
}

}  // namespace portcullis::identity
