// What ProofKey makes must satisfy VerifyProof, the gate's own reader, and nothing else may.
#include "control/identity/token/proof_key.hpp"

#include <gtest/gtest.h>
#include <openssl/pem.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "control/identity/token/dpop.hpp"
#include "control/identity/token/test_support.hpp"

namespace portcullis::identity {
namespace {

constexpr const char* kUrl = "https://gate.example:4434/session/v1/sessions";
constexpr const char* kToken = "header.payload.signature";

class ProofKeyTest : public testing::Test {
 protected:
  ProofKeyTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "portcullis-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
  }
  ~ProofKeyTest() override { std::filesystem::remove_all(folder_); }

  std::string Write(EVP_PKEY* key, mode_t mode = 0600) const {
    const BioPtr bio(BIO_new(BIO_s_mem()));
    PEM_write_bio_PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr);
    std::string path = folder_ / "proof.key";
    std::ofstream(path) << Written(bio.get());
    EXPECT_EQ(chmod(path.c_str(), mode), 0);
    return path;
  }

  tl::expected<void, Refusal> Verify(const std::string& proof, const Sha256& thumbprint) {
    const Binding binding{{}, thumbprint};
    return VerifyProof(proof, {"POST", kUrl, kToken, binding}, {}, nonces_, used_, Moment::Now());
  }

  std::filesystem::path folder_;
  NonceIssuer nonces_;
  ReplayCache used_{10, std::chrono::seconds(90)};
};

TEST_F(ProofKeyTest, TheGateTakesIt) {
  const auto pair = test::TestKey::Ec();
  const auto key = ProofKey::Load(Write(pair.evp()), "key");
  ASSERT_TRUE(key) << key.error().Text();
  EXPECT_EQ(key->thumbprint(), test::Thumbprint(pair));
  const std::string nonce = nonces_.Issue(Moment::Now());
  const auto thumbprint = *DecodeSha256(key->thumbprint());
  const std::string proof = key->Prove({"POST", kUrl, kToken, nonce});
  const auto good = Verify(proof, thumbprint);
  EXPECT_TRUE(good) << good.error().Text();
  EXPECT_FALSE(Verify(proof, thumbprint));  // its nonce is spent
}

TEST_F(ProofKeyTest, EachIsForOneRequestAndOneToken) {
  const auto key = ProofKey::Load(Write(test::TestKey::Ec().evp()), "key");
  ASSERT_TRUE(key) << key.error().Text();
  const auto thumbprint = *DecodeSha256(key->thumbprint());
  const auto with = [&](const ProofRequest& request) {
    return Verify(key->Prove(request), thumbprint);
  };
  const auto nonce = [&] { return nonces_.Issue(Moment::Now()); };
  EXPECT_TRUE(with({"POST", kUrl, kToken, nonce()}));
  EXPECT_FALSE(with({"DELETE", kUrl, kToken, nonce()}));
  EXPECT_FALSE(with({"POST", "https://other.example/", kToken, nonce()}));
  EXPECT_FALSE(with({"POST", kUrl, "another", nonce()}));
  EXPECT_FALSE(with({"POST", kUrl, kToken, "unknown"}));
  EXPECT_FALSE(with({"POST", kUrl, kToken, ""}));
  EXPECT_FALSE(with({"POST", kUrl, "", nonce()}));
}

TEST_F(ProofKeyTest, WhatIsNoKeyForProofsIsRefused) {
  EXPECT_FALSE(ProofKey::Load(folder_ / "nowhere", "key"));
  EXPECT_FALSE(ProofKey::Load(Write(test::RsaKey().evp()), "key"));
  EXPECT_FALSE(ProofKey::Load(Write(test::TestKey::Ec("P-384").evp()), "key"));
  const auto pair = test::TestKey::Ec();
  const auto open = ProofKey::Load(Write(pair.evp(), 0644), "key");
  ASSERT_FALSE(open);
  EXPECT_EQ(open.error().where, "key");
  EXPECT_TRUE(ProofKey::Load(Write(pair.evp()), "key"));
}

}  // namespace
}  // namespace portcullis::identity
