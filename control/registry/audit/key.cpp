#include "control/registry/audit/key.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "control/registry/audit/record.hpp"

namespace portcullis::audit {

namespace {

constexpr int kLeastCurveBits = 256;
constexpr const char* kWanted = "a PEM file with an Ed25519 key, or an EC key of 256 bits or more";

struct CloseFile {
  void operator()(FILE* file) const { fclose(file); }
};
using File = std::unique_ptr<FILE, CloseFile>;
using Context = std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)>;

std::shared_ptr<EVP_PKEY> Own(EVP_PKEY* key) {
  return {key, EVP_PKEY_free};
}

bool IsEd25519(const EVP_PKEY* key) {
  return EVP_PKEY_is_a(key, "ED25519") == 1;
}

bool Fits(const EVP_PKEY* key) {
  return key != nullptr && (IsEd25519(key) || (EVP_PKEY_is_a(key, "EC") == 1 &&
                                               EVP_PKEY_get_bits(key) >= kLeastCurveBits));
}

// Ed25519 hashes by itself, and OpenSSL insists that no digest is named.
const EVP_MD* DigestFor(const EVP_PKEY* key) {
  return IsEd25519(key) ? nullptr : EVP_sha256();
}

const unsigned char* Bytes(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

// PEM functions would ask at the terminal for the passphrase of an encrypted key.
int NoPassphrase(char* /*buffer*/, int /*size*/, int /*writing*/, void* /*data*/) {
  return -1;
}

}  // namespace

Result<PublicKey> PublicKey::Load(const std::string& path) {
  const File file(fopen(path.c_str(), "re"));
  if (!file) return Invalid(path, "the public key cannot be read", kWanted, std::strerror(errno));
  auto key = Own(PEM_read_PUBKEY(file.get(), nullptr, NoPassphrase, nullptr));
  ERR_clear_error();
  if (!Fits(key.get())) return Invalid(path, "not a public key for checkpoints", kWanted);
  return PublicKey(std::move(key));
}

bool PublicKey::Verifies(std::string_view text, std::string_view signature) const {
  std::vector<unsigned char> bytes(signature.size() / 2 + 1);
  size_t length = 0;
  const bool hex = OPENSSL_hexstr2buf_ex(bytes.data(), bytes.size(), &length,
                                         std::string(signature).c_str(), '\0') == 1;
  const Context context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  const bool good =
      hex && context &&
      EVP_DigestVerifyInit(context.get(), nullptr, DigestFor(key_.get()), nullptr, key_.get()) ==
          1 &&
      EVP_DigestVerify(context.get(), bytes.data(), length, Bytes(text), text.size()) == 1;
  ERR_clear_error();
  return good;
}

std::string PublicKey::Fingerprint() const {
  unsigned char* der = nullptr;
  const int length = i2d_PUBKEY(key_.get(), &der);
  if (length <= 0) return {};
  const Hash hash =
      Sha256({std::string_view(reinterpret_cast<char*>(der), static_cast<size_t>(length))});
  OPENSSL_free(der);
  return Hex(hash);
}

std::string PublicKey::Pem() const {
  const std::unique_ptr<BIO, decltype(&BIO_free)> memory(BIO_new(BIO_s_mem()), BIO_free);
  if (!memory || PEM_write_bio_PUBKEY(memory.get(), key_.get()) != 1) return {};
  const char* text = nullptr;
  const long length = BIO_get_mem_data(memory.get(), &text);  // NOLINT: OpenSSL's macro casts
  return {text, static_cast<size_t>(length)};
}

Result<SigningKey> SigningKey::Load(const std::string& path) {
  // The mode is asked of the open file: between a stat() and an open() it could become another one.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  struct stat info {};
  if (fd < 0 || fstat(fd, &info) != 0) {
    const int error = errno;
    if (fd >= 0) close(fd);
    return Invalid(path, "the audit key cannot be read", kWanted, std::strerror(error));
  }
  if ((info.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    close(fd);
    return Invalid(path, "others may read the audit key", "mode 0600 or less",
                   fmt::format("mode {:04o}", info.st_mode & 07777U));
  }
  const File file(fdopen(fd, "r"));
  auto key = Own(PEM_read_PrivateKey(file.get(), nullptr, NoPassphrase, nullptr));
  ERR_clear_error();
  if (!Fits(key.get())) return Invalid(path, "not a key that signs checkpoints", kWanted);
  return SigningKey(std::move(key));
}

Result<SigningKey> SigningKey::Create(const std::string& path) {
  auto key = Own(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
  if (!key) return Fail(ErrorKind::kInternal, "no audit key could be made");
  const auto refuse = [&](const char* doing) {
    return Invalid(path, fmt::format("the audit key cannot be {}", doing), "a folder to write to",
                   std::strerror(errno));
  };
  // Under another name until it is complete: a crash must not leave half a key.
  const std::string unfinished = path + ".new";
  unlink(unfinished.c_str());
  const int fd =
      open(unfinished.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
  if (fd < 0) return refuse("created");
  const File file(fdopen(fd, "w"));
  const bool written =
      PEM_write_PrivateKey(file.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) == 1 &&
      fflush(file.get()) == 0 && fsync(fd) == 0;
  // link() rather than rename(): it replaces nothing.
  const bool named = written && link(unfinished.c_str(), path.c_str()) == 0;
  const auto refusal = refuse("written");
  unlink(unfinished.c_str());
  if (!named) return refusal;
  return SigningKey(std::move(key));
}

Result<std::string> SigningKey::Sign(std::string_view text) const {
  const Context context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  std::vector<unsigned char> signature(static_cast<size_t>(EVP_PKEY_get_size(key_.get())));
  size_t length = signature.size();
  const bool good =
      context &&
      EVP_DigestSignInit(context.get(), nullptr, DigestFor(key_.get()), nullptr, key_.get()) == 1 &&
      EVP_DigestSign(context.get(), signature.data(), &length, Bytes(text), text.size()) == 1;
  ERR_clear_error();
  if (!good) return Fail(ErrorKind::kInternal, "the audit key does not sign");
  signature.resize(length);
  return fmt::format("{:02x}", fmt::join(signature, ""));
}

}  // namespace portcullis::audit
