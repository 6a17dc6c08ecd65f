"""From the wire to the servers: what is opened, and each way in which an outer packet is wrong.

Every refusal is followed by its twin: the same peer's next good packet passes.
"""

import struct

import pytest

from gate import GATE, PEER, forwarded, to_gate
from scapy_esp import ALGORITHMS, datagram, frame, ip_header, split, udp
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6

OUTER_INNER = [(4, 4), (4, 6), (6, 4), (6, 6)]


@pytest.mark.parametrize('udp', (False, True), ids=('bare', 'udp'))
@pytest.mark.parametrize('outer,inner', OUTER_INNER)
@pytest.mark.parametrize('esn', (False, True), ids=('32 bit', 'esn'))
@pytest.mark.parametrize('algorithm', ALGORITHMS)
def test_every_kind_of_tunnel_opens(gate, algorithm, esn, outer, inner, udp):
    link = gate.link(algorithm=algorithm, esn=esn, outer=outer, udp=udp)
    gate.accepts(link, inner)
    scapy = link.inbound.scapy()
    if scapy is None or (udp and outer == 4):  # what Scapy cannot do: scapy_esp, test_builders
        return
    packet = link.request(inner, size=100)
    parsed = (IP if inner == 4 else IPv6)(packet)
    outcome = gate.judge(to_gate(bytes(scapy.encrypt(parsed, seq_num=7))))
    assert outcome.verdicts == {'accepted': 1}
    assert outcome.core == [forwarded(packet)]


@pytest.mark.parametrize('algorithm', ALGORITHMS)
def test_every_length_of_padding(gate, algorithm):
    link = gate.link(algorithm=algorithm)
    sizes = [*range(0, 40), 1300, 1301, 1302, 1303]
    inner = [link.request(size=n) for n in sizes]
    outcome = gate.judge([link.seal(packet) for packet in inner])
    assert outcome.verdicts == {'accepted': len(sizes)}
    assert outcome.core == [forwarded(packet) for packet in inner]


def test_longer_padding_than_needed(gate):
    """RFC 4303 2.4: up to 255 bytes, to hide the length."""
    link = gate.link()
    inner = link.request(size=2)  # 30 bytes
    frames = [link.seal(inner, padding=bytes(range(1, n + 1))) for n in range(0, 256, 4)]
    outcome = gate.judge(frames)
    assert outcome.verdicts == {'accepted': len(frames)}
    assert set(outcome.core) == {forwarded(inner)}


@pytest.mark.parametrize('vlan', (5, [5, 6]), ids=('one tag', 'two tags'))
@pytest.mark.parametrize('outer', (4, 6))
def test_vlan_tags(gate, outer, vlan):
    gate.accepts(gate.link(outer=outer), vlan=vlan)


def test_the_frame_goes_to_the_next_hop(gate):
    link = gate.link()
    outcome = gate.judge(link.seal(link.request()))
    inner = forwarded(link.request())
    assert outcome.frames['core'] == [frame(inner, '02:00:00:00:02:0a', '02:00:00:00:00:02')]


def test_what_the_link_appends_is_ignored(gate):
    """Ethernet pads short frames; a trailer is not part of the packet."""
    link = gate.link()
    inner = link.request()
    outcome = gate.judge([link.seal(inner) + bytes(n) for n in (1, 7, 46)])
    assert outcome.verdicts == {'accepted': 3}
    assert outcome.core == [forwarded(inner)] * 3


def test_outer_options_are_accepted_and_stripped(gate):
    link = gate.link()
    inner = link.request()
    record_route = b'\x07\x0b\x04' + bytes(8) + b'\0'
    outcome = gate.judge([link.seal(inner, outer={'options': options})
                          for options in (b'\x01' * 4, record_route, b'\x01' * 40)])
    assert outcome.verdicts == {'accepted': 3}
    assert outcome.core == [forwarded(inner)] * 3


def test_outer_extension_headers_are_accepted_and_stripped(gate):
    link = gate.link(outer=6)
    inner = link.request()
    body = link.inbound.esp(inner)
    options = bytes((50, 0, 1, 4, 0, 0, 0, 0))  # destination options: one PadN
    packet = datagram(PEER[6], GATE[6], 60, options + body)
    outcome = gate.judge(to_gate(packet))
    assert outcome.verdicts == {'accepted': 1}
    assert outcome.core == [forwarded(inner)]


# ---- forgeries

@pytest.mark.parametrize('esn', (False, True), ids=('32 bit', 'esn'))
@pytest.mark.parametrize('algorithm', ALGORITHMS)
def test_no_byte_from_spi_to_icv_can_be_changed(gate, algorithm, esn):
    link = gate.link(algorithm=algorithm, esn=esn)
    gate.accepts(link)
    inner = link.request()
    good = link.seal(inner, 77)
    start, end = 14 + 20, len(good)
    outcomes = {}
    for bit in (0x01, 0x80, 0xff):
        frames = []
        for offset in range(start, end):
            frames.append(good[:offset] + bytes([good[offset] ^ bit]) + good[offset + 1:])
        spi = gate.judge(frames[:4])
        assert spi.verdicts == {'unknown_spi': 4}
        sequence = gate.judge(frames[4:8])
        outcomes.update(sequence.verdicts)
        rest = gate.judge(frames[8:])
        assert rest.verdicts == {'auth_failed': len(frames) - 8}
        assert not [*spi.core, *sequence.core, *rest.core]
    assert set(outcomes) <= {'auth_failed', 'replayed', 'stale'}
    # No forgery moved the window: the original passes, and so does a packet before it.
    assert gate.judge([good, link.seal(inner, 76)]).verdicts == {'accepted': 2}


@pytest.mark.parametrize('cut', (1, 3, 4, 8, 15, 16, 17, 30))
def test_an_icv_that_is_cut_short(gate, cut):
    link = gate.link()
    body = link.inbound.esp(link.request(), 9)[:-cut]
    outcome = gate.judge(to_gate(datagram(PEER[4], GATE[4], 50, body)))
    assert outcome.core == []
    assert set(outcome.verdicts) <= {'auth_failed', 'malformed'}
    gate.accepts(link)


def test_another_peers_key_opens_nothing(gate):
    one, two = gate.link(), gate.link()
    two.inbound.spi = one.inbound.spi
    gate.refuses(two.seal(two.request(), 1), 'auth_failed')
    gate.accepts(one)


def test_an_outbound_spi_is_no_inbound_spi(gate):
    link = gate.link()
    link.inbound.spi, spi = link.outbound.spi, link.inbound.spi
    gate.refuses(link.seal(link.request(), 1), 'unknown_spi')
    link.inbound.spi = spi
    gate.accepts(link)


@pytest.mark.parametrize('spi', (0, 1, 255, 256, 0xdeadbeef, 0xffffffff))
def test_unknown_spi(gate, spi):
    link = gate.link()
    known, link.inbound.spi = link.inbound.spi, spi
    gate.refuses(link.seal(link.request(), 1), 'unknown_spi')
    link.inbound.spi = known
    gate.accepts(link)


def test_the_slot_is_not_enough_the_tag_must_agree(gate):
    link = gate.link()
    spi = link.inbound.spi
    for bit in range(14, 32):
        link.inbound.spi = spi ^ 1 << bit
        gate.refuses(link.seal(link.request(), 1), 'unknown_spi')
    link.inbound.spi = spi
    gate.accepts(link)


# ---- outer headers that contradict each other

def outer_lies(link):
    body = link.inbound.esp(link.request(), 3)
    good = ip_header(PEER[4], GATE[4], 50, len(body))

    def header(**fields):
        return ip_header(PEER[4], GATE[4], 50, len(body), **fields) + body

    def patched(offset, value):
        out = bytearray(good)
        out[offset:offset + len(value)] = value
        return bytes(out) + body

    long = len(body) + 20
    yield 'header checksum', header(header_checksum=0x1234)
    yield 'header checksum off by one bit', patched(10, bytes([good[10] ^ 1]))
    yield 'total length beyond the frame', header(length=long + 1)
    yield 'total length 65535', header(length=65535)
    yield 'total length below the header', header(length=19)
    yield 'total length 0', header(length=0)
    yield 'header length 4 words', patched(0, b'\x44')
    yield 'header length 0', patched(0, b'\x40')
    yield 'header length beyond the packet', ip_header(PEER[4], GATE[4], 50, 0)[:20].replace(
        b'\x45', b'\x4f', 1)
    yield 'version 5', patched(0, b'\x55')
    yield 'no room for SPI and sequence', datagram(PEER[4], GATE[4], 50, body[:7])
    yield 'nothing behind the header', datagram(PEER[4], GATE[4], 50, b'')


@pytest.mark.parametrize('number', range(12))
def test_outer_header_lies(gate, number):
    link = gate.link()
    what, packet = list(outer_lies(link))[number]
    outcome = gate.judge(to_gate(packet))
    assert outcome.verdicts == {'malformed': 1}, what
    assert outcome.core == [] and outcome.wire == []
    gate.accepts(link)


@pytest.mark.parametrize('family', (4, 6))
def test_udp_length_lies(gate, family):
    link = gate.link(outer=family, udp=True)
    packet = link.inbound.packet(link.request(), 3)
    at = (20 if family == 4 else 40) + 4
    (length,) = struct.unpack('!H', packet[at:at + 2])
    for lie in (length + 1, 65535, 7, 0):
        wrong = packet[:at] + struct.pack('!H', lie) + packet[at + 2:]
        gate.refuses(to_gate(wrong), 'malformed')
    gate.accepts(link)


@pytest.mark.parametrize('udp', (False, True), ids=('bare', 'udp'))
@pytest.mark.parametrize('outer', (4, 6))
def test_cut_off_at_every_length(gate, outer, udp):
    """The frame ends where it likes; its headers still say what they said."""
    link = gate.link(outer=outer, udp=udp)
    good = link.seal(link.request(size=20), 5)
    frames = [good[:n] for n in range(14, len(good))]
    outcome = gate.judge(frames)
    assert outcome.verdicts == {'malformed': len(frames)}
    assert outcome.core == []
    assert gate.judge(good).verdicts == {'accepted': 1}


@pytest.mark.parametrize('udp', (False, True), ids=('bare', 'udp'))
@pytest.mark.parametrize('outer', (4, 6))
@pytest.mark.parametrize('algorithm', ('aes-128-gcm-16', 'aes-128-cbc-hmac-sha-256-128'))
def test_shortened_at_every_length(gate, algorithm, outer, udp):
    """The packet ends where it likes, and its headers agree."""
    link = gate.link(algorithm=algorithm, outer=outer, udp=udp)
    _, body = split(link.inbound.packet(link.request(size=20), 5))
    frames = []
    for n in range(len(body)):
        part = body[:n]
        if udp:
            part = struct.pack('!HHHH', 4500, 4500, 8 + n, 0) + part
        frames.append(to_gate(datagram(PEER[outer], GATE[outer], 17 if udp else 50, part)))
    outcome = gate.judge(frames)
    assert outcome.core == []
    assert 'accepted' not in outcome.verdicts
    gate.accepts(link)


# ---- NAT traversal

@pytest.mark.parametrize('family', (4, 6))
def test_keepalives_are_absorbed(gate, family):
    link = gate.link(udp=True, outer=family)
    gate.refuses(to_gate(udp(PEER[family], GATE[family], 4500, 4500, b'\xff')), 'keepalive')
    for no_keepalive in (b'', b'\xfe', b'\xff\xff', b'\xff\xff\xff'):
        gate.refuses(to_gate(udp(PEER[family], GATE[family], 4500, 4500, no_keepalive)),
                     'malformed')
    gate.accepts(link)


@pytest.mark.parametrize('family', (4, 6))
def test_a_udp_checksum_is_no_reason_to_refuse(gate, family):
    """RFC 3948 2.1: the receiver must not depend on it being zero; the ICV tells the truth."""
    link = gate.link(udp=True, outer=family)
    inner = link.request()
    packet = udp(PEER[family], GATE[family], 4500, 4500, link.inbound.esp(inner))
    outcome = gate.judge(to_gate(packet))
    assert outcome.verdicts == {'accepted': 1} and outcome.core == [forwarded(inner)]


def test_the_non_esp_marker_is_never_esp(gate):
    """UDP 4500 with four zero bytes is IKE (RFC 3948 2.2), even if an SA were to fit behind it."""
    link = gate.link(udp=True)
    body = b'\0\0\0\0' + link.inbound.esp(link.request())
    packet = datagram(PEER[4], GATE[4], 17, struct.pack('!HHHH', 4500, 4500, 8 + len(body), 0)
                      + body)
    outcome = gate.judge(to_gate(packet))
    assert 'accepted' not in outcome.verdicts and outcome.core == [] and outcome.wire == []
    gate.accepts(link)


def test_encapsulation_is_part_of_the_sa(gate):
    """Bare ESP for an SA in UDP, and the reverse: the envelope is not authenticated, so either is
    opened or refused, but what comes out is the same packet or nothing."""
    for encap in (False, True):
        link = gate.link(udp=encap)
        link.inbound.udp = not encap
        inner = link.request()
        outcome = gate.judge(link.seal(inner))
        assert outcome.core in ([], [forwarded(inner)])
        link.inbound.udp = encap
        gate.accepts(link)


def test_link_layer_talk_is_not_forwarded(gate):
    arp = bytes.fromhex('ffffffffffff' '020000000a02' '0806') + bytes(28)
    lldp = bytes.fromhex('0180c200000e' '020000000a02' '88cc') + bytes(40)
    for data in (arp, lldp):
        outcome = gate.judge(data)
        assert outcome.frames == {'wire': [], 'core': []}
        assert 'accepted' not in outcome.verdicts and 'bypassed' not in outcome.verdicts
