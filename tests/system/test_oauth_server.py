"""Tokens of an authorization server that none of us wrote (oauth_server.py) open sessions, as they come:
RFC 9068, bound to the peer's certificate (RFC 8705) or to its key (RFC 9449). The guard fetches the
server's keys over HTTPS. And what neither the server nor the gate gives to anybody else."""

import socket

import pytest

from netns import wait_until
from oauth_server import OAuthError, OAuthServer
from processes import Guard
from psk_peer import ProofKey, PskKey, PskPeer
from session_peer import PeerPki, SessionError
from session_world import SessionWorld
from tunnel import GATE, peer_body, policy_body

AS = '10.9.0.1'
SECRET = 'correct horse battery staple'
OTHER_AUDIENCE = 'https://gate.example/scef'
URL = 'https://gate.example:4434'


class World(SessionWorld):
    """With a host for the authorization server."""

    def _configure(self, algorithm):
        host = self.world.add('as')
        host.address('lo', f'{AS}/32')
        for number, party in enumerate((self.gate, self.peer)):
            self.world.veth(party, 'mgmt0', host, f'eth{number}')
            party.address('mgmt0', f'10.9.{number + 1}.2/24')
            host.address(f'eth{number}', f'10.9.{number + 1}.1/24')
            party.route(f'{AS}/32', via=f'10.9.{number + 1}.1')
        self.oauth = OAuthServer(host, self.folder / 'as', self.peers, AS,
                                 {'nsi': Guard.AUDIENCE, 't8': OTHER_AUDIENCE})
        self.closing.append(self.oauth.stop)
        self.oauth.start()
        self.oauth.add_certificate_client('csmf-1', 'csmf-1.example', ['nsi', 't8'])
        self.oauth.add_certificate_client('csmf-2', 'csmf-2.example', ['nsi'])
        # Its certificate is csmf-1's, its right is not.
        self.oauth.add_certificate_client('somebody', 'csmf-1.example', ['nsi'])
        self.oauth.add_secret_client('gateway', SECRET, ['nsi'])
        self.proof = ProofKey()
        self.key = PskKey('7f3a9c', 'gateway', self.folder / 'gateway.psk')

        self.rest.put('/v1/policy', self._policy())
        self.guard = Guard(
            self.gate, self.folder, self.control.guard_socket, self.peers, self.oauth,
            listeners={'psk': [{'address': '0.0.0.0', 'port': 4434, 'url': URL}]},
            keys=[{'identity': self.key.identity, 'peer': 'gateway', 'file': str(self.key.file)}])
        self.closing.append(self.guard.stop)
        self.guard.start()
        self.csmf, self.other = (self.peers.issue(f'csmf-{n}.example', 'client') for n in (1, 2))
        assert wait_until(self.knows_keys, 60)

    def _policy(self):
        client = lambda name, **more: {'issuer': self.oauth.issuer, 'client_id': name, **more}
        body = policy_body([
            peer_body(token=client('csmf-1')),
            peer_body('csmf-2', client='10.1.0.3', endpoint='192.0.2.3', token=client('csmf-2')),
            peer_body('gateway', client='10.1.0.4', endpoint='192.0.2.4', authentication='psk',
                      token=client('gateway', key_thumbprint=self.proof.thumbprint))])
        body['policies'][0]['scope'] = 'nsi'
        return body

    def knows_keys(self):
        """The guard fetches the server's keys in the background."""
        try:
            self.open()
        except SessionError as refusal:
            assert refusal.status == 401
            return False
        self.close_sessions()
        return True

    def token(self, client='csmf-1', credential=None, scope='nsi'):
        return self.oauth.token(self.peer, client, scope, credential or self.csmf)

    def connect_gateway(self, proof):
        with self.peer.entered():
            sock = socket.create_connection((GATE, 4434), 20)
        return PskPeer(sock, self.key, proof, URL, Guard.NAME)

    def refusal(self, connection, token):
        with connection, pytest.raises(SessionError) as refusal:
            self.ask(connection, token)
        assert not self.sas()
        return refusal.value.status, self.reason(refusal.value.problem['reference'])

    def reason(self, reference):
        line, = (line for line in self.guard.log.read_text().splitlines()
                 if f'({reference})' in line)
        return line.partition(f'({reference}): ')[2].partition(':')[0]


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    with World(tmp_path_factory.mktemp('oauth')) as w:
        yield w


def test_a_real_token_opens_a_session_that_carries_packets(world):
    session = world.open()
    assert session.answer['expires_in'] <= world.oauth.lifetime
    assert world.passes()
    world.close_sessions()


def test_a_token_of_another_client_does_not(world):
    # Bound to the other's certificate.
    stolen = world.token('csmf-2', world.other)
    assert world.refusal(world.connect(world.csmf), stolen) == (401, 'token_binding_fail')
    # Bound to this certificate, but policy gives this peer another client.
    foreign = world.token('somebody')
    assert world.refusal(world.connect(world.csmf), foreign) == (401, 'token_client_fail')
    # Where it belongs, the stolen one is good.
    with world.connect(world.other) as connection:
        session = world.ask(connection, stolen)
        connection.end(session.id, stolen)


def test_a_token_for_another_audience_does_not(world):
    token = world.token(scope='t8')
    assert world.refusal(world.connect(world.csmf), token) == (401, 'token_aud_fail')


def test_a_token_bound_to_a_key_opens_the_gateways_session(world):
    ask = lambda proof: world.oauth.token_by_proof(world.peer, 'gateway', SECRET, 'nsi', proof)
    with world.connect_gateway(world.proof) as connection:
        session = world.ask(connection, ask(world.proof))
        connection.confirm(session)
    with world.connect_gateway(world.proof) as connection:
        connection.end(session.id, ask(world.proof))
    # Somebody who knows secret and pre-shared key, but has not the key that policy names.
    thief = ProofKey()
    assert world.refusal(world.connect_gateway(thief), ask(thief)) == (401, 'token_binding_fail')
    # Or who has stolen the token, and proves with a key of his own.
    assert world.refusal(world.connect_gateway(thief),
                         ask(world.proof)) == (401, 'token_binding_fail')


@pytest.mark.parametrize('what', ['no certificate', "another's certificate", 'a foreign CA',
                                  "an audience that is not the scope's",
                                  'a scope it has not'])
def test_what_the_server_itself_refuses(world, what):
    credential, scope, audience = world.csmf, 'nsi', None
    if what == 'no certificate':
        credential = None
    elif what == "another's certificate":
        credential = world.other
    elif what == 'a foreign CA':
        credential = PeerPki(world.folder / 'strangers').issue('csmf-1.example', 'client')
    elif what == "an audience that is not the scope's":
        audience = OTHER_AUDIENCE
    else:
        scope = 'g_admin'
        audience = Guard.AUDIENCE
    with pytest.raises(OAuthError):
        world.oauth.token(world.peer, 'csmf-1', scope, credential, audience)
    assert world.oauth.token(world.peer, 'csmf-1', 'nsi', world.csmf)


def test_the_token_is_in_no_log(world):
    token = world.token()
    world.open(token=token)
    world.close_sessions()
    for log in (world.guard.log, world.control.log):
        assert token.split('.')[2] not in log.read_text(errors='replace')
