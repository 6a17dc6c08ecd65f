"""Contracted rates, per SA and per peer, in packets and bits a second. A burst that comes while the
process is stopped is judged within a millisecond or so; what the bucket regains meanwhile is
allowed for by the time that was measured."""

import os
import time

import pytest

from gate import to_core, to_gate
from scapy_esp import Sa


def burst(gate, frames, side='wire'):
    """(accepted, limited, seconds)."""
    begin = time.monotonic()
    outcome = gate.judge(frames, side, burst=True)
    elapsed = time.monotonic() - begin
    assert set(outcome.verdicts) <= {'accepted', 'rate_limited'}
    accepted = outcome.verdicts.get('accepted', 0)
    assert len(outcome.core) + len(outcome.wire) == accepted
    return accepted, outcome.verdicts.get('rate_limited', 0), elapsed


@pytest.mark.parametrize('where', ('sa_rate', 'rate'), ids=('sa', 'peer'))
@pytest.mark.parametrize('side', ('wire', 'core'))
def test_packets_per_second(gate, where, side):
    """1000 packets a second, 100 ms at once: a burst of 400 brings 100, and a little."""
    link = gate.link(**{where: {'packets_per_second': 1000, 'burst_ms': 100}})
    frames = ([link.seal(link.request()) for _ in range(400)] if side == 'wire'
              else [to_core(link.answer())] * 400)
    accepted, limited, elapsed = burst(gate, frames, side)
    assert 100 <= accepted <= 101 + 1000 * elapsed
    assert accepted + limited == 400
    # It refills with time, up to the burst.
    time.sleep(0.05)
    more = frames[:150] if side == 'core' else [link.seal(link.request()) for _ in range(150)]
    accepted, _, elapsed = burst(gate, more, side)
    assert 45 <= accepted <= 52 + 1000 * (elapsed + 0.05)


@pytest.mark.parametrize('where', ('sa_rate', 'rate'), ids=('sa', 'peer'))
def test_bits_per_second(gate, where):
    """4 Mbit/s, 100 ms: 400 kbit, that is 50 packets of 1000 bytes (IP header and up)."""
    link = gate.link(**{where: {'bits_per_second': 4_000_000, 'burst_ms': 100}})
    accepted, _, elapsed = burst(gate, [link.seal(link.request(size=972)) for _ in range(200)])
    assert 50 <= accepted <= 51 + 500 * elapsed
    # Of small packets more fit: 400 kbit are 1250 of 40 bytes.
    time.sleep(0.11)
    accepted, _, elapsed = burst(gate, [link.seal(link.request(size=12)) for _ in range(1000)])
    assert accepted == 1000


def test_a_peers_sas_share_its_rate(gate):
    link = gate.link(rate={'packets_per_second': 1000, 'burst_ms': 100})
    second = dict(link.sas[0], id=f'{link.name}-in-2', spi=link.inbound.spi ^ 0x1000,
                  key=os.urandom(20))
    gate.steer.add_sas([second])
    other = Sa(second['spi'], link.inbound.source, link.inbound.destination,
               key=second['key'])
    frames = []
    for _ in range(200):
        frames.append(link.seal(link.request()))
        frames.append(to_gate(other.packet(link.request())))
    accepted, _, elapsed = burst(gate, frames)
    assert 100 <= accepted <= 101 + 1000 * elapsed


def test_the_directions_are_counted_apart(gate):
    link = gate.link(rate={'packets_per_second': 1000, 'burst_ms': 100})
    burst(gate, [link.seal(link.request()) for _ in range(300)])
    accepted, _, _ = burst(gate, [to_core(link.answer())] * 100, 'core')
    assert accepted == 100


def test_one_peers_flood_takes_nothing_from_another(gate):
    greedy = gate.link(rate={'packets_per_second': 100, 'burst_ms': 100})
    modest = gate.link(rate={'packets_per_second': 1000, 'burst_ms': 100})
    frames = []
    for _ in range(80):
        frames += [greedy.seal(greedy.request()) for _ in range(4)]
        frames.append(modest.seal(modest.request()))
    outcome = gate.judge(frames, burst=True)
    modest_out = [p for p in outcome.core if p == outcome.core[-1]]
    counters = gate.steer.counters(by='peer')
    assert counters[modest.name]['accepted'] == 80
    assert counters[modest.name]['rate_limited'] == 0
    assert counters[greedy.name]['rate_limited'] > 250
    assert modest_out


def test_forgeries_and_replays_cost_the_peer_nothing(gate):
    link = gate.link(rate={'packets_per_second': 10, 'burst_ms': 1000})
    good = [link.seal(link.request()) for _ in range(5)]
    gate.refuses([d[:-1] + bytes([d[-1] ^ 1]) for d in good] * 20, 'auth_failed')
    assert gate.judge(good).verdicts == {'accepted': 5}
    gate.refuses(good * 20, 'replayed')
    accepted, _, _ = burst(gate, [link.seal(link.request()) for _ in range(5)])
    assert accepted == 5


def test_a_new_rate_takes_effect(gate):
    link = gate.link(rate={'packets_per_second': 100, 'burst_ms': 100})
    accepted, _, elapsed = burst(gate, [link.seal(link.request()) for _ in range(100)])
    assert 10 <= accepted <= 11 + 100 * elapsed
    link.peer['rate'] = None
    gate.push_policy(full=False, peers=[link.peer])
    assert gate.judge([link.seal(link.request()) for _ in range(100)]).verdicts == {
        'accepted': 100}
    link.peer['rate'] = {'packets_per_second': 100, 'burst_ms': 100}
    gate.push_policy(full=False, peers=[link.peer])
    accepted, _, elapsed = burst(gate, [link.seal(link.request()) for _ in range(100)])
    assert 10 <= accepted <= 11 + 100 * elapsed


def test_an_unlimited_peer_is_not_limited(gate):
    link = gate.link()
    assert gate.judge([link.seal(link.request()) for _ in range(2000)]).verdicts == {
        'accepted': 2000}
