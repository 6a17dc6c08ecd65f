"""Where the protected server wants tokens, it gets its own: the guard has an authorization server exchange
the client's (RFC 8693). nginx is the server here, and writes down what it is shown; the authorization server
is token_exchange.py's, over mutual TLS."""

import concurrent.futures
import json
import threading

import pytest
import yaml

from netns import wait_until
from nginx import Nginx, mutual_tls
from request_gate import HOST, RequestGate
from session_peer import PeerPki
from token_exchange import CLIENT, URL, TokenExchange

API, PORT = 'api', 8501
AUDIENCE = 'https://nsmf.example'
SLICE = '/ProvMnS/v1/SubNetwork=1/NetworkSlice={}'
SECRET = 'öffne/dich+'
HTTP = '''
log_format seen escape=json '{{"authorization":"$http_authorization","dpop":"$http_dpop"}}';
server {{
  listen {address}:{port} ssl;
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
        super().__init__(folder, {API: PORT})
        self.served = []  # statuses of what the server has answered
        self.log = folder / 'nginx.seen'
        server = Nginx(self.host, folder / 'nginx', HTTP.format(
            address=HOST, port=PORT, log=self.log,
            tls=mutual_tls(self.server_credential, self.peers.ca)), (HOST, PORT))
        self.closing.append(server.stop)
        server.start()
        self.start()
        self.closing.append(lambda: self.oauth.stop())
        self.wait_until_open(API)
        for other in (False, True):
            assert self.ask(other=other, method='PUT')[0] == 201

    def start(self, secret=None):
        self.oauth = TokenExchange(self.host, self.pki_of_oauth, self.issuer, AUDIENCE, secret)

    def server_settings(self, name):
        self.pki_of_oauth = PeerPki(self.folder / 'as', 'as')
        own = self.pki_of_oauth.issue('gate.example', 'client')
        self.exchange = {'url': URL, 'ca': str(self.pki_of_oauth.ca.certificate_file),
                         'client_id': CLIENT, 'certificate': str(own.certificate_file),
                         'key': str(own.key_file), 'audience': AUDIENCE}
        return {'exchange': self.exchange}

    def ask(self, token=None, other=False, method='GET'):
        """About the client's slice, on a connection of its own. The status and the problem (RFC 9457)."""
        connection = self.client(API, self.other if other else self.csmf)
        token = token or (self.theirs() if other else self.token(API))
        name = 'two' if other else 'one'
        slice_ = {'id': name, 'objectClass': 'NetworkSlice', 'attributes': {'userLabel': name}}
        body = json.dumps(slice_) if method == 'PUT' else None
        connection.request(method, SLICE.format(name), body, {
            'Authorization': f'Bearer {token}', 'Content-Type': 'application/json'})
        answer = connection.getresponse()
        body = json.loads(answer.read())
        connection.close()
        if answer.status < 300:
            self.served.append(answer.status)
        return answer.status, body

    def theirs(self):
        return self.token(API, credential=self.other, client='csmf-2')

    def seen(self):
        """The tokens that the server was shown."""
        found = [json.loads(line) for line in self.log.read_text().splitlines()]
        assert all(one['authorization'].startswith('Bearer ') and not one['dpop'] for one in found)
        return [one['authorization'].removeprefix('Bearer ') for one in found]

    def reason(self, problem):
        path = f'/v1/decisions/{problem["reference"]}'
        assert wait_until(lambda: self.rest.call('GET', path)[0] == 200, 10)
        return self.rest.get(path)['items'][0]['reason']

    def passes(self):
        """With a token that was never shown. For a while after a failure nobody is asked."""
        return wait_until(lambda: self.ask()[0] == 200, 20)

    def reload(self, **changes):
        """The guard with other settings of the exchange; None: without one."""
        config = json.loads(json.dumps(self.guard.config))
        exchange = {**self.exchange, **changes}
        config['requests'][0]['server']['exchange'] = {k: v for k, v in exchange.items()
                                                       if v is not None}
        self.guard.config_file.write_text(yaml.safe_dump(config), encoding='utf-8')
        read = self.guard.log.read_text().count('is in force')
        self.guard.reload()
        assert wait_until(lambda: self.guard.log.read_text().count('is in force') > read, 20)


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    with World(tmp_path_factory.mktemp('exchange')) as w:
        yield w


@pytest.fixture
def asked(world):
    """How often the authorization server was asked since the test began."""
    before = len(world.oauth.asked)
    return lambda: len(world.oauth.asked) - before


@pytest.fixture
def seen(world):
    """What the server was shown since the test began, once it is `count` requests. nginx writes them down
    after its answers, also those of the test before."""
    assert wait_until(lambda: len(world.seen()) >= len(world.served))
    before = len(world.seen())

    def shown(count):
        wait_until(lambda: len(world.seen()) >= before + count)
        found = world.seen()[before:]
        assert len(found) == count
        return found
    return shown


def test_the_server_is_shown_a_token_of_its_own(world, asked, seen):
    token, theirs = world.token(API), world.theirs()
    for _ in range(3):
        assert world.ask(token)[0] == 200
    assert world.ask(theirs, other=True)[0] == 200
    assert asked() == 2
    shown = seen(4)
    assert len(set(shown)) == 2 and shown[0] == shown[1] == shown[2]
    assert [world.oauth.tokens[one]['sub'] for one in shown] == ['csmf-1'] * 3 + ['csmf-2']
    log = world.guard.log.read_text()
    assert not any(secret in log for secret in (token, theirs, *shown))


def test_requests_at_a_time_make_one_exchange(world, asked, seen):
    token = world.token(API)
    world.oauth.open.clear()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(world.ask, token) for _ in range(8)]
        assert wait_until(lambda: asked() == 1)
        world.oauth.open.set()
        assert [answer.result()[0] for answer in answers] == [200] * 8
    assert asked() == 1 and len(set(seen(8))) == 1


def test_who_gets_no_token_for_the_server_goes_no_further(world, seen):
    for error in ('invalid_grant', 'invalid_target', 'invalid_request'):
        world.oauth.errors['csmf-2'] = error
        status, problem = world.ask(other=True)
        assert (status, world.reason(problem)) == (403, 'exchange_denied')
        assert world.ask()[0] == 200  # nobody else is touched
    del world.oauth.errors['csmf-2']
    assert world.ask(other=True)[0] == 200
    seen(4)


def test_what_is_refused_before_is_not_exchanged(world, asked, seen):
    assert world.ask(world.token(API, 'nsi:create'))[0] == 403
    assert world.ask(world.theirs())[0] == 401  # bound to another certificate
    assert asked() == 0
    assert world.ask()[0] == 200
    assert asked() == 1
    seen(1)


@pytest.mark.parametrize('change', [{'token_type': 'DPoP'}, {'issued_token_type': None},
                                    {'access_token': 'a b'}])
def test_a_token_that_the_guard_cannot_use_is_not_sent(world, seen, change):
    world.oauth.answer = change
    status, problem = world.ask()
    world.oauth.answer = {}
    assert (status, world.reason(problem)) == (503, 'gate_unavailable')
    assert world.ask()[0] == 200
    seen(1)


def test_a_token_is_not_kept_to_its_end(world, asked):
    world.oauth.answer = {'expires_in': 11}  # with a margin of 10 s: for a second
    token = world.token(API)
    assert wait_until(lambda: world.ask(token)[0] == 200 and asked() == 2, 20)
    world.oauth.answer = {}


def test_a_change_of_rights_forgets_what_was_exchanged(world, asked, seen):
    token = world.token(API)
    assert world.ask(token)[0] == world.ask(token)[0] == 200
    assert asked() == 1
    first, again = seen(2)
    assert first == again
    what = {'kind': 'peer', 'id': 'csmf-1'}
    world.rest.post('/v1/revocations', what)
    assert wait_until(lambda: world.ask(token)[0] == 403, 5)
    assert world.ask(token)[0] == 403
    world.rest.post('/v1/revocations', {**what, 'revoked': False})
    assert wait_until(lambda: world.ask(token)[0] == 200, 5)
    assert wait_until(lambda: world.seen()[-1] != first)  # not the one from before


def test_a_server_that_is_silent_stops_only_who_needs_it(world, seen):
    known = world.token(API)
    assert world.ask(known)[0] == 200
    world.oauth.open.clear()
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(world.ask()))
    waiting.start()
    assert world.ask(known)[0] == 200  # in spite of who waits
    waiting.join(30)
    assert answers[0][0] == 503
    asked = len(world.oauth.asked)
    assert world.ask()[0] == 503  # at once: it is not asked again for a while
    assert len(world.oauth.asked) == asked
    assert world.ask(known)[0] == 200
    assert len(set(seen(3))) == 1
    world.oauth.open.set()
    assert world.passes()


def test_a_server_that_is_away_opens_nothing(world, seen):
    known = world.token(API)
    assert world.ask(known)[0] == 200
    world.oauth.stop()
    status, problem = world.ask()
    assert (status, world.reason(problem)) == (503, 'gate_unavailable')
    assert world.ask(known)[0] == 200
    seen(2)
    world.start()
    assert world.passes()


def test_by_secret_and_after_a_reload(world, asked, seen):
    """What was exchanged goes with the settings that it was had by."""
    token = world.token(API)
    assert world.ask(token)[0] == 200
    file = world.folder / 'exchange.secret'
    file.touch(mode=0o600)
    file.write_text(SECRET, encoding='utf-8')
    world.oauth.stop()
    world.start(SECRET)
    try:
        assert world.ask(token)[0] == 200  # no new one is needed
        wrong = world.folder / 'wrong.secret'
        wrong.touch(mode=0o600)
        wrong.write_text('x', encoding='utf-8')
        world.reload(certificate=None, key=None, client_secret=str(wrong))
        assert world.ask(token)[0] == 503
        world.reload(certificate=None, key=None, client_secret=str(file))
        assert world.ask(token)[0] == 200
        assert len(set(seen(3))) == 2
        assert SECRET not in world.guard.log.read_text()
    finally:
        world.oauth.stop()
        world.start()
        world.reload()


def test_neither_a_stranger_asks_nor_is_one_asked(world):
    """Both sides of the connection to the authorization server prove who they are."""
    strangers = PeerPki(world.folder / 'strange', 'strange')
    own = strangers.issue('gate.example', 'client')
    world.reload(certificate=str(own.certificate_file), key=str(own.key_file))
    assert world.ask()[0] == 503
    world.reload(ca=str(strangers.ca.certificate_file))
    asked = len(world.oauth.asked)
    assert world.ask()[0] == 503
    assert len(world.oauth.asked) == asked
    world.reload()
    assert world.ask()[0] == 200


def test_for_another_audience_there_is_no_token(world, seen):
    world.reload(audience='https://elsewhere.example')
    assert world.ask()[0] == 403
    world.reload()
    assert world.ask()[0] == 200
    seen(1)
