"""What an SA may be used for, in packets, bytes and time, and what is said when it ends."""

import os
import time

import pytest

from gate import SERVER, await_event, to_core
from scapy_esp import udp
from steer_client import SteerClient


def test_hard_packets(gate):
    link = gate.link(lifetime={'hard_packets': 5}, lifetime_out={'hard_packets': 5})
    for side, frames in (('wire', [link.seal(link.request()) for _ in range(8)]),
                         ('core', [to_core(link.answer())] * 8)):
        outcome = gate.judge(frames, side)
        assert outcome.verdicts == {'accepted': 5, 'sa_expired': 3}
        assert len(outcome.core + outcome.wire) == 5
        gate.refuses(frames[-1], 'sa_expired', side)


def test_hard_bytes(gate):
    """Of inner packets: 10 of 100 bytes, and not one more."""
    link = gate.link(lifetime={'hard_bytes': 1000}, lifetime_out={'hard_bytes': 1000})
    for side, frames in (('wire', [link.seal(link.request(size=72)) for _ in range(12)]),
                         ('core', [to_core(link.answer(size=72))] * 12)):
        assert gate.judge(frames, side).verdicts == {'accepted': 10, 'sa_expired': 2}


def test_forgeries_and_replays_use_nothing_up(gate):
    link = gate.link(lifetime={'hard_packets': 3})
    good = [link.seal(link.request()) for _ in range(3)]
    forged = [data[:-1] + bytes([data[-1] ^ 1]) for data in good]
    gate.refuses(forged * 5, 'auth_failed')
    assert gate.judge(good[:2]).verdicts == {'accepted': 2}
    gate.refuses(good[:2] * 5, 'replayed')
    assert gate.judge(good[2]).verdicts == {'accepted': 1}
    gate.refuses(link.seal(link.request()), 'sa_expired')


def test_what_was_used_is_reported(gate):
    link = gate.link()
    gate.judge([link.seal(link.request(size=72)) for _ in range(7)])
    state = link.state()
    assert (state.packets, state.bytes, state.sequence) == (7, 700, 7)
    assert not state.hard_expired
    gate.judge([to_core(link.answer(size=72))] * 3, 'core')
    state = link.state('outbound')
    assert (state.packets, state.bytes, state.sequence) == (3, 300, 3)


def test_time(gate):
    """Soft after one second, hard after two: said as events, and enforced."""
    with SteerClient(gate.socket_path) as listener:
        listener.hello()
        listener.subscribe()
        begin = time.monotonic()
        link = gate.link(lifetime={'soft_seconds': 1, 'hard_seconds': 2},
                         lifetime_out={'hard_seconds': 2})
        gate.accepts(link)
        event = await_event(listener, 'sa_soft_expired', f'{link.name}-in', 5)
        assert event is not None and event.peer == link.name
        assert time.monotonic() - begin >= 0.9
        assert link.state().soft_expired
        if time.monotonic() - begin < 1.7:
            gate.accepts(link)  # soft says only: re-key
        assert await_event(listener, 'sa_hard_expired', f'{link.name}-in', 5)
        assert 1.9 <= time.monotonic() - begin < 4.5
    gate.refuses(link.seal(link.request()), 'sa_expired')
    assert link.state().hard_expired
    end = time.monotonic() + 3
    while not link.state('outbound').hard_expired:
        assert time.monotonic() < end
        time.sleep(0.05)
    gate.refuses(to_core(link.answer()), 'sa_expired', 'core')


@pytest.mark.parametrize('limit', ({'soft_packets': 3}, {'soft_bytes': 300}))
def test_soft_limits_only_say_so(gate, limit):
    with SteerClient(gate.socket_path) as listener:
        listener.hello()
        listener.subscribe()
        link = gate.link(lifetime=limit)
        assert gate.judge([link.seal(link.request(size=72)) for _ in range(2)]).verdicts == {
            'accepted': 2}
        assert gate.judge([link.seal(link.request(size=72)) for _ in range(2)]).verdicts == {
            'accepted': 2}
        assert await_event(listener, 'sa_soft_expired', f'{link.name}-in', 4)
    gate.accepts(link)


def test_an_expired_outbound_sa_gives_way_to_an_older_one(gate):
    """The newest is tried first; one that is used up does not hide one that is not."""
    link = gate.link()
    new = dict(link.sas[1], id=f'{link.name}-out-2', spi=link.outbound.spi ^ 1 << 20,
               key=os.urandom(20), lifetime={'hard_packets': 2})
    gate.steer.add_sas([new])
    outcome = gate.judge([to_core(udp(SERVER[4], link.client[4], 1, 2))] * 2, 'core')
    assert {int.from_bytes(p[20:24], 'big') for p in outcome.wire} == {new['spi']}
    gate.judge(to_core(link.answer()), 'core')  # finds it used up
    outcome = gate.judge(to_core(link.answer()), 'core')
    assert outcome.verdicts == {'accepted': 1}
    link.open(outcome.wire[0])
