// Operations over the real core, store and audit log.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <set>

#include "control/admission/operations_world.hpp"

namespace portcullis::admission {
namespace {

using identity::Reason;
using nlohmann::json;
using namespace std::chrono_literals;

using OperationsTest = OperationsWorld;

TEST_F(OperationsTest, AChangeIsOnTheDiskBeforeItIsMadeAndItsOutcomeAfterwards) {
  const auto r = Ask("nsi:create");
  ASSERT_TRUE(Operate(r));
  auto records = log_->Read(1, 1000);
  ASSERT_EQ(records->back()["outcome"], "begun");
  const uint64_t begun = records->back()["number"];
  auto ended = Ended(r.id(), 201);
  ended.set_created("7");
  ASSERT_TRUE(Outcome(ended));
  const auto all = Records();
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[0]["who"], "csmf-1");
  EXPECT_EQ(all[0]["subject"], r.id());
  EXPECT_EQ(all[0]["detail"], json::parse(R"({"interface":"nsmf","tenant":"a","kind":"slice",
      "operations":["nsi:create"],"method":"POST","path":"/nsi","source":"192.0.2.2",
      "token":{"issuer":"i","subject":"csmf-1","id":"t1"}})"));
  EXPECT_EQ(all[1]["outcome"], "done");
  EXPECT_EQ(all[1]["subject"], r.id());
  const json& detail = all[1]["detail"];
  EXPECT_EQ(detail["begun"], begun);
  EXPECT_EQ(detail["status"], 201);
  EXPECT_EQ(detail["request_bytes"], 7);
  EXPECT_EQ(detail["response_bytes"], 11);
  EXPECT_EQ(detail["created"], json::parse(R"({"kind":"slice","id":"7"})"));
  EXPECT_EQ(Counted("nsi:create", "done"), 1U);
  EXPECT_EQ(operations_->open(), 0U);
}

TEST_F(OperationsTest, WhatOnlyReadsHasOneRecordEachHoweverManyTheyAre) {
  constexpr size_t kMany = 300;
  for (size_t i = 0; i < kMany; ++i) {
    const auto r = Ask("nsi:read");
    ASSERT_TRUE(Operate(r));
    ASSERT_TRUE(Outcome(Ended(r.id(), i == 0 ? 500 : 200)));
  }
  const auto all = Records();
  ASSERT_EQ(all.size(), kMany);
  EXPECT_EQ(all[0]["outcome"], "failed");
  EXPECT_EQ(all[1]["outcome"], "done");
  EXPECT_FALSE(all[1]["detail"].contains("begun"));
  EXPECT_EQ(Counted("nsi:read", "failed"), 1U);
  EXPECT_EQ(Counted("nsi:read", "done"), kMany - 1);
}

TEST_F(OperationsTest, ManyThatWaitAreWrittenTogether) {
  constexpr size_t kMany = 500;
  Edit([](model::Document& d) { d.policies[0].quotas.clear(); });
  std::vector<decltype(Begin(operations_->Operate({}, 1)))> all;
  for (size_t i = 0; i < kMany; ++i) {
    all.push_back(Begin(operations_->Operate(Ask("nsi:create"), 1)));
  }
  Await(
      [&] { return std::ranges::all_of(all, [](const auto& done) { return done->has_value(); }); });
  for (const auto& done : all) EXPECT_TRUE(**done);
  const auto records = Records();
  EXPECT_EQ(records.size(), kMany);
  std::set<std::string> times;  // one of each write
  for (const json& record : records) times.insert(record["time"]);
  EXPECT_LE(times.size(), 3U);
  EXPECT_FALSE(Verified().wrong);
}

TEST_F(OperationsTest, RefusesWhatPolicyDoesNotGiveNow) {
  EXPECT_EQ(WhyNot(Ask("nsi:list")), Reason::operation_denied);  // another scope's
  auto both = Ask("nsi:read");
  both.add_operations("nsi:unheard-of");
  EXPECT_EQ(WhyNot(both), Reason::operation_denied);
  auto other_tenant = Ask("nsi:read");
  other_tenant.set_tenant("b");
  EXPECT_EQ(WhyNot(other_tenant), Reason::tenant_violation);
  auto other_token = Ask("nsi:read");
  *other_token.mutable_token() = TokenOf(2);
  EXPECT_EQ(WhyNot(other_token), Reason::token_client_fail);
  auto late = Ask("nsi:read");
  late.mutable_token()->set_expiry(1);
  EXPECT_EQ(WhyNot(late), Reason::token_expired);
  auto packets = Ask("nsi:read");
  packets.set_interface("oam");
  EXPECT_EQ(WhyNot(packets), Reason::policy_denied);
  auto stranger = Ask("nsi:read");
  stranger.set_peer("csmf-9");
  EXPECT_EQ(WhyNot(stranger), Reason::peer_unknown);
  EXPECT_TRUE(Operate(Ask("nsi:read")));
  EXPECT_EQ(operations_->open(), 1U);
}

// The guard may have been told before the session ended. Here is no dataplane, and no session.
TEST_F(OperationsTest, WhatMustComeInEspIsNotMadeWithoutASession) {
  Edit([](model::Document& d) {
    d.interfaces[0].protection = model::Protection::tls_esp;
    d.interfaces[0].guard = {*Address::Parse("10.9.0.1"), 4443};
  });
  EXPECT_EQ(WhyNot(Ask("nsi:create")), Reason::gate_unavailable);
  Edit([](model::Document& d) {
    d.interfaces[0].protection = model::Protection::tls;
    d.interfaces[0].guard.reset();
  });
  EXPECT_TRUE(Operate(Ask("nsi:create")));
}

TEST_F(OperationsTest, WhatIsRevokedOrBlockedMeanwhileIsNotMade) {
  Edit([](model::Document& d) { d.blocks = {{"cve", "nsmf", "csmf-1", "POST", "/nsi*"}}; });
  EXPECT_EQ(WhyNot(Ask("nsi:read")), Reason::request_blocked);
  auto elsewhere = Ask("nsi:read");
  elsewhere.set_path("/other");
  EXPECT_TRUE(Operate(elsewhere));
  EXPECT_TRUE(Operate(Ask("nsi:read", "", 2)));
  Edit([](model::Document& d) { d.blocks.clear(); });
  EXPECT_TRUE(Operate(Ask("nsi:read")));
  Revoke({model::Revocable::Kind::token, "i", "t1"});
  EXPECT_EQ(WhyNot(Ask("nsi:read")), Reason::token_revoked);
  EXPECT_TRUE(Operate(Ask("nsi:read", "", 2)));
}

TEST_F(OperationsTest, RefusesWhatIsNotWellFormed) {
  const auto refuses = [&](auto spoil) {
    auto r = Ask("nsi:read", "7");
    spoil(r);
    const auto done = Operate(r);
    return !done && done.error().reason == Reason::request_malformed;
  };
  using R = admission::Operate&;
  EXPECT_TRUE(refuses([](R r) { r.set_id("x"); }));
  EXPECT_TRUE(refuses([](R r) { r.set_method(""); }));
  EXPECT_TRUE(refuses([](R r) { r.set_method("GET\n"); }));
  EXPECT_TRUE(refuses([](R r) { r.set_path("nsi"); }));
  EXPECT_TRUE(refuses([](R r) { r.set_path("/" + std::string(2048, 'x')); }));
  EXPECT_TRUE(refuses([](R r) { r.clear_operations(); }));
  EXPECT_TRUE(refuses([](R r) { r.set_operations(0, "*"); }));
  EXPECT_TRUE(refuses([](R r) { r.set_kind(std::string(64, 'k')); }));
  EXPECT_TRUE(refuses([](R r) { r.set_kind(""); }));
  EXPECT_TRUE(refuses([](R r) { r.set_resource(std::string(513, 'r')); }));
  EXPECT_TRUE(refuses([](R r) { r.set_source("abc"); }));
  EXPECT_FALSE(refuses([](R) {}));
  const auto r = Ask("nsi:read");
  EXPECT_TRUE(Operate(r));
  EXPECT_EQ(WhyNot(r), Reason::request_malformed);  // the same id again
  const auto unknown = Outcome(Ended("00000000000000ff"));
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().reason, Reason::request_malformed);
  EXPECT_TRUE(Outcome(Ended(r.id())));
  EXPECT_FALSE(Outcome(Ended(r.id())));  // once
}

TEST_F(OperationsTest, AQuotaIsTheTenants) {
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(Operate(Ask("nsi:create")));
  EXPECT_EQ(WhyNot(Ask("nsi:create")), Reason::quota_exceeded);
  EXPECT_TRUE(Operate(Ask("nsi:create", "", 2)));
  EXPECT_TRUE(Operate(Ask("nsi:read")));
  EXPECT_EQ(Counted("nsi:create", "quota_exceeded"), 1U);
  Edit([](model::Document& d) { d.policies[0].quotas[0].count = 4; });
  EXPECT_TRUE(Operate(Ask("nsi:create")));
  EXPECT_EQ(WhyNot(Ask("nsi:create")), Reason::quota_exceeded);
}

TEST_F(OperationsTest, WhatIsCreatedBelongsToItsTenant) {
  Create("7");
  EXPECT_EQ(OwnerOf("7"), "a");
  EXPECT_EQ(OwnerOf("8"), "");
  EXPECT_TRUE(Operate(Ask("nsi:read", "7")));
  EXPECT_EQ(WhyNot(Ask("nsi:read", "7", 2)), Reason::tenant_violation);
  EXPECT_TRUE(Operate(Ask("nsi:read", "8", 2)));  // nobody's: the profile says what that means
}

TEST_F(OperationsTest, WhatIsAnothersIsNeverOverwritten) {
  Create("7");
  const auto r = Ask("nsi:create", "", 2);
  ASSERT_TRUE(Operate(r));
  auto ended = Ended(r.id(), 201);
  ended.set_created("7");
  const auto done = Outcome(ended);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().reason, Reason::tenant_violation);
  EXPECT_EQ(OwnerOf("7"), "a");
  EXPECT_EQ(Told("alarm"), 1U);
  EXPECT_EQ(Records().back()["detail"]["ownership"], "another tenant's");
  Create("8", 2);
  EXPECT_EQ(OwnerOf("8"), "b");
}

TEST_F(OperationsTest, WhatIsDeletedIsNobodysWhenTheServerSaysSo) {
  Create("7");
  for (const auto& [status, owner] : {std::pair(404U, "a"), std::pair(204U, "")}) {
    const auto r = Ask("nsi:delete", "7");
    ASSERT_TRUE(Operate(r));
    auto ended = Ended(r.id(), status);
    ended.set_deleted(true);
    ASSERT_TRUE(Outcome(ended));
    EXPECT_EQ(OwnerOf("7"), owner);
  }
  Create("7", 2);
  EXPECT_EQ(OwnerOf("7"), "b");
}

TEST_F(OperationsTest, WhatIsCreatedBeneathIsOfItsOwnKind) {
  Create("7");
  auto r = Ask("nsi:create", "7");
  ASSERT_TRUE(Operate(r));
  auto ended = Ended(r.id(), 201);
  ended.set_created("s1");
  ended.set_created_kind("subscription");
  ASSERT_TRUE(Outcome(ended));
  EXPECT_EQ(OwnerOf("s1"), "");  // no slice
  EXPECT_EQ((*gate_->store().FindOwner({"nsmf", "subscription", "s1"}))->tenant, "a");
  // Not a 2xx: nothing came to be.
  r = Ask("nsi:create");
  ASSERT_TRUE(Operate(r));
  ended = Ended(r.id(), 409);
  ended.set_created("9");
  ASSERT_TRUE(Outcome(ended));
  EXPECT_EQ(OwnerOf("9"), "");
}

TEST_F(OperationsTest, WhatWasBegunBeforeControlDiedIsFoundAgain) {
  const auto lost = Ask("nsi:create");
  const auto ended = Ask("nsi:create");
  ASSERT_TRUE(Operate(lost) && Operate(ended) && Outcome(Ended(ended.id())));
  Begin({});  // as after kill -9: nothing but the disk
  EXPECT_EQ(operations_->open(), 1U);
  EXPECT_EQ(Told("operation"), 1U);
  auto outcome = Ended(lost.id(), 201);
  outcome.set_created("7");
  ASSERT_TRUE(Outcome(outcome));
  EXPECT_EQ(OwnerOf("7"), "a");
  const json record = Records().back();
  EXPECT_EQ(record["subject"], lost.id());
  EXPECT_EQ(record["who"], "csmf-1");
  EXPECT_EQ(record["detail"]["operations"], json::array({"nsi:create"}));
  Begin({});
  EXPECT_EQ(operations_->open(), 0U);
}

TEST_F(OperationsTest, WhatNobodyEndsHasFailed) {
  Begin({.missing = 50ms, .longest = 1h, .tick = 10ms});
  const auto change = Ask("nsi:create");
  const auto read = Ask("nsi:read");
  const auto other = Ask("nsi:read");
  ASSERT_TRUE(Operate(change) && Operate(read));
  ASSERT_TRUE(Run(operations_->Operate(other, 2)));  // another guard's, which lives
  operations_->GuardGone(1);
  Await([&] { return operations_->open() == 1; });
  EXPECT_EQ(Told("operation"), 3U);
  EXPECT_TRUE(Outcome(Ended(other.id())));
  size_t unknown = 0;
  for (const json& record : Records()) {
    if (record["outcome"] != "failed") continue;
    EXPECT_EQ(record["detail"]["outcome"], "unknown");
    ++unknown;
  }
  EXPECT_EQ(unknown, 2U);
  EXPECT_EQ(Counted("nsi:read", "failed"), 1U);
}

// A gateway of the operator's passes it on, and nobody tells what came of it.
TEST_F(OperationsTest, WhatAGatewayPassesOnIsDecidedAndOneRecord) {
  for (const char* operation : {"nsi:read", "nsi:create"}) {
    auto r = Ask(operation);
    r.set_gateway("edge-1.example");
    ASSERT_TRUE(Operate(r));
    EXPECT_EQ(operations_->open(), 0U);
    EXPECT_FALSE(Outcome(Ended(r.id())));
    EXPECT_EQ(Counted(operation, "decided"), 1U);
  }
  auto wrong = Ask("nsi:read");
  wrong.set_gateway("edge 1");
  EXPECT_EQ(WhyNot(wrong), Reason::request_malformed);
  const auto changes = log_->Read(1, 1000);  // a change is on the disk already
  ASSERT_TRUE(changes);
  EXPECT_EQ(changes->back()["outcome"], "decided");
  EXPECT_EQ(changes->back()["detail"]["gateway"], "edge-1.example");
  const auto all = Records();
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[0]["outcome"], "decided");
  EXPECT_EQ(all[1]["outcome"], "decided");
  Begin({});  // nothing of it is missed afterwards
  EXPECT_EQ(operations_->open(), 0U);
}

TEST_F(OperationsTest, WithoutALogNothingIsMade) {
  ASSERT_TRUE(Operate(Ask("nsi:create")));
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit none{0, before.rlim_max};
  std::signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &none);
  EXPECT_EQ(WhyNot(Ask("nsi:create")), Reason::gate_unavailable);
  EXPECT_EQ(Told("audit_failed"), 1U);
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_TRUE(Operate(Ask("nsi:create")));
}

}  // namespace
}  // namespace portcullis::admission
