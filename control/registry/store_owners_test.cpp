#include <gtest/gtest.h>

#include "control/registry/test_store.hpp"

namespace portcullis {
namespace {

using model::Owner;
using model::OwnerChange;
using model::Resource;

const Owner::Time kSince{std::chrono::seconds(1'700'000'000)};

class StoreOwnersTest : public InAFolder {
 protected:
  static OwnerChange Created(const std::string& id, const std::string& tenant) {
    return {{{"nsmf", "slice", id}, tenant, kSince}, false};
  }
  static OwnerChange Gone(const std::string& id, const std::string& tenant) {
    return {{{"nsmf", "slice", id}, tenant, kSince}, true};
  }
  static std::string TenantOf(Store& store, const std::string& id) {
    const auto owner = store.FindOwner({"nsmf", "slice", id});
    EXPECT_TRUE(owner) << owner.error().Text();
    return owner && *owner ? (*owner)->tenant : "";
  }
};

TEST_F(StoreOwnersTest, WhatIsCreatedBelongsToItsTenantOverARestart) {
  {
    Store store = OpenStore();
    const auto now = store.ChangeOwners({Created("1", "a"), Created("2", "b")});
    ASSERT_TRUE(now) << now.error().Text();
    EXPECT_EQ(*now, (std::vector<std::string>{"a", "b"}));
  }
  Store store = OpenStore();
  const auto owner = store.FindOwner({"nsmf", "slice", "1"});
  ASSERT_TRUE(owner && *owner);
  EXPECT_EQ((*owner)->tenant, "a");
  EXPECT_EQ((*owner)->since, kSince);
  EXPECT_FALSE(*store.FindOwner({"nsmf", "subnet", "1"}));  // another kind
  EXPECT_FALSE(*store.FindOwner({"nfvo", "slice", "1"}));   // another interface
}

TEST_F(StoreOwnersTest, WhatIsAnothersStaysSo) {
  Store store = OpenStore();
  ASSERT_TRUE(store.ChangeOwners({Created("1", "a")}));
  EXPECT_EQ(store.ChangeOwners({Created("1", "b")})->at(0), "a");
  EXPECT_EQ(store.ChangeOwners({Gone("1", "b")})->at(0), "a");
  EXPECT_EQ(TenantOf(store, "1"), "a");
  EXPECT_EQ(store.ChangeOwners({Gone("1", "a")})->at(0), "");  // its twin
  EXPECT_EQ(store.ChangeOwners({Created("1", "b")})->at(0), "b");
}

TEST_F(StoreOwnersTest, ListedByPagesAndByWhatIsWanted) {
  Store store = OpenStore();
  ASSERT_TRUE(store.ChangeOwners({Created("3", "a"),
                                  Created("1", "a"),
                                  Created("2", "b"),
                                  {{{"nfvo", "ns", "9"}, "a", kSince}, false}}));
  const auto page = store.ReadOwners({}, {}, 2);
  ASSERT_TRUE(page) << page.error().Text();
  ASSERT_EQ(page->size(), 2U);
  EXPECT_EQ(page->at(0).resource, (Resource{"nfvo", "ns", "9"}));
  EXPECT_EQ(page->at(1).resource.id, "1");
  const auto rest = store.ReadOwners(page->at(1).resource, {}, 10);
  ASSERT_EQ(rest->size(), 2U);
  EXPECT_EQ(rest->at(1).resource.id, "3");
  EXPECT_EQ(store.ReadOwners({}, {"nsmf", ""}, 10)->size(), 3U);
  EXPECT_EQ(store.ReadOwners({}, {"nsmf", "b"}, 10)->size(), 1U);
  EXPECT_TRUE(store.ReadOwners({}, {"", "c"}, 10)->empty());
}

TEST_F(StoreOwnersTest, AnOperatorTakesItFromWhomeverHasIt) {
  Store store = OpenStore();
  ASSERT_TRUE(store.ChangeOwners({Created("1", "a")}));
  EXPECT_FALSE(*store.RemoveOwner({"nsmf", "slice", "2"}));
  EXPECT_TRUE(*store.RemoveOwner({"nsmf", "slice", "1"}));
  EXPECT_EQ(TenantOf(store, "1"), "");
}

}  // namespace
}  // namespace portcullis
