#include "control/registry/store.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "control/registry/test_store.hpp"

namespace portcullis {
namespace {

namespace fs = std::filesystem;

class StoreTest : public InAFolder {
 protected:
  std::string Content() {
    std::stringstream all;
    all << std::ifstream(Path(), std::ios::binary).rdbuf();
    return all.str();
  }
};

Store::Policy OnePeer(uint64_t generation, const std::string& name) {
  Store::Policy policy{generation, {}};
  model::Peer peer;
  peer.name = name;
  peer.identity = name + ".example";
  peer.role = "csmf";
  peer.prefixes = {*Prefix::Parse("10.1.0.0/24")};
  policy.document.peers.push_back(peer);
  return policy;
}

TEST_F(StoreTest, PolicySurvives) {
  {
    Store store = OpenStore();
    EXPECT_EQ(store.ReadPolicy()->generation, 0U);
    ASSERT_TRUE(store.WritePolicy(OnePeer(1, "a")));
    auto last = OnePeer(5, "b");
    last.document.first_line = model::FirstLine{.deny = {*Prefix::Parse("192.0.2.0/24")}};
    last.document.blocks.push_back({"cve", "nsmf", "b", "PATCH", "/nsi/*"});
    ASSERT_TRUE(store.WritePolicy(last));
    ASSERT_TRUE(store.WriteInForce({"abc", 5}));
    EXPECT_TRUE(store.Healthy());
  }
  Store store = OpenStore();
  const auto policy = store.ReadPolicy();
  EXPECT_EQ(policy->generation, 5U);
  ASSERT_EQ(policy->document.peers.size(), 1U);
  EXPECT_EQ(policy->document.peers[0].name, "b");
  ASSERT_TRUE(policy->document.first_line);
  EXPECT_EQ(policy->document.first_line->deny.at(0).Text(), "192.0.2.0/24");
  ASSERT_EQ(policy->document.blocks.size(), 1U);
  EXPECT_EQ(policy->document.blocks[0].path, "/nsi/*");
  EXPECT_EQ(policy->document.blocks[0].peer, "b");
  ASSERT_TRUE(store.WritePolicy(OnePeer(6, "b")));
  EXPECT_FALSE(store.ReadPolicy()->document.first_line);
  EXPECT_TRUE(store.ReadPolicy()->document.blocks.empty());
  EXPECT_EQ(store.ReadInForce()->incarnation, "abc");
  EXPECT_EQ(store.ReadInForce()->generation, 5U);
}

TEST_F(StoreTest, GenerationOnlyGrowsAndTheOldPolicyStays) {
  Store store = OpenStore();
  ASSERT_TRUE(store.WritePolicy(OnePeer(5, "a")));
  EXPECT_FALSE(store.WritePolicy(OnePeer(5, "b")));
  EXPECT_FALSE(store.WritePolicy(OnePeer(4, "b")));
  EXPECT_EQ(store.ReadPolicy()->document.peers[0].name, "a");
  EXPECT_TRUE(store.WritePolicy(OnePeer(6, "b")));
}

TEST_F(StoreTest, KeyIsKnownForEver) {
  {
    Store store = OpenStore();
    EXPECT_FALSE(*store.KnowsKey("f1"));
    ASSERT_TRUE(store.RememberKey("f1", "sa"));
    ASSERT_TRUE(store.RememberKey("f2", "sa"));
    ASSERT_TRUE(store.ForgetKey("f2"));
  }
  Store store = OpenStore();
  const auto again = store.RememberKey("f1", "other");
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().kind, ErrorKind::kConflict);
  EXPECT_NE(again.error().message.find("used before"), std::string::npos);
  EXPECT_TRUE(store.RememberKey("f2", "sa"));
}

TEST_F(StoreTest, KeysInUseAreKnownAfterwards) {
  Store store = OpenStore();
  ASSERT_TRUE(store.RememberKey("f1", "sa"));
  ASSERT_TRUE(store.NoteKeysInUse({{"f1", "sa"}, {"f2", "sa-2"}}));
  EXPECT_TRUE(*store.KnowsKey("f1"));
  EXPECT_TRUE(*store.KnowsKey("f2"));
  EXPECT_FALSE(*store.KnowsKey("f3"));
}

TEST_F(StoreTest, NobodyElseMayReadIt) {
  const Store store = OpenStore();
  for (const auto& entry : fs::directory_iterator(folder_)) {
    struct stat info {};
    ASSERT_EQ(stat(entry.path().c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777U, 0600U) << entry.path();
  }
}

TEST_F(StoreTest, OneControlAtATime) {
  const Store store = OpenStore();
  EXPECT_FALSE(Store::Open(Path()));
}

TEST_F(StoreTest, WhatIsNoStoreIsRefusedAndLeftAlone) {
  const std::string text(5000, 'x');
  std::ofstream(Path()) << text;
  const auto store = Store::Open(Path());
  ASSERT_FALSE(store);
  EXPECT_NE(store.error().Text().find("not an SQLite file"), std::string::npos);
  EXPECT_NE(store.error().Text().find(Path()), std::string::npos);
  EXPECT_EQ(Content(), text);
}

TEST_F(StoreTest, DamageIsRefusedAndLeftAlone) {
  {
    Store store = OpenStore();
    for (uint64_t g = 1; g < 200; ++g) {
      ASSERT_TRUE(store.RememberKey(fmt::format("fingerprint{:080}", g), "sa"));
    }
    ASSERT_TRUE(store.WritePolicy(OnePeer(1, "a")));
  }
  ASSERT_TRUE(Store::Open(Path()));  // the twin: undamaged
  std::string content = Content();
  for (size_t at = 4096; at < content.size(); ++at) content[at] = static_cast<char>(0xa5);
  std::ofstream(Path(), std::ios::binary) << content;
  const auto store = Store::Open(Path());
  ASSERT_FALSE(store);
  EXPECT_EQ(Content(), content);
}

TEST_F(StoreTest, NewerVersionIsRefused) {
  OpenStore();
  std::string content = Content();
  constexpr size_t kUserVersion = 63;  // low byte of the big-endian number at 60
  content[kUserVersion] = 99;
  std::ofstream(Path(), std::ios::binary) << content;
  const auto store = Store::Open(Path());
  ASSERT_FALSE(store);
  EXPECT_NE(store.error().Text().find("schema version 99"), std::string::npos)
      << store.error().Text();
  EXPECT_EQ(Content(), content);
}

}  // namespace
}  // namespace portcullis
