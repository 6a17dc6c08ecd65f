#include <gtest/gtest.h>

#include "control/registry/test_store.hpp"

namespace portcullis {
namespace {

using model::SeenKey;

const SeenKey::Time kThen{std::chrono::seconds(1'700'000'000)};

using StoreSeenKeysTest = InAFolder;

TEST_F(StoreSeenKeysTest, TheFirstPeerKeepsTheKeyOverARestart) {
  {
    Store store = OpenStore();
    EXPECT_EQ(store.SeeKey({"a", "csmf-1", "csmf-1.example", kThen})->peer, "csmf-1");
  }
  Store store = OpenStore();
  const auto first = store.SeeKey({"a", "csmf-2", "csmf-2.example", kThen + std::chrono::hours(1)});
  ASSERT_TRUE(first);
  EXPECT_EQ(first->peer, "csmf-1");
  EXPECT_EQ(first->identity, "csmf-1.example");
  EXPECT_EQ(first->since, kThen);
  EXPECT_EQ(store.SeeKey({"b", "csmf-2", "csmf-2.example", kThen})->peer, "csmf-2");  // its twin
}

TEST_F(StoreSeenKeysTest, AnotherPeerMayHaveItOnceItIsForgotten) {
  Store store = OpenStore();
  ASSERT_TRUE(store.SeeKey({"a", "csmf-1", "", kThen}));
  ASSERT_TRUE(store.ForgetSeenKey("b"));
  EXPECT_EQ((*store.FindSeenKey("a"))->peer, "csmf-1");
  ASSERT_TRUE(store.ForgetSeenKey("a"));
  EXPECT_FALSE(*store.FindSeenKey("a"));
  EXPECT_EQ(store.SeeKey({"a", "csmf-2", "", kThen})->peer, "csmf-2");
}

TEST_F(StoreSeenKeysTest, ListedByPages) {
  Store store = OpenStore();
  for (const char* id : {"c", "a", "b"}) ASSERT_TRUE(store.SeeKey({id, "csmf-1", "", kThen}));
  const auto page = store.ReadSeenKeys("", 2);
  ASSERT_EQ(page->size(), 2U);
  EXPECT_EQ((*page)[1].id, "b");
  EXPECT_EQ(store.ReadSeenKeys("b", 2)->front().id, "c");
  EXPECT_TRUE(store.ReadSeenKeys("c", 2)->empty());
}

}  // namespace
}  // namespace portcullis
