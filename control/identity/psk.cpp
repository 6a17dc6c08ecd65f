#include "control/identity/psk.hpp"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/rand.h>

#include <algorithm>
#include <array>
#include <span>
#include <stdexcept>

#include "control/identity/private_file.hpp"

namespace portcullis::identity {

namespace {

constexpr size_t kMostIdentityBytes = 128;
constexpr size_t kLeastKeyBytes = 16;  // RFC 9257 6: at least 128 bits of entropy
constexpr size_t kMostKeyBytes = 64;   // HMAC would hash longer ones first, and take another time
constexpr size_t kDummyBytes = 32;
constexpr size_t kMostKeysOfAPeer = 2;

Result<Secret> ReadKey(const std::string& path, const std::string& where) {
  const auto content = ReadPrivateFile(path, where);
  if (!content) return tl::unexpected(content.error());
  std::string text(content->bytes().begin(), content->bytes().end());
  const size_t digits = std::min(text.find_last_not_of(" \r\n") + 1, text.size());
  OPENSSL_cleanse(text.data() + digits, text.size() - digits);
  text.resize(digits);

  std::array<uint8_t, kMostKeyBytes> bytes{};
  size_t size = 0;
  const bool hex =
      OPENSSL_hexstr2buf_ex(bytes.data(), bytes.size(), &size, text.c_str(), '\0') == 1;
  ERR_clear_error();
  Wipe(text);
  if (!hex || size < kLeastKeyBytes) {
    Wipe(bytes);
    return Invalid(where, "not a pre-shared key: " + path,
                   fmt::format("{} to {} hex digits", 2 * kLeastKeyBytes, 2 * kMostKeyBytes),
                   hex ? fmt::format("{} digits", digits)
                       : fmt::format("{} characters, not all of them hex digits", digits));
  }
  Secret key{std::span(bytes).first(size)};
  Wipe(bytes);
  return key;
}

// Of a kind that can stand in a log line and in TLS 1.2's C strings.
bool IsPlain(const std::string& identity) {
  return !identity.empty() && identity.size() <= kMostIdentityBytes &&
         std::all_of(identity.begin(), identity.end(), [](char c) { return c > ' ' && c < 127; });
}

}  // namespace

PskStore::PskStore() {
  std::array<uint8_t, kDummyBytes> random{};
  if (RAND_priv_bytes(random.data(), random.size()) != 1) {
    throw std::runtime_error("OpenSSL has no random numbers");
  }
  dummy_ = Secret(random);
  Wipe(random);
}

Result<PskStore> PskStore::Load(const std::vector<PskSetting>& settings, const std::string& where) {
  PskStore store;
  std::map<std::string, std::string> owners;  // identity by thumbprint
  for (size_t i = 0; i < settings.size(); ++i) {
    const PskSetting& setting = settings[i];
    const std::string here = fmt::format("{}/{}", where, i);
    if (!IsPlain(setting.identity)) {
      return Invalid(
          here + "/identity", "not an identity for a pre-shared key",
          fmt::format("1 to {} printable ASCII characters without spaces", kMostIdentityBytes),
          fmt::format("{} bytes", setting.identity.size()));
    }
    if (setting.peer.empty()) {
      return Invalid(here + "/peer", "a pre-shared key belongs to a peer", "a name", "nothing");
    }
    auto key = ReadKey(setting.file, here + "/file");
    if (!key) return tl::unexpected(key.error());
    const std::string thumbprint = KeyFingerprint("psk", key->bytes());
    const auto [owner, fresh] = owners.emplace(thumbprint, setting.identity);
    if (!fresh) {
      return Invalid(here + "/file", "the same key stands under two identities",
                     "a key of its own for each", owner->second + " and " + setting.identity);
    }
    const auto same_use =
        std::count_if(store.keys_.begin(), store.keys_.end(), [&](const auto& other) {
          return other.second.peer == setting.peer && other.second.use == setting.use;
        });
    if (static_cast<size_t>(same_use) >= kMostKeysOfAPeer) {
      return Invalid(here + "/peer", "too many keys of one peer for one use",
                     fmt::format("at most {}, the old and the new one", kMostKeysOfAPeer),
                     setting.peer);
    }
    PskKey entry{setting.identity, setting.peer, setting.use, std::move(*key), thumbprint};
    if (!store.keys_.emplace(setting.identity, std::move(entry)).second) {
      return Invalid(here + "/identity", "the same identity stands twice", "each once",
                     setting.identity);
    }
  }
  return store;
}

const PskKey* PskStore::Find(std::string_view identity, const PskUse& use) const {
  const auto found = keys_.find(identity);
  return found != keys_.end() && found->second.use == use ? &found->second : nullptr;
}

}  // namespace portcullis::identity
