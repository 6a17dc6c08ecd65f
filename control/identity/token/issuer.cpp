#include "control/identity/token/issuer.hpp"

#include <set>
#include <utility>

#include "control/identity/token/url.hpp"

namespace portcullis::identity {

Result<void> Check(const ClaimRules& rules, const std::string& where) {
  if (rules.issuer.empty()) return Invalid(where + ".issuer", "missing", "what iss will be");
  if (rules.audiences.empty()) {
    return Invalid(where + ".audiences", "missing", "an audience for each interface");
  }
  std::set<std::string> seen;
  for (const auto& [interface, audience] : rules.audiences) {
    if (audience.empty() || !seen.insert(audience).second) {
      return Invalid(fmt::format("{}.audiences.{}", where, interface),
                     "empty, or the same as another interface's", "one audience for each interface",
                     audience);
    }
  }
  constexpr std::chrono::seconds kMostLeeway{30};  // TS 33.122 C.2.2
  if (rules.leeway < std::chrono::seconds(0) || rules.leeway > kMostLeeway) {
    return Invalid(where + ".leeway", "out of range", "0 to 30 s",
                   fmt::format("{} s", rules.leeway.count()));
  }
  return {};
}

Result<void> Check(const IssuerConfig& config, const std::string& where) {
  if (auto good = Check(config.claims, where); !good) return good;
  if (config.algorithms.empty()) {
    return Invalid(where + ".algorithms", "missing", "at least one of RS256, PS256, ES256, ES384");
  }
  if (!config.keys.starts_with('/')) {
    const auto url = ParseWebAddress(config.keys, where + ".keys");
    if (!url) return tl::unexpected(url.error());
    if (url->tls && config.keys_ca.empty()) {
      return Invalid(where + ".keys_ca", "missing", "a PEM file, since keys come over https");
    }
  }
  constexpr std::chrono::milliseconds kNone{0};
  for (const auto& [name, value] : {std::pair{".refresh_every", config.refresh_every},
                                    {".refresh_gap", config.refresh_gap},
                                    {".fetch_timeout", config.fetch_timeout},
                                    {".keep_for", config.keep_for}}) {
    if (value <= kNone) return Invalid(where + name, "out of range", "more than 0");
  }
  if (config.refresh_gap > config.refresh_every || config.refresh_every > config.keep_for) {
    return Invalid(where, "times that do not fit together",
                   "refresh_gap <= refresh_every <= keep_for");
  }
  return {};
}

std::shared_ptr<const KeySet> Issuer::Keys(const Moment& now) const {
  const std::lock_guard lock(mutex_);
  if (!keys_ || now.steady - fetched_ > config_.keep_for) return nullptr;
  return keys_;
}

std::vector<std::string> Issuer::Replace(KeySet keys, const Moment& fetched) {
  auto next = std::make_shared<const KeySet>(std::move(keys));
  const std::lock_guard lock(mutex_);
  auto gone = keys_ ? Vanished(*keys_, *next) : std::vector<std::string>();
  keys_ = std::move(next);
  fetched_ = fetched.steady;
  return gone;
}

std::optional<std::chrono::steady_clock::time_point> Issuer::fetched() const {
  const std::lock_guard lock(mutex_);
  if (!keys_) return {};
  return fetched_;
}

void Issuer::WantKeys() const {
  if (tell_) tell_();
}

}  // namespace portcullis::identity
