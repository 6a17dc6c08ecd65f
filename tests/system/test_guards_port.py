"""What the first line does for the guard's port: only what begins with TLS gets there, who has not
authenticated has what handshakes need, and who has is not touched by any of it."""

import contextlib
import random
import socket
import time

import pytest
from scapy.layers.inet import IP, TCP

from netns import wait_until
from session_world import SessionWorld
from tunnel import GATE, PEER

BURST = 3
SEGMENTS = 64  # for each handshake (bpf/shared.h)


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    with SessionWorld(tmp_path_factory.mktemp('port')) as w:
        w.open()  # the guard has its lists and keys
        w.close_sessions()
        yield w


@contextlib.contextmanager
def first_line(world, **handshakes):
    service = {'protocol': 'tcp', 'first': world.guard.port, 'last': world.guard.port}
    assert world.rest.put('/v1/first-line', {'sessions': [service], **handshakes})['in_force']
    try:
        yield
    finally:
        world.rest.delete('/v1/first-line')


def flood(world, count):
    """Segments that could belong to a connection, from the peer's own address."""
    chance = random.Random(count)
    for _ in range(count):
        world.send_wire(bytes(IP(src=PEER, dst=GATE) / TCP(
            sport=chance.randrange(1024, 65536), dport=world.guard.port, flags='A',
            seq=chance.randrange(2**32), ack=1)))
    world.settle()


def limited(world):
    return world.rest.verdicts()['xdp_handshake_limited']


def drips(connection, count):
    """Of a record that does not come to its end."""
    connection.sendall(b'\x16\x03\x01\x3f\xff')
    for _ in range(count):
        connection.sendall(b'\x01')
        time.sleep(0.001)


def test_who_has_authenticated_is_not_touched(world):
    with world.connect(world.csmf) as known, \
            first_line(world, handshakes={'per_second': 1, 'burst': BURST}):
        with world.peer.entered():
            newcomer = socket.create_connection((GATE, world.guard.port), 5)
        newcomer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with newcomer:
            before = limited(world)
            flood(world, 2 * BURST * SEGMENTS)
            assert wait_until(lambda: limited(world) - before >= BURST * SEGMENTS - SEGMENTS, 5)
            world.settle()
            before = limited(world)
            for _ in range(5):
                assert known.ask('GET', '/nothing')[0] == 404
            assert limited(world) == before
            flood(world, BURST * SEGMENTS)  # the bucket is empty again
            before = limited(world)
            drips(newcomer, 100)
            assert limited(world) > before, 'the newcomer of the same source'


def test_only_tls_begins(world):
    with first_line(world):
        before = world.rest.verdicts()['xdp_not_tls']
        with world.peer.entered():
            plain = socket.create_connection((GATE, world.guard.port), 5)
        with plain:
            plain.sendall(b'GET / HTTP/1.1\r\nHost: guard\r\n\r\n')
            assert wait_until(lambda: world.rest.verdicts()['xdp_not_tls'] > before, 5)
        before = world.rest.verdicts()['xdp_not_tls']
        with world.connect(world.csmf) as connection:
            assert connection.ask('GET', '/nothing')[0] == 404
        with world.peer.entered():
            broken = socket.create_connection((GATE, world.guard.port), 5)
        with broken:
            broken.settimeout(20)
            broken.sendall(b'\x16\x03\x01' + bytes(100))  # the guard's to refuse
            assert broken.recv(1) in (b'\x15', b'')
    # A retransmission of the plain one may still have come; TLS is none of them.
    with first_line(world):
        before = world.rest.verdicts()['xdp_not_tls']
        with world.connect(world.csmf) as connection:
            assert connection.ask('GET', '/nothing')[0] == 404
        assert world.rest.verdicts()['xdp_not_tls'] == before
