// Published packets, whole, as they stand on the wire: what others computed must come out of ours,
// and ours must open it.
#include <gtest/gtest.h>

#include <algorithm>

#include "dataplane/crypto/engine.hpp"
#include "dataplane/crypto/test_support.hpp"

namespace portcullis {
namespace {

struct Vector {
  const char* name;
  Algorithm algorithm;
  const char* key;     // cipher key || salt
  const char* header;  // SPI, lower half of the sequence number
  bool esn;
  uint32_t esn_high;
  const char* iv;
  const char* plain;  // inner packet, padding, trailer
  const char* encrypted;
  const char* icv;
};

// draft-mcgrew-gcm-test-01 section 4: AES-GCM in ESP. Its 192-bit case is left out, the algorithm
// is not offered. The associated data there is SPI || ESN high || ESN low with ESN.
constexpr Vector kVectors[] = {
    {"mcgrew_1_aes128_esn", Algorithm::aes_128_gcm_16, "4c80cdefbb5d10da906ac73c3613a6342e443b68",
     "0000432100000000", true, 0x87654321, "4956ed7e3b244cfe",
     "45000048699a000080114db7c0a80102c0a801010a9bf15638d301000001000000000000045f736970045f7564700"
     "37369700963796265726369747902646b000021000101020201",
     "fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34cfa2436f14a3f3cf65925bf1f4a13"
     "c5d15b21e1884f5ff6247aeabb786b93bce61bc17d768fd9732",
     "459018148f6cbe722fd04796562dfdb4"},
    {"mcgrew_2_aes128", Algorithm::aes_128_gcm_16, "feffe9928665731c6d6a8f9467308308cafebabe",
     "0000a5f80000000a", false, 0, "facedbaddecaf888",
     "4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d0010000010000000000000373697009637"
     "96265726369747902646b00000100010001",
     "deb22cd9b07c72c16e3a65beeb8df304a5a5897d33ae530f1ba76d5d114d2a5c3de81827c10e9a4f51330d0eec416"
     "642cfbb85a5b47e48a4ec3b9ba95d918bd1",
     "83b70d3aa8bc6ee4c309e9d85a41ad4a"},
    {"mcgrew_3_aes256", Algorithm::aes_256_gcm_16,
     "abbccddef00112233445566778899aababbccddef00112233445566778899aab11223344", "4a2cbfe300000002",
     false, 0, "0102030405060708",
     "4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee0000000007002400020bf0000020405b401010"
     "40201020201",
     "ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763748a637985771d347f0545659f14e"
     "99def842d8e",
     "b335f4eecfdbf831824b4c4915956c96"},
    {"mcgrew_4_aes128", Algorithm::aes_128_gcm_16, "0000000000000000000000000000000000000000",
     "0000000000000001", false, 0, "0000000000000000",
     "4500003c99c500008001cb7a40679318010101010800075c020044006162636465666768696a6b6c6d6e6f7071727"
     "37475767761626364656667686901020201",
     "4688daf2f973a392732909c331d56d60f694abaa414b5e7ff5fdcdfff5e9a284456476492719ffb64de7d9dca1e1d"
     "894bc3bd57873ed4d181d19d4d5c8c18af3",
     "f821d496eeb096e98ad2b69e4799c71d"},
    {"mcgrew_5_aes128_esn", Algorithm::aes_128_gcm_16, "3de09874b388e6491988d0c3607eae1f57690e43",
     "42f67e3f10101010", true, 0x10101010, "4e280000a2fca1a3",
     "4500003c99c300008001cb7c40679318010101010800085c020043006162636465666768696a6b6c6d6e6f7071727"
     "37475767761626364656667686901020201",
     "fba2caa4853cf9f0f22cb10d86dd83b0fec75691cf1a04b00d1138ec9c35791765acbd8701ad79845bf9fe3fba487"
     "bc91755e6662b4c8d0d1f5e22739530320a",
     "e0d731cc978ecafaeae88f00e80d6e48"},
    {"mcgrew_6_aes128_esn", Algorithm::aes_128_gcm_16, "3de09874b388e6491988d0c3607eae1f57690e43",
     "42f67e3f10101010", true, 0x10101010, "4e280000a2fca1a3",
     "4500001c42a200008001441f406793b6e00000020a00f5ff01020201",
     "fba2ca845e5df9f0f22c3e6e86dd831e1fc65792cd1af9130e1379ed",
     "369f071f35e034be95f112e4e7d05d35"},
    {"mcgrew_7_aes128_esn", Algorithm::aes_128_gcm_16, "abbccddef00112233445566778899aabdecaf888",
     "0000010000000001", true, 0x00000000, "cafedebaceface74",
     "4500004933ba00007f119106c3fb1d10c2b1d326c02831ce0035dd7b800302d500004e20001e8c18d75b81dc91baa"
     "0476b91b924b280389d92c963bac046ec959b6266c04722b14923010101",
     "18a6fd42f72cbf4ab2a2ea901f73d814e3e7f243d95412e1c349c1d2fbec168f9190feebaf2cb01984e65863965d7"
     "472b79da345e0e780191f0d2f0e0f496c226f2127b27db35724e7845d68",
     "651f57e65f354f75ff17015769623436"},
    {"mcgrew_8_aes256_esn", Algorithm::aes_256_gcm_16,
     "abbccddef00112233445566778899aababbccddef00112233445566778899aab73616c74", "17405e67dd0db99b",
     true, 0x156f3126, "616e640169766563",
     "45080028732c00004006e9f90a0106120a01038f06b88023dd6bafbecb71260250101f646d540001",
     "f2d69ecdbd5a0d5b8d5ef38bad4da58d1f278fde98ef67549d524a3018d9a57ff4d3a31ce673119e",
     "451626c2415771e3b7eebca614c89b35"},
    {"mcgrew_9_aes128_esn", Algorithm::aes_128_gcm_16, "3de09874b388e6491988d0c3607eae1f57690e43",
     "42f67e3f10101010", true, 0x10101010, "4e280000a2fca1a3",
     "45000049333e00007f119182c3fb1d10c2b1d326c02831ce0035cb458003025b000001e0001e8c18d65759d52284a"
     "0352c71475c8880391c764d6e5ee0496b325ae270c03899493915010101",
     "fba2cad12fc1f9f00d3cebf305410db83d7784b607323d220f24b0a97d54182800cadb0f68d99ef0e0c0c89ae9bea"
     "8884e52d65bc1afd0740f742444747b5b39ab533163aad4550ee5160975",
     "cdb608c5769189609763b8e18caa81e2"},
    {"mcgrew_10_aes256_esn", Algorithm::aes_256_gcm_16,
     "abbccddef00112233445566778899aababbccddef00112233445566778899aab73616c74", "17405e67dd0db99b",
     true, 0x156f3126, "616e640169766563",
     "636973636f0172756c657301746865016e6574776501646566696e6501746865746563686e6f6c6f6769657301746"
     "8617477696c6c01646566696e65746f6d6f72726f7701020201",
     "d4b7ed86a1777f2ea13d6973d324c69e7b43f826fb56831226508bebd2dceb18d0a6df10e5487df074113e14c6410"
     "24e3e6773d91a62ee429b043a10e3efe6b012a49363412364f8",
     "c0cac587f249e56b11e24f30e44ccc76"},
    {"mcgrew_11_aes128", Algorithm::aes_128_gcm_16, "7d773d00c144c525ac619d18c84a3f47d9664267",
     "335467aeffffffff", false, 0, "43457e9182443bc6", "01020201", "437f866b",
     "cb3f699fe9b0822bac961c4504bef270"},
    {"mcgrew_12_aes128_esn", Algorithm::aes_128_gcm_16, "abbccddef00112233445566778899aabdecaf888",
     "0000010000000001", true, 0x00000000, "cafedebaceface74",
     "746f016265016f72016e6f7401746f0162650001", "29c9fc69a197d038ccdd14e2ddfcaa0543332164",
     "412503524303ed3c6c5f283843af8c3e"},
    {"mcgrew_13_aes256_esn", Algorithm::aes_256_gcm_16,
     "6c6567616c697a656d6172696a75616e61616e64646f69746265666f726569617475726e", "796b6963ffffffff",
     true, 0xffffffff, "333021696765746d",
     "45000030da3a00008001df3bc0a80005c0a800010800c6cd020007006162636465666768696a6b6c6d6e6f7071727"
     "37401020201",
     "f97ab2aa356d8edce17644ac8c78e25dd24dedbb29ebf1b64a274b39b49c3a864cd3d78ca4ae68a32b42458fb57db"
     "e821dcc63b9",
     "d0937ba2945f669368661a329fb4c053"},  // RFC 7634 appendix A.
    {"rfc7634_a", Algorithm::chacha20_poly1305,
     "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f a0a1a2a3",
     "0102030400000005", false, 0, "1011121314151617",
     "45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec100007362708090a0b0c0d0e0f10111"
     "2"
     "131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363701020204",
     "24039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c614ee8099d52844eb61aa95dfab4c0"
     "2"
     "f72aa71e7c4c4f64c9befe2facc638e8f3cbec163fac469b502773f6fb94e664da9165b82829f641e0",
     "76aaa8266b7fb0f7b11b369907e1ad43"},
};

struct AeadVector : testing::TestWithParam<Vector> {};

Bytes Packet(const Vector& v, const char* text) {
  Bytes packet;
  for (const char* part : {v.header, v.iv, text, v.icv}) {
    const Bytes bytes = FromHex(part);
    packet.insert(packet.end(), bytes.begin(), bytes.end());
  }
  return packet;
}

TEST_P(AeadVector, SealsAndOpens) {
  const Vector& v = GetParam();
  const auto engine = MakeIpsecMbEngine().value();
  KeySchedule key;
  ASSERT_TRUE(engine->Expand(v.algorithm, FromHex(v.key), key));
  const Bytes wire = Packet(v, v.encrypted);
  const Bytes clear = Packet(v, v.plain);
  ASSERT_EQ(wire.size(), clear.size());

  Bytes packet = clear;
  std::fill(packet.end() - 16, packet.end(), uint8_t{0xee});
  ASSERT_TRUE(SealOne(*engine, OpFor(v.algorithm, key, packet, v.esn, v.esn_high)));
  EXPECT_EQ(packet, wire);

  ASSERT_TRUE(OpenOne(*engine, OpFor(v.algorithm, key, packet, v.esn, v.esn_high)));
  EXPECT_EQ(packet, clear);

  // The upper half counts if and only if ESN is on.
  packet = wire;
  EXPECT_EQ(OpenOne(*engine, OpFor(v.algorithm, key, packet, v.esn, v.esn_high + 1)), !v.esn);
  packet = wire;
  EXPECT_FALSE(OpenOne(*engine, OpFor(v.algorithm, key, packet, !v.esn, v.esn_high)));
}

INSTANTIATE_TEST_SUITE_P(Published, AeadVector, testing::ValuesIn(kVectors),
                         [](const auto& info) { return std::string(info.param.name); });

// RFC 3602 section 4, cases 5 to 8: whole ESP packets, but with no integrity algorithm. So the
// cipher's output is compared; the ICV is held against OpenSSL in engine_test.cpp.
struct CbcCase {
  const char* name;
  const char* key;
  const char* header;
  const char* iv;
  const char* plain;
  const char* encrypted;
};

constexpr CbcCase kCbcCases[] = {
    {"case_5", "90d382b410eeba7ad938c46cec1a82bf", "00004321 00000001",
     "e96e8c08ab465763fd098d45dd3ff893",
     "08000ebda70a00008e9c083db95b070008090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f2021222324252"
     "6"
     "2728292a2b2c2d2e2f30313233343536370102030405060708090a0b0c0d0e0e01",
     "f663c25d325c18c6a9453e194e120849a4870b66cc6b9965330013b4898dc856a4699e523a55db080b59ec3a8e4b7"
     "e"
     "52775b07d1db34ed9c538ab50c551b874aa269add047ad2d5913ac19b7cfbad4a6"},
    {"case_6", "90d382b410eeba7ad938c46cec1a82bf", "00004321 00000008",
     "69d08df7d203329db093fc4924e5bd80",
     "0800b5e8a80a0500a69c083d0b660e0077777777777777777777777701020201",
     "f51995881ec4e0c4488987ce742e8109689bb379d2d750c0d915dca346a89f75"},
    {"case_7", "0123456789abcdef0123456789abcdef", "00008765 00000002",
     "f4e765244f6407adf13dc1380f673f37",
     "45000054090400004001f988c0a87b03c0a87bc808009f76a90a0100b49c083d02a2040008090a0b0c0d0e0f10111"
     "2"
     "131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f3031323334353637010203040506070809"
     "0a0a04",
     "773b5241a4c449225e4f3ce5ed611b0c237ca96cf74a93013c1b0ea1a0cf70f8e4ecaec78ac53aad7a0f022b85924"
     "3"
     "c647752e94a859352b8a4d4d2decd136e5c177f132ad3fbfb2201ac9904c74ee0a109e0ca1e4dfe9d5a100b842f1"
     "c22f0d"},
    {"case_8", "0123456789abcdef0123456789abcdef", "00008765 00000005",
     "85d47224b5f3dd5d2101d4ea8dffab22",
     "45000044090c00004001f990c0a87b03c0a87bc80800d63caa0a0200c69c083da3de0300fffffffffffffffffffff"
     "f"
     "ffffffffffffffffffffffffffffffffffffffffff0102030405060708090a0a04",
     "15b92683819596a8047232cc00f7048fe45318e11f8a0f62ede3c3fc61203bb50f980a08c9843fd3a1b06d5c07ff9"
     "6"
     "39b7eb7dfb3512e5de435e7207ed971ef3d2726d9b5ef6affc6d17a0decbb13892"},
};

struct CbcVector : testing::TestWithParam<CbcCase> {};

TEST_P(CbcVector, SealsAndOpens) {
  const CbcCase& c = GetParam();
  constexpr auto kAlgorithm = Algorithm::aes_128_cbc_hmac_sha_256_128;
  const auto engine = MakeIpsecMbEngine().value();
  KeySchedule key;
  Bytes material = FromHex(c.key);
  material.resize(material.size() + 32, 0x0b);
  ASSERT_TRUE(engine->Expand(kAlgorithm, material, key));

  Bytes clear;
  for (const char* part : {c.header, c.iv, c.plain}) {
    const Bytes bytes = FromHex(part);
    clear.insert(clear.end(), bytes.begin(), bytes.end());
  }
  Bytes packet = clear;
  packet.resize(packet.size() + 16);
  ASSERT_TRUE(SealOne(*engine, OpFor(kAlgorithm, key, packet, false, 0)));
  EXPECT_EQ(Bytes(packet.begin() + 24, packet.end() - 16), FromHex(c.encrypted));

  ASSERT_TRUE(OpenOne(*engine, OpFor(kAlgorithm, key, packet, false, 0)));
  EXPECT_EQ(Bytes(packet.begin(), packet.end() - 16), clear);
}

INSTANTIATE_TEST_SUITE_P(Rfc3602, CbcVector, testing::ValuesIn(kCbcCases),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace portcullis
