"""A whole gate and a peer's host beside it, for the tests of portcullis-peer: a dataplane on each, ESP
between them.

       peer                                   gate                      server
    app0 ═ app1    dataplane               dataplane
    10.1.0.2         wire0 ═══════════════ wire0   core0 ═════════ srv0 10.2.0.10, UDP 5000
                   192.0.2.2             192.0.2.1

The server sends back what it gets, so each number that comes back went through both gates twice.
Nothing on either side is a laboratory: all keys are from sessions."""

import contextlib
import hashlib
import json
import os
import pathlib
import re
import socket
import struct
import threading
import time

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
        self.peer.address('wire0', f'{PEER}/24')
        self._way_to_servers()
        self.gate.address('wire0', f'{GATE}/24')
        self.gate.address('core0', '10.2.0.1/24')
        self.server.address('srv0', f'{SERVER}/24')
        self.server.route('10.1.0.0/16', via='10.2.0.1')
        self.echo = Echo(self.server)
        self.closing.append(self.echo.close)

    def _way_to_servers(self):
        self.world.veth(self.peer, 'app0', self.peer, 'app1')
        self.peer.sysctl('net.ipv6.conf.app1.disable_ipv6', 1)
        self.peer.run(['ip', 'link', 'set', 'app0', 'arp', 'off'])
        self.peer.address('app0', f'{CLIENT}/32')
        self.peer.route('10.2.0.0/24', dev='app0', extra=['src', CLIENT])

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
        self.datapath = self._peer_datapath(folder)
        self.csmf = self.pki.issue(NAME, 'client')
        self.token_file = folder / 'token'
        self.token_file.touch(mode=0o600)
        self.agent = Agent(self.peer, folder, None)
        self.by_certificate()

    def _peer_datapath(self, folder):
        """The section of peer.yaml that names it."""
        self.peer_dataplane = Dataplane(self.peer, folder, instance_name('p'), [
            {'name': 'wire', 'role': 'untrusted', 'device': {'interface': 'wire0'}},
            {'name': 'app', 'role': 'local', 'device': {'interface': 'app1'},
             'prefixes': [f'{CLIENT}/32']}], lab=False)
        self.closing += [self.peer_dataplane.forget, self.peer_dataplane.stop]
        self.peer_dataplane.start()
        return {'dataplane': {'socket': str(self.peer_dataplane.socket)}}

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
            'liveness_seconds': 3,
            **self.datapath,
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

    @contextlib.contextmanager
    def short_tokens(self, seconds):
        """Each token lasts so long, and there always is a fresh one."""
        stop = threading.Event()

        def keep_fresh():
            while not stop.wait(0.5):
                self.write_token(exp=int(time.time()) + seconds)

        self.write_token(exp=int(time.time()) + seconds)
        keeper = threading.Thread(target=keep_fresh)
        keeper.start()
        try:
            yield
        finally:
            stop.set()
            keeper.join()

    def renews_under_traffic(self):
        """Until the session is of the fourth generation, every datagram is answered."""
        with self.client() as sock:
            sock.settimeout(5)
            count = 0
            while self.sessions()[0]['generation'] < 4:
                for _ in range(50):
                    assert self.answered(sock), f'number {count} was lost'
                    count += 1
                    time.sleep(0.002)
                assert count < 50_000

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
    jwk = {'crv': 'P-256', 'kty': 'EC', 'x': base64url(numbers.x.to_bytes(32, 'big')),
           'y': base64url(numbers.y.to_bytes(32, 'big'))}
    return base64url(hashlib.sha256(
        json.dumps(jwk, separators=(',', ':'), sort_keys=True).encode()).digest())
