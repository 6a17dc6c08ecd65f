#include "control/identity/psk.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace portcullis::identity {
namespace {

namespace fs = std::filesystem;

class PskStoreTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "portcullis-psk-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string Write(const std::string& content, mode_t mode = 0600) {
    std::string path = folder_ / std::to_string(files_++);
    std::ofstream(path) << content;
    EXPECT_EQ(chmod(path.c_str(), mode), 0);
    return path;
  }
  // A key of `digits` hex digits, different each time.
  std::string Key(size_t digits = 64) {
    std::string text = fmt::format("{:032x}", ++keys_);
    text.resize(digits, 'a');
    return text;
  }
  PskSetting Setting(const std::string& identity, const std::string& peer, PskUse use = {}) {
    return {identity, peer, use, Write(Key())};
  }
  static std::string Refused(const std::vector<PskSetting>& settings) {
    const auto store = PskStore::Load(settings, "/psk");
    EXPECT_FALSE(store);
    return store ? "" : store.error().Text();
  }

  fs::path folder_;
  int files_ = 0;
  int keys_ = 0;
};

TEST_F(PskStoreTest, FindsAKeyForItsUseOnly) {
  const PskUse use{PeerRole::client, TlsVersion::v1_3, PskHash::sha256};
  const auto store = PskStore::Load({Setting("gw-7", "gateway", use)}, "/psk");
  ASSERT_TRUE(store) << store.error().Text();
  const PskKey* key = store->Find("gw-7", use);
  ASSERT_NE(key, nullptr);
  EXPECT_EQ(key->peer, "gateway");
  EXPECT_EQ(key->key.size(), 32U);
  EXPECT_EQ(key->thumbprint, KeyFingerprint("psk", key->key.bytes()));

  EXPECT_EQ(store->Find("gw-8", use), nullptr);
  EXPECT_EQ(store->Find("", use), nullptr);
  EXPECT_EQ(store->Find("gw-7", {PeerRole::server, TlsVersion::v1_3, PskHash::sha256}), nullptr);
  EXPECT_EQ(store->Find("gw-7", {PeerRole::client, TlsVersion::v1_2, PskHash::sha256}), nullptr);
  EXPECT_EQ(store->Find("gw-7", {PeerRole::client, TlsVersion::v1_3, PskHash::sha384}), nullptr);
}

TEST_F(PskStoreTest, FileThatOthersMayReadIsRefused) {
  PskSetting setting = Setting("gw-7", "gateway");
  for (const mode_t mode : {0640U, 0604U, 0620U, 0601U}) {
    ASSERT_EQ(chmod(setting.file.c_str(), mode), 0);
    const std::string text = Refused({setting});
    EXPECT_NE(text.find("/psk/0/file"), std::string::npos) << text;
    EXPECT_NE(text.find(setting.file), std::string::npos) << text;
    EXPECT_NE(text.find(fmt::format("mode {:04o}", mode)), std::string::npos) << text;
  }
  ASSERT_EQ(chmod(setting.file.c_str(), 0400), 0);
  EXPECT_TRUE(PskStore::Load({setting}, "/psk"));
}

TEST_F(PskStoreTest, FileOfSomebodyElseIsRefused) {
  const PskSetting setting = Setting("gw-7", "gateway");
  constexpr uid_t kSomebody = 1234;
  ASSERT_EQ(chown(setting.file.c_str(), kSomebody, 0), 0);
  const std::string text = Refused({setting});
  EXPECT_NE(text.find("owner 1234"), std::string::npos) << text;
  ASSERT_EQ(chown(setting.file.c_str(), 0, 0), 0);
  EXPECT_TRUE(PskStore::Load({setting}, "/psk"));
}

TEST_F(PskStoreTest, FileThatIsNoneIsRefused) {
  PskSetting setting = Setting("gw-7", "gateway");
  setting.file = folder_ / "missing";
  EXPECT_NE(Refused({setting}).find("No such file"), std::string::npos);
  setting.file = folder_;
  EXPECT_NE(Refused({setting}).find("not a regular file"), std::string::npos);
  const std::string pipe = folder_ / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);  // must not block
  setting.file = pipe;
  EXPECT_NE(Refused({setting}).find("not a regular file"), std::string::npos);
  setting.file = Write("");
  EXPECT_NE(Refused({setting}).find("0 bytes"), std::string::npos);
}

TEST_F(PskStoreTest, ShortAndMalformedKeysAreRefusedAndNotShown) {
  PskSetting setting = Setting("gw-7", "gateway");
  for (const std::string& content : {Key(30), Key(130), Key(33), std::string(64, 'g'),
                                     Key() + "\n" + Key(), std::string("\n")}) {
    setting.file = Write(content);
    const std::string text = Refused({setting});
    EXPECT_NE(text.find("32 to 128 hex digits"), std::string::npos) << text;
    EXPECT_EQ(text.find(content), std::string::npos) << text;
  }
  for (const std::string& content : {Key(32), Key(128), Key() + "\n", Key() + "\r\n"}) {
    setting.file = Write(content);
    EXPECT_TRUE(PskStore::Load({setting}, "/psk"));
  }
}

TEST_F(PskStoreTest, IdentitiesArePlainAndUnique) {
  PskSetting setting = Setting("", "gateway");
  for (const std::string& identity :
       {std::string(), std::string(129, 'x'), std::string("a\0b", 3), std::string("a\nb"),
        std::string("a b"), std::string("\xc3\xa4")}) {
    setting.identity = identity;
    EXPECT_NE(Refused({setting}).find("/psk/0/identity"), std::string::npos) << identity;
  }
  setting.identity = std::string(128, 'x');
  EXPECT_TRUE(PskStore::Load({setting}, "/psk"));

  const std::string twice = Refused({Setting("gw-7", "a"), Setting("gw-7", "b")});
  EXPECT_NE(twice.find("/psk/1/identity: the same identity stands twice"), std::string::npos);
  EXPECT_TRUE(PskStore::Load({Setting("gw-7", "a"), Setting("gw-8", "b")}, "/psk"));
}

TEST_F(PskStoreTest, OneKeyUnderTwoIdentitiesIsRefused) {
  PskSetting first = Setting("gw-7", "a");
  PskSetting second = Setting("gw-8", "b", {PeerRole::client, TlsVersion::v1_2, PskHash::sha256});
  first.file = Write("ABCDEF00112233445566778899aabbcc");
  second.file = Write("abcdef00112233445566778899aabbcc\n");
  EXPECT_NE(Refused({first, second}).find("gw-7 and gw-8"), std::string::npos);
  second.file = Write(Key());
  EXPECT_TRUE(PskStore::Load({first, second}, "/psk"));
}

TEST_F(PskStoreTest, RollOverHasTwoKeysOfAPeerAndNotThree) {
  const auto store = PskStore::Load({Setting("old", "a"), Setting("new", "a")}, "/psk");
  ASSERT_TRUE(store);
  EXPECT_EQ(store->Find("old", {})->peer, "a");
  EXPECT_EQ(store->Find("new", {})->peer, "a");
  const std::string text =
      Refused({Setting("old", "a"), Setting("new", "a"), Setting("newer", "a")});
  EXPECT_NE(text.find("/psk/2/peer"), std::string::npos) << text;
}

TEST_F(PskStoreTest, DummyIsNoKeyAndNewInEachStore) {
  const auto one = PskStore::Load({}, "/psk");
  const auto other = PskStore::Load({}, "/psk");
  EXPECT_EQ(one->dummy().size(), 32U);
  EXPECT_NE(KeyFingerprint("", one->dummy().bytes()), KeyFingerprint("", other->dummy().bytes()));
}

}  // namespace
}  // namespace portcullis::identity
