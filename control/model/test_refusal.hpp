// For tests: a document that passes, with one thing in it changed, is refused where that is.
#pragma once

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "control/model/json.hpp"
#include "control/model/validate.hpp"

namespace portcullis::model::test {

inline Result<std::vector<Warning>> Check(const nlohmann::json& document, bool lab = false) {
  const auto parsed = ParseDocument(document);
  if (!parsed) return tl::unexpected(parsed.error());
  return Validate(*parsed, lab);
}

struct Refusal {
  const char* name;
  const char* pointer;  // what is changed in the good document
  const char* value;    // to what
  ErrorKind kind;
  const char* where;  // where the refusal points
  const char* says;   // and what its text contains
};

inline void ExpectPointsAtTheField(nlohmann::json document, const Refusal& refusal) {
  document[nlohmann::json::json_pointer(refusal.pointer)] = nlohmann::json::parse(refusal.value);
  const auto outcome = Check(document);
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().kind, refusal.kind);
  EXPECT_EQ(outcome.error().where, refusal.where);
  EXPECT_NE(outcome.error().Text().find(refusal.says), std::string::npos) << outcome.error().Text();
  EXPECT_FALSE(outcome.error().expected.empty());
  EXPECT_FALSE(outcome.error().found.empty());
}

}  // namespace portcullis::model::test
