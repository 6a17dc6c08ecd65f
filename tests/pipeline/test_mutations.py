"""Random damage to good packets: not one is accepted, nothing crashes, every one has a verdict.
The C++ tests do the same a million times without ports."""

import random

import pytest

from scapy_esp import ALGORITHMS

COUNT = 4000


def mutate(chance, data):
    """One to four things wrong behind the Ethernet header."""
    out = bytearray(data)
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(14, len(out))
        kind = chance.randrange(6)
        if kind == 0:
            out[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            out[at] = chance.choice((0, 1, 0x7f, 0x80, 0xff, out[at] ^ 0xff))
        elif kind == 2 and len(out) > 40:
            del out[max(20, at):]
        elif kind == 3:
            out[at:at] = chance.randbytes(chance.randrange(1, 9))
        elif kind == 4 and len(out) > 40:
            del out[at:at + chance.randrange(1, 9)]
        else:
            out[at:at + 4] = chance.randbytes(min(4, len(out) - at))
    return bytes(out[:1500])


@pytest.mark.parametrize('outer', (4, 6))
@pytest.mark.parametrize('algorithm', ALGORITHMS)
def test_damaged_packets(gate, algorithm, outer):
    chance = random.Random(f'{algorithm} {outer}')
    link = gate.link(algorithm=algorithm, outer=outer, udp=chance.random() < 0.5)
    gate.accepts(link)
    frames = []
    while len(frames) < COUNT // 10:
        number = link.inbound.sequence + chance.randrange(1, 500)
        good = link.seal(link.request(chance.choice((4, 6)), size=chance.randrange(60)), number)
        bad = mutate(chance, good)
        esp = 34 if outer == 4 else 54
        if outer == 4 and (int.from_bytes(bad[20:22], 'big') & 0x3fff):
            continue  # a fragment: net_af_packet gives those to the kernel first
        # Damage to the outer header alone, or bytes behind the packet, leave the ESP packet what it was.
        if good[esp + (8 if link.inbound.udp else 0):] not in bad:
            frames.append(bad)
    outcome = gate.judge(frames)
    assert 'accepted' not in outcome.verdicts, outcome.verdicts
    assert sum(outcome.verdicts.values()) == len(frames)
    assert outcome.core == [] and outcome.wire == []
    link.inbound.sequence += 1000
    gate.accepts(link)
