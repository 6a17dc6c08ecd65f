// A token check beside the signature check that it cannot do without: `bare` is the loop of
// EVP_DigestVerify that a program would write, over the same bytes and keys. Compare the rows of
// one run; design aims: ES256 at 0.9 of bare or better, RS256 at 0.7.
#include <benchmark/benchmark.h>

#include "control/identity/token/dpop.hpp"
#include "control/identity/token/test_support.hpp"

namespace portcullis::identity::test {
namespace {

const TestKey& EcKey() {
  static const TestKey kKey = TestKey::Ec();
  return kKey;
}

struct Row {
  const TestKey& key;
  Algorithm algorithm;
  std::string token;
};

Row Es256() {
  return {EcKey(), Algorithm::es256,
          EcKey().Jws(Algorithm::es256, Header("ES256", "es256-1").dump(), Claims().dump())};
}
Row Rs256() {
  return {RsaKey(), Algorithm::rs256,
          RsaKey().Jws(Algorithm::rs256, Header("RS256", "rs256-1").dump(), Claims().dump())};
}

void Bare(benchmark::State& state, const Row& row) {
  const size_t dot = row.token.rfind('.');
  const std::string input = row.token.substr(0, dot);
  const std::string signature = row.key.EvpSignature(row.algorithm, input);
  for ([[maybe_unused]] auto _ : state) {
    EVP_MD_CTX* context = EVP_MD_CTX_new();
    EVP_DigestVerifyInit(context, nullptr, EVP_sha256(), nullptr, row.key.evp());
    if (EVP_DigestVerify(context, Bytes(signature).data(), signature.size(), Bytes(input).data(),
                         input.size()) != 1) {
      state.SkipWithError("the signature is wrong");
    }
    EVP_MD_CTX_free(context);
  }
}

void Token(benchmark::State& state, const Row& row) {
  const auto issuer = std::make_shared<Issuer>(Config());
  Keep(*issuer, {With(EcKey().Jwk(), "es256-1"), With(RsaKey().Jwk(), "rs256-1")});
  const DenyList denied;
  const TokenVerifier verifier({issuer}, denied);
  for ([[maybe_unused]] auto _ : state) {
    const auto verified = verifier.Verify(row.token, kInterface, At(kNow));
    if (!verified) state.SkipWithError(verified.error().Text().c_str());
  }
}

// Each proof is another one, as in service; making them is not measured.
void Proof(benchmark::State& state) {
  constexpr size_t kBatch = 256;
  const Binding binding{{}, PublicKey::FromJwk(EcKey().Jwk(), "")->thumbprint()};
  const std::string header =
      json({{"typ", "dpop+jwt"}, {"alg", "ES256"}, {"jwk", EcKey().Jwk()}}).dump();
  const std::string url = "https://gate.operator.example/session";
  const std::string token = Es256().token;
  const std::string ath = EncodeBase64Url(DigestOf(token));
  ReplayCache used(1U << 20U, ProofRules().Life());
  std::vector<std::pair<NonceIssuer, std::string>> batch;
  int64_t count = 0;
  for ([[maybe_unused]] auto _ : state) {
    if (batch.empty()) {
      state.PauseTiming();
      for (size_t i = 0; i < kBatch; ++i) {
        NonceIssuer nonces;
        const json claims = {{"htm", "POST"}, {"htu", url},
                             {"iat", kNow},   {"jti", std::to_string(++count)},
                             {"ath", ath},    {"nonce", nonces.Issue(At(kNow))}};
        std::string proof = EcKey().Jws(Algorithm::es256, header, claims.dump());
        batch.emplace_back(std::move(nonces), std::move(proof));
      }
      state.ResumeTiming();
    }
    auto& [nonces, proof] = batch.back();
    const auto good = VerifyProof(proof, {"POST", url, token, binding}, {}, nonces, used, At(kNow));
    if (!good) state.SkipWithError(good.error().Text().c_str());
    batch.pop_back();
  }
}

BENCHMARK_CAPTURE(Bare, ES256, Es256());
BENCHMARK_CAPTURE(Token, ES256, Es256());
BENCHMARK_CAPTURE(Bare, RS256, Rs256());
BENCHMARK_CAPTURE(Token, RS256, Rs256());
BENCHMARK(Proof)->Name("DPoP/ES256");

}  // namespace
}  // namespace portcullis::identity::test

BENCHMARK_MAIN();
