"""Path MTU, both ways: what the gate tells senders, and what it believes of ICMP errors that quote
its own ESP. Anybody can send one of those."""

import struct
import time

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6PacketTooBig, ICMPv6TimeExceeded, IPv6

from gate import GATE, GATE_CORE, SERVER, forwarded, to_core, to_gate
from scapy_esp import checksum, datagram, tcp, transport_checksum, udp

ROUTER = {4: '203.0.113.1', 6: '2001:db8:f::99'}


def overhead(outer, encap=False):
    """ESP with AES-GCM around an inner packet that needs no padding."""
    return (20 if outer == 4 else 40) + (8 if encap else 0) + 8 + 8 + 2 + 16


def inner_mtu(path, outer, encap=False):
    """The largest inner packet: payload, pad length and next header fill whole words."""
    return (path - overhead(outer, encap) + 2) // 4 * 4 - 2


def quote_needed(packet, mtu, source=None, kind=None):
    """The ICMP error of a router on the path about `packet`, which the gate sent."""
    if packet[0] >> 4 == 4:
        body = struct.pack('!BBHHH', 3 if kind is None else kind, 4, 0, 0, mtu) + packet[:28 + 8]
        body = body[:2] + struct.pack('!H', checksum(body)) + body[4:]
        return to_gate(datagram(source or ROUTER[4], GATE[4], 1, body))
    body = struct.pack('!BBHI', 2 if kind is None else kind, 0, 0, mtu) + packet[:40 + 8 + 8]
    value = transport_checksum(source or ROUTER[6], GATE[6], 58, body)
    body = body[:2] + struct.pack('!H', value) + body[4:]
    return to_gate(datagram(source or ROUTER[6], GATE[6], 58, body))


@pytest.mark.parametrize('outer,encap', [(4, False), (4, True), (6, False), (6, True)])
@pytest.mark.parametrize('family', (4, 6))
def test_the_largest_packet_and_one_more(gate, family, outer, encap):
    link = gate.link(outer=outer, udp=encap)
    header = 28 if family == 4 else 48
    most = inner_mtu(1500, outer, encap)
    fits = link.answer(family, size=most - header, df=family == 4)
    assert len(fits) == most
    outcome = gate.judge(to_core(fits), 'core')
    assert outcome.verdicts == {'accepted': 1}
    assert 1500 - 4 < len(outcome.wire[0]) <= 1500
    big = link.answer(family, size=most + 1 - header, df=family == 4)
    outcome = gate.judge(to_core(big), 'core')
    assert outcome.verdicts == {'too_big': 1}
    assert outcome.wire == []
    (told,) = outcome.core
    if family == 4:
        error = IP(told)
        assert (error.src, error.dst) == (GATE_CORE[4], SERVER[4])
        assert (error[ICMP].type, error[ICMP].code) == (3, 4)
        assert error[ICMP].nexthopmtu == most
        assert bytes(error[ICMP].payload)[20:] == big[20:20 + 576 - 28 - 20]
        assert bytes(IP(bytes(error.copy()))) == told
    else:
        error = IPv6(told)
        assert (error.src, error.dst) == (GATE_CORE[6], SERVER[6])
        assert error[ICMPv6PacketTooBig].mtu == most
        assert len(told) == 1280  # RFC 4443 2.4 (c)
    assert_checksums(told)
    # No number was spent on it, and what fits goes on.
    assert link.open(gate.judge(to_core(fits), 'core').wire[0]).sequence == 2


def assert_checksums(packet):
    """Scapy computes them anew and finds the same."""
    if packet[0] >> 4 == 4:
        again = IP(packet)
        del again.chksum
        del again[ICMP].chksum
        assert bytes(again) == packet
    else:
        body = packet[40:]
        source, destination = (str(IPv6(packet).src), str(IPv6(packet).dst))
        assert transport_checksum(source, destination, 58, body) == 0


@pytest.mark.parametrize('family', (4, 6))
def test_time_exceeded_is_told(gate, family):
    link = gate.link()
    expired = link.answer(family, ttl=1)
    outcome = gate.judge(to_core(expired), 'core')
    assert outcome.verdicts == {'ttl_expired': 1} and outcome.wire == []
    (told,) = outcome.core
    if family == 4:
        assert (IP(told)[ICMP].type, IP(told)[ICMP].code) == (11, 0)
        assert bytes(IP(told)[ICMP].payload) == expired
    else:
        assert IPv6(told)[ICMPv6TimeExceeded].code == 0
    assert_checksums(told)


def test_no_error_about_an_error(gate):
    """RFC 1122 3.2.2. (Nor about a later fragment: test_fragments.py.)"""
    link = gate.link()
    request = link.request(size=100)
    error = datagram(SERVER[4], link.client[4], 1, bytes((3, 1, 0, 0, 0, 0, 0, 0)) + request,
                     ttl=1)
    outcome = gate.judge(to_core(error), 'core')
    assert outcome.verdicts == {'ttl_expired': 1} and outcome.core == []


def test_errors_are_rate_limited(gate):
    """RFC 1812 4.3.2.8: a flood of packets brings no flood of errors."""
    link = gate.link()
    outcome = gate.judge([to_core(link.answer(ttl=1))] * 300, 'core')
    assert outcome.verdicts == {'ttl_expired': 300}
    assert 1 <= len(outcome.core) <= 60
    time.sleep(0.15)  # the bucket of these errors is shared: leave it full for the next test


def learned(link, mtu, timeout=5):
    """Waits until the outbound SA's path MTU is `mtu`."""
    end = time.monotonic() + timeout
    while (now := link.state('outbound').pmtu) != mtu:
        assert time.monotonic() < end, f'path MTU {now}, expected {mtu}'
        time.sleep(0.005)


@pytest.mark.parametrize('outer,encap', [(4, False), (4, True), (6, False), (6, True)])
def test_a_believable_error_lowers_the_path_mtu(gate, outer, encap):
    link = gate.link(outer=outer, udp=encap)
    sent = gate.judge(to_core(link.answer(size=1000)), 'core').wire[0]
    outcome = gate.judge(quote_needed(sent, 1400))
    assert outcome.verdicts == {'icmp_consumed': 1}
    assert outcome.core == [] and outcome.wire == []
    learned(link, 1400)
    most = inner_mtu(1400, outer, encap)
    outcome = gate.judge(to_core(link.answer(size=most - 28 + 1)), 'core')
    assert outcome.verdicts == {'too_big': 1}
    assert IP(outcome.core[0])[ICMP].nexthopmtu == most
    outcome = gate.judge(to_core(link.answer(size=most - 28)), 'core')
    assert outcome.verdicts == {'accepted': 1} and len(outcome.wire[0]) <= 1400
    # Upwards only time helps.
    gate.judge(quote_needed(sent, 1450))
    gate.judge(quote_needed(sent, 1350))
    learned(link, 1350)


@pytest.mark.parametrize('outer,floor', [(4, 576), (6, 1280)])
def test_never_below_what_every_path_carries(gate, outer, floor):
    link = gate.link(outer=outer)
    sent = gate.judge(to_core(link.answer()), 'core').wire[0]
    gate.judge(quote_needed(sent, 68))
    learned(link, floor)


def test_what_is_not_believed(gate):
    """Each with a lie, and absorbed all the same; the last one is true and shows that the others
    have been looked at."""
    link, marker = gate.link(), gate.link()
    sent = gate.judge(to_core(link.answer()), 'core').wire[0]
    other_spi = sent[:20] + struct.pack('!I', link.outbound.spi ^ 1 << 30) + sent[24:]
    future = sent[:24] + struct.pack('!I', 2) + sent[28:]
    zero = sent[:24] + bytes(4) + sent[28:]
    ancient = sent[:24] + struct.pack('!I', 1 - 100000 & 0xffffffff) + sent[28:]
    elsewhere = sent[:16] + bytes((192, 0, 2, 9)) + sent[20:]
    frames = [quote_needed(p, 1000) for p in (other_spi, future, zero, ancient, elsewhere)]
    frames.append(quote_needed(sent, 1000, kind=11))   # not "too big" at all
    frames.append(quote_needed(sent[:20], 1000))       # quotes too little
    frames.append(quote_needed(sent[:24], 1000))       # SPI but no number
    frames.append(quote_needed(sent, 2000))            # upwards
    gate.refuses(frames, 'icmp_consumed')
    sent = gate.judge(to_core(marker.answer()), 'core').wire[0]
    gate.judge(quote_needed(sent, 1000))
    learned(marker, 1000)
    assert link.state('outbound').pmtu == 0
    gate.judge(quote_needed(gate.judge(to_core(link.answer()), 'core').wire[0], 1000))
    learned(link, 1000)


def test_icmp_about_anything_else_is_cleartext(gate):
    quoted = udp(SERVER[4], '203.0.113.1', 1, 2)
    body = bytes((3, 1, 0, 0, 0, 0, 0, 0)) + quoted
    gate.refuses(to_gate(datagram(ROUTER[4], SERVER[4], 1, body)), 'cleartext_denied')
    echo = bytes((8, 0, 0, 0, 0, 0, 0, 0))
    gate.refuses(to_gate(datagram(ROUTER[4], GATE[4], 1, echo)), 'cleartext_denied')


def test_too_big_for_the_servers_link(gate):
    """What was opened must fit the trusted side; nothing is fragmented. Never happens on equal
    links, since the outer packet is larger, except through reassembly: see the small core port."""
    link = gate.link()
    most = inner_mtu(1500, 4)
    inner = link.request(size=most - 28)
    outcome = gate.judge(link.seal(inner))
    assert outcome.verdicts == {'accepted': 1} and outcome.core == [forwarded(inner)]


@pytest.fixture(scope='module')
def narrow(make_gate):
    """A gate whose servers' side takes only 1000 bytes."""
    def change(config):
        config['ports'][1]['mtu'] = 1000
    return make_gate(change=change)


def test_too_big_for_a_narrow_core(narrow):
    link = narrow.link()
    inner = link.request(size=1000 - 28)
    outcome = narrow.judge(link.seal(inner))
    assert outcome.verdicts == {'accepted': 1} and outcome.core == [forwarded(inner)]
    narrow.refuses(link.seal(link.request(size=1000 - 28 + 1)), 'too_big')
    narrow.accepts(link)


# ---- TCP's own way of asking for small packets

def mss(value, odd=False):
    return (b'\x01' if odd else b'') + struct.pack('!BBH', 2, 4, value) + (
        b'\x01\x01\x01' if odd else b'')


@pytest.mark.parametrize('odd', (False, True), ids=('aligned', 'odd offset'))
@pytest.mark.parametrize('family', (4, 6))
def test_mss_of_a_syn_is_clamped(gate, family, odd):
    link = gate.link()
    headers = 40 if family == 4 else 60
    fits = inner_mtu(1500, 4) - headers
    client, server = link.client[family], SERVER[family]

    def out(value, flags=0x12):
        inner = tcp(server, client, 8080, 1, flags=flags, options=mss(value, odd))
        outcome = gate.judge(to_core(inner), 'core')
        assert outcome.verdicts == {'accepted': 1}
        return link.open(outcome.wire[0]).inner

    def expected(value, flags=0x12):
        return forwarded(tcp(server, client, 8080, 1, flags=flags, options=mss(value, odd)))

    assert out(1460) == expected(fits)       # lowered, the checksum right again
    assert out(9000) == expected(fits)
    assert out(fits) == expected(fits)
    assert out(536) == expected(536)         # never raised
    assert out(1460, flags=0x10) == expected(1460, flags=0x10)  # only in a SYN
