"""Fragments, outside and inside the tunnel."""

import struct

import pytest

from gate import GATE, PEER, SERVER, forwarded, to_core, to_gate
from scapy_esp import datagram, frame, udp
from gate import GATE_WIRE_MAC, PEER_MAC


def fragment_v4(packet, size, ident=99):
    """An IPv4 packet without options in pieces of `size` payload bytes, a multiple of 8."""
    source = '.'.join(map(str, packet[12:16]))
    destination = '.'.join(map(str, packet[16:20]))
    body = packet[20:]
    return [datagram(source, destination, packet[9], body[at:at + size], ident=ident, ttl=packet[8],
                     offset=at // 8, more_fragments=at + size < len(body))
            for at in range(0, len(body), size)]


def fragment_v6(packet, size, ident=99):
    body = packet[40:]
    pieces = []
    for at in range(0, len(body), size):
        more = at + size < len(body)
        header = struct.pack('!BBHI', packet[6], 0, at | more, ident)
        piece = header + body[at:at + size]
        pieces.append(packet[:4] + struct.pack('!H', len(piece)) + b'\x2c' + packet[7:40] + piece)
    return pieces


def fragments(packet, size):
    return (fragment_v4 if packet[0] >> 4 == 4 else fragment_v6)(packet, size)


# net_af_packet lets the kernel reassemble (PACKET_FANOUT_FLAG_DEFRAG), so these gates use net_pcap.
@pytest.fixture(scope='module', params=[1, 2], ids=['one worker', 'two workers'])
def gate(make_gate, request):
    return make_gate(driver='pcap', workers=request.param)


@pytest.mark.parametrize('udp_encap', (False, True), ids=('bare', 'udp'))
@pytest.mark.parametrize('outer', (4, 6))
def test_outer_fragments_are_dropped(gate, outer, udp_encap):
    """The default: only the first has an SPI, and nothing in it is authenticated."""
    link = gate.link(outer=outer, udp=udp_encap)
    packet = link.inbound.packet(link.request(size=200), 5)
    pieces = fragments(packet, 96)
    assert len(pieces) > 2
    gate.refuses([to_gate(p) for p in pieces], 'fragment')
    assert gate.judge(to_gate(packet)).verdicts == {'accepted': 1}


@pytest.mark.parametrize('offset,more', [(0, True), (1, False), (8191, False), (1, True)])
def test_esp_in_a_fragment_is_never_processed(gate, offset, more):
    """The whole ESP packet is there, but the header says that it is a piece."""
    link = gate.link()
    gate.refuses(link.seal(link.request(), 5, outer={'offset': offset, 'more_fragments': more}),
                 'fragment')
    assert gate.judge(link.seal(link.request(), 5)).verdicts == {'accepted': 1}


def test_an_atomic_ipv6_fragment_is_none(gate):
    """RFC 6946: offset 0, no more: it is whole. Its twin announces more."""
    link = gate.link(outer=6)
    body = link.inbound.esp(link.request(), 5)
    for more in (1, 0):
        packet = datagram(PEER[6], GATE[6], 44, struct.pack('!BBHI', 50, 0, more, 1) + body)
        if more:
            gate.refuses(to_gate(packet), 'fragment')
        else:
            assert gate.judge(to_gate(packet)).verdicts == {'accepted': 1}


def test_cleartext_fragments_are_cleartext(gate):
    for piece in fragment_v4(datagram('203.0.113.7', SERVER[4], 6, bytes(200)), 96):
        gate.refuses(to_gate(piece), 'cleartext_denied')


@pytest.mark.parametrize('family', (4, 6))
def test_inner_fragments_match_only_selectors_without_ports(gate, family):
    """RFC 4301 7: the ports of a fragment are never read, not even those of the first."""
    open_to_all = gate.link()
    with_ports = gate.link(selectors=lambda c: [{'remote': c[family] + '/' + ('32' if family == 4
                                                                             else '128'),
                                                 'local_ports': (8080, 8080)}])
    for link, verdict in ((open_to_all, 'accepted'), (with_ports, 'selector_mismatch')):
        pieces = fragments(link.request(family, size=200), 96)
        outcome = gate.judge([link.seal(p) for p in pieces])
        assert outcome.verdicts == {verdict: len(pieces)}
        assert outcome.core == ([forwarded(p) for p in pieces] if verdict == 'accepted' else [])
        pieces = fragments(link.answer(family, size=200), 96)
        outcome = gate.judge([to_core(p) for p in pieces], 'core')
        assert outcome.verdicts == {verdict: len(pieces)}
    gate.accepts(with_ports, family)


def test_inner_fragments_and_rules_with_ports(gate):
    link = gate.link(rules=lambda c: [{'remote': c[4] + '/32', 'local_ports': (8080, 8080)}])
    pieces = fragments(link.request(size=200), 96)
    gate.refuses([link.seal(p) for p in pieces], 'no_policy')
    gate.accepts(link)


def test_no_error_about_a_fragment(gate):
    """RFC 1122 3.2.2, to be on the safe side not even about the first; the twin is told."""
    link = gate.link()
    for offset, more in ((8, False), (8, True), (0, True)):
        piece = datagram(SERVER[4], link.client[4], 17, bytes(64), ttl=1, offset=offset,
                         more_fragments=more)
        outcome = gate.judge(to_core(piece), 'core')
        assert outcome.verdicts == {'ttl_expired': 1} and outcome.core == []
    outcome = gate.judge(to_core(link.answer(ttl=1)), 'core')
    assert outcome.verdicts == {'ttl_expired': 1} and len(outcome.core) == 1


# ---- reassembly, when configured

@pytest.fixture(scope='module', params=[1, 2], ids=['one worker', 'two workers'])
def collector(make_gate, request):
    return make_gate(driver='pcap', fragments='reassemble', workers=request.param)


@pytest.mark.parametrize('udp_encap', (False, True), ids=('bare', 'udp'))
@pytest.mark.parametrize('outer', (4, 6))
def test_reassembly(collector, outer, udp_encap):
    link = collector.link(outer=outer, udp=udp_encap)
    inner = link.request(size=600)
    for order in (lambda x: x, lambda x: x[::-1], lambda x: x[1:] + x[:1]):
        pieces = order(fragments(link.inbound.packet(inner), 256))
        outcome = collector.judge([to_gate(p) for p in pieces], counted=1)
        assert outcome.verdicts == {'accepted': 1}
        assert outcome.core == [forwarded(inner)]
    collector.accepts(link)


def test_ethernet_padding_does_not_become_part_of_the_packet(collector):
    link = collector.link()
    inner = link.request(size=600)
    pieces = fragments(link.inbound.packet(inner), 256)
    outcome = collector.judge([to_gate(p) + bytes(9) for p in pieces], counted=1)
    assert outcome.verdicts == {'accepted': 1} and outcome.core == [forwarded(inner)]


def test_fragments_with_vlan_tags(collector):
    link = collector.link()
    inner = link.request(size=600)
    pieces = fragments(link.inbound.packet(inner), 256)
    outcome = collector.judge([frame(p, GATE_WIRE_MAC, PEER_MAC, 7) for p in pieces], counted=1)
    assert outcome.verdicts == {'accepted': 1} and outcome.core == [forwarded(inner)]


def test_a_reassembled_forgery_is_a_forgery(collector):
    link = collector.link()
    packet = bytearray(link.inbound.packet(link.request(size=600), 5))
    packet[-1] ^= 1
    outcome = collector.judge([to_gate(p) for p in fragments(bytes(packet), 256)], counted=1)
    assert outcome.verdicts == {'auth_failed': 1} and outcome.core == []
    packet[-1] ^= 1
    outcome = collector.judge([to_gate(p) for p in fragments(bytes(packet), 256)], counted=1)
    assert outcome.verdicts == {'accepted': 1}


def test_fragments_that_stay_alone(collector):
    link = collector.link()
    pieces = fragments(link.inbound.packet(link.request(size=600), 5), 256)
    outcome = collector.judge([to_gate(p) for p in pieces[:-1]], counted=0)
    assert outcome.core == []
    collector.wait_for({'frag_timeout': len(pieces) - 1})
    collector.accepts(link)


def test_a_source_has_a_quota_of_fragments(collector):
    """One that sends many does not fill the table for the others."""
    link = collector.link()
    flood = []
    for ident in range(1000):
        flood.append(to_gate(datagram('203.0.113.200', GATE[4], 50, bytes(64), ident=ident,
                                      more_fragments=True)))
    collector.send(flood)
    inner = link.request(size=600)
    pieces = fragments(link.inbound.packet(inner), 256)
    for piece in pieces:
        collector.wires['wire'].send(to_gate(piece))
    seen = collector.wait_for({'frag_timeout': len(flood), 'accepted': 1})
    assert seen.core == [forwarded(inner)]
