// The ways of a packet, as lists of stages. inbound.cpp and outbound.cpp are the place to start
// reading. A stage is one function over a burst: it leaves a packet in the burst or drops it with a
// verdict, never allocates, locks, logs, throws or calls the system.
#pragma once

#include <span>
#include <string_view>

#include "dataplane/packet/packet.hpp"

namespace portcullis {

class Worker;

struct Stage {
  std::string_view name;
  void (*run)(Worker&, Burst&) noexcept;
};

std::span<const Stage> InboundStages();   // untrusted → trusted
std::span<const Stage> OutboundStages();  // trusted → untrusted

void Inbound(Worker& worker, Burst& burst) noexcept;
void Outbound(Worker& worker, Burst& burst) noexcept;

// ---- inbound
void ParseInbound(Worker& worker, Burst& burst) noexcept;
void Prefilter(Worker& worker, Burst& burst) noexcept;
void FindSa(Worker& worker, Burst& burst) noexcept;
void ReplayCheck(Worker& worker, Burst& burst) noexcept;
void Open(Worker& worker, Burst& burst) noexcept;
void ReplayCommit(Worker& worker, Burst& burst) noexcept;
void Authorise(Worker& worker, Burst& burst) noexcept;
void PoliceInbound(Worker& worker, Burst& burst) noexcept;
void ForwardInbound(Worker& worker, Burst& burst) noexcept;

// ---- outbound
void ParseOutbound(Worker& worker, Burst& burst) noexcept;
void SelectSa(Worker& worker, Burst& burst) noexcept;
void PoliceOutbound(Worker& worker, Burst& burst) noexcept;
void Seal(Worker& worker, Burst& burst) noexcept;
void ForwardOutbound(Worker& worker, Burst& burst) noexcept;

// ---- both
void Handoff(Worker& worker, Burst& burst) noexcept;

}  // namespace portcullis
