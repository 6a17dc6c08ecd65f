// Requests that an operator must approve, from the policy that says so to the one time they pass.
#include "control/admission/held.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "control/admission/operations_world.hpp"

namespace portcullis::admission {
namespace {

using identity::Reason;
using nlohmann::json;
using State = model::HeldRequest::State;
using namespace std::chrono_literals;

class HeldTest : public OperationsWorld {
 protected:
  void SetUp() override {
    OperationsWorld::SetUp();
    Edit([](model::Document& d) {
      d.policies[0].approval = {"nsi:delete"};
      d.policies[0].approval_seconds = 600;
    });
  }
  admission::Operate Delete(const std::string& target = "/nsi?x=1", const std::string& body = "",
                            int number = 1) {
    auto r = Ask("nsi:delete", "", number);
    r.set_path(target.substr(0, target.find('?')));
    r.mutable_whole()->set_target(target);
    r.mutable_whole()->set_content_type("application/json");
    r.mutable_whole()->set_body(body);
    return r;
  }
  identity::Refusal Refused(const admission::Operate& r) {
    const auto done = Operate(r);
    EXPECT_FALSE(done);
    return done ? identity::Refusal{Reason::tls_failed, {}} : done.error();
  }
  /// As an operator does over REST.
  void Decide(const std::string& id, State state, std::chrono::seconds life = 600s) {
    auto held = gate_->store().FindHeld(id);
    ASSERT_TRUE(held && *held);
    (*held)->state = state;
    (*held)->decided_by = "bob";
    (*held)->expires =
        std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now()) + life;
    ASSERT_TRUE(*gate_->store().DecideHeld(**held));
  }
};

TEST_F(HeldTest, WaitsForAnOperatorAndPassesOnce) {
  const auto first = Delete();
  const identity::Refusal held = Refused(first);
  EXPECT_EQ(held.reason, Reason::approval_needed);
  EXPECT_EQ(held.held, first.id());
  EXPECT_EQ(Told("held_request"), 1U);
  // The same again is the same, with whatever token; nothing new waits.
  EXPECT_EQ(Refused(Delete()).held, first.id());
  EXPECT_EQ(gate_->store().ReadHeld()->size(), 1U);
  Begin({});  // as after kill -9
  EXPECT_EQ(Refused(Delete()).held, first.id());

  Decide(first.id(), State::approved);
  Begin({});
  const auto passes = Delete();
  ASSERT_TRUE(Operate(passes));
  EXPECT_EQ(gate_->store().ReadHeld()->size(), 0U);
  const auto again = Delete();
  EXPECT_EQ(Refused(again).held, again.id());  // a new one

  const auto records = Records();
  ASSERT_EQ(records.size(), 3U);
  const auto of = [&](const std::string& id) {
    for (const json& record : records) {
      if (record["subject"] == id) return record;
    }
    return json();
  };
  EXPECT_EQ(of(first.id())["outcome"], "held");
  EXPECT_EQ(of(passes.id())["outcome"], "begun");
  EXPECT_EQ(of(passes.id())["detail"]["approval"],
            json({{"held", first.id()},
                  {"approved_by", "bob"},
                  {"request_digest", of(first.id())["detail"]["request_digest"]}}));
}

TEST_F(HeldTest, WhatIsNotTheSameIsHeldAnew) {
  const auto first = Delete();
  Refused(first);
  Decide(first.id(), State::approved);
  auto method = Delete();
  method.set_method("PATCH");
  auto type = Delete();
  type.mutable_whole()->set_content_type("application/merge-patch+json");
  for (const auto& other : {Delete("/nsi?x=2"), Delete("/nsi"), Delete("/nsi?x=1", "{}"), method,
                            type, Delete("/nsi?x=1", "", 2)}) {
    EXPECT_EQ(Refused(other).held, other.id());
  }
  EXPECT_TRUE(Operate(Delete()));
}

TEST_F(HeldTest, WhatTheBytesHaveComeToMeanIsHeldAnew) {
  const auto first = Delete();
  Refused(first);
  Decide(first.id(), State::approved);
  auto more = Delete();
  more.add_operations("nsi:read");
  EXPECT_EQ(Refused(more).held, more.id());
  Decide(more.id(), State::approved);
  more = Delete();
  more.add_operations("nsi:read");
  EXPECT_TRUE(Operate(more));
}

TEST_F(HeldTest, ADenialHoldsAndEverythingEnds) {
  const auto first = Delete();
  Refused(first);
  Decide(first.id(), State::denied);
  const identity::Refusal denied = Refused(Delete());
  EXPECT_EQ(denied.reason, Reason::operation_denied);
  EXPECT_TRUE(denied.held.empty());
  for (const State state : {State::denied, State::approved, State::waiting}) {
    const auto before = gate_->store().ReadHeld()->front().id;
    Decide(before, state, 0s);
    const auto anew = Delete();
    EXPECT_EQ(Refused(anew).held, anew.id());  // what has expired is no more
  }
}

TEST_F(HeldTest, OfTwoAtOnceOnePasses) {
  const auto first = Delete();
  Refused(first);
  Decide(first.id(), State::approved);
  auto one = Begin(operations_->Operate(Delete(), 1));
  auto two = Begin(operations_->Operate(Delete(), 1));
  Await([&] { return one->has_value() && two->has_value(); });
  EXPECT_TRUE((*one)->has_value());
  ASSERT_FALSE((*two)->has_value());
  EXPECT_EQ((*two)->error().reason, Reason::approval_needed);
}

TEST_F(HeldTest, WhatIsWithdrawnWhileItWaitsForTheDiskDoesNotPass) {
  const auto first = Delete();
  Refused(first);
  Decide(first.id(), State::approved);
  auto other = Begin(operations_->Operate(Ask("nsi:create"), 1));
  auto one = Begin(operations_->Operate(Delete(), 1));
  io_.restart();
  io_.run_one();
  io_.run_one();
  Decide(first.id(), State::denied);
  Await([&] { return one->has_value() && other->has_value(); });
  EXPECT_FALSE((*one)->has_value());
  EXPECT_TRUE((*other)->has_value());
}

TEST_F(HeldTest, WhatIsRefusedForAnotherReasonIsNotHeldAndUsesUpNoApproval) {
  auto r = Delete();
  r.set_tenant("b");
  EXPECT_EQ(Refused(r).reason, Reason::tenant_violation);
  EXPECT_EQ(gate_->store().ReadHeld()->size(), 0U);
  const auto first = Delete();
  Refused(first);
  Decide(first.id(), State::approved);
  Edit([](model::Document& d) {
    d.policies[0].quotas.push_back({"nsi:delete", 1, 3600});
    d.policies[0].one_time = true;
  });
  auto other = Delete("/nsi/other");
  other.mutable_token()->set_jti("other");
  const std::string id = Refused(other).held;
  Decide(id, State::approved);
  other = Delete("/nsi/other");
  other.mutable_token()->set_jti("other");  // it was not used up by being held
  EXPECT_TRUE(Operate(other));
  EXPECT_EQ(Refused(Delete()).reason, Reason::quota_exceeded);
  Edit([](model::Document& d) { d.policies[0].quotas.clear(); });
  EXPECT_TRUE(Operate(Delete()));
}

TEST_F(HeldTest, WhatCannotBeShownOrKeptIsNotHeld) {
  auto without = Delete();
  without.clear_whole();
  EXPECT_EQ(Refused(without).reason, Reason::gate_unavailable);
  auto another = Delete();
  another.mutable_whole()->set_target("/another");
  EXPECT_EQ(Refused(another).reason, Reason::request_malformed);
  EXPECT_EQ(Refused(Delete("/nsi", std::string(32769, 'x'))).reason, Reason::request_malformed);
  EXPECT_EQ(Refused(Delete("/nsi", std::string(32768, 'x'))).reason, Reason::approval_needed);
  EXPECT_EQ(Refused(Delete("/a", "\xff")).reason, Reason::request_malformed);
  EXPECT_EQ(Refused(Delete("/a", "x\ny\u00e4")).reason, Reason::approval_needed);
  for (int i = 0; i < 14; ++i) {
    EXPECT_EQ(Refused(Delete(fmt::format("/nsi/{}", i))).reason, Reason::approval_needed);
  }
  EXPECT_EQ(Refused(Delete("/nsi/15")).reason, Reason::quota_exceeded);
  EXPECT_EQ(Refused(Delete("/nsi/15", "", 2)).reason, Reason::approval_needed);
}

TEST_F(HeldTest, WhereAnyPolicyThatGivesItAsksItWaits) {
  EXPECT_TRUE(Operate(Ask("nsi:create")));
  auto r = Delete();
  r.mutable_token()->add_scopes("nsi:read");
  Edit([](model::Document& d) {
    std::ranges::find(d.policies, "read", &model::Policy::name)->operations = {"nsi:delete"};
  });
  EXPECT_EQ(Refused(r).reason, Reason::approval_needed);
  *r.mutable_token()->mutable_scopes(0) = "nsi:read";  // opens the other policy alone
  EXPECT_TRUE(Operate(r));
  Permitted permitted;
  ASSERT_TRUE(permits_->Permit(Csmf(1), permitted));
  ASSERT_EQ(permitted.approval_size(), 1);
  EXPECT_EQ(permitted.approval(0), "nsi:delete");
}

}  // namespace
}  // namespace portcullis::admission
