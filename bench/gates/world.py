"""The same four hosts for every contender, and the loads that are put on them.

      client            gateway a             gateway b            server
    10.1.0.10 in0 ═ core0 10.1.0.1        core0 10.2.0.1 ═ in0 10.2.0.10
                    wire0 192.0.2.1 ═══ wire0 192.0.2.2

The ends' MTU of 1400 makes TCP fill inner packets of exactly 1400 bytes, which fit into each
contender's tunnel over a wire of 1500 without fragments.
"""

import contextlib
import itertools
import json
import socket
import subprocess
import time

from netns import Namespaces, wait_until
from processes import Wire
from scapy_esp import frame, udp

CLIENT, SERVER = '10.1.0.10', '10.2.0.10'
CLIENT_NET, SERVER_NET = '10.1.0.0/24', '10.2.0.0/24'
A, B = '192.0.2.1', '192.0.2.2'
INNER_MTU = 1400
SMALL = 64                    # bytes of an inner IP packet
IP_AND_UDP = 28
SKIP = 0.15                   # seconds before and after each packet rate measurement
STEP = 1.2                    # between the offered rates of a packet rate measurement
MARK = b'this payload must not be seen on the wire'
_ports = itertools.count(20000)

# As the kernel makes a veth, and as AF_XDP needs its far end: an AF_XDP socket sees packets as they
# are, so nobody would complete a checksum or cut a 64 KiB segment up.
OFFLOADS = {'on': ['rx', 'on', 'tx', 'on', 'sg', 'on', 'tso', 'on', 'gso', 'on'],
            'off': ['rx', 'off', 'tx', 'off', 'sg', 'off', 'tso', 'off', 'gso', 'off']}


class World:
    """tap: the wire leads through a switch that sees all of it: for the proof, not to measure."""

    def __init__(self, tap=False):
        self.namespaces = Namespaces('bench')
        try:
            self._build(tap)
        except BaseException:
            self.close()
            raise

    def _build(self, tap):
        world = self.namespaces
        self.client, self.a, self.b, self.server = map(world.add, ('client', 'a', 'b', 'server'))
        self.hosts = (self.client, self.a, self.b, self.server)
        world.veth(self.client, 'in0', self.a, 'core0')
        world.veth(self.b, 'core0', self.server, 'in0')
        if tap:
            self.switch = world.add('switch')
            world.veth(self.a, 'wire0', self.switch, 'to-a')
            world.veth(self.b, 'wire0', self.switch, 'to-b')
            self.switch.run(['ip', 'link', 'add', 'br0', 'type', 'bridge', 'stp_state', '0'])
            for port in ('to-a', 'to-b'):
                self.switch.run(['ip', 'link', 'set', port, 'master', 'br0'])
            self.switch.run(['ip', 'link', 'set', 'br0', 'up'])
        else:
            world.veth(self.a, 'wire0', self.b, 'wire0')
        for gateway, wire, core in ((self.a, A, '10.1.0.1'), (self.b, B, '10.2.0.1')):
            gateway.address('wire0', f'{wire}/24')
            gateway.address('core0', f'{core}/24')
        for end, address, router in ((self.client, CLIENT, '10.1.0.1'),
                                     (self.server, SERVER, '10.2.0.1')):
            end.address('in0', f'{address}/24')
            end.route('default', via=router)
            end.run(['ip', 'link', 'set', 'in0', 'mtu', INNER_MTU])

    def forwarding(self):
        """For contenders whose gateways are the kernel's routers."""
        for gateway in (self.a, self.b):
            gateway.forwarding(True)

    def offloads(self, setting):
        for host, interface in ((self.client, 'in0'), (self.server, 'in0'), (self.a, 'core0'),
                                (self.b, 'core0'), (self.a, 'wire0'), (self.b, 'wire0')):
            host.run(['ethtool', '-K', interface, *OFFLOADS[setting]])

    def wait_for_path(self, timeout=20):
        """Until the client reaches the server: ARP on three wires, handshakes, keys."""
        def answers():
            return self.client.run(['ping', '-q', '-c', '1', '-W', '1', SERVER],
                                   check=False).returncode == 0

        if not wait_until(answers, timeout, interval=0.1):
            raise RuntimeError(f'no way from client to server within {timeout} s')

    def close(self):
        self.namespaces.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # -- the proof

    def seen_in_clear(self, datagrams=20):
        """How many of the datagrams that arrived could be read on the wire (needs the tap)."""
        port = next(_ports)
        with contextlib.ExitStack() as stack:
            taps = [stack.enter_context(Wire(self.switch, f)) for f in ('to-a', 'to-b')]
            with self.server.entered():
                sink = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sink.bind((SERVER, port))
            sink.settimeout(5)
            with self.client.entered():
                source = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            for _ in range(datagrams):
                source.sendto(MARK, (SERVER, port))
                if sink.recv(2048) != MARK:
                    raise RuntimeError('a datagram arrived changed')
            for tap in taps:
                tap.settle()
            frames = [frame for tap in taps for frame in tap.frames]
        if len(frames) < datagrams:
            raise RuntimeError(f'only {len(frames)} frames on the wire for {datagrams} datagrams: '
                               'they went another way')
        return sum(MARK in frame for frame in frames)

    # -- the loads

    def tcp_gbits(self, seconds):
        """Gbit/s of one TCP stream, as iperf3's receiver counts; its first second is left out."""
        server = self.server.popen(['iperf3', '-s', '-1'], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        try:
            for _ in range(50):
                done = self.client.run(['iperf3', '-c', SERVER, '-t', seconds, '-O', 1, '-J'],
                                       check=False, timeout=seconds + 30)
                result = json.loads(done.stdout)
                if 'Connection refused' not in result.get('error', ''):
                    break
                time.sleep(0.05)  # the server is not there yet
        finally:
            self.server.stop(server)
        if 'error' in result:
            raise RuntimeError(f'iperf3: {result["error"]}')
        return result['end']['sum_received']['bits_per_second'] / 1e9

    def received_pps(self, load, rate, seconds):
        """Small packets a second that reach the server's socket while `rate` are offered."""
        port = next(_ports)
        router = self.a.mac('core0')
        packet = udp(CLIENT, SERVER, port, port, bytes(SMALL - IP_AND_UDP))
        sent = frame(packet, router, self.client.mac('in0')).hex()
        counter = self.server.popen([load, 'count', SERVER, port, round(seconds * 1000)],
                                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            counter.stdout.readline()
            sender = self.client.popen([load, 'send', 'in0', sent, round(rate),
                                        round((seconds + 2 * SKIP) * 1000)],
                                       stdout=subprocess.DEVNULL)
            time.sleep(SKIP)
            received = int(counter.communicate('go', timeout=seconds + 20)[0])
            sender.wait(seconds + 20)
            return received
        finally:
            for process in list(self.client.processes):
                self.client.stop(process)
            self.server.stop(counter)

    def peak_pps(self, load, seconds, start=None):
        """(packets a second, the offered rate at which so many arrived): the most there is.

        What arrives peaks where the capacity is and falls again, since what a gateway cannot take
        costs it time all the same. So the offered rate climbs until two in a row were clearly too
        much: one may have been bad luck. start: about where the peak was the last time.
        """
        if start is None:
            _, start = self._climb(load, 20_000, 1.5, 0.3)
        return self._climb(load, start / STEP, STEP, max(0.4, seconds / 4))

    def _climb(self, load, rate, step, seconds):
        best, too_much = (0, rate), 0
        while too_much < 2:
            received = self.received_pps(load, rate, seconds)
            too_much = too_much + 1 if received < 0.9 * rate and received <= best[0] else 0
            best = max(best, (received, rate))
            rate *= step
        return best
