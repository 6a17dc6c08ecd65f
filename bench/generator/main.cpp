// portcullis-generator: valid ESP at a paced rate towards a gate, and a count of what comes out on
// its other side. docs/benchmarking.md says how to use it.
//
//   portcullis-generator --write-lab lab --sas 100
//   portcullis-generator --config lab/generator.conf --wire-port 0000:3b:00.0 --core-port
//   0000:3b:00.1
#include <fmt/format.h>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_launch.h>
#include <rte_lcore.h>

#include <atomic>
#include <csignal>
#include <memory>
#include <random>

#include "bench/generator/device.hpp"
#include "bench/generator/lab.hpp"
#include "bench/generator/neighbour.hpp"
#include "bench/generator/receiver.hpp"
#include "bench/generator/report.hpp"
#include "bench/generator/sender.hpp"
#include "bench/generator/sequence_file.hpp"

namespace portcullis::generator {
namespace {

volatile std::sig_atomic_t interrupted = 0;

// One sender and who waits for it.
struct Lane {
  std::unique_ptr<Sender> sender;
  std::atomic<bool> done = false;        // everything is sent
  std::atomic<bool>* drained = nullptr;  // the receiver is through

  void Poll() {
    if (!done.load(std::memory_order_relaxed) && (interrupted != 0 || !sender->Poll())) done = true;
    sender->SendReplies();
  }
};

int RunSender(void* argument) {
  auto& lane = *static_cast<Lane*>(argument);
  while (!lane.drained->load(std::memory_order_relaxed)) lane.Poll();
  return 0;
}

// The MAC to send to. The gate meets us on the other side, too, where it will have to send.
MacBytes MeetGate(const Options& o, const Devices& devices) {
  const bool wire_side = o.direction == Direction::inbound;
  const auto gate = FindGate(o, devices, wire_side, 5);
  if (!gate) {
    Die(fmt::format("{} does not answer ARP: is the gate up, the cable right? Otherwise say {}",
                    Ipv4Text(wire_side ? o.gate_wire : o.gate_core),
                    wire_side ? "--gate-wire-mac" : "--gate-core-mac"));
  }
  if (!devices.OnePort() && !o.send_only && !FindGate(o, devices, !wire_side, 1)) {
    fmt::print(stderr, "portcullis-generator: {} does not answer ARP where packets should arrive\n",
               Ipv4Text(wire_side ? o.gate_core : o.gate_wire));
  }
  return *gate;
}

void Run(const Options& o) {
  if (!o.esn && o.packets > UINT32_MAX / 2) Die("without ESN at most 2^31 packets");
  Devices devices(o);
  auto engine = MakeIpsecMbEngine();
  if (!engine) Die(engine.error().Text());
  const Keys keys(o, **engine);
  const bool inbound = o.direction == Direction::inbound;
  const MacBytes gate = MeetGate(o, devices);
  SequenceFile sequence(inbound ? o.sequence_file : "", o.packets);
  if (!o.esn && sequence.first() + o.packets > UINT32_MAX) {
    Die("the 32-bit sequence numbers are used up: make a new laboratory (--write-lab)");
  }
  const uint32_t run = std::random_device{}();
  Receiver receiver(o, devices, keys, run);
  const uint64_t hz = rte_get_tsc_hz();
  // The gate's dataplane hears of its new neighbours from its kernel meanwhile.
  const uint64_t start = rte_rdtsc() + hz / 10;
  const bool alone = o.cores.size() == 1;
  std::atomic<bool> drained = false;
  const auto lanes = std::make_unique<Lane[]>(devices.senders);
  for (unsigned i = 0; i < devices.senders; ++i) {
    lanes[i].sender = std::make_unique<Sender>(SenderConfig{.options = o,
                                                            .devices = devices,
                                                            .keys = keys,
                                                            .gate = gate,
                                                            .run = run,
                                                            .first_sequence = sequence.first(),
                                                            .index = i});
    lanes[i].drained = &drained;
    // Evenly interleaved: together they are one stream of the whole rate.
    const double behind = o.rate > 0 ? i * static_cast<double>(hz) / o.rate : 0;
    lanes[i].sender->Start(start + static_cast<uint64_t>(behind));
  }
  for (unsigned i = 0; !alone && i < devices.senders; ++i) {
    rte_eal_remote_launch(RunSender, &lanes[i], i + 1);
  }
  const uint64_t drain = uint64_t{o.drain_ms} * hz / 1000;
  uint64_t end = UINT64_MAX;  // until all is sent, which each sender's own time bounds
  while (rte_rdtsc() < end) {
    receiver.Poll();
    if (alone) lanes[0].Poll();
    if (end != UINT64_MAX) continue;
    unsigned done = 0;
    while (done < devices.senders && lanes[done].done) ++done;
    if (done == devices.senders) end = rte_rdtsc() + drain;
  }
  drained = true;
  rte_eal_mp_wait_lcore();
  Sent sent{.highest_sequence = sequence.first() - 1};
  for (unsigned i = 0; i < devices.senders; ++i) sent.Add(lanes[i].sender->sent());
  sequence.Used(sent.highest_sequence);
  Report(o, sent, receiver.Result(), static_cast<double>(hz));
}

}  // namespace
}  // namespace portcullis::generator

int main(int argc, char** argv) {
  using namespace portcullis::generator;  // NOLINT
  const Options options = ParseOptions(argc, argv);
  if (!options.write_lab.empty()) {
    WriteLab(options);
    return 0;
  }
  // Interrupted, it still reports, and keeps its sequence numbers.
  std::signal(SIGINT, [](int) { interrupted = 1; });
  std::signal(SIGTERM, [](int) { interrupted = 1; });
  StartEal(options);
  Run(options);
  rte_eal_cleanup();
}
