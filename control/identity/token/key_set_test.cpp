#include "control/identity/token/key_set.hpp"

#include <cjose/cjose.h>

#include <memory>

#include "control/identity/token/issuer.hpp"
#include "control/identity/token/test_support.hpp"

namespace portcullis::identity::test {
namespace {

const std::vector<Algorithm> kAll = {Algorithm::es256, Algorithm::rs256, Algorithm::es384,
                                     Algorithm::ps256};

Result<KeySet> Parse(const std::vector<json>& keys, const std::vector<Algorithm>& allowed = kAll) {
  return KeySet::Parse(json({{"keys", keys}}).dump(), allowed);
}

TEST(EncodingTest, OnlyTheCanonicalSpellingIsDecoded) {
  EXPECT_EQ(DecodeBase64Url(""), "");
  EXPECT_EQ(DecodeBase64Url("Zg"), "f");
  EXPECT_EQ(DecodeBase64Url("Zm9vYg"), "foob");
  EXPECT_EQ(DecodeBase64Url("-_8"), "\xfb\xff");
  for (const char* wrong : {"Zh", "Zg==", "Zg=", "Z", "+/8", "Zm9v\n", " Zm9v", "Zm 9v", "Zm9vY"}) {
    EXPECT_FALSE(DecodeBase64Url(wrong)) << wrong;
  }
  EXPECT_FALSE(DecodeBase64Url(std::string_view("Zm9v\0", 5)));
}

TEST(PublicKeyTest, ThumbprintsOfTheRfcs) {
  // RFC 7638 3.1
  const json rsa = {
      {"kty", "RSA"},
      {"n",
       "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_"
       "BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-"
       "65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-"
       "bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"},
      {"e", "AQAB"},
      {"alg", "RS256"},
      {"kid", "2011-04-29"}};
  EXPECT_EQ(EncodeBase64Url(PublicKey::FromJwk(rsa, "")->thumbprint()),
            "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
  // RFC 9449 4.1 and 6.1
  const json ec = {{"kty", "EC"},
                   {"x", "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs"},
                   {"y", "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA"},
                   {"crv", "P-256"}};
  EXPECT_EQ(EncodeBase64Url(PublicKey::FromJwk(ec, "")->thumbprint()),
            "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
}

// cjose shares no code with our verification: what it signs must pass, under that key only.
TEST(PublicKeyTest, VerifiesWhatAnotherLibrarySigned) {
  struct Row {
    Algorithm algorithm;
    const char* name;
    cjose_jwk_t* key;
  };
  cjose_err error{};
  const std::string_view exponent("\x01\x00\x01", 3);
  const auto rsa = [&] {
    constexpr size_t kBits = 2048;
    return cjose_jwk_create_RSA_random(kBits, Bytes(exponent).data(), exponent.size(), &error);
  };
  for (const Row& row :
       {Row{Algorithm::es256, "ES256", cjose_jwk_create_EC_random(CJOSE_JWK_EC_P_256, &error)},
        Row{Algorithm::es384, "ES384", cjose_jwk_create_EC_random(CJOSE_JWK_EC_P_384, &error)},
        Row{Algorithm::rs256, "RS256", rsa()}, Row{Algorithm::ps256, "PS256", rsa()}}) {
    SCOPED_TRACE(row.name);
    cjose_header_t* header = cjose_header_new(&error);
    cjose_header_set(header, CJOSE_HDR_ALG, row.name, &error);
    const std::string text = "anything";
    cjose_jws_t* jws = cjose_jws_sign(row.key, header, Bytes(text).data(), text.size(), &error);
    const char* compact = nullptr;
    ASSERT_TRUE(cjose_jws_export(jws, &compact, &error)) << error.message;
    char* exported = cjose_jwk_to_json(row.key, /*priv=*/false, &error);
    const auto key = PublicKey::FromJwk(json::parse(exported), "");
    ASSERT_TRUE(key) << key.error().Text();

    const std::string_view whole(compact);
    const size_t dot = whole.rfind('.');
    const std::string input(whole.substr(0, dot));
    std::string signature = *DecodeBase64Url(whole.substr(dot + 1));
    EXPECT_TRUE(key->Verifies(row.algorithm, input, signature));
    EXPECT_FALSE(key->Verifies(row.algorithm, input + "x", signature));
    EXPECT_FALSE(key->Verifies(row.algorithm, input, signature + '\0'));
    EXPECT_FALSE(key->Verifies(row.algorithm, input, ""));
    for (const Algorithm other : kAll) {
      EXPECT_EQ(key->Verifies(other, input, signature), other == row.algorithm);
    }
    signature[signature.size() / 2] ^= 1;
    EXPECT_FALSE(key->Verifies(row.algorithm, input, signature));
    EXPECT_FALSE(key->Verifies(row.algorithm, input, std::string(signature.size(), '\0')));

    free(exported);  // NOLINT: cjose's allocator is malloc()
    cjose_jws_release(jws);
    cjose_header_release(header);
    cjose_jwk_release(row.key);
  }
}

TEST(KeySetTest, EachKeyHasOneAlgorithm) {
  const json p256 = TestKey::Ec().Jwk();
  const json p384 = TestKey::Ec("P-384").Jwk();
  const json rsa = RsaKey().Jwk();
  const auto set =
      Parse({With(p256, "a"), With(p384, "b", {{"alg", "ES384"}, {"use", "sig"}}),
             With(rsa, "c", {{"key_ops", {"verify"}}}), With(rsa, "d", {{"alg", "PS256"}})});
  ASSERT_TRUE(set) << set.error().Text();
  EXPECT_TRUE(set->notes().empty());
  ASSERT_EQ(set->keys().size(), 4U);
  EXPECT_EQ(set->Find("a")->algorithm, Algorithm::es256);
  EXPECT_EQ(set->Find("b")->algorithm, Algorithm::es384);
  EXPECT_EQ(set->Find("c")->algorithm, Algorithm::rs256);  // the first allowed one that fits
  EXPECT_EQ(set->Find("d")->algorithm, Algorithm::ps256);
  EXPECT_EQ(set->Find("e"), nullptr);
}

TEST(KeySetTest, LeavesOutWhatIsOfNoUse) {
  const json sound = With(TestKey::Ec().Jwk(), "sound");
  const json ec = TestKey::Ec().Jwk();
  for (const json& useless :
       {With(ec, "x", {{"use", "enc"}}), With(ec, "x", {{"key_ops", {"deriveKey"}}}),
        With(ec, "x", {{"alg", "ES384"}}), With(ec, "x", {{"alg", "ECDH-ES"}}),
        With(ec, "x", {{"alg", "none"}}), With(ec, "x", {{"crv", "secp256k1"}}),
        With(ec, "x", {{"kty", "OKP"}, {"crv", "Ed25519"}}),
        With(RsaKey().Jwk(), "x", {{"e", "Aw"}}), With(TestKey::Rsa(1024).Jwk(), "x")}) {
    SCOPED_TRACE(useless.dump());
    const auto set = Parse({useless, sound});
    ASSERT_TRUE(set) << set.error().Text();
    EXPECT_EQ(set->Find("x"), nullptr);
    EXPECT_EQ(set->notes().size(), 1U);
    EXPECT_NE(set->Find("sound"), nullptr);
  }
  EXPECT_EQ(Parse({With(RsaKey().Jwk(), "x")}, {Algorithm::es256})->Find("x"), nullptr);
  EXPECT_NE(Parse({With(RsaKey().Jwk(), "x")}, {Algorithm::ps256})->Find("x"), nullptr);
}

TEST(KeySetTest, RefusesWhatIsWrongWithTheWholeSet) {
  const json sound = With(TestKey::Ec().Jwk(), "sound");
  const json ec = TestKey::Ec().Jwk();
  json no_x = With(ec, "x");
  no_x.erase("x");
  json off_curve = With(ec, "x");
  off_curve["y"] = off_curve["x"];
  for (const json& wrong :
       {With(ec, "x", {{"d", "AQAB"}}), With(RsaKey().Jwk(), "x", {{"p", "AQAB"}}),
        With({{"kty", "OKP"}, {"crv", "Ed25519"}, {"x", "AQAB"}, {"d", "AQAB"}}, "x"),
        With({{"kty", "oct"}, {"k", "AQAB"}}, "x"), ec, With(ec, ""), With(ec, "x", {{"kid", 7}}),
        With(ec, "sound"), no_x, off_curve, With(ec, "x", {{"x", "AQAB"}}),
        With(ec, "x", {{"x", ec["x"].get<std::string>() + "="}}),
        With(RsaKey().Jwk(), "x", {{"n", "AAEAAQ"}}), json("key"), json(nullptr)}) {
    SCOPED_TRACE(wrong.dump());
    EXPECT_FALSE(Parse({sound, wrong}));
  }
  EXPECT_TRUE(Parse({sound}));
  const std::string text = json({{"keys", {sound}}}).dump();
  EXPECT_TRUE(KeySet::Parse(text, kAll));
  const std::string twice = R"({"keys":[],)" + text.substr(1);
  for (const std::string& wrong :
       {std::string(), std::string("[]"), std::string("{}"), std::string("<html>"), text + "x",
        twice, text.substr(1), std::string(R"({"keys":{}})")}) {
    EXPECT_FALSE(KeySet::Parse(wrong, kAll)) << wrong;
  }
  EXPECT_FALSE(Parse(std::vector<json>(101, sound)));
}

TEST(KeySetTest, TellsWhichKeysVanished) {
  const json one = TestKey::Ec().Jwk();
  const json two = TestKey::Ec().Jwk();
  const auto before = Parse({With(one, "a"), With(two, "b")});
  using Kids = std::vector<std::string>;
  EXPECT_EQ(Vanished(*before, *Parse({With(two, "b"), With(one, "a")})), Kids());
  EXPECT_EQ(Vanished(*before, *Parse({With(one, "a"), With(one, "c")})), Kids{"b"});
  EXPECT_EQ(Vanished(*before, *Parse({With(two, "a"), With(two, "b")})), Kids{"a"});  // another key
  EXPECT_EQ(Vanished(*before, *Parse({})), (Kids{"a", "b"}));
}

TEST(IssuerTest, KeepsTheLastGoodSetForALimitedTime) {
  Issuer issuer(Config());
  EXPECT_EQ(issuer.Keys(At(kNow)), nullptr);
  Keep(issuer, {With(TestKey::Ec().Jwk(), "a")});
  EXPECT_NE(issuer.Keys(At(kNow + 3600)), nullptr);
  EXPECT_EQ(issuer.Keys(At(kNow + 3601)), nullptr);
}

TEST(IssuerTest, ConfigurationIsChecked) {
  EXPECT_TRUE(Check(Config(), "issuer"));
  const auto wrong = [](auto change, const char* field) {
    IssuerConfig config = Config();
    change(config);
    const auto result = Check(config, "issuer");
    ASSERT_FALSE(result) << field;
    EXPECT_EQ(result.error().where, field) << result.error().Text();
  };
  wrong([](auto& c) { c.claims.issuer.clear(); }, "issuer.issuer");
  wrong([](auto& c) { c.claims.audiences.clear(); }, "issuer.audiences");
  wrong([](auto& c) { c.claims.audiences["other"] = kAudience; }, "issuer.audiences.other");
  wrong([](auto& c) { c.claims.leeway = std::chrono::seconds(31); }, "issuer.leeway");
  wrong([](auto& c) { c.algorithms.clear(); }, "issuer.algorithms");
  wrong([](auto& c) { c.keys = "http://as.example/jwks"; }, "issuer.keys");
  wrong([](auto& c) { c.keys = "ftp://as.example/jwks"; }, "issuer.keys");
  wrong([](auto& c) { c.keys = "jwks.json"; }, "issuer.keys");
  wrong([](auto& c) { c.keys = "https://user@as.example/jwks"; }, "issuer.keys");
  wrong([](auto& c) { c.keys = "https://as.example/jwks"; }, "issuer.keys_ca");
  wrong([](auto& c) { c.fetch_timeout = {}; }, "issuer.fetch_timeout");
  wrong([](auto& c) { c.refresh_gap = c.refresh_every * 2; }, "issuer");
  IssuerConfig config = Config();
  config.keys = "https://as.example/jwks";
  config.keys_ca = "/etc/portcullis/as-ca.pem";
  EXPECT_TRUE(Check(config, "issuer"));
  config.keys = "http://[::1]:8080/jwks";
  EXPECT_TRUE(Check(config, "issuer"));
}

}  // namespace
}  // namespace portcullis::identity::test
