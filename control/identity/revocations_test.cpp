#include "control/identity/revocations.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "control/identity/certificate_verifier.hpp"
#include "control/identity/test_pki.hpp"

namespace portcullis::identity {
namespace {

using namespace test;
using namespace std::chrono_literals;
namespace fs = std::filesystem;
using ListPtr = std::shared_ptr<const RevocationList>;

// A root, a CA below it, a peer below that.
class RevocationsTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "portcullis-crl-XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
    authorities_ = Load(true);
  }
  void TearDown() override { fs::remove_all(directory_); }

  std::shared_ptr<const Authorities> Load(bool list_required) {
    const auto write = [&](const char* name, const Issued& ca) {
      std::ofstream(directory_ / name) << Pem(ca.certificate.get());
      return (directory_ / name).string();
    };
    const auto loaded = Authorities::Load(
        {{{write("root.pem", root_), {}, list_required}}, {write("middle.pem", middle_)}});
    EXPECT_TRUE(loaded) << loaded.error().Text();
    return *loaded;
  }

  Result<ListPtr> ReadList(const X509_CRL* list) const {
    return RevocationList::Read(Der(list), *authorities_, "test.crl");
  }
  Result<void> Install(const CrlSpec& spec, const Issued& issuer) {
    const auto list = ReadList(IssueCrl(spec, issuer).get());
    if (!list) return tl::unexpected(list.error());
    return revocations_.Install(*list, Clock::now());
  }
  void InstallBoth() {
    ASSERT_TRUE(Install({}, root_));
    ASSERT_TRUE(Install({}, middle_));
  }

  // Empty when admitted.
  std::string Refused(const Issued& peer, Time now = Clock::now()) const {
    const auto verifier = *CertificateVerifier::Create(authorities_, {});
    const ChainPtr presented = Chain({&middle_});
    const auto verified =
        verifier.Verify(peer.certificate.get(), presented.get(), revocations_, now);
    return verified ? "" : std::string(Info(verified.error().reason).name);
  }

  fs::path directory_;
  Issued root_ = Issue(CaSpec("root"));
  Issued middle_ = Issue(CaSpec("middle"), &root_);
  Issued peer_ = Issue(ClientSpec("a.example"), &middle_);
  std::shared_ptr<const Authorities> authorities_;
  Revocations revocations_{10min};
};

TEST_F(RevocationsTest, EveryCertificateOfTheChainCounts) {
  const Issued other = Issue(ClientSpec("b.example"), &middle_);
  InstallBoth();
  EXPECT_EQ(Refused(peer_), "");
  ASSERT_TRUE(Install({.number = "2", .revoked = {peer_.certificate.get()}}, middle_));
  EXPECT_EQ(Refused(peer_), "cert_revoked");
  EXPECT_EQ(Refused(other), "");
  ASSERT_TRUE(Install({.number = "2", .revoked = {middle_.certificate.get()}}, root_));
  EXPECT_EQ(Refused(other), "cert_revoked");
  // Off the list again, as after a hold.
  ASSERT_TRUE(Install({.number = "3"}, root_));
  EXPECT_EQ(Refused(other), "");
}

TEST_F(RevocationsTest, ASerialIsRevokedOnlyWithItsOwnIssuer) {
  CertificateSpec spec = ClientSpec("a.example");
  spec.serial = "77";
  const Issued under_root = Issue(spec, &root_);
  const Issued under_middle = Issue(spec, &middle_);
  InstallBoth();
  ASSERT_TRUE(Install({.number = "2", .revoked = {under_root.certificate.get()}}, root_));
  EXPECT_EQ(Refused(under_root), "cert_revoked");
  EXPECT_EQ(Refused(under_middle), "");
}

TEST_F(RevocationsTest, WithoutAFreshListTheDoorIsClosed) {
  EXPECT_EQ(Refused(peer_), "crl_stale");
  ASSERT_TRUE(Install({}, root_));
  EXPECT_EQ(Refused(peer_), "crl_stale");  // of the CA between there is none yet
  ASSERT_TRUE(Install({.next_update = Clock::now() + 1h}, middle_));
  EXPECT_EQ(Refused(peer_), "");
  EXPECT_EQ(Refused(peer_, Clock::now() + 1h + 9min), "");  // past nextUpdate, within the grace
  EXPECT_EQ(Refused(peer_, Clock::now() + 1h + 11min), "crl_stale");
}

TEST_F(RevocationsTest, WhereNoListIsAskedForOneIsBelievedStill) {
  authorities_ = Load(false);
  EXPECT_EQ(Refused(peer_), "");
  ASSERT_TRUE(
      Install({.next_update = Clock::now() - 1min, .revoked = {peer_.certificate.get()}}, middle_));
  EXPECT_EQ(Refused(peer_, Clock::now() + 24h), "cert_revoked");
  ASSERT_TRUE(Install({.number = "2", .next_update = Clock::now() - 1min}, middle_));
  EXPECT_EQ(Refused(peer_, Clock::now() + 24h), "");
}

TEST_F(RevocationsTest, AListNeverGoesBack) {
  InstallBoth();
  ASSERT_TRUE(Install({.number = "0100", .revoked = {peer_.certificate.get()}}, middle_));
  for (const char* older : {"FF", "1"}) {
    const auto refused = Install({.number = older}, middle_);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::kConflict);
    EXPECT_NE(refused.error().Text().find("older"), std::string::npos) << refused.error().Text();
  }
  const auto same_number = Install({.number = "0100", .others = 1}, middle_);
  ASSERT_FALSE(same_number);
  EXPECT_NE(same_number.error().Text().find("not in number"), std::string::npos);
  EXPECT_EQ(Refused(peer_), "cert_revoked");
  EXPECT_TRUE(Install({.number = "0101"}, middle_));
  EXPECT_EQ(Refused(peer_), "");
}

TEST_F(RevocationsTest, TheSameListAgainChangesNothing) {
  const CrlPtr list = IssueCrl({}, middle_);
  ASSERT_TRUE(revocations_.Install(*ReadList(list.get()), Clock::now()));
  const uint64_t epoch = revocations_.epoch();
  const auto pem = RevocationList::Read(Pem(list.get()), *authorities_, "test.crl");
  ASSERT_TRUE(pem) << pem.error().Text();
  EXPECT_TRUE(revocations_.Install(*pem, Clock::now()));
  EXPECT_EQ(revocations_.epoch(), epoch);
  EXPECT_TRUE(Install({.number = "2"}, middle_));
  EXPECT_GT(revocations_.epoch(), epoch);
}

TEST_F(RevocationsTest, AListOfTheFutureIsRefused) {
  EXPECT_FALSE(Install({.this_update = Clock::now() + 1h}, middle_));
  EXPECT_TRUE(Install({.this_update = Clock::now() + 1min}, middle_));  // clocks differ a little
}

TEST_F(RevocationsTest, WhoMayNotSignAListIsNotBelieved) {
  const auto refused = [&](const CrlPtr& list) {
    const auto read = ReadList(list.get());
    return read ? "" : read.error().Text();
  };
  const auto contains = [](const std::string& text, const std::string& words) {
    return text.find(words) != std::string::npos;
  };
  EXPECT_EQ(refused(IssueCrl({}, middle_)), "");
  const std::string forged = refused(IssueCrl({}, middle_, peer_.key.get()));
  EXPECT_TRUE(contains(forged, "signature")) << forged;
  const Issued stranger = Issue(CaSpec("stranger"));
  const std::string unknown = refused(IssueCrl({}, stranger));
  EXPECT_TRUE(contains(unknown, "CN=stranger")) << unknown;
  const std::string weak = refused(IssueCrl({.digest = "SHA1"}, middle_));
  EXPECT_TRUE(contains(weak, "sha1")) << weak;

  middle_ = Issue(CaSpec("middle").With("keyUsage", "critical,keyCertSign"), &root_);
  authorities_ = Load(true);
  const std::string unfit = refused(IssueCrl({}, middle_));
  EXPECT_TRUE(contains(unfit, "cRLSign")) << unfit;
}

TEST_F(RevocationsTest, WhatIsNoCompleteListIsRefused) {
  struct {
    const char* name;
    CrlSpec spec;
    const char* words;
  } const cases[] = {
      {"delta", {.extensions = {{"deltaCRL", "critical,DER:020101"}}}, "delta"},
      {"indirect",
       {.extensions = {{"issuingDistributionPoint", "critical,indirectCRL:TRUE"}}},
       "indirect"},
      {"a part",
       {.extensions = {{"issuingDistributionPoint", "critical,onlyuser:TRUE"}}},
       "only a part"},
      {"unknown critical extension",
       {.extensions = {{"1.3.6.1.4.1.99999.1", "critical,DER:0500"}}},
       "1.3.6.1.4.1.99999.1"},
      {"unknown critical entry extension",
       {.revoked = {peer_.certificate.get()},
        .entry_extensions = {{"1.3.6.1.4.1.99999.1", "critical,DER:0500"}}},
       "its entry of serial"},
      {"no number", {.number = ""}, "CRL number"},
      {"no end", {.next_update = std::nullopt}, "nextUpdate"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    const auto read = ReadList(IssueCrl(c.spec, middle_).get());
    ASSERT_FALSE(read);
    EXPECT_NE(read.error().Text().find(c.words), std::string::npos) << read.error().Text();
    EXPECT_EQ(read.error().where, "test.crl");
  }
  // The twin: what is not critical may be unknown.
  const auto sound = ReadList(IssueCrl({.revoked = {peer_.certificate.get()},
                                        .extensions = {{"1.3.6.1.4.1.99999.1", "DER:0500"}},
                                        .entry_extensions = {{"CRLReason", "DER:0a0101"}}},
                                       middle_)
                                  .get());
  ASSERT_TRUE(sound) << sound.error().Text();
  EXPECT_EQ((*sound)->size(), 1U);
}

TEST_F(RevocationsTest, GarbageIsNoList) {
  const std::string der = Der(IssueCrl({}, middle_).get());
  for (const std::string& bytes :
       {std::string(), std::string("<html>404</html>"), der.substr(0, der.size() - 1), der + "x",
        std::string("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"),
        Pem(middle_.certificate.get())}) {
    EXPECT_FALSE(RevocationList::Read(bytes, *authorities_, "test.crl"));
  }
  EXPECT_TRUE(RevocationList::Read(der, *authorities_, "test.crl"));
}

TEST_F(RevocationsTest, EachOfTwoCasOfOneNameHasItsList) {
  const Issued successor = Issue(CaSpec("middle"), &root_);  // the same name, a new key
  const Issued peer = Issue(ClientSpec("b.example"), &successor);
  InstallBoth();
  const auto verifier = *CertificateVerifier::Create(authorities_, {});
  const ChainPtr presented = Chain({&successor});
  const auto verify = [&] {
    const auto verified =
        verifier.Verify(peer.certificate.get(), presented.get(), revocations_, Clock::now());
    return verified ? "" : std::string(Info(verified.error().reason).name);
  };
  EXPECT_EQ(verify(), "crl_stale");  // the old key's list says nothing of the new one's
  std::ofstream(directory_ / "both.pem")
      << Pem(middle_.certificate.get()) << Pem(successor.certificate.get());
  authorities_ = *Authorities::Load({{{directory_ / "root.pem"}}, {directory_ / "both.pem"}});
  ASSERT_TRUE(Install({}, successor));
  EXPECT_EQ(verify(), "");
  EXPECT_EQ(Refused(peer_), "");
  EXPECT_EQ(revocations_.lists().size(), 3U);
}

TEST_F(RevocationsTest, OperatorsDenyAtOnceAndUntilTheCertificateHasExpired) {
  InstallBoth();
  const auto id = IdOf(peer_.certificate.get());
  const uint64_t epoch = revocations_.epoch();
  revocations_.Deny({{id, Clock::now() + 1h}});
  EXPECT_GT(revocations_.epoch(), epoch);
  EXPECT_EQ(Refused(peer_), "cert_revoked");
  EXPECT_EQ(Refused(Issue(ClientSpec("a.example"), &middle_)), "");

  revocations_.Deny({{id, Clock::now() - 1h}});  // no way to shorten it
  revocations_.DropExpired(Clock::now());
  EXPECT_EQ(Refused(peer_), "cert_revoked");
  revocations_.DropExpired(Clock::now() + 2h);
  EXPECT_TRUE(revocations_.denied().empty());

  revocations_.Deny({{IdOf(middle_.certificate.get()), Clock::now() + 1h}});
  EXPECT_EQ(Refused(peer_), "cert_revoked");
  EXPECT_TRUE(revocations_.Allow(IdOf(middle_.certificate.get())));
  EXPECT_FALSE(revocations_.Allow(IdOf(middle_.certificate.get())));
  EXPECT_EQ(Refused(peer_), "");
}

TEST_F(RevocationsTest, ALiveSessionIsAskedAgainWithoutItsCertificates) {
  InstallBoth();
  const auto verifier = *CertificateVerifier::Create(authorities_, {});
  const ChainPtr presented = Chain({&middle_});
  const auto identity =
      verifier.Verify(peer_.certificate.get(), presented.get(), revocations_, Clock::now());
  ASSERT_TRUE(identity) << identity.error().Text();
  EXPECT_TRUE(revocations_.Check(*identity, Clock::now()));
  ASSERT_TRUE(Install({.number = "2", .revoked = {peer_.certificate.get()}}, middle_));
  const auto again = revocations_.Check(*identity, Clock::now());
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().reason, Reason::cert_revoked);
  EXPECT_NE(again.error().detail.find(identity->id.serial), std::string::npos);
}

TEST_F(RevocationsTest, ALongListIsAsGoodAsAShortOne) {
  InstallBoth();
  constexpr size_t kOthers = 20000;
  ASSERT_TRUE(
      Install({.number = "2", .revoked = {peer_.certificate.get()}, .others = kOthers}, middle_));
  EXPECT_EQ(Refused(peer_), "cert_revoked");
  EXPECT_EQ(Refused(Issue(ClientSpec("b.example"), &middle_)), "");
  for (const auto& list : revocations_.lists()) {
    EXPECT_EQ(list->size(), list->issuer().find("middle") == 3 ? kOthers + 1 : 0);
  }
}

TEST_F(RevocationsTest, WhatRunsOutIsToldBefore) {
  ASSERT_TRUE(Install({.next_update = Clock::now() + 24h}, middle_));
  EXPECT_TRUE(revocations_.ExpiringBy(Clock::now() + 23h).empty());
  const auto soon = revocations_.ExpiringBy(Clock::now() + 25h);
  ASSERT_EQ(soon.size(), 1U);
  EXPECT_NE(soon[0].what.find("CN=middle"), std::string::npos) << soon[0].what;
}

TEST_F(RevocationsTest, ReadersSeeOneStateOrTheNextWhileListsChange) {
  InstallBoth();
  constexpr unsigned kChanges = 200;
  std::vector<ListPtr> lists;
  for (unsigned i = 0; i < kChanges; ++i) {
    CrlSpec spec{.number = fmt::format("{:04X}", i + 2)};
    if (i % 2 == 0) spec.revoked = {peer_.certificate.get()};
    lists.push_back(*ReadList(IssueCrl(spec, middle_).get()));
  }
  const std::vector<ChainLink> chain = {
      {AuthorityOf(middle_.certificate.get()), IdOf(peer_.certificate.get()), "peer"}};
  std::atomic<bool> done = false;
  std::thread reader([&] {
    uint64_t last = 0;
    while (!done) {
      const uint64_t epoch = revocations_.epoch();
      EXPECT_GE(epoch, last);
      last = epoch;
      const auto checked = revocations_.Check(chain, true, Clock::now());
      EXPECT_TRUE(checked || checked.error().reason == Reason::cert_revoked);
    }
  });
  for (const auto& list : lists) {
    EXPECT_TRUE(revocations_.Install(list, Clock::now()));
    revocations_.Deny({{{"CN=x", fmt::format("{:04X}", list->size())}, Clock::now() + 1h}});
  }
  done = true;
  reader.join();
  EXPECT_TRUE(revocations_.Check(chain, true, Clock::now()));
}

}  // namespace
}  // namespace portcullis::identity
