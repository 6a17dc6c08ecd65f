#include "control/registry/audit/key.hpp"

#include <openssl/pem.h>
#include <sys/stat.h>

#include "control/registry/audit/test_log.hpp"

namespace portcullis::audit {
namespace {

class KeyTest : public LogTest {
 protected:
  // A key that OpenSSL made, 0600, in PEM.
  template <class... Arguments>
  std::string Make(const char* type, Arguments... arguments) {
    EVP_PKEY* key = EVP_PKEY_Q_keygen(nullptr, nullptr, type, arguments...);
    FILE* file = fopen(KeyFile().c_str(), "w");
    PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr, nullptr);
    fclose(file);
    EVP_PKEY_free(key);
    chmod(KeyFile().c_str(), 0600);
    return KeyFile();
  }
  void ExpectSigns(const Result<SigningKey>& key) {
    ASSERT_TRUE(key) << key.error().Text();
    const auto signature = key->Sign("text");
    ASSERT_TRUE(signature);
    const std::string pem = folder_ / "audit.pub";
    std::ofstream(pem) << key->Public().Pem();
    const auto pub = PublicKey::Load(pem);
    ASSERT_TRUE(pub) << pub.error().Text();
    EXPECT_EQ(pub->Fingerprint(), key->Public().Fingerprint());
    EXPECT_TRUE(pub->Verifies("text", *signature));
    EXPECT_FALSE(pub->Verifies("texu", *signature));
    EXPECT_FALSE(pub->Verifies("text", signature->substr(2)));
    EXPECT_FALSE(pub->Verifies("text", *signature + "0"));
    EXPECT_FALSE(pub->Verifies("text", ""));
    EXPECT_FALSE(pub->Verifies("text", "xy"));
  }
};

TEST_F(KeyTest, CreatedOneIsForItsOwnerOnlyAndReplacesNothing) {
  ExpectSigns(SigningKey::Create(KeyFile()));
  struct stat info {};
  ASSERT_EQ(stat(KeyFile().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0600U);
  const std::string first = SigningKey::Load(KeyFile())->Public().Fingerprint();
  EXPECT_FALSE(SigningKey::Create(KeyFile()));
  EXPECT_EQ(SigningKey::Load(KeyFile())->Public().Fingerprint(), first);
}

TEST_F(KeyTest, KindsThatSign) {
  ExpectSigns(SigningKey::Load(Make("ED25519")));
  ExpectSigns(SigningKey::Load(Make("EC", "P-256")));
  ExpectSigns(SigningKey::Load(Make("EC", "P-384")));
}

TEST_F(KeyTest, KindsThatDoNot) {
  EXPECT_FALSE(SigningKey::Load(Make("EC", "P-224")));
  EXPECT_FALSE(SigningKey::Load(Make("RSA", size_t{2048})));
  EXPECT_FALSE(SigningKey::Load(Make("X25519")));
  std::ofstream(KeyFile()) << "no key";
  const auto none = SigningKey::Load(KeyFile());
  ASSERT_FALSE(none);
  EXPECT_NE(none.error().Text().find(KeyFile()), std::string::npos);
}

TEST_F(KeyTest, OthersMayNotReadIt) {
  Make("ED25519");
  EXPECT_TRUE(SigningKey::Load(KeyFile()));
  chmod(KeyFile().c_str(), 0640);
  const auto open = SigningKey::Load(KeyFile());
  ASSERT_FALSE(open);
  EXPECT_NE(open.error().Text().find("0640"), std::string::npos) << open.error().Text();
}

}  // namespace
}  // namespace portcullis::audit
