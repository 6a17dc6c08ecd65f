"""The other ESP party, for tests: seals what the gate opens and opens what it seals.

None of this shares code with the gate. Sa seals and opens with python3-cryptography, so that every
field can be made wrong on purpose (padding, next header, trailer, IV), ESN works with every
algorithm and thousands of packets cost no more than a second. Sa.scapy() is the same SA in Scapy's
own IPsec layer, an implementation that neither we nor the gate's authors wrote;
tests/pipeline/test_builders.py holds the two against each other.

Packets here are `bytes` that start with the IP header; frames start with the Ethernet header.
"""

import dataclasses
import hashlib
import hmac
import os
import socket
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP, SecurityAssociation

IPPROTO_ESP = 50
NON_ESP_MARKER = b'\0\0\0\0'  # RFC 3948 2.2
KEEPALIVE = b'\xff'           # RFC 3948 2.3


@dataclasses.dataclass(frozen=True)
class Algorithm:
    name: str
    cipher_key: int   # bytes
    second_key: int   # salt of an AEAD, or the integrity key
    iv: int
    align: int        # of payload || padding || pad length || next header
    aead: type | None
    icv: int = 16

    @property
    def key_bytes(self):
        return self.cipher_key + self.second_key


ALGORITHMS = {a.name: a for a in (
    Algorithm('aes-128-gcm-16', 16, 4, 8, 4, AESGCM),
    Algorithm('aes-256-gcm-16', 32, 4, 8, 4, AESGCM),
    Algorithm('chacha20-poly1305', 32, 4, 8, 4, ChaCha20Poly1305),
    Algorithm('aes-128-cbc-hmac-sha-256-128', 16, 32, 16, 16, None),
    Algorithm('aes-256-cbc-hmac-sha-256-128', 32, 32, 16, 16, None),
)}


class IntegrityError(Exception):
    """The ICV is wrong."""


@dataclasses.dataclass
class Opened:
    """What an ESP packet held. `inner` is all of the payload, TFC padding included."""
    inner: bytes
    sequence: int      # the 32 bits on the wire
    next_header: int
    padding: bytes
    outer: 'Outer'
    iv: bytes = b''


@dataclasses.dataclass
class Outer:
    """The outer header as it was read."""
    source: str
    destination: str
    traffic_class: int
    ttl: int
    df: bool
    ports: tuple | None   # (source, destination) of UDP encapsulation
    identification: int = 0
    udp_checksum: int = 0


# ---- headers, from struct: Scapy costs 100 times as long and the bulk tests need thousands

def checksum(data):
    """RFC 1071."""
    if len(data) % 2:
        data += b'\0'
    total = sum(struct.unpack(f'!{len(data) // 2}H', data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def is_v6(address):
    return ':' in address


def packed(address):
    return socket.inet_pton(socket.AF_INET6 if is_v6(address) else socket.AF_INET, address)


def ip_header(source, destination, protocol, payload, *, tos=0, ttl=64, df=False, ident=0,
              options=b'', more_fragments=False, offset=0, header_checksum=None, length=None,
              flow_label=0):
    """The IPv4 or IPv6 header (by the addresses) for `payload` bytes of `protocol`.

    offset is in units of 8 bytes; header_checksum and length are for lies.
    """
    if is_v6(source):
        return struct.pack('!IHBB', 6 << 28 | tos << 20 | flow_label,
                           payload if length is None else length, protocol,
                           ttl) + packed(source) + packed(destination)
    assert len(options) % 4 == 0
    header = 20 + len(options)
    flags = (0x4000 if df else 0) | (0x2000 if more_fragments else 0) | offset
    head = struct.pack('!BBHHHBBH', 0x40 | header // 4, tos,
                       header + payload if length is None else length, ident, flags, ttl,
                       protocol, 0) + packed(source) + packed(destination) + options
    value = checksum(head) if header_checksum is None else header_checksum
    return head[:10] + struct.pack('!H', value) + head[12:]


def datagram(source, destination, protocol, payload, **fields):
    """An IP packet."""
    return ip_header(source, destination, protocol, len(payload), **fields) + payload


def transport_checksum(source, destination, protocol, segment):
    """UDP's, TCP's and ICMPv6's checksum over the pseudo header."""
    if is_v6(source):
        pseudo = packed(source) + packed(destination) + struct.pack('!IHBB', len(segment), 0, 0,
                                                                    protocol)
    else:
        pseudo = packed(source) + packed(destination) + struct.pack('!BBH', 0, protocol,
                                                                    len(segment))
    return checksum(pseudo + segment)


def udp(source, destination, sport, dport, data=b'', **fields):
    """An IP packet with a UDP datagram, checksums right."""
    segment = struct.pack('!HHHH', sport, dport, 8 + len(data), 0) + data
    value = transport_checksum(source, destination, 17, segment) or 0xffff
    return datagram(source, destination, 17, segment[:6] + struct.pack('!H', value) + segment[8:],
                    **fields)


def tcp(source, destination, sport, dport, data=b'', flags=0x10, options=b'', **fields):
    """An IP packet with a TCP segment, checksums right."""
    assert len(options) % 4 == 0
    segment = struct.pack('!HHIIBBHHH', sport, dport, 1, 1, (20 + len(options)) // 4 << 4, flags,
                          65535, 0, 0) + options + data
    value = transport_checksum(source, destination, 6, segment)
    return datagram(source, destination, 6, segment[:16] + struct.pack('!H', value) + segment[18:],
                    **fields)


def frame(packet, destination, source, vlan=None):
    """An Ethernet frame around an IP packet. MACs as text; vlan: one id or a list, outermost
    first. Not padded to 60 bytes: veth carries short frames."""
    tags = b''
    for tag in [vlan] if isinstance(vlan, int) else vlan or []:
        tags += struct.pack('!HH', 0x8100, tag)
    kind = 0x86dd if packet[:1] and packet[0] >> 4 == 6 else 0x0800
    return mac(destination) + mac(source) + tags + struct.pack('!H', kind) + packet


def mac(text):
    return bytes.fromhex(text.replace(':', ''))


# ---- the security association

@dataclasses.dataclass
class Sa:
    """One direction of an ESP tunnel, seen from the side that is not the gate."""
    spi: int
    source: str             # outer addresses
    destination: str
    algorithm: str = 'aes-128-gcm-16'
    key: bytes = b''        # as the steering schema has it; made when empty
    esn: bool = True
    udp: bool = False
    ports: tuple = (4500, 4500)
    sequence: int = 0       # the last one used

    def __post_init__(self):
        if not self.key:
            self.key = os.urandom(self.suite.key_bytes)
        suite = self.suite
        self._cipher_key = self.key[:suite.cipher_key]
        self._second_key = self.key[suite.cipher_key:]
        self._aead = suite.aead(self._cipher_key) if suite.aead else None

    @property
    def suite(self):
        return ALGORITHMS[self.algorithm]

    # -- sealing

    def trailer(self, payload, next_header, padding=None, pad_length=None):
        """padding || pad length || next header (RFC 4303 2.4); None: as the RFC wants it."""
        if padding is None:
            padding = bytes(range(1, 1 + -(len(payload) + 2) % self.suite.align))
        length = len(padding) if pad_length is None else pad_length
        return padding + bytes((length, next_header))

    def esp(self, inner, sequence=None, *, next_header=None, tfc=b'', padding=None,
            pad_length=None, iv=None):
        """The ESP packet from SPI to ICV. sequence is the full 64-bit number; None: the next."""
        if sequence is None:
            self.sequence += 1
            sequence = self.sequence
        if next_header is None:
            next_header = 41 if inner[:1] and inner[0] >> 4 == 6 else 4
        payload = inner + tfc
        plain = payload + self.trailer(payload, next_header, padding, pad_length)
        high, low = sequence >> 32, sequence & 0xffffffff
        head = struct.pack('!II', self.spi, low)
        if self._aead:
            iv = struct.pack('!Q', sequence) if iv is None else iv
            return head + iv + self._aead.encrypt(self._second_key + iv, plain,
                                                  self._aad(high, low))
        iv = os.urandom(16) if iv is None else iv
        encryptor = Cipher(algorithms.AES(self._cipher_key), modes.CBC(iv)).encryptor()
        body = head + iv + encryptor.update(plain) + encryptor.finalize()
        return body + self._hmac(body, high)

    def packet(self, inner, sequence=None, *, outer=None, **esp):
        """The IP packet that carries `inner`. outer: fields of ip_header."""
        body = self.esp(inner, sequence, **esp)
        protocol = IPPROTO_ESP
        if self.udp:
            # RFC 3948 2.1: checksum 0. A peer's host would discard that over IPv6, the gate takes it.
            body = struct.pack('!HHHH', *self.ports, 8 + len(body), 0) + body
            protocol = 17
        return datagram(self.source, self.destination, protocol, body, **(outer or {}))

    # -- opening

    def open(self, packet, high=0):
        """Opened, of an IP packet with this SPI. Raises IntegrityError."""
        outer, esp = split(packet)
        spi, low = struct.unpack('!II', esp[:8])
        assert spi == self.spi, f'SPI {spi:#x}, expected {self.spi:#x}'
        assert (outer.ports is not None) == self.udp, f'UDP encapsulation: {outer.ports}'
        suite = self.suite
        iv, body = esp[8:8 + suite.iv], esp[8 + suite.iv:]
        if self._aead:
            try:
                plain = self._aead.decrypt(self._second_key + iv, body, self._aad(high, low))
            except InvalidTag as error:
                raise IntegrityError from error
        else:
            if not hmac.compare_digest(self._hmac(esp[:-16], high), esp[-16:]):
                raise IntegrityError
            decryptor = Cipher(algorithms.AES(self._cipher_key), modes.CBC(iv)).decryptor()
            plain = decryptor.update(body[:-16]) + decryptor.finalize()
        assert len(plain) % suite.align == 0, 'RFC 4303 2.4: not aligned'
        pad = plain[-2]
        end = len(plain) - 2 - pad
        return Opened(inner=plain[:end], sequence=low, next_header=plain[-1],
                      padding=plain[end:-2], outer=outer, iv=iv)

    def _aad(self, high, low):
        return struct.pack('!III', self.spi, high, low) if self.esn else struct.pack(
            '!II', self.spi, low)

    def _hmac(self, body, high):
        if self.esn:
            body += struct.pack('!I', high)  # RFC 4303 2.2.1: authenticated, not sent
        return hmac.new(self._second_key, body, hashlib.sha256).digest()[:16]

    # -- Scapy

    def scapy(self):
        """This SA in Scapy's IPsec layer; None for CBC with ESN, which Scapy cannot do."""
        suite = self.suite
        if not suite.aead and self.esn:
            return None
        tunnel = (IPv6 if is_v6(self.source) else IP)(src=self.source, dst=self.destination)
        common = {'tunnel_header': tunnel}
        if self.udp:
            common['nat_t_header'] = UDP(sport=self.ports[0], dport=self.ports[1])
        if suite.aead:
            name = 'CHACHA20-POLY1305' if suite.aead is ChaCha20Poly1305 else 'AES-GCM'
            # Scapy takes the salt off the end of the key itself.
            return SecurityAssociation(ESP, spi=self.spi, crypt_algo=name, crypt_key=self.key,
                                       esn_en=self.esn, **common)
        return SecurityAssociation(ESP, spi=self.spi, crypt_algo='AES-CBC',
                                   crypt_key=self._cipher_key, auth_algo='SHA2-256-128',
                                   auth_key=self._second_key, **common)


def split(packet):
    """(Outer, ESP bytes) of an IP packet that carries ESP, bare or in UDP."""
    if packet[0] >> 4 == 4:
        header = (packet[0] & 15) * 4
        total, ident, flags = struct.unpack('!HHH', packet[2:8])
        assert checksum(packet[:header]) == 0, 'outer header checksum is wrong'
        protocol, ttl = packet[9], packet[8]
        outer = Outer(socket.inet_ntop(socket.AF_INET, packet[12:16]),
                      socket.inet_ntop(socket.AF_INET, packet[16:20]), packet[1], ttl,
                      bool(flags & 0x4000), None, ident)
    else:
        header = 40
        total = 40 + struct.unpack('!H', packet[4:6])[0]
        protocol, ttl = packet[6], packet[7]
        outer = Outer(socket.inet_ntop(socket.AF_INET6, packet[8:24]),
                      socket.inet_ntop(socket.AF_INET6, packet[24:40]),
                      struct.unpack('!I', packet[:4])[0] >> 20 & 0xff, ttl, False, None)
    body = packet[header:total]
    if protocol == 17:
        sport, dport, length, outer.udp_checksum = struct.unpack('!HHHH', body[:8])
        assert length == len(body), 'UDP length contradicts the IP length'
        assert outer.udp_checksum == 0 or transport_checksum(
            outer.source, outer.destination, 17, body) == 0, 'outer UDP checksum is wrong'
        outer.ports = (sport, dport)
        body = body[8:]
    else:
        assert protocol == IPPROTO_ESP, f'protocol {protocol} is not ESP'
    return outer, body
