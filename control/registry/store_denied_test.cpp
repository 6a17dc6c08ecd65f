#include <gtest/gtest.h>
#include <sqlite3.h>

#include "control/registry/test_store.hpp"

namespace portcullis {
namespace {

using model::Denial;
using model::Revocable;
using Kind = Revocable::Kind;
using namespace std::chrono_literals;

constexpr Denial::Time kNow{1'700'000'000s};
const Revocable kCertificate{Kind::certificate, "CN=Operator CA", "0a1b"};

class StoreDeniedTest : public InAFolder {
 protected:
  static Denial One(const Revocable& what, std::optional<Denial::Time> until = {}) {
    return {what, "lost", "alice", kNow, until};
  }
  static TimeGuard::Wall At(Denial::Time time) {
    return std::chrono::floor<std::chrono::milliseconds>(time);
  }
};

TEST_F(StoreDeniedTest, EveryKindSurvivesWithAllThatIsKnownOfIt) {
  const std::vector<Denial> all{
      One(kCertificate, kNow + 24h),
      One({Kind::issuer, "", "https://as.example"}),
      One({Kind::key, "https://as.example", "k1"}, kNow + 1h),
      One({Kind::peer, "", "csmf-1"}),
      One({Kind::token, "https://as.example", "t1"}, kNow + 5min),
  };
  {
    Store store = OpenStore();
    for (const auto& one : all) ASSERT_TRUE(store.Deny(one));
  }
  Store store = OpenStore();
  const auto found = store.ReadDenied();
  ASSERT_TRUE(found) << found.error().Text();
  ASSERT_EQ(found->size(), all.size());
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ((*found)[i].what, all[i].what);
    EXPECT_EQ((*found)[i].reason, "lost");
    EXPECT_EQ((*found)[i].who, "alice");
    EXPECT_EQ((*found)[i].since, kNow);
    EXPECT_EQ((*found)[i].until, all[i].until);
    EXPECT_TRUE(*store.IsDenied(all[i].what));
  }
  EXPECT_TRUE(*store.IsDenied({Revocable::Kind::peer, "", "csmf-1"}));
}

TEST_F(StoreDeniedTest, OnlyTheVeryThingIsDenied) {
  Store store = OpenStore();
  ASSERT_TRUE(store.Deny(One(kCertificate)));
  EXPECT_TRUE(*store.IsDenied(kCertificate));
  EXPECT_FALSE(*store.IsDenied({Kind::certificate, "CN=Operator CA", "0a1c"}));
  EXPECT_FALSE(*store.IsDenied({Kind::certificate, "CN=Another CA", "0a1b"}));
  EXPECT_FALSE(*store.IsDenied({Kind::token, "CN=Operator CA", "0a1b"}));
}

TEST_F(StoreDeniedTest, EpochGrowsWithEachChangeAndSurvives) {
  uint64_t last = 0;
  {
    Store store = OpenStore();
    EXPECT_EQ(*store.RevocationEpoch(), 0U);
    EXPECT_EQ(*store.Deny(One(kCertificate)), 1U);
    EXPECT_EQ(*store.Deny(One({Kind::peer, "", "a"})), 2U);
    EXPECT_EQ(*store.Admit({Kind::peer, "", "b"}), 2U);  // was not denied: nothing changed
    last = *store.Admit(kCertificate);
    EXPECT_EQ(last, 3U);
    EXPECT_FALSE(*store.IsDenied(kCertificate));
  }
  Store store = OpenStore();
  EXPECT_EQ(*store.RevocationEpoch(), last);
  EXPECT_GT(*store.Deny(One(kCertificate)), last);
}

TEST_F(StoreDeniedTest, DenyingAgainOnlyMakesItLonger) {
  Store store = OpenStore();
  const auto until = [&] { return (*store.ReadDenied())[0].until; };
  ASSERT_TRUE(store.Deny(One(kCertificate, kNow + 2h)));
  ASSERT_TRUE(store.Deny(One(kCertificate, kNow + 1h)));
  EXPECT_EQ(until(), kNow + 2h);
  ASSERT_TRUE(store.Deny(One(kCertificate, kNow + 3h)));
  EXPECT_EQ(until(), kNow + 3h);
  ASSERT_TRUE(store.Deny(One(kCertificate)));
  EXPECT_FALSE(until());
  ASSERT_TRUE(store.Deny(One(kCertificate, kNow + 1h)));
  EXPECT_FALSE(until());
}

TEST_F(StoreDeniedTest, ForgottenWhenExpiredAndNotBefore) {
  Store store = OpenStore();
  ASSERT_TRUE(store.Deny(One(kCertificate, kNow + 500ms)));  // the file counts seconds
  ASSERT_TRUE(store.Deny(One({Kind::peer, "", "for ever"})));
  const uint64_t epoch = *store.RevocationEpoch();
  EXPECT_EQ(*store.Prune(TimeVerdict::ok, At(kNow + 1s)), 0U);
  EXPECT_TRUE(*store.IsDenied(kCertificate));
  EXPECT_EQ(*store.Prune(TimeVerdict::ok, At(kNow + 2s)), 1U);
  EXPECT_FALSE(*store.IsDenied(kCertificate));
  EXPECT_EQ(*store.RevocationEpoch(), epoch);
  EXPECT_EQ(*store.Prune(TimeVerdict::ok, At(kNow + 24h * 36500)), 0U);
  EXPECT_TRUE(*store.IsDenied({Kind::peer, "", "for ever"}));
}

TEST_F(StoreDeniedTest, NothingIsForgottenByAClockThatIsWrong) {
  Store store = OpenStore();
  ASSERT_TRUE(store.Deny(One(kCertificate, kNow + 1h)));
  for (const auto wrong : {TimeVerdict::stepped_back, TimeVerdict::stepped_forward_in_grace,
                           TimeVerdict::stepped_forward}) {
    EXPECT_EQ(*store.Prune(wrong, At(kNow + 2h)), 0U);
  }
  EXPECT_TRUE(*store.IsDenied(kCertificate));
  EXPECT_EQ(*store.Prune(TimeVerdict::ok, At(kNow + 2h)), 1U);  // the twin
}

TEST_F(StoreDeniedTest, TimeGuardSurvives) {
  const TimeGuard::State state{At(kNow), "boot", -5ms, 7ms};
  {
    Store store = OpenStore();
    EXPECT_EQ(*store.ReadTimeGuard(), TimeGuard::State{});
    ASSERT_TRUE(store.WriteTimeGuard({At(kNow - 1h), "before", 1ms, {}}));
    ASSERT_TRUE(store.WriteTimeGuard(state));
  }
  EXPECT_EQ(*OpenStore().ReadTimeGuard(), state);
}

// A store as the version before made it: who was revoked stays so.
TEST_F(StoreDeniedTest, OlderStoreIsTakenAlong) {
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open(Path().c_str(), &db), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(db, R"(
      PRAGMA application_id = 0x50637463; PRAGMA user_version = 1;
      CREATE TABLE resource (
        kind TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL,
        PRIMARY KEY (kind, name)) STRICT, WITHOUT ROWID;
      CREATE TABLE policy (
        one INTEGER PRIMARY KEY CHECK (one = 1), generation INTEGER NOT NULL) STRICT;
      CREATE TABLE in_force (
        one INTEGER PRIMARY KEY CHECK (one = 1), incarnation TEXT NOT NULL,
        generation INTEGER NOT NULL) STRICT;
      CREATE TABLE revoked (peer TEXT PRIMARY KEY, since INTEGER NOT NULL) STRICT, WITHOUT ROWID;
      CREATE TABLE used_key (
        fingerprint TEXT PRIMARY KEY, sa TEXT NOT NULL, since INTEGER NOT NULL) STRICT,
        WITHOUT ROWID;
      INSERT INTO policy VALUES (1, 7);
      INSERT INTO revoked VALUES ('csmf-1', 1700000000);)",
                         nullptr, nullptr, nullptr),
            SQLITE_OK);
  sqlite3_close(db);
  {
    Store store = OpenStore();
    EXPECT_TRUE(*store.IsDenied({Revocable::Kind::peer, "", "csmf-1"}));
    EXPECT_EQ((*store.ReadDenied())[0].since, kNow);
    EXPECT_EQ(*store.RevocationEpoch(), 1U);
    EXPECT_EQ(store.ReadPolicy()->generation, 7U);
    EXPECT_EQ(*store.Admit({Kind::peer, "", "csmf-1"}), 2U);
  }
  EXPECT_TRUE(OpenStore().ReadDenied()->empty());
}

}  // namespace
}  // namespace portcullis
