#include "control/identity/token/key_set.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "control/model/fields.hpp"

namespace portcullis::identity {

using model::Describe;
using nlohmann::json;

namespace {
constexpr size_t kMostKeys = 100;
constexpr size_t kLongestKid = 256;

// RFC 7517 4.2, 4.3: both optional; either may say that the key is for something else.
bool ForSignatures(const json& jwk) {
  const auto use = jwk.find("use");
  if (use != jwk.end() && *use != "sig") return false;
  const auto operations = jwk.find("key_ops");
  return operations == jwk.end() ||
         (operations->is_array() &&
          std::find(operations->begin(), operations->end(), "verify") != operations->end());
}

std::optional<Algorithm> Pinned(const json& jwk, const PublicKey& key,
                                const std::vector<Algorithm>& allowed) {
  const auto named = jwk.find("alg");
  const auto fits = [&](Algorithm algorithm) {
    return key.Fits(algorithm) && (named == jwk.end() || *named == Name(algorithm));
  };
  const auto found = std::find_if(allowed.begin(), allowed.end(), fits);
  return found == allowed.end() ? std::nullopt : std::optional(*found);
}
}  // namespace

Result<KeySet> KeySet::Parse(std::string_view text, const std::vector<Algorithm>& allowed) {
  const auto set = model::ParseJson(text);
  if (!set) return tl::unexpected(set.error());
  const auto list = set->is_object() ? set->find("keys") : set->end();
  if (!set->is_object() || list == set->end() || !list->is_array()) {
    return Invalid("", "not a key set", "an object with an array 'keys' (RFC 7517 5)",
                   Describe(*set));
  }
  if (list->size() > kMostKeys) {
    return Invalid("/keys", "too many keys", fmt::format("at most {}", kMostKeys),
                   std::to_string(list->size()));
  }
  KeySet result;
  std::set<std::string> kids;
  for (size_t i = 0; i < list->size(); ++i) {
    const json& jwk = (*list)[i];
    std::optional<Error> error;
    model::Fields fields(jwk, fmt::format("/keys/{}", i), error);
    const std::string kid = fields.Text("kid", kLongestKid);
    if (error) return tl::unexpected(*error);
    const std::string where = fmt::format("/keys/{} ({})", i, kid);
    if (!kids.insert(kid).second) return Invalid(where, "two keys have the same kid", "one each");

    const auto leave_out = [&](const std::string& why) {
      result.notes_.push_back(where + ": left out, " + why);
    };
    auto key = PublicKey::FromJwk(jwk, where);
    if (!key && key.error().kind == ErrorKind::kInvalid) return tl::unexpected(key.error());
    if (!key) {
      leave_out(key.error().Text());
    } else if (!ForSignatures(jwk)) {
      leave_out("it is not for verifying signatures (use, key_ops)");
    } else if (const auto algorithm = Pinned(jwk, *key, allowed)) {
      result.keys_.push_back({kid, *algorithm, std::move(*key)});
    } else {
      leave_out("no allowed algorithm fits it, or not the one that it names");
    }
  }
  return result;
}

const SigningKey* KeySet::Find(std::string_view kid) const {
  const auto found =
      std::find_if(keys_.begin(), keys_.end(), [&](const auto& key) { return key.kid == kid; });
  return found == keys_.end() ? nullptr : &*found;
}

std::vector<std::string> Vanished(const KeySet& before, const KeySet& after) {
  std::vector<std::string> kids;
  for (const auto& old : before.keys()) {
    const SigningKey* now = after.Find(old.kid);
    if (now == nullptr || now->key.thumbprint() != old.key.thumbprint() ||
        now->algorithm != old.algorithm) {
      kids.push_back(old.kid);
    }
  }
  return kids;
}

}  // namespace portcullis::identity
