// libp11 makes an OpenSSL key of an object in a token; p11-kit reads the URI. (OpenSSL 3's way
// would be a provider, which Debian 12 does not have; its engines are deprecated and say less about
// what is wrong.)
#include <libp11.h>
#include <p11-kit/pkcs11.h>
#include <p11-kit/uri.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "control/identity/private_file.hpp"
#include "control/identity/private_key.hpp"

namespace portcullis::identity {

namespace {

constexpr const char* kAllModules = "p11-kit-proxy.so";  // p11-kit's, for all that are registered
constexpr std::string_view kPinFile = "file:";
constexpr size_t kLongestPin = 255;

using UriPtr = OpensslPtr<P11KitUri, p11_kit_uri_free>;

// What a setting says, and where it stands, for messages. (Never the URI itself: somebody may have
// written a PIN into it.)
struct Wanted {
  UriPtr uri;
  std::string module;
  std::string pin_file;  // empty: none
  std::string where;
};

Result<Wanted> Parse(const std::string& text, const std::string& where) {
  Wanted wanted{UriPtr(p11_kit_uri_new()), kAllModules, {}, where};
  const int parsed = p11_kit_uri_parse(text.c_str(), P11_KIT_URI_FOR_ANY, wanted.uri.get());
  if (parsed != P11_KIT_URI_OK) {
    return Invalid(where, "not a PKCS#11 URI", "as in RFC 7512: pkcs11:token=...;object=...",
                   p11_kit_uri_message(parsed));
  }
  P11KitUri* uri = wanted.uri.get();
  if (p11_kit_uri_get_pin_value(uri) != nullptr) {
    return Invalid(where, "a PIN stands in the configuration",
                   "pin-source=file:/..., a file of mode 0600 or less", "pin-value");
  }
  if (p11_kit_uri_any_unrecognized(uri) != 0) {
    return Invalid(where, "an attribute that nobody knows",
                   "token, serial, model, manufacturer, object, id, type; module-path, pin-source",
                   "another");
  }
  const CK_ATTRIBUTE* type = p11_kit_uri_get_attribute(uri, CKA_CLASS);
  if (type != nullptr && *static_cast<const CK_OBJECT_CLASS*>(type->pValue) != CKO_PRIVATE_KEY) {
    return Invalid(where, "not the type of a key to sign with", "type=private, or none", "another");
  }
  if (p11_kit_uri_get_attribute(uri, CKA_LABEL) == nullptr &&
      p11_kit_uri_get_attribute(uri, CKA_ID) == nullptr) {
    return Invalid(where, "the URI names no object", "object=... or id=...", "neither");
  }
  if (const char* path = p11_kit_uri_get_module_path(uri)) wanted.module = path;
  if (const char* source = p11_kit_uri_get_pin_source(uri)) {
    const std::string_view pin(source);
    if (!pin.starts_with(kPinFile) || !pin.substr(kPinFile.size()).starts_with('/')) {
      return Invalid(where, "a PIN can only come from a file", "pin-source=file:/...",
                     "another pin-source");
    }
    wanted.pin_file = pin.substr(kPinFile.size());
  }
  return wanted;
}

// A loaded module and its tokens. Neither is ever given back: the keys that came from them may be
// in use until the end, and libp11 closes all sessions with a token when it lets go of it.
struct Module {
  PKCS11_CTX* context = nullptr;
  std::span<PKCS11_SLOT> slots;
};

Result<void> ListTokens(const Wanted& wanted, Module& module) {
  PKCS11_SLOT* slots = nullptr;
  unsigned count = 0;
  if (PKCS11_enumerate_slots(module.context, &slots, &count) != 0) {
    return Invalid(wanted.where, "the PKCS#11 module has no list of its tokens: " + wanted.module,
                   "a module that works", OpensslError());
  }
  module.slots = {slots, count};
  return {};
}

Result<Module*> Open(const Wanted& wanted) {
  static std::map<std::string, Module> loaded;
  if (const auto known = loaded.find(wanted.module); known != loaded.end()) return &known->second;
  Module module{PKCS11_CTX_new(), {}};
  if (module.context == nullptr || PKCS11_CTX_load(module.context, wanted.module.c_str()) != 0) {
    return Invalid(wanted.where, "the PKCS#11 module cannot be loaded: " + wanted.module,
                   "a module that works", OpensslError());
  }
  if (auto listed = ListTokens(wanted, module); !listed) return tl::unexpected(listed.error());
  return &loaded.emplace(wanted.module, module).first->second;
}

// Into a field of PKCS#11, padded with blanks.
void Pad(const char* text, std::span<CK_UTF8CHAR> field) {
  std::ranges::fill(field, ' ');
  if (text != nullptr) std::memcpy(field.data(), text, std::min(std::strlen(text), field.size()));
}

bool Matches(const Wanted& wanted, const PKCS11_TOKEN& token) {
  CK_TOKEN_INFO info{};
  Pad(token.label, info.label);
  Pad(token.manufacturer, info.manufacturerID);
  Pad(token.model, info.model);
  Pad(token.serialnr, info.serialNumber);
  return token.initialized != 0 && p11_kit_uri_match_token_info(wanted.uri.get(), &info) == 1;
}

Result<PKCS11_SLOT*> FindToken(const Wanted& wanted, const Module& module) {
  PKCS11_SLOT* found = nullptr;
  std::string labels;
  for (PKCS11_SLOT& slot : module.slots) {
    if (slot.token == nullptr || slot.token->initialized == 0) continue;
    labels += (labels.empty() ? "" : ", ") + std::string(slot.token->label);
    if (!Matches(wanted, *slot.token)) continue;
    if (found != nullptr) {
      return Invalid(wanted.where, "more than one token fits", "a URI that names one (serial=...)",
                     "at least two of " + labels);
    }
    found = &slot;
  }
  if (found == nullptr) {
    return Invalid(wanted.where, "the token is not there", "a token that the URI names",
                   labels.empty() ? "no token in " + wanted.module : "only " + labels);
  }
  return found;
}

// Throws away what is no part of a PIN: an editor's end of line.
Result<std::string> ReadPin(const Wanted& wanted) {
  const auto content = ReadPrivateFile(wanted.pin_file, wanted.where + " (pin-source)");
  if (!content) return tl::unexpected(content.error());
  std::string pin(content->bytes().begin(), content->bytes().end());
  while (pin.ends_with('\n') || pin.ends_with('\r')) pin.pop_back();
  if (pin.empty() || pin.size() > kLongestPin || pin.find('\0') != std::string::npos) {
    Wipe(pin);
    return Invalid(wanted.where, "not a PIN: " + wanted.pin_file,
                   fmt::format("1 to {} characters", kLongestPin), "something else");
  }
  return pin;
}

Result<void> LogIn(const Wanted& wanted, PKCS11_SLOT& slot) {
  int logged_in = 0;
  if (slot.token->loginRequired == 0 ||
      (PKCS11_is_logged_in(&slot, 0, &logged_in) == 0 && logged_in == 1)) {
    return {};
  }
  if (wanted.pin_file.empty()) {
    return Invalid(wanted.where, "the token asks for a PIN", "pin-source=file:/...", "nothing");
  }
  // A service that is started again and again would soon have locked the token.
  if (slot.token->userPinLocked != 0 || slot.token->userPinFinalTry != 0) {
    return Invalid(wanted.where, "the token's PIN is locked, or has one try left, not spent here",
                   "a token that somebody has logged in to with the right PIN",
                   "too many wrong PINs");
  }
  auto pin = ReadPin(wanted);
  if (!pin) return tl::unexpected(pin.error());
  const bool open = PKCS11_login(&slot, 0, pin->c_str()) == 0;
  Wipe(*pin);
  if (open) return {};
  return Invalid(wanted.where, "the token does not take the PIN in " + wanted.pin_file,
                 "the user PIN of token " + std::string(slot.token->label), OpensslError());
}

bool Is(const Wanted& wanted, const PKCS11_KEY& key) {
  const auto same = [&](CK_ATTRIBUTE_TYPE type, const void* data, size_t size) {
    const CK_ATTRIBUTE* attribute = p11_kit_uri_get_attribute(wanted.uri.get(), type);
    return attribute == nullptr || (data != nullptr && attribute->ulValueLen == size &&
                                    std::memcmp(attribute->pValue, data, size) == 0);
  };
  return key.isPrivate != 0 &&
         same(CKA_LABEL, key.label, key.label == nullptr ? 0 : std::strlen(key.label)) &&
         same(CKA_ID, key.id, key.id_len);
}

Result<KeyPtr> FindKey(const Wanted& wanted, PKCS11_TOKEN& token) {
  PKCS11_KEY* keys = nullptr;
  unsigned count = 0;
  if (PKCS11_enumerate_keys(&token, &keys, &count) != 0) {
    return Invalid(wanted.where, "the token has no list of its keys", "a token that works",
                   OpensslError());
  }
  PKCS11_KEY* found = nullptr;
  for (PKCS11_KEY& key : std::span(keys, count)) {
    if (!Is(wanted, key)) continue;
    if (found != nullptr) {
      return Invalid(wanted.where, "more than one private key fits",
                     "a URI that names one (object=... and id=...)", "at least two");
    }
    found = &key;
  }
  if (found == nullptr) {
    return Invalid(wanted.where, "the token has no such private key",
                   "an object that the URI names in token " + std::string(token.label),
                   fmt::format("{} other private keys", count));
  }
  KeyPtr key(PKCS11_get_private_key(found));
  if (!key) {
    return Invalid(wanted.where, "the token's key cannot be used",
                   "an RSA or EC key with its public key beside it", OpensslError());
  }
  return key;
}

}  // namespace

Result<KeyPtr> LoadPkcs11Key(const std::string& uri, const std::string& where) {
  ERR_clear_error();
  auto wanted = Parse(uri, where);
  if (!wanted) return tl::unexpected(wanted.error());
  const auto module = Open(*wanted);
  if (!module) return tl::unexpected(module.error());
  auto slot = FindToken(*wanted, **module);
  if (!slot) {  // it may have come since
    if (auto listed = ListTokens(*wanted, **module); !listed) return tl::unexpected(listed.error());
    slot = FindToken(*wanted, **module);
  }
  if (!slot) return tl::unexpected(slot.error());
  if (auto in = LogIn(*wanted, **slot); !in) return tl::unexpected(in.error());
  return FindKey(*wanted, *(*slot)->token);
}

}  // namespace portcullis::identity
