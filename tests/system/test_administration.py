"""Who may operate the gate, with real certificates and tokens that a real issuer's key signed; and
what needs two of them. Beside each refusal stands the same thing, made right."""

import contextlib
import hashlib
import json
import socket
import sqlite3
import threading
import types

import pytest
import yaml
from cryptography import x509

from netns import Namespaces, wait_until
from processes import BIN, Control, Pki
from rest_contract import Contract, document, interface, peer, policy
from session_peer import TokenIssuer

ISSUER, AUDIENCE = 'https://as.example', 'https://gate.example/administration'
NAMES = ('alice', 'alice-laptop', 'bob', 'carol', 'device-17')
PEOPLE = [{'name': 'people', 'changes': ['peers', 'readmission'], 'expires_seconds': 3600}]


def operators():
    def one(name, role, *more):
        return {'name': name, 'role': role, 'certificates': [name, *more],
                'subjects': [{'issuer': ISSUER, 'subject': f'{name}@corp'}]}
    return [one('alice', 'operator', 'alice-laptop'), one('bob', 'viewer'),
            one('carol', 'operator'), one('dave', 'operator')]


class Admin(Contract):
    """An operator by certificate, and with a token where `token` is set."""

    token = None

    def request(self, method, target, body=None, headers=None):
        headers = dict(headers or {})
        if self.token:
            headers.setdefault('Authorization', f'Bearer {self.token}')
        return super().request(method, target, body, headers)


class Gate:
    """Control without a dataplane: changes are stored, and that is a change."""

    def __init__(self, namespace, pki, folder):
        self.namespace, self.pki, self.folder = namespace, pki, folder
        self.issuer = TokenIssuer(ISSUER)
        self.control = Control(namespace, folder, folder / 'none.sock', pki)
        self.issuer.write_jwks(folder / 'as.jwks')
        self.clients = []
        self.configure(tokens={
            'audience': AUDIENCE, 'issuers': [{'issuer': ISSUER, 'keys': 'as.jwks'}],
            'scopes': [{'scope': 'gate:read', 'role': 'viewer'},
                       {'scope': 'gate:change', 'role': 'operator'}]})

    def configure(self, **rest):
        self.control.config['rest'].update(rest)
        self.control.config_file.write_text(yaml.safe_dump(self.control.config), encoding='ascii')

    def start(self, token=True):
        self.control.launch()
        probe = self.admin('carol', self.token('carol') if token else None)
        self.control.require(lambda: self._takes(probe), 'answering, with its issuer\'s keys')

    @staticmethod
    def _takes(probe):
        try:
            return probe.request('GET', '/healthz').status == 200
        except OSError:
            return False

    def stop(self):
        for client in self.clients:
            client.close()
        self.control.stop()

    def restart(self, sql=None, **rest):
        """`sql` changes the store while nobody has it."""
        self.stop()
        if sql:
            with sqlite3.connect(self.control.store) as store:
                assert store.execute(sql).rowcount == 1
            store.close()
        self.configure(**rest)
        self.start()

    def admin(self, certificate, token=None):
        client = Admin(self.control, certificate)
        client.token = token
        self.clients.append(client)
        return client

    def token(self, name, person=None, scope='gate:change', audience=AUDIENCE, **more):
        pem = self.pki.clients[name][0].read_bytes()
        shown = types.SimpleNamespace(certificate=x509.load_pem_x509_certificate(pem))
        return self.issuer.token(audience, shown, client='ctl', scope=scope,
                                 **{'sub': f'{person or name}@corp', **more})

    def records(self, **wanted):
        found = self.admin('alice').ok('GET', '/v1/audit?count=1000')['items']
        return [one for one in found if all(one[name] == value for name, value in wanted.items())]


@pytest.fixture(scope='module')
def world():
    with Namespaces('admin') as namespaces:
        yield namespaces


@pytest.fixture(scope='module')
def namespace(world):
    return world.add('gate')


@pytest.fixture(scope='module')
def pki(tmp_path_factory):
    pki = Pki(tmp_path_factory.mktemp('pki'), [(name, 'operator') for name in NAMES])
    pki.operators = operators()
    return pki


@pytest.fixture
def gate(namespace, pki, tmp_path):
    gate = Gate(namespace, pki, tmp_path / 'gate')
    gate.start()
    yield gate
    gate.stop()


@pytest.fixture(scope='module')
def still(world, pki, tmp_path_factory):
    """A gate for tests that leave it as it is."""
    gate = Gate(world.add('still'), pki, tmp_path_factory.mktemp('still') / 'gate')
    gate.start()
    yield gate
    gate.stop()


# ---- tokens


def challenge(admin, status, method='GET', target='/v1/status', body=None, headers=None):
    answer = admin.request(method, target, body, headers)
    assert answer.status == status, answer.content
    return answer.headers['WWW-Authenticate']


@pytest.mark.parametrize('change, reason', [
    ({'audience': 'https://gate.example/nsmf'}, 'token_aud_fail'),
    ({'cnf': {}}, 'token_binding_fail'),
    ({'cnf': {'x5t#S256': 'A' * 43}}, 'token_binding_fail'),
    ({'exp': 1_700_000_000}, 'token_expired'),
    ({'nbf': 4_000_000_000}, 'token_not_yet_valid'),
    ({'iss': 'https://other.example'}, 'token_issuer_unknown'),
    ({'jti': ''}, 'token_claims_fail'),
], ids=lambda value: value if isinstance(value, str) else '')
def test_a_token_that_is_not_for_this_is_no_credential(still, change, reason):
    admin = still.admin('alice', still.token('alice', **change))
    assert 'error="invalid_token"' in challenge(admin, 401)
    admin.problem('GET', '/v1/status', status=401, detail=reason)
    admin.token = still.token('alice')
    assert admin.ok('GET', '/v1/status')['role'] == 'operator'


def test_a_stolen_token_is_of_no_use(still):
    stolen = still.token('carol')
    still.admin('alice', stolen).problem('GET', '/v1/status', status=401,
                                         detail='token_binding_fail')
    assert still.admin('carol', stolen).ok('GET', '/v1/status')['operator'] == 'carol'


def test_a_token_of_somebody_else_is_refused_however_it_is_bound(still):
    admin = still.admin('alice', still.token('alice', person='bob'))
    admin.problem('GET', '/v1/status', status=403, detail="two persons'")
    admin.token = still.token('alice', person='mallory')
    admin.problem('GET', '/v1/status', status=403, found='mallory')
    admin.token = still.token('alice')
    admin.ok('GET', '/v1/status')


def test_another_key_of_the_same_name_signs_nothing(still):
    forger = TokenIssuer(ISSUER)
    own, still.issuer = still.issuer, forger
    forged = still.token('alice')
    still.issuer = own
    still.admin('alice', forged).problem('GET', '/v1/status', status=401, detail='token_sig_fail')


def test_the_scope_lessens_the_role_and_never_adds_to_it(still):
    admin = still.admin('alice', still.token('alice', scope='gate:read'))
    assert admin.ok('GET', '/v1/status')['role'] == 'viewer'
    said = challenge(admin, 403, 'DELETE', '/v1/peers/none')
    assert 'error="insufficient_scope"' in said and 'scope="gate:change"' in said
    admin.token = still.token('alice', scope='other')
    assert 'insufficient_scope' in challenge(admin, 403)
    admin.token = still.token('alice')
    admin.problem('DELETE', '/v1/peers/none', status=404)
    bob = still.admin('bob', still.token('bob'))
    assert bob.ok('GET', '/v1/status')['role'] == 'viewer'
    assert challenge(bob, 403, 'DELETE', '/v1/peers/none') is None  # no token would help


def test_headers_that_are_no_bearer_token(still):
    admin = still.admin('alice')
    for value in ('Basic YWxpY2U6eA==', 'Bearer'):
        said = challenge(admin, 400, headers={'Authorization': value})
        assert 'error="invalid_request"' in said
    admin.ok('GET', '/v1/status', headers={'Authorization': f'bearer {still.token("alice")}'})


def test_certificates_that_are_nobodys_need_a_token(still):
    device = still.admin('device-17')
    assert challenge(device, 401) == 'Bearer realm="portcullis"'
    device.token = still.token('device-17', person='dave')
    assert device.ok('GET', '/v1/status')['operator'] == 'dave'


def test_where_tokens_are_required_a_certificate_is_not_enough(gate):
    tokens = {**gate.control.config['rest']['tokens'], 'required': True}
    admin = gate.admin('alice')
    admin.ok('GET', '/v1/status')
    gate.restart(tokens=tokens)
    for method, target in (('GET', '/v1/status'), ('GET', '/healthz'), ('DELETE', '/v1/peers/x')):
        assert challenge(admin, 401, method, target) == 'Bearer realm="portcullis"'
    admin.token = gate.token('alice')
    admin.ok('GET', '/v1/status')


@pytest.mark.parametrize('what', [
    {'kind': 'token', 'issuer': ISSUER, 'id': 'jti-1'},
    {'kind': 'key', 'issuer': ISSUER, 'id': 'es256-1'},
    {'kind': 'issuer', 'id': ISSUER}], ids=lambda what: what['kind'])
def test_what_is_revoked_opens_nothing(gate, what):
    admin, bare = gate.admin('alice', gate.token('alice', jti='jti-1')), gate.admin('carol')
    admin.ok('GET', '/v1/status')
    bare.ok('POST', '/v1/revocations', what, status=202)  # no dataplane that could confirm it
    admin.problem('GET', '/v1/status', status=401, detail='token_revoked')
    gate.stop()
    gate.start(token=False)
    admin.problem('GET', '/v1/status', status=401, detail='token_revoked')
    bare.ok('POST', '/v1/revocations', {**what, 'revoked': False}, status=202)
    assert wait_until(lambda: admin.request('GET', '/v1/status').status == 200, 10)


def test_a_revoked_certificate_opens_nothing_not_even_on_an_open_connection(gate):
    stolen, other = gate.admin('alice-laptop'), gate.admin('alice')
    stolen.ok('GET', '/v1/status')
    shown = x509.load_pem_x509_certificate(gate.pki.clients['alice-laptop'][0].read_bytes())
    what = {'kind': 'certificate', 'id': f'{shown.serial_number:x}',
            'issuer': shown.issuer.rfc4514_string()}
    other.ok('POST', '/v1/revocations', what, status=202)
    stolen.problem('GET', '/v1/status', status=403, detail='revoked')
    stolen.token = gate.token('alice-laptop', person='alice')
    stolen.problem('GET', '/v1/status', status=403, detail='revoked')
    other.ok('POST', '/v1/revocations', {**what, 'revoked': False}, status=202)
    stolen.ok('GET', '/v1/status')


def test_an_event_stream_ends_with_the_token_that_opened_it(gate):
    context = gate.pki.context('device-17')
    with gate.namespace.entered():
        plain = socket.create_connection(('127.0.0.1', gate.control.port), timeout=20)
    token = gate.token('device-17', person='carol', jti='jti-9')
    with context.wrap_socket(plain, server_hostname='127.0.0.1') as stream:
        stream.sendall(f'GET /v1/events HTTP/1.1\r\nHost: gate\r\n'
                       f'Authorization: Bearer {token}\r\n\r\n'.encode())
        assert stream.recv(65536).startswith(b'HTTP/1.1 200 ')
        alice, what = gate.admin('alice'), {'kind': 'token', 'issuer': ISSUER, 'id': 'jti-9'}
        alice.ok('POST', '/v1/revocations', what, status=202)
        gone = threading.Event()
        reader = threading.Thread(target=lambda: read_to_the_end(stream, gone), daemon=True)
        reader.start()
        assert wait_until(lambda: poke(alice, gone), 10)


def read_to_the_end(stream, gone):
    with contextlib.suppress(OSError):
        while stream.recv(65536):
            pass
    gone.set()


def poke(admin, gone):
    """Another event: with each it is seen to that the listener may still listen."""
    for revoked in (True, False):
        admin.ok('POST', '/v1/revocations',
                 {'kind': 'token', 'issuer': ISSUER, 'id': 'other', 'revoked': revoked}, status=202)
    return gone.is_set()


def test_the_audit_log_names_person_and_token_and_never_holds_one(gate):
    admin = gate.admin('alice-laptop', gate.token('alice-laptop', person='alice', jti='jti-7'))
    admin.ok('POST', '/v1/interfaces', interface(), status=201)
    done = gate.records(action='POST', outcome='done')[0]
    assert done['who'] == 'alice' and done['detail']['common_name'] == 'alice-laptop'
    assert done['detail']['token'] == {'issuer': ISSUER, 'subject': 'alice@corp', 'id': 'jti-7'}
    refused = gate.admin('alice', gate.token('carol'))
    refused.problem('GET', '/v1/status', status=401)
    assert gate.records(outcome='refused')[0]['detail']['status'] == 401
    log = (gate.folder / 'audit.log').read_text(encoding='utf-8')
    for token in (admin.token, refused.token):
        assert token.rpartition('.')[2] not in log


# ---- two persons


@pytest.fixture
def covered(gate):
    """The gate with a peer, and a rule that covers peers."""
    alice = gate.admin('alice')
    alice.ok('PUT', '/v1/policy', document())
    alice.ok('PUT', '/v1/policy', document(approval=PEOPLE))  # the first rule needs one person
    return gate


def ask(gate, method, target, body=None, by='alice'):
    """What waits after that request."""
    answer = gate.admin(by).request(method, target, body)
    assert answer.status == 202, answer.content
    pending = answer.json['pending']
    assert answer.headers['Location'] == f'/v1/approvals/{pending["id"]}'
    return pending


def ask_for_csmf_2(gate, number=3, **more):
    return ask(gate, 'POST', '/v1/peers', peer('csmf-2', number), **more)


def approve(gate, pending, by='carol', token=None, **expected):
    admin = gate.admin(by, token)
    target, body = f'/v1/approvals/{pending["id"]}/approve', {'digest': pending['digest']}
    if 'digest' in expected:
        body['digest'] = expected.pop('digest')
    if expected:
        return admin.problem('POST', target, body, **expected)
    return admin.ok('POST', target, body)


def peers(gate):
    return [one['name'] for one in gate.admin('bob').ok('GET', '/v1/peers')['items']]


def test_a_covered_change_is_made_when_another_person_agrees_to_it(covered):
    before = covered.admin('alice').ok('GET', '/v1/status')['policy']['generation']
    pending = ask_for_csmf_2(covered)
    assert peers(covered) == ['csmf-1']
    body = json.dumps(peer('csmf-2', 3))
    # Anybody can compute what it is that two agree to.
    assert pending['digest'] == hashlib.sha256(
        f'portcullis change 1\nPOST\n/v1/peers\n{body}'.encode()).hexdigest()
    assert (pending['base_generation'], pending['requested_by']) == (before, 'alice')
    shown = covered.admin('bob').ok('GET', f'/v1/approvals/{pending["id"]}')
    assert shown['pending'] == pending and shown['body'] == body
    assert shown['would']['added'] == [{'kind': 'peer', 'name': 'csmf-2'}]

    made = approve(covered, pending)
    assert made['changes'] == shown['would'] and made['generation'] == before + 1
    assert peers(covered) == ['csmf-1', 'csmf-2']
    assert covered.admin('bob').ok('GET', '/v1/approvals')['items'] == []
    approve(covered, pending, status=404)  # not twice


def test_all_of_it_is_in_the_audit_log(covered):
    pending = ask_for_csmf_2(covered)
    approve(covered, pending, by='alice', status=403)
    approve(covered, pending)
    held, = covered.records(outcome='held')
    assert held['who'] == 'alice' and held['detail']['change_digest'] == pending['digest']
    refused, = covered.records(outcome='refused')
    assert (refused['who'], refused['detail']['change_digest']) == ('alice', pending['digest'])
    made, = covered.records(subject='/v1/peers', outcome='done')
    assert (made['who'], made['detail']['approved_by']) == ('alice', 'carol')
    assert made['detail']['approval'] == pending['id']
    approved, = covered.records(subject=f'/v1/approvals/{pending["id"]}/approve', outcome='done')
    assert (approved['who'], approved['detail']['requested_by']) == ('carol', 'alice')


@pytest.mark.parametrize('by, token', [('alice', None), ('alice-laptop', None),
                                       ('device-17', 'alice'), ('alice-laptop', 'alice')])
def test_the_same_person_is_no_second_one_whatever_he_shows(covered, by, token):
    pending = ask_for_csmf_2(covered)
    shown = covered.token(by, person=token) if token else None
    approve(covered, pending, by, shown, status=403, detail='another person', found='alice')
    assert peers(covered) == ['csmf-1']
    approve(covered, pending, 'device-17', covered.token('device-17', person='dave'))
    assert peers(covered) == ['csmf-1', 'csmf-2']


def test_who_may_not_change_may_not_approve(covered):
    pending = ask_for_csmf_2(covered)
    approve(covered, pending, 'bob', status=403, found='viewer')
    approve(covered, pending, 'carol', covered.token('carol', scope='gate:read'), status=403)
    approve(covered, pending, 'carol', covered.token('carol'))


def test_one_agrees_to_a_digest_and_not_to_a_number(covered):
    first, second = ask_for_csmf_2(covered), ask_for_csmf_2(covered, number=4)
    assert first['digest'] != second['digest']
    approve(covered, first, digest=second['digest'], status=409, field='/digest')
    approve(covered, first, digest=first['digest'][:10], status=409)
    approve(covered, first)


def test_a_change_is_made_on_the_policy_on_which_it_was_asked_for(covered):
    first, second = ask_for_csmf_2(covered), ask_for_csmf_2(covered, number=4)
    covered.admin('alice').ok('POST', '/v1/interfaces',
                              interface('oam', prefixes=['10.2.0.20/32']), status=201)
    approve(covered, first, status=409, detail='has changed since')
    assert all(one['stale'] for one in covered.admin('bob').ok('GET', '/v1/approvals')['items'])
    third = ask_for_csmf_2(covered)
    assert not third['stale']
    approve(covered, third)
    approve(covered, second, status=409)


def test_what_nobody_approves_in_time_is_gone(covered):
    first, second = ask_for_csmf_2(covered), ask_for_csmf_2(covered, number=4)
    covered.restart(f'UPDATE pending_change SET expires = requested - 1 WHERE id = {first["id"]}')
    admin = covered.admin('carol')
    assert wait_until(lambda: admin.ok('GET', '/v1/approvals')['items'] == [second], 10)
    approve(covered, first, status=404)
    record, = covered.records(action='expire')
    assert record['who'] == 'control' and record['digest'] == first['digest']
    approve(covered, second)  # it outlived the restart


def test_whoever_may_no_longer_change_anything_has_asked_in_vain(covered):
    pending = ask_for_csmf_2(covered)
    fewer = [{**one, 'role': 'viewer'} if one['name'] == 'alice' else one for one in operators()]
    covered.restart(operators=fewer)
    approve(covered, pending, status=403, detail='alice')
    covered.restart(operators=operators())
    approve(covered, pending)


def test_one_withdraws_and_another_rejects(covered):
    first, second = ask_for_csmf_2(covered), ask_for_csmf_2(covered, number=4)
    covered.admin('bob').problem('POST', f'/v1/approvals/{first["id"]}/reject', {}, status=403)
    covered.admin('alice').ok('POST', f'/v1/approvals/{first["id"]}/reject', {})
    covered.admin('carol').ok('POST', f'/v1/approvals/{second["id"]}/reject', {'reason': 'no'})
    for pending in (first, second):
        approve(covered, pending, status=404)
    record, = covered.records(subject=f'/v1/approvals/{second["id"]}/reject', outcome='done')
    assert (record['who'], record['detail']['reason']) == ('carol', 'no')


def test_it_is_what_a_change_does_that_is_covered_and_not_its_path(covered):
    alice = covered.admin('alice')
    two = [peer(), peer('csmf-2', 3)]
    for method, target, body in (('PUT', '/v1/policy', document(peers=two)),
                                 ('PUT', '/v1/peers/csmf-2', peer('csmf-2', 3)),
                                 ('PUT', '/v1/peers/csmf-1', peer(enabled=False)),
                                 ('DELETE', '/v1/peers/csmf-1', None)):
        would = alice.ok(method, f'{target}?dryRun=true', body)
        assert would['needs_approval'] == ['people']
        ask(covered, method, target, body)
    assert peers(covered) == ['csmf-1']
    # What is not covered needs nobody, nor does what changes nothing.
    assert 'needs_approval' not in alice.ok('PUT', '/v1/policy?dryRun=true', document())
    alice.ok('PUT', '/v1/policy', document())
    alice.ok('PUT', '/v1/policies/manage', policy(grant_seconds=600))


def test_what_is_wrong_is_refused_at_once(covered):
    alice = covered.admin('alice')
    alice.problem('POST', '/v1/peers', peer('csmf-2', 2), status=409, detail='same addresses')
    alice.problem('POST', '/v1/peers', peer('csmf-2', colour='red'), status=422)
    assert alice.ok('GET', '/v1/approvals')['items'] == []


def test_a_person_fills_only_his_share(covered):
    for number in range(16):
        ask_for_csmf_2(covered, number=number + 10)
    covered.admin('alice').problem('POST', '/v1/peers', peer('csmf-2', 3), status=507)
    ask_for_csmf_2(covered, by='carol')


# ---- the rule itself


def rules(gate):
    return gate.admin('bob').ok('GET', '/v1/policy').get('approval', [])


@pytest.mark.parametrize('weaker', [
    [],
    [{**PEOPLE[0], 'changes': ['peers']}],
    [{**PEOPLE[0], 'expires_seconds': 86400}],
    [{**PEOPLE[0], 'name': 'renamed'}],
], ids=['removed', 'narrowed', 'longer', 'renamed'])
def test_nobody_weakens_a_rule_alone(covered, weaker):
    pending = ask(covered, 'PUT', '/v1/policy', document(approval=weaker))
    assert rules(covered) == PEOPLE
    approve(covered, pending, by='alice-laptop', status=403)
    approve(covered, pending)
    assert rules(covered) == weaker
    if not weaker:
        covered.admin('alice').ok('POST', '/v1/peers', peer('csmf-2', 3), status=201)


def test_asking_for_more_needs_one_person(covered):
    more = [*PEOPLE, {'name': 'rest', 'changes': ['policies'], 'expires_seconds': 60}]
    covered.admin('alice').ok('PUT', '/v1/policy', document(approval=more))
    assert rules(covered) == more
    pending = ask(covered, 'DELETE', '/v1/policies/manage')
    assert pending['rules'] == ['rest']


def test_a_document_that_knows_no_rules_leaves_them(covered):
    covered.admin('alice').ok('PUT', '/v1/policy', document())
    assert rules(covered) == PEOPLE
    covered.restart()
    assert rules(covered) == PEOPLE


def test_a_rule_that_nobody_could_meet_is_pointed_out(covered):
    def warned():
        found = covered.admin('carol').ok('GET', '/v1/status')['warnings']
        return [one['name'] for one in found if one['kind'] == 'approval']
    assert warned() == []
    covered.restart(operators=[{**one, 'role': 'viewer'} for one in operators()])
    assert warned() == ['people']


def test_shutting_out_needs_one_person_and_letting_in_again_two(covered):
    alice = covered.admin('alice')
    alice.ok('POST', '/v1/peers/csmf-1/revoke', {'revoked': True}, status=202)  # no dataplane
    assert alice.ok('GET', '/v1/status')['revoked_peers'] == ['csmf-1']
    pending = ask(covered, 'POST', '/v1/peers/csmf-1/revoke', {'revoked': False})
    assert alice.ok('GET', '/v1/status')['revoked_peers'] == ['csmf-1']
    approve(covered, pending)
    assert alice.ok('GET', '/v1/status')['revoked_peers'] == []


def test_whatever_is_revoked_is_let_in_again_by_two(covered):
    alice, what = covered.admin('alice'), {'kind': 'issuer', 'id': 'https://as.peers.example'}
    alice.ok('POST', '/v1/revocations', what, status=202)
    pending = ask(covered, 'POST', '/v1/revocations', {**what, 'revoked': False})
    assert len(alice.ok('GET', '/v1/revocations')['items']) == 1
    approve(covered, pending)
    assert alice.ok('GET', '/v1/revocations')['items'] == []


@pytest.mark.parametrize('target, again', [
    ('/v1/peers/csmf-1/revoke', {'revoked': True}),
    ('/v1/revocations', {'kind': 'peer', 'id': 'csmf-1'})])
def test_what_is_revoked_again_is_not_let_in_by_an_older_wish(covered, target, again):
    alice = covered.admin('alice')
    alice.ok('POST', target, again, status=202)
    old = ask(covered, 'POST', target, {**again, 'revoked': False})
    other = ask(covered, 'DELETE', '/v1/peers/csmf-1')
    covered.admin('carol').ok('POST', '/v1/peers/csmf-1/revoke', {'revoked': True}, status=202)
    approve(covered, old, status=404)
    assert alice.ok('GET', '/v1/approvals')['items'] == [other]
    record, = covered.records(action='supersede')
    assert record['digest'] == old['digest']
    approve(covered, ask(covered, 'POST', target, {**again, 'revoked': False}))
    assert alice.ok('GET', '/v1/status')['revoked_peers'] == []


# ---- portcullisctl


def test_the_command_line(covered, tmp_path):
    def ctl(name, *arguments, expect=0, stdin=None, **more):
        certificate, key = covered.pki.clients[name]
        options = ['--ca', covered.pki.ca, '--cert', certificate, '--key', key]
        done = covered.namespace.run([BIN / 'portcullisctl', *options, *arguments], check=False,
                                     timeout=30, input=stdin, **more)
        assert done.returncode == expect, (arguments, done.returncode, done.stdout, done.stderr)
        return done.stdout if expect in (0, 6, 7) else done.stderr

    held = ctl('alice', 'peers', 'add', '-', expect=7, stdin=json.dumps(peer('csmf-2', 3)))
    assert 'not made: change 1 waits' in held
    assert 'another person' in ctl('alice', 'policy', 'diff', '-', expect=6,
                                   stdin=json.dumps(document(peers=[])))
    listed = json.loads(ctl('bob', 'approvals', '--json'))['items']
    digest = listed[0]['digest']
    assert digest in held and digest in ctl('bob', 'approvals', 'list')
    shown = ctl('carol', 'approvals', 'show', '1')
    assert 'csmf-2' in shown and 'WRONG' not in shown
    assert 'another person' in ctl('alice', 'approvals', 'approve', '1', digest, expect=4)
    assert 'digest' in ctl('carol', 'approvals', 'approve', '1', digest[:-1], expect=1)
    ctl('carol', 'approvals', 'approve', '1', digest)
    assert peers(covered) == ['csmf-1', 'csmf-2']
    ctl('alice', 'peers', 'delete', 'csmf-2', expect=7)
    ctl('alice', 'approvals', 'reject', '2', '--reason', 'a mistake')
    assert 'no change waits' in ctl('alice', 'approvals')

    token = tmp_path / 'token'
    token.write_text(covered.token('alice', scope='gate:read') + '\n', encoding='ascii')
    assert '(viewer)' in ctl('alice', '--token-file', token, 'status')
    token.write_text(covered.token('carol') + '\n', encoding='ascii')
    assert 'token_binding_fail' in ctl('alice', '--token-file', token, 'status', expect=4)
    token.write_text('two words\n', encoding='ascii')
    assert 'one word' in ctl('alice', '--token-file', token, 'status', expect=2)
