#include "dataplane/esp/state_file.hpp"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <fstream>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "dataplane/esp/exclusive_file.hpp"
#include "dataplane/esp/state_layout.hpp"

namespace portcullis {
namespace {

constexpr RelaxedStore kStore;

/// For what is wider than a register. Only its order against other stores counts: whatever is
/// torn by a kill is not reachable yet.
template <class T>
void StoreWide(T& place, const T& value) {
  std::memcpy(&place, &value, sizeof(T));
  std::atomic_signal_fence(std::memory_order_seq_cst);
}

struct FingerprintHash {
  size_t operator()(const Fingerprint& f) const {
    uint64_t word = 0;  // it is a hash already
    std::memcpy(&word, f.data(), sizeof(word));
    return word;
  }
};

constexpr Fingerprint kNoFingerprint{};

tl::unexpected<Error> Damaged(const std::string& path, const std::string& what) {
  return Invalid(path, "the state file is damaged: " + what +
                           "; remove it, after which every peer must use new keys");
}

Result<void> CheckHeader(const std::string& path, const StateHeader& header, uint32_t capacity) {
  if (header.magic != kStateMagic) {
    return Invalid(path, "is no Portcullis state file; choose another state_file");
  }
  if (header.version != kStateVersion || header.record_bytes != sizeof(SaRecord) ||
      header.block_bytes != kBlockBytes) {
    return Invalid(path,
                   "was made by another version of Portcullis; run that one, or remove the file, "
                   "after which every peer must use new keys",
                   fmt::format("format {}", kStateVersion),
                   fmt::format("format {}", header.version));
  }
  if (header.capacity != capacity) {
    return Invalid(path,
                   "was made for another sas.capacity; set that again, or remove the file, after "
                   "which every peer must use new keys",
                   fmt::format("capacity {}", capacity),
                   fmt::format("capacity {}", header.capacity));
  }
  const StateLayout layout(capacity);
  if (header.blocks != layout.blocks || header.history != layout.history) {
    return Damaged(path, "its header contradicts itself");
  }
  return {};
}

/// A file of ours whose making was cut short: some fields stand already, the magic does not.
bool Unfinished(const StateHeader& header) {
  return header.magic == 0 && header.version <= kStateVersion && header.holder == 0 &&
         (header.record_bytes == 0 || header.record_bytes == sizeof(SaRecord)) &&
         header.history_next == 0 && header.boot_id[0] == 0;
}

}  // namespace

struct StateFile::State {
  State(ExclusiveFile opened, Mapping mapped, const StateLayout& sections)
      : file(std::move(opened)),
        mapping(std::move(mapped)),
        layout(sections),
        blocks(sections.blocks) {}

  [[nodiscard]] StateHeader& header() const {
    return *reinterpret_cast<StateHeader*>(mapping.data());
  }
  [[nodiscard]] SaRecord& record(uint32_t index) const {
    return reinterpret_cast<SaRecord*>(mapping.data() + layout.records_offset)[index];
  }
  [[nodiscard]] uint32_t IndexOf(const SaRecord& r) const {
    return static_cast<uint32_t>(&r - &record(0));
  }
  [[nodiscard]] Fingerprint& slot(uint64_t number) const {
    return reinterpret_cast<Fingerprint*>(mapping.data() +
                                          layout.history_offset)[number % layout.history];
  }
  [[nodiscard]] size_t ArenaOffset(uint32_t block) const {
    return layout.arena_offset + size_t{block} * kBlockBytes;
  }
  /// The first block of a record's ring; beyond the arena when the record is damaged.
  [[nodiscard]] uint32_t FirstBlock(const SaRecord& r) const {
    const auto* ring = reinterpret_cast<const std::byte*>(r.words());
    const auto* arena = mapping.data() + layout.arena_offset;
    if (ring < arena || (ring - arena) % kBlockBytes != 0) return layout.blocks;
    return static_cast<uint32_t>(std::min<size_t>((ring - arena) / kBlockBytes, layout.blocks));
  }

  Result<void> TakeOver(std::string_view boot_id);
  Result<void> Adopt(uint32_t index);
  void ForgetLive();
  void Remember(const Fingerprint& fingerprint);
  void Free(SaRecord& r);

  ExclusiveFile file;
  Mapping mapping;
  StateLayout layout;
  // What follows is rebuilt at each start.
  BlockMap blocks;
  std::vector<uint32_t> free_records;  // a stack
  std::unordered_map<Fingerprint, uint32_t, FingerprintHash> live;
  std::unordered_set<Fingerprint, FingerprintHash> unclaimed;  // of live
  std::unordered_set<Fingerprint, FingerprintHash> history;
};

/// Slot first, counter second: cut between, the entry is there all the same, and the next one
/// takes its place. Its key never came into use, because its record is not live.
void StateFile::State::Remember(const Fingerprint& fingerprint) {
  if (history.contains(fingerprint)) return;
  StateHeader& h = header();
  Fingerprint& place = slot(h.history_next);
  history.erase(place);
  StoreWide(place, fingerprint);
  kStore(h.history_next, h.history_next + 1);
  history.insert(fingerprint);
}

/// After a reboot: the keys are gone, so no record may be resumed, but none of them may come back.
void StateFile::State::ForgetLive() {
  for (uint32_t i = 0; i < layout.capacity; ++i) {
    SaRecord& r = record(i);
    if (r.live == 0) continue;
    Remember(r.fingerprint);
    kStore(r.live, uint8_t{0});
  }
}

/// Takes a live record that an earlier process left into our books.
Result<void> StateFile::State::Adopt(uint32_t index) {
  const SaRecord& r = record(index);
  const uint32_t count = RingBlocks(r.window);
  const bool sound =
      r.window <= kMaxReplayWindow && r.direction <= static_cast<uint8_t>(Direction::outbound) &&
      (count == 0 ? r.words_offset == 0 && r.word_mask == 0
                  : r.word_mask == RingWords(r.window) - 1 && blocks.Mark(FirstBlock(r), count));
  if (!sound || r.fingerprint == kNoFingerprint || !live.emplace(r.fingerprint, index).second) {
    return Damaged(file.path(), fmt::format("record {} contradicts itself or another", index));
  }
  unclaimed.insert(r.fingerprint);
  return {};
}

Result<void> StateFile::State::TakeOver(std::string_view boot_id) {
  for (uint32_t i = 0; i < layout.history; ++i) {
    if (slot(i) != kNoFingerprint) history.insert(slot(i));
  }
  StateHeader& h = header();
  const std::string_view then(h.boot_id.data(), strnlen(h.boot_id.data(), h.boot_id.size()));
  if (then != boot_id) {
    ForgetLive();
    std::array<char, sizeof(h.boot_id)> now{};
    std::ranges::copy(boot_id, now.begin());
    StoreWide(h.boot_id, now);
  }
  for (uint32_t i = layout.capacity; i-- > 0;) {
    if (record(i).live == 0) {
      free_records.push_back(i);
    } else if (auto adopted = Adopt(i); !adopted) {
      return adopted;
    }
  }
  return {};
}

void StateFile::State::Free(SaRecord& r) {
  Remember(r.fingerprint);  // it may be older than the history reaches back
  kStore(r.live, uint8_t{0});
  if (r.word_mask != 0) blocks.Free(FirstBlock(r), RingBlocks(r.window));
  live.erase(r.fingerprint);
  unclaimed.erase(r.fingerprint);
  free_records.push_back(IndexOf(r));
}

Result<StateFile> StateFile::Open(const std::string& path, uint32_t capacity,
                                  std::string_view boot_id) {
  if (capacity == 0 || capacity > kMaxCapacity) {
    return Invalid("sas.capacity", "out of range", fmt::format("1..{}", kMaxCapacity),
                   fmt::format("{}", capacity));
  }
  if (boot_id.empty() || boot_id.size() >= sizeof(StateHeader::boot_id)) {
    return Invalid("boot_id", "is no boot id", "36 characters", std::string(boot_id));
  }
  auto file = ExclusiveFile::Open(path, offsetof(StateHeader, holder));
  if (!file) return tl::unexpected(file.error());
  const auto size = file->Size();
  if (!size) return tl::unexpected(size.error());
  const StateLayout layout(capacity, file->page());

  // What is there: nothing, a file whose making was cut short (no magic yet), or a whole one.
  bool fresh = *size == 0;
  if (!fresh) {
    if (*size < StateLayout::kSectionAlign) return Damaged(path, "it is cut short");
    const auto head = Mapping::Map(*file, file->page());
    if (!head) return tl::unexpected(head.error());
    const auto& header = *reinterpret_cast<const StateHeader*>(head->data());
    fresh = Unfinished(header);
    if (!fresh) {
      if (auto checked = CheckHeader(path, header, capacity); !checked) {
        return tl::unexpected(checked.error());
      }
      if (*size != layout.size) return Damaged(path, "its length does not fit its header");
    }
  }
  if (fresh) {
    // To nothing first, so that all of it is zero.
    if (auto done = file->Resize(0); !done) return tl::unexpected(done.error());
    if (auto done = file->Resize(layout.size); !done) return tl::unexpected(done.error());
  }
  if (auto done = file->Reserve(0, layout.arena_offset); !done) {
    return tl::unexpected(done.error());
  }
  auto mapping = Mapping::Map(*file, layout.size);
  if (!mapping) return tl::unexpected(mapping.error());

  auto state = std::make_unique<State>(std::move(*file), std::move(*mapping), layout);
  StateHeader& header = state->header();
  if (fresh) {
    header.version = kStateVersion;
    header.record_bytes = sizeof(SaRecord);
    header.block_bytes = kBlockBytes;
    header.capacity = capacity;
    header.blocks = layout.blocks;
    header.history = layout.history;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    kStore(header.magic, kStateMagic);
  }
  kStore(header.holder, static_cast<uint32_t>(getpid()));
  if (auto taken = state->TakeOver(boot_id); !taken) return tl::unexpected(taken.error());
  return StateFile(std::move(state));
}

Result<SaRecord*> StateFile::Create(const Fingerprint& fingerprint, Spi spi, Direction direction,
                                    uint32_t window, uint64_t now_boot_ns) {
  State& s = *state_;
  if (direction == Direction::outbound) window = 0;
  if (window > kMaxReplayWindow) {
    return Invalid("replay_window", "too large", fmt::format("0..{}", kMaxReplayWindow),
                   fmt::format("{}", window));
  }
  if (fingerprint == kNoFingerprint) return Invalid("fingerprint", "is all zero");
  if (IsKnown(fingerprint)) {
    return Fail(ErrorKind::kConflict,
                "this key was used before, and a second start of its sequence numbers would void "
                "its protection; make a new key, or resume the SA that has it");
  }
  if (s.free_records.empty()) {
    return Fail(ErrorKind::kExhausted,
                fmt::format("all {} SA records of {} are taken; remove SAs or raise sas.capacity",
                            s.layout.capacity, s.file.path()));
  }
  uint32_t words_offset = 0;
  const uint32_t count = RingBlocks(window);
  SaRecord& r = s.record(s.free_records.back());
  if (count != 0) {
    const auto block = s.blocks.Take(count);
    if (!block) {
      return Fail(ErrorKind::kExhausted,
                  fmt::format("no room in {} for a replay window of {}; use smaller windows or "
                              "raise sas.capacity",
                              s.file.path(), window));
    }
    const size_t offset = s.ArenaOffset(*block);
    if (auto done = s.file.Reserve(offset, size_t{count} * kBlockBytes); !done) {
      s.blocks.Free(*block, count);
      return tl::unexpected(done.error());
    }
    std::memset(s.mapping.data() + offset, 0, size_t{count} * kBlockBytes);
    words_offset =
        static_cast<uint32_t>((s.mapping.data() + offset - reinterpret_cast<std::byte*>(&r)) / 64);
  }
  s.Remember(fingerprint);
  StoreWide(r, SaRecord{.highest = 0,
                        .packets = 0,
                        .bytes = 0,
                        .born_boot_ns = now_boot_ns,
                        .fingerprint = fingerprint,
                        .spi = Value(spi),
                        .words_offset = words_offset,
                        .window = static_cast<uint16_t>(window),
                        .word_mask = static_cast<uint16_t>(count == 0 ? 0 : RingWords(window) - 1),
                        .direction = static_cast<uint8_t>(direction),
                        .live = 0,
                        .reserved = 0});
  kStore(r.live, uint8_t{1});
  s.live.emplace(fingerprint, s.free_records.back());
  s.free_records.pop_back();
  return &r;
}

Result<SaRecord*> StateFile::Resume(const Fingerprint& fingerprint, Spi spi, Direction direction,
                                    uint32_t window) {
  State& s = *state_;
  if (direction == Direction::outbound) window = 0;
  const auto found = s.live.find(fingerprint);
  if (found == s.live.end()) {
    return Fail(ErrorKind::kNotFound,
                "nothing is remembered of this SA, so it cannot go on without accepting replays or "
                "repeating sequence numbers; make a new key");
  }
  SaRecord& r = s.record(found->second);
  if (r.spi != Value(spi) || r.direction != static_cast<uint8_t>(direction) || r.window != window) {
    const auto text = [](uint32_t number, uint8_t to, uint32_t size) {
      return fmt::format("SPI {:#010x}, {}, window {}", number, to == 0 ? "inbound" : "outbound",
                         size);
    };
    return tl::unexpected(Error{ErrorKind::kConflict,
                                "this key belongs to an SA with other parameters",
                                {},
                                text(r.spi, r.direction, r.window),
                                text(Value(spi), static_cast<uint8_t>(direction), window)});
  }
  if (s.unclaimed.erase(fingerprint) == 0) {
    return Fail(ErrorKind::kConflict, "an SA with this key is installed already");
  }
  return &r;
}

void StateFile::TakeBack(SaRecord* record, bool created) {
  State& s = *state_;
  const Fingerprint fingerprint = record->fingerprint;
  if (!created) {
    s.unclaimed.insert(fingerprint);
    return;
  }
  s.Free(*record);
  // The record first: a key in use is always known, cut where you will.
  StateHeader& h = s.header();
  if (s.slot(h.history_next - 1) != fingerprint) return;
  StoreWide(s.slot(h.history_next - 1), kNoFingerprint);
  kStore(h.history_next, h.history_next - 1);
  s.history.erase(fingerprint);
}
void StateFile::Release(SaRecord* record) {
  state_->Free(*record);
}

uint32_t StateFile::ReleaseUnclaimed() {
  const std::vector<Fingerprint> left(state_->unclaimed.begin(), state_->unclaimed.end());
  for (const Fingerprint& f : left) state_->Free(state_->record(state_->live.at(f)));
  return static_cast<uint32_t>(left.size());
}

bool StateFile::IsKnown(const Fingerprint& fingerprint) const {
  return state_->history.contains(fingerprint) || state_->live.contains(fingerprint);
}
uint32_t StateFile::live() const {
  return static_cast<uint32_t>(state_->live.size());
}
uint32_t StateFile::unclaimed() const {
  return static_cast<uint32_t>(state_->unclaimed.size());
}
uint32_t StateFile::capacity() const {
  return state_->layout.capacity;
}
bool StateFile::locked() const {
  return state_->mapping.locked();
}
const std::string& StateFile::path() const {
  return state_->file.path();
}

StateFile::StateFile(std::unique_ptr<State> state) : state_(std::move(state)) {}
StateFile::StateFile(StateFile&&) noexcept = default;
StateFile& StateFile::operator=(StateFile&&) noexcept = default;
StateFile::~StateFile() = default;

Result<Fingerprint> ParseFingerprint(std::string_view hex) {
  Fingerprint f{};
  bool valid = hex.size() == 2 * f.size();
  for (size_t i = 0; valid && i < f.size(); ++i) {
    const auto byte = hex.substr(2 * i, 2);
    const auto [end, error] = std::from_chars(byte.begin(), byte.end(), f[i], 16);
    valid = error == std::errc() && end == byte.end();
  }
  if (!valid) return Invalid("fingerprint", "is none", "32 hex digits", std::string(hex));
  return f;
}

Result<std::string> ReadBootId() {
  constexpr const char* kPath = "/proc/sys/kernel/random/boot_id";
  std::ifstream file(kPath);
  std::string id;
  if (!std::getline(file, id) || id.empty()) {
    return Fail(ErrorKind::kUnavailable, fmt::format("cannot read {}", kPath));
  }
  return id;
}

}  // namespace portcullis
