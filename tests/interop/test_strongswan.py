"""ESP with strongSwan, which none of us wrote: its user-space ESP (libipsec) at one end, the gate
at the other, SAs made by IKEv2.

      peer                     switch                    gate                      server
    charon 192.0.2.2 ═ to-peer ─ br0 ─ to-gate ═ wire0 192.0.2.1, core0 ═════ 10.2.0.10
     or 2001:db8:f::2                             or 2001:db8:f::1        2001:db8:2::10
    clients 10.1.0.x

Two charons, one on the peer, one on the gate, do IKE with each other and log the keys. Then the
gate's charon is killed, so that it cannot say goodbye, and Portcullis takes its place with the same
address, SPIs and keys over REST. The peer's charon never learns of it. libipsec speaks ESP in UDP
only and has no ESN, so all SAs are UDP-encapsulated with 32-bit numbers.
"""

import contextlib
import os
import pathlib
import socket
import subprocess
import sys

import pytest

from netns import Namespaces, wait_until
from processes import Control, Dataplane, Pki, Process, Wire, instance_name
from scapy_esp import NON_ESP_MARKER, split, transport_checksum
from strongswan import Charon, Child

OUTER = {4: ('192.0.2.1', '192.0.2.2'), 6: ('2001:db8:f::1', '2001:db8:f::2')}  # gate, peer
SERVER, SERVER6 = '10.2.0.10', '2001:db8:2::10'
NETWORKS = {SERVER: '10.2.0.0/24', SERVER6: '2001:db8:2::/64'}
HTTP, UDP_PORT, CLIENT_PORT = 8080, 5000, 40000
DOWNLOADED = 200_000  # bytes: many full segments, and ACKs the other way

# (name, strongSwan's proposal, our algorithm, inner address of the client)
CASES = [
    ('gcm128', 'aes128gcm16', 'aes-128-gcm-16', '10.1.0.11'),
    ('gcm256', 'aes256gcm16', 'aes-256-gcm-16', '10.1.0.12'),
    ('chacha', 'chacha20poly1305', 'chacha20-poly1305', '10.1.0.13'),
    ('cbc128', 'aes128-sha256', 'aes-128-cbc-hmac-sha-256-128', '10.1.0.14'),
    ('cbc256', 'aes256-sha256', 'aes-256-cbc-hmac-sha-256-128', '10.1.0.15'),
    ('inner6', 'aes128gcm16', 'aes-128-gcm-16', '2001:db8:1::16'),
]
CLIENTS = {name: client for name, _, _, client in CASES}


def server_of(client):
    return SERVER6 if ':' in client else SERVER


def host_prefix(address):
    return f'{address}/{128 if ":" in address else 32}'


class Interop:
    """Everything in the picture, Portcullis in charge of the gate."""

    def __init__(self, folder, outer):
        self.folder = pathlib.Path(folder)
        self.gate_address, self.peer_address = OUTER[outer]
        with contextlib.ExitStack() as stack:
            self.world = stack.enter_context(Namespaces(f'swan{outer}'))
            self._hosts()
            self._negotiate(stack)
            self._take_over(stack)
            self._listen(stack)
            self.stack = stack.pop_all()

    def _hosts(self):
        world = self.world
        self.peer, self.switch, self.gate, self.server = map(
            world.add, ('peer', 'switch', 'gate', 'server'))
        for host in world.all:
            # Addresses work at once, or ND would wait for seconds.
            host.sysctl('net.ipv6.conf.default.accept_dad', 0)
        # A switch, because all that crosses it is seen: XDP and AF_XDP pass by a host's own taps.
        world.veth(self.peer, 'wire0', self.switch, 'to-peer')
        world.veth(self.gate, 'wire0', self.switch, 'to-gate')
        world.veth(self.gate, 'core0', self.server, 'srv0')
        self.switch.run(['ip', 'link', 'add', 'br0', 'type', 'bridge', 'stp_state', '0',
                         'mcast_snooping', '0'])
        for port in ('to-peer', 'to-gate'):
            self.switch.run(['ip', 'link', 'set', port, 'master', 'br0'])
            self.switch.sysctl(f'net.ipv6.conf.{port}.disable_ipv6', 1)
        self.switch.run(['ip', 'link', 'set', 'br0', 'arp', 'off', 'up'])
        for client in CLIENTS.values():
            self.peer.address('lo', host_prefix(client))
        for gate, peer in OUTER.values():
            length = 64 if ':' in gate else 24
            self.gate.address('wire0', f'{gate}/{length}')
            self.peer.address('wire0', f'{peer}/{length}')
        for host, interface, number in ((self.gate, 'core0', '1'), (self.server, 'srv0', '10')):
            host.address(interface, f'10.2.0.{number}/24')
            host.address(interface, f'2001:db8:2::{number}/64')
        self.server.route('10.1.0.0/16', via='10.2.0.1')
        self.server.route('2001:db8:1::/64', via='2001:db8:2::1')

    def _negotiate(self, stack):
        """IKE between the two charons, one CHILD_SA after the other."""
        def charon(host, local, remote, local_is_client):
            children = []
            for name, proposal, _, client in CASES:
                # The network, not the server alone: libipsec wants an address of its own in there.
                ends = (host_prefix(client), NETWORKS[server_of(client)])
                children.append(Child(name, *(ends if local_is_client else reversed(ends)),
                                      proposal))
            made = Charon(host, self.folder / f'charon-{host.name}', local, remote, children,
                          log_keys=True)
            stack.callback(made.stop)
            made.start()
            return made

        before = charon(self.gate, self.gate_address, self.peer_address, False)
        self.charon = charon(self.peer, self.peer_address, self.gate_address, True)
        for name in CLIENTS:
            self.charon.initiate(name)
        self.keyed = self.charon.keys()
        # The other log is of the same negotiation, seen from the other end.
        for name, other in before.keys().items():
            mine = self.keyed[name]
            assert (mine.inbound_spi, mine.outbound_spi) == (other.outbound_spi, other.inbound_spi)
            assert (mine.initiator_key, mine.responder_key) == (other.initiator_key,
                                                                other.responder_key)
        assert set(self.keyed) == set(CLIENTS) == set(before.keys())
        before.kill()

    def _take_over(self, stack):
        ports = [{'name': 'wire', 'role': 'untrusted', 'device': {'interface': 'wire0'}},
                 {'name': 'core', 'role': 'trusted', 'device': {'interface': 'core0'}}]
        # charon draws SPIs at random, and two with the same low bits cannot be installed together:
        # with so many slots six will not meet.
        self.dataplane = Dataplane(self.gate, self.folder, instance_name('s'), ports,
                                   sas={'capacity': 1 << 18, 'max_replay_window': 1024})
        stack.callback(self.dataplane.forget)
        stack.callback(self.dataplane.stop)
        self.dataplane.start()
        control = Control(self.gate, self.folder, self.dataplane.socket, Pki(self.folder / 'pki'))
        stack.callback(control.stop)
        control.start()
        self.rest = control.rest()
        stack.callback(self.rest.close)
        self.rest.put('/v1/policy', {
            'interfaces': [{
                'name': 'server', 'type': 'management-exposure', 'side': 'local',
                'prefixes': [host_prefix(SERVER), host_prefix(SERVER6)], 'zone': 'internal',
                'protection': 'esp', 'ports': [
                    {'protocol': 'tcp', 'first': HTTP, 'last': HTTP},
                    {'protocol': 'udp', 'first': UDP_PORT, 'last': UDP_PORT},
                    {'protocol': 'icmp'}, {'protocol': 'icmpv6'}]}],
            'peers': [{'name': 'strongswan', 'identity': 'strongswan.example', 'role': 'csmf',
                       'endpoint': self.peer_address,
                       'prefixes': [host_prefix(c) for c in CLIENTS.values()]}],
            'policies': [{'name': 'manage', 'role': 'csmf', 'interface': 'server'}]})
        for name, _, algorithm, client in CASES:
            keyed = self.keyed[name]  # charon's outbound is the gate's inbound; charon initiated
            for direction, spi, key in (('inbound', keyed.outbound_spi, keyed.initiator_key),
                                        ('outbound', keyed.inbound_spi, keyed.responder_key)):
                self.rest.post('/v1/sas', {
                    'id': f'{name}-{direction}', 'peer': 'strongswan', 'direction': direction,
                    'spi': f'0x{spi:08x}', 'algorithm': algorithm, 'key': key.hex(), 'esn': False,
                    'selectors': [{'local': host_prefix(server_of(client)),
                                   'remote': host_prefix(client)}],
                    'tunnel': {'local': self.gate_address, 'remote': self.peer_address,
                               'udp_encap': True}})

    def _listen(self, stack):
        web = self.folder / 'web'
        web.mkdir()
        self.image = os.urandom(DOWNLOADED)
        (web / 'image').write_bytes(self.image)
        for address in (SERVER, SERVER6):
            process = Process(self.server, [sys.executable, '-m', 'http.server', HTTP, '--bind',
                                            address, '--directory', web],
                              self.folder / f'http-{address.replace(":", "-")}.log')
            stack.callback(process.stop)
            process.launch()
            fetch = ['curl', '-s', '--noproxy', '*', '-o', '/dev/null', url(address)]
            process.require(lambda fetch=fetch: self.server.run(fetch, check=False).returncode == 0,
                            'serving')
        self.from_peer, self.from_gate = (
            stack.enter_context(Wire(self.switch, port, keep=is_esp_in_udp))
            for port in ('to-peer', 'to-gate'))

    def settle(self):
        """Until nothing is under way, so that the verdicts stand still."""
        self.from_peer.settle()
        self.from_gate.settle()

    def close(self):
        self.stack.close()


def url(address):
    host = f'[{address}]' if ':' in address else address
    return f'http://{host}:{HTTP}/image'


@pytest.fixture(scope='module')
def interops(tmp_path_factory):
    """{outer IP version: Interop}, made when the first test asks for it."""
    running = {}
    yield lambda outer: running.get(outer) or running.setdefault(
        outer, Interop(tmp_path_factory.mktemp('interop'), outer))
    for one in running.values():
        one.close()


@pytest.fixture
def interop(interops, outer):
    return interops(outer)


every_child = pytest.mark.parametrize('outer,child', [
    *((4, name) for name in CLIENTS), (6, 'gcm128'), (6, 'inner6')])


def grown(interop, before):
    now = interop.rest.verdicts()
    return {name: now[name] - before[name] for name in now if now[name] != before[name]}


def counted(interop, before, expected):
    """The verdicts since `before`, once they are as expected or clearly stay wrong."""
    wait_until(lambda: grown(interop, before) == expected, 5)
    return grown(interop, before)


def datagrams(host, address, port):
    with host.entered():
        sock = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET,
                             socket.SOCK_DGRAM)
    sock.bind((address, port))
    sock.settimeout(5)
    return sock


def esp_at(frame):
    """Where ESP begins, or the non-ESP marker, in a frame that carries it in UDP."""
    return 14 + (20 if frame[12:14] == b'\x08\x00' else 40) + 8


def is_esp_in_udp(frame):
    protocol = {b'\x08\x00': 14 + 9, b'\x86\xdd': 14 + 6}.get(bytes(frame[12:14]))
    if protocol is None or frame[protocol] != socket.IPPROTO_UDP:
        return False
    at = esp_at(frame)
    return frame[at - 6:at - 4] == (4500).to_bytes(2, 'big') and frame[at:at + 4] != NON_ESP_MARKER


def esp_frames(wire, spi, first):
    """The frames with this SPI that the switch saw since `first`."""
    return [frame for frame in wire.frames[first:]
            if frame[esp_at(frame):esp_at(frame) + 4] == spi.to_bytes(4, 'big')]


def the_one(wire, spi, first):
    """The ESP frame that must have crossed since `first`; the switch may note it a little later
    than the receiver has it."""
    assert wait_until(lambda: esp_frames(wire, spi, first), 5)
    (frame,) = esp_frames(wire, spi, first)
    return frame


def forged(frame):
    """The same under the next number, which is new: only the ICV can tell."""
    at = esp_at(frame) + 4
    number = int.from_bytes(frame[at:at + 4], 'big') + 1
    changed = bytearray(frame[:at] + number.to_bytes(4, 'big') + frame[at + 4:])
    if changed[14] >> 4 == 6:
        # Or the peer's kernel would refuse it first.
        udp = slice(at - 12, None)
        changed[at - 6:at - 4] = b'\0\0'
        value = transport_checksum(socket.inet_ntop(socket.AF_INET6, changed[22:38]),
                                   socket.inet_ntop(socket.AF_INET6, changed[38:54]),
                                   socket.IPPROTO_UDP, bytes(changed[udp]))
        changed[at - 6:at - 4] = (value or 0xffff).to_bytes(2, 'big')
    return bytes(changed)


@every_child
def test_ping_and_http_pass_both_ways(interop, child):
    client = CLIENTS[child]
    interop.settle()
    before = interop.rest.verdicts()
    ping = interop.peer.run(['ping', '-c', '3', '-i', '0.2', '-W', '2', '-I', client,
                             server_of(client)])
    assert ' 3 received' in ping
    page = subprocess.run(interop.peer.command(
        ['curl', '--silent', '--show-error', '--noproxy', '*', '--max-time', 20, '--interface',
         client, url(server_of(client))]), capture_output=True, check=True, timeout=30)
    assert page.stdout == interop.image
    # And nothing of it was refused: no other verdict moved.
    assert set(grown(interop, before)) == {'accepted'}


@every_child
def test_both_say_esp_in_udp_under_the_negotiated_spis(interop, child):
    client, keyed = CLIENTS[child], interop.keyed[child]
    gate, peer = interop.gate_address, interop.peer_address
    ways = ((interop.from_peer, keyed.outbound_spi, peer, gate, interop.from_peer.count()),
            (interop.from_gate, keyed.inbound_spi, gate, peer, interop.from_gate.count()))
    interop.peer.run(['ping', '-c', '1', '-W', '2', '-I', client, server_of(client)])
    for wire, spi, source, destination, first in ways:
        outer, _ = split(the_one(wire, spi, first)[14:])
        assert (outer.source, outer.destination, outer.ports) == (source, destination, (4500, 4500))


@every_child
def test_the_gate_refuses_a_replay_and_a_forgery_and_takes_the_fresh(interop, child):
    """What strongSwan sealed, sent again or changed by somebody on the wire."""
    client, keyed = CLIENTS[child], interop.keyed[child]
    with datagrams(interop.server, server_of(client), UDP_PORT) as server, \
            datagrams(interop.peer, client, CLIENT_PORT) as source:
        first = interop.from_peer.count()
        source.sendto(b'once', (server_of(client), UDP_PORT))
        assert server.recv(100) == b'once'
        original = the_one(interop.from_peer, keyed.outbound_spi, first)
        interop.settle()
        before = interop.rest.verdicts()
        interop.from_gate.send(original)
        expected = {'replayed': 1}
        assert counted(interop, before, expected) == expected
        interop.from_gate.send(forged(original))
        expected['auth_failed'] = 1
        assert counted(interop, before, expected) == expected
        # The twin, under the number that the forgery claimed.
        source.sendto(b'fresh', (server_of(client), UDP_PORT))
        assert server.recv(100) == b'fresh'  # and nothing before it
        expected['accepted'] = 1
        assert counted(interop, before, expected) == expected


@every_child
def test_strongswan_refuses_a_replay_and_a_forgery_and_takes_the_fresh(interop, child):
    """What the gate sealed: who checks finds numbers that grow and an ICV over all of it."""
    client, keyed = CLIENTS[child], interop.keyed[child]

    def refusals():
        log = interop.charon.log_text()
        return (log.count('ESP sequence number verification failed'),
                log.count('ESP decryption or ICV verification failed'))

    with datagrams(interop.server, server_of(client), UDP_PORT) as server, \
            datagrams(interop.peer, client, CLIENT_PORT) as sink:
        first = interop.from_gate.count()
        server.sendto(b'once', (client, CLIENT_PORT))
        assert sink.recv(100) == b'once'
        original = the_one(interop.from_gate, keyed.inbound_spi, first)
        replays, forgeries = refusals()
        interop.from_peer.send(original)
        assert wait_until(lambda: refusals() == (replays + 1, forgeries), 5), refusals()
        interop.from_peer.send(forged(original))
        assert wait_until(lambda: refusals() == (replays + 1, forgeries + 1), 5), refusals()
        server.sendto(b'fresh', (client, CLIENT_PORT))
        assert sink.recv(100) == b'fresh'
        assert refusals() == (replays + 1, forgeries + 1)


@pytest.mark.parametrize('outer', [4])
def test_what_strongswan_seals_against_policy_ends_at_the_gate(interop):
    """The SA's selectors admit any protocol and port, the policy does not."""
    with datagrams(interop.server, SERVER, UDP_PORT) as allowed, \
            datagrams(interop.server, SERVER, UDP_PORT + 1) as denied, \
            datagrams(interop.peer, CLIENTS['gcm128'], CLIENT_PORT) as source:
        interop.settle()
        before = interop.rest.verdicts()
        source.sendto(b'no', (SERVER, UDP_PORT + 1))
        source.sendto(b'yes', (SERVER, UDP_PORT))
        assert allowed.recv(100) == b'yes'
        expected = {'no_policy': 1, 'accepted': 1}
        assert counted(interop, before, expected) == expected
        denied.setblocking(False)
        with pytest.raises(BlockingIOError):
            denied.recv(100)
