"""kill -9: windows, numbers and lifetimes are remembered, keys are not; and the end of the number
space, which only the file of an SA that sent 2^32 packets can show in reasonable time."""

import os
import struct

import pytest

from gate import forwarded, to_core
from steer_client import SteerError


@pytest.fixture(scope='module')
def mortal(make_gate):
    return make_gate()


def reborn(gate, edit=None):
    """Killed, started again, policy pushed again; the SAs are still to come."""
    gate.kill()
    if edit:
        edit()
    gate.launch()
    gate.push_policy()


def resume(gate, links):
    sas = [dict(sa, mode='resume') for link in links for sa in link.sas]
    gate.steer.add_sas(sas)


def all_links(gate):
    return list(gate.links.values())


def test_nothing_is_accepted_twice_across_a_kill(mortal):
    gate = mortal
    link = gate.link()
    old = [link.seal(link.request()) for _ in range(50)]
    assert gate.judge(old[:40]).verdicts == {'accepted': 40}
    before = [link.open(p).sequence for p in
              gate.judge([to_core(link.answer())] * 10, 'core').wire]
    reborn(gate)
    links = all_links(gate)
    with pytest.raises(SteerError):
        gate.steer.add_sas([link.sas[0]])   # "new": the key is known
    with pytest.raises(SteerError):
        gate.steer.add_sas([link.sas[1]])
    resume(gate, links)
    gate.refuses(old[:40], 'replayed')
    assert gate.judge(old[40:]).verdicts == {'accepted': 10}
    after = [link.open(p).sequence for p in
             gate.judge([to_core(link.answer())] * 10, 'core').wire]
    assert min(after) > max(before)
    gate.accepts(link)


def test_lifetimes_are_remembered(mortal):
    gate = mortal
    link = gate.link(lifetime={'hard_packets': 5})
    assert gate.judge([link.seal(link.request()) for _ in range(3)]).verdicts == {'accepted': 3}
    reborn(gate)
    resume(gate, all_links(gate))
    assert gate.judge([link.seal(link.request()) for _ in range(3)]).verdicts == {
        'accepted': 2, 'sa_expired': 1}


def test_resume_without_a_record_is_refused(mortal):
    link = mortal.link()
    with pytest.raises(SteerError):
        mortal.steer.add_sas([dict(link.sas[0], id='ghost', spi=link.inbound.spi ^ 0x1000,
                                   key=os.urandom(20), mode='resume')])


def test_before_policy_nothing_passes(mortal):
    gate = mortal
    link = gate.link()
    gate.kill()
    gate.launch()
    gate.wires['wire'].send(link.seal(link.request()))
    gate.wires['core'].send(to_core(link.answer()))
    gate.steer.wait_counters(lambda now: sum(now.values()) >= 2)
    assert gate.steer.seen() == {'unknown_spi': 1, 'no_policy': 1}
    gate.push_policy()
    resume(gate, all_links(gate))
    gate.drain()
    gate.accepts(link)


@pytest.mark.parametrize('esn', (False, True), ids=('32 bit', 'esn'))
def test_the_number_space_ends(mortal, esn):
    """RFC 4303 3.3.3: the sender must not let the counter cycle."""
    gate = mortal
    link = gate.link(esn=esn)
    gate.answers(link)
    last = (1 << 64 if esn else 1 << 32) - 1

    def nearly_over():
        # The record's first field is the last number sent, its SPI stands 48 bytes behind.
        data = bytearray(gate.state_path.read_bytes())
        spi = struct.pack('<I', link.outbound.spi)
        at = data.find(spi)
        while struct.unpack_from('<Q', data, at - 48)[0] != 1:
            at = data.find(spi, at + 1)
            assert at > 0, 'no record of this SA'
        with open(gate.state_path, 'r+b') as file:
            file.seek(at - 48)
            file.write(struct.pack('<Q', last - 2))

    reborn(gate, nearly_over)
    resume(gate, all_links(gate))
    outcome = gate.judge([to_core(link.answer())] * 3, 'core')
    assert outcome.verdicts == {'accepted': 2, 'seq_exhausted': 1}
    high = (1 << 32) - 1 if esn else 0
    assert [link.open(p, high).sequence for p in outcome.wire] == [0xfffffffe, 0xffffffff]
    gate.refuses(to_core(link.answer()), 'seq_exhausted', 'core')
    gate.accepts(link)  # the other direction goes on
    gate.drop_link(link)


def test_killed_again_and_again_under_traffic(mortal):
    """No packet of before is accepted afterwards, no outbound number comes twice."""
    gate = mortal
    link = gate.link()
    numbers = []
    sent = []
    for _ in range(3):
        fresh = [link.seal(link.request()) for _ in range(100)]
        for data in fresh:
            gate.wires['wire'].send(data)
            gate.wires['core'].send(to_core(link.answer()))
        gate.kill()  # somewhere in the middle
        arrived = []
        while (data := gate.wires['core'].receive(0.05)) is not None:
            arrived.append(data)
        while (data := gate.wires['wire'].receive(0.05)) is not None:
            numbers.append(link.open(data[14:]).sequence)
        sent += fresh
        gate.launch()
        gate.push_policy()
        resume(gate, all_links(gate))
        gate.drain()
        outcome = gate.judge(fresh)
        assert set(outcome.verdicts) <= {'accepted', 'replayed', 'stale'}
        # What had come out cannot come out again.
        assert len(outcome.core) + len(arrived) <= len(fresh)
        gate.accepts(link)
    outcome = gate.judge([to_core(link.answer())] * 10, 'core')
    numbers += [link.open(p).sequence for p in outcome.wire]
    assert len(set(numbers)) == len(numbers)
    assert set(gate.judge(sent).verdicts) <= {'replayed', 'stale'}
    inner = link.request()
    assert gate.judge(link.seal(inner)).core == [forwarded(inner)]
