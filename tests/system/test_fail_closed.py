"""Cleartext never reaches the server, whatever state the gate is in, and the kernel is no way around.

    attacker                     gate                        server
    192.0.2.66 wire0 ═════ wire0 192.0.2.1
    2001:db8::66                 core0 10.2.0.1 ═════ srv0 10.2.0.10, HTTP 8080, UDP 5000
                                       2001:db8:2::1       2001:db8:2::10

Each state is attacked in every way that the open path is known to let through: test_the_open_path
shows that they all arrive without Portcullis, and each test shows it again in its own world, with
Portcullis taken off the ports. Where a dataplane runs, a legitimate ESP packet arrives meanwhile.
"""

import http.client
import http.server
import itertools
import signal
import socket
import socketserver
import threading
import time

import pytest

from netns import Namespaces, wait_until
from processes import Dataplane, Lab, Wire, instance_name
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_LSRR, fragment
from scapy.layers.inet6 import ICMPv6ND_NS, IPv6
from scapy.layers.l2 import Ether
from scapy_esp import Sa, frame
from steer_client import SteerClient
from tunnel import CLIENT, GATE, PORT, SERVER, Repeat, number_of, numbered

ATTACKER, ATTACKER6 = '192.0.2.66', '2001:db8::66'
GATE6, SERVER6 = '2001:db8::1', '2001:db8:2::10'
FROM_ATTACKER = (socket.inet_aton(ATTACKER), socket.inet_pton(socket.AF_INET6, ATTACKER6))
FROM_SERVER = (socket.inet_aton(SERVER), socket.inet_pton(socket.AF_INET6, SERVER6))


def sent_by(addresses, far_side):
    """A filter of frames: IP packets with one of these sources, to the other side of the gate."""
    def keep(seen):
        if seen[12:14] == b'\x08\0':
            return seen[26:30] in addresses and seen[30:33] in far_side
        if seen[12:14] == b'\x86\xdd':
            return seen[22:38] in addresses and seen[38:44] in far_side
        return False
    return keep


def side(v4, v6):
    """The first 24 bits of IPv4 and the first 48 of IPv6 destinations on one side of the gate."""
    return socket.inet_aton(v4)[:3], socket.inet_pton(socket.AF_INET6, v6)[:6]


class World(Lab):
    """The three hosts, a server that really serves, and an attacker on the wire."""

    def __init__(self, folder):
        super().__init__(Namespaces('shut'))
        self.spis = itertools.count(0x1001)
        self.numbers = itertools.count(1)
        try:
            self._build(folder)
        except BaseException:
            self.close()
            raise

    def _build(self, folder):
        add = self.world.add
        self.attacker, self.gate, self.server = add('attacker'), add('gate'), add('server')
        self.world.veth(self.attacker, 'wire0', self.gate, 'wire0')
        self.world.veth(self.gate, 'core0', self.server, 'srv0')
        for namespace, interface, addresses in (
                (self.attacker, 'wire0', (f'{ATTACKER}/24', f'{ATTACKER6}/64')),
                (self.gate, 'wire0', (f'{GATE}/24', f'{GATE6}/64')),
                (self.gate, 'core0', ('10.2.0.1/24', '2001:db8:2::1/64')),
                (self.server, 'srv0', (f'{SERVER}/24', f'{SERVER6}/64'))):
            for address in addresses:
                namespace.address(interface, address)
        self.attacker.route('10.2.0.0/24', via=GATE)
        self.attacker.route('2001:db8:2::/64', via=GATE6)
        self.server.route('0.0.0.0/0', via='10.2.0.1')
        self.server.route('::/0', via='2001:db8:2::1')
        # A careless host: were it not for the gate, source routes would be followed.
        for where in ('all', 'wire0'):
            self.gate.sysctl(f'net.ipv4.conf.{where}.accept_source_route', 1)
        self.forwarding(False)
        self._serve()

        self.dataplane = Dataplane(self.gate, folder, instance_name('s'), [
            {'name': 'wire', 'role': 'untrusted', 'device': {'interface': 'wire0'}},
            {'name': 'core', 'role': 'trusted', 'device': {'interface': 'core0'}}])
        self.closing.append(self.dataplane.forget)
        # What crossed the gate in cleartext, in either direction ...
        self.inside = self._recorder(self.server, 'srv0',
                                     sent_by(FROM_ATTACKER, side('10.2.0.0', '2001:db8:2::')))
        self.outside = self._recorder(self.attacker, 'wire0',
                                      sent_by(FROM_SERVER, side('192.0.2.0', '2001:db8::')))
        # ... and what arrived decrypted.
        self.decrypted = self._recorder(self.server, 'srv0',
                                        lambda seen: number_of(seen[14:]) is not None)
        self.gate_mac = self.gate.mac('wire0')
        self.attacker_mac = self.attacker.mac('wire0')

    def _recorder(self, namespace, interface, keep):
        wire = Wire(namespace, interface, keep)
        self.closing.append(wire.close)
        return wire

    def _serve(self):
        with self.server.entered():
            server = Server((SERVER, 8080), Answer)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.closing += [server.server_close, server.shutdown]
        self.server4 = self._datagrams(self.server, SERVER)
        self.server6 = self._datagrams(self.server, SERVER6)
        self.attacker4 = self._datagrams(self.attacker, ATTACKER)
        self.attacker6 = self._datagrams(self.attacker, ATTACKER6)

    def _datagrams(self, namespace, address):
        """Somebody listens on PORT, or the kernel would answer with ICMP errors."""
        with namespace.entered():
            sock = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET,
                                 socket.SOCK_DGRAM)
        sock.bind((address, PORT))
        self.closing.append(sock.close)
        return sock

    # -- the gate's state

    def forwarding(self, on):
        """Of both families, on every interface, as `sysctl net.ipv4.ip_forward=1` and its IPv6
        sibling do it."""
        self.gate.forwarding(on)

    def ports(self, flag):
        """portcullis-dataplane --close-ports or --open-ports, which must succeed."""
        self.gate.run([*self.dataplane.argv, flag])

    def start(self):
        self.dataplane.start()
        self.steer = SteerClient(self.dataplane.socket)
        self.steer.apply(
            peers=[{'name': 'csmf-1', 'prefixes': [f'{CLIENT}/32'], 'rules': [{
                'policy': 'manage', 'local': f'{SERVER}/32', 'remote': f'{CLIENT}/32',
                'protocol': 'udp', 'local_ports': PORT}]}],
            interfaces=[{'name': 'nsmf', 'prefixes': ['10.2.0.0/24', '2001:db8:2::/64']}])
        self.sa = Sa(next(self.spis), ATTACKER, GATE)
        self.steer.add_sas([{
            'id': f'in-{self.sa.spi:x}', 'peer': 'csmf-1', 'direction': 'inbound',
            'spi': self.sa.spi, 'key': self.sa.key,
            'selectors': [{'local': f'{SERVER}/32', 'remote': f'{CLIENT}/32', 'protocol': 'udp',
                           'local_ports': PORT}],
            'tunnel': {'local': GATE, 'remote': ATTACKER}}])

    def legitimate_arrives(self, timeout=10):
        """Does what a peer seals reach the server? (The attacker's host doubles as the peer.)"""
        def once():
            number = next(self.numbers)
            self.outside.send(frame(self.sa.packet(numbered(CLIENT, SERVER, number)),
                                    self.gate_mac, self.attacker_mac))
            return wait_until(lambda: any(number_of(seen[14:]) == number
                                          for seen in list(self.decrypted.frames)), 0.5)
        return wait_until(once, timeout)

    # -- the attack

    def _attempts(self):
        """{name: a function that sends it once}. Each carries its name, to be told by when it
        crosses; fragments carry it in every part."""
        ether = Ether(dst=self.gate_mac, src=self.attacker_mac)
        to_server = IP(src=ATTACKER, dst=SERVER)
        mark = {name: f'<{name}>'.encode() for name in EVERYTHING}
        datagram = UDP(sport=4500, dport=4500) / (b'\0\0\x10\x01' + mark['fragments'] * 180)
        frames = {
            'syn': [ether / to_server / TCP(sport=1024, dport=8080, flags='S') / mark['syn']],
            'ping': [ether / to_server / ICMP() / mark['ping']],
            'ESP past the gate': [ether / IP(src=ATTACKER, dst=SERVER, proto=50) /
                                  mark['ESP past the gate']],
            'fragments': [ether / f for f in fragment(to_server / datagram, 1000)],
            'source route': [ether / IP(src=ATTACKER, dst=GATE, options=[
                IPOption_LSRR(routers=[SERVER])]) / UDP(sport=1, dport=PORT) /
                             mark['source route']],
            'disguised as neighbour discovery': [
                ether / IPv6(src=ATTACKER6, dst=SERVER6, hlim=255) / ICMPv6ND_NS(tgt=SERVER6) /
                mark['disguised as neighbour discovery']],
        }
        sockets = {'udp': (self.attacker4, SERVER), 'udp over IPv6': (self.attacker6, SERVER6),
                   'out of the server': (self.server4, ATTACKER),
                   'out of the server over IPv6': (self.server6, ATTACKER6)}

        def raw(packets):
            for packet in packets:
                self.outside.send(bytes(packet))

        return {**{name: lambda p=packets: raw(p) for name, packets in frames.items()},
                **{name: lambda s=sender, n=name, t=to: s.sendto(mark[n], (t, PORT))
                   for name, (sender, to) in sockets.items()}}

    def attack(self, rounds=5):
        """The names of what crossed the gate, of all that was tried. Neighbours may have to be
        resolved first, so one try would prove nothing."""
        attempts = self._attempts()
        first = self.inside.count(), self.outside.count()

        def crossed():
            seen = b''.join(self.inside.frames[first[0]:] + self.outside.frames[first[1]:])
            return {name for name in attempts if f'<{name}>'.encode() in seen}

        for _ in range(rounds):
            for name in attempts.keys() - crossed():
                attempts[name]()
            if wait_until(lambda: crossed() == attempts.keys(), 0.25):
                break
        return crossed() | ({'http'} if self._http() == 200 else set())

    def _http(self):
        connection = http.client.HTTPConnection(SERVER, 8080, timeout=0.7)
        try:
            with self.attacker.entered():
                connection.connect()
            connection.request('GET', '/')
            return connection.getresponse().status
        except OSError:
            return None
        finally:
            connection.close()

    def gate_answers(self):
        """The host's own addresses and neighbour discovery work: closed is not dead."""
        return all(self.attacker.run(['ping', '-c', '1', '-W', '2', to], check=False).returncode
                   == 0 for to in (GATE, GATE6))

    def cleartext_meanwhile(self):
        """A steady stream of cleartext while the gate goes through its states."""
        packet = bytes(Ether(dst=self.gate_mac, src=self.attacker_mac) /
                       IP(src=ATTACKER, dst=SERVER) / UDP(sport=9, dport=PORT) / b'clear')
        return Repeat(300, lambda _: self.outside.send(packet))

    def crossed_so_far(self):
        return self.inside.count() + self.outside.count()

    def assert_the_path_is_there(self):
        """The twin: Portcullis taken away, the same attacks cross, all of them."""
        self.dataplane.stop()
        self.ports('--open-ports')
        self.forwarding(True)
        assert self.attack() == EVERYTHING


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


class Answer(http.server.BaseHTTPRequestHandler):
    """The smallest management function."""

    def do_GET(self):
        self.send_response(200)
        self.send_header('Content-Length', '0')
        self.end_headers()

    def log_message(self, *_):
        pass


EVERYTHING = {'syn', 'ping', 'ESP past the gate', 'fragments', 'source route',
              'disguised as neighbour discovery', 'udp', 'udp over IPv6', 'out of the server',
              'out of the server over IPv6', 'http'}


@pytest.fixture(name='world')
def _world(tmp_path):
    with World(tmp_path) as world:
        yield world


def test_the_open_path(world):
    """Without Portcullis and with forwarding, everything arrives: the attacks are real."""
    world.forwarding(True)
    assert world.attack() == EVERYTHING


def test_nothing_started_and_forwarding_off(world):
    assert world.attack() == set()
    world.forwarding(True)
    assert world.attack() == EVERYTHING


def test_closed_at_boot_with_forwarding_on(world):
    world.forwarding(True)
    world.ports('--close-ports')
    assert world.attack() == set()
    assert world.gate_answers()
    world.assert_the_path_is_there()


def test_closed_at_boot_then_started(world):
    world.ports('--close-ports')
    world.start()
    assert world.legitimate_arrives()
    assert world.attack() == set()
    world.assert_the_path_is_there()


@pytest.mark.parametrize('sysctl', ['net.ipv4.ip_forward', 'net.ipv6.conf.all.forwarding'])
def test_refuses_to_start_with_forwarding_on(world, sysctl):
    world.gate.sysctl(sysctl, 1)
    world.dataplane.launch()
    assert world.dataplane.process.wait(30) == 1
    log = world.dataplane.log_tail()
    assert 'sysctl -w net/' in log and 'forwarding=0' in log, log
    # It refused to serve, not to close.
    world.forwarding(True)
    assert world.attack() == set()

    world.forwarding(False)
    world.start()
    assert world.legitimate_arrives()
    world.assert_the_path_is_there()


def test_forwarding_turned_on_while_it_runs(world):
    world.start()
    world.forwarding(True)
    before = world.steer.counters()
    assert world.attack() == set()
    assert world.steer.counters()['xdp_cleartext_denied'] > before['xdp_cleartext_denied']
    assert world.legitimate_arrives()
    assert world.gate_answers()
    world.assert_the_path_is_there()


@pytest.mark.parametrize('how', [signal.SIGTERM, signal.SIGKILL])
def test_stopped_and_started_again_and_again(world, how):
    world.start()
    with world.cleartext_meanwhile() as stream:
        for _ in range(3):
            assert world.legitimate_arrives()
            world.forwarding(True)
            status = world.gate.stop(world.dataplane.process, how)
            assert status == (0 if how == signal.SIGTERM else -how)
            assert not world.legitimate_arrives(1)
            assert world.attack() == set()
            assert world.gate_answers()
            # It comes back only when forwarding is off, and is closed until then.
            world.forwarding(False)
            world.start()
        assert world.legitimate_arrives()
        world.forwarding(True)
        assert world.attack() == set()
    assert len(stream.sent) > 1000
    assert world.crossed_so_far() == 0
    world.assert_the_path_is_there()
    assert world.crossed_so_far() > 0


def test_dies_in_the_middle_of_its_start(world):
    """However far it got, the ports are closed from its first step on."""
    world.ports('--close-ports')
    world.forwarding(False)
    with world.cleartext_meanwhile():
        for milliseconds in (20, 100, 300, 700):
            world.dataplane.launch()
            time.sleep(milliseconds / 1000)
            world.dataplane.kill()
            world.forwarding(True)
            time.sleep(0.1)
            assert world.crossed_so_far() == 0
            world.forwarding(False)
        world.start()
        assert world.legitimate_arrives()
    assert world.crossed_so_far() == 0
    world.assert_the_path_is_there()


def test_interface_that_is_made_anew_is_closed_again(world):
    """The pinned link of the old one must not stand in the way."""
    world.start()
    assert world.legitimate_arrives()
    world.dataplane.kill()
    assert world.attack() == set()
    world.gate.run(['ip', 'link', 'delete', 'core0'])
    world.world.veth(world.gate, 'core0', world.server, 'srv0')
    for namespace, interface, addresses in (
            (world.gate, 'core0', ('10.2.0.1/24', '2001:db8:2::1/64')),
            (world.server, 'srv0', (f'{SERVER}/24', f'{SERVER6}/64'))):
        for address in addresses:
            namespace.address(interface, address)
    world.server.route('0.0.0.0/0', via='10.2.0.1')
    world.decrypted = world._recorder(world.server, 'srv0',
                                      lambda seen: number_of(seen[14:]) is not None)
    world.start()
    assert world.legitimate_arrives()
    log = world.gate.run(['ip', '-d', 'link', 'show', 'core0'])
    assert 'xsk_def_prog' in log, log
