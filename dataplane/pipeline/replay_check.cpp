// Before any cryptography: is the sequence number one that could still be new? (RFC 4303 3.4.3)
#include "dataplane/esp/header.hpp"
#include "dataplane/esp/sequence.hpp"
#include "dataplane/pipeline/pipeline.hpp"
#include "dataplane/worker.hpp"

namespace portcullis {

void ReplayCheck(Worker& worker, Burst& burst) noexcept {
  worker.Filter(burst, [](Packet& packet) {
    if (packet.sa == nullptr) return Verdict::accepted;
    const Sa& sa = *packet.sa;
    if (packet.esp_length < sa.least_length) return Verdict::malformed;
    const auto* esp = reinterpret_cast<const EspHeader*>(packet.At(packet.esp));
    packet.sequence =
        InferSequence(sa.record->highest, sa.record->window, sa.esn, esp->sequence.host());
    return CheckReplay(*sa.record, packet.sequence);
  });
}

}  // namespace portcullis
