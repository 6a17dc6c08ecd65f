"""The tests' own ESP party against Scapy's: each opens what the other seals."""

import itertools

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import IPSecIntegrityError
from scapy.packet import Raw

from scapy_esp import ALGORITHMS, IntegrityError, Sa, udp

V4, V6 = ('192.0.2.2', '192.0.2.1'), ('2001:db8:f::2', '2001:db8:f::1')
CASES = [case for case in itertools.product(ALGORITHMS, (False, True), (V4, V6), (False, True))
         if ALGORITHMS[case[0]].aead or not case[1]]  # Scapy has no ESN with an HMAC


@pytest.mark.parametrize('algorithm,esn,outer,encap', CASES)
def test_scapy_opens_what_we_seal(algorithm, esn, outer, encap):
    sa = Sa(0x1234, *outer, algorithm=algorithm, esn=esn, udp=encap)
    high = 7 if esn else 0
    inner = udp('10.1.0.2', '10.2.0.10', 1000, 2000, b'hello')
    packet = sa.packet(inner, high << 32 | 5)
    opened = sa.scapy().decrypt((IPv6 if ':' in outer[0] else IP)(packet), esn=high)
    assert bytes(opened) == inner
    broken = bytearray(packet)
    broken[-1] ^= 1
    with pytest.raises(IPSecIntegrityError):
        sa.scapy().decrypt((IPv6 if ':' in outer[0] else IP)(bytes(broken)), esn=high)


# Scapy 2.5 computes the length of the UDP header over IPv4 before the payload is there.
@pytest.mark.parametrize('algorithm,esn,outer,encap', [c for c in CASES if c[2:] != (V4, True)])
def test_we_open_what_scapy_seals(algorithm, esn, outer, encap):
    sa = Sa(0x1234, *outer, algorithm=algorithm, esn=esn, udp=encap)
    high = 7 if esn else 0
    inner = IP(src='10.1.0.2', dst='10.2.0.10') / UDP(sport=1000, dport=2000) / Raw(b'hello')
    packet = bytes(sa.scapy().encrypt(inner, seq_num=5, esn=high))
    opened = sa.open(packet, high)
    assert opened.inner == bytes(inner)
    assert (opened.sequence, opened.next_header) == (5, 4)
    with pytest.raises(IntegrityError):
        sa.open(packet[:-1] + bytes([packet[-1] ^ 1]), high)


@pytest.mark.parametrize('algorithm', ALGORITHMS)
def test_the_upper_half_of_the_sequence_number_is_authenticated(algorithm):
    sa = Sa(0x1234, *V4, algorithm=algorithm, esn=True)
    inner = udp('10.1.0.2', '10.2.0.10', 1, 2)
    packet = sa.packet(inner, 1 << 32 | 9)
    assert sa.open(packet, 1).inner == inner
    with pytest.raises(IntegrityError):
        sa.open(packet, 0)


def test_inner_packets_are_what_scapy_would_make():
    ours = udp('10.1.0.2', '10.2.0.10', 1, 2, b'x', ttl=9, tos=3, ident=7)
    theirs = IP(src='10.1.0.2', dst='10.2.0.10', ttl=9, tos=3, id=7) / UDP(sport=1, dport=2) / b'x'
    assert ours == bytes(theirs)
    ours = udp('2001:db8::1', '2001:db8::2', 1, 2, b'x', ttl=9, tos=3)
    theirs = IPv6(src='2001:db8::1', dst='2001:db8::2', hlim=9, tc=3) / UDP(sport=1, dport=2) / b'x'
    assert ours == bytes(theirs)
