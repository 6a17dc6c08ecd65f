#include "control/identity/authorities.hpp"

#include <openssl/pem.h>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <iterator>

#include "control/identity/certificate_profile.hpp"

namespace portcullis::identity {
namespace {

Result<std::string> Content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string all{std::istreambuf_iterator<char>(file), {}};
  if (!file) return Invalid(path, "cannot be read", "a PEM file with CA certificates");
  return all;
}

Result<std::vector<CertificatePtr>> ReadPem(const std::string& path, const std::string& content) {
  std::vector<CertificatePtr> all;
  const BioPtr reader = Reader(content);
  ERR_clear_error();
  while (X509* one = PEM_read_bio_X509(reader.get(), nullptr, nullptr, nullptr)) {
    all.emplace_back(one);
  }
  // The end of the file is reported as "no start line".
  if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) {
    return Invalid(path, fmt::format("certificate {} cannot be read", all.size() + 1), "PEM",
                   OpensslError());
  }
  ERR_clear_error();
  if (all.empty()) return Invalid(path, "there is no certificate", "at least one in PEM");
  return all;
}

// What no profile would admit is told at once; what depends on the profile, with each chain.
Result<void> CheckCa(const std::string& path, X509* certificate, bool is_anchor) {
  CertificateProfile widest;
  widest.ed25519 = true;
  auto sound = CheckAuthority(certificate, widest, is_anchor);
  if (!sound) {
    widest.usage = Usage::server;
    sound = CheckAuthority(certificate, widest, is_anchor);
  }
  if (!sound) return Invalid(path, sound.error().detail);
  if (is_anchor && X509_self_signed(certificate, 1) != 1) {
    return Invalid(path, Describe(certificate) + " is no anchor", "a self-signed CA certificate",
                   "one issued by '" + NameText(X509_get_issuer_name(certificate)) + "'");
  }
  return {};
}

bool SameHex(const std::string& a, const std::string& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](unsigned char x, unsigned char y) {
    return std::tolower(x) == std::tolower(y);
  });
}

}  // namespace

Result<void> Authorities::AddAnchors(const AnchorFile& file) {
  const auto content = Content(file.path);
  if (!content) return tl::unexpected(content.error());
  if (const auto digest = HexSha256(*content);
      !file.sha256.empty() && !SameHex(file.sha256, digest)) {
    return Invalid(file.path, "it is not the anchor file that was pinned", "SHA-256 " + file.sha256,
                   digest);
  }
  auto certificates = ReadPem(file.path, *content);
  if (!certificates) return tl::unexpected(certificates.error());
  for (auto& certificate : *certificates) {
    if (auto ca = CheckCa(file.path, certificate.get(), true); !ca) return ca;
    if (Find(certificate.get()) != nullptr) {
      return Invalid(file.path, Describe(certificate.get()) + " is configured twice");
    }
    if (X509_STORE_add_cert(store_.get(), certificate.get()) != 1) {
      return Fail(ErrorKind::kInternal, "the anchor cannot be stored: " + OpensslError());
    }
    anchors_.push_back({std::move(certificate), file.revocation_list_required});
  }
  return {};
}

Result<void> Authorities::AddIntermediates(const std::string& path) {
  const auto content = Content(path);
  if (!content) return tl::unexpected(content.error());
  auto certificates = ReadPem(path, *content);
  if (!certificates) return tl::unexpected(certificates.error());
  for (auto& certificate : *certificates) {
    if (auto ca = CheckCa(path, certificate.get(), false); !ca) return ca;
    intermediates_.push_back(std::move(certificate));
  }
  return {};
}

Result<std::shared_ptr<const Authorities>> Authorities::Load(const AuthorityFiles& files) {
  const std::shared_ptr<Authorities> all(new Authorities());
  all->store_.reset(X509_STORE_new());
  if (!all->store_) return Fail(ErrorKind::kExhausted, "no memory for the trust anchors");
  if (files.anchors.empty()) return Invalid("anchors", "there is none", "at least one PEM file");
  for (const auto& file : files.anchors) {
    if (auto added = all->AddAnchors(file); !added) return tl::unexpected(added.error());
  }
  for (const auto& path : files.intermediates) {
    if (auto added = all->AddIntermediates(path); !added) return tl::unexpected(added.error());
  }
  return all;
}

const Authorities::Anchor* Authorities::Find(const X509* certificate) const {
  const auto found = std::find_if(anchors_.begin(), anchors_.end(), [&](const Anchor& anchor) {
    return X509_cmp(anchor.certificate.get(), certificate) == 0;
  });
  return found == anchors_.end() ? nullptr : &*found;
}

std::vector<X509*> Authorities::Named(const X509_NAME* name) const {
  std::vector<X509*> all;
  const auto add = [&](X509* ca) {
    if (X509_NAME_cmp(X509_get_subject_name(ca), name) == 0) all.push_back(ca);
  };
  for (const auto& anchor : anchors_) add(anchor.certificate.get());
  for (const auto& intermediate : intermediates_) add(intermediate.get());
  return all;
}

std::vector<Expiry> Authorities::ExpiringBy(Time time) const {
  std::vector<Expiry> all;
  const auto add = [&](const char* what, const X509* ca) {
    const auto end = TimeOf(X509_get0_notAfter(ca));
    const auto begin = TimeOf(X509_get0_notBefore(ca));
    if (end && *end > time) return;
    all.push_back({what + Describe(ca), end.value_or(Time{}), begin.value_or(Time{})});
  };
  for (const auto& anchor : anchors_) add("trust anchor, ", anchor.certificate.get());
  for (const auto& intermediate : intermediates_) add("intermediate CA, ", intermediate.get());
  return all;
}

}  // namespace portcullis::identity
