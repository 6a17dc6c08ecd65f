"""The guard's judgement for gateways that there are already: nginx in front of a server, with the
configuration that is shipped (config/gateways/nginx.conf), and what Envoy would ask (envoy.yaml)."""

import contextlib
import http.client
import json
import pathlib
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.parse

import pytest

import corpus
from corpus import agreement, recorder, sending, strict
from corpus.message import BY_HEAD, MERGE_PATCH, get, request, slice_path
from corpus.sending import COUNT, SEED, SETTLED, enough, fill, none_of
from netns import wait_until
from nginx import Nginx
from processes import Guard, Process
from request_gate import HOST, OPERATIONS, PROFILE, ROOT, RequestGate, policy
from session_peer import PeerPki

API = 'api-front'
FRONT, TLS_PORT, BEHIND = (HOST, 4600), 4601, 8501
EDGE = 'edge-1.example'
USER = 'www-data'
COMMENTS = '/FaultSupervisionMnS/v1/alarms/7/comments'
COMMENT = {'commentText': 'x'}


class World(RequestGate):
    """The recorder behind nginx, and behind a listener of the guard's own on the same interface, through
    which the tenant's slices came to be there."""

    def __init__(self, folder):
        # Where nginx's workers may look: pytest's folders are its own.
        self.open = pathlib.Path(tempfile.mkdtemp(prefix='portcullis-', dir='/run'))
        self.open.chmod(0o755)
        self.socket = self.open / 'nsmf-api.sock'
        super().__init__(folder, {API: BEHIND}, decisions=World.decisions)
        self.closing.append(lambda: shutil.rmtree(self.open))
        own = self.server_credential
        self.record = folder / 'recorded'
        script = ROOT / 'tests/system/corpus/recorder.py'
        self.recorder = Process(self.host, [
            sys.executable, '-B', script, '--address', HOST, '--port', BEHIND, '--record', self.record,
            '--tls', own.certificate_file, own.key_file, self.peers.ca.certificate_file],
            folder / 'recorder.log')
        self.nginx = Nginx(self.host, self.open / 'nginx', self.shipped(), FRONT, user=USER)
        self.recorder.launch()
        self.recorder.require(lambda: 'listening' in self.recorder.log.read_text(), 'listening')
        self.nginx.start()
        self.wait_until_open(API)
        self.own_token = self.token(API, *[one for one in OPERATIONS if one != 'nsi:delete'])
        self.all_token = self.token(API)
        fill(self, API, self.own_token)

    @staticmethod
    def decisions(self):
        """As the head of each shipped file says."""
        of = {'interface': API, 'profile': str(PROFILE)}
        self.edge = self.peers.issue(EDGE, 'client')
        return [{**of, 'protocol': 'auth_request', 'socket': str(self.socket), 'users': [USER]},
                {**of, 'protocol': 'ext_authz', 'address': HOST, 'port': TLS_PORT,
                 'certificates': [{'chain': str(self.own.server.certificate_file),
                                   'key': str(self.own.server.key_file)}],
                 'gateways': {'ca': str(self.peers.ca.certificate_file), 'names': [EDGE]}}]

    def shipped(self):
        """The shipped file with this world's addresses, names and files."""
        text = (ROOT / 'config/gateways/nginx.conf').read_text(encoding='ascii')
        ca = self.peers.ca.certificate_file
        for old, new in {
                '192.0.2.1:4443': f'{FRONT[0]}:{FRONT[1]}', 'https://192.0.2.80:8443': f'https://{HOST}:{BEHIND}',
                'nsmf.operator.example': 'nsmf.example',
                '/run/portcullis/guard/nsmf-api.sock': self.socket,
                '/var/log/nginx/portcullis.log': self.open / 'access.log',
                '/etc/portcullis/nsmf.pem': self.own.server.certificate_file,
                '/etc/portcullis/nsmf.key': self.own.server.key_file,
                '/etc/portcullis/gate-client.pem': self.own.client.certificate_file,
                '/etc/portcullis/gate-client.key': self.own.client.key_file,
                '/etc/portcullis/peers-ca.pem': ca, '/etc/portcullis/servers-ca.pem': ca}.items():
            assert old in text, old
            text = text.replace(old, str(new))
        return text

    def send(self, name, records, context=None):
        """To the guard's own listener."""
        return sending.send(self.host, (HOST, self.port(name)), context or self.context(), Guard.NAME,
                            records)

    def through(self, *records, context=None):
        """To nginx."""
        return sending.send(self.host, FRONT, context or self.context(), Guard.NAME, records)

    def connect(self, credential=None, port=FRONT[1]):
        connection = http.client.HTTPSConnection(Guard.NAME, port)
        with self.host.entered():
            plain = socket.create_connection((HOST, port), 20)
        connection.sock = self.context(credential).wrap_socket(plain, server_hostname=Guard.NAME)
        return connection

    def ask(self, method, path, body=None, kind='application/json', token=None, connection=None, **headers):
        """Through nginx: status, headers, the answer's JSON (None: it has none)."""
        own = connection or self.connect()
        token = self.own_token if token is None else token
        headers = {name.replace('_', '-'): value for name, value in headers.items()}
        if token:
            headers['Authorization'] = f'Bearer {token}'
        if body is not None:
            headers['Content-Type'] = kind
        return answer_of(own, method, path, None if body is None else json.dumps(body), headers,
                         keep=connection is not None)

    def check(self, method, path, body=None, kind='application/json', token=None, client=None, edge=None,
              whole=True, forwarded=None):
        """What Envoy asks: of a request with this body, which it sends along whole, in part (False), or not
        at all (None), as it is told to."""
        token = self.own_token if token is None else token
        pem = (client or self.csmf).certificate_file.read_text()
        quoted = urllib.parse.quote(pem, safe='')
        headers = {'X-Forwarded-Client-Cert': forwarded or
                   f'Hash=0f;Cert="{quoted}";Chain="{quoted}";Subject="CN=\\"x\\";y=z";URI=;DNS=a;DNS=b',
                   'X-Forwarded-For': '192.0.2.9, 198.51.100.7'}
        if token:
            headers['Authorization'] = f'Bearer {token}'
        text = None
        if body is not None:
            headers['Content-Type'] = kind
        if body is not None and whole is not None:
            text = json.dumps(body)
            headers['X-Envoy-Auth-Partial-Body'] = 'false' if whole else 'true'
        return answer_of(self.connect(edge or self.edge, TLS_PORT), method, path, text, headers)

    def received(self):
        """Requests that reached the server, of any connection."""
        return [one for octets in recorder.loaded(self.record).values() for one in read(octets)]

    def why(self, problem):
        """The reason that operators are told."""
        path = f'/v1/decisions/{problem["reference"]}'
        assert wait_until(lambda: self.rest.call('GET', path)[0] == 200, SETTLED)
        return self.rest.get(path)['items'][0]['reason']

    def of(self, reference):
        """The records about a request that went on."""
        found = []

        def recorded():
            found[:] = [record for record in self.records() if record['subject'] == reference]
            return found
        assert wait_until(recorded, SETTLED)
        return found


    def decided(self, references):
        """{reference: what was decided for a gateway}, once these are among them, or never will be."""
        known = {}

        def recorded():
            known.update({reference: one for reference, one in agreement.authorised(self.records(), API).items()
                          if one.outcomes == ['decided']})
            return references <= known.keys()
        wait_until(recorded, SETTLED, interval=1)
        return known


def answer_of(connection, method, path, body, headers, keep=False):
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    text = answer.read()
    if not keep:
        connection.close()
    return answer.status, answer.headers, json.loads(text) if text.startswith(b'{') else None


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    with World(tmp_path_factory.mktemp('decisions')) as world:
        yield world


def read(octets):
    return strict.requests(octets, strict.FIELD_OF_NGINX)


def voucher(request):
    """(peer, tenant, role, reference)"""
    return agreement.CLIENT.fullmatch(request.only('portcullis-client')).groups()


def refused(world, status, reason, *arguments, ask=World.ask, **more):
    """Nothing of it reached the server."""
    before = len(world.received())
    found, fields, problem = ask(world, *arguments, **more)
    assert found == status, problem
    assert fields['Content-Type'] == 'application/problem+json' and problem['status'] == status
    assert world.why(problem) == reason
    assert len(world.received()) == before
    return fields, problem


def passes(world, *arguments, ask=World.ask, **more):
    """What the server received."""
    before = len(world.received())
    status, *_ = ask(world, *arguments, **more)
    assert status in (200, 201)
    one, = world.received()[before:]
    return one


@contextlib.contextmanager
def policies(world, **more):
    """Another policy for a while: for monitoring, it also says this."""
    body = policy(world.interfaces)
    one, = [one for one in body['policies'] if one['interface'] == API and one['scope'] == 'nsi:monitor']
    one |= more
    world.rest.put('/v1/policy', body)
    try:
        yield
    finally:
        world.rest.put('/v1/policy', policy(world.interfaces))


# ---- through nginx


def test_what_is_permitted_passes_and_is_recorded_once(world):
    for method, path, body in (('GET', slice_path(1) + '?fields=a%20b', None), ('POST', COMMENTS, COMMENT)):
        came = passes(world, method, path, body, Portcullis_Client='peer="csmf-2"', X_Own='yes')
        peer, tenant, role, reference = voucher(came)
        assert (peer, tenant, role) == ('csmf-1', 'operator-a', 'csmf')
        assert (came.target, came.only('x-own')) == (path, 'yes')
        assert came.body == (b'' if body is None else json.dumps(body).encode())
        assert 'authorization' not in came.fields
        record, = world.of(reference)
        assert (record['who'], record['outcome']) == ('csmf-1', 'decided')
        assert record['detail'].items() >= {'gateway': USER, 'method': method, 'source': HOST,
                                            'path': path.partition('?')[0]}.items()


def test_what_is_not_permitted_reaches_nobody(world):
    fields, _ = refused(world, 401, 'token_missing', 'GET', slice_path(1), token='')
    assert fields.get_all('WWW-Authenticate') == ['Bearer']
    refused(world, 401, 'token_sig_fail', 'GET', slice_path(1), token=world.own_token[:-8] + 'AAAAAAAA')
    refused(world, 403, 'tenant_violation', 'GET', named('foreign'))
    refused(world, 404, 'request_unlisted', 'GET', '/nothing')
    refused(world, 404, 'request_unlisted', 'POST', slice_path(1), {})
    for path in (slice_path(1).replace('/Sub', '//Sub'), slice_path(1).replace('own', '%6fwn'),
                 slice_path(1).replace('/Sub', '/./Sub'), f'http://gate.example{slice_path(1)}'):
        refused(world, 400, 'request_malformed', 'GET', path)
    refused(world, 400, 'request_malformed', 'GET', slice_path(1), {})  # a body
    refused(world, 400, 'request_malformed', 'PATCH', '/FaultSupervisionMnS/v1/alarms', [], 'text/plain')
    # The twins, each made right.
    passes(world, 'GET', slice_path(1))
    passes(world, 'PATCH', '/FaultSupervisionMnS/v1/alarms', [], MERGE_PATCH)


def named(name):
    return slice_path(0).replace('own-0', name)


def test_what_needs_a_body_or_the_answer_is_denied_here_and_passes_at_the_guards_own(world):
    attributes = {'attributes': {'userLabel': 'x'}}
    new = {'id': 'new', 'objectClass': 'NetworkSlice', **attributes}
    for method, path, body, kind in (
            ('PATCH', slice_path(1), attributes, MERGE_PATCH), ('PUT', named('new'), new, None),
            ('POST', '/NSProvMnS/v1/ServiceProfiles', {'sST': 1}, None),
            ('DELETE', slice_path(1), None, None)):
        kind = kind or 'application/json'
        refused(world, 403, 'not_decidable', method, path, body, kind, token=world.all_token)
        octets = request(method, path, world.all_token, 'twin', body, kind).render()
        assert world.send(API, [octets])[0] in (200, 201, 409)  # the recorder deletes nothing


def test_a_token_is_its_clients(world):
    other = world.connect(world.other)
    refused(world, 401, 'token_binding_fail', 'GET', slice_path(1), connection=other)
    own = world.token(API, credential=world.other, client='csmf-2')
    passes(world, 'GET', named('foreign'), connection=other, token=own)
    refused(world, 403, 'tenant_violation', 'GET', slice_path(1), connection=other, token=own)


def test_a_client_that_is_revoked_is_out_on_the_connection_it_has(world):
    connection = world.connect()
    passes(world, 'GET', slice_path(1), connection=connection)
    what = {'kind': 'peer', 'id': 'csmf-1'}
    world.rest.post('/v1/revocations', what)
    assert wait_until(lambda: world.ask('GET', slice_path(1), connection=connection)[0] == 403, 5)
    world.rest.post('/v1/revocations', {**what, 'revoked': False})
    assert wait_until(lambda: world.ask('GET', slice_path(1), connection=connection)[0] == 200, 5)


def test_a_certificate_on_its_list_is_refused_by_the_guard(world):
    """nginx is told of no list."""
    gone = world.peers.issue('csmf-1.example', 'client')
    own = world.token(API, credential=gone)
    connection = world.connect(gone)
    passes(world, 'GET', slice_path(1), connection=connection, token=own)
    world.peers.revoke(gone)
    world.guard.reload()  # reads the lists again
    assert wait_until(lambda: world.ask('GET', slice_path(1), connection=connection, token=own)[0] == 403, 10)
    refused(world, 403, 'cert_revoked', 'GET', slice_path(1), connection=connection, token=own)
    passes(world, 'GET', slice_path(1))


def test_what_some_servers_believe_instead_goes_no_further(world):
    came = passes(world, 'GET', slice_path(1), X_HTTP_Method_Override='DELETE', X_Original_URL='/x',
                  X_Rewrite_URL='/x', DPoP='x', Trailer='x', Proxy_Authorization='x')
    assert not came.fields.keys() & {'x-http-method-override', 'x-original-url', 'x-rewrite-url', 'dpop',
                                     'trailer', 'proxy-authorization'}


def test_a_quota_holds_here_as_well(world):
    with policies(world, quotas=[{'operation': 'nsi:monitor', 'count': 2, 'seconds': 3600}]):
        assert wait_until(lambda: world.ask('GET', slice_path(1))[0] == 429, 5, interval=0.05)
        refused(world, 429, 'quota_exceeded', 'GET', slice_path(1))
    assert wait_until(lambda: world.ask('GET', slice_path(1))[0] == 200, 5)


def test_a_token_for_one_request_is_good_for_one(world):
    with policies(world, one_time=True):
        # The guard hears of the policy in a moment; a token that it still let pass shows nothing.
        def once():
            token = world.token(API)
            return [world.ask('GET', slice_path(1), token=token)[0] for _ in range(2)] == [200, 401]
        assert wait_until(once, 5)
        token = world.token(API)
        passes(world, 'GET', slice_path(1), token=token)
        refused(world, 401, 'token_used', 'GET', slice_path(1), token=token)


def approved(world, problem):
    digest, = [one['digest'] for one in world.rest.get('/v1/held-requests')['items']
               if one['id'] == problem['held']]
    world.rest.post(f'/v1/held-requests/{problem["held"]}/approve', {'digest': digest})


def test_what_another_must_approve_is_held_and_passes_once(world):
    with policies(world, approval=['nsi:monitor']):
        assert wait_until(lambda: world.ask('GET', slice_path(1))[0] == 403, 5)
        _, problem = refused(world, 403, 'approval_needed', 'GET', slice_path(1))
        approved(world, problem)
        passes(world, 'GET', slice_path(1))
        refused(world, 403, 'approval_needed', 'GET', slice_path(1))
        # Whoever approves must be able to read it.
        refused(world, 403, 'not_decidable', 'POST', COMMENTS, COMMENT)
        _, problem = refused_check(world, 403, 'approval_needed', 'POST', COMMENTS, COMMENT)
        approved(world, problem)
        assert world.check('POST', COMMENTS, {'commentText': 'y'})[0] == 403
        assert world.check('POST', COMMENTS, COMMENT)[0] == 200
        assert world.check('POST', COMMENTS, COMMENT)[0] == 403
    assert wait_until(lambda: world.ask('GET', slice_path(1))[0] == 200, 5)


def test_without_the_guard_nothing_passes(world):
    before = len(world.received())
    world.guard.stop()
    try:
        assert world.ask('GET', slice_path(1))[0] == 500
        assert len(world.received()) == before
    finally:
        world.guard.start()
    assert wait_until(lambda: world.ask('GET', slice_path(1))[0] == 200, 30)


# ---- who may ask


def question(world, user):
    """What a process of this user is answered: a status, or nothing (curl's exit status)."""
    done = subprocess.run(
        ['curl', '-s', '-o', '/dev/null', '-w', '%{http_code}', '--unix-socket', world.socket,
         'http://portcullis/decision'], user=user, group=pwd.getpwnam(user).pw_gid, extra_groups=[],
        capture_output=True, text=True, timeout=20, check=False)
    return done.stdout


def test_only_named_users_may_ask(world):
    world.socket.chmod(0o666)  # what is left is the kernel's word for who asks
    assert question(world, 'nobody') == '000'
    assert question(world, 'root') == '000'  # has no name here, by which records could tell of it
    assert question(world, USER) == '403'    # heard, but that is no question


def test_only_named_gateways_may_ask(world):
    for wrong in (world.peers.issue('edge-2.example', 'client'), world.csmf):
        with pytest.raises((OSError, http.client.HTTPException)):
            world.check('GET', slice_path(1), edge=wrong)
    assert world.check('GET', slice_path(1))[0] == 200


# ---- what Envoy asks


def refused_check(world, status, reason, *arguments, **more):
    found, fields, problem = world.check(*arguments, **more)
    assert found == status and world.why(problem) == reason, problem
    return fields, problem


def test_envoy_is_told_who_asks(world):
    status, fields, _ = world.check('GET', slice_path(1))
    assert status == 200
    peer, tenant, _, reference = agreement.CLIENT.fullmatch(fields['Portcullis-Client']).groups()
    assert (peer, tenant) == ('csmf-1', 'operator-a')
    record, = world.of(reference)
    assert record['outcome'] == 'decided'
    assert record['detail'].items() >= {'gateway': EDGE, 'source': '198.51.100.7'}.items()
    assert world.check('HEAD', slice_path(1))[0] == 404  # and no body behind it


def test_a_body_that_envoy_sends_along_decides(world):
    modify = {'attributes': {'userLabel': 'x'}}
    assert world.check('PATCH', slice_path(1), modify, MERGE_PATCH)[0] == 200
    refused_check(world, 400, 'request_malformed', 'PATCH', slice_path(1), ['x'], MERGE_PATCH)
    monitor = world.token(API, 'nsi:monitor')
    refused_check(world, 403, 'operation_denied', 'PATCH', slice_path(1), modify, MERGE_PATCH, token=monitor)
    for whole in (False, None):
        refused_check(world, 403, 'not_decidable', 'PATCH', slice_path(1), modify, MERGE_PATCH, whole=whole)
    replaced = {'id': 'own-1', 'objectClass': 'NetworkSlice', **modify}
    assert world.check('PUT', slice_path(1), replaced)[0] == 200
    new = {**replaced, 'id': 'another'}
    refused_check(world, 403, 'not_decidable', 'PUT', named('another'), new)


def test_envoy_is_refused_as_a_client_would_be(world):
    fields, _ = refused_check(world, 401, 'token_missing', 'GET', slice_path(1), token='')
    assert fields['WWW-Authenticate'] == 'Bearer'
    refused_check(world, 401, 'token_binding_fail', 'GET', slice_path(1), client=world.other)
    refused_check(world, 404, 'request_unlisted', 'GET', '/nothing')
    refused_check(world, 403, 'tenant_violation', 'GET', named('foreign'))
    refused_check(world, 400, 'request_malformed', 'GET', slice_path(1).replace('/Sub', '/%2e/Sub'))
    stranger = PeerPki(world.folder / 'strangers').issue('csmf-1.example', 'client')
    refused_check(world, 403, 'cert_chain_fail', 'GET', slice_path(1), client=stranger)
    refused_check(world, 403, 'cert_missing', 'GET', slice_path(1), forwarded='Hash=00')
    pem = urllib.parse.quote(world.csmf.certificate_file.read_text(), safe='')
    for forwarded in (f'Hash=00,Cert="{pem}"', f'Cert="{pem}', f'Cert="{pem}";Cert="{pem}"', 'Cert=x'):
        refused_check(world, 400, 'request_malformed', 'GET', slice_path(1), forwarded=forwarded)
    assert world.check('GET', slice_path(1), forwarded=f'Cert="{pem}"')[0] == 200


# ---- two readings of one request


def test_the_server_receives_what_was_decided(world):
    """All of the corpus: what is authorised and what nginx makes of it must be the same."""
    before = {number: len(octets) for number, octets in recorder.loaded(world.record).items()}
    variants = corpus.variants(SEED, COUNT, world.own_token, BY_HEAD)
    sent, statuses = sending.all_sent(variants, lambda records: world.through(*records))
    connections = {number: octets[before.get(number, 0):]
                   for number, octets in recorder.loaded(world.record).items()}
    came = {voucher(one)[3] for octets in connections.values() for one in read(octets)}
    known = world.decided(came)
    none_of(agreement.with_records(connections, known, sent, strict.FIELD_OF_NGINX))
    assert len(came) >= statuses[200] + statuses[201]
    enough(statuses)


def test_a_decision_that_nginx_would_not_keep_is_found(world):
    before = len(world.received())
    assert world.through(get(1, world.own_token, 'planted').render()) == [200]
    one, = world.received()[before:]
    known = world.decided({voucher(one)[3]})
    octets = (f'GET {one.target} HTTP/1.1\r\nHost: x\r\nPortcullis-Client: '
              f'{one.only("portcullis-client")}\r\n\r\n').encode('latin-1')
    assert not agreement.with_records({1: octets}, known)
    assert agreement.with_records({1: octets.replace(b'own-1', b'own-2')}, known)
    assert agreement.with_records({1: octets + octets}, known)
