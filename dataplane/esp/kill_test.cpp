// Real processes, really killed. A child works on the state file as a gate does and tells its
// parent, through shared memory, what it has let out: packets accepted, numbers used, keys in use.
// The parent kills it at a random instant and the next child goes on with the file. Whatever was
// let out by any of them must never be let out again.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <ctime>
#include <filesystem>
#include <map>
#include <random>
#include <set>

#include "base/test_seed.hpp"
#include "dataplane/esp/state_file.hpp"

namespace portcullis {
namespace {

constexpr uint32_t kCapacity = 16;
constexpr uint32_t kWindow = 100;
constexpr uint32_t kKeys = 6;  // in use at a time: even ones inbound, odd ones outbound
constexpr std::string_view kBoot = "11111111-2222-3333-4444-555555555555";

Fingerprint Key(uint64_t number) {
  Fingerprint f{};
  std::memcpy(f.data(), &number, sizeof(number));
  f[15] = 1;
  return f;
}

enum class What : uint8_t { nothing, packet, created };

struct Entry {
  uint64_t key;
  uint64_t sequence;
  What what;
};

/// What a child has let out. The count is stored after the entry, so the parent sees whole ones.
struct Diary {
  static constexpr size_t kRoom = 400'000;
  std::atomic<uint64_t> count;
  std::atomic<uint64_t> next_key;  // never tried before
  std::atomic<bool> failed;
  std::array<std::atomic<uint64_t>, kKeys> keys;  // in use; 0: none
  std::array<Entry, kRoom> entries;

  void Write(uint64_t key, uint64_t sequence, What what) {
    const uint64_t at = count.load();
    if (at == kRoom) return;
    entries[at] = {key, sequence, what};
    count.store(at + 1);
  }
};

struct Slot {
  uint64_t key = 0;
  SaRecord* record = nullptr;
};

Direction DirectionOf(size_t slot) {
  return slot % 2 == 0 ? Direction::inbound : Direction::outbound;
}
uint32_t WindowOf(size_t slot) {
  return slot % 2 == 0 ? kWindow : 0;
}

/// A gate's life: resume what is there, then traffic with a key change now and then.
[[noreturn]] void Live(const std::string& path, Diary& diary, uint64_t seed) {
  std::mt19937_64 random(seed);
  auto file = StateFile::Open(path, kCapacity, kBoot);
  if (!file) diary.failed = true;
  if (!file) _exit(1);
  std::array<Slot, kKeys> slots;
  for (size_t i = 0; i < kKeys; ++i) {
    const uint64_t key = diary.keys[i];
    if (key == 0) continue;
    auto r = file->Resume(Key(key), Spi{1000}, DirectionOf(i), WindowOf(i));
    if (r) slots[i] = {key, *r};
  }
  file->ReleaseUnclaimed();
  for (;;) {
    const size_t i = random() % kKeys;
    Slot& slot = slots[i];
    if (slot.record == nullptr || random() % 300 == 0) {
      if (slot.record != nullptr) {
        diary.keys[i] = 0;
        file->Release(slot.record);
      }
      const uint64_t key = diary.next_key++;
      auto r = file->Create(Key(key), Spi{1000}, DirectionOf(i), WindowOf(i), 0);
      if (!r) diary.failed = true;
      if (!r) _exit(1);
      slot = {key, *r};
      diary.Write(key, 0, What::created);
      diary.keys[i] = key;
      continue;
    }
    SaRecord& r = *slot.record;
    if (DirectionOf(i) == Direction::inbound) {
      const uint64_t ahead = 1 + (random() % 20 == 0 ? random() % 300 : random() % 3);
      const uint64_t n = random() % 2 == 0
                             ? r.highest + ahead
                             : r.highest - std::min(r.highest, random() % (kWindow + 2));
      if (CommitReplay(r, Sequence{n}) == Verdict::accepted) {
        diary.Write(slot.key, n, What::packet);
      }
    } else if (const Sequence n = NextSequence(r, true); n != kNoSequence) {
      diary.Write(slot.key, Value(n), What::packet);
    }
  }
}

void Sleep(long nanoseconds) {
  const timespec wait{0, nanoseconds};
  nanosleep(&wait, nullptr);
}

TEST(Kill, NothingIsLetOutTwiceAcrossKills) {
  std::string directory = "/dev/shm/portcullis-test-XXXXXX";
  ASSERT_NE(mkdtemp(directory.data()), nullptr);
  const std::string path = directory + "/state";
  void* shared =
      mmap(nullptr, sizeof(Diary), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(shared, MAP_FAILED);
  Diary& diary = *new (shared) Diary();
  diary.next_key = 1;
  std::mt19937_64 random(TestSeed(11));

  std::map<uint64_t, std::set<uint64_t>> let_out;
  std::set<uint64_t> created;
  uint64_t packets = 0;
  uint64_t resumed_keys = 0;
  constexpr int kLives = 120;
  for (int life = 0; life < kLives; ++life) {
    std::set<uint64_t> before(created);
    diary.count = 0;
    const pid_t child = fork();
    if (child == 0) Live(path, diary, random());
    // Every other child gets far enough to have traffic, however busy the host is; the rest are
    // hit at any time, also while they open the file.
    const uint64_t enough = life % 2 == 0 ? random() % 2000 : 0;
    for (int i = 0; i < 5000 && diary.count < enough && !diary.failed; ++i) Sleep(1'000'000);
    Sleep(static_cast<long>(random() % 4'000'000));
    kill(child, SIGKILL);
    ASSERT_EQ(waitpid(child, nullptr, 0), child);
    ASSERT_FALSE(diary.failed) << "the file did not open, or a fresh key was refused";

    std::set<uint64_t> used;
    for (uint64_t i = 0; i < diary.count; ++i) {
      const Entry& e = diary.entries[i];
      if (e.what == What::created) {
        ASSERT_TRUE(created.insert(e.key).second) << "key " << e.key << " was created twice";
        continue;
      }
      ASSERT_TRUE(let_out[e.key].insert(e.sequence).second)
          << "key " << e.key << " number " << e.sequence << " a second time, in life " << life;
      ++packets;
      used.insert(e.key);
    }
    for (const uint64_t key : used) resumed_keys += before.contains(key) ? 1 : 0;
  }
  // A file that forgets everything, or refuses everything, would pass above.
  EXPECT_GT(packets, 10'000U);
  EXPECT_GT(resumed_keys, 50U);

  auto file = StateFile::Open(path, kCapacity, kBoot);
  ASSERT_TRUE(file) << file.error().Text();
  for (const uint64_t key : created) {
    EXPECT_FALSE(file->Create(Key(key), Spi{1}, Direction::outbound, 0, 0)) << key;
  }
  EXPECT_LE(file->live(), kKeys + 1);
  EXPECT_TRUE(file->Create(Key(diary.next_key), Spi{1}, Direction::outbound, 0, 0));
  munmap(shared, sizeof(Diary));
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace portcullis
