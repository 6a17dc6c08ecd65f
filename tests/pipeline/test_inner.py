"""What was sealed honestly and is still wrong: the inner packet against its own headers, the ESP
trailer against the inner packet. The peer is authentic in all of these, and not believed."""

import struct

import pytest

from gate import SERVER, forwarded
from scapy_esp import ALGORITHMS, datagram, ip_header, udp


def patched(packet, offset, value):
    return packet[:offset] + value + packet[offset + len(value):]


def longer(link, by):
    """An IPv4 packet whose total length claims `by` bytes more than there are."""
    good = link.request(size=40)
    return ip_header(link.client[4], SERVER[4], 17, len(good) - 20, length=len(good) + by) + good[20:]


def inner_lies(link):
    v4, v6 = link.request(4, size=40), link.request(6, size=40)
    yield 'total length one too long', longer(link, 1), {}
    yield 'total length 16 too long', longer(link, 16), {}
    yield 'total length 65535', patched(v4, 2, b'\xff\xff'), {}
    yield 'total length 0', patched(v4, 2, b'\0\0'), {}
    yield 'total length below the header', patched(v4, 2, b'\0\x13'), {}
    yield 'header length 4 words', patched(v4, 0, b'\x44'), {}
    yield 'header length beyond the packet', v4[:20].replace(b'\x45', b'\x4f', 1), {}
    yield 'payload length one too long', patched(v6, 4, struct.pack('!H', len(v6) - 39)), {}
    yield 'payload length 65535', patched(v6, 4, b'\xff\xff'), {}
    yield 'extension header beyond the packet', patched(v6[:48], 6, b'\0'), {}
    yield 'routing header (RFC 5095)', patched(v6, 6, b'\x2b'), {}
    yield 'version 5', patched(v4, 0, b'\x55'), {}
    yield 'version 0', patched(v4, 0, b'\x05'), {}
    yield 'IPv6 announced as IPv4', v6, {'next_header': 4}
    yield 'IPv4 announced as IPv6', v4, {'next_header': 41}
    yield 'transport mode, UDP', v4[20:], {'next_header': 17}
    yield 'transport mode, TCP', v4[20:], {'next_header': 6}
    yield 'Ethernet inside', v4, {'next_header': 143}
    yield 'ESP inside', v4, {'next_header': 50}
    yield 'hop by hop options announced', v6[40:], {'next_header': 0}
    yield 'nothing inside', b'', {'next_header': 4}
    yield 'half an IPv4 header', v4[:10], {'next_header': 4}
    yield 'half an IPv6 header', v6[:20], {'next_header': 41}
    yield 'an IPv4 header with half a UDP header', ip_header(
        link.client[4], SERVER[4], 17, 2) + v4[20:22], {}
    yield 'padding not 1, 2, 3', v4, {'padding': b'\0\0'}
    yield 'padding counts from 0', v4, {'padding': b'\0\x01'}
    yield 'pad length longer than the payload', v4, {'pad_length': 255}


CASES = [what for what, _, _ in inner_lies(type('', (), {
    'client': {4: '10.1.0.2', 6: '2001:db8::2'},
    'request': lambda self, family=4, size=0: udp(self.client[family], SERVER[family], 1, 2,
                                                  bytes(size))})())]


@pytest.mark.parametrize('case', CASES)
def test_inner_lies(gate, case):
    link = gate.link()
    inner, how = next((inner, how) for what, inner, how in inner_lies(link) if what == case)
    gate.refuses(link.seal(inner, **how), 'inner_malformed')
    gate.accepts(link)
    gate.accepts(link, 6)


@pytest.mark.parametrize('family', (4, 6))
@pytest.mark.parametrize('algorithm', ALGORITHMS)
def test_traffic_flow_padding_is_trimmed(gate, algorithm, family):
    """RFC 4303 2.7: behind the inner packet, whose own length tells where it ends."""
    link = gate.link(algorithm=algorithm)
    inner = link.request(family, size=33)
    frames = [link.seal(inner, tfc=bytes([0xaa]) * n) for n in (1, 15, 16, 255, 1000)]
    outcome = gate.judge(frames)
    assert outcome.verdicts == {'accepted': len(frames)}
    assert outcome.core == [forwarded(inner)] * len(frames)


def test_dummies_are_discarded(gate):
    """RFC 4303 2.6: next header 59, whatever is in it; it still takes a sequence number."""
    link = gate.link()
    frames = [link.seal(payload, next_header=59)
              for payload in (b'', b'x' * 100, link.request())]
    gate.refuses(frames, 'dummy')
    gate.refuses(frames, 'replayed')
    gate.accepts(link)


def test_a_liars_number_is_used_up(gate):
    """The ICV was valid, so the window moved: the lie cannot be repaired under its number."""
    link = gate.link()
    gate.refuses(link.seal(b'', 9, next_header=4), 'inner_malformed')
    gate.refuses(link.seal(link.request(), 9), 'replayed')
    assert gate.judge(link.seal(link.request(), 10)).verdicts == {'accepted': 1}


@pytest.mark.parametrize('protocol', (1, 6, 17, 47, 89, 132, 253))
def test_any_protocol_that_the_selectors_admit(gate, protocol):
    link = gate.link()
    inner = datagram(link.client[4], SERVER[4], protocol, bytes([8]) + bytes(39))
    outcome = gate.judge(link.seal(inner))
    assert outcome.verdicts == {'accepted': 1}
    assert outcome.core == [forwarded(inner)]


def test_inner_options_pass_unchanged(gate):
    link = gate.link()
    inner = link.request(options=b'\x94\x04\0\0')  # router alert
    assert gate.judge(link.seal(inner)).core == [forwarded(inner)]
    inner = datagram(link.client[6], SERVER[6], 60, bytes((17, 0, 1, 4, 0, 0, 0, 0))
                     + link.request(6)[40:])
    assert gate.judge(link.seal(inner)).core == [forwarded(inner)]
