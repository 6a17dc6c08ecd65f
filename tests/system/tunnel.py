"""A gate between two wires, for the system tests: on one side a peer whose ESP is made and read by
tests/scapy_esp.py, on the other the server's network. Both ends record all that arrives.

        peer                      gate                        server
    192.0.2.2 wire0 ═════ wire0 192.0.2.1
    inner 10.1.0.2        core0 10.2.0.1 ═════ srv0 10.2.0.10, UDP 5000

Legitimate packets are UDP datagrams that carry a number, so that each one can be counted end to
end: lost, doubled, or arrived as it should.
"""

import ctypes
import itertools
import socket
import struct
import threading
import time

from processes import Control, Dataplane, Lab, Pki, Wire, instance_name
from netns import Namespaces, wait_until
from scapy_esp import IntegrityError, Sa, frame, split, udp

GATE, PEER = '192.0.2.1', '192.0.2.2'
CLIENT, SERVER = '10.1.0.2', '10.2.0.10'
PORT = 5000
MARK = b'legit'
CLEARTEXT = b'clear'
_SO_ATTACH_FILTER = 26


def numbered(source, destination, number, mark=MARK, sport=40000, dport=PORT):
    return udp(source, destination, sport, dport, mark + struct.pack('!Q', number))


def number_of(packet, mark=MARK):
    """The number in an IPv4 packet made by numbered(), or None."""
    if len(packet) < 41 or packet[9] != 17 or packet[28:33] != mark:
        return None
    return struct.unpack('!Q', packet[33:41])[0]


def selector(client=CLIENT):
    return {'local': f'{SERVER}/32', 'remote': f'{client}/32', 'protocol': 'udp',
            'local_ports': {'first': PORT, 'last': PORT}}


def sa_body(name, peer, direction, keys, client=CLIENT, **more):
    return {'id': name, 'peer': peer, 'direction': direction, 'spi': f'0x{keys.spi:08x}',
            'algorithm': keys.algorithm, 'key': keys.key.hex(), 'esn': keys.esn,
            'selectors': [selector(client)], 'tunnel': {'local': GATE, 'remote': PEER}, **more}


def peer_body(name='csmf-1', client=CLIENT, endpoint=PEER, **more):
    return {'name': name, 'identity': f'{name}.example', 'role': 'csmf', 'endpoint': endpoint,
            'prefixes': [f'{client}/32'], **more}


def policy_body(peers, extra=()):
    return {'interfaces': [{'name': 'nsmf', 'type': 'management-exposure', 'side': 'local',
                            'prefixes': [f'{SERVER}/32'], 'zone': 'internal', 'protection': 'esp',
                            'ports': [{'protocol': 'udp', 'first': PORT, 'last': PORT}]}, *extra],
            'peers': list(peers),
            'policies': [{'name': 'manage', 'role': 'csmf', 'interface': 'nsmf'}]}


class Tunnel(Lab):
    """The three hosts, both processes, peer csmf-1 and its pair of SAs."""

    def __init__(self, folder, algorithm='aes-128-gcm-16', prefix=(), **settings):
        super().__init__(Namespaces('tun'))
        self.folder = folder
        self.numbers = itertools.count(1 << 40)  # for passes(); never used twice
        try:
            self._build(algorithm, prefix, settings)
        except BaseException:
            self.close()
            raise

    def _build(self, algorithm, prefix, settings):
        world = self.world
        self.peer, self.gate, self.server = (world.add(n) for n in ('peer', 'gate', 'server'))
        self.gate.forwarding(False)
        world.veth(self.peer, 'wire0', self.gate, 'wire0')
        world.veth(self.gate, 'core0', self.server, 'srv0')
        self.peer.address('wire0', f'{PEER}/24')
        self.gate.address('wire0', f'{GATE}/24')
        self.gate.address('core0', '10.2.0.1/24')
        self.server.address('srv0', f'{SERVER}/24')
        self.server.route('10.1.0.0/16', via='10.2.0.1')
        with self.server.entered():
            # Somebody listens, or the server's kernel would answer with ICMP errors.
            self.sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.sink.bind((SERVER, PORT))
        with self.peer.entered():
            # The same for ESP, of which the peer's kernel knows nothing. The filter (BPF: return 0)
            # keeps the socket empty: a full one counts as nobody there.
            self.esp_sink = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ESP)
            program = ctypes.create_string_buffer(struct.pack('HBBI', 0x06, 0, 0, 0))
            self.esp_sink.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER,
                                     struct.pack('HxxxxxxP', 1, ctypes.addressof(program)))
        self.closing += [self.sink.close, self.esp_sink.close]

        self.pki = Pki(self.folder / 'pki')
        self.dataplane = Dataplane(self.gate, self.folder, instance_name('t'), self._gate_ports(),
                                   prefix=prefix, **settings)
        self.closing.append(self.dataplane.forget)
        self.control = Control(self.gate, self.folder, self.dataplane.socket, self.pki,
                               lab=settings.get('lab', True))
        self.dataplane.start()
        self.control.start()
        self.rest = self.control.rest()
        self.closing.append(self.rest.close)

        self.wire = self._recorder(self.peer, 'wire0')
        self.core = self._recorder(self.server, 'srv0')
        self.gate_wire_mac = self.gate.mac('wire0')
        self.gate_core_mac = self.gate.mac('core0')
        self.peer_mac = self.peer.mac('wire0')
        self.server_mac = self.server.mac('srv0')

        self._configure(algorithm)

    def _gate_ports(self):
        """Of the gate's dataplane."""
        return [{'name': 'wire', 'role': 'untrusted', 'device': {'interface': 'wire0'}},
                {'name': 'core', 'role': 'trusted', 'device': {'interface': 'core0'}}]

    def _configure(self, algorithm):
        self.rest.put('/v1/policy', policy_body([peer_body()]))
        self.inbound, self.outbound = self.new_pair(0x1001, algorithm)
        self.install_pair()

    def _recorder(self, namespace, interface):
        wire = Wire(namespace, interface)
        self.closing.append(wire.close)
        return wire

    @staticmethod
    def new_pair(spi, algorithm='aes-128-gcm-16', esn=True):
        return (Sa(spi, PEER, GATE, algorithm, esn=esn),
                Sa(spi + 0x1000, GATE, PEER, algorithm, esn=esn))

    def install_pair(self, names=('in', 'out'), pair=None):
        inbound, outbound = pair or (self.inbound, self.outbound)
        self.rest.post('/v1/sas', sa_body(names[0], 'csmf-1', 'inbound', inbound))
        self.rest.post('/v1/sas', sa_body(names[1], 'csmf-1', 'outbound', outbound))

    # -- sending

    def send_wire(self, packet):
        """What the peer, or anyone on the wire, sends to the gate."""
        self.wire.send(frame(packet, self.gate_wire_mac, self.peer_mac))

    def send_core(self, packet):
        self.core.send(frame(packet, self.gate_core_mac, self.server_mac))

    def send_inbound(self, number, port=PORT):
        """One legitimate packet from the peer; returns it as it went over the wire."""
        packet = self.inbound.packet(numbered(CLIENT, SERVER, number, dport=port))
        self.send_wire(packet)
        return packet

    def send_outbound(self, number, port=PORT):
        self.send_core(numbered(SERVER, CLIENT, number, sport=port, dport=40000))

    def send_cleartext(self, number):
        self.send_wire(numbered(CLIENT, SERVER, number, CLEARTEXT))

    # -- what arrived

    def arrived_inbound(self, mark=MARK):
        """The numbers that reached the server's network, in order of arrival."""
        numbers = (number_of(f[14:], mark) for f in list(self.core.frames))
        return [n for n in numbers if n is not None]

    def arrived_outbound(self, first=0):
        """[(sequence on the wire, number)] of what the gate sealed under the outbound SA."""
        result = []
        for seen in self.wire.frames[first:]:
            packet = seen[14:]
            if packet[9] != 50:
                continue
            outer, esp = split(packet)
            if int.from_bytes(esp[:4], 'big') != self.outbound.spi or outer.source != GATE:
                continue
            try:
                opened = self.outbound.open(packet)
            except IntegrityError:
                result.append((None, None))
                continue
            result.append((opened.sequence, number_of(opened.inner)))
        return result

    def settle(self):
        self.wire.settle()
        self.core.settle()

    def passes(self, timeout=20, port=PORT):
        """Waits until both directions work, between the client and this port of the server."""
        def once():
            number = next(self.numbers)
            first_wire, first_core = self.wire.count(), self.core.count()
            self.send_inbound(number, port)
            self.send_outbound(number, port)
            time.sleep(0.1)
            return (any(number_of(f[14:]) == number for f in self.core.frames[first_core:]) and
                    any(n == number for _, n in self.arrived_outbound(first_wire)))

        return wait_until(once, timeout)


class Repeat:
    """Calls action(number) `per_second` times a second from a thread until the block is left."""

    def __init__(self, per_second, action, limit=1_000_000):
        self.interval = 1 / per_second
        self.action = action
        self.limit = limit
        self.sent = []       # (monotonic time, number, what action returned)
        self.error = None
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        try:
            start = time.monotonic()
            for number in range(self.limit):
                if self.stopped.wait(max(0.0, start + number * self.interval - time.monotonic())):
                    return
                self.sent.append((time.monotonic(), number, self.action(number)))
        except Exception as error:  # reported by __exit__, in the test's own thread
            self.error = error

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()
        if self.error:
            raise self.error
