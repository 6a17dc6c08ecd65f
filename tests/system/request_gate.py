"""A guard that judges requests, and its control, alone on one host: for tests that send very many. Each
of the interfaces has a listener, the management exposure interface's profile, and a server of the test's.

    with RequestGate(folder, {'api-a': 8501, 'api-b': 8502}) as gate:
        gate.port('api-a'); gate.token('api-a'); gate.records()
"""

import http.client
import pathlib
import ssl
import types

from netns import Namespaces, wait_until
from processes import Control, Guard, Lab, Pki
from session_peer import PeerPki, TokenIssuer
from tunnel import peer_body, policy_body

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROFILE = ROOT / 'config/interfaces/management-exposure.yaml'
ISSUER = 'https://as.example'
HOST = '127.0.0.1'
FIRST_PORT = 4450
OPERATIONS = ['nsi:create', 'nsi:activate', 'nsi:deactivate', 'nsi:modify', 'nsi:modify-topology',
              'nsi:delete', 'nsi:monitor']


def policy(interfaces):
    peers = [peer_body(token={'issuer': ISSUER, 'client_id': 'csmf-1'}, tenant='operator-a'),
             peer_body('csmf-2', client='10.1.0.3', endpoint='192.0.2.3', tenant='operator-b',
                       token={'issuer': ISSUER, 'client_id': 'csmf-2'})]
    body = policy_body(peers, [
        {'name': name, 'type': 'management-exposure', 'side': 'local', 'zone': 'external',
         'prefixes': [f'{HOST}/32'], 'protection': 'tls',
         'ports': [{'protocol': 'tcp', 'first': port, 'last': port}]}
        for name, port in interfaces.items()])
    body['policies'] += [
        {'name': f'{name}-{operation.replace(":", "-")}', 'role': 'csmf', 'interface': name,
         'scope': operation, 'operations': [operation]}
        for name in interfaces for operation in OPERATIONS]
    return body


class RequestGate(Lab):
    """`interfaces`: name and port of the server behind it; `guard`: more of the guard's settings, or
    functions that make them of this world."""

    def __init__(self, folder, interfaces, **guard):
        super().__init__(Namespaces('requests'))
        self.folder, self.interfaces = folder, interfaces
        try:
            self._build(guard)
        except BaseException:
            self.close()
            raise

    def _build(self, settings):
        self.host = self.world.add('gate')
        self.pki = Pki(self.folder / 'pki')
        self.peers = PeerPki(self.folder / 'peers')
        self.issuer = TokenIssuer(ISSUER)
        self.csmf = self.peers.issue('csmf-1.example', 'client')
        self.other = self.peers.issue('csmf-2.example', 'client')
        self.server_credential = self.peers.issue('nsmf.example', 'server', [HOST])
        self.control = Control(self.host, self.folder, self.folder / 'nobody.sock', self.pki,
                               lab=False)
        self.control.start(ready=False)  # without a dataplane: no SA hangs on requests
        self.rest = self.control.rest()
        self.closing.append(self.rest.close)
        self.rest.put('/v1/policy', self.policy())
        self.own = types.SimpleNamespace(server=self.peers.issue(Guard.NAME, 'server'),
                                         client=self.peers.issue(Guard.NAME, 'client'))
        to_server = self.own.client
        settings = {key: value(self) if callable(value) else value for key, value in settings.items()}
        self.guard = Guard(
            self.host, self.folder, self.control.guard_socket, self.peers, self.issuer,
            interfaces=[{'name': 'nsmf', 'audience': Guard.AUDIENCE},
                        *({'name': name, 'audience': self.audience(name)}
                          for name in self.interfaces)],
            requests=[{
                'interface': name, 'profile': str(PROFILE), 'address': HOST,
                'port': self.port(name), **self.door(name),
                'server': {'url': f'https://{HOST}:{port}',
                           'ca': str(self.peers.ca.certificate_file),
                           'certificate': str(to_server.certificate_file),
                           'key': str(to_server.key_file), **self.server_settings(name)}}
                for name, port in self.interfaces.items()], **settings)
        self.closing.append(self.guard.stop)
        self.guard.start()

    def policy(self):
        return policy(self.interfaces)

    def door(self, name):
        """The guard's settings for how an interface's clients come in."""
        own = self.own.server
        return {'certificates': [{'chain': str(own.certificate_file), 'key': str(own.key_file)}]}

    def server_settings(self, name):
        """What worlds add to the guard's settings for an interface's server."""
        return {}

    @staticmethod
    def audience(name):
        return f'https://gate.example/{name}'

    def port(self, name):
        return FIRST_PORT + list(self.interfaces).index(name)

    def context(self, credential=None):
        credential = credential or self.csmf
        context = ssl.create_default_context(cafile=self.peers.ca.certificate_file)
        context.load_cert_chain(credential.certificate_file, credential.key_file)
        return context

    def token(self, name, *operations, credential=None, client='csmf-1', **more):
        return self.issuer.token(self.audience(name), credential or self.csmf, client,
                                 scope=' '.join(operations or OPERATIONS), **more)

    def client(self, name, credential=None):
        connection = http.client.HTTPSConnection(Guard.NAME, self.port(name))
        with self.host.entered():
            plain = http.client.socket.create_connection((HOST, self.port(name)), 20)
        connection.sock = self.context(credential).wrap_socket(plain, server_hostname=Guard.NAME)
        return connection

    def wait_until_open(self, name):
        """The guard reads lists and keys in the background."""
        def open_now():
            connection = self.client(name)
            try:
                connection.request('GET', '/nothing', headers={
                    'Authorization': f'Bearer {self.token(name)}'})
                return connection.getresponse().status == 404
            except (OSError, http.client.HTTPException):
                return False
            finally:
                connection.close()
        if not wait_until(open_now, 30):
            raise RuntimeError(f'nobody gets in:\n{self.guard.log_tail()}')

    def records(self):
        """Of operations, as they are in the audit log now."""
        found, start = [], 1
        while page := self.rest.get(f'/v1/audit?from={start}&count=1000')['items']:
            found += [record for record in page if record['action'] == 'operation']
            start = page[-1]['number'] + 1
        return found
