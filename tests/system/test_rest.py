"""portcullis-control over HTTPS, with a real dataplane behind it: the contract of openapi.yaml,
roles, problems, dry runs. Keys are in test_rest_keys.py, events and bounds in
test_rest_streams.py."""

import contextlib
import json
import re
import socket
import ssl
import subprocess

import pytest

from processes import BIN, Control, Pki
from rest_contract import (DOCUMENT, EMPTY, OPENAPI, Contract, EventStream, document, interface,
                           operations, peer, policy, sa, validate)
from rest_gate import control, dataplane, key, namespace, pki, rest, viewer, world  # noqa: F401


# ---- the contract


def test_the_route_table_is_the_openapi_document():
    printed = subprocess.run([BIN / 'portcullis-control', '--routes'], capture_output=True,
                             text=True, check=True).stdout.splitlines()
    table = {tuple(line.split()) for line in printed}
    assert len(table) == len(printed)
    assert table == {(method, path, operation['x-role'])
                     for (method, path), operation in operations().items()}


def test_the_document_is_served_as_it_is(rest):
    assert rest.ok('GET', '/v1/openapi.yaml') == OPENAPI.read_text(encoding='utf-8')
    assert DOCUMENT['openapi'].startswith('3.1')


def test_every_operation_answers_as_documented(control, rest):
    """One life of a gate's configuration, in which every documented operation succeeds once."""
    rest.ok('POST', '/v1/interfaces', interface(), status=201)
    rest.ok('PUT', '/v1/interfaces/oam', interface('oam', type='other', zone='internal',
                                                   protection='none', prefixes=['10.2.0.20']),
            status=201)
    rest.ok('POST', '/v1/peers', peer(rate={'packets_per_second': 100}), status=201)
    rest.ok('PUT', '/v1/peers/csmf-1', peer(), status=200)
    rest.ok('POST', '/v1/policies', policy(), status=201)
    ports = [{'protocol': 'tcp', 'first': 9090, 'last': 9090}]
    rest.ok('PUT', '/v1/policies/manage', policy(callback_ports=ports), status=200)
    for kind, name in (('interfaces', 'nsmf'), ('peers', 'csmf-1'), ('policies', 'manage')):
        one = rest.ok('GET', f'/v1/{kind}/{name}')
        assert one in rest.ok('GET', f'/v1/{kind}')['items']
    rest.problem('GET', '/v1/first-line', status=404)
    line = {'deny': ['198.51.100.0/24'], 'packets': {'per_second': 100, 'burst': 10}}
    rest.ok('PUT', '/v1/first-line', line, status=201)
    assert rest.ok('GET', '/v1/first-line').items() >= line.items()
    whole = rest.ok('GET', '/v1/policy')
    assert whole['first_line']['deny'] == line['deny']
    assert rest.ok('PUT', '/v1/policy', whole)['changes'] == EMPTY_DIFFERENCE
    rest.ok('DELETE', '/v1/first-line')
    del whole['first_line']

    request_blocks(rest)
    assert rest.ok('GET', '/v1/owners') == {'items': []}
    assert rest.ok('GET', '/v1/registrations') == {'items': []}
    assert rest.ok('GET', '/v1/held-requests') == {'items': []}

    rest.ok('POST', '/v1/peers/csmf-1/revoke', {'revoked': True})
    assert rest.ok('GET', '/v1/status')['revoked_peers'] == ['csmf-1']
    rest.ok('POST', '/v1/peers/csmf-1/revoke', {'revoked': False})
    rest.problem('POST', '/v1/peers/csmf-1/registration',  # nobody came by the guard
                 {'interface': 'nsmf', 'registered': True}, status=404)
    lost = {'kind': 'certificate', 'issuer': 'CN=peers CA', 'id': '0a:1f', 'reason': 'lost',
            'until': '2099-12-31T00:00:00Z'}
    rest.ok('POST', '/v1/revocations', lost)
    listed, = rest.ok('GET', '/v1/revocations')['items']
    assert listed['id'] == '0A1F' and listed['until'].startswith('2099-12-31') and listed['by']
    rest.ok('POST', '/v1/revocations', {**lost, 'revoked': False})
    assert rest.ok('GET', '/v1/revocations')['items'] == []

    rest.ok('PUT', '/v1/policy', {**whole, 'approval': [{'name': 'all', 'changes': ['peers']}]})
    second = Contract(control, 'carol')
    held = rest.ok('DELETE', '/v1/peers/csmf-1', status=202)['pending']
    assert second.ok('GET', '/v1/approvals')['items'] == [held]
    assert second.ok('GET', f'/v1/approvals/{held["id"]}')['pending'] == held
    rest.ok('POST', f'/v1/approvals/{held["id"]}/reject', {})
    held = rest.ok('PUT', '/v1/policy', {**whole, 'approval': []}, status=202)['pending']
    second.ok('POST', f'/v1/approvals/{held["id"]}/approve', {'digest': held['digest']})
    rest.met |= second.met
    second.close()

    created = rest.ok('POST', '/v1/sas', sa('in', 0x1001, key()), status=201)
    assert rest.ok('GET', '/v1/sas/in')['fingerprint'] == created['fingerprint']
    replaced = rest.ok('PUT', '/v1/sas/in', sa('in-2', 0x1002, key()), status=200)
    assert [one['id'] for one in rest.ok('GET', '/v1/sas')['items']] == ['in-2']
    assert replaced['changes']['removed'] == [{'kind': 'sa', 'name': 'in'}]

    assert rest.ok('GET', '/v1/keys') == {'items': []}
    rest.problem('DELETE', f'/v1/keys/{"0" * 64}', status=404)
    assert rest.ok('GET', '/v1/sessions') == {'items': []}  # nobody came by the guard
    assert rest.ok('GET', '/v1/decisions') == {'items': []}
    rest.problem('GET', '/v1/decisions/0123456789abcdef', status=404)
    rest.problem('DELETE', '/v1/sessions/0123456789abcdef', status=404)
    assert rest.ok('POST', '/v1/time/confirm?dryRun=true', {})['confirmed'] is False
    assert rest.ok('POST', '/v1/time/confirm', {})['clock'] == 'ok'
    rest.problem('POST', '/v1/time/confirm', {'time': 'now'}, status=422, field='/time')
    assert rest.ok('GET', '/v1/audit')['items'][0]['action'] == 'open'
    assert rest.ok('GET', '/v1/audit/checkpoint')['count'] > 1

    status = rest.ok('GET', '/v1/status')
    assert status['ready'] and status['dataplane']['connected'] and status['policy']['in_force']
    assert status['policy']['generation'] == status['dataplane']['generation']
    assert status['bypasses'] == ['oam'] and status['dataplane']['sas'] == 1
    assert {w['name'] for w in status['warnings']} == {'nsmf', 'oam', 'in-2'}
    for by in ('verdict', 'worker', 'peer', 'sa'):
        assert rest.ok('GET', f'/v1/counters?by={by}')['by'] == by
    assert rest.ok('GET', '/v1/counters')['by'] == 'verdict'
    assert 'replay_check' in rest.ok('GET', '/v1/pipeline')['inbound']
    assert 'event: ' in rest.ok('GET', '/v1/events?follow=false')
    drops = EventStream(control, path='/v1/drops')
    assert drops.status == 200
    drops.close()
    rest.met.add(('GET', '/v1/drops'))
    assert rest.ok('GET', '/healthz') == {'alive': True}
    assert rest.ok('GET', '/readyz')['ready'] is True
    rest.ok('GET', '/metrics')
    rest.ok('GET', '/v1/openapi.yaml')

    rest.ok('DELETE', '/v1/sas/in-2')
    rest.ok('DELETE', '/v1/policies/manage')
    rest.ok('DELETE', '/v1/peers/csmf-1')
    rest.ok('DELETE', '/v1/interfaces/nsmf')
    assert rest.met | NEED_A_PEER == set(operations())


def request_blocks(rest):
    """Each of their operations, on an interface that they are for."""
    rest.ok('PUT', '/v1/interfaces/exposure',
            interface('exposure', protection='tls', prefixes=['10.2.0.30']), status=201)
    block = {'name': 'cve-1', 'interface': 'exposure', 'path': '/nsi/*'}
    rest.ok('POST', '/v1/request-blocks', block, status=201)
    rest.ok('PUT', '/v1/request-blocks/cve-1', {**block, 'method': 'PATCH'}, status=200)
    assert rest.ok('GET', '/v1/request-blocks')['items'] == [
        rest.ok('GET', '/v1/request-blocks/cve-1')]
    rest.ok('DELETE', '/v1/request-blocks/cve-1')
    rest.ok('DELETE', '/v1/interfaces/exposure')


# That came by the guard: test_sessions.py, test_two_phase.py, test_visibility.py,
# test_request_admission.py.
NEED_A_PEER = {
    ('DELETE', '/v1/owners/{id}'), ('DELETE', '/v1/registrations/{id}'),
    ('GET', '/v1/held-requests/{id}'),
    ('POST', '/v1/held-requests/{id}/approve'),
    ('POST', '/v1/held-requests/{id}/deny'),
    ('DELETE', '/v1/keys/{id}'), ('POST', '/v1/peers/{name}/registration'),
    ('DELETE', '/v1/sessions/{id}'), ('GET', '/v1/decisions/{id}')}
EMPTY_DIFFERENCE = {'added': [], 'changed': [], 'removed': []}


def test_request_schemas_admit_what_control_admits():
    """The documented bodies are not only for answers: what is sent here fits them too."""
    for body, schema in ((interface(), 'Interface'), (peer(), 'Peer'), (policy(), 'Policy'),
                         (document(), 'PolicyDocument'), (sa('in', 0x1001, key()), 'SaSpec')):
        validate(body, {'$ref': f'#/components/schemas/{schema}'})


def test_errors_of_control_and_its_document_are_the_same(rest):
    listed = set(DOCUMENT['components']['schemas']['Problem']['properties']['type']['enum'])
    source = (OPENAPI.parent / 'http.hpp').read_text(encoding='ascii')
    slugs = re.findall(r'inline constexpr ProblemType k\w+\{"([a-z-]+)"', source)
    assert {f'urn:portcullis:problem:{slug}' for slug in slugs} == listed


# ---- who may what


def test_viewers_read_and_operators_write(rest, viewer):
    rest.ok('PUT', '/v1/policy', document())
    for (method, path), operation in operations().items():
        target = path.replace('{name}', 'csmf-1').replace('{id}', 'csmf-1')
        if operation['x-role'] == 'viewer':
            if path not in ('/v1/events', '/v1/drops'):  # they do not end
                assert viewer.request(method, target).status in (200, 404), path
            continue
        body = {} if method in ('POST', 'PUT') else None
        viewer.problem(method, target, body, status=403, detail='bob',
                       expected=operation['x-role'])
        if method != 'GET':
            viewer.problem(method, f'{target}?dryRun=true', body, status=403)
    assert viewer.ok('GET', '/v1/status')['role'] == 'viewer'
    assert rest.ok('GET', '/v1/status')['role'] == 'operator'
    assert rest.ok('GET', '/v1/policy')['peers'][0]['name'] == 'csmf-1'


def test_a_stranger_with_a_certificate_gets_nothing(control, rest):
    stranger = Contract(control, 'eve')
    for path in ('/v1/status', '/healthz', '/metrics', '/v1/nowhere'):
        problem = stranger.problem('GET', path, status=403, found='eve')
        assert 'alice' not in str(problem)
    stranger.close()
    rest.ok('GET', '/v1/status')  # the twin


def connects(control, context):
    """Whether a request over this TLS context is answered. In TLS 1.3 a client learns that its
    certificate was refused only when it reads."""
    with control.namespace.entered():
        plain = socket.create_connection(('127.0.0.1', control.port), timeout=10)
    with plain:
        try:
            with context.wrap_socket(plain, server_hostname='127.0.0.1') as tls:
                tls.sendall(b'GET /healthz HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n')
                return tls.recv(100).startswith(b'HTTP/1.1 200')
        except (ssl.SSLError, ConnectionError):
            return False


@pytest.mark.parametrize('version', [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_without_a_certificate_of_our_ca_there_is_no_connection(control, pki, tmp_path, version):
    nobody = ssl.create_default_context(cafile=str(pki.ca))
    foreign = ssl.create_default_context(cafile=str(pki.ca))
    foreign.load_cert_chain(*map(str, Pki(tmp_path).clients['alice']))  # same name, another CA
    alice = pki.context('alice')
    for context in (nobody, foreign, alice):
        context.minimum_version = context.maximum_version = version
    assert not connects(control, nobody)
    assert not connects(control, foreign)
    assert connects(control, alice)


def test_server_certificates_are_not_operators(control, pki):
    context = ssl.create_default_context(cafile=str(pki.ca))
    context.load_cert_chain(*map(str, pki.server))  # extendedKeyUsage serverAuth
    assert not connects(control, context)


@pytest.mark.filterwarnings('ignore:.*TLSv1.*:DeprecationWarning')
def test_old_tls_is_refused(control, pki):
    old = pki.context('alice')
    old.set_ciphers('ALL:@SECLEVEL=0')
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    with control.namespace.entered():
        plain = socket.create_connection(('127.0.0.1', control.port), timeout=10)
    with plain, pytest.raises(ssl.SSLError) as refused:
        old.wrap_socket(plain, server_hostname='127.0.0.1')
    assert refused.value.reason == 'TLSV1_ALERT_PROTOCOL_VERSION'  # the server's word, not ours


# ---- problems


@pytest.mark.parametrize('body, status, field, detail', [
    (b'{"name": "x",\n  oops}', 400, 'line 2, column 3', 'not JSON'),
    (b'', 400, 'line 1, column 1', 'not JSON'),
    (b'{"name":"a","name":"b"}', 400, None, 'twice'),
    (b'[' * 100000, 400, None, 'nested'),
    (b'[]', 422, None, 'object'),
    (b'\xff\xfe', 400, 'line 1, column 1', 'not JSON'),
    (peer(colour='red'), 422, '/colour', 'unknown field'),
    (peer(name='Ü'), 422, '/name', 'not a name'),
    (peer(prefixes=['10.1.0.2/33']), 422, '/prefixes/0', '0 to 32'),
    (peer(prefixes=[]), 422, '/prefixes', 'at least one'),
    (peer(rate={'packets_per_second': 1.5}), 422, '/rate/packets_per_second', 'integer'),
    (peer(enabled='yes'), 422, '/enabled', 'true or false'),
], ids=['not JSON', 'empty', 'twice', 'deep', 'array', 'not UTF-8', 'unknown', 'name', 'prefix',
        'no prefix', 'fraction', 'flag'])
def test_wrong_bodies(rest, body, status, field, detail):
    problem = rest.problem('POST', '/v1/peers', body, status=status, detail=detail)
    if field:
        assert problem['field'] == field
    assert rest.ok('GET', '/v1/peers')['items'] == []
    rest.ok('POST', '/v1/peers', peer(), status=201)  # the twin


def test_wrong_requests(rest):
    rest.problem('GET', '/v1/nowhere', status=404)
    rest.problem('GET', '/v1/peers/', status=404)
    rest.problem('GET', '/v1/peers/none', status=404, detail="'none'")
    rest.problem('GET', '/v1/peers/%2e%2e', status=404)
    rest.problem('DELETE', '/v1/peers/none', status=404)
    rest.problem('GET', '/v1/sas/none', status=404)
    rest.problem('DELETE', '/v1/sas/none', status=404)
    rest.problem('POST', '/v1/peers/none/revoke', {'revoked': True}, status=404)
    rest.problem('POST', '/v1/peers', peer(), {'Content-Type': 'text/plain'}, status=415,
                 found='text/plain')
    rest.ok('POST', '/v1/peers', peer(), {'Content-Type': 'application/json; charset=utf-8'},
            status=201)
    rest.problem('DELETE', '/v1/peers/csmf-1?dryRun=maybe', status=400, field='dryRun',
                 found='maybe')
    rest.problem('DELETE', '/v1/peers/csmf-1?dryrun=true', status=400, field='dryrun')
    rest.problem('DELETE', '/v1/peers/csmf-1?dryRun=true&dryRun=false', status=400, detail='twice')
    for method, path in operations():
        if method == 'GET' and '{' not in path:
            rest.problem('GET', f'{path}?colour=red', status=400, field='colour')
    rest.problem('GET', '/v1/counters?by=colour', status=400, field='by')
    rest.problem('GET', '/v1/sas?limit=0', status=400, field='limit')
    rest.problem('GET', '/v1/drops?oneIn=0', status=400, field='oneIn')
    rest.problem('PUT', '/v1/peers/other', peer(), status=422, field='/name')
    rest.problem('POST', '/v1/peers/csmf-1/revoke', {}, status=422, field='/revoked')
    rest.ok('DELETE', '/v1/peers/csmf-1')


def test_a_method_that_a_path_does_not_have_is_answered_with_those_it_has(rest):
    by_path = {}
    for method, path in operations():
        by_path.setdefault(path, set()).add(method)
    for path, methods in by_path.items():
        target = path.replace('{name}', 'x').replace('{id}', 'x')
        for method in {'GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS'} - methods:
            answer = rest.request(method, target, b'{}' if method != 'GET' else None)
            assert answer.status == 405, (method, path)
            assert set(answer.headers['Allow'].split(', ')) == methods


def test_bodies_and_headers_are_bounded(rest):
    rest.problem('POST', '/v1/peers', b'{"name":"' + b'x' * (4 << 20) + b'"}', status=413)
    rest.problem('POST', '/v1/peers', b' ' * ((4 << 20) - 2000) + b'{}', status=422)
    rest.ok('GET', '/healthz')
    for size, status in ((8000, 200), (60000, 413)):
        rest.connection.request('GET', '/healthz', headers={'X-Long': 'x' * size})
        response = rest.connection.getresponse()
        content = response.read()
        assert response.status == status
    validate(json.loads(content), {'$ref': '#/components/schemas/Problem'})
    rest.ok('GET', '/healthz')


@pytest.mark.parametrize('change, status, says', [
    (lambda d: d['peers'].append(peer('csmf-2', 2)), 409, "'csmf-1'"),
    (lambda d: d['peers'].append(peer('csmf-1', 3)), 409, '/peers/0'),
    (lambda d: d['policies'].append(policy('p2', interface='nsfm')), 422, 'nsfm'),
    (lambda d: d['interfaces'].append(interface('twin', prefixes=['10.2.0.0/24'])), 409, "'nsmf'"),
    (lambda d: d['interfaces'][0].update(protection='none'), 422, 'external'),
    (lambda d: d.pop('peers'), 422, 'missing'),
], ids=['same prefix', 'same name', 'unknown interface', 'same servers', 'no protection',
        'no list'])
def test_a_policy_that_contradicts_itself_leaves_the_old_one_in_force(rest, change, status, says):
    rest.ok('PUT', '/v1/policy', document())
    before = rest.ok('GET', '/v1/status')
    wrong = document()
    change(wrong)
    rest.problem('PUT', '/v1/policy', wrong, status=status, detail=says)
    rest.problem('PUT', '/v1/policy?dryRun=true', wrong, status=status, detail=says)
    after = rest.ok('GET', '/v1/status')
    assert after['policy'] == before['policy'] and after['ready']
    assert after['dataplane']['generation'] == before['dataplane']['generation']
    right = document(peers=[peer(), peer('csmf-2', 3)])
    assert rest.ok('PUT', '/v1/policy', right)['in_force'] is True


def test_what_is_in_use_stays(rest):
    rest.ok('PUT', '/v1/policy', document())
    rest.problem('DELETE', '/v1/interfaces/nsmf', status=409, detail="'manage'")
    rest.ok('POST', '/v1/sas', sa('in', 0x1001, key()))
    rest.problem('DELETE', '/v1/peers/csmf-1', status=409, detail="'in'")
    rest.problem('PUT', '/v1/policy', EMPTY, status=409, detail="'in'")
    rest.ok('DELETE', '/v1/sas/in')
    rest.ok('DELETE', '/v1/peers/csmf-1')
    rest.ok('DELETE', '/v1/policies/manage')
    rest.ok('DELETE', '/v1/interfaces/nsmf')


def test_conflicts_of_one_resource_point_into_its_body(rest):
    rest.ok('PUT', '/v1/policy', document())
    rest.problem('POST', '/v1/peers', peer('csmf-2', 2), status=409, field='/prefixes/0',
                 found="peer 'csmf-1'")
    rest.problem('POST', '/v1/peers', peer(), status=409, field='/name')
    rest.problem('POST', '/v1/policies', policy('p2', interface='none'), status=422,
                 field='/interface')
    # Two sides of one contradiction: the other one's pointer would mean nothing here.
    problem = rest.problem('PUT', '/v1/interfaces/nsmf', interface(prefixes=['10.1.0.0/24']),
                           status=409, detail="'csmf-1'")
    assert 'field' not in problem


# ---- dry runs and preconditions


def test_a_dry_run_says_what_would_change_and_changes_nothing(rest):
    rest.ok('PUT', '/v1/policy', document())
    rest.ok('POST', '/v1/sas', sa('in', 0x1001, key()))
    before = (rest.ok('GET', '/v1/policy'), rest.ok('GET', '/v1/status')['policy'],
              [one['fingerprint'] for one in rest.ok('GET', '/v1/sas')['items']])
    unused = key()
    for method, path, body, would in [
            ('POST', '/v1/peers', peer('csmf-2', 3), {'added': [('peer', 'csmf-2')]}),
            ('PUT', '/v1/peers/csmf-1', peer(tenant='b'), {'changed': [('peer', 'csmf-1')]}),
            ('POST', '/v1/interfaces', interface('two', prefixes=['10.2.0.11']),
             {'added': [('interface', 'two')]}),
            ('PUT', '/v1/interfaces/nsmf', interface(zone='internal'),
             {'changed': [('interface', 'nsmf')]}),
            ('POST', '/v1/policies', policy('two'), {'added': [('policy', 'two')]}),
            ('DELETE', '/v1/policies/manage', None, {'removed': [('policy', 'manage')]}),
            ('POST', '/v1/peers/csmf-1/revoke', {'revoked': True},
             {'added': [('revocation', 'csmf-1')]}),
            ('POST', '/v1/sas', sa('new', 0x1002, unused), {'added': [('sa', 'new')]}),
            ('PUT', '/v1/sas/in', sa('in', 0x1003, unused), {'changed': [('sa', 'in')]}),
            ('DELETE', '/v1/sas/in', None, {'removed': [('sa', 'in')]}),
    ]:
        answer = rest.ok(method, f'{path}?dryRun=true', body, status=200)
        assert {kind: [(one['kind'], one['name']) for one in named]
                for kind, named in answer['would'].items() if named} == would, path
    assert before == (rest.ok('GET', '/v1/policy'), rest.ok('GET', '/v1/status')['policy'],
                      [one['fingerprint'] for one in rest.ok('GET', '/v1/sas')['items']])
    assert rest.ok('GET', '/v1/status')['revoked_peers'] == []
    rest.ok('POST', '/v1/sas', sa('new', 0x1002, unused), status=201)  # not burnt by the dry runs


def test_the_difference_names_fields(rest):
    rest.ok('PUT', '/v1/policy', document())
    wanted = document(peers=[peer(rate={'packets_per_second': 5}, tenant='b')])
    would = rest.ok('PUT', '/v1/policy?dryRun=true', wanted)['would']
    assert would['changed'] == [{'kind': 'peer', 'name': 'csmf-1', 'fields': [
        {'field': '/rate/packets_per_second', 'to': 5}, {'field': '/tenant', 'to': 'b'}]}]


def test_if_match(rest):
    rest.ok('PUT', '/v1/policy', document())
    tag = rest.request('GET', '/v1/peers/csmf-1').headers['ETag']
    rest.problem('PUT', '/v1/peers/csmf-1', peer(tenant='b'), {'If-Match': '"0"'}, status=412,
                 field='If-Match')
    rest.ok('PUT', '/v1/peers/csmf-1', peer(tenant='b'), {'If-Match': tag})
    rest.problem('DELETE', '/v1/peers/csmf-1', headers={'If-Match': tag}, status=412)
    rest.problem('PUT', '/v1/peers/new', peer('new', 9), {'If-Match': '*'}, status=412)
    whole = rest.request('GET', '/v1/policy').headers['ETag']
    rest.problem('PUT', '/v1/policy', document(), {'If-Match': tag}, status=412)
    rest.ok('PUT', '/v1/policy', document(), {'If-Match': whole})


def test_the_first_line_is_checked_compared_and_kept_by_who_does_not_say_it(rest):
    line = {'admit': ['192.0.2.0/24'], 'deny': ['198.51.100.0/24'], 'host': []}
    rest.ok('PUT', '/v1/policy', document())
    rest.problem('PUT', '/v1/first-line', {**line, 'deny': ['192.0.2.0/24']}, status=409,
                 field='/deny', found='192.0.2.0/24')
    rest.problem('PUT', '/v1/first-line', {**line, 'packets': {'per_second': 5}}, status=422,
                 field='/packets/burst')
    rest.problem('DELETE', '/v1/first-line', status=404)
    would = rest.ok('PUT', '/v1/first-line?dryRun=true', line)['would']
    assert would['added'] == [{'kind': 'first-line', 'name': 'first-line'}]
    rest.problem('GET', '/v1/first-line', status=404)
    rest.problem('PUT', '/v1/first-line', line, {'If-Match': '*'}, status=412)
    rest.ok('PUT', '/v1/first-line', line, status=201)
    tag = rest.request('GET', '/v1/first-line').headers['ETag']
    changes = rest.ok('PUT', '/v1/first-line', {**line, 'deny': []}, {'If-Match': tag})['changes']
    assert changes['changed'][0]['fields'] == [{'field': '/deny', 'from': '198.51.100.0/24'}]
    rest.problem('DELETE', '/v1/first-line', headers={'If-Match': tag}, status=412)
    # A document of somebody who knows nothing of it leaves it; null removes it.
    assert rest.ok('PUT', '/v1/policy', document())['changes'] == EMPTY_DIFFERENCE
    assert rest.ok('GET', '/v1/first-line')['host'] == []
    warnings = rest.ok('PUT', '/v1/first-line', {'handshakes': {'per_second': 1, 'burst': 1}})
    assert 'first-line' in [w['kind'] for w in warnings['warnings']]
    rest.ok('PUT', '/v1/policy', document(first_line=None))
    rest.problem('GET', '/v1/first-line', status=404)


def test_a_change_of_the_first_line_can_need_two(control, rest):
    rest.ok('PUT', '/v1/policy', document(approval=[{'name': 'doors', 'changes': ['first-line']}]))
    rest.ok('PUT', '/v1/peers/csmf-1', peer(tenant='b'))  # that one needs nobody
    held = rest.ok('PUT', '/v1/first-line', {'admit_strangers': False}, status=202)['pending']
    rest.problem('GET', '/v1/first-line', status=404)
    second = Contract(control, 'carol')
    second.ok('POST', f'/v1/approvals/{held["id"]}/approve', {'digest': held['digest']})
    assert rest.ok('GET', '/v1/first-line')['admit_strangers'] is False
    held = rest.ok('PUT', '/v1/policy', document(approval=[], first_line=None),
                   status=202)['pending']
    second.ok('POST', f'/v1/approvals/{held["id"]}/approve', {'digest': held['digest']})
    second.close()
    rest.ok('DELETE', '/v1/policies/manage')  # nothing is covered any more


def test_in_the_laboratory_less_protection_is_admitted_and_named(rest, control, tmp_path,
                                                                 dataplane, pki):
    """And outside of it neither that nor keys by hand; the twin is the laboratory itself."""
    warnings = rest.ok('PUT', '/v1/policy?dryRun=true', document())['warnings']
    assert [w['name'] for w in warnings] == ['nsmf']
    with another_control(control, tmp_path, dataplane, pki, lab=False) as strict:
        strict.problem('PUT', '/v1/policy', document(), status=422,
                       field='/interfaces/0/protection', expected='tls')
        strict.problem('PUT', '/v1/policy', document(interfaces=[interface(protection='tls+esp')]),
                       status=422, field='/interfaces/0/guard', expected='address and port')
        strict.ok('PUT', '/v1/policy', document(interfaces=[interface(
            protection='tls+esp', guard={'address': '10.9.0.1', 'port': 4443})]))
        strict.problem('GET', '/v1/drops', status=503, detail='dataplane is away')
        for method, path in (('POST', '/v1/sas'), ('PUT', '/v1/sas/in')):
            strict.problem(method, path, sa('in', 0x1001, key()), status=403, expected='lab: true')


@contextlib.contextmanager
def another_control(control, folder, dataplane, pki, **settings):
    """A second control that has no dataplane, as only one may hold ours."""
    process = Control(control.namespace, folder, folder / 'nobody.sock', pki, port=8444,
                      **settings)
    process.start(ready=False)
    client = Contract(process)
    try:
        yield client
    finally:
        client.close()
        process.stop()
