#include <gtest/gtest.h>

#include "control/registry/test_store.hpp"

namespace portcullis {
namespace {

using model::HeldRequest;
using State = HeldRequest::State;
using namespace std::chrono_literals;

const HeldRequest::Time kHeldAt{std::chrono::seconds(1'700'000'000)};

class StoreHeldTest : public InAFolder {
 protected:
  static HeldRequest Request(const std::string& id, const std::string& peer = "csmf-1") {
    HeldRequest r{.id = id,
                  .peer = peer,
                  .tenant = "a",
                  .interface = "nsmf",
                  .operations = {"nsi:delete", "nsi:read"},
                  .method = "DELETE",
                  .target = "/nsi/" + id + "?x=1",
                  .content_type = "application/json",
                  .body = std::string("\xff\0\n{}", 5),
                  .held = kHeldAt,
                  .expires = kHeldAt + 60s,
                  .seconds = 60};
    r.digest = model::RequestDigest(r.method, r.target, r.content_type, r.body);
    return r;
  }
};

TEST_F(StoreHeldTest, IsReadBackAsItCameOverARestart) {
  const HeldRequest wanted = Request("1");
  {
    Store store = OpenStore();
    ASSERT_TRUE(store.AddHeld(wanted));
    auto decided = wanted;
    decided.state = State::approved;
    decided.decided_by = "alice";
    decided.reason = "agreed";
    decided.expires = kHeldAt + 90s;
    ASSERT_TRUE(*store.DecideHeld(decided));
  }
  Store store = OpenStore();
  const auto found = store.FindHeld("csmf-1", "nsmf", wanted.digest);
  ASSERT_TRUE(found && *found);
  const HeldRequest& r = **found;
  EXPECT_EQ(r.id, "1");
  EXPECT_EQ(r.tenant, "a");
  EXPECT_EQ(r.operations, wanted.operations);
  EXPECT_EQ(r.method + r.target + r.content_type,
            wanted.method + wanted.target + wanted.content_type);
  EXPECT_EQ(r.body, wanted.body);
  EXPECT_EQ(r.state, State::approved);
  EXPECT_EQ(r.decided_by + r.reason, "aliceagreed");
  EXPECT_EQ(r.held, kHeldAt);
  EXPECT_EQ(r.expires, kHeldAt + 90s);
  EXPECT_EQ(r.seconds, 60U);
  EXPECT_FALSE(*store.FindHeld("csmf-2", "nsmf", wanted.digest));
  EXPECT_FALSE(*store.FindHeld("csmf-1", "other", wanted.digest));
  EXPECT_FALSE(*store.FindHeld("2"));
  EXPECT_TRUE(*store.FindHeld("1"));
}

TEST_F(StoreHeldTest, OneOfAKindAndNotTooMany) {
  Store store = OpenStore();
  ASSERT_TRUE(store.AddHeld(Request("0")));
  auto same = Request("0");
  same.id = "another";
  EXPECT_EQ(store.AddHeld(same).error().kind, ErrorKind::kConflict);
  for (int i = 1; i < 16; ++i) ASSERT_TRUE(store.AddHeld(Request(std::to_string(i))));
  EXPECT_EQ(store.AddHeld(Request("16")).error().kind, ErrorKind::kExhausted);
  EXPECT_TRUE(store.AddHeld(Request("17", "csmf-2")));  // another peer has its own
  EXPECT_TRUE(*store.RemoveHeld("3"));
  EXPECT_FALSE(*store.RemoveHeld("3"));
  EXPECT_TRUE(store.AddHeld(Request("16")));
  EXPECT_EQ(store.ReadHeld()->size(), 17U);
  EXPECT_EQ(store.ExpiredHeld(kHeldAt + 59s)->size(), 0U);
  EXPECT_EQ(store.ExpiredHeld(kHeldAt + 60s)->size(), 17U);
}

TEST_F(StoreHeldTest, AnApprovalIsUsedUpOnceWithItsToken) {
  Store store = OpenStore();
  auto r = Request("1");
  ASSERT_TRUE(store.AddHeld(r));
  const model::Used used{model::UsedToken{"i", "t", kHeldAt + 60s}, "1"};
  EXPECT_EQ(store.UseUp({used}).error().kind, ErrorKind::kConflict);  // nobody has approved it
  EXPECT_FALSE(*store.IsUsed("i", "t"));                              // nothing half
  r.state = State::denied;
  ASSERT_TRUE(*store.DecideHeld(r));
  EXPECT_EQ(store.UseUp({used}).error().kind, ErrorKind::kConflict);
  r.state = State::approved;
  ASSERT_TRUE(*store.DecideHeld(r));
  ASSERT_TRUE(store.UseUp({used}));
  EXPECT_TRUE(*store.IsUsed("i", "t"));
  EXPECT_FALSE(*store.FindHeld("1"));
  EXPECT_FALSE(store.UseUp({{std::nullopt, "1"}}));
}

}  // namespace
}  // namespace portcullis
