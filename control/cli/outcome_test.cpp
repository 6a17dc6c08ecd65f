#include "control/cli/outcome.hpp"

#include <gtest/gtest.h>

namespace portcullis::cli {
namespace {

TEST(OutcomeTest, StatusDecidesTheExitCode) {
  EXPECT_EQ(FailureOf(400, "{}").code, ExitCode::kRefused);
  EXPECT_EQ(FailureOf(401, "{}").code, ExitCode::kNotAllowed);
  EXPECT_EQ(FailureOf(403, "{}").code, ExitCode::kNotAllowed);
  EXPECT_EQ(FailureOf(404, "{}").code, ExitCode::kRefused);
  EXPECT_EQ(FailureOf(422, "{}").code, ExitCode::kRefused);
  EXPECT_EQ(FailureOf(500, "{}").code, ExitCode::kServerError);
  EXPECT_EQ(FailureOf(503, "{}").code, ExitCode::kServerError);
}

TEST(OutcomeTest, AProblemIsOneSentence) {
  EXPECT_EQ(FailureOf(422, R"({"title":"Invalid","detail":"zone external needs protection.",
                               "field":"/interfaces/0/protection","expected":"esp or tls",
                               "found":"none"})")
                .text,
            "zone external needs protection (field /interfaces/0/protection, expected esp or tls, "
            "found none)");
  EXPECT_EQ(FailureOf(404, R"({"title":"Not found"})").text, "Not found");
  EXPECT_EQ(FailureOf(409, R"({"detail":"taken","found":17})").text, "taken (found 17)");
}

TEST(OutcomeTest, ABodyThatIsNoProblemIsSaid) {
  for (const char* body : {"", "<html>", "[1]", "\"x\""}) {
    EXPECT_EQ(FailureOf(502, body).text,
              "control answered 502 without saying why (no problem body)");
  }
}

TEST(OutcomeTest, ProgramsGetTheProblemAndTheExitCode) {
  const auto problem = ToProblem(FailureOf(409, R"({"detail":"taken","type":"urn:x"})"));
  EXPECT_EQ(problem["detail"], "taken");
  EXPECT_EQ(problem["type"], "urn:x");
  EXPECT_EQ(problem["exit_code"], 1);
  EXPECT_EQ(ToProblem({ExitCode::kUnreachable, "refused", nullptr})["exit_code"], 3);
}

}  // namespace
}  // namespace portcullis::cli
