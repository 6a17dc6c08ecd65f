"""A gate whose guard judges each request of an interface, and what stands on both sides of it: the
demo's NSMF behind it, over mutual TLS, and clients with certificates and tokens."""

import http.client
import json
import pathlib
import socket
import ssl
import sys

from processes import Guard, Process
from session_world import ISSUER, SessionWorld
from tunnel import GATE, SERVER, peer_body, policy_body

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROFILE = ROOT / 'config/interfaces/management-exposure.yaml'
AUDIENCE = 'https://gate.example/nsmf-api'
PORT, SERVER_PORT = 4443, 8443
OPERATIONS = ['nsi:create', 'nsi:activate', 'nsi:deactivate', 'nsi:modify', 'nsi:delete',
              'nsi:monitor']
SLICE = '/ProvMnS/v1/SubNetwork=1/NetworkSlice={}'
MERGE_PATCH = 'application/merge-patch+json'


def policy():
    """One policy for each operation: a token whose scope is one of them is good for that one."""
    peers = [peer_body(token={'issuer': ISSUER, 'client_id': 'csmf-1'}, tenant='operator-a'),
             peer_body('csmf-2', client='10.1.0.3', endpoint='192.0.2.3', tenant='operator-b',
                       token={'issuer': ISSUER, 'client_id': 'csmf-2'})]
    body = policy_body(peers, [
        {'name': 'nsmf-api', 'type': 'management-exposure', 'side': 'local', 'zone': 'external',
         'prefixes': [f'{SERVER}/32'], 'protection': 'tls',
         'ports': [{'protocol': 'tcp', 'first': SERVER_PORT, 'last': SERVER_PORT}]}])
    body['policies'] += [
        {'name': operation.replace(':', '-'), 'role': 'csmf', 'interface': 'nsmf-api',
         'scope': operation, 'operations': [operation]} for operation in OPERATIONS]
    return body


class Nsmf(Process):
    """The demo's, over TLS; `requests` are those that reached it, as they came."""

    def __init__(self, namespace, folder, credential, authority):
        self.seen = folder / 'nsmf.seen'
        self.seen.touch()
        super().__init__(namespace, [
            sys.executable, '-B', ROOT / 'tests/demo/nsmf.py', '--address', SERVER, '--port',
            SERVER_PORT, '--tls', credential.certificate_file, credential.key_file,
            authority.certificate_file, '--seen', self.seen], folder / 'nsmf.log')

    def start(self):
        self.launch()
        self.require(lambda: 'listening' in self.log.read_text(encoding='utf-8'), 'listening')

    def requests(self):
        return [json.loads(line) for line in self.seen.read_text(encoding='utf-8').splitlines()]


class RequestWorld(SessionWorld):
    profile = PROFILE
    listener = {'address': '0.0.0.0', 'port': PORT}
    address = GATE  # that clients connect to

    @staticmethod
    def policy():
        return policy()

    def guard_settings(self):
        """What worlds of more interfaces add to sections of the guard's configuration."""
        return {}

    def _configure(self, algorithm):
        self.rest.put('/v1/policy', self.policy())
        name = 'nsmf.example'
        self.nsmf = Nsmf(self.server, self.folder, self.peers.issue(name, 'server', [SERVER]),
                         self.peers.ca)
        self.closing.append(self.nsmf.stop)
        self.nsmf.start()
        own = self.peers.issue(Guard.NAME, 'server')
        to_server = self.peers.issue(Guard.NAME, 'client')
        more = self.guard_settings()
        self.guard = Guard(
            self.gate, self.folder, self.control.guard_socket, self.peers, self.issuer,
            interfaces=[{'name': 'nsmf', 'audience': Guard.AUDIENCE},
                        {'name': 'nsmf-api', 'audience': AUDIENCE}, *more.pop('interfaces', [])],
            requests=[{
                'interface': 'nsmf-api', 'profile': str(self.profile), **self.listener,
                'certificates': [{'chain': str(own.certificate_file), 'key': str(own.key_file)}],
                'server': {'url': f'https://{SERVER}:{SERVER_PORT}',
                           'ca': str(self.peers.ca.certificate_file),
                           'certificate': str(to_server.certificate_file),
                           'key': str(to_server.key_file)}}, *more.pop('requests', [])], **more)
        self.closing.append(self.guard.stop)
        self.guard.start()
        self.csmf = self.peers.issue('csmf-1.example', 'client')
        self.other = self.peers.issue('csmf-2.example', 'client')

    def tls(self, credential, protocols=(), port=PORT):
        """A TLS connection of this client to the guard's port for requests."""
        context = ssl.create_default_context(cafile=self.peers.ca.certificate_file)
        context.load_cert_chain(credential.certificate_file, credential.key_file)
        if protocols:
            context.set_alpn_protocols(protocols)
        with self.peer.entered():
            plain = socket.create_connection((self.address, port), 20)
        return context.wrap_socket(plain, server_hostname=Guard.NAME)

    def client(self, credential=None):
        connection = http.client.HTTPSConnection(Guard.NAME, PORT)
        connection.sock = self.tls(credential or self.csmf)
        return connection

    def api_token(self, *operations, credential=None, client='csmf-1', **more):
        return self.issuer.token(AUDIENCE, credential or self.csmf, client,
                                 scope=' '.join(operations or OPERATIONS), **more)

    def ask(self, method, path, body=None, kind='application/json', token=None, connection=None,
            **headers):
        """Status, headers and the answer's JSON (None: it has none)."""
        own = connection or self.client()
        token = self.api_token() if token is None else token
        if token:
            headers['Authorization'] = f'Bearer {token}'
        data = None if body is None else json.dumps(body)
        if data is not None:
            headers['Content-Type'] = kind
        own.request(method, path, data, headers)
        answer = own.getresponse()
        text = answer.read()
        if connection is None:
            own.close()
        return answer.status, answer.headers, json.loads(text) if text else None

    def create(self, name, **more):
        status, *_ = self.ask('PUT', SLICE.format(name), {
            'id': name, 'objectClass': 'NetworkSlice', 'attributes': {'userLabel': name}}, **more)
        return status
