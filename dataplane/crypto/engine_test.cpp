// The engine against OpenSSL, on random packets of all lengths; and against packets that were
// tampered with or do not fit.
#include <gtest/gtest.h>
#include <intel-ipsec-mb.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <memory>
#include <set>
#include <string>

#include "base/test_seed.hpp"
#include "dataplane/crypto/engine.hpp"
#include "dataplane/crypto/iv.hpp"
#include "dataplane/crypto/test_support.hpp"
#include "dataplane/esp/header.hpp"

namespace portcullis {
namespace {

constexpr Algorithm kAll[] = {Algorithm::aes_128_gcm_16, Algorithm::aes_256_gcm_16,
                              Algorithm::chacha20_poly1305, Algorithm::aes_128_cbc_hmac_sha_256_128,
                              Algorithm::aes_256_cbc_hmac_sha_256_128};

using Context = std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)>;

const EVP_CIPHER* CipherOf(Algorithm a) {
  switch (a) {
    case Algorithm::aes_128_gcm_16:
      return EVP_aes_128_gcm();
    case Algorithm::aes_256_gcm_16:
      return EVP_aes_256_gcm();
    case Algorithm::chacha20_poly1305:
      return EVP_chacha20_poly1305();
    case Algorithm::aes_128_cbc_hmac_sha_256_128:
      return EVP_aes_128_cbc();
    case Algorithm::aes_256_cbc_hmac_sha_256_128:
      return EVP_aes_256_cbc();
  }
  return nullptr;
}

Bytes HmacSha256Of128(const Bytes& key, const Bytes& text) {
  Bytes icv(32);
  HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), text.data(), text.size(), icv.data(),
       nullptr);
  icv.resize(16);
  return icv;
}

/// RFC 4106, 7634, 3602 + 4868 once more, by OpenSSL and without any cleverness.
Bytes ReferenceSeal(Algorithm a, const Bytes& key, const Bytes& clear, bool esn, uint32_t high) {
  const AlgorithmInfo& info = Info(a);
  const Bytes upper = {static_cast<uint8_t>(high >> 24), static_cast<uint8_t>(high >> 16),
                       static_cast<uint8_t>(high >> 8), static_cast<uint8_t>(high)};
  const uint32_t offset = EspPayloadOffset(a);
  Bytes out(clear.begin(), clear.end() - info.icv_bytes);
  const auto text = static_cast<int>(out.size() - offset);
  const Context context(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
  int done = 0;
  if (!info.aead) {
    EVP_EncryptInit_ex(context.get(), CipherOf(a), nullptr, key.data(), clear.data() + 8);
    EVP_CIPHER_CTX_set_padding(context.get(), 0);
    EVP_EncryptUpdate(context.get(), out.data() + offset, &done, clear.data() + offset, text);
    Bytes hashed = out;
    if (esn) hashed.insert(hashed.end(), upper.begin(), upper.end());
    const Bytes icv = HmacSha256Of128(Bytes(key.end() - 32, key.end()), hashed);
    out.insert(out.end(), icv.begin(), icv.end());
    return out;
  }
  Bytes nonce(key.end() - 4, key.end());
  nonce.insert(nonce.end(), clear.begin() + 8, clear.begin() + 16);
  Bytes aad(clear.begin(), clear.begin() + 4);
  if (esn) aad.insert(aad.end(), upper.begin(), upper.end());
  aad.insert(aad.end(), clear.begin() + 4, clear.begin() + 8);
  EVP_EncryptInit_ex(context.get(), CipherOf(a), nullptr, key.data(), nonce.data());
  EVP_EncryptUpdate(context.get(), nullptr, &done, aad.data(), static_cast<int>(aad.size()));
  EVP_EncryptUpdate(context.get(), out.data() + offset, &done, clear.data() + offset, text);
  EVP_EncryptFinal_ex(context.get(), out.data() + offset + done, &done);
  out.resize(clear.size());
  EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, 16, out.data() + out.size() - 16);
  return out;
}

/// A framed packet in the clear, its ICV not yet there.
Bytes ClearPacket(Algorithm a, uint32_t inner, std::mt19937_64& random) {
  Bytes packet = RandomBytes(EspLength(a, inner), random);
  WriteEspTrailer(packet.data() + EspPayloadOffset(a) + inner, EspPadLength(a, inner),
                  kNextHeaderIpv4);
  return packet;
}

// RFC 4868 2.7.2.1. The inputs are too short to be ESP, so they test the reference above, and the
// reference tests the engine.
TEST(Reference, HmacSha256_128) {
  const std::string_view question = "what do ya want for nothing?";
  EXPECT_EQ(HmacSha256Of128(Bytes(32, 0x0b), FromHex("4869205468657265")),
            FromHex("198a607eb44bfbc69903a0f1cf2bbdc5"));
  Bytes jefe;
  for (int i = 0; i < 8; ++i) jefe.insert(jefe.end(), {'J', 'e', 'f', 'e'});
  EXPECT_EQ(HmacSha256Of128(jefe, Bytes(question.begin(), question.end())),
            FromHex("167f928588c5cc2eef8e3093caa0e87c"));
  EXPECT_EQ(HmacSha256Of128(Bytes(32, 0xaa), Bytes(50, 0xdd)),
            FromHex("cdcb1220d1ecccea91e53aba3092f962"));
  Bytes counting(32);
  for (size_t i = 0; i < counting.size(); ++i) counting[i] = static_cast<uint8_t>(i + 1);
  EXPECT_EQ(HmacSha256Of128(counting, Bytes(50, 0xcd)),
            FromHex("372efcf9b40b35c2115b1346903d2ef4"));
}

class EngineTest : public testing::TestWithParam<Algorithm> {
 protected:
  EngineTest() : random_(2024), material_(RandomBytes(Info(GetParam()).key_bytes, random_)) {
    EXPECT_TRUE(engine_->Expand(GetParam(), material_, key_));
  }
  CryptoOp Op(Bytes& packet, bool esn = true, uint32_t high = 7) {
    return OpFor(GetParam(), key_, packet, esn, high);
  }

  std::mt19937_64 random_;
  std::unique_ptr<Engine> engine_ = MakeIpsecMbEngine().value();
  Bytes material_;
  KeySchedule key_;
};

TEST_P(EngineTest, AgreesWithOpenSslAtAllLengths) {
  const Algorithm a = GetParam();
  for (const bool esn : {false, true}) {
    for (uint32_t inner = 0; inner < 2100; inner += inner < 600 ? 1 : 17) {
      const auto high = static_cast<uint32_t>(random_());
      const Bytes clear = ClearPacket(a, inner, random_);
      const Bytes expected = ReferenceSeal(a, material_, clear, esn, high);
      Bytes packet = clear;
      ASSERT_TRUE(SealOne(*engine_, Op(packet, esn, high))) << inner;
      ASSERT_EQ(packet, expected) << inner << (esn ? " esn" : "");
      ASSERT_TRUE(OpenOne(*engine_, Op(packet, esn, high))) << inner;
      ASSERT_TRUE(std::equal(clear.begin(), clear.end() - 16, packet.begin())) << inner;
    }
  }
}

TEST_P(EngineTest, LongestPacket) {
  const Algorithm a = GetParam();
  for (uint32_t inner : {9000U, EspMaxInner(a, 65535)}) {
    const Bytes clear = ClearPacket(a, inner, random_);
    Bytes packet = clear;
    ASSERT_TRUE(SealOne(*engine_, Op(packet)));
    EXPECT_EQ(packet, ReferenceSeal(a, material_, clear, true, 7));
    EXPECT_TRUE(OpenOne(*engine_, Op(packet)));
  }
  Bytes longer(70000);
  EXPECT_FALSE(SealOne(*engine_, Op(longer)));
}

TEST_P(EngineTest, EverySingleBitCounts) {
  Bytes packet = ClearPacket(GetParam(), 61, random_);
  for (const bool esn : {false, true}) {
    Bytes sealed = packet;
    ASSERT_TRUE(SealOne(*engine_, Op(sealed, esn)));
    for (size_t bit = 0; bit < sealed.size() * 8; ++bit) {
      Bytes flipped = sealed;
      flipped[bit / 8] ^= static_cast<uint8_t>(1U << (bit % 8));
      ASSERT_FALSE(OpenOne(*engine_, Op(flipped, esn))) << "bit " << bit;
    }
    for (unsigned bit = 0; bit < 32 && esn; ++bit) {
      Bytes copy = sealed;
      ASSERT_FALSE(OpenOne(*engine_, Op(copy, esn, 7U ^ (1U << bit)))) << "ESN bit " << bit;
    }
    Bytes twin = sealed;
    EXPECT_TRUE(OpenOne(*engine_, Op(twin, esn)));
  }
}

TEST_P(EngineTest, RandomMutationsAreRefused) {
  Bytes sealed = ClearPacket(GetParam(), 90, random_);
  ASSERT_TRUE(SealOne(*engine_, Op(sealed)));
  for (int i = 0; i < 20000; ++i) {
    Bytes mutated = sealed;
    const auto changes = 1 + random_() % 8;
    for (uint64_t c = 0; c < changes; ++c) {
      mutated[random_() % mutated.size()] ^= static_cast<uint8_t>(1 + random_() % 255);
    }
    if (mutated == sealed) continue;
    ASSERT_FALSE(OpenOne(*engine_, Op(mutated)));
  }
  EXPECT_TRUE(OpenOne(*engine_, Op(sealed)));
}

// Whatever the length says, nothing beyond it is read or written (the address sanitizer watches
// the vector's end) and only whole packets pass.
TEST_P(EngineTest, LengthsThatDoNotFit) {
  Bytes sealed = ClearPacket(GetParam(), 40, random_);
  ASSERT_TRUE(SealOne(*engine_, Op(sealed)));
  for (uint32_t length = 0; length < sealed.size(); ++length) {
    Bytes cut(sealed.begin(), sealed.begin() + length);
    EXPECT_FALSE(OpenOne(*engine_, Op(cut))) << length;
    if (length < EspPayloadOffset(GetParam()) + 16 + sizeof(EspTrailer)) {
      EXPECT_FALSE(SealOne(*engine_, Op(cut))) << length;
    }
    if (!Info(GetParam()).aead && (length - 40) % 16 != 0) {
      EXPECT_FALSE(SealOne(*engine_, Op(cut))) << length;
    }
  }
  EXPECT_TRUE(OpenOne(*engine_, Op(sealed)));
}

// The packet stands right before, or right behind, a page that must not be touched; the library's
// assembly works in wide registers and no sanitizer sees it.
TEST_P(EngineTest, NothingAroundThePacketIsTouched) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* pages = mmap(nullptr, 3 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(pages, MAP_FAILED);
  uint8_t* middle = static_cast<uint8_t*>(pages) + page;
  ASSERT_EQ(mprotect(middle, page, PROT_READ | PROT_WRITE), 0);
  for (uint32_t inner = 0; inner < 700; ++inner) {
    const Bytes clear = ClearPacket(GetParam(), inner, random_);
    const Bytes sealed = ReferenceSeal(GetParam(), material_, clear, true, 7);
    for (uint8_t* place : {middle, middle + page - clear.size()}) {
      std::ranges::copy(clear, place);
      CryptoOp op{.key = &key_,
                  .esp = place,
                  .length = static_cast<uint32_t>(clear.size()),
                  .esn_high = 7,
                  .algorithm = GetParam(),
                  .esn = true};
      ASSERT_TRUE(SealOne(*engine_, op)) << inner;
      ASSERT_TRUE(std::ranges::equal(sealed, std::span(place, sealed.size()))) << inner;
      ASSERT_TRUE(OpenOne(*engine_, op)) << inner;
    }
  }
  munmap(pages, 3 * page);
}

TEST_P(EngineTest, KeyOfTheWrongLength) {
  KeySchedule out;
  const Bytes shorter(material_.begin(), material_.end() - 1);
  const auto refused = engine_->Expand(GetParam(), shorter, out);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kInvalid);
  EXPECT_TRUE(engine_->Expand(GetParam(), material_, out));
}

TEST_P(EngineTest, IvNeverRepeats) {
  std::set<Bytes> seen;
  const AlgorithmInfo& info = Info(GetParam());
  for (uint64_t n :
       {1ULL, 2ULL, 3ULL, 255ULL, 256ULL, 0xffffffffULL, 0x100000000ULL, 0x100000001ULL, ~0ULL}) {
    Bytes iv(info.iv_bytes + 1, 0xcc);
    WriteIv(GetParam(), key_, Sequence{n}, iv.data());
    EXPECT_EQ(iv.back(), 0xcc);
    EXPECT_TRUE(seen.insert(iv).second) << n;
    if (!info.aead) continue;
    uint64_t wire = 0;
    for (size_t i = 0; i < 8; ++i) wire = wire << 8 | iv[i];
    EXPECT_EQ(wire, n);
  }
}

INSTANTIATE_TEST_SUITE_P(All, EngineTest, testing::ValuesIn(kAll), [](const auto& info) {
  std::string name(Info(info.param).name);
  std::ranges::replace(name, '-', '_');
  return name;
});

// CBC's IV is AES under a key of its own: not the cipher key, and not guessable from other IVs.
TEST(CbcIv, IsTheEncryptedSequenceNumberUnderItsOwnKey) {
  const auto engine = MakeIpsecMbEngine().value();
  std::mt19937_64 random(TestSeed(5));
  constexpr auto kAlgorithm = Algorithm::aes_128_cbc_hmac_sha_256_128;
  const Bytes material = RandomBytes(48, random);
  KeySchedule key;
  ASSERT_TRUE(engine->Expand(kAlgorithm, material, key));
  Bytes iv(16);
  WriteIv(kAlgorithm, key, Sequence{0x0102030405060708}, iv.data());

  const std::string_view label = "portcullis esp cbc iv";
  Bytes derived(32);
  HMAC(EVP_sha256(), material.data(), 48, reinterpret_cast<const uint8_t*>(label.data()),
       label.size(), derived.data(), nullptr);
  const Bytes block = FromHex("00000000000000000102030405060708");
  Bytes expected(16);
  int done = 0;
  const Context context(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
  EVP_EncryptInit_ex(context.get(), EVP_aes_128_ecb(), nullptr, derived.data(), nullptr);
  EVP_CIPHER_CTX_set_padding(context.get(), 0);
  EVP_EncryptUpdate(context.get(), expected.data(), &done, block.data(), 16);
  EXPECT_EQ(iv, expected);
}

// All algorithms in one burst, more CBC packets than go through at once, genuine and forged ones
// side by side: each gets its own answer.
TEST(Burst, MixedAlgorithmsAndForgeries) {
  const auto engine = MakeIpsecMbEngine().value();
  std::mt19937_64 random(TestSeed(77));
  std::array<KeySchedule, std::size(kAll)> keys;
  std::array<Bytes, std::size(kAll)> material;
  for (size_t i = 0; i < std::size(kAll); ++i) {
    material[i] = RandomBytes(Info(kAll[i]).key_bytes, random);
    ASSERT_TRUE(engine->Expand(kAll[i], material[i], keys[i]));
  }
  for (const size_t count : {1U, 2U, 31U, 64U, 257U, 700U}) {
    std::vector<Bytes> clear(count);
    std::vector<Bytes> packets(count);
    std::vector<CryptoOp> ops(count);
    for (size_t i = 0; i < count; ++i) {
      const size_t which = random() % std::size(kAll);
      clear[i] = ClearPacket(kAll[which], static_cast<uint32_t>(random() % 300), random);
      packets[i] = clear[i];
      ops[i] = OpFor(kAll[which], keys[which], packets[i], (random() & 1) != 0,
                     static_cast<uint32_t>(random()));
    }
    engine->Seal(ops);
    std::vector<bool> forged(count);
    for (size_t i = 0; i < count; ++i) {
      ASSERT_TRUE(ops[i].ok);
      const size_t which = static_cast<size_t>(ops[i].algorithm);
      ASSERT_EQ(packets[i], ReferenceSeal(ops[i].algorithm, material[which], clear[i], ops[i].esn,
                                          ops[i].esn_high));
      forged[i] = random() % 3 == 0;
      if (forged[i]) packets[i][random() % packets[i].size()] ^= 0x10;
    }
    engine->Open(ops);
    for (size_t i = 0; i < count; ++i) {
      ASSERT_EQ(ops[i].ok, !forged[i]) << i;
      if (ops[i].ok) {
        ASSERT_TRUE(std::equal(clear[i].begin(), clear[i].end() - 16, packets[i].begin())) << i;
      }
    }
  }
}

// The sanitizers turn mlock() into nothing, so there is nothing to see under them.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// Pages of this process that never reach a disk, KiB.
size_t LockedKiB() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    if (word != "VmLck:") continue;
    size_t kib = 0;
    status >> kib;
    return kib;
  }
  return 0;
}

// IPsec-MB keeps round keys in its manager while packets of several SAs are on their way.
TEST(Engine, WorksInLockedMemory) {
  const size_t before = LockedKiB();
  const auto engine = MakeIpsecMbEngine().value();
  EXPECT_GE(LockedKiB() - before, sizeof(IMB_MGR) / 1024);
}
#endif

TEST(Engine, SaysWhatItIs) {
  const std::string name = MakeIpsecMbEngine().value()->Name();
  EXPECT_EQ(name.find("ipsec_mb 1."), 0U) << name;
}

}  // namespace
}  // namespace portcullis
