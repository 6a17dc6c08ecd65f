"""Opaque tokens: the guard asks their issuer (RFC 7662), a real HTTPS server here, and its answer is
judged as a JWT's claims are. An issuer that is slow or away stalls nobody and opens nothing."""

import base64
import hashlib
import http.server
import json
import ssl
import threading
import time
import urllib.parse

import pytest
import yaml
from cryptography.hazmat.primitives import hashes

from netns import wait_until
from processes import Guard
from session_peer import PeerPki, SessionError, base64url
from session_world import ISSUER, SessionWorld

SECRET = 'öffne/dich+'
PORT = 9443


class Introspection(http.server.ThreadingHTTPServer):
    """An authorization server's endpoint: `tokens` is what it says of each; of others that they are
    not active. It knows the gate by `authorization`, or else by a certificate of `pki`."""

    daemon_threads = True

    def __init__(self, namespace, pki, by_certificate):
        own = pki.issue('as.example', 'server', addresses=['127.0.0.1'])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(str(own.certificate_file), str(own.key_file))
        if by_certificate:
            context.load_verify_locations(str(pki.ca.certificate_file))
            context.verify_mode = ssl.CERT_REQUIRED
        pair = f'gate:{urllib.parse.quote(SECRET, safe="")}'
        self.authorization = None if by_certificate else \
            f'Basic {base64.b64encode(pair.encode()).decode()}'
        self.tokens = {}
        self.asked = []
        self.silent = threading.Event()
        self.over = threading.Event()
        with namespace.entered():
            super().__init__(('127.0.0.1', PORT), Endpoint)
        self.socket = context.wrap_socket(self.socket, server_side=True,
                                          do_handshake_on_connect=False)
        self.thread = threading.Thread(target=self.serve_forever, daemon=True)
        self.thread.start()

    def handle_error(self, request, client_address):
        """A guard that gave up waiting is no error of ours."""

    def stop(self):
        self.over.set()
        self.shutdown()
        self.server_close()


class Endpoint(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        form = urllib.parse.parse_qs(self.rfile.read(int(self.headers['Content-Length'])).decode())
        token = form['token'][0]
        self.server.asked.append(token)
        if self.server.silent.is_set():
            self.server.over.wait(60)
            return
        known = self.server.authorization in (None, self.headers['Authorization'])
        body = json.dumps(self.server.tokens.get(token, {'active': False})).encode()
        self.send_response(200 if known else 401)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Asking(SessionWorld):
    """Its guard asks about opaque tokens; JWTs of the same issuer go on as ever."""

    def _configure(self, algorithm):
        super()._configure(algorithm)
        self.as_pki = PeerPki(self.folder / 'as', 'as')
        self.server = Introspection(self.gate, self.as_pki, by_certificate=False)
        self.closing.append(lambda: self.server.stop())
        secret = self.folder / 'introspection.secret'
        secret.touch(mode=0o600)
        secret.write_text(SECRET + '\n', encoding='utf-8')
        self.introspection = {'url': f'https://127.0.0.1:{PORT}/introspect',
                              'ca': str(self.as_pki.ca.certificate_file),
                              'client_id': 'gate', 'client_secret': 'introspection.secret'}
        self.guard.config['issuers'][0]['introspection'] = self.introspection
        self.guard.stop()
        self.write()
        self.guard.start()

    def write(self):
        self.guard.config_file.write_text(yaml.safe_dump(self.guard.config), encoding='ascii')

    def opaque(self, credential=None, **change):
        """A token that the server knows from now on."""
        token = base64.urlsafe_b64encode(hashlib.sha256(str(time.monotonic_ns()).encode()).digest())
        token = 'opaque.' + token.decode().rstrip('=')
        certificate = (credential or self.csmf).certificate
        thumbprint = base64url(certificate.fingerprint(hashes.SHA256()))
        answer = {'active': True, 'iss': ISSUER, 'sub': 'csmf-1', 'client_id': 'csmf-1',
                  'aud': Guard.AUDIENCE, 'exp': int(time.time()) + 600, 'scope': 'nsi',
                  'cnf': {'x5t#S256': thumbprint}, **change}
        self.server.tokens[token] = {k: v for k, v in answer.items() if v is not None}
        return token

    def opens(self, token, **more):
        with self.connect(self.csmf) as connection:
            session = self.ask(connection, token, initial_contact=True, **more)
            connection.confirm(session)
        return session

    def log(self):
        return self.guard.log.read_text(errors='replace')


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    with Asking(tmp_path_factory.mktemp('introspection')) as w:
        assert wait_until(lambda: 'connected to control' in w.log(), 20)
        yield w


@pytest.fixture(autouse=True)
def nothing_left(world):
    yield
    world.close_sessions()


def test_an_opaque_token_opens_a_session_and_ends_it(world):
    token = world.opaque()
    session = world.opens(token)
    assert wait_until(lambda: len(world.sas()) == 2, 20)
    with world.connect(world.csmf) as connection:
        connection.end(session.id, token)
    assert wait_until(lambda: not world.sas(), 20)
    assert world.server.asked.count(token) == 1  # the answer is remembered for a while
    asked = len(world.server.asked)
    world.opens(world.token())  # a JWT of the same issuer is nobody else's affair
    assert len(world.server.asked) == asked
    for secret in (token, SECRET, world.server.authorization.split()[1]):
        assert secret not in world.log()


DEFECTS = {
    'not active': {'active': False},
    'of another client': {'client_id': 'csmf-2'},
    'for another interface': {'aud': 'https://gate.example/scef'},
    'of another issuer': {'iss': 'https://as.other'},
    'expired': {'exp': 1},
    'bound to nothing': {'cnf': None},
    'bound to another certificate': {'cnf': {'x5t#S256': base64url(bytes(32))}},
    'bound to a proof': {'cnf': {'jkt': base64url(bytes(32))}},
}


@pytest.mark.parametrize('what', DEFECTS)
def test_an_answer_that_does_not_do(world, what):
    assert world.refused(world.csmf, world.opaque(**DEFECTS[what])) == 401
    assert not world.sas()
    world.opens(world.opaque())  # and its twin


def test_scope_and_a_jwt_that_is_none(world):
    assert world.refused(world.csmf, world.opaque(scope='nothing')) == 403
    asked = len(world.server.asked)
    forged = world.token()[:-8] + 'AAAAAAAA'  # a JWS is judged as one, and its issuer is not asked
    assert world.refused(world.csmf, forged) == 401
    assert len(world.server.asked) == asked
    world.opens(world.opaque())


def test_a_silent_issuer_stalls_nobody_and_opens_nothing(world):
    known, unknown = world.opaque(), world.opaque()
    world.opens(known)
    world.server.silent.set()
    outcome = []
    asking = threading.Thread(target=lambda: outcome.append(world.refused(world.csmf, unknown)))
    started = time.monotonic()
    asking.start()
    assert wait_until(lambda: unknown in world.server.asked, 20)
    world.opens(world.token())  # others go their way meanwhile
    assert not outcome, 'the issuer was not silent long enough to show anything'
    world.opens(known)  # within its time in the cache
    asking.join(30)
    assert outcome == [401]
    # And for a while it is not asked again.
    asked = len(world.server.asked)
    assert world.refused(world.csmf, world.opaque()) == 401
    assert len(world.server.asked) == asked
    assert time.monotonic() - started < 30
    world.server.silent.clear()

    def again():
        try:
            return world.opens(unknown)
        except SessionError:
            return None

    assert wait_until(again, 20)


def test_an_issuer_that_is_away_and_comes_back(world):
    world.server.stop()
    assert world.refused(world.csmf, world.opaque()) == 401
    world.opens(world.token())
    tokens = world.server.tokens
    world.server = Introspection(world.gate, world.as_pki, False)
    world.server.tokens = tokens

    def again():
        try:
            return world.opens(world.opaque())
        except SessionError:
            return None

    assert wait_until(again, 20)


WRONG = {
    'a secret that others can read': (None, 'others have rights'),
    'no proof of who asks': ({'client_id': None, 'client_secret': None}, 'who it is'),
    'two proofs of who asks': ({'certificate': 'a.pem', 'key': 'a.key'}, 'who it is'),
    'no CA': ({'ca': None}, 'missing'),
    'no TLS': ({'url': 'http://as.example/introspect'}, 'url'),
    'an interface that is none': ({'interfaces': ['scef']}, 'no such interface'),
    'a long memory': ({'cache_seconds': 3600}, 'cache_seconds'),
}


@pytest.mark.parametrize('what', WRONG)
def test_the_guard_does_not_start_with(world, tmp_path, what):
    change, says = WRONG[what]
    config = json.loads(json.dumps(world.guard.config))
    own = config['issuers'][0]['introspection']
    secret = tmp_path / 'secret'
    secret.write_text(SECRET, encoding='utf-8')
    secret.chmod(0o640 if change is None else 0o600)
    own['client_secret'] = str(secret)
    for name, value in (change or {}).items():
        own[name] = value
        if value is None:
            del own[name]
    config['listeners']['certificate'][0]['port'] = 0
    config['issuers'][0]['keys'] = str(world.folder / 'as.jwks')
    path = tmp_path / 'guard.yaml'
    path.write_text(yaml.safe_dump(config), encoding='ascii')
    done = world.gate.run([world.guard.argv[0], '--config', path], check=False, timeout=20)
    assert done.returncode == 1 and says in done.stderr, done.stderr
    assert SECRET not in done.stderr


def test_by_certificate_and_as_the_only_way(world):
    """The gate proves itself by mutual TLS, and has no key set of the issuer's."""
    issuer = world.guard.config['issuers'][0]
    before, tokens = dict(issuer), world.server.tokens
    world.server.stop()
    own, stranger = (pki.issue('gate.example', 'client')
                     for pki in (world.as_pki, PeerPki(world.folder / 'strange', 'strange')))
    world.server = Introspection(world.gate, world.as_pki, True)
    server = {name: world.introspection[name] for name in ('url', 'ca')}

    def restart(credential):
        issuer['introspection'] = {**server, 'interfaces': ['nsmf'], 'key': str(credential.key_file),
                                   'certificate': str(credential.certificate_file)}
        seen = world.guard.log.stat().st_size
        world.write()
        world.guard.stop()
        world.guard.start()
        assert wait_until(lambda: 'connected to control' in world.log()[seen:], 20)

    del issuer['keys']
    try:
        restart(stranger)
        assert world.refused(world.csmf, world.opaque()) == 401
        restart(own)
        world.opens(world.opaque())
        assert world.refused(world.csmf, world.token(), spi=0x7001) == 401  # a JWT, of nobody's
    finally:
        issuer.clear()
        issuer.update(before)
        world.server.stop()
        world.server = Introspection(world.gate, world.as_pki, False)
        world.server.tokens = tokens
        world.write()
        world.guard.stop()
        world.guard.start()
