// How sessions begin, are renewed and end.
#include "control/admission/sessions_world.hpp"

namespace portcullis::admission {
namespace {

TEST_F(SessionsTest, InboundFirstOutboundWhenConfirmed) {
  const auto terms = sessions_->Admit(Csmf(), Ask());
  ASSERT_TRUE(terms) << terms.error().Text();
  EXPECT_EQ(terms->generation, 1U);
  EXPECT_TRUE(dataplane_.Sas().empty());
  ASSERT_TRUE(Install(*terms));
  ASSERT_EQ(dataplane_.Sas().size(), 1U);
  const auto in = dataplane_.Sa(steer::INBOUND);
  ASSERT_TRUE(in);
  EXPECT_EQ(in->spi(), terms->gate_spi);
  EXPECT_EQ(in->peer(), "csmf-1");
  EXPECT_EQ(in->replay_window(), kReplayWindow);
  EXPECT_FALSE(in->lab());
  EXPECT_NEAR(static_cast<double>(in->lifetime().hard_seconds()), 900, 60);
  ASSERT_EQ(in->selectors_size(), 1);
  ASSERT_TRUE(Confirm(*terms));
  ASSERT_EQ(dataplane_.Sas().size(), 2U);
  const auto out = dataplane_.Sa(steer::OUTBOUND);
  ASSERT_TRUE(out);
  EXPECT_EQ(out->spi(), 0x5001U);
  EXPECT_NE(out->key(), in->key());
  EXPECT_TRUE(Confirm(*terms));  // said twice
  ASSERT_EQ(sessions_->List().size(), 1U);
  EXPECT_TRUE(sessions_->List()[0].confirmed);
}

TEST_F(SessionsTest, TheFirstPacketConfirms) {
  const auto terms = sessions_->Admit(Csmf(), Ask());
  ASSERT_TRUE(terms && Install(*terms));
  dataplane_.Receive(1);
  AwaitSas(2);
}

TEST_F(SessionsTest, WhatIsNotConfirmedIsTakenBack) {
  Restart({.to_confirm = 500ms, .grace = 100ms});
  const auto terms = sessions_->Admit(Csmf(), Ask());
  ASSERT_TRUE(terms && Install(*terms));
  EXPECT_EQ(dataplane_.Sas().size(), 1U);
  AwaitSas(0);
  const auto late = Confirm(*terms);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().reason, Reason::session_conflict);
  Open(Csmf(), Ask());  // and once more, in time
  EXPECT_EQ(dataplane_.Sas().size(), 2U);
}

TEST_F(SessionsTest, ARenewalTakesOverAndTheOldOnesGo) {
  Restart({.to_confirm = 30s, .grace = 600ms});
  const Terms first = Open(Csmf(), Ask());
  const Terms second = Open(Csmf(), Ask(first.session));
  EXPECT_EQ(second.session, first.session);
  EXPECT_EQ(second.generation, 2U);
  EXPECT_NE(second.gate_spi, first.gate_spi);
  AwaitSas(3);  // the old inbound one stays for what is under way
  AwaitSas(2);
  for (const auto& sa : dataplane_.Sas()) EXPECT_TRUE(sa.id().find("-2-") != std::string::npos);
}

TEST_F(SessionsTest, ASessionThatEndsTakesItsOldGenerationsAlong) {
  const Terms first = Open(Csmf(), Ask());
  Open(Csmf(), Ask(first.session));
  AwaitSas(3);
  EXPECT_TRUE(Run(sessions_->End(Csmf(), first.session)));
  AwaitSas(0);
}

TEST_F(SessionsTest, OnlyThePeerItselfRenewsOrEnds) {
  const Terms terms = Open(Csmf(), Ask());
  const auto other = sessions_->Admit(Csmf(2), Ask(terms.session));
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().reason, Reason::session_conflict);
  const auto end = Run(sessions_->End(Csmf(2), terms.session));
  ASSERT_FALSE(end);
  EXPECT_EQ(end.error().reason, Reason::session_conflict);
  EXPECT_EQ(dataplane_.Sas().size(), 2U);
  EXPECT_TRUE(Run(sessions_->End(Csmf(1), terms.session)));
  AwaitSas(0);
}

TEST_F(SessionsTest, ASecondPlaceIsRefusedUnlessThePeerKnowsOfNone) {
  const Terms first = Open(Csmf(), Ask());
  const auto second = sessions_->Admit(Csmf(), Ask());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().reason, Reason::session_conflict);
  const Terms again = Open(Csmf(), AskFirst());
  EXPECT_NE(again.session, first.session);
  AwaitSas(2);
  ASSERT_EQ(sessions_->List().size(), 1U);
  EXPECT_EQ(sessions_->List()[0].id, again.session);
}

TEST_F(SessionsTest, ASecondPlaceIsWhatPolicySaysItIs) {
  Wanted elsewhere = AskFirst();
  elsewhere.peer_outer = *Address::Parse("192.0.2.99");
  const auto alarms = [&] {
    return std::ranges::count_if(events_.After(0),
                                 [](const Event* e) { return e->kind == "alarm"; });
  };
  Open(Csmf(), AskFirst());
  Open(Csmf(), elsewhere);  // replace
  EXPECT_EQ(alarms(), 0);
  Edit([](model::Document& d) { d.policies[0].second_place = model::SecondPlace::alarm; });
  Open(Csmf(), AskFirst());
  EXPECT_EQ(alarms(), 1);
  Edit([](model::Document& d) { d.policies[0].second_place = model::SecondPlace::refuse; });
  const auto refused = sessions_->Admit(Csmf(), elsewhere);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().reason, Reason::session_conflict);
  const Terms same_place = Open(Csmf(), AskFirst());  // it has rebooted
  EXPECT_TRUE(Run(sessions_->End(Csmf(), same_place.session)));
  Open(Csmf(), elsewhere);  // it has moved
  ASSERT_EQ(sessions_->List().size(), 1U);
}

TEST_F(SessionsTest, SessionsAreFoundAgainAfterARestart) {
  Restart({.to_confirm = 30s, .grace = 600ms});
  const Terms renewed = Open(Csmf(1), Ask());
  const Terms second = Open(Csmf(1), Ask(renewed.session));
  const auto pending = sessions_->Admit(Csmf(2), Ask());
  ASSERT_TRUE(pending && Install(*pending));
  AwaitSas(4);
  Restart({.to_confirm = 30s, .grace = 600ms});
  Await([&] { return !sessions_->List().empty(); });
  ASSERT_EQ(sessions_->List().size(), 1U);  // the other's key to the peer is lost
  const SessionState found = sessions_->List()[0];
  EXPECT_EQ(found.id, second.session);
  EXPECT_EQ(found.peer, "csmf-1");
  EXPECT_EQ(found.interface, "nsmf");
  EXPECT_EQ(found.generation, 2U);
  EXPECT_TRUE(found.confirmed);
  EXPECT_NEAR(static_cast<double>(found.left.count()), 900, 60);
  AwaitSas(2);  // what was on its way out, and what was not confirmed
  const auto refused = sessions_->Admit(Csmf(1), Ask());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().reason, Reason::session_conflict);
  EXPECT_EQ(Open(Csmf(1), Ask(second.session)).generation, 3U);
  Open(Csmf(2), Ask());
}

TEST_F(SessionsTest, WhatWasRevokedDuringARestartEndsAfterIt) {
  const Terms other = Open(Csmf(2), Ask());
  Open(Csmf(1), Ask());
  sessions_->Stop();
  Revoke(Kind::certificate, "CN=below", "01");
  Restart({});
  AwaitSas(2);
  ASSERT_EQ(sessions_->List().size(), 1U);
  EXPECT_EQ(sessions_->List()[0].id, other.session);
}

TEST_F(SessionsTest, InitialContactReplacesWhatARestartFound) {
  Open(Csmf(), Ask());
  Restart({});
  const Terms again = Open(Csmf(), AskFirst());
  AwaitSas(2);
  for (const auto& sa : dataplane_.Sas()) {
    EXPECT_TRUE(sa.id().find(again.session) != std::string::npos);
  }
}

struct Revoked {
  const char* name;
  model::Revocable what;
  Reason reason;
  bool everybody;  // or csmf-1 alone
};
class RevokedTest : public SessionsTest, public testing::WithParamInterface<Revoked> {};

// In force, admitted, and to come: none of them outlives it, and others go on.
TEST_P(RevokedTest, NothingThatRestsOnItGoesOn) {
  const auto& [name, what, reason, everybody] = GetParam();
  const Terms live = Open(Csmf(1), Ask());
  const Terms other = Open(Csmf(2), Ask());
  const auto pending = sessions_->Admit(Csmf(1), Ask(live.session));
  const auto untouched = sessions_->Admit(Csmf(2), Ask(other.session));
  ASSERT_TRUE(pending && untouched);
  Revoke(what.kind, what.issuer, what.id);
  EXPECT_TRUE(Run(sessions_->Enforce()));
  EXPECT_EQ(dataplane_.Sas().size(), everybody ? 0U : 2U);
  EXPECT_FALSE(Install(*pending));
  EXPECT_EQ(Install(*untouched).has_value(), !everybody);
  const auto late = sessions_->Admit(Csmf(1), Ask());
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().reason, reason);
  Readmit(what.kind, what.issuer, what.id);
  Open(Csmf(1), Ask());
}

INSTANTIATE_TEST_SUITE_P(
    All, RevokedTest,
    testing::Values(
        Revoked{"peer", {model::Revocable::Kind::peer, "", "csmf-1"}, Reason::peer_revoked, false},
        Revoked{"certificate",
                {model::Revocable::Kind::certificate, "CN=below", "01"},
                Reason::cert_revoked,
                false},
        Revoked{"authority",
                {model::Revocable::Kind::certificate, "CN=root", "77"},
                Reason::cert_revoked,
                true},
        Revoked{"token", {model::Revocable::Kind::token, "i", "t1"}, Reason::token_revoked, false},
        Revoked{"key", {model::Revocable::Kind::key, "i", "k"}, Reason::token_revoked, true},
        Revoked{"issuer", {model::Revocable::Kind::issuer, "", "i"}, Reason::token_revoked, true},
        Revoked{
            "policy", {model::Revocable::Kind::policy, "", "manage"}, Reason::policy_denied, true}),
    [](const auto& info) { return std::string(info.param.name); });

TEST_F(SessionsTest, ARegistrationIsTheSessionsAndEndsWithIt) {
  Edit([](model::Document& d) {
    d.interfaces[0].ports[0].last = 8090;
    d.policies[0].registration_ports = {{model::Protocol::tcp, 8085, 8085}};
  });
  const auto registered = [&] {
    std::vector<uint64_t> seconds;
    for (const auto& sa : dataplane_.Sas()) seconds.push_back(sa.registered_seconds());
    return seconds;
  };
  const auto set = [&](const std::string& interface, std::chrono::seconds duration) {
    return Run(sessions_->Register("csmf-1", interface, duration));
  };
  EXPECT_EQ(set("nsmf", 60s).error().kind, ErrorKind::kNotFound);  // no session yet
  const Terms first = Open(Csmf(), Ask());
  EXPECT_EQ(first.selectors.size(), 2U);  // the peer is told of all
  for (const auto& sa : dataplane_.Sas()) {
    ASSERT_EQ(sa.selectors_size(), 1);
    EXPECT_EQ(sa.selectors(0).local_ports().first(), 8085U);
    ASSERT_EQ(sa.registered_selectors_size(), 1);
    EXPECT_EQ(sa.registered_selectors(0).local_ports().last(), 8090U);
  }
  EXPECT_EQ(registered(), (std::vector<uint64_t>{0, 0}));
  ASSERT_TRUE(set("nsmf", 600s));
  EXPECT_EQ(registered(), (std::vector<uint64_t>{600, 600}));
  EXPECT_EQ(set("scef", 600s).error().kind, ErrorKind::kNotFound);
  EXPECT_GT(sessions_->List()[0].registered, 500s);

  Open(Csmf(), Ask(first.session));  // a renewal keeps it
  for (const uint64_t seconds : registered()) EXPECT_GT(seconds, 500U);
  ASSERT_TRUE(set("nsmf", 0s));
  for (const uint64_t seconds : registered()) EXPECT_EQ(seconds, 0U);
  ASSERT_TRUE(set("nsmf", 600s));
  Open(Csmf(), AskFirst());  // another session has to register anew
  AwaitSas(2);
  EXPECT_EQ(registered(), (std::vector<uint64_t>{0, 0}));
}

TEST_F(SessionsTest, WhatTheGuardHasHeardHoldsForEachSessionOfThePeer) {
  Edit([](model::Document& d) {
    d.interfaces[0].ports[0].last = 8090;
    d.policies[0].registration_ports = {{model::Protocol::tcp, 8085, 8085}};
  });
  const auto follow = [&](bool open) {
    Run([](Sessions& sessions) -> asio::awaitable<bool> {
      co_await sessions.FollowRegistrations();
      co_return true;
    }(*sessions_));
    for (const auto& sa : dataplane_.Sas()) EXPECT_EQ(sa.registered_seconds() > 0, open);
  };
  Open(Csmf(), Ask());
  follow(false);
  ASSERT_TRUE(gate_.SetRegistered("scef", "csmf-1", true));  // another interface
  follow(false);
  ASSERT_TRUE(gate_.SetRegistered("nsmf", "csmf-1", true));
  follow(true);
  Open(Csmf(), AskFirst());  // another session, the same peer
  AwaitSas(2);
  follow(true);
  ASSERT_TRUE(gate_.SetRegistered("nsmf", "csmf-1", false));
  follow(false);
}

TEST_F(SessionsTest, ARegistrationOutlivesBothProcesses) {
  Edit([](model::Document& d) {
    d.interfaces[0].ports[0].last = 8090;
    d.policies[0].registration_ports = {{model::Protocol::tcp, 8085, 8085}};
  });
  Open(Csmf(), Ask());
  ASSERT_TRUE(Run(sessions_->Register("csmf-1", "nsmf", 600s)));
  sessions_->Stop();
  link_.Reconnect("control restarts");  // what it knows now is what the dataplane tells
  Await([&] { return !link_.ready(); });
  Await([&] { return link_.ready(); });
  Restart({});
  Reviewed reviewed;  // the guard is back before the sessions' first tick
  sessions_->Review("", reviewed);
  ASSERT_EQ(reviewed.held_size(), 1);
  dataplane_.BeginAgain();
  link_.Reconnect("the dataplane restarts");
  Await([&] {
    const auto sas = dataplane_.Sas();
    return sas.size() == 2 && std::ranges::all_of(sas, [](const steer::SaSpec& sa) {
             return sa.registered_seconds() > 500;
           });
  });
  EXPECT_GT(sessions_->List()[0].registered, 500s);
}

TEST_F(SessionsTest, WithdrawnByTheGuard) {
  const Terms first = Open(Csmf(1), Ask());
  const Terms other = Open(Csmf(2), Ask());
  Reviewed page;
  sessions_->Review("", page);
  ASSERT_EQ(page.held_size(), 2);
  EXPECT_FALSE(page.more());
  const Held& held = page.held(0).session() == first.session ? page.held(0) : page.held(1);
  EXPECT_EQ(held.generation(), 1U);
  ASSERT_EQ(held.chain_size(), 2);
  EXPECT_EQ(held.chain(0).serial(), "01");
  EXPECT_EQ(held.token_issuer(), "i");
  EXPECT_EQ(held.kid(), "k");
  const auto withdraw = [&](uint64_t generation) {
    Withdraw which;
    auto& one = *which.add_sessions();
    one.set_session(first.session);
    one.set_generation(generation);
    one.mutable_refusal()->set_reason("cert_revoked");
    bool done = false;
    asio::co_spawn(io_, sessions_->Withdraw(which), [&](const auto&) { done = true; });
    Await([&] { return done; });
  };
  withdraw(2);  // not this one
  EXPECT_EQ(dataplane_.Sas().size(), 4U);
  withdraw(1);
  EXPECT_EQ(dataplane_.Sas().size(), 2U);
  ASSERT_EQ(sessions_->List().size(), 1U);
  EXPECT_EQ(sessions_->List()[0].id, other.session);
}

// A handshake that began before a revocation must not finish after it.
TEST_F(SessionsTest, WhoIsRevokedInBetweenIsNotLetIn) {
  const auto terms = sessions_->Admit(Csmf(), Ask());
  const auto untouched = sessions_->Admit(Csmf(2), Ask());
  ASSERT_TRUE(terms && untouched);
  ASSERT_NO_FATAL_FAILURE(Revoke(Kind::peer, "", "csmf-1"));
  const auto installed = Install(*terms);
  ASSERT_FALSE(installed);
  EXPECT_TRUE(installed.error().reason == Reason::peer_revoked ||
              installed.error().reason == Reason::session_conflict);
  EXPECT_TRUE(dataplane_.Sas().empty());
  EXPECT_TRUE(Install(*untouched));
  ASSERT_NO_FATAL_FAILURE(Readmit(Kind::peer, "", "csmf-1"));
  Open(Csmf(), Ask());
}

TEST_F(SessionsTest, AMomentsRevocationIsOneAllTheSame) {
  Open(Csmf(), Ask());
  const auto pending = sessions_->Admit(Csmf(), AskFirst());
  ASSERT_TRUE(pending);
  ASSERT_NO_FATAL_FAILURE(Revoke(Kind::peer, "", "csmf-1"));
  ASSERT_NO_FATAL_FAILURE(Readmit(Kind::peer, "", "csmf-1"));
  const auto installed = Install(*pending);
  EXPECT_FALSE(installed);
  AwaitSas(0);
  Open(Csmf(), Ask());
  EXPECT_EQ(dataplane_.Sas().size(), 2U);
}

TEST_F(SessionsTest, RevocationEndsWhatIsInForce) {
  Open(Csmf(1), Ask());
  const Terms other = Open(Csmf(2), Ask());
  ASSERT_EQ(dataplane_.Sas().size(), 4U);
  ASSERT_NO_FATAL_FAILURE(Revoke(Kind::peer, "", "csmf-1"));
  AwaitSas(2);
  ASSERT_EQ(sessions_->List().size(), 1U);
  EXPECT_EQ(sessions_->List()[0].id, other.session);
}

TEST_F(SessionsTest, APolicyThatNoLongerAdmitsEndsASession) {
  const auto pending = sessions_->Admit(Csmf(2), Ask());
  ASSERT_TRUE(pending);
  Open(Csmf(), Ask());
  Edit([](model::Document& d) { d.policies[0].scope = "something:else"; });
  AwaitSas(0);
  const auto installed = Install(*pending);
  ASSERT_FALSE(installed);
  // Decided anew here, or already when the sessions were held against the new policy.
  EXPECT_TRUE(installed.error().reason == Reason::token_scope_fail ||
              installed.error().reason == Reason::session_conflict);
  Edit([](model::Document& d) { d.policies[0].scope = "nsi"; });
  Open(Csmf(), Ask());
}

TEST_F(SessionsTest, TermsThatChangedBetweenAreNotInstalled) {
  const auto terms = sessions_->Admit(Csmf(), Ask());
  ASSERT_TRUE(terms);
  Edit([](model::Document& d) { d.interfaces[0].ports[0].last = 8081; });
  const auto installed = Install(*terms);
  ASSERT_FALSE(installed);
  EXPECT_EQ(installed.error().reason, Reason::policy_denied);
  Open(Csmf(), Ask());
}

TEST_F(SessionsTest, AnSaThatTheDataplaneRefusesLeavesNothingBehind) {
  const auto terms = sessions_->Admit(Csmf(), Ask());
  ASSERT_TRUE(terms);
  dataplane_.RefuseSas(true);
  const auto refused = Install(*terms);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().reason, Reason::gate_unavailable);
  dataplane_.RefuseSas(false);
  const auto again = sessions_->Admit(Csmf(), Ask());
  ASSERT_TRUE(again && Install(*again));
  dataplane_.RefuseSas(true);
  EXPECT_FALSE(Confirm(*again));
  dataplane_.RefuseSas(false);
  AwaitSas(0);
  Open(Csmf(), Ask());
}

TEST_F(SessionsTest, AnOperatorEndsASessionAndItsPeerMayOpenAnother) {
  const auto terms = Open(Csmf(), Ask());
  EXPECT_FALSE(Run(sessions_->EndByOperator("nothing", "alice")));
  AwaitSas(2);
  const auto ended = Run(sessions_->EndByOperator(terms.session, "alice"));
  ASSERT_TRUE(ended) << ended.error().Text();
  EXPECT_TRUE(*ended);
  EXPECT_TRUE(dataplane_.Sas().empty());
  EXPECT_TRUE(sessions_->List().empty());
  Open(Csmf(), Ask());
}

TEST_F(SessionsTest, ItsNewsAreToldInOrderAndNothingElse) {
  using What = SessionNews::What;
  std::vector<SessionNews> news;
  sessions_->OnNews([&](const SessionNews& one) { news.push_back(one); });
  const auto terms = Open(Csmf(), Ask());
  Open(Csmf(), Ask(terms.session));
  ASSERT_TRUE(Run(sessions_->EndByOperator(terms.session, "alice")));
  ASSERT_TRUE(sessions_->Admit(Csmf(2), Ask()));  // and no more
  ASSERT_EQ(news.size(), 3U);
  EXPECT_EQ(news[0].what, What::in_force);
  EXPECT_EQ(news[1].what, What::renewed);
  EXPECT_EQ(news[1].generation, 2U);
  EXPECT_EQ(news[2].what, What::ended);
  EXPECT_EQ(news[2].who, "alice");
  for (const auto& one : news) {
    EXPECT_EQ(one.id, terms.session);
    EXPECT_EQ(one.peer, "csmf-1");
    EXPECT_EQ(one.interface, "nsmf");
  }
}

TEST_F(SessionsTest, WhatCameToNothingIsNotListed) {
  const auto terms = sessions_->Admit(Csmf(), Ask());
  ASSERT_TRUE(terms);
  EXPECT_EQ(sessions_->List().size(), 1U);
  dataplane_.RefuseSas(true);
  EXPECT_FALSE(Install(*terms));
  EXPECT_TRUE(sessions_->List().empty());
  dataplane_.RefuseSas(false);
  Open(Csmf(), Ask());
}

TEST_F(SessionsTest, EverySlotOnceAndThenNoMore) {
  std::set<uint32_t> slots;
  for (int i = 0; i < 4; ++i) {
    for (const int peer : {1, 2}) {
      const auto terms = sessions_->Admit(Csmf(peer), Ask());
      ASSERT_TRUE(terms) << terms.error().Text();
      EXPECT_TRUE(slots.insert(terms->gate_spi % 16).second);
    }
  }
  const auto fifth = sessions_->Admit(Csmf(), Ask());
  ASSERT_FALSE(fifth);
  EXPECT_EQ(fifth.error().reason, Reason::session_conflict);
}

TEST_F(SessionsTest, KeysOfTheWrongLengthAndReservedSpisAreRefused) {
  Wanted reserved = Ask();
  reserved.peer_spi = 255;
  EXPECT_EQ(sessions_->Admit(Csmf(), reserved).error().reason, Reason::request_malformed);
  Wanted weak = Ask();
  weak.algorithms = {steer::AES_128_CBC_HMAC_SHA_256_128};
  EXPECT_EQ(sessions_->Admit(Csmf(), weak).error().reason, Reason::weak_alg_refused);
  const auto terms = sessions_->Admit(Csmf(), Ask());
  ASSERT_TRUE(terms);
  const std::array<uint8_t, 16> too_short{1};
  const auto refused =
      Run(sessions_->Install(terms->session, terms->generation, Secret(too_short), Key()));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().reason, Reason::request_malformed);
  EXPECT_TRUE(Install(*terms));
}

}  // namespace
}  // namespace portcullis::admission
