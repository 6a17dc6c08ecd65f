// Whose SA carries a connection to the guard, and what the guard hears when it no longer does.
#include "control/admission/permits.hpp"
#include "control/admission/sessions_world.hpp"

namespace portcullis::admission {
namespace {

class CarriedTest : public SessionsTest {
 protected:
  CarriedTest() {
    Edit([](model::Document& d) {
      model::Interface& i = d.interfaces[0];
      i.protection = model::Protection::tls_esp;
      i.guard = {*Address::Parse("10.9.0.1"), 4443};
      d.policies[0].operations = {"nsi:read"};
    });
  }

  /// Of this peer, on a connection from there.
  static Applicant From(const std::string& source, int number = 1) {
    Applicant who = Csmf(number);
    who.identity.set_source(steer::ToBytes(*Address::Parse(source)));
    who.identity.set_decrypted(true);
    return who;
  }
  tl::expected<Permitted, identity::Refusal> Ask(const Applicant& who) {
    Permitted reply;
    auto done = permits_->Permit(who, reply);
    if (!done) return tl::unexpected(done.error());
    EXPECT_TRUE(permits_->Stay(who));  // both judge alike
    return reply;
  }
  Reason WhyNot(const Applicant& who) {
    const auto permitted = Ask(who);
    EXPECT_FALSE(permitted);
    if (permitted) return Reason::tls_failed;
    const auto stays = permits_->Stay(who);
    EXPECT_FALSE(stays);
    EXPECT_EQ(stays ? Reason::tls_failed : stays.error().reason, permitted.error().reason);
    return permitted.error().reason;
  }
  Terms OpenOne(int number = 1) { return Open(Csmf(number), SessionsTest::Ask()); }

  std::unique_ptr<Permits> permits_ =
      std::make_unique<Permits>(io_.get_executor(), gate_, *sessions_, 60s);
};

TEST_F(CarriedTest, OnlyFromWhereItsOwnSessionCarries) {
  EXPECT_EQ(WhyNot(From("10.1.0.2")), Reason::session_missing);
  const Terms terms = OpenOne();
  ASSERT_EQ(terms.selectors.size(), 1U);
  EXPECT_EQ(terms.selectors[0].local_ports().first(), 4443U);
  EXPECT_TRUE(Ask(From("10.1.0.2")));
  EXPECT_EQ(WhyNot(From("10.1.1.2")), Reason::session_missing);
  // Whose certificate it is, decides: csmf-2 has a session too, and none from there.
  OpenOne(2);
  EXPECT_EQ(WhyNot(From("10.1.0.2", 2)), Reason::session_missing);
  EXPECT_TRUE(Ask(From("10.1.1.2", 2)));
}

TEST_F(CarriedTest, WhatIsAdmittedAndNotInForceCarriesNothing) {
  const auto terms = sessions_->Admit(Csmf(), SessionsTest::Ask());
  ASSERT_TRUE(terms && Install(*terms));
  EXPECT_EQ(WhyNot(From("10.1.0.2")), Reason::session_missing);
  ASSERT_TRUE(Confirm(*terms));
  EXPECT_TRUE(Ask(From("10.1.0.2")));
}

TEST_F(CarriedTest, AListenerThatIsOpenToEverybodyIsRefused) {
  OpenOne();
  Applicant who = From("10.1.0.2");
  who.identity.set_decrypted(false);
  EXPECT_EQ(WhyNot(who), Reason::session_missing);
  // Of what asks for TLS alone, it is not wanted.
  Edit([](model::Document& d) {
    d.interfaces[0].protection = model::Protection::tls;
    d.interfaces[0].guard.reset();
  });
  EXPECT_TRUE(Ask(who));
}

TEST_F(CarriedTest, ItLastsNoLongerThanTheSession) {
  Edit([](model::Document& d) { d.policies[0].grant_seconds = 60; });
  OpenOne();
  Edit([](model::Document& d) { d.policies[0].grant_seconds = 600; });
  const auto permitted = Ask(From("10.1.0.2"));
  ASSERT_TRUE(permitted) << permitted.error().Text();
  EXPECT_LE(permitted->seconds(), 60U);
}

TEST_F(CarriedTest, TheGuardHearsOfTheEndAtOnce) {
  const Terms terms = OpenOne();
  const auto permitted = Ask(From("10.1.0.2"));
  ASSERT_TRUE(permitted);
  const uint64_t epoch = gate_.epoch();
  std::optional<uint64_t> heard;
  asio::co_spawn(io_, permits_->Watch(permitted->version()),
                 [&](const std::exception_ptr&, uint64_t version) { heard = version; });
  io_.poll();
  EXPECT_FALSE(heard);
  ASSERT_TRUE(Run(sessions_->EndByOperator(terms.session, "alice")));
  Await([&] { return heard.has_value(); });
  EXPECT_NE(*heard, permitted->version());
  EXPECT_EQ(gate_.epoch(), epoch);  // nobody else's session is decided anew
  EXPECT_EQ(WhyNot(From("10.1.0.2")), Reason::session_missing);
  // Nor is an operation begun on what the guard was told before.
  const std::string source = From("10.1.0.2").identity.source();
  EXPECT_FALSE(permits_->Carried("nsmf", "csmf-1", source));
  OpenOne();
  EXPECT_TRUE(Ask(From("10.1.0.2")));
  EXPECT_TRUE(permits_->Carried("nsmf", "csmf-1", source));
}

TEST_F(CarriedTest, ARenewalCarriesOn) {
  const Terms terms = OpenOne();
  const uint64_t version = permits_->version();
  Open(Csmf(), SessionsTest::Ask(terms.session));
  EXPECT_TRUE(Ask(From("10.1.0.2")));
  EXPECT_EQ(permits_->version(), version);
}

TEST_F(CarriedTest, SessionsThatCarryNoConnectionsEndUnnoticed) {
  Edit([](model::Document& d) {
    d.interfaces[0].protection = model::Protection::esp;
    d.interfaces[0].guard.reset();
    d.policies[0].operations.clear();
  });
  const Terms terms = OpenOne();
  const uint64_t version = permits_->version();
  ASSERT_TRUE(Run(sessions_->EndByOperator(terms.session, "alice")));
  EXPECT_EQ(permits_->version(), version);
}

TEST_F(CarriedTest, AnSaThatAnOperatorRemovedCarriesNothing) {
  OpenOne();
  ASSERT_TRUE(Ask(From("10.1.0.2")));
  ASSERT_TRUE(Run(gate_.RemoveSa(dataplane_.Sa(steer::INBOUND)->id(), {})));
  EXPECT_EQ(WhyNot(From("10.1.0.2")), Reason::session_missing);
}

TEST_F(CarriedTest, ControlThatRestartedKnowsWhatItsSessionsCarry) {
  OpenOne();
  permits_.reset();
  Restart({});
  permits_ = std::make_unique<Permits>(io_.get_executor(), gate_, *sessions_, 60s);
  EXPECT_TRUE(Ask(From("10.1.0.2")));
}

}  // namespace
}  // namespace portcullis::admission
