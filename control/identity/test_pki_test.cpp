#include "control/identity/test_pki.hpp"

#include <gtest/gtest.h>

namespace portcullis::identity::test {
namespace {

TEST(TestPki, WhatItIssuesIsSignedByTheIssuer) {
  const Issued root = Issue(CaSpec("root"));
  const Issued peer = Issue(ClientSpec("csmf.example"), &root);
  EXPECT_EQ(X509_verify(root.certificate.get(), root.key.get()), 1);
  EXPECT_EQ(X509_verify(peer.certificate.get(), root.key.get()), 1);
  EXPECT_EQ(X509_check_private_key(peer.certificate.get(), peer.key.get()), 1);
  EXPECT_EQ(X509_check_host(peer.certificate.get(), "csmf.example", 0, 0, nullptr), 1);
  const CrlPtr list = IssueCrl({.revoked = {peer.certificate.get()}, .others = 2}, root);
  EXPECT_EQ(X509_CRL_verify(list.get(), root.key.get()), 1);
  EXPECT_EQ(sk_X509_REVOKED_num(X509_CRL_get_REVOKED(list.get())), 3);
}

TEST(TestPki, DefectsAreAsChosen) {
  const Issued root = Issue(CaSpec("root"));
  const KeyPtr other = NewKey(KeyKind::p256);
  const Issued forged = Issue(ClientSpec("csmf.example"), &root, other.get());
  EXPECT_EQ(X509_verify(forged.certificate.get(), root.key.get()), 0);
  const Issued bare = Issue(ClientSpec("csmf.example").Without("subjectAltName"), &root);
  EXPECT_EQ(X509_get_ext_by_NID(bare.certificate.get(), NID_subject_alt_name, -1), -1);
  const Issued odd = Issue(ClientSpec("a").With("1.3.6.1.4.1.99999.1", "critical,DER:0500"), &root);
  EXPECT_NE(X509_get_extension_flags(odd.certificate.get()) & EXFLAG_CRITICAL, 0U);
  for (const KeyKind kind :
       {KeyKind::p256, KeyKind::p384, KeyKind::p256_explicit, KeyKind::secp256k1, KeyKind::rsa2048,
        KeyKind::rsa1024, KeyKind::rsa_exponent3, KeyKind::ed25519, KeyKind::ed448}) {
    CertificateSpec spec = ClientSpec("a");
    spec.key = kind;
    EXPECT_EQ(X509_verify(Issue(spec, &root).certificate.get(), root.key.get()), 1);
  }
}

}  // namespace
}  // namespace portcullis::identity::test
