#include <gtest/gtest.h>

#include <filesystem>

#include "control/registry/store.hpp"

namespace portcullis {
namespace {

namespace fs = std::filesystem;
using model::SeenKey;

const SeenKey::Time kThen{std::chrono::seconds(1'700'000'000)};

class StoreSeenKeysTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "portcullis-keys-XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
  }
  void TearDown() override { fs::remove_all(directory_); }

  Store Open() {
    auto store = Store::Open((directory_ / "control.db").string());
    EXPECT_TRUE(store) << store.error().Text();
    return std::move(*store);
  }

  fs::path directory_;
};

TEST_F(StoreSeenKeysTest, TheFirstPeerKeepsTheKeyOverARestart) {
  {
    Store store = Open();
    EXPECT_EQ(store.SeeKey({"a", "csmf-1", "csmf-1.example", kThen})->peer, "csmf-1");
  }
  Store store = Open();
  const auto first = store.SeeKey({"a", "csmf-2", "csmf-2.example", kThen + std::chrono::hours(1)});
  ASSERT_TRUE(first);
  EXPECT_EQ(first->peer, "csmf-1");
  EXPECT_EQ(first->identity, "csmf-1.example");
  EXPECT_EQ(first->since, kThen);
  EXPECT_EQ(store.SeeKey({"b", "csmf-2", "csmf-2.example", kThen})->peer, "csmf-2");  // its twin
}

TEST_F(StoreSeenKeysTest, AnotherPeerMayHaveItOnceItIsForgotten) {
  Store store = Open();
  ASSERT_TRUE(store.SeeKey({"a", "csmf-1", "", kThen}));
  ASSERT_TRUE(store.ForgetSeenKey("b"));
  EXPECT_EQ((*store.FindSeenKey("a"))->peer, "csmf-1");
  ASSERT_TRUE(store.ForgetSeenKey("a"));
  EXPECT_FALSE(*store.FindSeenKey("a"));
  EXPECT_EQ(store.SeeKey({"a", "csmf-2", "", kThen})->peer, "csmf-2");
}

TEST_F(StoreSeenKeysTest, ListedByPages) {
  Store store = Open();
  for (const char* id : {"c", "a", "b"}) ASSERT_TRUE(store.SeeKey({id, "csmf-1", "", kThen}));
  const auto page = store.ReadSeenKeys("", 2);
  ASSERT_EQ(page->size(), 2U);
  EXPECT_EQ((*page)[1].id, "b");
  EXPECT_EQ(store.ReadSeenKeys("b", 2)->front().id, "c");
  EXPECT_TRUE(store.ReadSeenKeys("c", 2)->empty());
}

}  // namespace
}  // namespace portcullis
