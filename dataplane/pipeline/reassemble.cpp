#include "dataplane/pipeline/reassemble.hpp"

#include <rte_hash_crc.h>
#include <rte_lcore.h>

#include "dataplane/packet/rewrite.hpp"
#include "dataplane/pipeline/host.hpp"
#include "dataplane/worker.hpp"

namespace portcullis {
namespace {

constexpr uint32_t kPacketsAtOnce = 1024;
constexpr uint32_t kAssociativity = 4;
constexpr uint64_t kSecondsToComplete = 1;
constexpr uint64_t kFragmentsPerSecond = 2000;  // of one source

}  // namespace

Result<std::unique_ptr<Reassembler>> Reassembler::Make(unsigned worker, uint64_t tsc_hz) {
  std::unique_ptr<Reassembler> self(new Reassembler());
  if (worker != kWorker) return self;
  self->table_.reset(rte_ip_frag_table_create(kPacketsAtOnce, kAssociativity,
                                              kPacketsAtOnce * kAssociativity,
                                              kSecondsToComplete * tsc_hz, SOCKET_ID_ANY));
  if (!self->table_) {
    return Fail(ErrorKind::kExhausted, "no memory for the fragment table: raise memory.megabytes");
  }
  self->quotas_.fill(Bucket(kFragmentsPerSecond, tsc_hz / 10, tsc_hz, 1));
  return self;
}

Reassembler::~Reassembler() {
  rte_ip_frag_free_death_row(&dead_, 0);
}

Bucket& Reassembler::QuotaOf(const Address& source) noexcept {
  return quotas_[rte_hash_crc(source.bytes().data(), source.bytes().size(), 0) % quotas_.size()];
}

bool Reassembler::Complete(Packet& packet, Worker& worker) noexcept {
  if (!QuotaOf(SourceOf(packet)).Take(worker.now(), 1)) {
    worker.End(packet, Verdict::frag_timeout);
    return false;
  }
  rte_mbuf* mbuf = packet.mbuf;
  uint8_t* ip = packet.At(packet.l3);
  const bool v4 = ip[0] >> 4U == 4;
  // Ethernet padding would become part of the packet.
  const size_t stated = v4 ? rte_be_to_cpu_16(reinterpret_cast<rte_ipv4_hdr*>(ip)->total_length)
                           : sizeof(rte_ipv6_hdr) +
                                 rte_be_to_cpu_16(reinterpret_cast<rte_ipv6_hdr*>(ip)->payload_len);
  rte_pktmbuf_trim(mbuf, static_cast<uint16_t>(packet.From(packet.l3).size() - stated));
  mbuf->l2_len = packet.l3;
  if (v4) {
    auto* header = reinterpret_cast<rte_ipv4_hdr*>(ip);
    mbuf->l3_len = rte_ipv4_hdr_len(header);
    mbuf = rte_ipv4_frag_reassemble_packet(table_.get(), &dead_, mbuf, worker.now(), header);
  } else {
    auto* header = reinterpret_cast<rte_ipv6_hdr*>(ip);
    auto* extension = reinterpret_cast<rte_ipv6_fragment_ext*>(ip + sizeof(*header));
    // rte_ip_frag wants the fragment header first; anything in front of it is a rarity we drop.
    if (header->proto != IPPROTO_FRAGMENT) {
      worker.End(packet, Verdict::fragment);
      return false;
    }
    mbuf->l3_len = sizeof(*header) + sizeof(*extension);
    mbuf = rte_ipv6_frag_reassemble_packet(table_.get(), &dead_, mbuf, worker.now(), header,
                                           extension);
  }
  EndDead(worker);
  if (mbuf == nullptr) return false;
  packet.Begin(mbuf);
  if (rte_pktmbuf_linearize(mbuf) != 0) {
    worker.End(packet, Verdict::no_buffer);
    return false;
  }
  if (v4) SetIpv4Checksum(packet.At(packet.l3));
  return true;
}

void Reassembler::Expire(Worker& worker) noexcept {
  if (!table_) return;
  rte_ip_frag_table_del_expired_entries(table_.get(), &dead_, worker.now());
  EndDead(worker);
}

void Reassembler::EndDead(Worker& worker) noexcept {
  for (uint32_t i = 0; i < dead_.cnt; ++i) {
    Packet packet;
    packet.mbuf = dead_.row[i];
    worker.End(packet, Verdict::frag_timeout);
  }
  dead_.cnt = 0;
}

}  // namespace portcullis
