"""Ports that end in this host's own kernel: `local`, where decrypted packets reach the gate's own
services, and `exception`, which carries the host's own traffic on a port that DPDK owns whole.

Everything around the gate is real: services are sockets of the kernel, the peer's and the server's
hosts are kernels of their own that resolve, ping and connect as hosts do. Only ESP on the peer's
side is made here.

design.md wants the local interface in a VRF. That is the operator's configuration of the kernel
(`ip link set guard0 vrf ...`), of which the gate only sees another routing table; kernels without
VRF exist, among them those that these tests must run on, so here the services' interface is in the
main table, and the VRF's rule is left to the unit tests of the route compiler.
"""

import contextlib
import os
import socket
import subprocess
import threading
import time

import pytest
from scapy.layers.inet import IP, TCP

from netns import Namespaces, wait_until
from processes import Dataplane, instance_name
from scapy_esp import IPPROTO_ESP, NON_ESP_MARKER, Sa, udp
from steer_client import SteerClient

GATE, PEER = '192.0.2.1', '192.0.2.2'
CLIENT = '10.1.0.2'
GATE6, PEER6 = '2001:db8:f::1', '2001:db8:f::2'


def until(condition, timeout=10):
    assert wait_until(condition, timeout, 0.02)


class Service:
    """A UDP service that answers what it hears, and a record of what it heard."""

    def __init__(self, namespace, address, port):
        self.heard = []
        with namespace.entered():
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.socket.bind((address, port))
        self.socket.settimeout(0.1)
        self.open = True
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        while self.open:
            try:
                data, sender = self.socket.recvfrom(2048)
            except TimeoutError:
                continue
            self.heard.append((data, sender))
            self.socket.sendto(data.upper(), sender)

    def close(self):
        self.open = False
        self.thread.join()
        self.socket.close()


class Peer:
    """The other ESP party on the peer's host. Its kernel routes and resolves, and knows no ESP."""

    def __init__(self, namespace, steer):
        self.namespace, self.steer = namespace, steer
        with namespace.entered():
            self.sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
            self.receiver = socket.socket(socket.AF_INET, socket.SOCK_RAW, IPPROTO_ESP)
        self.inbound, self.outbound = Sa(0x5eed0101, PEER, GATE), Sa(0x5eed0102, GATE, PEER)

    def install(self, servers, rules):
        """servers: prefixes that the SAs select; rules: selectors that the policy admits."""
        self.steer.apply(
            peers=[{'name': 'peer', 'prefixes': [f'{CLIENT}/32'],
                    'rules': [{'policy': 'test', 'selector': {'remote': f'{CLIENT}/32', **rule}}
                              for rule in rules]}],
            interfaces=[{'name': 'services', 'prefixes': servers}])
        tunnel = {'local': GATE, 'remote': PEER}
        selectors = [{'remote': f'{CLIENT}/32', 'local': prefix} for prefix in servers]
        self.steer.add_sas([
            {'id': 'in', 'peer': 'peer', 'direction': 'inbound', 'spi': self.inbound.spi,
             'key': self.inbound.key, 'tunnel': tunnel, 'selectors': selectors},
            {'id': 'out', 'peer': 'peer', 'direction': 'outbound', 'spi': self.outbound.spi,
             'key': self.outbound.key, 'tunnel': tunnel, 'selectors': selectors}])

    def send(self, inner):
        self.send_clear(self.inbound.packet(inner))

    def send_clear(self, packet):
        """An IP packet as it is, to the gate."""
        self.sender.sendto(packet, (GATE, 0))

    def receive(self, timeout=5):
        """The next inner packet that the gate has sealed for us; None: none in time."""
        self.receiver.settimeout(timeout)
        try:
            return self.outbound.open(self.receiver.recv(4096)).inner
        except (TimeoutError, BlockingIOError):
            return None

    def asks(self, address, port, data):
        """The service's answer to a datagram; None: none in time."""
        self.send(udp(CLIENT, address, 40000, port, data))
        return self.answer(udp(address, CLIENT, port, 40000, data.upper()))

    def answer(self, expected, timeout=5):
        """The payload of the next sealed packet, whose addresses and ports are as expected."""
        inner = self.receive(timeout)
        if inner is None:
            return None
        assert inner[12:24] == expected[12:24]
        return inner[28:]

    def close(self):
        self.sender.close()
        self.receiver.close()


class House:
    """A gate, the peer's host on its wire, and what a fixture adds."""

    def __init__(self, folder):
        self.folder = folder
        self.stack = contextlib.ExitStack()
        self.world = self.stack.enter_context(Namespaces(folder.name))
        self.gate, self.peer_host = self.world.add('gate'), self.world.add('peer')

    def start(self, ports, **settings):
        self.dataplane = Dataplane(self.gate, self.folder, instance_name('l'), ports, **settings)
        self.stack.callback(self.dataplane.forget)
        self.stack.callback(self.dataplane.stop)
        self.dataplane.start()
        self.steer = self.stack.enter_context(SteerClient(self.dataplane.socket))
        self.steer.hello()
        self.peer = Peer(self.peer_host, self.steer)
        self.stack.callback(self.peer.close)

    def service(self, namespace, address, port):
        service = Service(namespace, address, port)
        self.stack.callback(service.close)
        return service

    def settled(self):
        """The counters once they stand still: a packet is counted after it was sent, so that an
        answer may be here before its verdict."""
        now = self.steer.counters()
        while True:
            time.sleep(0.02)
            before, now = now, self.steer.counters()
            if {**now, 'exception': 0} == {**before, 'exception': 0}:
                return now

    def grows(self, verdict, cause, by=1):
        """cause() brings exactly `by` of this verdict and nothing else that counts packets of the
        peer or of a service; the host's own talk (exception) goes on meanwhile."""
        before = self.settled()
        cause()

        def seen():
            return {name: n for name, n in self.steer.seen(before).items() if name != 'exception'}
        wait_until(lambda: sum(seen().values()) >= by, 5)
        time.sleep(0.05)
        assert seen() == {verdict: by}, self.dataplane.log_tail()


# ---- the local next hop

SERVICES = '10.9.0.1'
ELSEWHERE = '10.9.0.2'  # an address of the host's that is no local prefix


def _veth(house):
    """As the demo has it: one end is the dataplane's over AF_XDP, the other the host's."""
    house.world.veth(house.gate, 'guard0', house.gate, 'guard1')
    house.gate.sysctl('net.ipv6.conf.guard1.disable_ipv6', 1)
    return {'interface': 'guard1'}


def _tap(_):
    return {'vdev': 'net_tap0,iface=guard0'}


@pytest.fixture(scope='module', params=[_veth, _tap], ids=['veth', 'tap'])
def local(request, tmp_path_factory):
    house = House(tmp_path_factory.mktemp('local'))
    with house.stack:
        house.world.veth(house.peer_host, 'wire0', house.gate, 'wire0')
        house.peer_host.address('wire0', f'{PEER}/24')
        house.gate.address('wire0', f'{GATE}/24')
        house.start([
            {'name': 'wire', 'role': 'untrusted', 'device': {'interface': 'wire0'}},
            {'name': 'guard', 'role': 'local', 'device': request.param(house),
             'prefixes': [f'{SERVICES}/32']}])
        house.gate.sysctl('net.ipv6.conf.guard0.disable_ipv6', 1)  # no talk that would be counted
        house.gate.run(['ip', 'link', 'set', 'guard0', 'arp', 'off', 'up'])
        house.gate.address('guard0', f'{SERVICES}/32')
        house.gate.address('guard0', f'{ELSEWHERE}/32')
        house.gate.route('10.1.0.0/24', dev='guard0', extra=['src', SERVICES])
        house.udp = house.service(house.gate, SERVICES, 5000)
        house.closed = house.service(house.gate, SERVICES, 5001)
        house.elsewhere = house.service(house.gate, ELSEWHERE, 5000)
        house.peer.install(['10.9.0.0/24'], [
            {'local': '10.9.0.0/24', 'protocol': 'udp', 'local_ports': 5000},
            {'local': f'{SERVICES}/32', 'protocol': 'tcp', 'local_ports': 8443}])
        house.peer_host.route('10.9.0.0/24', via=GATE)
        # The wire's neighbour is the kernel's to resolve; then the test begins.
        until(lambda: house.peer.asks(SERVICES, 5000, b'begin') == b'BEGIN')
        yield house
        assert house.dataplane.running(), house.dataplane.log_tail()


def test_a_udp_service_of_the_gate_answers_its_peer(local):
    local.udp.heard.clear()
    local.grows('accepted', lambda: local.peer.asks(SERVICES, 5000, b'first'), by=2)
    assert local.peer.asks(SERVICES, 5000, b'second') == b'SECOND'
    assert local.udp.heard == [(b'first', (CLIENT, 40000)), (b'second', (CLIENT, 40000))]


def test_a_tcp_service_of_the_gate_serves_its_peer(local):
    with local.gate.entered():
        listener = socket.create_server((SERVICES, 8443))
    with listener:
        flow = {'sport': 41000, 'dport': 8443}

        def segment(flags, data=b'', **numbers):
            local.peer.send(bytes(IP(src=CLIENT, dst=SERVICES) / TCP(flags=flags, **flow, **numbers)
                                  / data))

        def reply():
            inner = local.peer.receive()
            assert inner is not None, local.steer.counters()
            return IP(inner)[TCP]

        segment('S', seq=100)
        opened = reply()
        assert opened.flags == 'SA' and opened.ack == 101
        segment('A', seq=101, ack=opened.seq + 1)
        segment('PA', b'GET', seq=101, ack=opened.seq + 1)
        listener.settimeout(5)
        connection, client = listener.accept()
        with connection:
            assert client == (CLIENT, 41000)
            connection.settimeout(5)
            assert connection.recv(100) == b'GET'
            connection.sendall(b'slice')
            answers = [reply()]
            while not bytes(answers[-1].payload):
                answers.append(reply())
            assert bytes(answers[-1].payload) == b'slice'
            segment('RA', seq=104, ack=opened.seq + 6)
            # The end as well has come through, so that the next test sees nothing of this one.
            with pytest.raises(ConnectionResetError):
                connection.recv(1)


def test_what_policy_does_not_admit_does_not_reach_the_service(local):
    """Somebody listens on that port, and the SA's selectors include it: only policy says no."""
    local.grows('no_policy',
                lambda: local.peer.send(udp(CLIENT, SERVICES, 40000, 5001, b'forbidden')))
    assert local.closed.heard == []
    assert local.peer.asks(SERVICES, 5000, b'admitted') == b'ADMITTED'


def test_only_local_prefixes_are_served(local):
    """Policy admits it and the host has the address, but it is no local prefix."""
    local.grows('no_route', lambda: local.peer.send(udp(CLIENT, ELSEWHERE, 40000, 5000, b'x')))
    assert local.elsewhere.heard == []
    assert local.peer.asks(SERVICES, 5000, b'here') == b'HERE'


def test_cleartext_does_not_reach_the_service(local):
    local.udp.heard.clear()
    packets = [udp(source, SERVICES, 40000, 5000, b'clear') for source in (PEER, CLIENT)]
    local.grows('xdp_cleartext_denied', lambda: [local.peer.send_clear(p) for p in packets], by=2)
    assert local.udp.heard == []
    assert local.peer.asks(SERVICES, 5000, b'sealed') == b'SEALED'
    assert local.udp.heard == [(b'sealed', (CLIENT, 40000))]


def test_a_service_reaches_only_those_who_may_reach_it(local):
    """What services send is judged as strictly as what servers send."""
    local.grows('no_policy', lambda: local.udp.socket.sendto(b'leak', ('10.1.0.99', 40000)))
    local.grows('no_policy', lambda: local.closed.socket.sendto(b'leak', (CLIENT, 40000)))
    local.grows('accepted', lambda: local.udp.socket.sendto(b'news', (CLIENT, 40000)))
    assert local.peer.answer(udp(SERVICES, CLIENT, 5000, 40000)) == b'news'


# ---- the exception port

SERVER, GATE_CORE = '10.2.0.10', '10.2.0.1'
SERVER6, GATE_CORE6 = '2001:db8:2::10', '2001:db8:2::1'
WIRE_MAC, CORE_MAC = '02:00:00:00:00:01', '02:00:00:00:00:02'


def _stand_in(house, name, far_host, far_name, mac):
    """An interface in the place of a NIC that vfio has taken from the kernel: DPDK reads and writes
    its frames, the kernel is deaf on it. The interface has another MAC than the port, so that to
    the kernel every frame is for somebody else."""
    house.world.veth(house.gate, name, far_host, far_name, a_mac='02:00:00:00:ee:' + mac[-2:])
    house.gate.run(['ip', 'link', 'set', name, 'arp', 'off'])
    house.gate.sysctl(f'net.ipv6.conf.{name}.disable_ipv6', 1)


def _pings(namespace, address, count=1):
    return namespace.run(['ping', '-n', '-c', count, '-i', '0.2', '-W', '2', address],
                         check=False).returncode == 0


def _forget_neighbours(house):
    for namespace, interface in ((house.peer_host, 'wire0'), (house.server_host, 'srv0'),
                                 (house.gate, 'wirehost0'), (house.gate, 'corehost0')):
        namespace.run(['ip', 'neigh', 'flush', 'dev', interface])


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """Both ports are DPDK's alone, each with an exception port, as config/examples/
    dataplane-vfio.yaml has it; addresses and routes are the exception interfaces' only."""
    house = House(tmp_path_factory.mktemp('whole'))
    with house.stack:
        house.server_host = house.world.add('server')
        _stand_in(house, 'wire0', house.peer_host, 'wire0', WIRE_MAC)
        _stand_in(house, 'core0', house.server_host, 'srv0', CORE_MAC)
        for host, interface, addresses in (
                (house.peer_host, 'wire0', (f'{PEER}/24', f'{PEER6}/64')),
                (house.server_host, 'srv0', (f'{SERVER}/24', f'{SERVER6}/64'))):
            for address in addresses:
                host.address(interface, address)

        house.deaf = _is_deaf(house)

        def port(n, name, role, mac):
            return {'name': name, 'role': role, 'mac': mac,
                    'device': {'vdev': f'net_pcap{n},rx_iface_in={name}0,tx_iface={name}0'}}

        def exception(n, name):
            return {'name': f'{name}-host', 'role': 'exception', 'exception': name,
                    'device': {'vdev': f'net_tap{n},iface={name}host0'}}

        house.start([port(0, 'wire', 'untrusted', WIRE_MAC), port(1, 'core', 'trusted', CORE_MAC),
                     exception(0, 'wire'), exception(1, 'core')])
        for interface, addresses in (('wirehost0', (f'{GATE}/24', f'{GATE6}/64')),
                                     ('corehost0', (f'{GATE_CORE}/24', f'{GATE_CORE6}/64'))):
            house.gate.run(['ip', 'link', 'set', interface, 'up'])
            for address in addresses:
                house.gate.address(interface, address)
        house.server_host.route('10.1.0.0/24', via=GATE_CORE)
        house.peer_host.route('10.2.0.0/24', via=GATE)
        house.server = house.service(house.server_host, SERVER, 5000)
        house.peer.install(['10.2.0.0/24'], [{'local': '10.2.0.0/24', 'protocol': 'udp'}])
        until(lambda: house.peer.asks(SERVER, 5000, b'begin') == b'BEGIN')
        yield house
        assert house.dataplane.running(), house.dataplane.log_tail()


def _is_deaf(house):
    """The stand-ins' kernel answers nothing, even for an address that it has."""
    house.gate.address('lo', f'{GATE}/32')
    house.peer_host.neighbour('wire0', GATE, WIRE_MAC)
    known = _pings(house.peer_host, GATE)
    house.peer_host.run(['ip', 'neigh', 'del', GATE, 'dev', 'wire0'])
    asked = _pings(house.peer_host, GATE)
    house.peer_host.run(['ip', 'neigh', 'flush', 'dev', 'wire0'])
    house.gate.run(['ip', 'address', 'del', f'{GATE}/32', 'dev', 'lo'])
    return not known and not asked


def test_the_stand_in_is_one(whole):
    """Without the dataplane the kernel behind the wire was silent: what answers now is the
    exception port's work."""
    assert whole.deaf
    assert _pings(whole.peer_host, GATE)


@pytest.mark.parametrize('ours, theirs', [((GATE, PEER), (GATE_CORE, SERVER)),
                                          ((GATE6, PEER6), (GATE_CORE6, SERVER6))],
                         ids=['ipv4', 'ipv6'])
def test_the_host_is_reached_and_reaches_others(whole, ours, theirs):
    """ARP or neighbour discovery, and ping, both ways on both sides; nobody knows a neighbour."""
    _forget_neighbours(whole)
    for host, (gate, far) in ((whole.peer_host, ours), (whole.server_host, theirs)):
        assert _pings(host, gate)
    _forget_neighbours(whole)
    for gate, far in (ours, theirs):
        assert _pings(whole.gate, far)


def test_connections_to_the_host(whole):
    """What an operator's ssh does."""
    for host, address in ((whole.peer_host, GATE), (whole.server_host, GATE_CORE)):
        with whole.gate.entered():
            listener = socket.create_server((address, 2222))
        with listener, host.entered():
            with socket.create_connection((address, 2222), 5) as client:
                connection, _ = listener.accept()
                with connection:
                    data = os.urandom(50_000)
                    threading.Thread(target=client.sendall, args=(data,), daemon=True).start()
                    connection.settimeout(5)
                    received = b''
                    while len(received) < len(data):
                        received += connection.recv(65536)
                    assert received == data


def test_key_exchange_with_the_host(whole):
    """UDP 4500 is for ESP and IKE (RFC 3948 2.2): what has the marker is for a daemon of the host,
    what has an SPI is not."""
    with whole.gate.entered():
        daemon = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        daemon.bind((GATE, 4500))
    with daemon:
        daemon.settimeout(5)
        whole.peer.send_clear(udp(PEER, GATE, 4500, 4500, bytes.fromhex('5eed0ffe') + bytes(40)))
        whole.peer.send_clear(udp(PEER, GATE, 4500, 4500, NON_ESP_MARKER + b'IKE_SA_INIT'))
        assert daemon.recvfrom(2048) == (NON_ESP_MARKER + b'IKE_SA_INIT', (PEER, 4500))


def test_esp_is_the_dataplanes_and_cleartext_is_nobodys(whole):
    whole.server.heard.clear()
    _forget_neighbours(whole)  # also the dataplane's way to both sides is found through the TAPs
    assert whole.peer.asks(SERVER, 5000, b'sealed') == b'SEALED'
    packets = [udp(source, SERVER, 40000, 5000, b'clear') for source in (PEER, CLIENT)]
    whole.grows('cleartext_denied', lambda: [whole.peer.send_clear(p) for p in packets], by=2)
    assert whole.server.heard == [(b'sealed', (CLIENT, 40000))]
    # Nor does the server's cleartext leave, or ESP that nobody knows reach the host.
    whole.grows('no_policy', lambda: whole.server.socket.sendto(b'leak', ('10.1.0.99', 1)))
    unknown = Sa(0x5eed0fff, PEER, GATE).packet(udp(CLIENT, SERVER, 40000, 5000, b'x'))
    whole.grows('unknown_spi', lambda: whole.peer.send_clear(unknown))


def test_the_host_does_not_see_what_is_not_its_own(whole):
    """The kernel behind the exception port neither hears cleartext for the servers nor ESP."""
    capture = subprocess.Popen(
        whole.gate.command(['/usr/bin/python3', '-c', _CAPTURE]), stdout=subprocess.PIPE, text=True)
    try:
        assert capture.stdout.readline() == 'ready\n'
        assert whole.peer.asks(SERVER, 5000, b'sealed') == b'SEALED'
        whole.peer.send_clear(udp(PEER, SERVER, 40000, 5000, b'clear'))
        whole.peer.send_clear(udp(PEER, SERVER, 4500, 4500, NON_ESP_MARKER + b'no IKE of ours'))
        assert _pings(whole.peer_host, GATE)  # behind all that, in the same queue
        heard = set(capture.communicate(timeout=10)[0].split())
    finally:
        capture.kill()
        capture.wait()
    assert f'{PEER}>{GATE}:1' in heard
    assert not {flow for flow in heard if flow.endswith((':50', ':17'))}, heard


# What comes to the kernel from wirehost0, as source>destination:protocol, up to the first ping.
_CAPTURE = '''
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
s.bind(('wirehost0', 0x0800))
s.settimeout(10)
print('ready', flush=True)
while True:
    packet, sender = s.recvfrom(2048)
    if sender[2] == 4:  # PACKET_OUTGOING
        continue
    source, destination = (socket.inet_ntoa(packet[at:at + 4]) for at in (12, 16))
    print(f'{source}>{destination}:{packet[9]}', flush=True)
    if packet[9] == 1:
        break
'''


def test_the_host_traffic_of_an_address_ends_with_the_address(whole):
    """The kernel's addresses are mirrored: what is not the host's any more is nobody's."""
    second = '192.0.2.77'
    whole.gate.address('wirehost0', f'{second}/24')
    until(lambda: _pings(whole.peer_host, second))
    whole.peer_host.neighbour('wire0', second, WIRE_MAC)
    whole.gate.run(['ip', 'address', 'del', f'{second}/24', 'dev', 'wirehost0'])
    packet = udp(PEER, second, 1, 2)

    def denied():
        before = whole.steer.counters()
        whole.peer.send_clear(packet)
        time.sleep(0.05)
        return 'not_for_us' in whole.steer.seen(before)
    until(denied)
    assert _pings(whole.peer_host, GATE)
