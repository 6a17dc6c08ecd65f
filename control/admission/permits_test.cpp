// What a peer may ask for, and how soon the guard hears that it is otherwise.
#include "control/admission/permits.hpp"

#include <gtest/gtest.h>

#include "control/admission/requests_world.hpp"

namespace portcullis::admission {
namespace {

using identity::Reason;
using Kind = model::Revocable::Kind;

class PermitsTest : public RequestsWorld {
 protected:
  tl::expected<Permitted, identity::Refusal> Ask(const Applicant& who) {
    Permitted reply;
    auto done = permits_->Permit(who, reply);
    if (!done) return tl::unexpected(done.error());
    return reply;
  }
  static std::vector<std::string> OperationsOf(const Permitted& permitted) {
    return {permitted.operations().begin(), permitted.operations().end()};
  }
  Reason WhyNot(const Applicant& who) {
    const auto permitted = Ask(who);
    EXPECT_FALSE(permitted);
    return permitted ? Reason::tls_failed : permitted.error().reason;
  }
};

TEST_F(PermitsTest, IsWhatTokenAndPolicyBothGive) {
  const auto permitted = Ask(Csmf());
  ASSERT_TRUE(permitted) << permitted.error().Text();
  EXPECT_EQ(permitted->peer(), "csmf-1");
  EXPECT_EQ(permitted->role(), "csmf");
  EXPECT_EQ(permitted->tenant(), "a");
  EXPECT_EQ(permitted->self(), "as-1");
  EXPECT_EQ(permitted->seconds(), 600U);
  EXPECT_EQ(permitted->version(), permits_->version());
  EXPECT_EQ(OperationsOf(*permitted),
            (std::vector<std::string>{"nsi:create", "nsi:delete", "nsi:read"}));
  const auto second = Ask(Csmf(2, "nsi:read"));
  ASSERT_TRUE(second) << second.error().Text();
  EXPECT_EQ(second->self(), "csmf-2");  // its client, since policy says nothing else
  EXPECT_EQ(second->seconds(), 300U);
  EXPECT_EQ(OperationsOf(*second), (std::vector<std::string>{"nsi:list", "nsi:read"}));
}

TEST_F(PermitsTest, SeveralPoliciesGiveTheirUnionForTheShortestTime) {
  Applicant who = Csmf();
  who.scopes.insert("nsi:read");
  who.token_expiry = std::chrono::system_clock::now() + std::chrono::seconds(100);
  const auto permitted = Ask(who);
  ASSERT_TRUE(permitted) << permitted.error().Text();
  EXPECT_EQ(permitted->operations_size(), 4);
  EXPECT_LE(permitted->seconds(), 100U);
  EXPECT_GE(permitted->seconds(), 90U);
}

TEST_F(PermitsTest, RefusesWhatEitherDoesNotGive) {
  EXPECT_EQ(WhyNot(Csmf(1, "*")), Reason::token_scope_fail);
  EXPECT_EQ(WhyNot(Csmf(1, "nsi:nothing")), Reason::policy_denied);        // no operations
  EXPECT_EQ(WhyNot(Csmf(1, "nsi:manage", "oam")), Reason::policy_denied);  // packets
  EXPECT_EQ(WhyNot(Csmf(1, "nsi:manage", "nowhere")), Reason::policy_denied);
  EXPECT_EQ(WhyNot(Csmf(3)), Reason::peer_unknown);
  Applicant with_anothers_token = Csmf();
  with_anothers_token.client_id = "csmf-2";
  EXPECT_EQ(WhyNot(with_anothers_token), Reason::token_client_fail);
  Applicant late = Csmf();
  late.token_expiry = std::chrono::system_clock::now();
  EXPECT_EQ(WhyNot(late), Reason::token_expired);
  EXPECT_TRUE(Ask(Csmf()));
}

TEST_F(PermitsTest, AKeyIsOnePeers) {
  ASSERT_TRUE(Ask(Csmf()));
  Applicant copy = Csmf(2);
  copy.identity.set_spki_sha256("key-1");
  EXPECT_EQ(WhyNot(copy), Reason::spki_reuse);
  EXPECT_TRUE(Ask(Csmf(2)));
}

TEST_F(PermitsTest, BlocksAreThoseThatConcernThePeer) {
  Edit([](model::Document& d) {
    d.blocks = {{"all", "nsmf", "", "PATCH", "/nsi/*"}, {"one", "nsmf", "csmf-1", "", "/x"}};
  });
  EXPECT_EQ(Ask(Csmf())->blocks_size(), 2);
  const auto other = Ask(Csmf(2));
  ASSERT_EQ(other->blocks_size(), 1);
  EXPECT_EQ(other->blocks(0).name(), "all");
  EXPECT_EQ(other->blocks(0).method(), "PATCH");
  EXPECT_EQ(other->blocks(0).path(), "/nsi/*");
}

TEST_F(PermitsTest, WhoIsRevokedMayNothing) {
  const std::vector<std::pair<model::Revocable, Reason>> all{
      {{Kind::certificate, "CN=below", "01"}, Reason::cert_revoked},
      {{Kind::token, "i", "t1"}, Reason::token_revoked},
      {{Kind::key, "i", "k"}, Reason::token_revoked},
      {{Kind::policy, "", "manage"}, Reason::token_scope_fail},  // nothing is left for its scope
      {{Kind::peer, "", "csmf-1"}, Reason::peer_revoked}};
  for (const auto& [what, reason] : all) {
    const uint64_t before = permits_->version();
    ASSERT_TRUE(Ask(Csmf()));
    Revoke(what);
    EXPECT_NE(permits_->version(), before);
    EXPECT_EQ(WhyNot(Csmf()), reason);
    ASSERT_TRUE(Run(gate_->Readmit(what, {})));
  }
  EXPECT_TRUE(Ask(Csmf()));
}

TEST_F(PermitsTest, WatchAnswersAtOnceWhenTheGuardKnowsAnotherVersion) {
  EXPECT_EQ(Run(permits_->Watch(0)), permits_->version());
  EXPECT_EQ(Run(permits_->Watch(permits_->version() - 1)), permits_->version());
}

TEST_F(PermitsTest, WatchAnswersWhenSomethingChanges) {
  const uint64_t known = permits_->version();
  const auto first = Begin(permits_->Watch(known));
  const auto second = Begin(permits_->Watch(known));
  io_.poll();
  EXPECT_FALSE(first->has_value() || second->has_value());
  const auto then = std::chrono::steady_clock::now();
  Revoke({Kind::token, "i", "t1"});
  Await([&] { return first->has_value() && second->has_value(); });
  EXPECT_LT(std::chrono::steady_clock::now() - then, std::chrono::seconds(1));
  EXPECT_EQ(**first, permits_->version());
  EXPECT_NE(**first, known);
}

TEST_F(PermitsTest, WatchAnswersAfterAWhileAllTheSame) {
  const uint64_t known = permits_->version();
  EXPECT_EQ(Run(permits_->Watch(known)), known);
}

TEST_F(PermitsTest, AnotherProcessHasOtherVersions) {
  const uint64_t known = permits_->version();
  permits_.reset();
  permits_.emplace(io_.get_executor(), *gate_, *sessions_);
  EXPECT_NE(permits_->version(), known);
}

}  // namespace
}  // namespace portcullis::admission
