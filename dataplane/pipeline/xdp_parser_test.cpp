// XDP and the dataplane have the same opinion of every frame: what XDP lets through is read again,
// by other code, and a frame that the two understand differently could get around both.
#include <gtest/gtest.h>
#include <sched.h>

#include <cstring>
#include <random>

#include "base/test_seed.hpp"
#include "bpf/replay.hpp"
#include "bpf/shared.h"
#include "bpf/xdp_cases.hpp"
#include "dataplane/pipeline/pipeline.hpp"
#include "dataplane/pipeline/test_gate.hpp"

namespace portcullis {
namespace {

using namespace xdp;

struct Opinion {
  uint32_t kind = REPLAY_UNSEEN;
  uint32_t spi = 0;
  bool operator==(const Opinion&) const = default;
};

/// Changes of the kind that parsers get wrong. What is left at 0 is put right by Finished(), so
/// that most frames get past the first checks.
class Mutator {
 public:
  explicit Mutator(uint64_t seed) : random_(seed) {
    for (const Case& c : WireCases()) seeds_.push_back(c.packet);
    for (const Case& c : InsideCases()) seeds_.push_back(c.packet);
  }

  Bytes Next() {
    Bytes frame = seeds_[Below(seeds_.size())];
    const size_t changes = Below(5);
    for (size_t i = 0; i < changes; ++i) Change(frame);
    if (Below(8) != 0) frame = Finished(std::move(frame));
    for (size_t i = Below(12); i > 10; --i) Change(frame);
    frame.resize(std::clamp<size_t>(frame.size(), 14, REPLAY_FRAME_BYTES));
    return frame;
  }

 private:
  size_t Below(size_t limit) { return limit == 0 ? 0 : random_() % limit; }
  uint8_t Byte() {
    // Header types, versions with lengths, ICMP types, port 4500, fragment bits, the keepalive.
    static constexpr uint8_t kInteresting[] = {0,    1,    4,    6,    17,   43,   44,  50,   51,
                                               58,   60,   0x45, 0x46, 0x4f, 0x60, 135, 0x11, 0x94,
                                               0x20, 0x81, 0x88, 0xa8, 0x86, 0xdd, 8,   7,    0xff};
    return Below(2) == 0 ? kInteresting[Below(std::size(kInteresting))]
                         : static_cast<uint8_t>(random_());
  }
  void Change(Bytes& frame) {
    if (frame.size() <= 14) return;
    const size_t at = 12 + Below(std::min<size_t>(frame.size() - 12, 90));
    const auto here = frame.begin() + static_cast<ptrdiff_t>(at);
    switch (Below(7)) {
      case 0:  // one bit
        *here ^= static_cast<uint8_t>(1U << Below(8));
        break;
      case 1:
      case 2:
        *here = Byte();
        break;
      case 3:  // a few bytes less
        frame.erase(here, here + static_cast<ptrdiff_t>(Below(frame.size() - at) % 9));
        break;
      case 4: {  // another header: extension, fragment, tag
        const Bytes more[] = {Extension(Byte(), static_cast<uint8_t>(Below(3))),
                              Extension(Byte(), 0, 4, static_cast<uint8_t>(Below(2))),
                              FragmentHeader(Byte(), static_cast<uint16_t>(Below(3))), Vlan(kIp4)};
        const Bytes& header = more[Below(std::size(more))];
        frame.insert(here, header.begin(), header.end());
        break;
      }
      case 5:  // cut off
        frame.resize(at);
        break;
      default:  // Ethernet's padding, or data
        frame.resize(frame.size() + Below(40), Byte());
    }
  }

  std::mt19937_64 random_;
  std::vector<Bytes> seeds_;
};

class XdpParser : public PortTest {
 protected:
  void SetUp() override {
    gate_.emplace();  // the EAL before the namespace, since it starts threads
    PortTest::SetUp();
    Attach(XdpRole::kUntrusted, false);
    auto replay = XdpReplay::Load(instance_, kPort, {});
    ASSERT_TRUE(replay) << replay.error().Text();
    replay_ = std::move(*replay);
  }
  void TearDown() override {
    replay_.reset();
    PortTest::TearDown();
    gate_.reset();
  }

  /// What the stage `parse` makes of it.
  Opinion Dataplane(const replay_frame& frame) {
    rte_mbuf* mbuf = rte_pktmbuf_alloc(TestGate::Pool());
    EXPECT_NE(mbuf, nullptr);
    std::memcpy(rte_pktmbuf_append(mbuf, static_cast<uint16_t>(frame.length)), frame.bytes,
                frame.length);
    burst_.Begin({&mbuf, 1});
    const uint64_t malformed = gate_->Count(Verdict::malformed);
    ParseInbound(gate_->worker(), burst_);
    if (burst_.empty()) {
      return {gate_->Count(Verdict::malformed) != malformed ? REPLAY_MALFORMED : REPLAY_FRAGMENT};
    }
    const Packet& packet = burst_.packets[0];
    Opinion opinion;
    switch (packet.kind) {
      case Kind::esp:
        opinion.kind = REPLAY_ESP;
        std::memcpy(&opinion.spi, packet.At(packet.esp), sizeof(opinion.spi));
        break;
      case Kind::keepalive:
      case Kind::ike:
      case Kind::icmp_error:
        opinion.kind = REPLAY_ABOUT;
        break;
      case Kind::not_ip:
        opinion.kind = REPLAY_NOT_IP;
        break;
      default:
        opinion.kind = REPLAY_CLEAR;
    }
    rte_pktmbuf_free(mbuf);
    return opinion;
  }

  static Opinion Xdp(const replay_frame& frame) {
    return {frame.kind, frame.kind == REPLAY_ESP ? frame.spi : 0};
  }
  /// Whether the verdict is one that a packet of this kind may have, to whomever it is addressed.
  static bool Plausible(const replay_frame& frame) {
    const Verdict verdict = kFirstLineVerdicts.at(frame.counter);
    const bool nobodys = verdict == Verdict::not_for_us || verdict == Verdict::cleartext_denied;
    switch (frame.kind) {
      case REPLAY_MALFORMED:  // to others the transport is not looked at
        return verdict == Verdict::malformed || nobodys;
      case REPLAY_NOT_IP:
        return verdict == Verdict::exception || verdict == Verdict::not_for_us;
      case REPLAY_FRAGMENT:
        return verdict == Verdict::fragment || nobodys;
      case REPLAY_ESP:
        return verdict == Verdict::accepted || verdict == Verdict::unknown_spi || nobodys;
      case REPLAY_ABOUT:
        return verdict == Verdict::accepted || nobodys;
      default:
        return verdict == Verdict::exception || nobodys;
    }
  }
  static std::string Hex(const replay_frame& frame) {
    std::string text;
    for (uint32_t i = 0; i < frame.length; ++i) text += fmt::format("{:02x}", frame.bytes[i]);
    return text;
  }
  /// Puts frames to both, in one run each, and says how many there were of each kind.
  std::array<uint64_t, REPLAY_CLEAR + 1> Compare(std::span<const Bytes> frames) {
    std::array<uint64_t, REPLAY_CLEAR + 1> seen{};
    const auto out = replay_->frames();
    for (size_t i = 0; i < frames.size(); ++i) {
      out[i] = {.length = static_cast<uint32_t>(frames[i].size())};
      std::memcpy(out[i].bytes, frames[i].data(), frames[i].size());
    }
    const auto ran =
        replay_->Run(XdpReplay::Program::kClassify, static_cast<uint32_t>(frames.size()));
    EXPECT_TRUE(ran) << ran.error().Text();
    int differences = 0;
    for (const replay_frame& frame : out.first(frames.size())) {
      ++seen.at(frame.kind);
      const Opinion dataplane = Dataplane(frame);
      if (dataplane == Xdp(frame) && Plausible(frame)) continue;
      ADD_FAILURE() << "XDP: kind " << frame.kind << ", SPI " << frame.spi << ", "
                    << Info(kFirstLineVerdicts.at(frame.counter)).name << "; dataplane: kind "
                    << dataplane.kind << ", SPI " << dataplane.spi << ": " << Hex(frame);
      if (++differences == 20) break;
    }
    return seen;
  }

  std::optional<TestGate> gate_;
  std::optional<XdpReplay> replay_;
  Burst burst_;
};

TEST_F(XdpParser, AgreesOnEveryCase) {
  std::vector<Bytes> frames;
  for (const Case& c : WireCases()) frames.push_back(Finished(c.packet));
  for (Bytes& frame : frames) frame.resize(std::min<size_t>(frame.size(), REPLAY_FRAME_BYTES));
  const auto seen = Compare(frames);
  for (uint32_t kind = REPLAY_MALFORMED; kind <= REPLAY_CLEAR; ++kind) EXPECT_GT(seen[kind], 0U);
}

// 1.2 million in the long fuzz of ./run check, which repeats it 30 times with other numbers.
TEST_F(XdpParser, MutationsAreTheSameInBothParsers) {
  constexpr size_t kFrames = 40'000;
  Mutator mutator(TestSeed(5));
  std::vector<Bytes> frames;
  for (size_t i = 0; i < kFrames; ++i) frames.push_back(mutator.Next());
  const auto seen = Compare(frames);
  // It would prove nothing if all were nonsense.
  for (uint32_t kind = REPLAY_MALFORMED; kind <= REPLAY_CLEAR; ++kind) {
    EXPECT_GT(seen[kind], kFrames / 200) << kind;
  }
}

}  // namespace
}  // namespace portcullis
