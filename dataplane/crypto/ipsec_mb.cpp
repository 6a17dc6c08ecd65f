// Intel IPsec-MB behind the engine interface: synchronous, in order, everything done on return.
//
// GCM and ChaCha20-Poly1305 go packet by packet through the direct calls, which beat jobs and
// bursts at ESP's sizes. CBC and HMAC are serial within a packet, so they run many packets abreast
// through the synchronous bursts: encrypt, then hash; or hash, compare, and only then decrypt what
// was genuine, so that forgeries cost no decryption.
#include <emmintrin.h>
#include <fmt/format.h>
#include <intel-ipsec-mb.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/locked_pages.hpp"
#include "base/secret.hpp"
#include "dataplane/crypto/engine.hpp"
#include "dataplane/crypto/key_layout.hpp"
#include "dataplane/esp/header.hpp"

namespace portcullis {
namespace {

constexpr size_t kIcvBytes = 16;  // of every algorithm here
constexpr size_t kNonceBytes = 12;
constexpr size_t kCbcLane = 64;  // CBC packets that go through the library at once
// No IP packet is longer; and the library's multi-buffer lengths have 16 bits.
constexpr uint32_t kMaxLength = 65535;

/// Takes the same time wherever the difference is.
bool SameIcv(const uint8_t* a, const uint8_t* b) {
  uint64_t x[2];
  uint64_t y[2];
  std::memcpy(x, a, kIcvBytes);
  std::memcpy(y, b, kIcvBytes);
  return ((x[0] ^ y[0]) | (x[1] ^ y[1])) == 0;
}

bool LengthFits(const CryptoOp& op) {
  const AlgorithmInfo& info = Info(op.algorithm);
  const uint32_t around = EspPayloadOffset(op.algorithm) + info.icv_bytes;
  if (op.length < around + sizeof(EspTrailer) || op.length > kMaxLength) return false;
  return info.aead || (op.length - around) % kCipherBlock == 0;
}

/// The lines of a GCM key that a packet of any size touches; the rest only from about 256 bytes.
void PrefetchKey(const CryptoOp& op) {
  const auto* data = op.key->data.data();
  for (const size_t line : {0U, 1U, 2U, 14U, 15U}) __builtin_prefetch(data + line * 64);
  if (op.length < 256) return;
  for (size_t line = 3; line < 14; ++line) __builtin_prefetch(data + line * 64);
}

uint64_t Load(const uint8_t* from, size_t bytes) {
  uint64_t word = 0;
  std::memcpy(&word, from, bytes);
  return word;
}

/// What the AEADs take besides key and text (RFC 4106 4 and 5, RFC 7634 2): the nonce, salt || IV,
/// and the associated data, SPI || [upper half of the sequence number] || lower half.
///
/// Both are put together in registers and stored at once: the library loads them 16 bytes wide, and
/// a wide load waits for narrow stores to leave the store buffer. Measured: 13 ns a packet.
struct AeadInput {
  alignas(16) std::array<uint64_t, 2> nonce;
  alignas(16) std::array<uint64_t, 2> aad;
  uint32_t aad_length;
  uint8_t* text;
  uint32_t text_length;
  uint8_t* icv;

  AeadInput(const CryptoOp& op, const uint8_t* salt)
      : aad_length(op.esn ? 12 : 8),
        text(op.esp + EspPayloadOffset(op.algorithm)),
        text_length(op.length - EspPayloadOffset(op.algorithm) - kIcvBytes),
        icv(op.esp + op.length - kIcvBytes) {
    const uint64_t iv = Load(op.esp + sizeof(EspHeader), kNonceBytes - kSaltBytes);
    Store(nonce, Load(salt, kSaltBytes) | iv << 32, iv >> 32);
    const uint64_t header = Load(op.esp, sizeof(EspHeader));
    if (op.esn) {
      const uint64_t high = __builtin_bswap32(op.esn_high);
      Store(aad, (header & UINT32_MAX) | high << 32, header >> 32);
    } else {
      Store(aad, header, 0);
    }
  }
  static void Store(std::array<uint64_t, 2>& to, uint64_t low, uint64_t high) {
    _mm_store_si128(reinterpret_cast<__m128i*>(to.data()),
                    _mm_set_epi64x(static_cast<int64_t>(high), static_cast<int64_t>(low)));
  }
  [[nodiscard]] const uint8_t* Aad() const { return reinterpret_cast<const uint8_t*>(aad.data()); }
  [[nodiscard]] const uint8_t* Nonce() const {
    return reinterpret_cast<const uint8_t*>(nonce.data());
  }
};

class IpsecMbEngine final : public Engine {
 public:
  IpsecMbEngine(LockedPages memory, IMB_MGR* manager)
      : memory_(std::move(memory)), manager_(manager) {}

  Result<void> Expand(Algorithm a, std::span<const uint8_t> key, KeySchedule& out) const override;
  void Seal(std::span<CryptoOp> ops) noexcept override { Run<true>(ops); }
  void Open(std::span<CryptoOp> ops) noexcept override { Run<false>(ops); }
  [[nodiscard]] std::string Name() const override;

 private:
  template <bool kSeal>
  void Run(std::span<CryptoOp> ops) noexcept;
  template <bool kSeal>
  bool Gcm(const CryptoOp& op) noexcept;
  template <bool kSeal>
  bool Chacha(const CryptoOp& op) noexcept;
  template <bool kSeal>
  void Cbc(std::span<CryptoOp> ops, Algorithm algorithm) noexcept;
  void SealCbc(std::span<CryptoOp*> lane) noexcept;
  void OpenCbc(std::span<CryptoOp*> lane) noexcept;
  bool CipherLane(std::span<CryptoOp*> lane, IMB_CIPHER_DIRECTION direction) noexcept;
  bool HashLane(std::span<CryptoOp*> lane) noexcept;

  LockedPages memory_;  // of the manager, whose CBC lanes hold copies of round keys
  IMB_MGR* manager_;
  gcm_context_data gcm_{};
  chacha20_poly1305_context_data chacha_{};
  std::array<IMB_JOB, kCbcLane> jobs_{};
  std::array<std::array<uint8_t, kIcvBytes>, kCbcLane> icvs_{};
};

template <bool kSeal>
void IpsecMbEngine::Run(std::span<CryptoOp> ops) noexcept {
  constexpr size_t kAhead = 2;
  bool cbc_128 = false;
  bool cbc_256 = false;
  for (size_t i = 0; i < ops.size(); ++i) {
    if (i + kAhead < ops.size() && ops[i + kAhead].key != ops[i].key) PrefetchKey(ops[i + kAhead]);
    CryptoOp& op = ops[i];
    op.ok = false;
    if (!LengthFits(op)) continue;
    switch (op.algorithm) {
      case Algorithm::aes_128_gcm_16:
      case Algorithm::aes_256_gcm_16:
        op.ok = Gcm<kSeal>(op);
        break;
      case Algorithm::chacha20_poly1305:
        op.ok = Chacha<kSeal>(op);
        break;
      case Algorithm::aes_128_cbc_hmac_sha_256_128:
        cbc_128 = true;
        break;
      case Algorithm::aes_256_cbc_hmac_sha_256_128:
        cbc_256 = true;
        break;
    }
  }
  if (cbc_128) Cbc<kSeal>(ops, Algorithm::aes_128_cbc_hmac_sha_256_128);
  if (cbc_256) Cbc<kSeal>(ops, Algorithm::aes_256_cbc_hmac_sha_256_128);
}

template <bool kSeal>
bool IpsecMbEngine::Gcm(const CryptoOp& op) noexcept {
  const auto& key = As<GcmSchedule>(*op.key);
  AeadInput in(op, key.salt);
  const bool short_key = op.algorithm == Algorithm::aes_128_gcm_16;
  if constexpr (kSeal) {
    const auto run = short_key ? manager_->gcm128_enc : manager_->gcm256_enc;
    run(&key.keys, &gcm_, in.text, in.text, in.text_length, in.Nonce(), in.Aad(), in.aad_length,
        in.icv, kIcvBytes);
    return true;
  } else {
    uint8_t icv[kIcvBytes];
    const auto run = short_key ? manager_->gcm128_dec : manager_->gcm256_dec;
    run(&key.keys, &gcm_, in.text, in.text, in.text_length, in.Nonce(), in.Aad(), in.aad_length,
        icv, kIcvBytes);
    return SameIcv(icv, in.icv);
  }
}

template <bool kSeal>
bool IpsecMbEngine::Chacha(const CryptoOp& op) noexcept {
  const auto& key = As<ChachaSchedule>(*op.key);
  AeadInput in(op, key.salt);
  IMB_CHACHA20_POLY1305_INIT(manager_, key.key, &chacha_, in.Nonce(), in.Aad(), in.aad_length);
  if constexpr (kSeal) {
    IMB_CHACHA20_POLY1305_ENC_UPDATE(manager_, key.key, &chacha_, in.text, in.text, in.text_length);
    IMB_CHACHA20_POLY1305_ENC_FINALIZE(manager_, &chacha_, in.icv, kIcvBytes);
    return true;
  } else {
    uint8_t icv[kIcvBytes];
    IMB_CHACHA20_POLY1305_DEC_UPDATE(manager_, key.key, &chacha_, in.text, in.text, in.text_length);
    IMB_CHACHA20_POLY1305_DEC_FINALIZE(manager_, &chacha_, icv, kIcvBytes);
    return SameIcv(icv, in.icv);
  }
}

template <bool kSeal>
void IpsecMbEngine::Cbc(std::span<CryptoOp> ops, Algorithm algorithm) noexcept {
  std::array<CryptoOp*, kCbcLane> lane;
  size_t filled = 0;
  const auto run = [&] {
    if constexpr (kSeal) {
      SealCbc(std::span(lane).first(filled));
    } else {
      OpenCbc(std::span(lane).first(filled));
    }
    filled = 0;
  };
  for (CryptoOp& op : ops) {
    if (op.algorithm != algorithm || !LengthFits(op)) continue;
    lane[filled++] = &op;
    if (filled == lane.size()) run();
  }
  if (filled != 0) run();
}

void IpsecMbEngine::SealCbc(std::span<CryptoOp*> lane) noexcept {
  if (!CipherLane(lane, IMB_DIR_ENCRYPT) || !HashLane(lane)) return;
  for (size_t i = 0; i < lane.size(); ++i) {
    std::memcpy(lane[i]->esp + lane[i]->length - kIcvBytes, icvs_[i].data(), kIcvBytes);
    lane[i]->ok = true;
  }
}

void IpsecMbEngine::OpenCbc(std::span<CryptoOp*> lane) noexcept {
  if (!HashLane(lane)) return;
  size_t genuine = 0;
  for (size_t i = 0; i < lane.size(); ++i) {
    CryptoOp* op = lane[i];
    if (SameIcv(icvs_[i].data(), op->esp + op->length - kIcvBytes)) lane[genuine++] = op;
  }
  const auto opened = lane.first(genuine);
  if (genuine == 0 || !CipherLane(opened, IMB_DIR_DECRYPT)) return;
  for (CryptoOp* op : opened) op->ok = true;
}

bool IpsecMbEngine::CipherLane(std::span<CryptoOp*> lane, IMB_CIPHER_DIRECTION direction) noexcept {
  const bool short_key = lane[0]->algorithm == Algorithm::aes_128_cbc_hmac_sha_256_128;
  const auto key_size = short_key ? IMB_KEY_128_BYTES : IMB_KEY_256_BYTES;
  for (size_t i = 0; i < lane.size(); ++i) {
    const CryptoOp& op = *lane[i];
    const auto& key = As<CbcSchedule>(*op.key);
    const uint32_t offset = EspPayloadOffset(op.algorithm);
    IMB_JOB& job = jobs_[i];
    job.enc_keys = key.encrypt;
    job.dec_keys = key.decrypt;
    job.src = op.esp;
    job.dst = op.esp + offset;
    job.cipher_start_src_offset_in_bytes = offset;
    job.msg_len_to_cipher_in_bytes = op.length - offset - kIcvBytes;
    job.iv = op.esp + sizeof(EspHeader);
    job.iv_len_in_bytes = kCipherBlock;
  }
  const auto count = static_cast<uint32_t>(lane.size());
  return IMB_SUBMIT_CIPHER_BURST(manager_, jobs_.data(), count, IMB_CIPHER_CBC, direction,
                                 key_size) == count;
}

/// The ICVs of the whole lane into icvs_. With ESN the upper half of the sequence number is hashed
/// behind the text (RFC 4303 2.2.1, 3.3.2.1): for that time it stands where the ICV goes.
bool IpsecMbEngine::HashLane(std::span<CryptoOp*> lane) noexcept {
  std::array<std::array<uint8_t, 4>, kCbcLane> displaced;
  for (size_t i = 0; i < lane.size(); ++i) {
    const CryptoOp& op = *lane[i];
    const auto& key = As<CbcSchedule>(*op.key);
    IMB_JOB& job = jobs_[i];
    job.src = op.esp;
    job.hash_start_src_offset_in_bytes = 0;
    job.msg_len_to_hash_in_bytes = op.length - kIcvBytes;
    job.auth_tag_output = icvs_[i].data();
    job.auth_tag_output_len_in_bytes = kIcvBytes;
    job.u.HMAC._hashed_auth_key_xor_ipad = key.inner_hash;
    job.u.HMAC._hashed_auth_key_xor_opad = key.outer_hash;
    if (op.esn) {
      uint8_t* place = op.esp + op.length - kIcvBytes;
      const be32 high(op.esn_high);
      std::memcpy(displaced[i].data(), place, 4);
      std::memcpy(place, &high, 4);
      job.msg_len_to_hash_in_bytes += 4;
    }
  }
  const auto count = static_cast<uint32_t>(lane.size());
  const bool done =
      IMB_SUBMIT_HASH_BURST(manager_, jobs_.data(), count, IMB_AUTH_HMAC_SHA_256) == count;
  for (size_t i = 0; i < lane.size(); ++i) {
    const CryptoOp& op = *lane[i];
    if (op.esn) std::memcpy(op.esp + op.length - kIcvBytes, displaced[i].data(), 4);
  }
  return done;
}

/// SHA-256's state after one block of key ^ pad (RFC 2104 2; the keys are shorter than a block).
void HalfHmac(IMB_MGR* manager, std::span<const uint8_t> key, uint8_t pad, uint8_t* state) {
  std::array<uint8_t, 64> block;
  block.fill(pad);
  for (size_t i = 0; i < key.size(); ++i) block[i] ^= key[i];
  IMB_SHA256_ONE_BLOCK(manager, block.data(), state);
  Wipe(block);
}

void ExpandCbc(IMB_MGR* manager, size_t cipher_key, std::span<const uint8_t> key,
               CbcSchedule& out) {
  if (cipher_key == 16) {
    IMB_AES_KEYEXP_128(manager, key.data(), out.encrypt, out.decrypt);
  } else {
    IMB_AES_KEYEXP_256(manager, key.data(), out.encrypt, out.decrypt);
  }
  constexpr uint8_t kInnerPad = 0x36;
  constexpr uint8_t kOuterPad = 0x5c;
  HalfHmac(manager, key.subspan(cipher_key), kInnerPad, out.inner_hash);
  HalfHmac(manager, key.subspan(cipher_key), kOuterPad, out.outer_hash);

  constexpr std::string_view kIvLabel = "portcullis esp cbc iv";
  std::array<uint8_t, 32> iv_key;
  std::array<uint8_t, 11 * kCipherBlock> unused;
  HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
       reinterpret_cast<const uint8_t*>(kIvLabel.data()), kIvLabel.size(), iv_key.data(), nullptr);
  IMB_AES_KEYEXP_128(manager, iv_key.data(), out.iv, unused.data());
  Wipe(iv_key);
  Wipe(unused);
}

Result<void> IpsecMbEngine::Expand(Algorithm a, std::span<const uint8_t> key,
                                   KeySchedule& out) const {
  if (key.size() != Info(a).key_bytes) {
    return Invalid("key", fmt::format("wrong key length for {}", Info(a).name),
                   fmt::format("{} bytes", Info(a).key_bytes), fmt::format("{} bytes", key.size()));
  }
  Wipe({reinterpret_cast<uint8_t*>(out.data.data()), out.data.size()});
  const auto salt = key.last(kSaltBytes);
  switch (a) {
    case Algorithm::aes_128_gcm_16:
      IMB_AES128_GCM_PRE(manager_, key.data(), &As<GcmSchedule>(out).keys);
      std::ranges::copy(salt, As<GcmSchedule>(out).salt);
      break;
    case Algorithm::aes_256_gcm_16:
      IMB_AES256_GCM_PRE(manager_, key.data(), &As<GcmSchedule>(out).keys);
      std::ranges::copy(salt, As<GcmSchedule>(out).salt);
      break;
    case Algorithm::chacha20_poly1305:
      std::ranges::copy(key.first(32), As<ChachaSchedule>(out).key);
      std::ranges::copy(salt, As<ChachaSchedule>(out).salt);
      break;
    case Algorithm::aes_128_cbc_hmac_sha_256_128:
      ExpandCbc(manager_, 16, key, As<CbcSchedule>(out));
      break;
    case Algorithm::aes_256_cbc_hmac_sha_256_128:
      ExpandCbc(manager_, 32, key, As<CbcSchedule>(out));
      break;
  }
  return {};
}

std::string IpsecMbEngine::Name() const {
  const char* arch = "SSE";
  if (manager_->used_arch == IMB_ARCH_AVX) arch = "AVX";
  if (manager_->used_arch == IMB_ARCH_AVX2) arch = "AVX2";
  if (manager_->used_arch == IMB_ARCH_AVX512) arch = "AVX-512";
  const bool vaes = (manager_->features & IMB_FEATURE_VAES) != 0 &&
                    (manager_->features & IMB_FEATURE_VPCLMULQDQ) != 0;
  std::string version = imb_get_version_str();
  if (version.ends_with(".0")) version.resize(version.size() - 2);
  return fmt::format("ipsec_mb {}, {}{}", version, arch, vaes ? " + VAES" : "");
}

}  // namespace

Result<std::unique_ptr<Engine>> MakeIpsecMbEngine() {
  LockedPages memory = AllocateLocked(imb_get_mb_mgr_size());
  if (!memory) {
    return Fail(ErrorKind::kExhausted,
                fmt::format("no locked memory for the IPsec-MB crypto library: {}; expected {} KiB "
                            "within RLIMIT_MEMLOCK (LimitMEMLOCK=)",
                            std::strerror(errno), imb_get_mb_mgr_size() / 1024 + 1));
  }
  IMB_MGR* manager = imb_set_pointers_mb_mgr(memory.get(), 0, 1);
  auto engine = std::make_unique<IpsecMbEngine>(std::move(memory), manager);
  IMB_ARCH arch = IMB_ARCH_NONE;
  init_mb_mgr_auto(manager, &arch);
  if (const int error = imb_get_errno(manager); error != 0) {
    return Fail(ErrorKind::kInternal, fmt::format("the IPsec-MB crypto library does not start: {}",
                                                  imb_get_strerror(error)));
  }
  // Its emulation of AES-NI looks keys up in tables, whose timing leaks them.
  if (arch == IMB_ARCH_NONE || arch == IMB_ARCH_NOAESNI) {
    return Fail(ErrorKind::kUnavailable,
                "this CPU has no AES-NI instructions, without which the crypto engine would leak "
                "keys by its timing and be too slow; use a host (or a VM type) whose CPU flags "
                "include 'aes' and 'pclmulqdq'");
  }
  if ((manager->features & IMB_FEATURE_SELF_TEST) != 0 &&
      (manager->features & IMB_FEATURE_SELF_TEST_PASS) == 0) {
    return Fail(ErrorKind::kInternal, "the IPsec-MB crypto library failed its own self-test");
  }
  return engine;
}

}  // namespace portcullis
