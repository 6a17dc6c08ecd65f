"""The interfaces whose requests the guard judges one by one (docs/requests.md): what stands behind them,
and who comes to them from a host without ESP.

      peers                       gate                                servers (on nsmf)
    csmf-3, csmf-4 ─── TLS ──▶ guard :4443 ─── TLS, as the gate ──▶ 10.2.0.41 NSMF
    as-1           ──────────▶       :4444 ───────────────────────▶ 10.2.0.42 SCEF
         :9443     ◀──────────       :4480 on core0 ◀──────────────
    gateway-8      ──────────▶       :4445 ───────────────────────▶ 10.2.0.43 MSGin5G server
         :9443     ◀──────────       :4481 on core0 ◀──────────────
    oss            ──────────▶       :4446 ───────────────────────▶ 10.2.0.44 NFVO

Peers' certificates are from the peers' CA, as at the sessions; servers have a CA of the operator's.
"""

import json
import pathlib
import typing

from processes import ROOT, Guard, Process
from session_peer import PeerPki

SERVER_PORT = 8443
RECEIVER_PORT = 9443
TRUSTED = '10.2.0.1'  # the gate's address on the servers' side
APPROVED = 'ns:terminate'  # by a second party


class Service(typing.NamedTuple):
    name: str     # the interface's, in policy
    type: str
    profile: str  # of config/interfaces
    title: str    # what stands there
    server: str   # its host name, below operator.example
    address: str  # the server's
    port: int     # the guard's, for peers
    egress: int   # the guard's, for what the server sends; 0: nothing

    @property
    def host(self):
        return f'{self.server}.operator.example'

    @property
    def audience(self):
        return f'https://gate.operator.example/{self.name}'


NSMF = Service('nsmf-tls', 'management-exposure', 'management-exposure', 'NSMF', 'nsmf',
               '10.2.0.41', 4443, 0)
SCEF = Service('scef', 'scef', 'scef', 'SCEF', 'scef', '10.2.0.42', 4444, 4480)
MSGIN5G = Service('msgin5g-2', 'msgin5g', 'msgin5g-2', 'MSGin5G server', 'msgin5g',
                  '10.2.0.43', 4445, 4481)
NFVO = Service('os-ma-nfvo', 'os-ma-nfvo', 'os-ma-nfvo', 'NFVO', 'nfvo', '10.2.0.44', 4446, 0)
SERVICES = (NSMF, SCEF, MSGIN5G, NFVO)

# What tokens are asked for; each opens one policy. `one_time`: a token is good for one request.
POLICIES = {
    'slices:manage': (NSMF, 'csmf', ['nsi:create', 'nsi:activate', 'nsi:deactivate', 'nsi:modify',
                                     'nsi:monitor'], {}),
    'slices:read': (NSMF, 'csmf', ['nsi:monitor'], {}),
    'slices:delete': (NSMF, 'csmf', ['nsi:delete'], {'one_time': True}),
    'scef:context': (SCEF, 'scs-as', ['context:read', 'context:create', 'context:modify',
                                      'context:delete', 'context:notify'], {}),
    'scef:communication': (SCEF, 'scs-as', ['communication:read'], {}),
    'msgin5g:l3g': (MSGIN5G, 'l3g-gateway', ['register', 'deregister', 'message:send', 'report:send',
                                             'message:deliver', 'report:deliver'], {}),
    'ns:manage': (NFVO, 'oss-bss', ['ns:read', 'ns:create', 'ns:instantiate', 'ns:scale', APPROVED],
                  {'approval': [APPROVED]}),
    'packages:onboard': (NFVO, 'oss-bss', ['pkg:onboard', 'nsd:onboard'], {})}


class User(typing.NamedTuple):
    """A peer."""
    name: str
    outer: str
    inner: str
    role: str
    tenant: str
    more: dict = {}  # of what policy says about it

    @property
    def scopes(self):
        return tuple(scope for scope, (_, role, *_) in POLICIES.items() if role == self.role)

    @property
    def receiver(self):
        return f'https://{self.outer}:{RECEIVER_PORT}'


CSMF = User('csmf-3', '192.0.2.23', '10.1.0.23', 'csmf', 'operator-a')
OTHER = User('csmf-4', '192.0.2.24', '10.1.0.24', 'csmf', 'operator-b')
AS = User('as-1', '192.0.2.25', '10.1.0.25', 'scs-as', 'weather', {
    'caller_id': 'scs-as-1', 'callbacks': [f'https://192.0.2.25:{RECEIVER_PORT}/notify/']})
GATEWAY = User('gateway-8', '192.0.2.28', '10.1.0.28', 'l3g-gateway', 'operator-a', {
    'callbacks': [f'https://192.0.2.28:{RECEIVER_PORT}/']})
OSS = User('oss', '192.0.2.6', '10.1.0.6', 'oss-bss', 'operator-a')
USERS = (CSMF, OTHER, AS, GATEWAY, OSS)


def interfaces():
    return [{'name': one.name, 'type': one.type, 'side': 'local', 'zone': 'external',
             'prefixes': [f'{one.address}/32'], 'protection': 'tls',
             'ports': [{'protocol': 'tcp', 'first': SERVER_PORT, 'last': SERVER_PORT}]}
            for one in SERVICES]


def policies():
    return [{'name': scope.replace(':', '-'), 'role': role, 'interface': service.name, 'scope': scope,
             'operations': operations, **more}
            for scope, (service, role, operations, more) in POLICIES.items()]


class Server(Process):
    """One of the demo's, or what a peer is called at. It writes down each request as it came."""

    def __init__(self, host, name, title, script, address, port, credential, authority, folder):
        self.name, self.title = name, title
        self.seen = folder / f'{name}.seen'
        self.seen.touch()
        super().__init__(host, [
            '/usr/bin/python3', '-B', *script, '--address', address, '--port', port, '--tls',
            credential.certificate_file, credential.key_file, authority.certificate_file,
            '--seen', self.seen], folder / f'{name}.log')

    def listening(self):
        self.require(lambda: 'listening on' in self.log.read_text(encoding='utf-8'), 'listening')

    def requests(self):
        """As they came: each has method, target, headers."""
        return [json.loads(line) for line in self.seen.read_text(encoding='utf-8').splitlines()]


class Services:
    """Certificates when it is constructed; start() the servers, then guard_settings()."""

    def __init__(self, lab):
        self.lab = lab
        self.folder = lab.folder / 'services'
        self.peer_pki, self.server_pki = lab.enrolment.pki, PeerPki(self.folder, 'servers')
        # As whom a server sends.
        self.senders = {one: self.server_pki.issue(one.host, 'client') for one in SERVICES}

    def start(self):
        here = pathlib.Path(__file__)
        nsmf, others = here.with_name('nsmf.py'), here.with_name('apis.py')
        servers = [self._server(
            self.lab.nsmf, one.server, f'the {one.title}',
            [nsmf] if one is NSMF else [others, one.server], one.address, SERVER_PORT,
            self.server_pki.issue(one.host, 'server', [one.address]), self.server_pki.ca)
            for one in SERVICES]
        servers += [self._server(
            self.lab.peers, user.name, user.name, [others, 'receiver'], user.outer, RECEIVER_PORT,
            self.peer_pki.issue(f'{user.name}.operator.example', 'server', [user.outer]),
            self.peer_pki.ca)
            for user in USERS if 'callbacks' in user.more]
        for one in servers:
            one.listening()
        self.servers = {one.name: one for one in servers}

    def _server(self, *arguments):
        server = Server(*arguments, self.folder)
        self.lab.processes.append(server)
        server.launch()
        return server

    def guard_settings(self):
        """Sections of guard.yaml."""
        out = self.server_pki.issue(Guard.NAME, 'client')
        to_peers = self.peer_pki.issue(Guard.NAME, 'client')
        own = self.server_pki.issue(Guard.NAME, 'server')
        return {
            'requests': [{
                **self._listener(one), 'address': '0.0.0.0', 'port': one.port,
                # In the server's name: the gate stands in for it.
                'certificates': [_pair(self.peer_pki.issue(one.host, 'server'), 'chain')],
                'server': {'url': f'https://{one.address}:{SERVER_PORT}',
                           'ca': str(self.server_pki.ca.certificate_file), **_pair(out)}}
                for one in SERVICES],
            'egress': [{
                **self._listener(one), 'address': TRUSTED, 'port': one.egress,
                'certificates': [_pair(own, 'chain')],
                'servers': {'ca': str(self.server_pki.ca.certificate_file), 'names': [one.host]},
                'peers': {'ca': str(self.peer_pki.ca.certificate_file), **_pair(to_peers)}}
                for one in SERVICES if one.egress]}

    @staticmethod
    def _listener(service):
        return {'interface': service.name,
                'profile': str(ROOT / 'config/interfaces' / f'{service.profile}.yaml')}


def _pair(credential, name='certificate'):
    return {name: str(credential.certificate_file), 'key': str(credential.key_file)}
