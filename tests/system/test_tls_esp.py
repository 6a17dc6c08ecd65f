"""Interfaces whose protection is `tls+esp`: a CSMF's HTTPS requests travel in ESP to the guard, which
has an address of its own for them, and go on to the NSMF. ESP on the peer's side is portcullis-peer's
and a dataplane's; the client is a socket of the peer's kernel.

       peer                                      gate                            server
    app0 ═ app1   dataplane           dataplane   guard1 ═ guard0
    10.1.0.2        wire0 ═══════════ wire0               10.9.0.1, guard  ════ srv0 10.2.0.10, NSMF
"""

import contextlib
import socket

import pytest
import yaml

from agent_world import Agent
from netns import wait_until
from processes import Dataplane, Guard, instance_name
from request_world import PORT, SLICE, RequestWorld, policy
from session_peer import SessionPeer
from tunnel import CLIENT, GATE

GUARD = '10.9.0.1'
SO_BINDTODEVICE = 25
PATIENCE = 60
MEMORY = {'hugepages': 'never', 'megabytes': 160, 'buffers': 16384}  # for three ports


class World(RequestWorld):
    address = GUARD
    listener = {'address': GUARD, 'port': PORT, 'device': 'guard0'}

    @staticmethod
    def policy():
        body = policy()
        body['interfaces'][1] |= {'protection': 'tls+esp',
                                  'guard': {'address': GUARD, 'port': PORT}}
        return body

    def _gate_ports(self):
        self.world.veth(self.gate, 'guard0', self.gate, 'guard1')
        self.gate.sysctl('net.ipv6.conf.guard1.disable_ipv6', 1)
        self.gate.run(['ip', 'link', 'set', 'guard0', 'arp', 'off'])
        self.gate.address('guard0', f'{GUARD}/32')
        self.gate.route('10.1.0.0/16', dev='guard0', extra=['src', GUARD])
        return [*super()._gate_ports(), {'name': 'guard', 'role': 'local',
                                    'device': {'interface': 'guard1'}, 'prefixes': [f'{GUARD}/32']}]

    def _configure(self, algorithm):
        super()._configure(algorithm)
        self._office()
        self.world.veth(self.peer, 'app0', self.peer, 'app1')
        self.peer.sysctl('net.ipv6.conf.app1.disable_ipv6', 1)
        self.peer.run(['ip', 'link', 'set', 'app0', 'arp', 'off'])
        self.peer.address('app0', f'{CLIENT}/32')
        self.peer.route('10.9.0.0/24', dev='app0', extra=['src', CLIENT])
        folder = self.folder / 'peer'
        self.peer_dataplane = Dataplane(self.peer, folder, instance_name('p'), [
            {'name': 'wire', 'role': 'untrusted', 'device': {'interface': 'wire0'}},
            {'name': 'app', 'role': 'local', 'device': {'interface': 'app1'},
             'prefixes': [f'{CLIENT}/32']}], lab=False)
        self.closing += [self.peer_dataplane.forget, self.peer_dataplane.stop]
        self.peer_dataplane.start()
        self.agent = Agent(self.peer, folder, self._agent_settings(folder))
        self.closing.append(self.agent.stop)

    def _office(self):
        """Where operators are: a network that no port of the dataplane is in."""
        self.office = self.world.add('office')
        self.world.veth(self.office, 'gate0', self.gate, 'office0')
        self.gate.address('office0', '198.51.100.1/24')
        self.office.address('gate0', '198.51.100.2/24')
        self.office.route(f'{GUARD}/32', via='198.51.100.1')

    def _agent_settings(self, folder):
        token_file = folder / 'token'
        token_file.touch(mode=0o600)
        token_file.write_text(self.api_token('nsi:monitor'), encoding='ascii')
        return {
            'gate': {'identity': Guard.NAME, 'url': f'https://{Guard.NAME}:4433', 'address': GATE},
            'certificate': {'identity': 'csmf-1.example', 'chain': str(self.csmf.certificate_file),
                            'key': str(self.csmf.key_file)},
            'anchors': [{'path': str(self.peers.ca.certificate_file)}],
            'crls': {'locations': [str(self.peers.list_file)]},
            'sessions': [{'interface': 'nsmf-api', 'token_file': str(token_file), 'selectors': [
                {'gate': f'{GUARD}/32', 'peer': f'{CLIENT}/32', 'protocol': 'tcp',
                 'gate_ports': [PORT, PORT]}]}],
            'dataplane': {'socket': str(self.peer_dataplane.socket)}}

    def start_agent(self):
        self.agent.start()
        assert wait_until(lambda: any(s['confirmed'] for s in self.sessions()), PATIENCE)

    def ends_its_session(self):
        """As an operator; the agent is gone before, and opens no other."""
        self.agent.kill()
        for one in self.sessions():
            self.rest.delete(f"/v1/sessions/{one['id']}")

    def connections(self):
        """To the guard's port, as the gate's kernel has them."""
        return self.gate.run(['ss', '-Htn', 'state', 'established', 'sport', '=', f':{PORT}'])

    @staticmethod
    def cleartext(namespace, interface=''):
        """Whether the guard takes a connection that leaves there and through no SA."""
        with namespace.entered(), socket.socket() as plain:
            plain.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, interface.encode())
            plain.settimeout(3)
            try:
                plain.connect((GUARD, PORT))
            except OSError:
                return False
            return True

    @contextlib.contextmanager
    def without_device(self):
        """The guard takes connections at that address from anywhere."""
        setting = self.guard.config['requests'][0]
        device = setting.pop('device')
        try:
            self.restart_guard()
            yield
        finally:
            setting['device'] = device
            self.restart_guard()

    def restart_guard(self):
        self.guard.stop()
        self.guard.config_file.write_text(yaml.safe_dump(self.guard.config), encoding='ascii')
        self.guard.start()

    def why(self, problem):
        """Reason and detail of a refusal of which the client was told the reference."""
        path = f'/v1/decisions/{problem["reference"]}'
        assert wait_until(lambda: self.rest.call('GET', path)[0] == 200, 10)
        decision = self.rest.get(path)['items'][0]
        return decision['reason'], decision['detail']


@pytest.fixture(scope='module')
def module_world(tmp_path_factory):
    with World(tmp_path_factory.mktemp('tls-esp'), memory=MEMORY) as w:
        yield w


@pytest.fixture
def world(module_world):
    w = module_world
    w.start_agent()
    yield w
    w.agent.stop()
    for one in w.sessions():  # of an agent that was killed
        w.rest.delete(f"/v1/sessions/{one['id']}")
    assert wait_until(lambda: not w.sas(), 20)


@pytest.fixture
def reached(world):
    """How many more requests have reached the NSMF."""
    before = len(world.nsmf.requests())
    return lambda: len(world.nsmf.requests()) - before


def test_a_request_comes_through_esp_and_the_guard_to_the_server(world, reached):
    assert world.create('one') == 201
    assert world.ask('GET', SLICE.format('one'))[0] == 200
    assert reached() == 2
    assert dict(world.nsmf.requests()[-1]['headers'])['Portcullis-Client'].startswith(
        'peer="csmf-1"')
    states = [one['state'] for one in world.rest.get('/v1/sas')['items']]
    assert len(states) == 2 and all(state['packets'] > 0 for state in states)  # it was ESP


def test_what_comes_without_esp_does_not_reach_the_guard(world, reached):
    """From the wire and the servers, where the dataplane drops it, and from where it does not look,
    since the listener is another interface's."""
    world.peer.route('10.9.0.0/24', via=GATE, extra=['metric', '100'])
    before = world.rest.verdicts().get('xdp_cleartext_denied', 0)
    assert not world.cleartext(world.peer, 'wire0')
    assert world.rest.verdicts()['xdp_cleartext_denied'] > before
    world.server.route(f'{GUARD}/32', via='10.2.0.1')
    assert not world.cleartext(world.server)
    assert not world.cleartext(world.office)
    assert not world.connections() and reached() == 0
    assert world.create('in-esp') == 201


def test_a_listener_that_is_open_to_all_serves_nobody(world, reached):
    with world.without_device():
        assert world.cleartext(world.office)
        status, _, problem = world.ask('GET', SLICE.format('one'))
        assert status == 403
        reason, detail = world.why(problem)
        assert reason == 'session_missing' and 'no `device`' in detail
    assert reached() == 0
    assert world.create('with-device') == 201


def test_a_certificate_is_good_in_its_own_peers_sa_alone(world, reached):
    """csmf-2 has a session, too, and a right to these requests; but not from csmf-1's addresses."""
    with world.peer.entered():
        sock = socket.create_connection((GATE, world.guard.port), 20)
    with SessionPeer(sock, world.peers.ca, world.other, Guard.NAME) as connection:
        connection.confirm(connection.open(
            {'interface': 'nsmf-api', 'spi': 0x5002},
            world.api_token('nsi:monitor', credential=world.other, client='csmf-2')))
    assert sorted(s['peer'] for s in world.sessions() if s['confirmed']) == ['csmf-1', 'csmf-2']
    status, _, problem = world.ask(
        'GET', SLICE.format('one'), connection=world.client(world.other),
        token=world.api_token(credential=world.other, client='csmf-2'))
    assert status == 403
    reason, detail = world.why(problem)
    assert reason == 'session_missing' and CLIENT in detail
    assert reached() == 0
    assert world.create('own-sa') == 201


def test_connections_end_with_the_session(world, reached):
    """One that waits for its next request, and one whose body is still to come."""
    idle = world.client()
    assert world.create('kept', connection=idle) == 201
    under_way = world.tls(world.csmf)
    under_way.sendall('\r\n'.join([
        f'PUT {SLICE.format("half")} HTTP/1.1', f'Host: {Guard.NAME}',
        f'Authorization: Bearer {world.api_token()}', 'Content-Type: application/json',
        'Content-Length: 1000', '', '{"id":']).encode('ascii'))
    # What changes for others leaves them alone.
    rule = world.rest.get('/v1/policies/nsi-create')
    world.rest.put('/v1/policies/nsi-create', {**rule, 'grant_seconds': 600})
    world.rest.put('/v1/policies/nsi-create', rule)
    assert world.ask('GET', SLICE.format('kept'), connection=idle)[0] == 200
    assert len(world.connections().splitlines()) == 2
    before = reached()

    world.ends_its_session()
    assert wait_until(lambda: not world.connections(), 10)
    assert reached() == before
    with world.peer.entered(), pytest.raises(TimeoutError):
        socket.create_connection((GUARD, PORT), 2)
    idle.close()
    under_way.close()
    world.start_agent()
    assert world.create('again') == 201


def test_control_that_restarts_ends_no_connection(world):
    kept = world.client()
    assert world.create('before', connection=kept) == 201
    world.control.kill()
    world.control.start()
    assert wait_until(
        lambda: world.ask('GET', SLICE.format('before'), connection=kept)[0] == 200, 20)
