"""Requests with proofs of possession (RFC 9449): of a gateway that has no certificate but a pre-shared key,
over HTTP/1.1 and HTTP/2, and of a client with a certificate whose token is bound to a key of proofs. nginx is
the server behind. Each refusal beside what passes on the same connection."""

import json
import re
import socket

import pytest
from OpenSSL import SSL
from cryptography.hazmat.primitives import hashes

from http2_client import Http2Client
from netns import wait_until
from nginx import Nginx, mutual_tls
from processes import Guard
from psk_peer import ProofKey, PskKey, PskPeer
from request_gate import HOST, ISSUER, OPERATIONS, RequestGate
from session_peer import SessionPeer, base64url
from tunnel import peer_body

BY_KEY, BY_BOTH = 'by-key', 'by-both'
SERVERS = {BY_KEY: 8501, BY_BOTH: 8502}
SLICE = '/ProvMnS/v1/SubNetwork=1/NetworkSlice={}'
ANSWER = re.compile('DPoP error="(.*)"')
HTTP = '''
log_format seen escape=json '{{"request":"$request","client":"$http_portcullis_client",'
  '"authorization":"$http_authorization","dpop":"$http_dpop"}}';
server {{
  listen {address}:{ports[0]} ssl;
  listen {address}:{ports[1]} ssl;
  {tls}
  access_log {log} seen;
  location / {{
    if ($request_method = PUT) {{ return 201 "{{}}"; }}
    return 200 "{{}}";
  }}
}}
'''


class World(RequestGate):
    def __init__(self, folder):
        self.proof = ProofKey()
        self.key = PskKey('7f3a9c', 'gateway', folder / 'gateway.psk')
        super().__init__(folder, SERVERS, keys=[
            {'identity': self.key.identity, 'peer': 'gateway', 'file': str(self.key.file)}])
        self.log = folder / 'nginx.seen'
        server = Nginx(self.host, folder / 'nginx', HTTP.format(
            address=HOST, ports=list(SERVERS.values()), log=self.log,
            tls=mutual_tls(self.server_credential, self.peers.ca)), (HOST, SERVERS[BY_KEY]))
        self.closing.append(server.stop)
        server.start()
        self.wait_until_open(BY_BOTH)

    def policy(self):
        body = super().policy()
        body['peers'].append(peer_body(
            'gateway', client='10.1.0.4', endpoint='192.0.2.4', authentication='psk',
            tenant='operator-a', token={'issuer': ISSUER, 'client_id': 'gateway',
                                        'key_thumbprint': self.proof.thumbprint}))
        return body

    def url(self, name):
        return f'https://{Guard.NAME}:{self.port(name)}'

    def door(self, name):
        if name == BY_KEY:
            return {'psk': True, 'url': self.url(name)}
        return {**super().door(name), 'dpop': True, 'url': self.url(name)}

    def dial(self, name):
        with self.host.entered():
            return socket.create_connection((HOST, self.port(name)), 20)

    def by_key(self, protocols=(), key=None):
        return PskPeer(self.dial(BY_KEY), key or self.key, self.proof, self.url(BY_KEY), Guard.NAME,
                       protocols)

    def by_both(self, credential=None):
        return SessionPeer(self.dial(BY_BOTH), self.peers.ca, credential or self.csmf, Guard.NAME)

    def proven_token(self, **more):
        """Bound to the key of proofs."""
        return self.issuer.token(self.audience(BY_KEY), self.proof, 'gateway',
                                 scope=' '.join(OPERATIONS), **more)

    def seen(self):
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def reason(self, problem):
        path = f'/v1/decisions/{problem["reference"]}'
        assert wait_until(lambda: self.rest.call('GET', path)[0] == 200, 10)
        return self.rest.get(path)['items'][0]['reason']


class Client:
    """Who asks on a connection with a token and proofs, as the gate gives nonces for them."""

    def __init__(self, connection, url, proof, token=None):
        self.connection, self.url, self.proof, self.token = connection, url, proof, token
        self.nonce = ''
        if token:
            self.ask_for_nonce()

    def ask_for_nonce(self):
        status, headers, _ = self.send('GET', SLICE.format('one'), {})
        assert (status, headers['WWW-Authenticate']) == (401, 'DPoP error="use_dpop_nonce"')

    def send(self, method, path, headers, body=b''):
        headers = {'Authorization': f'DPoP {self.token}', 'Content-Type': 'application/json', **headers}
        answer = self.connection.ask(method, path, [pair for pair in headers.items() if pair[1]], body)
        self.nonce = answer[1].get('DPoP-Nonce', '')
        return answer

    def prove(self, method, path, proof=None, **change):
        return (proof or self.proof).prove(method, self.url + path.partition('?')[0], self.token,
                                           **{'nonce': self.nonce, **change})

    def ask(self, method, path, body=b'', proof=None, **change):
        """With a good proof, but for what is changed."""
        return self.send(method, path, {'DPoP': self.prove(method, path, proof, **change)}, body)

    def create(self, name):
        slice_ = {'id': name, 'objectClass': 'NetworkSlice', 'attributes': {'userLabel': name}}
        return self.ask('PUT', SLICE.format(name), json.dumps(slice_).encode())[0]


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    with World(tmp_path_factory.mktemp('proven')) as w:
        with w.by_key() as connection:
            assert Client(connection, w.url(BY_KEY), w.proof, w.proven_token()).create('one') == 201
        with w.by_both() as connection:
            assert Client(connection, w.url(BY_BOTH), w.proof, w.token(
                BY_BOTH, credential=w.proof)).create('one') == 201
        yield w


@pytest.fixture
def gateway(world):
    with world.by_key() as connection:
        yield Client(connection, world.url(BY_KEY), world.proof, world.proven_token())


@pytest.fixture
def csmf(world):
    """One with a certificate; its token is to be set."""
    with world.by_both() as connection:
        yield Client(connection, world.url(BY_BOTH), world.proof)


def test_a_gateway_without_a_certificate_manages_slices(world, gateway):
    before = len(world.seen())
    path = SLICE.format('its-own')
    assert gateway.create('its-own') == 201
    assert gateway.ask('GET', path)[0] == 200
    assert gateway.ask('GET', path + '?attributes=userLabel')[0] == 200  # a proof has no query
    assert gateway.ask('DELETE', path)[0] == 200
    assert wait_until(lambda: len(world.seen()) == before + 4)
    for one in world.seen()[before:]:
        assert one['client'].startswith('peer="gateway", tenant="operator-a", role="csmf"')
        assert not one['authorization'] and not one['dpop']
    log = world.guard.log.read_text()
    assert gateway.token not in log and world.key.key.hex() not in log


def replayed(_, client):
    proof = client.prove('GET', SLICE.format('one'))
    assert client.send('GET', SLICE.format('one'), {'DPoP': proof})[0] == 200
    return client.send('GET', SLICE.format('one'), {'DPoP': proof})


def same_id(_, client):
    assert client.ask('GET', SLICE.format('one'), jti='one-and-the-same')[0] == 200
    return client.ask('GET', SLICE.format('one'), jti='one-and-the-same')


def of_another_connection(world, client):
    with world.by_key() as connection:
        other = Client(connection, client.url, client.proof, client.token)
        return client.ask('GET', SLICE.format('one'), nonce=other.nonce)


def asks(**change):
    return lambda _, client: client.ask('GET', SLICE.format('one'), **change)


def shows(**headers):
    return lambda _, client: client.send('GET', SLICE.format('one'), headers)


WRONG = {
    'a proof shown twice': (replayed, 'dpop_nonce_fail', 'use_dpop_nonce'),
    "a proof's id used twice": (same_id, 'token_replay', 'invalid_dpop_proof'),
    'a nonce of another connection': (of_another_connection, 'dpop_nonce_fail', 'use_dpop_nonce'),
    'a nonce that nobody gave': (asks(nonce='A' * 22), 'dpop_nonce_fail', 'use_dpop_nonce'),
    'a proof for another path': (asks(htu=f'https://{Guard.NAME}:4450{SLICE.format("two")}'),
                                 'dpop_fail', 'invalid_dpop_proof'),
    'a proof for another host': (asks(htu=f'https://elsewhere:4450{SLICE.format("one")}'),
                                 'dpop_fail', 'invalid_dpop_proof'),
    'a proof for another method': (asks(htm='DELETE'), 'dpop_fail', 'invalid_dpop_proof'),
    'a proof for another token': (asks(ath='A' * 43), 'dpop_fail', 'invalid_dpop_proof'),
    'an old proof': (asks(iat=1), 'dpop_fail', 'invalid_dpop_proof'),
    'a proof with another key': (lambda _, client: client.ask('GET', SLICE.format('one'),
                                                              proof=ProofKey()),
                                 'token_binding_fail', 'invalid_token'),
    'no proof': (shows(), 'dpop_fail', 'invalid_dpop_proof'),
}


@pytest.mark.parametrize('what', WRONG)
def test_a_proof_that_does_not_do(world, gateway, what):
    before = len(world.seen())
    wrong, reason, error = WRONG[what]
    status, headers, problem = wrong(world, gateway)
    assert (status, ANSWER.match(headers['WWW-Authenticate'])[1]) == (401, error)
    assert world.reason(problem) == reason
    assert gateway.ask('GET', SLICE.format('one'))[0] == 200  # with the nonce that came with it
    passed = 2 if what in ("a proof's id used twice", 'a proof shown twice') else 1
    assert wait_until(lambda: len(world.seen()) == before + passed)


def test_neither_another_scheme_nor_a_certificates_token(world, gateway):
    nonce = gateway.nonce
    status, headers, problem = gateway.send('GET', SLICE.format('one'), {
        'Authorization': f'Bearer {gateway.token}', 'DPoP': gateway.prove('GET', SLICE.format('one'))})
    assert (status, headers['WWW-Authenticate']) == (401, 'DPoP')
    assert world.reason(problem) == 'token_missing'
    own, gateway.token, gateway.nonce = gateway.token, world.token(BY_KEY), nonce
    status, _, problem = gateway.ask('GET', SLICE.format('one'))
    assert (status, world.reason(problem)) == (401, 'token_binding_fail')
    gateway.token = own
    assert gateway.ask('GET', SLICE.format('one'))[0] == 200


def test_another_key_opens_no_connection(world):
    wrong = PskKey(world.key.identity, 'gateway', world.folder / 'wrong.psk')
    with pytest.raises(SSL.Error):
        world.by_key(key=wrong)
    world.by_key().close()


def test_requests_at_a_time_over_http2(world):
    """Each answer gives a nonce, and as many can be used at a time."""
    token, path = world.proven_token(), SLICE.format('one')
    with world.by_key(protocols=[b'h2']) as connection:
        assert connection.tls.get_alpn_proto_negotiated() == b'h2'
        client = Http2Client(connection.tls)

        def begin(proof=None):
            proof = [('dpop', proof)] if proof else []
            return client.begin('GET', path, [('authorization', f'DPoP {token}'), *proof])

        # All of them ask for a nonce: the first is told, the others' proofs are none yet.
        answers = [client.answer(stream) for stream in [begin() for _ in range(20)]]
        assert [answer[':status'] for answer in answers] == ['401'] * 20
        proofs = [world.proof.prove('GET', world.url(BY_KEY) + path, token, answer['dpop-nonce'])
                  for answer in answers]
        answers = [client.answer(stream) for stream in [begin(proof) for proof in proofs]]
        assert [answer[':status'] for answer in answers] == ['200'] * 20
        again = client.answer(begin(proofs[0]))
        assert (again[':status'], again['www-authenticate']) == ('401', 'DPoP error="use_dpop_nonce"')
        proof = world.proof.prove('GET', world.url(BY_KEY) + path, token, again['dpop-nonce'])
        assert client.answer(begin(proof))[':status'] == '200'


def test_who_speaks_something_else_is_refused(world):
    with pytest.raises(SSL.Error):
        world.by_key(protocols=[b'imap'])
    with world.by_key(protocols=[b'imap', b'http/1.1']) as connection:
        assert connection.tls.get_alpn_proto_negotiated() == b'http/1.1'


def test_a_revoked_gateway_is_out_on_the_connection_it_has(world, gateway):
    assert gateway.ask('GET', SLICE.format('one'))[0] == 200
    what = {'kind': 'peer', 'id': 'gateway'}
    world.rest.post('/v1/revocations', what)
    assert wait_until(lambda: gateway.ask('GET', SLICE.format('one'))[0] == 403, 5)
    world.rest.post('/v1/revocations', {**what, 'revoked': False})
    assert wait_until(lambda: gateway.ask('GET', SLICE.format('one'))[0] == 200, 5)


def thumbprint(credential):
    return base64url(credential.certificate.fingerprint(hashes.SHA256()))


@pytest.mark.parametrize('scheme, bound_to, reason', [
    ('DPoP', ['proof'], None),
    ('DPoP', ['proof', 'certificate'], None),
    ('Bearer', ['certificate'], None),
    ('DPoP', ['proof', 'other'], 'token_binding_fail'),
    ('DPoP', ['certificate'], 'token_binding_fail'),
    ('Bearer', ['proof'], 'token_binding_fail'),
    ('Bearer', ['proof', 'certificate'], 'token_binding_fail'),
    ('Bearer', ['other'], 'token_binding_fail')])
def test_with_a_certificate_every_key_that_the_token_names_is_shown(world, csmf, scheme, bound_to,
                                                                    reason):
    path = SLICE.format('one')
    names = {'proof': {'jkt': world.proof.thumbprint},
             'certificate': {'x5t#S256': thumbprint(world.csmf)},
             'other': {'x5t#S256': thumbprint(world.other)}}
    cnf = {key: value for name in bound_to for key, value in names[name].items()}
    csmf.token = world.token(BY_BOTH, cnf=cnf)
    csmf.ask_for_nonce()
    shown = {'Authorization': f'{scheme} {csmf.token}', 'DPoP': csmf.prove('GET', path)}
    status, _, problem = csmf.send('GET', path, shown)
    if reason is None:
        assert status == 200
    else:
        assert (status, world.reason(problem)) == (401, reason)
