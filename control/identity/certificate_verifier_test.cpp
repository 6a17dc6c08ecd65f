#include "control/identity/certificate_verifier.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "control/identity/test_pki.hpp"

namespace portcullis::identity {
namespace {

using namespace test;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

class VerifierTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "portcullis-pki-XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
  }
  void TearDown() override { fs::remove_all(directory_); }

  std::string Write(const std::string& name, const std::string& content) {
    const auto path = directory_ / name;
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }
  std::string Write(const Issued& ca) { return Write("anchor.pem", Pem(ca.certificate.get())); }

  // Who trusts `root`; a list is not asked for, since these tests are about certificates.
  CertificateVerifier Trusting(const Issued& root, const CertificateProfile& profile = {}) {
    const auto authorities = Authorities::Load({{{Write(root), {}, false}}, {}});
    EXPECT_TRUE(authorities) << authorities.error().Text();
    const auto verifier = CertificateVerifier::Create(*authorities, profile);
    EXPECT_TRUE(verifier) << verifier.error().Text();
    return *verifier;
  }

  tl::expected<CertificateIdentity, Refusal> Verify(const CertificateVerifier& verifier,
                                                    const Issued& peer,
                                                    const std::vector<const Issued*>& others = {},
                                                    Time now = Clock::now()) const {
    const ChainPtr presented = Chain(others);
    return verifier.Verify(peer.certificate.get(), presented.get(), nothing_revoked_, now);
  }

  fs::path directory_;
  Revocations nothing_revoked_{0s};
};

void ExpectRefused(const tl::expected<CertificateIdentity, Refusal>& verified, Reason reason,
                   const std::string& words) {
  ASSERT_FALSE(verified);
  EXPECT_EQ(Info(verified.error().reason).name, Info(reason).name) << verified.error().Text();
  EXPECT_NE(verified.error().detail.find(words), std::string::npos) << verified.error().Text();
}

CertificateSpec Keyed(CertificateSpec spec, KeyKind kind) {
  spec.key = kind;
  return spec;
}
CertificateSpec Digested(CertificateSpec spec, const char* digest) {
  spec.digest = digest;
  return spec;
}
CertificateSpec Numbered(CertificateSpec spec, const std::string& serial) {
  spec.serial = serial;
  return spec;
}
CertificateSpec Between(CertificateSpec spec, Clock::duration from, Clock::duration to) {
  spec.not_before = Clock::now() + from;
  spec.not_after = Clock::now() + to;
  return spec;
}

// A defect of the peer's certificate, and the same put right.
struct Violation {
  const char* name;
  CertificateSpec wrong;
  CertificateSpec right;
  Reason reason;
  const char* words;
  CertificateProfile profile = {};
};

std::vector<Violation> EntityViolations() {
  using enum Reason;
  const auto client = ClientSpec("csmf.example");
  auto version1 = client;
  version1.version = 1;
  version1.extensions.clear();
  CertificateProfile ed25519;
  ed25519.ed25519 = true;
  CertificateProfile uri;
  uri.name_kinds = {NameKind::uri};
  CertificateProfile role;
  role.name_roots = {"l3g-gw.example"};
  CertificateProfile uri_role = uri;
  uri_role.name_roots = {"urn:l3g-gw"};
  CertificateProfile server;
  server.usage = Usage::server;
  CertificateProfile any;
  any.any_extended_key_usage = true;
  const auto named = [&](const char* name) { return client.With("subjectAltName", name); };
  return {
      {"version", version1, client, cert_profile_fail, "version 3"},
      {"negative serial", Numbered(client, "-05"), Numbered(client, "05"), cert_profile_fail,
       "positive serial"},
      {"zero serial", Numbered(client, "00"), Numbered(client, "01"), cert_profile_fail,
       "positive serial"},
      {"21 octets of serial", Numbered(client, "80" + std::string(38, '1')),
       Numbered(client, "70" + std::string(38, '1')), cert_profile_fail, "20 octets"},
      {"SHA-1", Digested(client, "SHA1"), Digested(client, "SHA256"), weak_alg_refused, "sha1"},
      {"MD5", Digested(client, "MD5"), Digested(client, "SHA384"), weak_alg_refused, "md5"},
      {"SHA-224", Digested(client, "SHA224"), Digested(client, "SHA512"), weak_alg_refused,
       "sha224"},
      {"RSA 1024", Keyed(client, KeyKind::rsa1024), Keyed(client, KeyKind::rsa2048),
       weak_alg_refused, "1024 bits"},
      {"RSA exponent", Keyed(client, KeyKind::rsa_exponent3), Keyed(client, KeyKind::rsa2048),
       weak_alg_refused, "exponent"},
      {"curve", Keyed(client, KeyKind::secp256k1), Keyed(client, KeyKind::p384), weak_alg_refused,
       "secp256k1"},
      {"explicit curve", Keyed(client, KeyKind::p256_explicit), Keyed(client, KeyKind::p256),
       weak_alg_refused, "written out"},
      {"Ed448", Keyed(client, KeyKind::ed448), Keyed(client, KeyKind::ed25519), weak_alg_refused,
       "neither RSA nor ECDSA", ed25519},
      {"Ed25519", Keyed(client, KeyKind::ed25519), Keyed(client, KeyKind::p256), weak_alg_refused,
       "Ed25519"},
      {"a CA", client.With("basicConstraints", "critical,CA:TRUE"), client, cert_profile_fail,
       "is a CA's"},
      {"a CA by key usage", client.With("keyUsage", "critical,digitalSignature,keyCertSign"),
       client, cert_profile_fail, "is a CA's"},
      {"key usage", client.With("keyUsage", "critical,keyAgreement"), client, cert_profile_fail,
       "digitalSignature"},
      {"no key usage", client.Without("keyUsage"), client, cert_profile_fail, "digitalSignature"},
      {"a server as client", ServerSpec("csmf.example"), client, cert_profile_fail, "clientAuth"},
      {"a client as server", client, ServerSpec("csmf.example"), cert_profile_fail, "serverAuth",
       server},
      {"no extended key usage", client.Without("extendedKeyUsage"), client, cert_profile_fail,
       "clientAuth"},
      {"any extended key usage", client.With("extendedKeyUsage", "anyExtendedKeyUsage"), client,
       cert_profile_fail, "clientAuth"},
      {"another extended key usage", client.With("extendedKeyUsage", "emailProtection"),
       client.With("extendedKeyUsage", "anyExtendedKeyUsage"), cert_profile_fail, "clientAuth",
       any},
      {"no alternative name", client.Without("subjectAltName"), client, cert_profile_fail,
       "alternative name"},
      {"a name of another kind", named("DNS:csmf.example"),
       named("DNS:csmf.example,URI:urn:csmf:1"), cert_profile_fail, "alternative name", uri},
      {"a wildcard", named("DNS:*.example"), named("DNS:a.example"), cert_profile_fail, "wildcard"},
      {"another role", named("DNS:msgin5g.example"), named("DNS:7.l3g-gw.example"),
       cert_profile_fail, "'msgin5g.example', which is not one of this role", role},
      {"a name that only ends like the role's", named("DNS:evil-l3g-gw.example"),
       named("DNS:l3g-gw.example"), cert_profile_fail, "not one of this role", role},
      {"one name of the role, one of another", named("DNS:a.l3g-gw.example,DNS:msgin5g.example"),
       named("DNS:a.l3g-gw.example,DNS:b.l3g-gw.example"), cert_profile_fail,
       "not one of this role", role},
      {"a URI that only begins like the role's", named("URI:urn:l3g-gwx"),
       named("URI:urn:l3g-gw:7"), cert_profile_fail, "not one of this role", uri_role},
      {"no distribution point", client.Without("crlDistributionPoints"), client, cert_profile_fail,
       "distribution point"},
      {"life", Between(client, -1h, 24h * 1200), Between(client, -1h, 24h * 1000),
       cert_profile_fail, "1096 days"},
      {"expired", Between(client, -2h, -1h), Between(client, -2h, 1h), cert_expired, "expired"},
      {"not yet valid", Between(client, 1h, 2h), Between(client, -1h, 2h), cert_expired,
       "not yet valid"},
      {"unknown critical extension", client.With("1.3.6.1.4.1.99999.1", "critical,DER:0500"),
       client.With("1.3.6.1.4.1.99999.1", "DER:0500"), cert_profile_fail, "critical extension"},
      {"no authority key identifier", client.Without("authorityKeyIdentifier"), client,
       cert_profile_fail, "Authority Key Identifier"},
  };
}

TEST_F(VerifierTest, EachRuleOfTheProfileRefusesForItselfAndItsTwinPasses) {
  const Issued root = Issue(Keyed(CaSpec("root"), KeyKind::rsa2048));  // ECDSA knows no MD5
  for (const Violation& v : EntityViolations()) {
    SCOPED_TRACE(v.name);
    const auto verifier = Trusting(root, v.profile);
    ExpectRefused(Verify(verifier, Issue(v.wrong, &root)), v.reason, v.words);
    const auto twin = Verify(verifier, Issue(v.right, &root));
    EXPECT_TRUE(twin) << twin.error().Text();
  }
}

// A defect of the CA in the middle, and the same put right.
std::vector<Violation> AuthorityViolations() {
  using enum Reason;
  const auto ca = CaSpec("middle");
  return {
      {"not a CA", ca.With("basicConstraints", "critical,CA:FALSE"), ca, cert_profile_fail,
       "invalid CA"},
      {"no basic constraints", ca.Without("basicConstraints"), ca, cert_profile_fail, "invalid CA"},
      {"basic constraints not critical", ca.With("basicConstraints", "CA:TRUE"), ca,
       cert_profile_fail, "Basic Constraints"},
      {"cannot sign certificates", ca.With("keyUsage", "critical,cRLSign"), ca, cert_profile_fail,
       "invalid CA"},
      {"key usage not critical", ca.With("keyUsage", "keyCertSign,cRLSign"), ca, cert_profile_fail,
       "critical"},
      {"no key usage", ca.Without("keyUsage"), ca, cert_profile_fail, "key usage"},
      {"only for servers", ca.With("extendedKeyUsage", "serverAuth"),
       ca.With("extendedKeyUsage", "serverAuth,clientAuth"), cert_profile_fail,
       "may not issue for clientAuth"},
      {"expired", Between(ca, -2h, -1h), Between(ca, -2h, 1h), cert_expired, "expired"},
      {"RSA 1024", Keyed(ca, KeyKind::rsa1024), Keyed(ca, KeyKind::rsa2048), weak_alg_refused,
       "key too weak"},
      {"curve", Keyed(ca, KeyKind::secp256k1), Keyed(ca, KeyKind::p384), weak_alg_refused,
       "secp256k1"},
      {"SHA-1", Digested(ca, "SHA1"), ca, weak_alg_refused, "digest algorithm too weak"},
      {"SHA-224", Digested(ca, "SHA224"), ca, weak_alg_refused, "sha224"},
      {"serial", Numbered(ca, "-07"), Numbered(ca, "07"), cert_profile_fail, "positive serial"},
      {"unknown critical extension", ca.With("1.3.6.1.4.1.99999.1", "critical,DER:0500"), ca,
       cert_profile_fail, "critical extension"},
      {"names outside its constraints",
       ca.With("nameConstraints", "critical,permitted;DNS:other.example"),
       ca.With("nameConstraints", "critical,permitted;DNS:csmf.example"), cert_chain_fail,
       "permitted subtree"},
      {"excluded names", ca.With("nameConstraints", "critical,excluded;DNS:csmf.example"),
       ca.With("nameConstraints", "critical,excluded;DNS:other.example"), cert_chain_fail,
       "excluded subtree"},
      {"a policy that the peer lacks",
       ca.With("policyConstraints", "critical,requireExplicitPolicy:0"), ca, cert_chain_fail,
       "policy"},
  };
}

TEST_F(VerifierTest, EachRuleForIntermediatesRefusesForItselfAndItsTwinPasses) {
  const Issued root = Issue(CaSpec("root"));
  const auto verifier = Trusting(root);
  for (const Violation& v : AuthorityViolations()) {
    SCOPED_TRACE(v.name);
    const Issued wrong = Issue(v.wrong, &root);
    ExpectRefused(Verify(verifier, Issue(ClientSpec("csmf.example"), &wrong), {&wrong}), v.reason,
                  v.words);
    const Issued right = Issue(v.right, &root);
    const auto twin = Verify(verifier, Issue(ClientSpec("csmf.example"), &right), {&right});
    EXPECT_TRUE(twin) << twin.error().Text();
  }
}

TEST_F(VerifierTest, AChainOfThreeLevelsNamesItsHolder) {
  const Issued root = Issue(CaSpec("root"));
  CertificateSpec ca = CaSpec("middle");
  ca.not_after = Clock::from_time_t(Clock::to_time_t(Clock::now() + 24h));
  const Issued middle = Issue(ca, &root);
  CertificateSpec spec = ClientSpec("ignored.example");
  spec.serial = "0a0b";
  const Issued peer = Issue(spec.With("subjectAltName", "DNS:CSMF.example,IP:192.0.2.1"), &middle);
  const auto identity = Verify(Trusting(root), peer, {&middle});
  ASSERT_TRUE(identity) << identity.error().Text();
  EXPECT_EQ(identity->names, (std::vector<AlternativeName>{{NameKind::dns, "csmf.example"}}));
  EXPECT_EQ(identity->subject, "CN=ignored.example,O=Portcullis test,C=DE");
  EXPECT_EQ(identity->id, (CertificateId{"CN=middle,O=Portcullis test,C=DE", "0A0B"}));
  EXPECT_EQ(identity->thumbprint, Read(peer.certificate.get(), {}).thumbprint);
  EXPECT_GT(identity->not_after, identity->chain_not_after);
  EXPECT_EQ(identity->chain_not_after, ca.not_after);
  ASSERT_EQ(identity->chain.size(), 2U);
  EXPECT_EQ(identity->chain[0].authority, AuthorityOf(middle.certificate.get()));
  EXPECT_EQ(identity->chain[1].authority, AuthorityOf(root.certificate.get()));
}

TEST_F(VerifierTest, NothingShownIsRefused) {
  const auto verifier = Trusting(Issue(CaSpec("root")));
  const auto verified = verifier.Verify(nullptr, nullptr, nothing_revoked_, Clock::now());
  ASSERT_FALSE(verified);
  EXPECT_EQ(verified.error().reason, Reason::cert_missing);
}

TEST_F(VerifierTest, OnlyACompleteChainToAnAnchorCounts) {
  const Issued root = Issue(CaSpec("root"));
  const Issued middle = Issue(CaSpec("middle"), &root);
  const Issued peer = Issue(ClientSpec("csmf.example"), &middle);
  const auto verifier = Trusting(root);
  EXPECT_TRUE(Verify(verifier, peer, {&middle}));
  EXPECT_TRUE(Verify(verifier, peer, {&root, &middle}));  // order and extras do not matter
  ExpectRefused(Verify(verifier, peer), Reason::cert_chain_fail, "unable to get local issuer");

  // Another CA of the same name; and a peer's word that its own root is one.
  const Issued impostor = Issue(CaSpec("root"));
  const Issued stranger = Issue(ClientSpec("csmf.example"), &impostor);
  ExpectRefused(Verify(verifier, stranger, {&impostor}), Reason::cert_chain_fail, "");

  const KeyPtr other = NewKey(KeyKind::p256);
  const Issued forged = Issue(ClientSpec("csmf.example"), &middle, other.get());
  ExpectRefused(Verify(verifier, forged, {&middle}), Reason::cert_chain_fail, "signature");

  const Issued alone = Issue(ClientSpec("csmf.example"));
  ExpectRefused(Verify(verifier, alone), Reason::cert_chain_fail, "self-signed");
}

TEST_F(VerifierTest, APeerCannotIssue) {
  const Issued root = Issue(CaSpec("root"));
  const Issued peer = Issue(ClientSpec("csmf.example"), &root);
  const Issued below = Issue(ClientSpec("admin.example"), &peer);
  ExpectRefused(Verify(Trusting(root), below, {&peer}), Reason::cert_profile_fail, "invalid CA");
}

TEST_F(VerifierTest, PathLengthAndDepthAreKept) {
  const auto verify = [&](std::optional<int> path_length, int most) {
    const Issued root = Issue(CaSpec("root", path_length));
    const Issued first = Issue(CaSpec("first"), &root);
    const Issued second = Issue(CaSpec("second"), &first);
    CertificateProfile profile;
    profile.most_intermediates = most;
    return Verify(Trusting(root, profile), Issue(ClientSpec("a.example"), &second),
                  {&second, &first});
  };
  EXPECT_TRUE(verify({}, 2));
  EXPECT_TRUE(verify(2, 2));
  ExpectRefused(verify(1, 2), Reason::cert_chain_fail, "path length");
  ExpectRefused(verify({}, 1), Reason::cert_chain_fail, "chain too long");
}

TEST_F(VerifierTest, AFloodOfCertificatesIsRefusedUnread) {
  const Issued root = Issue(CaSpec("root"));
  const Issued peer = Issue(ClientSpec("a.example"), &root);
  EXPECT_TRUE(Verify(Trusting(root), peer, std::vector(16, &root)));
  ExpectRefused(Verify(Trusting(root), peer, std::vector(17, &root)), Reason::cert_chain_fail,
                "more than 16");
}

TEST_F(VerifierTest, TheGivenTimeCounts) {
  const Issued root = Issue(CaSpec("root"));
  const Issued peer = Issue(Between(ClientSpec("a.example"), -1h, 24h), &root);
  const auto verifier = Trusting(root);
  EXPECT_TRUE(Verify(verifier, peer, {}, Clock::now() + 23h));
  ExpectRefused(Verify(verifier, peer, {}, Clock::now() + 25h), Reason::cert_expired, "expired");
  ExpectRefused(Verify(verifier, peer, {}, Clock::now() - 2h), Reason::cert_expired, "not yet");
}

TEST_F(VerifierTest, TwoAnchorsOverlapInARollOver) {
  const Issued old_root = Issue(CaSpec("root"));
  const Issued new_root = Issue(CaSpec("root"));  // the same name, a new key
  const Issued old_peer = Issue(ClientSpec("a.example"), &old_root);
  const Issued new_peer = Issue(ClientSpec("a.example"), &new_root);
  const auto both =
      Write("both.pem", Pem(old_root.certificate.get()) + Pem(new_root.certificate.get()));
  const auto authorities = Authorities::Load({{{both, {}, false}}, {}});
  ASSERT_TRUE(authorities) << authorities.error().Text();
  const auto verifier = *CertificateVerifier::Create(*authorities, {});
  EXPECT_TRUE(Verify(verifier, old_peer));
  EXPECT_TRUE(Verify(verifier, new_peer));
  const auto after = Trusting(new_root);
  EXPECT_TRUE(Verify(after, new_peer));
  ExpectRefused(Verify(after, old_peer), Reason::cert_chain_fail, "");
}

TEST_F(VerifierTest, AProfileThatAdmitsNobodyIsRefused) {
  const auto authorities = *Authorities::Load({{{Write(Issue(CaSpec("root"))), {}, false}}, {}});
  const auto create = [&](const std::function<void(CertificateProfile&)>& change) {
    CertificateProfile profile;
    change(profile);
    return CertificateVerifier::Create(authorities, profile).has_value();
  };
  EXPECT_TRUE(create([](auto&) {}));
  EXPECT_FALSE(create([](auto& p) { p.name_kinds.clear(); }));
  EXPECT_FALSE(create([](auto& p) { p.name_roots = {""}; }));
  EXPECT_FALSE(create([](auto& p) { p.most_intermediates = 11; }));
  EXPECT_FALSE(create([](auto& p) { p.most_intermediates = -1; }));
}

TEST_F(VerifierTest, WhatIsNoAnchorIsRefusedWithWordsForTheOperator) {
  const Issued root = Issue(CaSpec("root"));
  const Issued middle = Issue(CaSpec("middle"), &root);
  const Issued peer = Issue(ClientSpec("a.example"));
  const Issued weak = Issue(Keyed(CaSpec("root"), KeyKind::rsa1024));
  const auto refused = [&](const AnchorFile& file) {
    const auto loaded = Authorities::Load({{file}, {}});
    return loaded ? std::string() : loaded.error().Text();
  };
  const auto contains = [](const std::string& text, const std::string& words) {
    return text.find(words) != std::string::npos;
  };
  const std::string content = Pem(root.certificate.get());
  EXPECT_EQ(refused({Write("sound.pem", content)}), "");
  EXPECT_TRUE(contains(refused({Write(middle)}), "is no anchor")) << refused({Write(middle)});
  EXPECT_TRUE(contains(refused({Write(peer)}), "CA:TRUE")) << refused({Write(peer)});
  EXPECT_TRUE(contains(refused({Write(weak)}), "1024 bits")) << refused({Write(weak)});
  EXPECT_TRUE(contains(refused({Write("empty.pem", "")}), "no certificate"));
  EXPECT_TRUE(contains(refused({Write("cut.pem", content.substr(0, content.size() / 2))}),
                       "cannot be read"));
  EXPECT_TRUE(contains(refused({Write("twice.pem", content + content)}), "twice"));
  EXPECT_TRUE(contains(refused({directory_ / "none.pem"}), "cannot be read"));
  EXPECT_FALSE(Authorities::Load({}));
}

TEST_F(VerifierTest, ASwappedAnchorFileIsRefused) {
  const std::string content = Pem(Issue(CaSpec("root")).certificate.get());
  const std::string path = Write("root.pem", content);
  const std::string pin = HexSha256(content);
  EXPECT_TRUE(Authorities::Load({{{path, pin}}, {}}));
  Write("root.pem", Pem(Issue(CaSpec("root")).certificate.get()));
  const auto swapped = Authorities::Load({{{path, pin}}, {}});
  ASSERT_FALSE(swapped);
  EXPECT_NE(swapped.error().Text().find(pin), std::string::npos) << swapped.error().Text();
}

TEST_F(VerifierTest, WhatRunsOutIsToldBefore) {
  CertificateSpec spec = CaSpec("root");
  spec.not_after = Clock::now() + 24h * 20;
  const auto authorities = *Authorities::Load({{{Write(Issue(spec))}}, {}});
  EXPECT_TRUE(authorities->ExpiringBy(Clock::now() + 24h * 19).empty());
  const auto soon = authorities->ExpiringBy(Clock::now() + 24h * 21);
  ASSERT_EQ(soon.size(), 1U);
  EXPECT_NE(soon[0].what.find("CN=root"), std::string::npos) << soon[0].what;
}

}  // namespace
}  // namespace portcullis::identity
