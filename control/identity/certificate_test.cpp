#include "control/identity/certificate.hpp"

#include <gtest/gtest.h>

#include "control/identity/test_pki.hpp"

namespace portcullis::identity {
namespace {

using namespace test;

constexpr std::array kAllKinds = {NameKind::dns, NameKind::uri, NameKind::ip};

Issued WithNames(const std::string& names) {
  return Issue(ClientSpec("csmf.example").With("subjectAltName", names));
}

TEST(Certificate, NamesAreReadInTheOneForm) {
  const Issued peer =
      WithNames("DNS:CSMF.Example,URI:urn:gw:7,IP:192.0.2.1,IP:2001:db8::1,email:nobody@example");
  const auto all = AlternativeNames(peer.certificate.get(), kAllKinds);
  ASSERT_TRUE(all) << all.error();
  EXPECT_EQ(*all, (std::vector<AlternativeName>{{NameKind::dns, "csmf.example"},
                                                {NameKind::uri, "urn:gw:7"},
                                                {NameKind::ip, "192.0.2.1"},
                                                {NameKind::ip, "2001:db8::1"}}));
  const std::array only = {NameKind::uri};
  EXPECT_EQ(AlternativeNames(peer.certificate.get(), only)->size(), 1U);
}

TEST(Certificate, NamesThatTwoReadersTakeForDifferentOnesAreRefused) {
  // A zero octet inside: DER of SEQUENCE { [2] "a\0b" }.
  for (const char* names : {"DER:30058203610062", "DNS:*.example", "DNS:a b", "DER:30028200"}) {
    const Issued peer = WithNames(names);
    EXPECT_FALSE(AlternativeNames(peer.certificate.get(), kAllKinds)) << names;
  }
  const Issued sound = WithNames("DER:30058203612e62");
  EXPECT_EQ(AlternativeNames(sound.certificate.get(), kAllKinds)->at(0).text, "a.b");
}

TEST(Certificate, DigestsAreThoseOfOpenssl) {
  const Issued peer = WithNames("DNS:a");
  const auto read = Read(peer.certificate.get(), {});
  std::array<unsigned char, 32> digest{};
  ASSERT_EQ(X509_digest(peer.certificate.get(), EVP_sha256(), digest.data(), nullptr), 1);
  // Base64url again, the long way round: decoded, it is the digest.
  std::string padded = read.thumbprint + "=";
  for (char& c : padded) c = c == '-' ? '+' : c == '_' ? '/' : c;
  std::array<unsigned char, 33> decoded{};
  ASSERT_EQ(EVP_DecodeBlock(decoded.data(), reinterpret_cast<const unsigned char*>(padded.data()),
                            static_cast<int>(padded.size())),
            33);
  EXPECT_TRUE(std::equal(digest.begin(), digest.end(), decoded.begin()));
  EXPECT_EQ(read.thumbprint.size(), 43U);

  // The key's digest is the key's, under whatever certificate.
  unsigned char* der = nullptr;
  const int length = i2d_PUBKEY(peer.key.get(), &der);
  EXPECT_EQ(read.spki_sha256,
            HexSha256({reinterpret_cast<char*>(der), static_cast<size_t>(length)}));
  OPENSSL_free(der);
}

TEST(Certificate, NamesForPeopleCannotForgeALogLine) {
  const Issued peer = Issue(CaSpec("a\nroot,O=Other"));
  const std::string text = NameText(X509_get_subject_name(peer.certificate.get()));
  EXPECT_EQ(text, "CN=a\\0Aroot\\,O=Other,O=Portcullis test,C=DE");
}

TEST(Certificate, TimesSurvive) {
  CertificateSpec spec = ClientSpec("a");
  spec.not_after = Clock::from_time_t(2000000000);
  const auto read = Read(Issue(spec).certificate.get(), {});
  EXPECT_EQ(read.not_after, spec.not_after);
  EXPECT_EQ(TimeText(read.not_after), "2033-05-18T03:33:20Z");
}

TEST(CertificateId, SerialsAreWrittenInTheOneForm) {
  CertificateSpec spec = CaSpec("root");
  spec.serial = "0a0b";
  const auto id = IdOf(Issue(spec).certificate.get());
  for (const char* typed : {"0A0B", "a0b", "00:0a:0b", "0a:0B"}) {
    EXPECT_EQ(*CertificateId::Parse(id.issuer, typed), id) << typed;
  }
  for (const char* typed :
       {"", "0", "00:00", "0x0a", "-5", "12 34", "ABCDEFABCDEFABCDEFABCDEFABCDEFABCDEFABCDEF"}) {
    EXPECT_FALSE(CertificateId::Parse(id.issuer, typed)) << typed;
  }
  EXPECT_FALSE(CertificateId::Parse("", "0A"));
}

}  // namespace
}  // namespace portcullis::identity
