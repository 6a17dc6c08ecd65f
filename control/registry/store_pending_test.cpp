#include <gtest/gtest.h>
#include <sqlite3.h>

#include "control/registry/test_store.hpp"

namespace portcullis {
namespace {

using model::PendingChange;
using namespace std::chrono_literals;

constexpr PendingChange::Time kNow{1'700'000'000s};

PendingChange Change(const std::string& who = "alice", const std::string& body = "{\"a\": 1}") {
  PendingChange change;
  change.method = "PUT";
  change.path = "/v1/policy";
  change.body = body;
  change.digest = model::ChangeDigest(change.method, change.path, body);
  change.base_generation = 7;
  change.rules = {"people", "rules"};
  change.requested_by = who;
  change.requested = kNow;
  change.expires = kNow + 1h;
  return change;
}

class StorePendingTest : public InAFolder {
 protected:
  void Sql(const char* sql) {
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open(Path().c_str(), &db), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(db, sql, nullptr, nullptr, nullptr), SQLITE_OK) << sqlite3_errmsg(db);
    sqlite3_close(db);
  }
};

TEST_F(StorePendingTest, SurvivesByteByByte) {
  const std::string body = "{\n  \"a\":\t\"\xc3\xa4\" }\n";
  EXPECT_EQ(OpenStore().AddPending(Change("alice", body)), 1U);
  Store store = OpenStore();
  const auto all = store.ReadPending();
  ASSERT_TRUE(all) << all.error().Text();
  ASSERT_EQ(all->size(), 1U);
  const PendingChange& change = all->front();
  EXPECT_EQ(change.id, 1U);
  EXPECT_EQ(change.body, body);
  EXPECT_EQ(change.digest, Change("alice", body).digest);
  EXPECT_EQ(change.base_generation, 7U);
  EXPECT_EQ(change.rules, (std::vector<std::string>{"people", "rules"}));
  EXPECT_EQ(change.requested_by, "alice");
  EXPECT_EQ(change.requested, kNow);
  EXPECT_EQ(change.expires, kNow + 1h);
  EXPECT_EQ((*store.FindPending(1))->path, "/v1/policy");
  EXPECT_FALSE(*store.FindPending(2));
}

TEST_F(StorePendingTest, AnIdNamesOneChangeForEver) {
  {
    Store store = OpenStore();
    EXPECT_EQ(store.AddPending(Change()), 1U);
    EXPECT_EQ(store.AddPending(Change()), 2U);
    EXPECT_TRUE(*store.RemovePending(2));
    EXPECT_FALSE(*store.RemovePending(2));
  }
  EXPECT_EQ(OpenStore().AddPending(Change()), 3U);
}

TEST_F(StorePendingTest, ExpiredWhenItsTimeHasComeAndNotBefore) {
  Store store = OpenStore();
  ASSERT_TRUE(store.AddPending(Change()));
  EXPECT_TRUE(store.ExpiredPending(kNow + 1h - 1s)->empty());
  EXPECT_EQ(store.ExpiredPending(kNow + 1h)->size(), 1U);
}

TEST_F(StorePendingTest, NobodyFillsIt) {
  Store store = OpenStore();
  size_t taken = 0;
  while (store.AddPending(Change("alice"))) ++taken;
  EXPECT_EQ(taken, 16U);
  const auto full = store.AddPending(Change("alice"));
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().kind, ErrorKind::kExhausted);
  EXPECT_TRUE(store.AddPending(Change("bob")));  // others still can
  for (int person = 0; taken < 1000 && store.AddPending(Change(fmt::format("p{}", person)));) {
    ++person;
    ++taken;
  }
  EXPECT_EQ(store.ReadPending()->size(), 64U);
  ASSERT_TRUE(*store.RemovePending(1));
  EXPECT_TRUE(store.AddPending(Change("alice")));
}

// Whoever agrees agrees to a digest; what is made must be that.
TEST_F(StorePendingTest, AChangeThatIsNotItsDigestsIsNotMade) {
  ASSERT_TRUE(OpenStore().AddPending(Change()));
  Sql("UPDATE pending_change SET body = '{\"a\": 2}'");
  {
    Store store = OpenStore();
    const auto found = store.FindPending(1);
    ASSERT_FALSE(found);
    EXPECT_EQ(found.error().kind, ErrorKind::kInternal);
  }
  Sql("UPDATE pending_change SET body = '{\"a\": 1}'");
  EXPECT_TRUE(OpenStore().FindPending(1));
}

TEST_F(StorePendingTest, RulesSurviveWithThePolicy) {
  model::Document document;
  document.approval = {{"people", {model::ApprovedChange::peers}, 600}};
  ASSERT_TRUE(OpenStore().WritePolicy({1, document}));
  const auto policy = OpenStore().ReadPolicy();
  ASSERT_TRUE(policy) << policy.error().Text();
  ASSERT_EQ(policy->document.approval.size(), 1U);
  EXPECT_EQ(policy->document.approval[0].name, "people");
  EXPECT_EQ(policy->document.approval[0].expires_seconds, 600U);
}

}  // namespace
}  // namespace portcullis
