#include "control/model/approval.hpp"

#include <fmt/ranges.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>
#include <span>

#include "control/model/held_request.hpp"

namespace portcullis::model {

using nlohmann::json;

namespace {

bool Has(const json& difference, const char* list, std::string_view kind) {
  return std::ranges::any_of(difference[list],
                             [&](const json& one) { return one["kind"] == kind; });
}

bool Touches(const json& difference, std::string_view kind) {
  return Has(difference, "added", kind) || Has(difference, "changed", kind) ||
         Has(difference, "removed", kind);
}

bool Covers(ApprovedChange change, const json& difference) {
  switch (change) {
    case ApprovedChange::interfaces:
      return Touches(difference, "interface");
    case ApprovedChange::peers:
      return Touches(difference, "peer");
    case ApprovedChange::policies:
      // A block only closes, as revoking does: it takes one person to add it.
      return Touches(difference, "policy") || Has(difference, "changed", "request-block") ||
             Has(difference, "removed", "request-block");
    case ApprovedChange::first_line:
      return Touches(difference, "first-line");
    case ApprovedChange::readmission:
      return Has(difference, "removed", "revocation");
  }
  return true;
}

}  // namespace

std::optional<Cover> CoverOf(const std::vector<ApprovalRule>& rules, const json& difference) {
  // Who could remove a rule alone, or narrow it, could do alone whatever it covers.
  const bool weakens =
      Has(difference, "changed", "approval") || Has(difference, "removed", "approval");
  Cover cover;
  for (const ApprovalRule& rule : rules) {
    const bool covers = weakens || std::ranges::any_of(rule.changes, [&](ApprovedChange change) {
                          return Covers(change, difference);
                        });
    if (!covers) continue;
    cover.expires_seconds = cover.rules.empty()
                                ? rule.expires_seconds
                                : std::min(cover.expires_seconds, rule.expires_seconds);
    cover.rules.push_back(rule.name);
  }
  if (cover.rules.empty()) return {};
  return cover;
}

namespace {

std::string Sha256Hex(const std::string& text) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned length = 0;
  EVP_Digest(text.data(), text.size(), digest.data(), &length, EVP_sha256(), nullptr);
  return fmt::format("{:02x}", fmt::join(std::span(digest).first(length), ""));
}

}  // namespace

std::string ChangeDigest(std::string_view method, std::string_view path, std::string_view body) {
  return Sha256Hex(fmt::format("portcullis change 1\n{}\n{}\n{}", method, path, body));
}

std::string RequestDigest(std::string_view method, std::string_view target,
                          std::string_view content_type, std::string_view body) {
  return Sha256Hex(
      fmt::format("portcullis request 1\n{}\n{}\n{}\n{}", method, target, content_type, body));
}

}  // namespace portcullis::model
