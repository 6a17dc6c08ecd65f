"""A flood of forgeries at a live SPI: what it may cost, and that it never switches the peer off."""

import random
import struct
import time

import pytest

from gate import GATE, await_event, to_core, to_gate
from scapy_esp import datagram
from steer_client import SteerClient

STRANGER = '203.0.113.66'
BUDGET = {'per_second': 100, 'suspect_seconds': 1, 'cpu_percent': 10}


@pytest.fixture(scope='module', params=[1, 2], ids=['one worker', 'two workers'])
def strict(make_gate, request):
    return make_gate(auth_failures=BUDGET, workers=request.param)


def garbage(link, source, count, chance=random.Random(3)):
    """ESP with the right SPI and plausible numbers, and nothing else right."""
    for _ in range(count):
        number = link.inbound.sequence + chance.randrange(1, 1 << 20)
        body = struct.pack('!II', link.inbound.spi, number) + chance.randbytes(100)
        yield to_gate(datagram(source, GATE[4], 50, body))


def flood(gate, link, source, rounds=100, at_once=50):
    """Garbage with two good packets in each round. Returns (good sent, outcome)."""
    good = 0
    for _ in range(rounds):
        for data in garbage(link, source, at_once):
            gate.wires['wire'].send(data)
        for _ in range(2):
            gate.wires['wire'].send(link.seal(link.request()))
            good += 1
        time.sleep(0.002)
    return good, gate.judge(counted=good + rounds * at_once)


@pytest.mark.parametrize('rate', (None, {'packets_per_second': 2000, 'burst_ms': 100}),
                         ids=('no rate', 'with a rate'))
def test_the_peer_keeps_its_goodput(strict, rate):
    link = strict.link(rate=rate)
    strict.accepts(link)
    good, outcome = flood(strict, link, STRANGER)
    verdicts = outcome.verdicts
    assert set(verdicts) <= {'accepted', 'auth_failed', 'auth_throttled'}
    assert verdicts['accepted'] >= 0.95 * good
    assert len(outcome.core) == verdicts['accepted']
    assert verdicts['auth_throttled'] > 4000  # of 5000
    # The budget of a second, what a stranger still gets, and some slack for a slow machine.
    assert 100 <= verdicts['auth_failed'] <= 400


def test_it_is_said_and_it_ends(strict):
    with SteerClient(strict.socket_path) as listener:
        listener.hello()
        listener.subscribe()
        link = strict.link()
        strict.accepts(link)
        assert not link.state().suspect
        flood(strict, link, STRANGER)
        assert await_event(listener, 'sa_suspect', f'{link.name}-in', 4)
        assert await_event(listener, 'sa_unsuspect', f'{link.name}-in', 6)
    assert not link.state().suspect
    strict.accepts(link)
    # The budget is there again: forgeries are looked at, not throttled.
    strict.refuses(list(garbage(link, STRANGER, 20)), 'auth_failed')


def test_other_peers_are_not_concerned(strict):
    link, other = strict.link(), strict.link()
    strict.accepts(other)
    for data in garbage(link, STRANGER, 3000):
        strict.wires['wire'].send(data)
    frames = [other.seal(other.request()) for _ in range(100)]
    for data in frames:
        strict.wires['wire'].send(data)
    verdicts = strict.judge(counted=3100).verdicts
    assert verdicts['auth_throttled'] > 2000
    counters = strict.steer.counters(by='peer')
    assert counters[other.name]['accepted'] == 101
    # Most end in the first line, before anybody asks whose they are.
    assert 0 < counters[link.name]['auth_throttled'] < 1000


def test_spoofing_the_peers_own_endpoint_has_a_limit_too(strict):
    """From the peer's own address the limit is a few times its contracted rate, before crypto."""
    link = strict.link(rate={'packets_per_second': 100, 'burst_ms': 100})
    strict.accepts(link)
    for data in garbage(link, '192.0.2.2', 3000):
        strict.wires['wire'].send(data)
    verdicts = strict.judge(counted=3000).verdicts
    assert verdicts['auth_throttled'] > 1500
    assert set(verdicts) == {'auth_failed', 'auth_throttled'}
    # Never for good: within its contract the peer passes as soon as the flood pauses.
    time.sleep(0.2)
    strict.accepts(link)


def test_a_moved_peer_can_still_show_itself(strict):
    """Strangers get a small bucket, so that a peer behind a NAT that moved is heard: one authentic
    packet makes the new address its own."""
    link = strict.link()
    strict.accepts(link)
    link.inbound.source = '203.0.113.80'
    for data in garbage(link, STRANGER, 1000):
        strict.wires['wire'].send(data)
    strict.judge(counted=1000)
    deadline = time.monotonic() + 3
    while True:
        verdicts = strict.judge(link.seal(link.request())).verdicts
        if verdicts == {'accepted': 1}:
            break
        assert verdicts == {'auth_throttled': 1} and time.monotonic() < deadline
        time.sleep(0.02)
    frames = [link.seal(link.request()) for _ in range(200)]
    assert strict.judge(frames).verdicts == {'accepted': 200}


def test_the_other_direction_does_not_notice(strict):
    link = strict.link()
    strict.accepts(link)
    for data in garbage(link, STRANGER, 1000):
        strict.wires['wire'].send(data)
    strict.judge(counted=1000)
    assert strict.judge([to_core(link.answer())] * 100, 'core').verdicts == {'accepted': 100}
