"""The examples of config/examples, one per protected interface, all in force on one gate: each
interface's own peer gets its session there and packets pass both ways; the peers of all the others get
none, for want of the role, of the audience or of the scope.

The documents are taken as they are. Put in is only what an operator puts in, too: the thumbprint of a
peer's key, and the files that guard.yaml names.
"""

import ipaddress
import itertools
import re
import socket

import pytest
import yaml

from netns import wait_until
from processes import ROOT, Guard, Wire
from psk_peer import ProofKey, PskKey, PskPeer
from scapy_esp import Sa, split, tcp
from session_peer import PeerPki, SessionError, SessionPeer, TokenIssuer
from tunnel import GATE, PEER, SERVER, Tunnel

FOLDER = ROOT / 'config' / 'examples'
# management-exposure-peer.yaml is the other end of one of them.
FILES = [path for path in sorted(FOLDER.glob('*.yaml'))
         if not path.name.startswith('dataplane-') and not path.stem.endswith('-peer')]
TYPES = {'management-exposure', 'scef', 'msgin5g', 'os-ma-nfvo', 'or-vnfm', 'or-vi', 'vi-vnfm',
         've-vnfm', 'nf-vi', 'nfvi-sm', 'catalogue', 'api-registry'}
ALGORITHM = 'aes-256-gcm-16'
RST = 0x04  # a TCP without the connection ignores it: nothing comes back
SPI = 0x7001
MARK = b'nobody on the wire may read this'


def guard_lines(path):
    """What the example's comment says belongs into guard.yaml."""
    found = re.search(r'^# guard\.yaml:\n((?:#   .*\n)+)', path.read_text(encoding='ascii'), re.M)
    return yaml.safe_load(re.sub(r'^# ', '', found[1], flags=re.M))


class Example:
    """One interface and who may use it."""

    def __init__(self, path):
        self.document = yaml.safe_load(path.read_text(encoding='ascii'))
        self.guard = guard_lines(path)
        self.interface, = self.document['interfaces']
        self.name = self.interface['name']
        self.audience, = (one['audience'] for one in self.guard['interfaces'])
        network = ipaddress.ip_network(self.interface['prefixes'][0])
        self.server = str(network[10 if network.num_addresses > 1 else 0])

    def uses(self):
        """(peer, policy) of each role."""
        for policy in self.document['policies']:
            for peer in self.document['peers']:
                if peer['role'] == policy['role']:
                    yield peer, policy


EXAMPLES = [Example(path) for path in FILES]
BY_ESP = [e for e in EXAMPLES if e.interface['protection'] == 'esp']
BY_TLS = [e for e in EXAMPLES if e.interface['protection'] == 'tls']
BY_BOTH = [e for e in EXAMPLES if e.interface['protection'] == 'tls+esp']
USES = [(e, peer, policy) for e in BY_ESP for peer, policy in e.uses()]


def first_address(prefix):
    """An inner address of a peer: 10.1.0.0/28 gives 10.1.0.1."""
    return str(ipaddress.ip_network(prefix)[1])


class World(Tunnel):
    def __init__(self, folder):
        self.peers = PeerPki(folder / 'peers')
        self.issuer = TokenIssuer('https://as.operator-a.example')
        self.credentials = {}
        self.ports = itertools.count(20000)
        super().__init__(folder, lab=False)

    def _recorder(self, namespace, interface):
        wire = Wire(namespace, interface, keep=lambda f: f[12:14] in (b'\x08\0', b'\x86\xdd'))
        self.closing.append(wire.close)
        return wire

    def _configure(self, algorithm):
        policy, settings = self._merged()
        self._addresses(policy)
        self.warnings = self.rest.put('/v1/policy', policy)['warnings']
        self.guard = Guard(self.gate, self.folder, self.control.guard_socket, self.peers,
                           self.issuer, **settings)
        self.closing.append(self.guard.stop)
        self.guard.start()

    def _merged(self):
        """All documents as one, and all lines for guard.yaml."""
        policy = {kind: {} for kind in ('interfaces', 'peers', 'policies')}
        settings = {'interfaces': [], 'keys': [], 'listeners': {'psk': []}}
        for example in EXAMPLES:
            for kind, known in policy.items():
                for one in example.document[kind]:
                    # A peer that several examples have is the same in each.
                    assert known.setdefault(one['name'], one) == one, one['name']
            settings['interfaces'] += example.guard['interfaces']
            settings['keys'] += example.guard.get('keys', [])
            settings['listeners']['psk'] += example.guard.get('listeners', {}).get('psk', [])
        self.psk_listener, = settings['listeners']['psk']
        for key in settings['keys']:
            proof = ProofKey()
            self.credentials[key['peer']] = (
                PskKey(key['identity'], key['peer'], self.folder / key['file']), proof)
            policy['peers'][key['peer']]['token']['key_thumbprint'] = proof.thumbprint
        for name, peer in policy['peers'].items():
            if name not in self.credentials:
                self.credentials[name] = self.peers.issue(peer['identity'], 'client')
        return {kind: list(known.values()) for kind, known in policy.items()}, settings

    def _addresses(self, policy):
        for endpoint in {peer['endpoint'] for peer in policy['peers']} - {PEER}:
            self.peer.address('wire0', f'{endpoint}/32')
        self.gate.route('198.51.100.0/24', dev='wire0')
        self.gate.route('10.2.0.0/16', dev='core0')
        self.gate.address('core0', '2001:db8:2::1/64')
        for server in {example.server for example in EXAMPLES} - {SERVER}:
            self.server.address('srv0', f'{server}/{64 if ":" in server else 32}')
        self.server.route('10.3.0.0/16', via='10.2.0.1')
        self.server.route('2001:db8:3::/64', via='2001:db8:2::1')

    # -- sessions

    def connect(self, peer):
        who = self.credentials[peer['name']]
        psk = isinstance(who, tuple)
        port = self.psk_listener['port'] if psk else self.guard.port
        with self.peer.entered():
            sock = socket.create_connection((GATE, port), 20, (peer['endpoint'], 0))
        if psk:
            return PskPeer(sock, *who, self.psk_listener['url'], Guard.NAME)
        return SessionPeer(sock, self.peers.ca, who, Guard.NAME)

    def token(self, peer, audience, scope):
        who = self.credentials[peer['name']]
        bound_to = who[1] if isinstance(who, tuple) else who
        return self.issuer.token(audience, bound_to, client=peer['token']['client_id'], scope=scope)

    def ask(self, connection, example, token):
        return connection.open({'interface': example.name, 'spi': SPI, 'algorithms': [ALGORITHM]},
                               token)

    def open(self, example, peer, policy):
        """The session, and both of its SAs as the peer has them."""
        with self.connect(peer) as connection:
            session = self.ask(connection, example,
                               self.token(peer, example.audience, policy['scope']))
            connection.confirm(session)
        ends = peer['endpoint'], GATE
        return (session, Sa(session.spi_to_gate, *ends, ALGORITHM, key=session.key_to_gate),
                Sa(SPI, *reversed(ends), ALGORITHM, key=session.key_to_peer))

    def end(self, session, example, peer, policy):
        with self.connect(peer) as connection:
            connection.end(session.id, self.token(peer, example.audience, policy['scope']))

    def refused(self, example, peer, *tokens):
        """[(class, reference)] of the refusals of what (audience, scope) gives, on one connection."""
        answers = []
        with self.connect(peer) as connection:
            for token in tokens:
                with pytest.raises(SessionError) as refusal:
                    self.ask(connection, example, self.token(peer, *token))
                problem = refusal.value.problem
                answers.append((problem['type'].rpartition(':')[2], problem['reference']))
        return answers

    def reason(self, reference):
        """What the guard's log has under a reference. It logs only so many in a second."""
        found = re.search(rf'\({reference}\): (.*)', self.guard.log.read_text())
        return found and found[1]

    # -- packets; each has a port of its own by which it is known again

    def reaches_server(self, sa, source, example, port):
        mark = next(self.ports)
        first = self.core.count()
        self.send_wire(sa.packet(tcp(source, example.server, mark, port, MARK, RST)))
        return lambda: any(self._ports(f[14:]) == (mark, port) for f in self.core.frames[first:])

    def reaches_peer(self, sa, example, destination, port, callback=False):
        mark = next(self.ports)
        ports = (mark, port) if callback else (port, mark)
        first = self.wire.count()
        self.send_core(tcp(example.server, destination, *ports, MARK, RST))

        def arrived():
            for seen in self.wire.frames[first:]:
                if seen[23] == 50 and split(seen[14:])[1][:4] == sa.spi.to_bytes(4, 'big') and \
                        self._ports(sa.open(seen[14:]).inner) == ports:
                    return True
            return False
        return arrived

    @staticmethod
    def _ports(packet):
        """(source, destination) of TCP."""
        six = packet[0] >> 4 == 6
        if packet[6 if six else 9] != 6:
            return None
        segment = packet[40 if six else 20:]
        return int.from_bytes(segment[:2], 'big'), int.from_bytes(segment[2:4], 'big')

    def send_core(self, packet):
        kind = b'\x86\xdd' if packet[0] >> 4 == 6 else b'\x08\0'
        macs = (bytes.fromhex(m.replace(':', '')) for m in (self.gate_core_mac, self.server_mac))
        self.core.send(b''.join(macs) + kind + packet)

    def sas(self):
        return self.rest.get('/v1/sas')['items']


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    with World(tmp_path_factory.mktemp('interfaces')) as w:
        yield w


def test_each_type_of_interface_has_its_example():
    assert {e.interface['type'] for e in EXAMPLES} == TYPES
    assert sum(e.interface['type'] == 'msgin5g' for e in EXAMPLES) == 2  # MSGin5G-2 and -4
    for kind in ('audience', 'name'):
        values = [getattr(e, kind) for e in EXAMPLES]
        assert len(set(values)) == len(values), 'none is shared'
    scopes = [policy['scope'] for e in EXAMPLES for policy in e.document['policies']]
    assert len(set(scopes)) == len(scopes)


@pytest.mark.parametrize('example', BY_TLS, ids=lambda e: e.name)
def test_what_asks_for_tls_gives_no_session(world, example):
    """Its own peer, with all that is right: packets would go around the guard."""
    for peer, policy in example.uses():
        def reason():
            (kind, reference), = world.refused(example, peer, (example.audience, policy['scope']))
            assert kind == 'denied'
            return world.reason(reference)
        assert wait_until(lambda: 'carries no packets' in (reason() or ''), 20)
        assert reason().startswith('policy_denied')
    assert example.name in {warning['name'] for warning in world.warnings}


@pytest.mark.parametrize('example', BY_BOTH, ids=lambda e: e.name)
def test_what_asks_for_both_leads_to_the_guard_and_not_past_it(world, example):
    """There is no `local` port in this gate, so that what is for the guard is admitted and has nowhere
    to go; test_tls_esp.py has one."""
    peer, policy = next(example.uses())
    session, inbound, _ = world.open(example, peer, policy)
    inner = first_address(peer['prefixes'][0])
    guard = example.interface['guard']
    for destination, port, verdict in (
            (example.server, example.interface['ports'][0]['first'], 'selector_mismatch'),
            (guard['address'], guard['port'] + 1, 'selector_mismatch'),
            (guard['address'], guard['port'], 'no_route')):
        before = world.rest.verdicts().get(verdict, 0)
        world.send_wire(inbound.packet(tcp(inner, destination, 40000, port, MARK, RST)))
        assert wait_until(lambda: world.rest.verdicts().get(verdict, 0) == before + 1, 10), verdict
    assert example.name in {warning['name'] for warning in world.warnings}
    world.end(session, example, peer, policy)
    assert wait_until(lambda: not world.sas(), 20)


@pytest.mark.parametrize('use', USES, ids=lambda u: f'{u[0].name}-{u[1]["name"]}')
def test_its_own_peer_gets_a_session_and_packets_pass_both_ways(world, use):
    example, peer, policy = use
    session, inbound, outbound = world.open(*use)
    inner = first_address(peer['prefixes'][0])
    port = example.interface['ports'][0]['first']

    def passes():
        there = world.reaches_server(inbound, inner, example, port)
        back = world.reaches_peer(outbound, example, inner, port)
        return wait_until(there, 1) and wait_until(back, 1)

    assert wait_until(passes, 20)
    for ports in policy.get('callback_ports', []):
        callback = world.reaches_peer(outbound, example, inner, ports['first'], callback=True)
        assert wait_until(callback, 5)
    assert not any(MARK in f for f in world.wire.frames)
    assert any(MARK in f for f in world.core.frames)
    # The same session is no way to another interface, or to another port of this one.
    before = world.rest.verdicts()['selector_mismatch']
    others = [e for e in BY_ESP if e is not example and (':' in e.server) == (':' in inner)]
    arrivals = [world.reaches_server(inbound, inner, other, other.interface['ports'][0]['first'])
                for other in others] + [world.reaches_server(inbound, inner, example, 22)]
    assert wait_until(lambda: world.rest.verdicts()['selector_mismatch'] - before == len(arrivals),
                      10)
    assert not any(arrived() for arrived in arrivals)
    assert wait_until(world.reaches_server(inbound, inner, example, port), 5)
    world.end(session, *use)
    assert wait_until(lambda: not world.sas(), 20)


@pytest.mark.parametrize('example', BY_ESP, ids=lambda e: e.name)
def test_nobody_elses_peer_gets_one(world, example):
    (own, policy), *_ = example.uses()
    roles = {p['role'] for p in example.document['policies']}
    for other in EXAMPLES:
        if other is example:
            continue
        other_policy = other.document['policies'][0]
        # The role: everything else is as this interface wants it.
        for peer in other.document['peers']:
            if peer['role'] not in roles:
                (kind, _), = world.refused(example, peer, (example.audience, policy['scope']))
                assert kind == 'denied', peer['name']
        # The audience, and the scope: the role is right.
        (audience, _), (scope, _) = world.refused(example, own, (other.audience, policy['scope']),
                                                  (example.audience, other_policy['scope']))
        assert (audience, scope) == ('invalid_token', 'insufficient_scope'), other.name
    assert not world.sas()
    session, _, _ = world.open(example, own, policy)  # and the twin
    world.end(session, example, own, policy)
    assert wait_until(lambda: not world.sas(), 20)
