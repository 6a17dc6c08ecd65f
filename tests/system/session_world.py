"""A gate whose SAs come from sessions, and a peer of another making: what the tests of sessions
share."""

import contextlib
import socket

import pytest

from netns import wait_until
from processes import Guard
from scapy_esp import Sa
from session_peer import PeerPki, SessionError, SessionPeer, TokenIssuer
from tunnel import GATE, PEER, Tunnel, peer_body, policy_body

ISSUER = 'https://as.example'
ALGORITHM = 'aes-128-gcm-16'


def policy():
    body = policy_body([peer_body(token={'issuer': ISSUER, 'client_id': 'csmf-1'}),
                        peer_body('csmf-2', client='10.1.0.3', endpoint='192.0.2.3',
                                  token={'issuer': ISSUER, 'client_id': 'csmf-2'})])
    body['policies'][0]['scope'] = 'nsi'
    return body


class SessionWorld(Tunnel):
    """A tunnel whose SAs come from sessions."""

    def __init__(self, folder, **settings):
        self.peers = PeerPki(folder / 'peers')
        self.issuer = TokenIssuer(ISSUER)
        super().__init__(folder, lab=False, **settings)

    def _configure(self, algorithm):
        self.rest.put('/v1/policy', policy())
        self.guard = Guard(self.gate, self.folder, self.control.guard_socket, self.peers,
                           self.issuer)
        self.closing.append(self.guard.stop)
        self.guard.start()
        self.csmf = self.peers.issue('csmf-1.example', 'client')

    def connect(self, credential):
        with self.peer.entered():
            sock = socket.create_connection((GATE, self.guard.port), 20)
        return SessionPeer(sock, self.peers.ca, credential, Guard.NAME)

    def token(self, credential=None, issuer=None, audience=Guard.AUDIENCE, **more):
        return (issuer or self.issuer).token(audience, credential or self.csmf,
                                             **{'scope': 'nsi', **more})

    def ask(self, connection, token, spi=0x5001, **more):
        return connection.open({'interface': 'nsmf', 'spi': spi, 'algorithms': [ALGORITHM], **more},
                               token)

    @contextlib.contextmanager
    def session(self, spi=0x5001, token=None, **more):
        """An admitted one whose SAs the peer has, not confirmed yet."""
        with self.connect(self.csmf) as connection:
            session = self.ask(connection, token or self.token(), spi, **more)
            self.inbound = Sa(session.spi_to_gate, PEER, GATE, ALGORITHM, key=session.key_to_gate)
            self.outbound = Sa(spi, GATE, PEER, ALGORITHM, key=session.key_to_peer)
            yield connection, session

    def open(self, **more):
        """A session in force; `token` instead of a new one."""
        with self.session(**more) as (connection, session):
            connection.confirm(session)
        return session

    def refused(self, credential, token, **more):
        """The status of the refusal; the peer learns no more than its class."""
        with self.connect(credential) as connection, pytest.raises(SessionError) as refusal:
            self.ask(connection, token, **more)
        assert set(refusal.value.problem) <= {'type', 'title', 'status', 'reference'}
        return refusal.value.status

    def sas(self):
        return {one['id'] for one in self.rest.get('/v1/sas')['items']}

    def sessions(self):
        return self.rest.get('/v1/sessions')['items']

    def close_sessions(self):
        """As a peer does it."""
        for one in self.sessions():
            with self.connect(self.csmf) as connection:
                connection.end(one['id'], self.token())
        assert wait_until(lambda: not self.sas(), 20)
