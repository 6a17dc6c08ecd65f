"""A running portcullis-dataplane between two wires, and what happens to packets on them.

    peer side  ── wire ──[ untrusted  dataplane  trusted ]── core ──  server side

The wires are veth pairs inside a network namespace of this Gate's own; the dataplane holds one end
of each as a DPDK vdev (net_af_packet, or net_pcap), the test the other as an AF_PACKET socket.

What makes it deterministic is the fence. judge() sends the test's frames and behind them a pair of
packets known to be good, through every worker, in both directions, twice. Queues keep their order,
so when the second pair is out at the other ends, everything that the test's frames cause is out as
well: nothing waits for time to pass, and "nothing arrived" is a fact and not a timeout. Then the
verdict counters must have grown by exactly one per frame: no packet is lost and none counted twice.
"""

import collections
import contextlib
import dataclasses
import itertools
import os
import pathlib
import signal
import socket
import struct
import subprocess
import time

import yaml

import scapy_esp
from scapy_esp import Sa, frame
from steer_client import SteerClient
from system.netns import Namespaces

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARIES = pathlib.Path(os.environ.get('PORTCULLIS_BIN', ROOT / 'build/release/bin'))

GATE_WIRE_MAC, PEER_MAC = '02:00:00:00:00:01', '02:00:00:00:0a:02'
GATE_CORE_MAC, SERVER_MAC = '02:00:00:00:00:02', '02:00:00:00:02:0a'
GATE = {4: '192.0.2.1', 6: '2001:db8:f::1'}   # outer addresses
PEER = {4: '192.0.2.2', 6: '2001:db8:f::2'}
SERVER = {4: '10.2.0.10', 6: '2001:db8:2::10'}
GATE_CORE = {4: '10.2.0.1', 6: '2001:db8:2::1'}

# On link but without a neighbour: no kernel stands behind these ports to resolve anything.
SILENT = {'wire': '198.51.100.2', 'core': '10.3.0.10'}

_CHUNK = 256  # frames sent before waiting; the port's ring holds 4096
_SOL_PACKET, _PACKET_AUXDATA, _PACKET_IGNORE_OUTGOING, _TP_STATUS_VLAN_VALID = 263, 8, 23, 0x10
_SO_RCVBUFFORCE = 33

_instances = itertools.count(1)


def sequence_of_names(prefix):
    return (f'{prefix}{n}' for n in itertools.count(1))


@dataclasses.dataclass
class Outcome:
    """What became of the frames of one judge() call."""
    verdicts: dict   # name: how many, zeros left out
    wire: list       # IP packets that came out on the peer's side, in order
    core: list       # and on the server's side
    frames: dict     # by port: the same as whole frames, those of extra ports too


@dataclasses.dataclass
class Link:
    """A peer with one SA in each direction, from the peer's point of view."""
    gate: 'Gate'
    name: str
    inbound: Sa       # seals what the gate will open
    outbound: Sa      # opens what the gate has sealed
    client: dict      # the peer's inner address by family
    prefixes: list
    peer: dict        # as in the policy
    sas: list         # as pushed

    def seal(self, inner, sequence=None, *, vlan=None, **packet):
        """A frame for the wire."""
        return frame(self.inbound.packet(inner, sequence, **packet), GATE_WIRE_MAC, PEER_MAC, vlan)

    def request(self, family=4, size=0, sport=40000, dport=8080, **ip):
        """A UDP packet from the peer to the server."""
        return scapy_esp.udp(self.client[family], SERVER[family], sport, dport, bytes(size), **ip)

    def answer(self, family=4, size=0, sport=8080, dport=40000, **ip):
        """A UDP packet from the server to the peer."""
        return scapy_esp.udp(SERVER[family], self.client[family], sport, dport, bytes(size), **ip)

    def open(self, packet, high=0):
        return self.outbound.open(packet, high)

    def state(self, direction='inbound'):
        """The SA's SaState as the dataplane reports it."""
        name = f'{self.name}-{"in" if direction == "inbound" else "out"}'
        return self.gate.steer.list_sas()[name]


def to_core(packet, vlan=None):
    """A frame from the server to the gate."""
    return frame(packet, GATE_CORE_MAC, SERVER_MAC, vlan)


def to_gate(packet, vlan=None):
    """A frame from the peer to the gate."""
    return frame(packet, GATE_WIRE_MAC, PEER_MAC, vlan)


def forwarded(packet):
    """The packet as a router passes it on: TTL or hop limit one less (RFC 4301 5.1.2)."""
    out = bytearray(packet)
    if packet[0] >> 4 == 6:
        out[7] -= 1
        return bytes(out)
    header = (packet[0] & 15) * 4
    out[8] -= 1
    out[10:12] = b'\0\0'
    out[10:12] = struct.pack('!H', scapy_esp.checksum(bytes(out[:header])))
    return bytes(out)


class Wire:
    """The test's end of a wire."""

    def __init__(self, interface):
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 64 << 20)
        self.socket.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        self.socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        self.socket.bind((interface, 3))  # ETH_P_ALL

    def send(self, data):
        self.socket.send(data)

    def receive(self, timeout):
        """One frame, its VLAN tag where it stood on the wire; None when there is none in time."""
        self.socket.settimeout(timeout)
        try:
            data, ancillary, _, _ = self.socket.recvmsg(1 << 16, 256)
        except (TimeoutError, BlockingIOError):
            return None
        for _, kind, value in ancillary:
            if kind != _PACKET_AUXDATA:
                continue
            status, _, _, _, _, tci, tpid = struct.unpack('IIIHHHH', value)
            if status & _TP_STATUS_VLAN_VALID:
                data = data[:12] + struct.pack('!HH', tpid or 0x8100, tci) + data[12:]
        return data

    def close(self):
        self.socket.close()


def ip_packet(data):
    """What a frame carries behind its Ethernet header and tags."""
    at = 12
    while data[at:at + 2] in (b'\x81\x00', b'\x88\xa8'):
        at += 4
    return data[at + 2:]


def is_ip(data):
    at = 12
    while data[at:at + 2] in (b'\x81\x00', b'\x88\xa8'):
        at += 4
    return data[at:at + 2] in (b'\x08\x00', b'\x86\xdd')


def await_event(listener, kind, sa, timeout):
    """The next such event about this SA that a subscribed client hears; None in vain."""
    deadline = time.monotonic() + timeout
    while (left := deadline - time.monotonic()) > 0:
        event = listener.wait_event(kind, left)
        if event is None or event.sa == sa:
            return event
    return None


class Gate:
    """One dataplane. Use as a context manager; `settings` are merged into its configuration."""

    def __init__(self, folder, *, workers=1, driver='af_packet', queues=1, mtu=1500,
                 extra_ports=(), change=None, **settings):
        """extra_ports: more ports, as in the configuration but without their device; those of role
        exception become TAPs, whose other end is an interface of the kernel.
        change: a function that may alter the finished configuration."""
        self.folder = pathlib.Path(folder)
        self.workers = workers
        self.names = sequence_of_names('p')
        self.links = {}
        self.fences = []
        self.bypasses = []
        self.interfaces = [{'name': 'servers', 'prefixes': ['10.2.0.0/16', '2001:db8:2::/48']}]
        self.process = None
        self.steer = None
        self._counted = None
        self._numbers = itertools.count(1)
        number = next(_instances)
        self.world = Namespaces(f'pipeline{number}')
        self.instance = f't{os.getpid()}-{number}'
        self.socket_path = self.folder / 'steer.sock'
        self.log_path = self.folder / 'dataplane.log'
        self.state_path = pathlib.Path(f'/dev/shm/portcullis-{self.instance}.state')
        self.extra_ports = [dict(p) for p in extra_ports]
        self.config = self._config(driver, queues, mtu, settings)
        if change:
            change(self.config)

    def _config(self, driver, queues, mtu, settings):
        def device(name, n, role=None):
            if role == 'exception':
                return f'net_tap{n},iface={name}'
            if driver == 'pcap':
                return f'net_pcap{n},rx_iface_in={name},tx_iface={name}'
            return (f'net_af_packet{n},iface={name},qpairs={queues},blocksz=4096,framesz=2048,'
                    'framecnt=4096')

        def port(name, role, n, mac, addresses):
            return {'name': name, 'role': role, 'device': {'vdev': device(name, n)},
                    'queues': queues, 'mtu': mtu, 'mac': mac, 'addresses': addresses}

        def route(prefix, where, mac):
            return {'prefix': prefix, 'port': where, 'mac': mac}

        config = {
            'instance': self.instance,
            'lab': True,
            'workers': {'count': self.workers, 'idle': 'sleep'},
            'memory': {'hugepages': 'never', 'megabytes': 256, 'buffers': 16384},
            'ports': [
                port('wire', 'untrusted', 0, GATE_WIRE_MAC,
                     ['192.0.2.1/32', '2001:db8:f::1/128', '198.51.100.1/24']),
                port('core', 'trusted', 1, GATE_CORE_MAC,
                     ['10.2.0.1/32', '2001:db8:2::1/128', '10.3.0.1/24']),
            ],
            'routes': [
                route('192.0.2.0/24', 'wire', PEER_MAC), route('2001:db8:f::/64', 'wire', PEER_MAC),
                route('203.0.113.0/24', 'wire', PEER_MAC),
                route('10.2.0.0/16', 'core', SERVER_MAC), route('2001:db8:2::/48', 'core', SERVER_MAC),
            ],
            'state_file': str(self.state_path),
            'steering': {'socket': str(self.socket_path), 'users': ['root']},
            # Out of the way of tests that forge on purpose; test_auth_budget has its own gate.
            'auth_failures': {'per_second': 1000000, 'suspect_seconds': 1, 'cpu_percent': 100},
        }
        for n, extra in enumerate(self.extra_ports):
            vdev = device(extra['name'], n + 2, extra['role'])
            config['ports'].append({'device': {'vdev': vdev}} | extra)
        return config | settings

    # ---- life

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def start(self):
        self.namespace = self.world.add('gate')
        # The kernel must not talk on these wires: no router solicitations, no MLD.
        self.namespace.sysctl('net.ipv6.conf.default.disable_ipv6', 1)
        for name, mac, far in (('wire', GATE_WIRE_MAC, PEER_MAC),
                               ('core', GATE_CORE_MAC, SERVER_MAC)):
            self.world.veth(self.namespace, name, self.namespace, f'{name}1',
                                mtu=9000, a_mac=mac, b_mac=far)
        taps = [p['name'] for p in self.extra_ports if p['role'] == 'exception']
        for extra in self.extra_ports:
            if extra['name'] in taps:
                continue
            self.world.veth(self.namespace, extra['name'], self.namespace, f'{extra["name"]}1',
                                mtu=9000, a_mac=extra['mac'])
        with self.namespace.entered():
            self.wires = {p['name']: Wire(f'{p["name"]}1') for p in self.config['ports']
                          if p['name'] not in taps}
        self.launch()
        with self.namespace.entered():
            for name in taps:  # the kernel's end of a TAP is made by the dataplane
                self.namespace.run(['ip', 'link', 'set', name, 'up'])
                self.namespace.address(name, GATE[4] + '/32')
                self.wires[name] = Wire(name)
        self.push_fences()
        if taps:
            self._await_own_address()

    def _await_own_address(self):
        """Until the dataplane has heard from the kernel that the wire's address is the host's."""
        data = to_gate(scapy_esp.datagram(PEER[4], GATE[4], 6, bytes(20)))
        deadline = time.monotonic() + 5
        while self._read()['exception'] == 0:
            assert time.monotonic() < deadline, self.log()
            self.wires['wire'].send(data)
            time.sleep(0.01)
        self.drain()

    def launch(self):
        """Starts the process; no policy yet."""
        path = self.folder / 'dataplane.yaml'
        path.write_text(yaml.safe_dump(self.config, sort_keys=False))
        with open(self.log_path, 'ab') as log:
            self.process = self.namespace.popen(
                [BINARIES / 'portcullis-dataplane', '--config', path], stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while self.steer is None:
            try:
                self.steer = SteerClient(self.socket_path, timeout=10)
            except (FileNotFoundError, ConnectionRefusedError):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f'the dataplane did not start:\n{self.log()}') from None
                time.sleep(0.01)
        self.steer.hello()
        self._counted = self._read()

    def kill(self):
        """kill -9."""
        self.steer.close()
        self.steer = None
        self.namespace.stop(self.process, how=signal.SIGKILL)

    def close(self):
        if self.steer is not None:
            self.steer.close()
        self.world.close()
        for wire in getattr(self, 'wires', {}).values():
            wire.close()
        self.state_path.unlink(missing_ok=True)

    def log(self):
        return self.log_path.read_text() if self.log_path.exists() else ''

    def alive(self):
        return self.process.poll() is None

    @contextlib.contextmanager
    def frozen(self):
        """The process is stopped meanwhile: what is sent now arrives as one burst."""
        os.kill(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.process.pid, signal.SIGCONT)

    # ---- policy and SAs

    def push_fences(self):
        """One pair of known good SAs per worker."""
        self.fences = []
        covered = set()
        for n in range(64):
            link = self.link(name=f'fence{n}', esn=True, fence=True)
            worker = self.steer.list_sas()[f'fence{n}-in'].worker
            if worker not in covered:
                covered.add(worker)
                self.fences.append(link)
            if len(covered) == self.workers:
                return
        raise AssertionError(f'64 peers cover only workers {covered}')

    def push_policy(self, full=True, peers=None, **more):
        """The whole policy (or, with full=False, those peers) as one snapshot."""
        generation = self.steer.hello().generation
        if peers is None:
            peers = [link.peer for link in self.links.values()]
        return self.steer.apply(generation + 1, full=full, base_generation=generation, peers=peers,
                                interfaces=self.interfaces, bypasses=self.bypasses, **more)

    def link(self, name=None, *, algorithm='aes-128-gcm-16', esn=True, window=1024, outer=4,
             udp=False, rules=None, selectors=None, rate=None, sa_rate=None, lifetime=None,
             lifetime_out=None, tunnel=None, deadline_boot_ns=0, endpoint=None, ports=(4500, 4500),
             prefixes=None, fence=False, key_in=b'', key_out=b'', sa_more=None):
        """A new peer with its own addresses, and an SA in each direction.

        rules and selectors: lists of selectors; None: everything between the peer's prefixes and
        anybody. Both may be functions of the link's own addresses {4: .., 6: ..}. sa_more: further
        fields of both SAs.
        """
        number = next(self._numbers)
        name = name or next(self.names)
        client = {4: f'10.{100 + number // 256}.{number % 256}.2', 6: f'2001:db8:1:{number:x}::2'}
        if prefixes is None:
            prefixes = [client[4].rsplit('.', 1)[0] + '.0/24', f'2001:db8:1:{number:x}::/64']
        everything = [{'remote': p} for p in prefixes]

        def resolve(value):
            if value is None:
                return everything
            return value(client) if callable(value) else value

        remote = endpoint or PEER[outer]
        # A slot of its own, and a tag in which neighbours differ in many bits, as random ones do:
        # a changed bit must not lead to another test's SA.
        tag = (number * 0x9e37 + 0x5a5a & 0xffff | 1) << 16
        spi = {d: tag | number * 2 + n + 0x100 for n, d in enumerate(('in', 'out'))}
        sa = {'in': Sa(spi['in'], remote, GATE[outer], algorithm, key_in, esn, udp, ports),
              'out': Sa(spi['out'], GATE[outer], remote, algorithm, key_out, esn, udp,
                        tuple(reversed(ports)))}
        tunnel = {'local': GATE[outer], 'remote': remote, 'udp_encap': udp,
                  'local_port': ports[1] if udp else 0, 'remote_port': ports[0] if udp else 0,
                  } | (tunnel or {})
        peer = {'name': name, 'prefixes': prefixes, 'rate': rate,
                'rules': [{'policy': 'test', 'selector': s} for s in resolve(rules)],
                'grant_deadline_boot_ns': deadline_boot_ns}
        common = {'peer': name, 'algorithm': algorithm, 'esn': esn, 'tunnel': tunnel,
                  'selectors': resolve(selectors), 'rate': sa_rate, 'lab': self.config['lab'],
                  **(sa_more or {})}
        sas = [{'id': f'{name}-in', 'direction': 'inbound', 'spi': spi['in'], 'key': sa['in'].key,
                'replay_window': window, 'lifetime': lifetime or {}, **common},
               {'id': f'{name}-out', 'direction': 'outbound', 'spi': spi['out'],
                'key': sa['out'].key, 'lifetime': lifetime_out or {}, **common}]
        link = Link(self, name, sa['in'], sa['out'], client, prefixes, peer, sas)
        self.links[name] = link
        self.push_policy(full=not self.steer.hello().generation, peers=[peer])
        self.steer.add_sas(sas)
        return link

    def drop_link(self, link):
        """Takes a link's SAs and its peer away again."""
        self.steer.remove_sas([sa['id'] for sa in link.sas])
        del self.links[link.name]
        self.push_policy(full=False, peers=[], removed_peers=[link.name])

    # ---- packets

    def _read(self):
        reply = self.steer.read_counters()
        return collections.Counter(dict(zip(reply.verdicts, reply.total.verdicts)))

    def judge(self, frames=(), side='wire', *, counted=None, burst=False):
        """Sends frames (one or many) and waits until all that they cause has happened.

        counted: how many verdicts they must bring when it is not one each; None: one each.
        burst: they are all there before the dataplane looks.
        """
        frames = [frames] if isinstance(frames, bytes) else list(frames)
        seen = {name: [] for name in self.wires}
        wire = self.wires[side]
        if burst:
            with self.frozen():
                for data in frames:
                    wire.send(data)
        else:
            for start in range(0, len(frames), _CHUNK):
                for data in frames[start:start + _CHUNK]:
                    wire.send(data)
                if start + _CHUNK < len(frames):
                    self._fence(seen)
        fences = self._fence(seen, rounds=2)
        fences += (max(0, len(frames) - 1) // _CHUNK) * len(self.fences) * 2 if not burst else 0
        for name in self.wires.keys() - {'wire', 'core'}:
            while (data := self.wires[name].receive(0)) is not None:
                seen[name].append(data)
        expected = fences + (len(frames) if counted is None else counted)
        verdicts = self._settle(expected)
        verdicts['accepted'] -= fences
        return Outcome({v: n for v, n in verdicts.items() if n},
                       [ip_packet(f) for f in seen['wire'] if is_ip(f)],
                       [ip_packet(f) for f in seen['core'] if is_ip(f)], seen)

    def send(self, frames, side='wire'):
        """Sends without judging, no faster than the dataplane takes the frames; what they cause is
        for the next judge() or wait_for(), except what comes out by then, which is forgotten."""
        for start in range(0, len(frames), _CHUNK):
            for data in frames[start:start + _CHUNK]:
                self.wires[side].send(data)
            self._counted['accepted'] += self._fence({name: [] for name in self.wires})

    def drain(self):
        """Forgets what has come out and been counted so far."""
        self._fence({name: [] for name in self.wires}, rounds=2)
        time.sleep(0.01)
        self._counted = self._read()

    def wait_for(self, verdicts, timeout=5):
        """For what takes its time (queues with timeouts): until exactly these verdicts have come
        since the last judge(). Returns the Outcome."""
        deadline = time.monotonic() + timeout
        while True:
            grown = self._read() - self._counted
            if grown.total() >= sum(verdicts.values()):
                break
            assert time.monotonic() < deadline, f'expected {verdicts}, found {dict(grown)}'
            time.sleep(0.005)
        outcome = self.judge(counted=sum(verdicts.values()))
        assert outcome.verdicts == verdicts
        return outcome

    def _settle(self, expected):
        """The growth of the counters, once it is `expected` in total."""
        deadline = time.monotonic() + 3
        while True:
            now = self._read()
            grown = now - self._counted
            if grown.total() == expected:
                self._counted = now
                return grown
            if grown.total() > expected or time.monotonic() > deadline:
                self._counted = now
                raise AssertionError(
                    f'{expected} packets (fences included) brought {grown.total()} verdicts: '
                    f'{dict(grown)}\n{self._ports()}{self.log()[-2000:]}')
            time.sleep(0.0005)

    def _ports(self):
        return ''.join(f'{p.name}: rx {p.rx_packets} tx {p.tx_packets} missed {p.rx_missed} '
                       f'tx errors {p.tx_errors}\n' for p in self.steer.status().ports)

    def _fence(self, seen, rounds=1):
        """Sends known good packets behind everything else and collects what comes out before they
        do. Returns how many were sent."""
        sent = 0
        for _ in range(rounds):
            waiting = {'wire': set(), 'core': set()}
            for link in self.fences:
                inner = link.request(ident=1)
                self.wires['wire'].send(link.seal(inner))
                self.wires['core'].send(to_core(link.answer(ident=1)))
                waiting['core'].add(inner[12:16])
                waiting['wire'].add(struct.pack('!I', link.outbound.spi))
                sent += 2
            for side, expected in waiting.items():
                deadline = time.monotonic() + 5
                while expected:
                    data = self.wires[side].receive(max(0.001, deadline - time.monotonic()))
                    if data is None:
                        raise AssertionError(
                            f'known good packets do not come out on {side}: {self._read()}\n'
                            f'{self._ports()}{self.log()[-2000:]}')
                    mark = self._fence_mark(side, data)
                    if mark in expected:
                        expected.remove(mark)
                    elif mark is None:
                        seen[side].append(data)
        return sent

    def _fence_mark(self, side, data):
        """Which fence packet this is; None: not one."""
        packet = ip_packet(data)
        if len(packet) < 24 or packet[0] != 0x45:
            return None
        mark = packet[12:16] if side == 'core' else packet[20:24]
        known = {(scapy_esp.packed(f.client[4]) if side == 'core'
                  else struct.pack('!I', f.outbound.spi)) for f in self.fences}
        return mark if mark in known else None

    # ---- frequent questions

    def accepts(self, link, family=4, **seal):
        """The twin of every refusal: a fresh packet of this peer passes, unchanged but forwarded."""
        inner = link.request(family)
        outcome = self.judge(link.seal(inner, **seal))
        assert outcome.verdicts == {'accepted': 1}
        assert outcome.core == [forwarded(inner)] and outcome.wire == []

    def answers(self, link, family=4):
        """The same in the other direction; returns what was opened."""
        inner = link.answer(family)
        outcome = self.judge(to_core(inner), 'core')
        assert outcome.verdicts == {'accepted': 1}
        assert len(outcome.wire) == 1 and outcome.core == []
        opened = link.open(outcome.wire[0])
        assert opened.inner == forwarded(inner)
        return opened

    def refuses(self, frames, verdict, side='wire', **how):
        """Nothing comes out anywhere, and each frame has this verdict."""
        frames = [frames] if isinstance(frames, bytes) else list(frames)
        outcome = self.judge(frames, side, **how)
        assert outcome.verdicts == {verdict: len(frames)}
        assert outcome.core == [] and outcome.wire == []
