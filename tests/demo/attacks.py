"""The attacks of the demo, each a function that sends real packets from the wire and says what it
sent, what the gate made of it and what reached the NSMF.

An attack counts as repelled only when the gate accounts for each packet with a verdict that is
expected for it, and the NSMF's own interface saw nothing that it should not have. Where a refusal
could also come from a gate that refuses everything, the same packet made right follows and must
arrive.
"""

import dataclasses
import itertools
import json
import time

from lab import (CSMF, FLOODER, GATE, INSIDER, INSIDER_BURST_MS, INSIDER_RATE, NSMF, OFF_LIMITS,
                 SERVICE_PORT, WINDOW)
from netns import wait_until
from scapy_esp import Sa, datagram, frame, split, tcp

ATTACKER_MAC = '02:00:00:00:66:66'
RST = 0x04  # a segment that a TCP without the connection ignores: nothing comes back
GAP_SECONDS = 0.02  # between attack packets: the budget for wrong ICVs (100/s) is not the subject
REPLAYS = 32
LARGE_SLICE = '/ProvMnS/v1/SubNetwork=1/NetworkSlice=large'
FLOOD_PACKETS = 4000
FLOOD_RATE = 5 * INSIDER_RATE


@dataclasses.dataclass
class Outcome:
    sent: str
    said: dict      # verdict -> packets
    reached: int
    ok: bool
    note: str = ''


class Attacker:
    """Stands on the wire between the CSMF and the gate; holds the insiders' keys."""

    def __init__(self, lab):
        self.lab = lab
        self.gate_mac = lab.gate.mac('wire0')

    # -- sending and observing

    def send(self, packet):
        self.lab.wire_to_gate.send(frame(packet, self.gate_mac, ATTACKER_MAC))

    def observe(self, count, action):
        """(what the gate said, what reached the NSMF), once it accounted for `count` packets."""
        rest, counter = self.lab.rest, self.lab.counter
        counter.settle()
        before, seen = rest.verdicts(), counter.count()
        action()

        def delta():
            now = rest.verdicts()
            return {name: now[name] - before[name] for name in now if now[name] != before[name]}

        wait_until(lambda: sum(delta().values()) >= count, timeout=5)
        counter.settle()
        return delta(), counter.count() - seen

    def attack(self, packets, what, allowed, reached=0):
        """Sends `packets`; ok when all of them end in `allowed` verdicts and `reached` arrive."""
        def action():
            for packet in packets:
                self.send(packet)
                time.sleep(GAP_SECONDS)
        said, arrived = self.observe(len(packets), action)
        ok = set(said) <= set(allowed) and sum(said.values()) == len(packets) and \
            arrived == reached
        return Outcome(what, said, arrived, ok)

    def twin(self, packet):
        """The same thing made right must pass."""
        return self.attack([packet], '1 packet as it should be', ['accepted'], reached=1)

    def inner(self, who, destination=NSMF, port=SERVICE_PORT, source=None):
        return tcp(source or who[2], destination, 40000, port, flags=RST)

    def sealed(self, who, **inner):
        return self.lab.keys[who].packet(self.inner(who, **inner))

    def captured(self):
        """The CSMF's own protected packets, as they were seen on the wire."""
        packets = []
        for seen in self.lab.wire_from_csmf.frames:
            packet = seen[14:]
            if packet[9] == 50 and int.from_bytes(split(packet)[1][:4], 'big') == \
                    self.lab.csmf_spi:
                packets.append(packet)
        return packets

    def gather(self):
        """Listens until the replays have more history than one window: the CSMF sends large bodies."""
        body = json.dumps({'attributes': {'userLabel': 'x' * 100_000}})

        def enough():
            return len(self.captured()) > WINDOW + 2 * REPLAYS

        wait_until(lambda: enough() or self.lab.curl('PUT', LARGE_SLICE, body)[0] not in (200, 201),
                   timeout=30)
        self.lab.curl('DELETE', LARGE_SLICE)

    # -- the attacks of the issue, in its order

    def cleartext(self):
        packets = [tcp(source, NSMF, 40000 + n, SERVICE_PORT, flags=0x02)
                   for n in range(10) for source in ('192.0.2.66', CSMF[2])]
        yield self.attack(packets, f'{len(packets)} TCP SYNs to the NSMF without ESP, half of them '
                                   f'in the CSMF\'s name', ['xdp_cleartext_denied'])

    def unknown_spi(self):
        stranger = Sa(0xdead0001, CSMF[1], GATE)
        packets = [stranger.packet(self.inner(CSMF)) for _ in range(20)]
        yield self.attack(packets, '20 ESP packets under SPI 0xdead0001', ['xdp_unknown_spi'])

    def forged_icv(self):
        keys = self.lab.keys[INSIDER]
        keys.sequence = 1000  # the numbers next to it are unused
        good = self.sealed(INSIDER)
        esp = split(good)[1]
        forged = []
        for offset in range(len(esp)):
            changed = bytearray(esp)
            changed[offset] ^= 0x01
            forged.append(datagram(INSIDER[1], GATE, 50, bytes(changed)))
        outcome = self.attack(forged, f'{len(forged)} copies of one packet, one byte wrong in each, '
                                      f'every offset from SPI to ICV',
                              ['xdp_unknown_spi', 'auth_failed'])
        # Only a changed SPI can lead elsewhere.
        outcome.ok &= outcome.said.get('xdp_unknown_spi', 0) <= 4
        yield outcome
        yield self.twin(good)

    def exact_replay(self):
        packets = self.captured()[-REPLAYS:]
        yield self.attack(packets, f'the CSMF\'s last {len(packets)} packets again, as captured',
                          ['replayed'])

    def stale_replay(self):
        packets = self.captured()
        old = packets[:max(0, min(REPLAYS, len(packets) - WINDOW - 1))]
        # XDP hears of the window in steps; what it lets through for that, the dataplane drops.
        outcome = self.attack(old, f'the CSMF\'s first {len(old)} packets again, more than '
                                   f'{WINDOW} ago', ['xdp_stale', 'stale'])
        outcome.ok &= len(old) > 0
        yield outcome

    def outside_selectors(self):
        packets = [self.sealed(INSIDER, destination=OFF_LIMITS) for _ in range(10)]
        packets += [self.sealed(INSIDER, port=22) for _ in range(10)]
        yield self.attack(packets, f'10 packets to {OFF_LIMITS} and 10 to port 22, under a valid '
                                   f'key', ['selector_mismatch'])
        yield self.twin(self.sealed(INSIDER))

    def spoofed_source(self):
        packets = [self.sealed(INSIDER, source=CSMF[2]) for _ in range(20)]
        yield self.attack(packets, '20 packets with the CSMF\'s inner source, under the insider\'s '
                                   'key', ['selector_mismatch'])
        yield self.twin(self.sealed(INSIDER))

    def flood(self):
        packets = [self.sealed(FLOODER) for _ in range(FLOOD_PACKETS)]
        times = []

        def action():
            start = time.monotonic()
            times.append(start)
            for number, packet in enumerate(packets):
                if number % 50 == 0:
                    time.sleep(max(0.0, start + number / FLOOD_RATE - time.monotonic()))
                self.send(packet)
            times.append(time.monotonic())

        said, reached = self.observe(len(packets), action)
        seconds = times[1] - times[0]
        contracted = INSIDER_RATE * (seconds + INSIDER_BURST_MS / 1000)
        accepted = said.get('accepted', 0)
        ok = (set(said) == {'accepted', 'rate_limited'} and sum(said.values()) == len(packets) and
              reached == accepted and contracted * 0.8 <= accepted <= contracted * 1.1)
        yield Outcome(f'{len(packets)} valid packets in {seconds:.2f} s from a peer with '
                      f'{INSIDER_RATE}/s', said, reached, ok,
                      f'contract for that time: {contracted:.0f}')


def cases(attacker):
    """(name, outcome) one after the other; each is run when it is asked for."""
    named = (('cleartext to the NSMF', attacker.cleartext),
             ('unknown SPI', attacker.unknown_spi),
             ('forged ICV', attacker.forged_icv),
             ('exact replay', attacker.exact_replay),
             ('stale replay', attacker.stale_replay),
             ('outside its selectors', attacker.outside_selectors),
             ('spoofed inner source', attacker.spoofed_source),
             ('flood above its rate', attacker.flood))
    for name, function in named:
        for number, outcome in zip(itertools.count(), function()):
            yield (name if number == 0 else '  its twin'), outcome
