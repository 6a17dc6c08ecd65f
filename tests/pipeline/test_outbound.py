"""From the servers to the wire: what is sealed, for whom, and how it looks outside."""

import os

import pytest

from gate import GATE, GATE_CORE, PEER, SERVER, forwarded, to_core
from scapy_esp import ALGORITHMS, frame, udp
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6

OUTER_INNER = [(4, 4), (4, 6), (6, 4), (6, 6)]


@pytest.mark.parametrize('encap', (False, True), ids=('bare', 'udp'))
@pytest.mark.parametrize('outer,inner', OUTER_INNER)
@pytest.mark.parametrize('esn', (False, True), ids=('32 bit', 'esn'))
@pytest.mark.parametrize('algorithm', ALGORITHMS)
def test_every_kind_of_tunnel_seals(gate, algorithm, esn, outer, inner, encap):
    link = gate.link(algorithm=algorithm, esn=esn, outer=outer, udp=encap)
    opened = gate.answers(link, inner)
    assert opened.sequence == 1  # RFC 4303 3.3.3
    assert opened.next_header == (4 if inner == 4 else 41)
    assert opened.padding == bytes(range(1, len(opened.padding) + 1))
    assert (opened.outer.source, opened.outer.destination) == (GATE[outer], PEER[outer])
    assert opened.outer.ports == ((4500, 4500) if encap else None)
    if encap:
        # RFC 3948 2.1; but over IPv6 hosts discard what has none (RFC 8200 8.1). split() checks it.
        assert (opened.outer.udp_checksum == 0) == (outer == 4)
    scapy = link.outbound.scapy()
    if scapy is None:
        return
    packet = link.answer(inner, size=100)
    outcome = gate.judge(to_core(packet), 'core')
    parsed = (IP if outer == 4 else IPv6)(outcome.wire[0])
    assert bytes(scapy.decrypt(parsed)) == forwarded(packet)


@pytest.mark.parametrize('algorithm', ALGORITHMS)
def test_every_length(gate, algorithm):
    link = gate.link(algorithm=algorithm)
    sizes = [*range(0, 40), 1300, 1301, 1302, 1303]
    inner = [link.answer(size=n) for n in sizes]
    outcome = gate.judge([to_core(p) for p in inner], 'core')
    assert outcome.verdicts == {'accepted': len(sizes)}
    opened = [link.open(p) for p in outcome.wire]
    assert [o.inner for o in opened] == [forwarded(p) for p in inner]
    assert [o.sequence for o in opened] == list(range(1, len(sizes) + 1))


def test_no_iv_comes_twice(gate):
    """One number used twice under one key breaks GCM (RFC 4106 3.1)."""
    link = gate.link()
    outcome = gate.judge([to_core(link.answer())] * 200, 'core')
    opened = [link.open(p) for p in outcome.wire]
    assert len({o.iv for o in opened}) == len({o.sequence for o in opened}) == 200


def test_cbc_ivs_cannot_be_guessed(gate):
    """RFC 3602 2.1: chosen at random, so neither constant nor counting."""
    link = gate.link(algorithm='aes-128-cbc-hmac-sha-256-128')
    outcome = gate.judge([to_core(link.answer())] * 200, 'core')
    ivs = [link.open(p).iv for p in outcome.wire]
    assert len(set(ivs)) == 200
    for offset in range(16):
        assert len({iv[offset] for iv in ivs}) > 50  # of 256, in 200 draws: about 139 expected


def test_the_frame_goes_to_the_next_hop(gate):
    link = gate.link()
    outcome = gate.judge(to_core(link.answer()), 'core')
    (data,) = outcome.frames['wire']
    assert data == frame(outcome.wire[0], '02:00:00:00:0a:02', '02:00:00:00:00:01')


def test_vlan_tags(gate):
    link = gate.link()
    inner = link.answer()
    outcome = gate.judge(to_core(inner, vlan=7), 'core')
    assert outcome.verdicts == {'accepted': 1}
    assert link.open(outcome.wire[0]).inner == forwarded(inner)


def test_a_server_cannot_reach_who_is_no_peer(gate):
    link = gate.link()
    stranger = udp(SERVER[4], '10.99.0.1', 8080, 40000)
    outcome = gate.judge(to_core(stranger), 'core')
    assert outcome.wire == [] and outcome.core == []
    assert set(outcome.verdicts) <= {'no_policy', 'cleartext_denied'}
    gate.answers(link)


def test_a_peer_without_an_outbound_sa_gets_nothing(gate):
    link = gate.link()
    gate.answers(link)
    gate.steer.remove_sas([f'{link.name}-out'])
    outcome = gate.judge(to_core(link.answer()), 'core')
    assert outcome.wire == [] and 'accepted' not in outcome.verdicts
    gate.accepts(link)  # the other direction does not care


def test_the_newest_outbound_sa_is_used(gate):
    link = gate.link()
    gate.answers(link)
    new = dict(link.sas[1], id=f'{link.name}-out-2', spi=link.outbound.spi ^ 1 << 20,
               key=os.urandom(20))
    gate.steer.add_sas([new])
    link.outbound.spi = new['spi']
    link.outbound.key = new['key']
    link.outbound.__post_init__()
    gate.answers(link)


def test_what_comes_from_the_core_with_esp_in_it_is_not_opened(gate):
    """ESP is opened on untrusted ports only."""
    link = gate.link()
    sealed = link.inbound.packet(link.request())
    outcome = gate.judge(to_core(sealed), 'core')
    assert 'accepted' not in outcome.verdicts
    assert outcome.wire == [] and outcome.core == []
    gate.accepts(link)


@pytest.mark.parametrize('what', ('checksum', 'length', 'version', 'header length', 'cut'))
def test_malformed_from_the_core(gate, what):
    link = gate.link()
    good = link.answer(size=30)
    packet = {
        'checksum': good[:10] + b'\x12\x34' + good[12:],
        'length': good[:2] + b'\xff\xff' + good[4:],
        'version': b'\x55' + good[1:],
        'header length': b'\x42' + good[1:],
        'cut': good[:24],
    }[what]
    outcome = gate.judge(to_core(packet), 'core')
    assert outcome.wire == [] and outcome.verdicts == {'malformed': 1}
    gate.answers(link)


def test_to_the_gate_itself(gate):
    """Nothing lives at the gate's own inner address; it is not sealed to anyone."""
    packet = udp(SERVER[4], GATE_CORE[4], 1, 2)
    outcome = gate.judge(to_core(packet), 'core')
    assert outcome.wire == [] and 'accepted' not in outcome.verdicts
