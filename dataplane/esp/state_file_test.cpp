// The file across restarts, kills and reboots.
#include "dataplane/esp/state_file.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <set>

#include "dataplane/esp/state_layout.hpp"

namespace portcullis {
namespace {

constexpr uint32_t kCapacity = 64;
constexpr std::string_view kBoot = "11111111-2222-3333-4444-555555555555";
constexpr std::string_view kNextBoot = "66666666-7777-8888-9999-000000000000";
constexpr auto kIn = Direction::inbound;
constexpr auto kOut = Direction::outbound;

Fingerprint Key(uint64_t number) {
  Fingerprint f{};
  f[15] = 1;
  std::memcpy(f.data(), &number, sizeof(number));
  return f;
}

class StateFileTest : public testing::Test {
 protected:
  StateFileTest() {
    std::string name = "/dev/shm/portcullis-test-XXXXXX";
    directory_ = mkdtemp(name.data());
    path_ = directory_ + "/state";
  }
  ~StateFileTest() override { std::filesystem::remove_all(directory_); }

  StateFile Open(std::string_view boot = kBoot) {
    auto opened = StateFile::Open(path_, kCapacity, boot);
    if (!opened) throw std::runtime_error(opened.error().Text());
    return std::move(*opened);
  }
  Error Refused(uint32_t capacity = kCapacity, std::string_view boot = kBoot) {
    auto opened = StateFile::Open(path_, capacity, boot);
    EXPECT_FALSE(opened);
    return opened ? Error{} : opened.error();
  }
  template <class T>
  void Poke(off_t offset, T value) {
    const int fd = open(path_.c_str(), O_RDWR | O_CLOEXEC);
    ASSERT_EQ(pwrite(fd, &value, sizeof(value), offset), static_cast<ssize_t>(sizeof(value)));
    close(fd);
  }

  std::string directory_;
  std::string path_;
};

TEST_F(StateFileTest, RecordSurvivesTheProcess) {
  {
    StateFile file = Open();
    SaRecord* r = file.Create(Key(1), Spi{0x1001}, kIn, 1024, 77).value();
    EXPECT_EQ(CommitReplay(*r, Sequence{500}), Verdict::accepted);
    EXPECT_EQ(CommitReplay(*r, Sequence{499}), Verdict::accepted);
    CountPackets(*r, 1, 1400);
    SaRecord* out = file.Create(Key(2), Spi{0x2002}, kOut, 0, 78).value();
    EXPECT_EQ(NextSequence(*out, true), Sequence{1});
    EXPECT_EQ(NextSequence(*out, true), Sequence{2});
    EXPECT_EQ(file.live(), 2U);
    EXPECT_EQ(file.unclaimed(), 0U);
  }
  StateFile file = Open();
  EXPECT_EQ(file.live(), 2U);
  EXPECT_EQ(file.unclaimed(), 2U);
  SaRecord* r = file.Resume(Key(1), Spi{0x1001}, kIn, 1024).value();
  EXPECT_EQ(CheckReplay(*r, Sequence{500}), Verdict::replayed);
  EXPECT_EQ(CheckReplay(*r, Sequence{499}), Verdict::replayed);
  EXPECT_EQ(CheckReplay(*r, Sequence{498}), Verdict::accepted);
  EXPECT_EQ(r->packets, 1U);
  EXPECT_EQ(r->bytes, 1400U);
  EXPECT_EQ(r->born_boot_ns, 77U);
  SaRecord* out = file.Resume(Key(2), Spi{0x2002}, kOut, 0).value();
  EXPECT_EQ(NextSequence(*out, true), Sequence{3});
  EXPECT_EQ(file.unclaimed(), 0U);
}

TEST_F(StateFileTest, KnownKeyIsNoNewKey) {
  StateFile file = Open();
  SaRecord* r = file.Create(Key(1), Spi{300}, kIn, 64, 0).value();
  auto again = file.Create(Key(1), Spi{300}, kIn, 64, 0);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().kind, ErrorKind::kConflict);
  EXPECT_EQ(again.error().message.find("this key was used before"), 0U);
  // Nor in the other direction: two senders under one GCM key repeat its nonces.
  EXPECT_FALSE(file.Create(Key(1), Spi{301}, kOut, 0, 0));
  file.Release(r);
  EXPECT_EQ(file.live(), 0U);
  EXPECT_FALSE(file.Create(Key(1), Spi{300}, kIn, 64, 0));
  EXPECT_TRUE(file.Create(Key(2), Spi{300}, kIn, 64, 0));
}

TEST_F(StateFileTest, KnownKeyStaysKnownAcrossProcesses) {
  {
    StateFile file = Open();
    file.Release(file.Create(Key(1), Spi{300}, kIn, 64, 0).value());
  }
  StateFile file = Open();
  EXPECT_TRUE(file.IsKnown(Key(1)));
  EXPECT_FALSE(file.Create(Key(1), Spi{300}, kIn, 64, 0));
  EXPECT_TRUE(file.Create(Key(2), Spi{300}, kIn, 64, 0));
}

// From its creation on, not only from its release: even if the record were lost, the key is not.
TEST_F(StateFileTest, KnownKeyDoesNotDependOnItsRecord) {
  { Open().Create(Key(1), Spi{300}, kIn, 64, 0).value(); }
  const auto record = static_cast<off_t>(StateLayout(kCapacity).records_offset);
  Poke(record + static_cast<off_t>(offsetof(SaRecord, live)), uint8_t{0});
  StateFile file = Open();
  EXPECT_EQ(file.live(), 0U);
  EXPECT_TRUE(file.IsKnown(Key(1)));
  EXPECT_FALSE(file.Create(Key(1), Spi{300}, kIn, 64, 0));
  EXPECT_TRUE(file.Create(Key(2), Spi{300}, kIn, 64, 0));
}

TEST_F(StateFileTest, ResumeNeedsItsVeryRecord) {
  { Open().Create(Key(1), Spi{300}, kIn, 100, 0).value(); }
  StateFile file = Open();
  const auto kind = [](const Result<SaRecord*>& r) { return r.error().kind; };
  EXPECT_EQ(kind(file.Resume(Key(9), Spi{300}, kIn, 100)), ErrorKind::kNotFound);
  EXPECT_EQ(kind(file.Resume(Key(1), Spi{301}, kIn, 100)), ErrorKind::kConflict);
  EXPECT_EQ(kind(file.Resume(Key(1), Spi{300}, kOut, 100)), ErrorKind::kConflict);
  EXPECT_EQ(kind(file.Resume(Key(1), Spi{300}, kIn, 64)), ErrorKind::kConflict);
  ASSERT_TRUE(file.Resume(Key(1), Spi{300}, kIn, 100));
  EXPECT_EQ(kind(file.Resume(Key(1), Spi{300}, kIn, 100)), ErrorKind::kConflict) << "twice";
}

TEST_F(StateFileTest, ReleasedRecordIsNotResumed) {
  {
    StateFile file = Open();
    file.Release(file.Create(Key(1), Spi{300}, kIn, 64, 0).value());
    ASSERT_TRUE(file.Create(Key(2), Spi{301}, kIn, 64, 0));
  }
  StateFile file = Open();
  EXPECT_FALSE(file.Resume(Key(1), Spi{300}, kIn, 64));
  EXPECT_TRUE(file.Resume(Key(2), Spi{301}, kIn, 64));
}

TEST_F(StateFileTest, UnclaimedRecordsGoOnRequest) {
  {
    StateFile file = Open();
    ASSERT_TRUE(file.Create(Key(1), Spi{300}, kIn, 64, 0));
    ASSERT_TRUE(file.Create(Key(2), Spi{301}, kIn, 64, 0));
  }
  StateFile file = Open();
  ASSERT_TRUE(file.Resume(Key(1), Spi{300}, kIn, 64));
  EXPECT_EQ(file.ReleaseUnclaimed(), 1U);
  EXPECT_EQ(file.live(), 1U);
  EXPECT_FALSE(file.Resume(Key(2), Spi{301}, kIn, 64));
  EXPECT_FALSE(file.Create(Key(2), Spi{301}, kIn, 64, 0));
}

TEST_F(StateFileTest, RebootKillsRecordsAndRemembersKeys) {
  { Open().Create(Key(1), Spi{300}, kIn, 64, 0).value(); }
  {
    StateFile file = Open(kNextBoot);
    EXPECT_EQ(file.live(), 0U);
    const auto resumed = file.Resume(Key(1), Spi{300}, kIn, 64);
    ASSERT_FALSE(resumed);
    EXPECT_EQ(resumed.error().kind, ErrorKind::kNotFound);
    EXPECT_FALSE(file.Create(Key(1), Spi{300}, kIn, 64, 0));
    ASSERT_TRUE(file.Create(Key(2), Spi{300}, kIn, 64, 0));
  }
  StateFile file = Open(kNextBoot);
  EXPECT_TRUE(file.Resume(Key(2), Spi{300}, kIn, 64)) << "the same boot goes on";
}

TEST_F(StateFileTest, CapacityAndRoomForRings) {
  StateFile file = Open();
  std::vector<SaRecord*> records;
  for (uint32_t i = 0; i < kCapacity; ++i) {
    // Every second one inbound with the largest window: the layout promises room for these.
    records.push_back(
        file.Create(Key(i), Spi{300 + i}, i % 2 == 0 ? kIn : kOut, kMaxReplayWindow, 0).value());
  }
  const auto full = file.Create(Key(1000), Spi{1}, kOut, 0, 0);
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().kind, ErrorKind::kExhausted);
  for (SaRecord* r : records) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(r) % 64, 0U);
    EXPECT_EQ(r->word_mask + 1U, r->direction == 0 ? RingWords(kMaxReplayWindow) : 1U);
  }
  file.Release(records[1]);
  const auto no_ring = file.Create(Key(1001), Spi{1}, kIn, kMaxReplayWindow, 0);
  ASSERT_FALSE(no_ring);
  EXPECT_EQ(no_ring.error().kind, ErrorKind::kExhausted);
  EXPECT_FALSE(file.IsKnown(Key(1001))) << "a refused key was never used";
  EXPECT_TRUE(file.Create(Key(1000), Spi{1}, kOut, 0, 0));
  EXPECT_FALSE(file.Create(Key(1002), Spi{1}, kIn, kMaxReplayWindow + 1, 0));
}

// Rings of all sizes come and go; none overlaps another, and each comes back empty.
TEST_F(StateFileTest, RingsNeverOverlap) {
  std::mt19937_64 random(4);
  std::optional<StateFile> file(Open());
  std::map<uint64_t, SaRecord*> records;
  std::map<uint64_t, uint32_t> windows;
  uint64_t next = 1;
  for (int i = 0; i < 3000; ++i) {
    if (records.size() < 40 && random() % 2 == 0) {
      const auto window = static_cast<uint32_t>(1 + random() % kMaxReplayWindow);
      auto r = file->Create(Key(next), Spi{300}, kIn, window, 0);
      if (!r) continue;
      for (uint32_t w = 0; w <= (*r)->word_mask; ++w) ASSERT_EQ((*r)->words()[w], 0U);
      std::fill_n((*r)->words(), (*r)->word_mask + 1, next);
      windows[next] = window;
      records[next++] = *r;
    } else if (!records.empty()) {
      const auto it = std::next(records.begin(), static_cast<ptrdiff_t>(random() % records.size()));
      file->Release(it->second);
      records.erase(it);
    }
    if (i % 500 == 499) {
      file.reset();
      file.emplace(Open());
      for (auto& [number, r] : records) {
        r = file->Resume(Key(number), Spi{300}, kIn, windows.at(number)).value();
      }
      ASSERT_EQ(file->unclaimed(), 0U);
    }
    for (const auto& [number, r] : records) {
      for (uint32_t w = 0; w <= r->word_mask; ++w) ASSERT_EQ(r->words()[w], number);
    }
  }
  EXPECT_GT(next, 500U);
}

TEST_F(StateFileTest, HistoryForgetsTheOldestOnly) {
  const StateLayout layout(kCapacity);
  ASSERT_GE(layout.history, 65536U);
  ASSERT_GE(StateLayout(100'000).history, 400'000U);
  StateFile file = Open();
  SaRecord* old = file.Create(Key(1), Spi{300}, kIn, 64, 0).value();
  for (uint64_t i = 2; i <= layout.history + 2; ++i) {
    file.Release(file.Create(Key(i), Spi{300}, kOut, 0, 0).value());
  }
  EXPECT_TRUE(file.IsKnown(Key(1))) << "its record lives";
  EXPECT_FALSE(file.IsKnown(Key(2))) << "further back than the history goes";
  EXPECT_TRUE(file.IsKnown(Key(3)));
  file.Release(old);
  EXPECT_TRUE(file.IsKnown(Key(1))) << "written anew when its record went";
  EXPECT_FALSE(file.IsKnown(Key(3)));
}

// ---- what may lie there instead of the file

TEST_F(StateFileTest, SecondOpenerIsRefusedWhileTheFirstRuns) {
  int ready[2];
  ASSERT_EQ(pipe2(ready, O_CLOEXEC), 0);
  const pid_t first = fork();
  if (first == 0) {
    const auto file = StateFile::Open(path_, kCapacity, kBoot);
    const char ok = file ? 'y' : 'n';
    if (write(ready[1], &ok, 1) == 1) pause();
    _exit(1);
  }
  char ok = 0;
  ASSERT_EQ(read(ready[0], &ok, 1), 1);
  ASSERT_EQ(ok, 'y');
  const Error error = Refused();
  EXPECT_EQ(error.kind, ErrorKind::kUnavailable);
  EXPECT_NE(error.message.find(fmt::format("process {} (", first)), std::string::npos)
      << error.Text();
  kill(first, SIGKILL);
  waitpid(first, nullptr, 0);
  EXPECT_TRUE(StateFile::Open(path_, kCapacity, kBoot)) << "killed, not closed: it opens";
  close(ready[0]);
  close(ready[1]);
}

TEST_F(StateFileTest, PrivateToItsOwner) {
  { Open(); }
  struct stat status {};
  ASSERT_EQ(stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0600U);
  chmod(path_.c_str(), 0644);
  EXPECT_NE(Refused().Text().find("chmod 600"), std::string::npos);
  chmod(path_.c_str(), 0600);
  EXPECT_TRUE(StateFile::Open(path_, kCapacity, kBoot));
}

TEST_F(StateFileTest, LinksAreNotFollowed) {
  { Open(); }
  const std::string real = path_ + ".real";
  std::filesystem::rename(path_, real);
  std::filesystem::create_symlink(real, path_);
  EXPECT_NE(Refused().Text().find("symbolic link"), std::string::npos);
  std::filesystem::remove(path_);
  std::filesystem::create_hard_link(real, path_);
  EXPECT_NE(Refused().Text().find("hard links"), std::string::npos);
  std::filesystem::remove(real);
  EXPECT_TRUE(StateFile::Open(path_, kCapacity, kBoot));
}

TEST_F(StateFileTest, ForeignAndDamagedFiles) {
  { Open().Create(Key(1), Spi{300}, kIn, 64, 0).value(); }
  const auto keep = directory_ + "/keep";
  std::filesystem::copy_file(path_, keep);
  const auto restore = [&] {
    std::filesystem::copy_file(keep, path_, std::filesystem::copy_options::overwrite_existing);
  };

  Poke(offsetof(StateHeader, magic), uint64_t{42});
  EXPECT_NE(Refused().Text().find("no Portcullis state file"), std::string::npos);
  restore();
  Poke(offsetof(StateHeader, version), kStateVersion + 1);
  EXPECT_NE(Refused().Text().find("another version"), std::string::npos);
  restore();
  Poke(offsetof(StateHeader, history), uint32_t{5});
  EXPECT_NE(Refused().Text().find("damaged"), std::string::npos);
  restore();
  const Error capacity = Refused(kCapacity * 2);
  EXPECT_EQ(capacity.expected, "capacity 128");
  EXPECT_EQ(capacity.found, "capacity 64");
  EXPECT_EQ(capacity.where, path_);

  std::filesystem::resize_file(path_, std::filesystem::file_size(path_) - 4096);
  EXPECT_NE(Refused().Text().find("damaged"), std::string::npos);
  std::filesystem::resize_file(path_, 100);
  EXPECT_NE(Refused().Text().find("cut short"), std::string::npos);
  restore();

  // The one live record is the first: a ring outside the arena, a mask that is none.
  const auto record = static_cast<off_t>(StateLayout(kCapacity).records_offset);
  Poke(record + static_cast<off_t>(offsetof(SaRecord, words_offset)), uint32_t{0xffffff00});
  EXPECT_NE(Refused().Text().find("record 0"), std::string::npos);
  restore();
  Poke(record + static_cast<off_t>(offsetof(SaRecord, word_mask)), uint16_t{255});
  EXPECT_NE(Refused().Text().find("record 0"), std::string::npos);
  restore();

  StateFile file = Open();
  EXPECT_TRUE(file.Resume(Key(1), Spi{300}, kIn, 64)) << "undamaged, it goes on";
}

TEST_F(StateFileTest, MakingCutShortIsMadeAnew) {
  std::ofstream(path_).close();
  chmod(path_.c_str(), 0600);
  { EXPECT_TRUE(StateFile::Open(path_, kCapacity, kBoot)) << "empty"; }
  std::filesystem::remove(path_);
  std::ofstream(path_).close();
  chmod(path_.c_str(), 0600);
  std::filesystem::resize_file(path_, 12345);
  Poke(offsetof(StateHeader, version), kStateVersion);
  StateFile file = Open();
  EXPECT_TRUE(file.Create(Key(1), Spi{300}, kIn, 64, 0));
}

TEST_F(StateFileTest, WrongParameters) {
  EXPECT_EQ(Refused(0).kind, ErrorKind::kInvalid);
  EXPECT_EQ(Refused(kMaxCapacity + 1).kind, ErrorKind::kInvalid);
  EXPECT_EQ(Refused(kCapacity, "").kind, ErrorKind::kInvalid);
  EXPECT_EQ(Refused(kCapacity, std::string(60, 'x')).kind, ErrorKind::kInvalid);
  StateFile file = Open();
  EXPECT_FALSE(file.Create(Fingerprint{}, Spi{300}, kIn, 64, 0));
}

TEST(Fingerprint, Parse) {
  EXPECT_EQ(ParseFingerprint("000102030405060708090a0b0c0d0eff").value(),
            (Fingerprint{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255}));
  EXPECT_FALSE(ParseFingerprint("000102030405060708090a0b0c0d0ef"));
  EXPECT_FALSE(ParseFingerprint("000102030405060708090a0b0c0d0efg"));
  EXPECT_FALSE(ParseFingerprint("0x0102030405060708090a0b0c0d0e0f"));
  EXPECT_FALSE(ParseFingerprint(""));
}

TEST(BootId, IsThere) {
  EXPECT_EQ(ReadBootId().value().size(), 36U);
}

}  // namespace
}  // namespace portcullis
