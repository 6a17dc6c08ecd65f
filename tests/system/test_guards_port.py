"""What the first line does for the guard's port: only what begins with TLS gets there, who has not
authenticated has what handshakes need, and who has is not touched by any of it."""

import contextlib
import itertools
import random
import socket
import struct
import threading
import time

import pytest
from scapy.layers.inet import IP, TCP

from netns import wait_until
from session_world import SessionWorld
from test_first_line import first_line
from tunnel import GATE, PEER

BURST = 3
SEGMENTS = 64  # for each handshake (bpf/shared.h)


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    with SessionWorld(tmp_path_factory.mktemp('port')) as w:
        w.open()  # the guard has its lists and keys
        w.close_sessions()
        yield w


def to_guard(world, **limits):
    return first_line(world, sessions=[{'protocol': 'tcp', 'first': world.guard.port,
                                        'last': world.guard.port}], **limits)


def segments(world, count):
    """They could belong to a connection, and come from the peer's own address."""
    chance = random.Random(count)
    return [bytes(IP(src=PEER, dst=GATE) / TCP(
        sport=chance.randrange(1024, 65536), dport=world.guard.port, flags='A',
        seq=chance.randrange(2**32), ack=1)) for _ in range(count)]


@contextlib.contextmanager
def flood(world, frames, seconds=20):
    """About 2,000 of them a second, while the block runs."""
    over = threading.Event()

    def send():
        end = time.monotonic() + seconds
        for frame in itertools.cycle(frames):
            world.send_wire(frame)
            if over.wait(0.0005) or time.monotonic() > end:
                return

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        over.set()
        sender.join()


def limited(world):
    return world.rest.verdicts()['xdp_handshake_limited']


def judged(world):
    """What XDP refused or handed to the kernel."""
    verdicts = world.rest.get('/v1/counters?by=verdict')['total']['verdicts']
    return verdicts['xdp_handshake_limited'] + verdicts['xdp_exception']


def retransmissions(connection):
    """Segments that went out again: tcpi_total_retrans of struct tcp_info (linux/tcp.h)."""
    return struct.unpack_from('I', connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104),
                              100)[0]


def test_who_has_authenticated_is_not_touched(world):
    frames = segments(world, 2000)
    with world.connect(world.csmf) as known, \
            to_guard(world, handshakes={'per_second': 1, 'burst': BURST}):
        before, seen = limited(world), judged(world)
        for frame in frames:
            world.send_wire(frame)
        assert wait_until(lambda: judged(world) - seen >= len(frames), 10)
        world.settle()
        assert limited(world) - before >= 1000
        before = limited(world)
        for _ in range(5):
            assert known.ask('GET', '/nothing')[0] == 404
        assert limited(world) == before

        with world.peer.entered():
            newcomer = socket.create_connection((GATE, world.guard.port), 5)
        with newcomer, flood(world, frames):
            assert wait_until(lambda: limited(world) - before > BURST * SEGMENTS, 10)
            newcomer.sendall(b'\x16\x03\x01\x3f\xff')  # a record that does not come to its end

            def loses():
                newcomer.sendall(b'\x01')
                return retransmissions(newcomer) > 0

            assert wait_until(loses, 5), 'a newcomer of the same source has what is left'
            assert known.ask('GET', '/nothing')[0] == 404


def test_only_tls_begins(world):
    with to_guard(world):
        before = world.rest.verdicts()['xdp_not_tls']
        with world.peer.entered():
            plain = socket.create_connection((GATE, world.guard.port), 5)
        # Closing resets it, else the kernel would go on sending what was not acknowledged.
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        with plain:
            plain.sendall(b'GET / HTTP/1.1\r\nHost: guard\r\n\r\n')
            assert wait_until(lambda: world.rest.verdicts()['xdp_not_tls'] > before, 5)
        world.settle()
        before = world.rest.verdicts()['xdp_not_tls']
        with world.connect(world.csmf) as connection:
            assert connection.ask('GET', '/nothing')[0] == 404
        with world.peer.entered():
            broken = socket.create_connection((GATE, world.guard.port), 5)
        with broken:
            broken.settimeout(20)
            broken.sendall(b'\x16\x03\x01' + bytes(100))  # the guard's to refuse
            assert broken.recv(1) in (b'\x15', b'')
        assert world.rest.verdicts()['xdp_not_tls'] == before
