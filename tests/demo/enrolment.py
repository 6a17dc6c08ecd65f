"""How the demo's peers come by certificates, keys, tokens and sessions.

The CA of the peers, the authorization server (glewlwyd, which none of us wrote) and the peer's side of
the session protocol (session_peer.py, written from the documentation alone) share no code with the gate.
"""

import itertools
import socket
import time

import services
from netns import wait_until
from oauth_server import OAuthServer
from processes import Guard
from psk_peer import ProofKey, PskKey, PskPeer
from scapy_esp import Sa
from session_peer import PeerPki, SessionError, SessionPeer

AS = '10.9.0.1'
ALGORITHM = 'aes-128-gcm-16'
SCOPES = ('nsmf:manage', 'nsmf:statistics', 'msgin5g:n3g')
AUDIENCES = {'nsmf': 'https://gate.operator.example/nsmf',
             'msgin5g-4': 'https://gate.operator.example/msgin5g-4',
             **{one.name: one.audience for one in services.SERVICES}}
URL = 'https://gate.operator.example:4434'
PSK_PORT = 4434
# By certificate, and which scopes they may ask for.
CLIENTS = {**{name: SCOPES[:2] for name in ('csmf-1', 'csmf-2', 'insider', 'flooder')},
           **{user.name: user.scopes for user in services.USERS}}
CLIENTS['oss'] += SCOPES[:2]  # which policy gives it nothing for
GATEWAY = 'gateway-7'
SECRET = 'gateway-7 is known to the authorization server by this'
GATE_ADDRESS = '192.0.2.1'


class Enrolment:
    """Certificates and clients of the authorization server, made when it is constructed."""

    def __init__(self, lab):
        self.lab = lab
        self.spis = itertools.count(0x2001)
        folder = lab.folder / 'enrolment'
        self.pki = PeerPki(folder / 'ca')
        self.credentials = {name: self.certificate(name) for name in CLIENTS}
        lab.say(f'enrolled by certificate, from a CA of the peers\' own: {", ".join(CLIENTS)}')
        self.proof = ProofKey()
        self.psk = PskKey('7f3a9c', GATEWAY, folder / 'gateway-7.psk')
        lab.say(f'enrolled by pre-shared key: {GATEWAY}, a message gateway; on the wire it is called '
                f'{self.psk.identity}')
        self._start_server(folder / 'as')

    def certificate(self, name, **change):
        return self.pki.issue(f'{name}.operator.example', **{'role': 'client', **change})

    def _start_server(self, folder):
        lab = self.lab
        self.oauth = OAuthServer(lab.as_host, folder, self.pki, AS, {
            SCOPES[0]: AUDIENCES['nsmf'], SCOPES[1]: AUDIENCES['nsmf'],
            SCOPES[2]: AUDIENCES['msgin5g-4'],
            **{scope: service.audience for scope, (service, *_) in services.POLICIES.items()}},
            lifetime=3600)
        lab.processes.append(self.oauth)
        self.oauth.start()
        for name, scopes in CLIENTS.items():
            self.oauth.add_certificate_client(name, f'{name}.operator.example', list(scopes))
        self.oauth.add_secret_client(GATEWAY, SECRET, [SCOPES[2]])
        # Until the demo comes to it, it has expired.
        self.expired = self.oauth.token(lab.csmf, 'csmf-2', SCOPES[0], self.credentials['csmf-2'],
                                        brief=True)
        self.expired_at = time.monotonic() + 1
        lab.say(f'authorization server glewlwyd at {self.oauth.issuer}: access tokens after RFC 9068, '
                'bound to the certificate (RFC 8705) or the gateway\'s key (RFC 9449)')

    def token_client(self, name):
        bound = {'key_thumbprint': self.proof.thumbprint} if name == GATEWAY else {}
        return {'issuer': self.oauth.issuer, 'client_id': name, **bound}

    def start_guard(self):
        lab = self.lab
        folder = lab.folder / 'gate'
        self.guard = Guard(
            lab.gate, folder, lab.gate_side[1].guard_socket, self.pki, self.oauth,
            interfaces=[{'name': name, 'audience': AUDIENCES[name]} for name in AUDIENCES],
            listeners={'psk': [{'address': '0.0.0.0', 'port': PSK_PORT, 'url': URL}]},
            keys=[{'identity': self.psk.identity, 'peer': GATEWAY, 'file': str(self.psk.file)}],
            **lab.services.guard_settings())
        lab.processes.append(self.guard)
        self.guard.start()
        # It fetches the server's keys in the background.
        if not wait_until(self._knows_keys, 60):
            raise RuntimeError(f'the guard admits nobody:\n{self.guard.log_tail()}')
        lab.say('on gate: portcullis-guard, the only process that peers can talk to')

    def _knows_keys(self):
        who = 'csmf-2', '192.0.2.5'
        try:
            self.end(self.open(who), who)
        except SessionError as refusal:
            if refusal.status not in (401, 503):
                raise
            return False
        return True

    # -- a peer's side

    def token(self, name, scope=SCOPES[0], **more):
        return self.oauth.token(self.lab.csmf, name, scope, self.credentials[name], **more)

    def gateway_token(self, proof=None):
        return self.oauth.token_by_proof(self.lab.csmf, GATEWAY, SECRET, SCOPES[2],
                                         proof or self.proof)

    def socket(self, port=None):
        with self.lab.csmf.entered():
            return socket.create_connection((GATE_ADDRESS, port or self.guard.port), 10)

    def connect(self, credential):
        return SessionPeer(self.socket(), self.pki.ca, credential, Guard.NAME)

    def connect_gateway(self, key=None, proof=None):
        return PskPeer(self.socket(PSK_PORT), key or self.psk, proof or self.proof, URL, Guard.NAME)

    def ask(self, connection, who, token, interface='nsmf', **more):
        return connection.open({
            'interface': interface, 'spi': next(self.spis), 'algorithms': [ALGORITHM],
            'outer': {'peer': who[1], 'gate': GATE_ADDRESS}, **more}, token)

    def open(self, who, **more):
        """A confirmed session of (name, outer address, ...)."""
        name = who[0]
        if name == GATEWAY:
            connection, token, interface = self.connect_gateway(), self.gateway_token(), 'msgin5g-4'
        else:
            connection, token = self.connect(self.credentials[name]), self.token(name)
            interface = 'nsmf'
        with connection:
            session = self.ask(connection, who, token, interface, **more)
            connection.confirm(session)
        return session

    def end(self, session, who):
        with self.connect(self.credentials[who[0]]) as connection:
            connection.end(session.id, self.token(who[0]))

    @staticmethod
    def sas(session, who):
        """(to the gate, from the gate)."""
        return (Sa(session.spi_to_gate, who[1], GATE_ADDRESS, ALGORITHM, key=session.key_to_gate),
                Sa(session.spi_to_peer, GATE_ADDRESS, who[1], ALGORITHM, key=session.key_to_peer))
