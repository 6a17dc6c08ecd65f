"""portcullis-peer against a whole gate: two hosts, a dataplane on each, ESP between them.

       peer                                   gate                      server
    app0 ═ app1    dataplane               dataplane
    10.1.0.2         wire0 ═══════════════ wire0   core0 ═════════ srv0 10.2.0.10, UDP 5000
                   192.0.2.2             192.0.2.1

The server sends back what it gets, so each number that comes back went through both gates twice.
Nothing on either side is a laboratory: all keys are from sessions."""

import contextlib
import os
import pathlib
import re
import signal
import socket
import struct
import threading
import time

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from netns import Namespaces, wait_until
from processes import BIN, Control, Dataplane, Guard, Lab, Pki, Process, instance_name
from session_peer import PeerPki, TokenIssuer, base64url
from steer_client import SteerClient
from tunnel import CLIENT, GATE, PEER, PORT, SERVER, peer_body, policy_body

ISSUER = 'https://as.example'
NAME = 'csmf-1.example'
PSK_IDENTITY = '7f3a9c'
PSK_PEER = 'gateway-7'
PATIENCE = 60  # seconds; what is waited for here takes a few
NUMBER = struct.Struct('!Q')


def selector(**more):
    return {'gate': f'{SERVER}/32', 'peer': f'{CLIENT}/32', 'protocol': 'udp',
            'gate_ports': [PORT, PORT], **more}


class Agent(Process):
    """portcullis-peer; `config` may be changed before start()."""

    def __init__(self, namespace, folder, config):
        self.folder = pathlib.Path(folder)
        self.config = config
        self.config_file = self.folder / 'peer.yaml'
        super().__init__(namespace, [BIN / 'portcullis-peer', '--config', self.config_file],
                         self.folder / 'peer.log')

    def start(self):
        self.config_file.write_text(yaml.safe_dump(self.config, sort_keys=False), encoding='ascii')
        self.seen = self.log.stat().st_size if self.log.exists() else 0
        self.launch()

    def said(self):
        """Since the last start."""
        return self.log.read_bytes()[self.seen:].decode()

    def wait_for(self, pattern):
        self.require(lambda: re.search(pattern, self.said()), f'saying "{pattern}"', PATIENCE)
        return re.search(pattern, self.said())


class Echo:
    """A UDP server that sends back what it gets."""

    def __init__(self, namespace):
        with namespace.entered():
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.socket.bind((SERVER, PORT))
        self.socket.settimeout(0.2)
        self.open = True
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        while self.open:
            with contextlib.suppress(TimeoutError):
                data, sender = self.socket.recvfrom(2048)
                self.socket.sendto(data, sender)

    def close(self):
        self.open = False
        self.thread.join()
        self.socket.close()


class World(Lab):
    def __init__(self, folder):
        super().__init__(Namespaces('agent'))
        self.folder = folder
        self.numbers = 0
        try:
            self._hosts()
            self._gate()
            self._peer()
        except BaseException:
            self.close()
            raise

    def close(self):
        for process in ('agent', 'guard'):
            if getattr(self, process, None):
                getattr(self, process).stop()
        super().close()

    def _hosts(self):
        world = self.world
        self.peer, self.gate, self.server = (world.add(n) for n in ('peer', 'gate', 'server'))
        world.veth(self.peer, 'wire0', self.gate, 'wire0')
        world.veth(self.gate, 'core0', self.server, 'srv0')
        world.veth(self.peer, 'app0', self.peer, 'app1')
        self.peer.sysctl('net.ipv6.conf.app1.disable_ipv6', 1)
        self.peer.address('wire0', f'{PEER}/24')
        self.peer.run(['ip', 'link', 'set', 'app0', 'arp', 'off'])
        self.peer.address('app0', f'{CLIENT}/32')
        self.peer.route('10.2.0.0/24', dev='app0', extra=['src', CLIENT])
        self.gate.address('wire0', f'{GATE}/24')
        self.gate.address('core0', '10.2.0.1/24')
        self.server.address('srv0', f'{SERVER}/24')
        self.server.route('10.1.0.0/16', via='10.2.0.1')
        self.echo = Echo(self.server)
        self.closing.append(self.echo.close)

    def _gate(self):
        folder = self.folder / 'gate'
        folder.mkdir()
        self.pki = PeerPki(self.folder / 'pki')
        self.issuer = TokenIssuer(ISSUER)
        self.dataplane = Dataplane(self.gate, folder, instance_name('g'), [
            {'name': 'wire', 'role': 'untrusted', 'device': {'interface': 'wire0'}},
            {'name': 'core', 'role': 'trusted', 'device': {'interface': 'core0'}}], lab=False)
        self.closing.append(self.dataplane.forget)
        self.control = Control(self.gate, folder, self.dataplane.socket, Pki(folder / 'pki'),
                               lab=False)
        self.dataplane.start()
        self.control.start()
        self.rest = self.control.rest()
        self.closing.append(self.rest.close)
        self.guard = Guard(self.gate, folder, self.control.guard_socket, self.pki, self.issuer)
        self._psk_listener(folder)
        self.own = self.guard.config['listeners']['certificate'][0]['certificates'][0].copy()
        self.write_guard()
        self.guard.start()
        self.put_policy()

    def _psk_listener(self, folder):
        self.psk_file = folder / 'psk.hex'
        self.psk_file.touch(mode=0o600)
        self.psk_file.write_text(os.urandom(32).hex(), encoding='ascii')
        self.guard.config['listeners']['psk'] = [
            {'address': '0.0.0.0', 'port': 4434, 'url': 'https://gate.example:4434'}]
        self.guard.config['keys'] = [
            {'identity': PSK_IDENTITY, 'peer': PSK_PEER, 'file': str(self.psk_file)}]
        key = ec.generate_private_key(ec.SECP256R1())
        self.proof_key = folder / 'proof.key'
        self.proof_key.touch(mode=0o600)
        self.proof_key.write_bytes(key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption()))
        self.thumbprint = jwk_thumbprint(key.public_key().public_numbers())

    def _peer(self):
        folder = self.folder / 'peer'
        folder.mkdir()
        self.peer_dataplane = Dataplane(self.peer, folder, instance_name('p'), [
            {'name': 'wire', 'role': 'untrusted', 'device': {'interface': 'wire0'}},
            {'name': 'app', 'role': 'local', 'device': {'interface': 'app1'},
             'prefixes': [f'{CLIENT}/32']}], lab=False)
        self.closing += [self.peer_dataplane.forget, self.peer_dataplane.stop]
        self.peer_dataplane.start()
        self.csmf = self.pki.issue(NAME, 'client')
        self.token_file = folder / 'token'
        self.token_file.touch(mode=0o600)
        self.agent = Agent(self.peer, folder, None)
        self.by_certificate()

    # -- what is configured

    def by_certificate(self):
        self.write_token()
        self.agent.config = {
            'gate': {'identity': Guard.NAME, 'url': f'https://{Guard.NAME}:4433', 'address': GATE},
            'certificate': {'identity': NAME, 'chain': str(self.csmf.certificate_file),
                            'key': str(self.csmf.key_file)},
            'anchors': [{'path': str(self.pki.ca.certificate_file)}],
            'crls': {'locations': [str(self.pki.list_file)]},
            'sessions': [{'interface': 'nsmf', 'token_file': str(self.token_file),
                          'selectors': [selector()]}],
            'dataplane': {'socket': str(self.peer_dataplane.socket)},
            'liveness_seconds': 3,
        }

    def by_psk(self):
        self.write_token(client=PSK_PEER, cnf={'jkt': self.thumbprint})
        for section in ('certificate', 'anchors', 'crls'):
            del self.agent.config[section]
        self.agent.config['gate']['url'] = f'https://{Guard.NAME}:4434'
        self.agent.config['psk'] = {'identity': PSK_IDENTITY, 'file': str(self.psk_file),
                                    'proof_key': str(self.proof_key)}

    def write_token(self, **claims):
        token = self.issuer.token(Guard.AUDIENCE, self.csmf, **{'scope': 'nsi', **claims})
        fresh = self.token_file.with_suffix('.new')
        fresh.touch(mode=0o600)
        fresh.write_text(token, encoding='ascii')
        fresh.rename(self.token_file)
        return token

    def put_policy(self, last_port=PORT, psk=False):
        token = {'issuer': ISSUER, 'client_id': 'csmf-1'}
        if psk:
            token = {'issuer': ISSUER, 'client_id': PSK_PEER, 'key_thumbprint': self.thumbprint}
        more = {'authentication': 'psk', 'name': PSK_PEER} if psk else {}
        body = policy_body([{**peer_body(token=token), **more}])
        body['policies'][0]['scope'] = 'nsi'
        body['interfaces'][0]['ports'][0]['last'] = last_port
        self.rest.put('/v1/policy', body)

    def write_guard(self, **own):
        """`own`: another certificate of the gate's."""
        listener = self.guard.config['listeners']['certificate'][0]
        listener['certificates'] = [own or self.own]
        self.guard.config_file.write_text(yaml.safe_dump(self.guard.config), encoding='ascii')

    def restart_guard(self, credential=None):
        self.guard.stop()
        if credential:
            self.write_guard(chain=str(credential.certificate_file), key=str(credential.key_file))
        else:
            self.write_guard()
        self.guard.start()

    # -- what happens

    @contextlib.contextmanager
    def client(self):
        with self.peer.entered():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind((CLIENT, 0))
        with sock:
            sock.settimeout(0.2)
            yield sock

    def answered(self, sock):
        """Sends one datagram; whether it came back."""
        self.numbers += 1
        sent = NUMBER.pack(self.numbers)
        sock.sendto(sent, (SERVER, PORT))
        with contextlib.suppress(TimeoutError):
            while True:
                if sock.recv(2048) == sent:
                    return True
        return False

    def passes(self, timeout=PATIENCE):
        with self.client() as sock:
            return wait_until(lambda: self.answered(sock), timeout)

    def peer_sas(self):
        with SteerClient(str(self.peer_dataplane.socket)) as steer:
            steer.hello()
            return set(steer.list_sas())

    def gate_sas(self):
        return {one['id'] for one in self.rest.get('/v1/sas')['items']}

    def sessions(self):
        return self.rest.get('/v1/sessions')['items']


def jwk_thumbprint(numbers):
    """RFC 7638 3."""
    import hashlib
    import json
    jwk = {'crv': 'P-256', 'kty': 'EC', 'x': base64url(numbers.x.to_bytes(32, 'big')),
           'y': base64url(numbers.y.to_bytes(32, 'big'))}
    return base64url(hashlib.sha256(
        json.dumps(jwk, separators=(',', ':'), sort_keys=True).encode()).digest())


@pytest.fixture(scope='module')
def module_world(tmp_path_factory):
    with World(tmp_path_factory.mktemp('agent')) as w:
        yield w


@pytest.fixture
def world(module_world):
    w = module_world
    w.by_certificate()
    yield w
    assert w.agent.stop() in (0, None), w.agent.log_tail()
    if w.peer_dataplane.running():
        assert wait_until(lambda: not w.peer_sas(), 20)


def test_packets_pass_both_ways_and_the_end_is_orderly(world):
    world.agent.start()
    assert world.passes()
    assert [(s['peer'], s['confirmed'], s['generation']) for s in world.sessions()] == \
        [('csmf-1', True, 1)]
    states = {one['id'][-3:]: one['state'] for one in world.rest.get('/v1/sas')['items']}
    assert states['-in']['packets'] > 0 and states['out']['packets'] > 0  # it was ESP
    assert len(world.peer_sas()) == 2
    assert world.agent.stop() == 0
    assert not world.peer_sas() and not world.sessions()
    assert wait_until(lambda: not world.gate_sas(), 20)
    assert not world.passes(timeout=1)


def test_renewals_under_traffic_lose_nothing(world):
    """The tokens last 9 s each, and the sessions no longer than they."""
    world.write_token(exp=int(time.time()) + 9)
    world.agent.start()
    assert world.passes()
    stop = threading.Event()

    def keep_fresh():
        while not stop.wait(0.5):
            world.write_token(exp=int(time.time()) + 9)

    keeper = threading.Thread(target=keep_fresh)
    keeper.start()
    try:
        with world.client() as sock:
            sock.settimeout(5)
            count = 0
            while world.sessions()[0]['generation'] < 4:
                for _ in range(50):
                    assert world.answered(sock), f'number {count} was lost'
                    count += 1
                    time.sleep(0.002)
                assert count < 50_000
    finally:
        stop.set()
        keeper.join()
    assert {s['id'] for s in world.sessions()} and len(world.sessions()) == 1


def test_a_killed_agent_leaves_the_traffic_alone_and_comes_back(world):
    world.agent.start()
    assert world.passes()
    world.agent.kill()
    before = world.peer_sas()
    assert world.passes() and len(before) == 2
    first = world.sessions()[0]['id']
    world.agent.start()
    world.agent.wait_for('generation 1 is in force')
    assert wait_until(lambda: [s['id'] for s in world.sessions()] != [first], 20)
    assert len(world.sessions()) == 1
    assert world.passes()


def test_a_peer_whose_dataplane_restarts_opens_a_new_session(world):
    world.agent.start()
    assert world.passes()
    world.peer_dataplane.kill()
    world.peer_dataplane.start()
    assert world.passes()
    assert len(world.sessions()) == 1


def test_a_gate_that_forgot_everything_is_noticed(world):
    """Both at once: no keys, no sessions. The peer sends, nothing comes, and it asks."""
    world.agent.start()
    assert world.passes()
    world.control.kill()
    world.dataplane.kill()
    world.dataplane.start()
    world.control.start()
    assert not world.gate_sas()
    assert world.passes()
    assert re.search('nothing came from the gate for [0-9]+ s', world.agent.said())
    assert 'the gate no longer knows' in world.agent.said()
    assert len(world.sessions()) == 1


def test_a_gate_that_is_away_is_tried_again(world):
    world.guard.stop()
    world.agent.start()
    world.agent.wait_for('cannot be reached.*')
    assert not world.peer_sas()
    world.guard.start()
    assert world.passes()
    world.guard.stop()
    try:
        assert world.agent.stop() == 0
        assert 'the gate could not be told of the end' in world.agent.said()
        assert not world.peer_sas()
    finally:
        world.guard.start()


def refused(world, pattern):
    world.agent.start()
    world.agent.wait_for(pattern)
    assert not world.peer_sas()
    assert not [s for s in world.sessions() if s['confirmed']]
    assert not world.passes(timeout=1)
    assert world.agent.stop() == 0


GATES = {
    'of another name': (lambda w: w.pki.issue('other.example', 'server'),
                        "peer_unknown.*expected the name 'gate.example'; found 'other.example'"),
    'below the name': (lambda w: w.pki.issue('a.gate.example', 'server'), 'peer_unknown'),
    'of another CA': (lambda w: PeerPki(w.folder / 'others').issue(Guard.NAME, 'server'),
                      'cert_chain_fail'),
    "of a peer's": (lambda w: w.pki.issue(Guard.NAME, 'client'), 'cert_profile_fail.*serverAuth'),
    'that has ended': (lambda w: w.pki.issue(Guard.NAME, 'server', days=-1), 'cert_expired'),
    'that was revoked': (lambda w: revoked(w), 'cert_revoked'),
}


def revoked(world):
    credential = world.pki.issue(Guard.NAME, 'server')
    world.pki.revoke(credential)
    return credential


@pytest.mark.parametrize('what', GATES)
def test_a_gate_with_a_certificate_is_refused(world, what):
    make, pattern = GATES[what]
    world.restart_guard(make(world))
    try:
        refused(world, pattern)
    finally:
        world.restart_guard()
    world.agent.start()  # and its twin
    assert world.passes()


def test_a_gate_that_is_revoked_meanwhile_gets_no_packet_more(world):
    gate = world.pki.issue(Guard.NAME, 'server')
    world.restart_guard(gate)
    try:
        world.agent.start()
        assert world.passes()
        world.pki.revoke(gate)
        world.agent.process.send_signal(signal.SIGHUP)
        world.agent.wait_for("the gate's certificate counts no more: cert_revoked")
        assert wait_until(lambda: not world.peer_sas(), 20)
        assert not world.passes(timeout=1)
    finally:
        world.restart_guard()
    assert world.passes()  # and its twin, without a restart of the agent


def test_a_gate_that_offers_more_than_is_configured_is_refused(world):
    world.put_policy(last_port=PORT + 1)
    try:
        refused(world, r'/selectors: the gate\'s offer is refused: it carries more.*5000, 5001')
        world.agent.config['sessions'][0]['selectors'] = [selector(gate_ports=[PORT, PORT + 1])]
        world.agent.start()
        assert world.passes()
    finally:
        world.put_policy()


def test_a_gate_that_says_another_name_than_its_certificate_is_refused(world):
    world.guard.config['identity'] = 'second.example'
    world.restart_guard()
    try:
        refused(world, '/gate_identity: .*expected gate.example; found second.example')
    finally:
        world.guard.config['identity'] = Guard.NAME
        world.restart_guard()
    world.agent.start()
    assert world.passes()


def test_a_token_that_does_not_do_is_said_and_a_good_one_taken_without_a_restart(world):
    world.write_token(client='csmf-2')
    world.agent.start()
    world.agent.wait_for('the gate refuses with status 401.*invalid_token')
    assert not world.peer_sas()
    token = world.write_token()
    assert world.passes()
    assert token.split('.')[1] not in world.agent.said()


def test_a_session_by_pre_shared_key(world):
    world.put_policy(psk=True)
    try:
        world.by_psk()
        world.agent.start()
        assert world.passes()
        assert [(s['peer'], s['confirmed']) for s in world.sessions()] == [(PSK_PEER, True)]
        assert world.agent.stop() == 0
        assert not world.sessions()
        wrong = world.psk_file.with_suffix('.wrong')
        wrong.touch(mode=0o600)
        wrong.write_text(os.urandom(32).hex(), encoding='ascii')
        world.agent.config['psk']['file'] = str(wrong)
        refused(world, 'is refused, or refuses: TLS handshake: ')
        # The certificate's listener has no such key, and shows a certificate instead.
        world.agent.config['psk']['file'] = str(world.psk_file)
        world.agent.config['gate']['url'] = f'https://{Guard.NAME}:4433'
        refused(world, 'is refused, or refuses: TLS handshake: ')
        world.agent.config['gate']['url'] = f'https://{Guard.NAME}:4434'
        world.agent.start()
        assert world.passes()
        assert world.agent.stop() == 0
    finally:
        world.put_policy()


@pytest.mark.parametrize('piece, said', [
    ('unknown', 'peer.yaml:[0-9]+: .*unknown key'), ('chain', 'certificate/chain: cannot be used'),
    ('key', 'certificate/key: others have rights'), ('anchor', 'nowhere')])
def test_it_does_not_start_with(world, piece, said):
    config = world.agent.config
    if piece == 'unknown':
        config['gates'] = {}
    elif piece == 'chain':
        config['certificate']['chain'] = '/nowhere'
    elif piece == 'key':
        open_key = world.folder / 'open.key'
        open_key.write_bytes(world.csmf.key_file.read_bytes())
        open_key.chmod(0o644)
        config['certificate']['key'] = str(open_key)
    else:
        config['anchors'][0]['path'] = '/nowhere'
    world.agent.start()
    assert world.agent.process.wait(PATIENCE) == 1
    assert re.search(said, world.agent.said()), world.agent.said()
    world.agent.stop()
    world.agent.process = None
