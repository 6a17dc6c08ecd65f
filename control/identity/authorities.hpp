// The CAs that the operator trusts, read once and immutable: anchors, at which every chain must
// end, and intermediates, of which we only want to know whose revocation lists to believe. Nothing
// that a peer sends comes in here. For a roll-over both anchors are configured until the old one
// has no certificates left; to change them, load anew and swap.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "control/identity/certificate.hpp"
#include "control/identity/openssl_ptr.hpp"

namespace portcullis::identity {

struct AnchorFile {
  std::string path;  // PEM, one certificate or several
  /// SHA-256 of the whole file, hex; when given, another file is refused, so that who can replace
  /// the file cannot replace the anchor.
  std::string sha256;
  /// Refuse certificates under these anchors whose issuer has no fresh revocation list. Without it
  /// a list is believed when there is one, and its age does not matter.
  bool revocation_list_required = true;
};

struct AuthorityFiles {
  std::vector<AnchorFile> anchors;         // at least one
  std::vector<std::string> intermediates;  // PEM
};

class Authorities {
 public:
  struct Anchor {
    CertificatePtr certificate;
    bool revocation_list_required = true;
  };

  /// kInvalid when a file cannot be read, is not the pinned one, or holds something else than CAs;
  /// when an anchor is not self-signed: chains are verified up to their root, there are no
  /// shortcuts (TS 33.310 6.1.4a).
  static Result<std::shared_ptr<const Authorities>> Load(const AuthorityFiles& files);

  [[nodiscard]] const std::vector<Anchor>& anchors() const { return anchors_; }
  /// The anchors alone; OpenSSL counts references and locks on its own.
  [[nodiscard]] X509_STORE* store() const { return store_.get(); }
  [[nodiscard]] const std::vector<CertificatePtr>& intermediates() const { return intermediates_; }
  /// Null when `certificate` is none of the anchors.
  [[nodiscard]] const Anchor* Find(const X509* certificate) const;
  /// Anchors and intermediates of this name: whose signature a revocation list may bear.
  [[nodiscard]] std::vector<X509*> Named(const X509_NAME* name) const;
  /// CAs whose certificates end at `time` or earlier.
  [[nodiscard]] std::vector<Expiry> ExpiringBy(Time time) const;

 private:
  Authorities() = default;
  Result<void> AddAnchors(const AnchorFile& file);
  Result<void> AddIntermediates(const std::string& path);

  OpensslPtr<X509_STORE, X509_STORE_free> store_;
  std::vector<Anchor> anchors_;
  std::vector<CertificatePtr> intermediates_;
};

}  // namespace portcullis::identity
