// Tokens that are good for one request, from the policy that says so to the disk.
#include <gtest/gtest.h>

#include <csignal>
#include <set>

#include <sys/resource.h>

#include "control/admission/operations_world.hpp"

namespace portcullis::admission {
namespace {

using identity::Reason;
using nlohmann::json;
using namespace std::chrono_literals;

class OneTimeTest : public OperationsWorld {
 protected:
  void SetUp() override {
    OperationsWorld::SetUp();
    Edit([](model::Document& d) { d.policies[0].one_time = true; });
  }
  admission::Operate With(const std::string& jti, const std::string& operation = "nsi:read") {
    auto r = Ask(operation);
    r.mutable_token()->set_jti(jti);
    return r;
  }
};

TEST_F(OneTimeTest, ATokenIsGoodForOneRequestAlsoAfterARestart) {
  for (const char* operation : {"nsi:read", "nsi:create"}) {
    const std::string jti = std::string("of-") + operation;
    EXPECT_TRUE(Operate(With(jti, operation)));
    EXPECT_EQ(WhyNot(With(jti, operation)), Reason::token_used);
    Begin({});  // as after kill -9: nothing but the disk
    EXPECT_EQ(WhyNot(With(jti, operation)), Reason::token_used);
    EXPECT_TRUE(Operate(With("another-" + jti, operation)));
    auto other = With(jti, operation);
    other.mutable_token()->set_issuer("j");  // no peer's; it comes that far and no further
    EXPECT_EQ(WhyNot(other), Reason::token_client_fail);
  }
}

TEST_F(OneTimeTest, WhereNoPolicySaysSoItIsGoodForMany) {
  auto r = With("t", "nsi:read");
  for (int i = 0; i < 2; ++i) {
    auto more = With("t");
    *more.mutable_token()->mutable_scopes(0) = "nsi:read";  // opens another policy
    EXPECT_TRUE(Operate(more));
  }
  // One scope more, and it is good for one.
  auto both = With("t");
  both.mutable_token()->add_scopes("nsi:read");
  EXPECT_TRUE(Operate(both));
  EXPECT_EQ(WhyNot(both = With("t")), Reason::token_used);
}

TEST_F(OneTimeTest, OfTwoAtOnceOnePasses) {
  for (const char* operation : {"nsi:read", "nsi:create"}) {
    const std::string jti = std::string("of-") + operation;
    auto first = Begin(operations_->Operate(With(jti, operation), 1));
    auto second = Begin(operations_->Operate(With(jti, operation), 1));
    auto other = Begin(operations_->Operate(With(jti + "2", operation), 1));
    Await([&] { return first->has_value() && second->has_value() && other->has_value(); });
    EXPECT_TRUE((*first)->has_value());
    ASSERT_FALSE((*second)->has_value());
    EXPECT_EQ((*second)->error().reason, Reason::token_used);
    EXPECT_TRUE((*other)->has_value());
  }
}

TEST_F(OneTimeTest, WhatIsRefusedForAnotherReasonUsesNothing) {
  EXPECT_EQ(WhyNot(With("t", "nsi:activate")), Reason::operation_denied);
  EXPECT_TRUE(Operate(With("t")));
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(Operate(With(fmt::format("c{}", i), "nsi:create")));
  EXPECT_EQ(WhyNot(With("d", "nsi:create")), Reason::quota_exceeded);
  EXPECT_TRUE(Operate(With("d")));
  // Nor does what is refused for its token use up a quota.
  EXPECT_EQ(WhyNot(With("t", "nsi:create")), Reason::token_used);
}

TEST_F(OneTimeTest, ATokenWithoutANumberIsNone) {
  EXPECT_EQ(WhyNot(With("")), Reason::token_claims_fail);
  EXPECT_EQ(WhyNot(With(std::string(256, 'x'))), Reason::token_claims_fail);
  EXPECT_TRUE(Operate(With(std::string(255, 'x'))));
}

TEST_F(OneTimeTest, APermitSaysSoAndIsRefusedOnceTheTokenIsUsed) {
  Permitted permitted;
  ASSERT_TRUE(permits_->Permit(Csmf(1), permitted));
  EXPECT_TRUE(permitted.one_time());
  ASSERT_TRUE(Operate(Ask("nsi:read")));
  const auto again = permits_->Permit(Csmf(1), permitted);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().reason, Reason::token_used);
  Permitted other;
  ASSERT_TRUE(permits_->Permit(Csmf(1, "nsi:read"), other));
  EXPECT_FALSE(other.one_time());
}

TEST_F(OneTimeTest, WhatCannotBeWrittenDownIsNotMade) {
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit none{0, before.rlim_max};
  std::signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &none);
  EXPECT_EQ(WhyNot(With("t")), Reason::gate_unavailable);
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_TRUE(Operate(With("t")));
  EXPECT_EQ(WhyNot(With("t")), Reason::token_used);
}

TEST_F(OneTimeTest, WhatHasExpiredIsForgotten) {
  ASSERT_TRUE(Operate(With("t")));
  OneTimeTokens tokens(gate_->store());
  ASSERT_TRUE(tokens.Restore());
  const auto now = std::chrono::system_clock::now();
  tokens.Prune(TimeVerdict::ok, now + 1h);  // its leeway has not passed
  EXPECT_EQ(*gate_->store().CountUsedTokens(), 1U);
  tokens.Prune(TimeVerdict::ok, now + 2h);
  EXPECT_EQ(*gate_->store().CountUsedTokens(), 0U);
}

}  // namespace
}  // namespace portcullis::admission
