#include "control/identity/token/verifier.hpp"

#include <openssl/hmac.h>

#include <functional>

#include "control/identity/token/test_support.hpp"

namespace portcullis::identity::test {
namespace {

class VerifierTest : public testing::Test {
 protected:
  void SetUp() override {
    issuer_->OnWantKeys([this] { ++wanted_; });
    Keep(*issuer_, Keys());
  }

  std::vector<json> Keys() {
    return {With(es256_.Jwk(), "es256-1"), With(es384_.Jwk(), "es384-1"),
            With(RsaKey().Jwk(), "rs256-1", {{"alg", "RS256"}}),
            With(RsaKey().Jwk(), "ps256-1", {{"alg", "PS256"}})};
  }

  std::string Token(const json& claims, const json& header = Header()) {
    return es256_.Jws(Algorithm::es256, header.dump(), claims.dump());
  }
  tl::expected<AccessToken, Refusal> Verify(const std::string& token, int64_t at = kNow,
                                            std::string_view interface = kInterface) {
    return TokenVerifier({issuer_}, denied_).Verify(token, interface, At(at));
  }
  void Admits(const std::string& token) {
    const auto verified = Verify(token);
    EXPECT_TRUE(verified) << verified.error().Text();
  }
  void Refuses(Reason reason, const std::string& token, int64_t at = kNow) {
    const auto verified = Verify(token, at);
    ASSERT_FALSE(verified) << token;
    EXPECT_EQ(Info(verified.error().reason).name, Info(reason).name) << verified.error().Text();
    // Named by its hash; neither it nor any long part of it is quoted.
    EXPECT_EQ(verified.error().detail.rfind("token " + TokenName(token), 0), 0U);
    for (size_t i = 0; i + 40 < token.size(); i += 20) {
      EXPECT_EQ(verified.error().detail.find(token.substr(i, 40)), std::string::npos);
    }
  }

  TestKey es256_ = TestKey::Ec();
  TestKey es384_ = TestKey::Ec("P-384");
  std::shared_ptr<Issuer> issuer_ = std::make_shared<Issuer>(Config());
  DenyList denied_;
  int wanted_ = 0;
};

TEST_F(VerifierTest, ASoundTokenSaysWhatItSays) {
  json claims = Claims();
  claims["acr"] = "two-factors";
  claims["auth_time"] = kNow - 100;
  const auto token = Verify(Token(claims));
  ASSERT_TRUE(token) << token.error().Text();
  EXPECT_EQ(token->issuer, kIssuer);
  EXPECT_EQ(token->subject, "csmf-1.tenant-a.example");
  EXPECT_EQ(token->client_id, "csmf-1");
  EXPECT_EQ(token->jti, "4f1f3c1e-7f5a");
  EXPECT_EQ(token->kid, "es256-1");
  EXPECT_EQ(token->scopes, (std::set<std::string>{"slice:create", "slice:monitor"}));
  EXPECT_EQ(token->audience, kAudience);
  EXPECT_EQ(token->expiry, At(kNow + 840).wall);
  EXPECT_EQ(token->acr, "two-factors");
  EXPECT_EQ(token->auth_time, At(kNow - 100).wall);
  EXPECT_EQ(token->binding, (Binding{DigestOf("certificate"), {}}));
  EXPECT_EQ(wanted_, 0);
}

TEST_F(VerifierTest, AllFourAlgorithms) {
  const std::string claims = Claims().dump();
  Admits(es256_.Jws(Algorithm::es256, Header("ES256", "es256-1").dump(), claims));
  Admits(es384_.Jws(Algorithm::es384, Header("ES384", "es384-1").dump(), claims));
  Admits(RsaKey().Jws(Algorithm::rs256, Header("RS256", "rs256-1").dump(), claims));
  Admits(RsaKey().Jws(Algorithm::ps256, Header("PS256", "ps256-1").dump(), claims));
}

TEST_F(VerifierTest, SignatureAndAlgorithm) {
  const std::string sound = Token(Claims());
  Admits(sound);
  json forged = Claims();
  forged["scope"] = "slice:delete";
  const std::string other = Token(forged);
  Refuses(Reason::token_sig_fail,
          other.substr(0, other.rfind('.')) + sound.substr(sound.rfind('.')));
  Refuses(Reason::token_sig_fail,
          TestKey::Ec().Jws(Algorithm::es256, Header().dump(), Claims().dump()));
  // `none`, with and without a signature (RFC 8725 2.1)
  const std::string none = EncodeBase64Url(Bytes(Header("none").dump())) + "." +
                           EncodeBase64Url(Bytes(Claims().dump())) + ".";
  Refuses(Reason::token_sig_fail, none);
  Refuses(Reason::token_sig_fail, none + "AAAA");
  Refuses(Reason::token_sig_fail, Token(Claims(), Header("None")));
  Refuses(Reason::token_sig_fail, sound.substr(0, sound.rfind('.') + 1));
  // one key under another key's algorithm
  Refuses(Reason::token_sig_fail, Token(Claims(), Header("RS256")));
  Refuses(Reason::token_sig_fail, Token(Claims(), Header("ES256", "rs256-1")));
  Refuses(Reason::token_sig_fail,
          RsaKey().Jws(Algorithm::ps256, Header("PS256", "rs256-1").dump(), Claims().dump()));
  Refuses(Reason::token_sig_fail,
          RsaKey().Jws(Algorithm::ps256, Header("RS256", "rs256-1").dump(), Claims().dump()));
}

TEST_F(VerifierTest, ThePublicKeyIsNoHmacKey) {
  const std::string public_key = RsaKey().Jwk().dump();
  const std::string input = EncodeBase64Url(Bytes(Header("HS256", "rs256-1").dump())) + "." +
                            EncodeBase64Url(Bytes(Claims().dump()));
  Sha256 mac{};
  HMAC(EVP_sha256(), public_key.data(), static_cast<int>(public_key.size()), Bytes(input).data(),
       input.size(), mac.data(), nullptr);
  Refuses(Reason::token_sig_fail, input + "." + EncodeBase64Url(mac));
  Admits(RsaKey().Jws(Algorithm::rs256, Header("RS256", "rs256-1").dump(), Claims().dump()));
}

TEST_F(VerifierTest, TypeOfToken) {
  for (const char* typ : {"JWT", "jwt", "dpop+jwt", "at+JWT2", "application/jwt", ""}) {
    json header = Header();
    header["typ"] = typ;
    Refuses(Reason::token_malformed, Token(Claims(), header));
  }
  json header = Header();
  header.erase("typ");
  Refuses(Reason::token_malformed, Token(Claims(), header));
  header["typ"] = "application/at+jwt";
  Admits(Token(Claims(), header));
}

TEST_F(VerifierTest, FormOfTheCompactSerialization) {
  const std::string sound = Token(Claims());
  const size_t first = sound.find('.');
  const size_t second = sound.rfind('.');
  Admits(sound);
  for (const std::string& wrong :
       {std::string(), std::string("."), std::string(".."), std::string("..."),
        std::string("opaque-token"), sound.substr(0, second), sound + ".", sound + ".AAAA",
        sound + "=", sound + "\n", " " + sound, sound + std::string(1, '\0'),
        sound.substr(0, first) + "=" + sound.substr(first), "Bearer " + sound, sound.substr(first),
        std::string(kLongestToken + 1, 'A')}) {
    Refuses(Reason::token_malformed, wrong);
  }
  // The last of 86 characters holds two bits that belong to no byte: a second spelling.
  std::string spelled = sound;
  spelled.back() = static_cast<char>(spelled.back() + 1);
  Refuses(Reason::token_malformed, spelled);
  // Oversized, but sound in all else; and the same at the limit.
  json claims = Claims();
  claims["padding"] = std::string(kLongestToken, 'x');
  Refuses(Reason::token_malformed, Token(claims));
  claims["padding"] = std::string(kLongestToken / 2, 'x');
  Admits(Token(claims));
}

TEST_F(VerifierTest, JsonWithoutSecondMeaning) {
  const std::string header = Header().dump();
  const std::string claims = Claims().dump();
  const auto sign = [&](const std::string& h, const std::string& c) {
    return es256_.Jws(Algorithm::es256, h, c);
  };
  Admits(sign(header, claims));
  const std::string rest = claims.substr(1);
  for (const std::string& wrong :
       {R"({"exp":1,)" + rest, R"({"iss":"https://evil.example",)" + rest,
        R"({"x":{"a":1,"a":1},)" + rest, claims + "x", claims + claims, std::string("[]"),
        std::string("7"), std::string(), R"({"x":1e999,)" + rest,
        R"({"\u0069ss":"https://evil.example",)" + rest, std::string("{\"x\":\"\xff\",") + rest,
        "{\"x\":" + std::string(40, '[') + std::string(40, ']') + "," + rest}) {
    Refuses(Reason::token_malformed, sign(header, wrong));
  }
  Admits(sign(header, R"({"x":{"a":1,"b":{"a":1}},)" + rest));
  for (const std::string& wrong :
       {R"({"alg":"none",)" + header.substr(1), R"({"kid":"other",)" + header.substr(1),
        header + " x", std::string("\"ES256\"")}) {
    Refuses(Reason::token_malformed, sign(wrong, claims));
  }
}

TEST_F(VerifierTest, NothingIsCritical) {
  for (const json& crit : {json({"exp"}), json({"b64"}), json::array(), json("x"), json(nullptr)}) {
    json header = Header();
    header["crit"] = crit;
    Refuses(Reason::token_malformed, Token(Claims(), header));
  }
  json header = Header();
  header["critical"] = {"exp"};
  Admits(Token(Claims(), header));
}

// A key or an address in the header is the sender's word for itself: never asked, never believed.
TEST_F(VerifierTest, KeysInTheHeaderAreNotFollowed) {
  const TestKey mine = TestKey::Ec();
  for (const json& more :
       {json({{"jwk", mine.Jwk()}}), json({{"jku", "https://evil.example/jwks"}}),
        json({{"x5u", "https://evil.example/cert.pem"}}), json({{"x5c", {"MIIB"}}})}) {
    json header = Header();
    header.update(more);
    Refuses(Reason::token_sig_fail, mine.Jws(Algorithm::es256, header.dump(), Claims().dump()));
    Admits(Token(Claims(), header));
    header["kid"] = "mine";
    Refuses(Reason::token_key_unknown, mine.Jws(Algorithm::es256, header.dump(), Claims().dump()));
  }
}

TEST_F(VerifierTest, IssuerAndKey) {
  json claims = Claims();
  for (const char* iss : {"https://as.operator.example/", "HTTPS://as.operator.example", "evil"}) {
    claims["iss"] = iss;
    Refuses(Reason::token_issuer_unknown, Token(claims));
  }
  EXPECT_EQ(wanted_, 0);  // strangers make nobody fetch
  Refuses(Reason::token_key_unknown, Token(Claims(), Header("ES256", "es256-2")));
  EXPECT_EQ(wanted_, 1);
  json header = Header();
  header.erase("kid");
  Refuses(Reason::token_key_unknown, Token(Claims(), header));
  header["kid"] = 7;
  Refuses(Reason::token_key_unknown, Token(Claims(), header));
  EXPECT_EQ(wanted_, 1);

  const std::string token = Token(Claims());
  Admits(token);
  Keep(*issuer_, {With(es384_.Jwk(), "es384-1")});  // the key vanished
  Refuses(Reason::token_key_unknown, token);
  Keep(*issuer_, Keys());
  Admits(token);
  Keep(*issuer_, Keys(), kNow - 3601);  // a set too old to be believed
  Refuses(Reason::token_key_unknown, token);
}

TEST_F(VerifierTest, OneIssuerCannotSpeakForAnother) {
  IssuerConfig config = Config();
  config.claims.issuer = "https://as.partner.example";
  const auto partner = std::make_shared<Issuer>(config);
  const TestKey key = TestKey::Ec();
  Keep(*partner, {With(key.Jwk(), "es256-1")});
  const TokenVerifier verifier({issuer_, partner}, denied_);
  json claims = Claims();
  EXPECT_EQ(
      verifier
          .Verify(key.Jws(Algorithm::es256, Header().dump(), claims.dump()), kInterface, At(kNow))
          .error()
          .reason,
      Reason::token_sig_fail);
  claims["iss"] = config.claims.issuer;
  EXPECT_TRUE(verifier.Verify(key.Jws(Algorithm::es256, Header().dump(), claims.dump()), kInterface,
                              At(kNow)));
}

TEST_F(VerifierTest, Audience) {
  json claims = Claims();
  for (const json& aud : {json("https://gate.operator.example/admin"), json("other"),
                          json(std::string(kAudience) + "/"), json::array(), json({"a", "b"}),
                          json(7), json({7}), json({{"a", kAudience}})}) {
    claims["aud"] = aud;
    Refuses(Reason::token_aud_fail, Token(claims));
  }
  for (const json& aud : {json(kAudience), json({"other", kAudience})}) {
    claims["aud"] = aud;
    Admits(Token(claims));
  }
  EXPECT_EQ(Verify(Token(Claims()), kNow, "administration").error().reason, Reason::token_aud_fail);
  EXPECT_EQ(Verify(Token(Claims()), kNow, "unheard-of").error().reason, Reason::token_aud_fail);
}

TEST_F(VerifierTest, Time) {
  const std::string token = Token(Claims());
  const int64_t expiry = kNow + 840;
  EXPECT_TRUE(Verify(token, expiry + 29));
  Refuses(Reason::token_expired, token, expiry + 30);
  Refuses(Reason::token_expired, token, expiry + 2000);
  const int64_t issued = kNow - 60;
  EXPECT_TRUE(Verify(token, issued - 30));
  Refuses(Reason::token_not_yet_valid, token, issued - 31);
  json claims = Claims();
  claims["nbf"] = kNow + 31;
  Refuses(Reason::token_not_yet_valid, Token(claims));
  claims.erase("nbf");
  Admits(Token(claims));
  claims["iat"] = kNow + 31;
  Refuses(Reason::token_not_yet_valid, Token(claims));
}

TEST_F(VerifierTest, RequiredClaims) {
  for (const char* claim : {"iss", "exp", "aud", "sub", "client_id", "iat", "jti"}) {
    json claims = Claims();
    claims.erase(claim);
    Refuses(Reason::token_claims_fail, Token(claims));
    claims[claim] = nullptr;
    Refuses(std::string_view(claim) == "aud" ? Reason::token_aud_fail : Reason::token_claims_fail,
            Token(claims));
  }
  for (const char* claim : {"sub", "client_id", "jti"}) {
    for (const json& wrong : {json(""), json(7), json(std::string(257, 'x')), json("a\nb")}) {
      json claims = Claims();
      claims[claim] = wrong;
      Refuses(Reason::token_claims_fail, Token(claims));
    }
    json claims = Claims();
    claims[claim] = std::string(256, 'x');
    Admits(Token(claims));
  }
  json far = Claims();
  far["exp"] = kLastSecond;
  Admits(Token(far));
  for (const char* claim : {"exp", "iat", "nbf"}) {
    for (const json& wrong :
         {json("1800000000"), json(-1), json(1e300), json(18446744073709551615U), json(true),
          json(kLastSecond + 1), json(253'402'300'799)}) {
      json claims = Claims();
      claims[claim] = wrong;
      Refuses(Reason::token_claims_fail, Token(claims));
    }
  }
}

TEST_F(VerifierTest, FurtherClaimsThatTheOperatorRequires) {
  IssuerConfig config = Config();
  config.claims.required_claims = {"tenant"};
  issuer_ = std::make_shared<Issuer>(config);
  Keep(*issuer_, Keys());
  Refuses(Reason::token_claims_fail, Token(Claims()));
  json claims = Claims();
  claims["tenant"] = "tenant-a";
  Admits(Token(claims));
}

TEST_F(VerifierTest, Scope) {
  json claims = Claims();
  for (const char* wrong : {" a", "a ", "a  b", "a\"b", "a\\b", "a\tb", "\xc3\xa4"}) {
    claims["scope"] = wrong;
    Refuses(Reason::token_claims_fail, Token(claims));
  }
  claims["scope"] = {"a", "b"};
  Refuses(Reason::token_claims_fail, Token(claims));
  claims["scope"] = "";
  Refuses(Reason::token_scope_fail, Token(claims));
  claims.erase("scope");
  Refuses(Reason::token_scope_fail, Token(claims));
  claims["scope"] = "b a:x/~!#[] b";
  EXPECT_EQ(Verify(Token(claims))->scopes, (std::set<std::string>{"b", "a:x/~!#[]"}));
}

TEST_F(VerifierTest, Binding) {
  const std::string thumbprint = EncodeBase64Url(DigestOf("certificate"));
  json claims = Claims();
  for (const json& cnf :
       {json::object(), json({{"x5t#S256", ""}}), json({{"x5t#S256", 7}}),
        json({{"x5t#S256", thumbprint + "="}}), json({{"x5t#S256", thumbprint.substr(1)}}),
        json({{"x5t", thumbprint}}), json({{"jwk", TestKey::Ec().Jwk()}}),
        json({{"x5t#S256", thumbprint}, {"jkt", "x"}})}) {
    claims["cnf"] = cnf;
    Refuses(Reason::token_binding_fail, Token(claims));
  }
  claims.erase("cnf");
  Refuses(Reason::token_binding_fail, Token(claims));
  claims["cnf"] = thumbprint;
  Refuses(Reason::token_claims_fail, Token(claims));

  const auto by_certificate = Verify(Token(Claims()));
  const std::string_view mine = "certificate";
  EXPECT_TRUE(CheckBinding(*by_certificate, Bytes(mine)));
  EXPECT_EQ(CheckBinding(*by_certificate, Bytes("another")).error().reason,
            Reason::token_binding_fail);
  EXPECT_EQ(CheckBinding(*by_certificate, {}).error().reason, Reason::token_binding_fail);

  claims["cnf"] = {{"jkt", thumbprint}};
  const auto by_key = Verify(Token(claims));
  ASSERT_TRUE(by_key) << by_key.error().Text();
  EXPECT_EQ(by_key->binding, (Binding{{}, DecodeSha256(thumbprint)}));
  EXPECT_EQ(CheckBinding(*by_key, Bytes(mine)).error().reason, Reason::token_binding_fail);
  EXPECT_TRUE(CheckBinding(*by_key, Bytes(mine), true));
  EXPECT_TRUE(CheckBinding(*by_key, {}, true));

  claims["cnf"] = {{"jkt", thumbprint}, {"x5t#S256", EncodeBase64Url(DigestOf(mine))}};
  const auto by_both = Verify(Token(claims));
  ASSERT_TRUE(by_both) << by_both.error().Text();
  EXPECT_TRUE(CheckBinding(*by_both, Bytes(mine), true));
  EXPECT_EQ(CheckBinding(*by_both, Bytes(mine)).error().reason, Reason::token_binding_fail);
  EXPECT_EQ(CheckBinding(*by_both, Bytes("another"), true).error().reason,
            Reason::token_binding_fail);
  EXPECT_EQ(CheckBinding(*by_both, {}, true).error().reason, Reason::token_binding_fail);
  EXPECT_EQ(CheckBinding(AccessToken(), Bytes(mine), true).error().reason,
            Reason::token_binding_fail);
}

TEST_F(VerifierTest, Revoked) {
  const std::string token = Token(Claims());
  const auto expiry = At(kNow + 870).wall;
  const auto admitted = Verify(token);
  ASSERT_TRUE(admitted);
  const ClaimRules& rules = issuer_->config().claims;
  for (const Denial& denial :
       {Denial{Denial::What::token, kIssuer, "4f1f3c1e-7f5a"},
        Denial{Denial::What::key, kIssuer, "es256-1"}, Denial{Denial::What::issuer, kIssuer, ""}}) {
    Admits(token);
    EXPECT_TRUE(CheckAgain(*admitted, rules, kInterface, denied_, At(kNow)));
    const uint64_t epoch = denied_.epoch();
    ASSERT_TRUE(denied_.Add(denial, expiry));
    EXPECT_GT(denied_.epoch(), epoch);
    Refuses(Reason::token_revoked, token);
    EXPECT_EQ(CheckAgain(*admitted, rules, kInterface, denied_, At(kNow)).error().reason,
              Reason::token_revoked);
    denied_.Purge(expiry);
    Refuses(Reason::token_revoked, token);
    denied_.Purge(expiry + std::chrono::seconds(1));
  }
  // What is said of others changes nothing.
  ASSERT_TRUE(
      denied_.Add({Denial::What::token, "https://as.partner.example", "4f1f3c1e-7f5a"}, {}));
  ASSERT_TRUE(denied_.Add({Denial::What::key, kIssuer, "4f1f3c1e-7f5a"}, {}));
  Admits(token);
  EXPECT_EQ(CheckAgain(*admitted, rules, kInterface, denied_, At(kNow + 870)).error().reason,
            Reason::token_expired);
  EXPECT_EQ(CheckAgain(*admitted, rules, "administration", denied_, At(kNow)).error().reason,
            Reason::token_aud_fail);
}

TEST(DenyListTest, ForgetsNothingToMakeRoomAndKeepsTheLaterEnd) {
  DenyList list(2);
  const auto denies = [&](const char* id) {
    return list.Denies({Denial::What::token, kIssuer, id});
  };
  const Denial a{Denial::What::token, kIssuer, "a"};
  const Denial b{Denial::What::token, kIssuer, "b"};
  const Denial c{Denial::What::token, kIssuer, "c"};
  ASSERT_TRUE(list.Add(a, At(20).wall));
  ASSERT_TRUE(list.Add(a, At(10).wall));
  ASSERT_TRUE(list.Add(b, At(10).wall));
  ASSERT_TRUE(list.Add(b, {}));
  EXPECT_EQ(list.Add(c, {}).error().kind, ErrorKind::kExhausted);
  list.Purge(At(15).wall);
  EXPECT_TRUE(denies("a"));
  list.Purge(At(21).wall);
  EXPECT_FALSE(denies("a"));
  EXPECT_TRUE(denies("b"));
  EXPECT_TRUE(list.Add(c, {}));
}

}  // namespace
}  // namespace portcullis::identity::test
