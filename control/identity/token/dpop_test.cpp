#include "control/identity/token/dpop.hpp"

#include "control/identity/token/test_support.hpp"
#include "control/identity/token/url.hpp"

namespace portcullis::identity::test {
namespace {

constexpr std::string_view kToken = "header.payload.signature";
constexpr std::string_view kUrl = "https://gate.operator.example/session";

class ProofTest : public testing::Test {
 protected:
  json Header() { return {{"typ", "dpop+jwt"}, {"alg", "ES256"}, {"jwk", key_.Jwk()}}; }
  json Claims() {
    return {{"htm", "POST"},
            {"htu", kUrl},
            {"iat", kNow},
            {"jti", "proof-" + std::to_string(++count_)},
            {"ath", EncodeBase64Url(DigestOf(kToken))},
            {"nonce", nonces_.Issue(At(kNow))}};
  }
  std::string Proof(const json& claims) {
    return key_.Jws(Algorithm::es256, Header().dump(), claims.dump());
  }
  tl::expected<void, Refusal> Verify(const std::string& proof, int64_t at = kNow) {
    const Binding binding{{}, PublicKey::FromJwk(key_.Jwk(), "")->thumbprint()};
    return VerifyProof(proof, {"POST", kUrl, kToken, binding}, {}, nonces_, used_, At(at));
  }
  void Admits(const std::string& proof) {
    const auto verified = Verify(proof);
    EXPECT_TRUE(verified) << verified.error().Text();
  }
  void Refuses(Reason reason, const std::string& proof) {
    const auto verified = Verify(proof);
    ASSERT_FALSE(verified) << proof;
    EXPECT_EQ(Info(verified.error().reason).name, Info(reason).name) << verified.error().Text();
  }

  TestKey key_ = TestKey::Ec();
  NonceIssuer nonces_;
  ReplayCache used_{1000, ProofRules().Life()};
  int count_ = 0;
};

TEST_F(ProofTest, EachAlgorithm) {
  Admits(Proof(Claims()));
  key_ = TestKey::Ec("P-384");
  json header = Header();
  header["alg"] = "ES384";
  Admits(key_.Jws(Algorithm::es384, header.dump(), Claims().dump()));
  key_ = RsaKey();
  header = Header();
  header["alg"] = "RS256";
  Admits(key_.Jws(Algorithm::rs256, header.dump(), Claims().dump()));
  header["alg"] = "PS256";
  Admits(key_.Jws(Algorithm::ps256, header.dump(), Claims().dump()));
}

TEST_F(ProofTest, Header) {
  const auto with = [&](const char* member, const json& value) {
    json header = Header();
    header[member] = value;
    return key_.Jws(Algorithm::es256, header.dump(), Claims().dump());
  };
  Refuses(Reason::dpop_fail, with("typ", "at+jwt"));
  Refuses(Reason::dpop_fail, with("typ", "JWT"));
  for (const char* alg : {"none", "HS256", "ES384", "RS256", "ES512", ""}) {
    Refuses(Reason::dpop_fail, with("alg", alg));
  }
  Refuses(Reason::dpop_fail, with("crit", {"exp"}));
  for (const json& jwk :
       {json(nullptr), json("key"), json::object(), With(key_.Jwk(), "x", {{"d", "AQAB"}}),
        json({{"kty", "oct"}, {"k", "AQAB"}})}) {
    Refuses(Reason::dpop_fail, with("jwk", jwk));
  }
  json header = Header();
  header.erase("jwk");
  Refuses(Reason::dpop_fail, key_.Jws(Algorithm::es256, header.dump(), Claims().dump()));
  Admits(with("unknown", 1));
}

TEST_F(ProofTest, SignatureAndKey) {
  const std::string proof = Proof(Claims());
  const std::string other = Proof(Claims());
  Refuses(Reason::dpop_fail, proof.substr(0, proof.rfind('.')) + other.substr(other.rfind('.')));
  Refuses(Reason::dpop_fail, TestKey::Ec().Jws(Algorithm::es256, Header().dump(), Claims().dump()));
  Refuses(Reason::dpop_fail, proof + "=");
  Refuses(Reason::dpop_fail, "");
  Admits(proof);
  // Somebody else's proof, sound in itself, beside a token that is not theirs
  const TestKey thief = TestKey::Ec();
  const json header = {{"typ", "dpop+jwt"}, {"alg", "ES256"}, {"jwk", thief.Jwk()}};
  Refuses(Reason::token_binding_fail, thief.Jws(Algorithm::es256, header.dump(), Claims().dump()));
  // A token that is bound to a certificate cannot be used with a proof.
  const Binding binding{PublicKey::FromJwk(key_.Jwk(), "")->thumbprint(), {}};
  EXPECT_EQ(
      VerifyProof(Proof(Claims()), {"POST", kUrl, kToken, binding}, {}, nonces_, used_, At(kNow))
          .error()
          .reason,
      Reason::token_binding_fail);
}

TEST_F(ProofTest, EachClaim) {
  const std::pair<const char*, json> rows[] = {
      {"htm", "GET"},
      {"htm", "post"},
      {"htu", "https://gate.operator.example/other"},
      {"htu", "https://gate.operator.example:444/session"},
      {"htu", "http://gate.operator.example/session"},
      {"htu", "https://evil.example/session"},
      {"htu", "https://gate.operator.example/session/"},
      {"htu", "https://gate.operator.example/Session"},
      {"htu", "https://user@gate.operator.example/session"},
      {"htu", "/session"},
      {"iat", kNow - 61},
      {"iat", kNow + 31},
      {"iat", "now"},
      {"jti", ""},
      {"jti", std::string(257, 'x')},
      {"ath", EncodeBase64Url(DigestOf("another.access.token"))},
      {"ath", "short"},
      {"nonce", std::string(65, 'A')},
  };
  for (const auto& [claim, wrong] : rows) {
    SCOPED_TRACE(claim + (" " + wrong.dump()));
    json claims = Claims();
    claims[claim] = wrong;
    Refuses(Reason::dpop_fail, Proof(claims));
  }
  for (const char* claim : {"htm", "htu", "iat", "jti", "ath"}) {
    SCOPED_TRACE(claim);
    json claims = Claims();
    claims.erase(claim);
    Refuses(Reason::dpop_fail, Proof(claims));
  }
  for (const char* same :
       {"HTTPS://Gate.Operator.Example:443/session", "https://gate.operator.example/session?x=1#y",
        "https://gate.operator.example/a/../%73ession"}) {
    json claims = Claims();
    claims["htu"] = same;
    Admits(Proof(claims));
  }
  for (const int64_t iat : {kNow - 60, kNow + 30}) {
    json claims = Claims();
    claims["iat"] = iat;
    Admits(Proof(claims));
  }
}

TEST_F(ProofTest, UsedOnce) {
  json claims = Claims();
  Admits(Proof(claims));
  Refuses(Reason::dpop_nonce_fail, Proof(claims));  // its nonce is spent
  claims["nonce"] = nonces_.Issue(At(kNow));
  Refuses(Reason::token_replay, Proof(claims));  // its jti is not new
  claims["jti"] = "another";
  claims["nonce"] = nonces_.Issue(At(kNow));
  Admits(Proof(claims));
}

TEST_F(ProofTest, ANonceBelongsToItsConnectionAndRunsOut) {
  NonceIssuer elsewhere;
  json claims = Claims();
  claims["nonce"] = elsewhere.Issue(At(kNow));
  Refuses(Reason::dpop_nonce_fail, Proof(claims));
  claims["nonce"] = nonces_.Issue(At(kNow - 60));
  Refuses(Reason::dpop_nonce_fail, Proof(claims));
  for (const char* wrong : {"AAAAAAAAAAAAAAAAAAAAAA", ""}) {
    claims["nonce"] = wrong;
    Refuses(Reason::dpop_nonce_fail, Proof(claims));
  }
  claims.erase("nonce");
  Refuses(Reason::dpop_nonce_fail, Proof(claims));
  claims["nonce"] = nonces_.Issue(At(kNow - 59));
  Admits(Proof(claims));
}

TEST_F(ProofTest, AWrongProofSpendsItsNonce) {
  json claims = Claims();
  const auto nonce = claims["nonce"];
  claims["htm"] = "GET";
  Refuses(Reason::dpop_fail, Proof(claims));
  claims["htm"] = "POST";
  Refuses(Reason::dpop_nonce_fail, Proof(claims));
  claims["nonce"] = nonces_.Issue(At(kNow));
  Admits(Proof(claims));
}

TEST(NonceIssuerTest, KeepsAsManyAsThereAreRequestsAtATime) {
  NonceIssuer nonces;
  const std::string first = nonces.Issue(At(kNow));
  const std::string second = nonces.Issue(At(kNow));
  EXPECT_NE(first, second);
  for (size_t i = 1; i < NonceIssuer::kMostOpen; ++i) nonces.Issue(At(kNow));
  EXPECT_FALSE(nonces.Take(first, At(kNow)));
  EXPECT_TRUE(nonces.Take(second, At(kNow)));
  EXPECT_FALSE(nonces.Take(second, At(kNow)));
}

TEST(ReplayCacheTest, RefusesRatherThanForgets) {
  using Answer = ReplayCache::Answer;
  ReplayCache cache(2, std::chrono::seconds(90));
  EXPECT_EQ(cache.Add(DigestOf("a"), At(0)), Answer::fresh);
  EXPECT_EQ(cache.Add(DigestOf("b"), At(10)), Answer::fresh);
  EXPECT_EQ(cache.Add(DigestOf("c"), At(10)), Answer::full);
  EXPECT_EQ(cache.Add(DigestOf("a"), At(90)), Answer::seen);
  EXPECT_EQ(cache.Add(DigestOf("c"), At(91)), Answer::fresh);
  EXPECT_EQ(cache.Add(DigestOf("b"), At(91)), Answer::seen);
}

TEST(UrlTest, OneSpelling) {
  EXPECT_EQ(NormalisedTarget("https://h"), "https://h/");
  EXPECT_EQ(NormalisedTarget("HTTPS://H:443/?q"), "https://h/");
  EXPECT_EQ(NormalisedTarget("http://h:80/a"), "http://h/a");
  EXPECT_EQ(NormalisedTarget("https://h:80/a"), "https://h:80/a");
  EXPECT_EQ(NormalisedTarget("https://[2001:DB8::1]/a/./b"), "https://[2001:db8::1]/a/b");
  for (const char* wrong : {"", "h", "/a", "//h/a", "ftp://h/", "https:///a", "https://u@h/a"}) {
    EXPECT_FALSE(NormalisedTarget(wrong)) << wrong;
  }
}

}  // namespace
}  // namespace portcullis::identity::test
