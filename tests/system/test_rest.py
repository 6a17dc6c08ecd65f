"""portcullis-control over HTTPS, with a real dataplane behind it (on ports that carry nothing):
the contract of openapi.yaml, roles, problems, dry runs, secrets, events, bounds."""

import base64
import contextlib
import json
import os
import re
import secrets
import socket
import ssl
import stat
import subprocess

import pytest
import yaml

from netns import Namespaces, wait_until
from processes import BIN, Control, Dataplane, Pki, instance_name
from rest_contract import (DOCUMENT, EMPTY, OPENAPI, Contract, EventStream, clear, document,
                           interface, operations, parse_event, peer, policy, sa, validate)

QUIET_PORTS = [
    {'name': 'wire', 'role': 'untrusted', 'device': {'vdev': 'net_null0,no-rx=1'}, 'mtu': 1500,
     'mac': '02:00:00:00:00:01', 'addresses': ['192.0.2.1/24']},
    {'name': 'core', 'role': 'trusted', 'device': {'vdev': 'net_null1,no-rx=1'}, 'mtu': 1500,
     'mac': '02:00:00:00:00:02', 'addresses': ['10.2.0.1/24']}]


def key():
    return secrets.token_hex(20)


@pytest.fixture(scope='module')
def world():
    with Namespaces('rest') as namespaces:
        yield namespaces


@pytest.fixture(scope='module')
def namespace(world):
    return world.add('gate')


@pytest.fixture(scope='module')
def pki(tmp_path_factory):
    pki = Pki(tmp_path_factory.mktemp('pki'),
              (('alice', 'operator'), ('bob', 'viewer'), ('eve', 'viewer')))
    pki.operators = [o for o in pki.operators if o['name'] != 'eve']  # a certificate, no role
    return pki


@pytest.fixture(scope='module')
def dataplane(namespace, tmp_path_factory):
    process = Dataplane(namespace, tmp_path_factory.mktemp('dataplane'), instance_name('r'),
                        QUIET_PORTS)
    process.start()
    yield process
    process.stop()
    process.forget()


@pytest.fixture(scope='module')
def control(namespace, dataplane, pki, tmp_path_factory):
    process = Control(namespace, tmp_path_factory.mktemp('control'), dataplane.socket, pki)
    process.start()
    yield process
    process.stop()


@pytest.fixture
def rest(control):
    client = Contract(control)
    clear(client)
    yield client
    client.close()


@pytest.fixture
def viewer(control):
    client = Contract(control, 'bob')
    yield client
    client.close()


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


def test_every_operation_answers_as_documented(rest):
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
    whole = rest.ok('GET', '/v1/policy')
    assert rest.ok('PUT', '/v1/policy', whole)['changes'] == EMPTY_DIFFERENCE

    rest.ok('POST', '/v1/peers/csmf-1/revoke', {'revoked': True})
    assert rest.ok('GET', '/v1/status')['revoked_peers'] == ['csmf-1']
    rest.ok('POST', '/v1/peers/csmf-1/revoke', {'revoked': False})

    created = rest.ok('POST', '/v1/sas', sa('in', 0x1001, key()), status=201)
    assert rest.ok('GET', '/v1/sas/in')['fingerprint'] == created['fingerprint']
    replaced = rest.ok('PUT', '/v1/sas/in', sa('in-2', 0x1002, key()), status=200)
    assert [one['id'] for one in rest.ok('GET', '/v1/sas')['items']] == ['in-2']
    assert replaced['changes']['removed'] == [{'kind': 'sa', 'name': 'in'}]

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
    assert rest.ok('GET', '/healthz') == {'alive': True}
    assert rest.ok('GET', '/readyz')['ready'] is True
    rest.ok('GET', '/metrics')
    rest.ok('GET', '/v1/openapi.yaml')

    rest.ok('DELETE', '/v1/sas/in-2')
    rest.ok('DELETE', '/v1/policies/manage')
    rest.ok('DELETE', '/v1/peers/csmf-1')
    rest.ok('DELETE', '/v1/interfaces/nsmf')
    assert rest.met == set(operations())


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
    for method, path in operations():
        target = path.replace('{name}', 'csmf-1').replace('{id}', 'csmf-1')
        if method == 'GET':
            if path != '/v1/events':
                assert viewer.request(method, target).status in (200, 404), path
            continue
        body = {} if method in ('POST', 'PUT') else None
        viewer.problem(method, target, body, status=403, detail='bob', expected='operator')
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
    rest.problem('GET', '/v1/counters?by=colour', status=400, field='by')
    rest.problem('GET', '/v1/sas?limit=0', status=400, field='limit')
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


def test_in_the_laboratory_less_protection_is_admitted_and_named(rest, control, tmp_path,
                                                                 dataplane, pki):
    """And outside of it neither that nor keys by hand; the twin is the laboratory itself."""
    warnings = rest.ok('PUT', '/v1/policy?dryRun=true', document())['warnings']
    assert [w['name'] for w in warnings] == ['nsmf']
    with another_control(control, tmp_path, dataplane, pki, lab=False) as strict:
        strict.problem('PUT', '/v1/policy', document(), status=422,
                       field='/interfaces/0/protection', expected='tls')
        strict.ok('PUT', '/v1/policy', document(interfaces=[interface(protection='tls+esp')]))
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


# ---- keys


def test_a_key_is_taken_once(rest):
    rest.ok('PUT', '/v1/policy', document())
    used = key()
    rest.ok('POST', '/v1/sas', sa('in', 0x1001, used), status=201)
    rest.problem('POST', '/v1/sas', sa('in-2', 0x1002, used), status=409, field='/key',
                 detail='used before')
    rest.problem('PUT', '/v1/sas/in', sa('in', 0x1001, used), status=409, field='/key')
    rest.ok('DELETE', '/v1/sas/in')
    rest.problem('POST', '/v1/sas', sa('in', 0x1001, used), status=409, field='/key')
    rest.problem('POST', '/v1/sas?dryRun=true', sa('in', 0x1001, used.upper()), status=409)
    rest.ok('POST', '/v1/sas', sa('in', 0x1001, key()), status=201)  # the twin


def test_wrong_sas_are_refused_and_their_key_can_still_be_used(rest):
    rest.ok('PUT', '/v1/policy', document())
    good = key()
    for change, status, field in [
            ({'peer': 'nobody'}, 422, '/peer'), ({'spi': '0x000000ff'}, 422, '/spi'),
            ({'algorithm': '3des-cbc'}, 422, '/algorithm'), ({'algorithm': 'null'}, 422,
                                                             '/algorithm'),
            ({'key': good[2:]}, 422, '/key'), ({'replay_window': 9000}, 422, '/replay_window'),
            ({'selectors': []}, 422, '/selectors'),
            ({'tunnel': {'local': '192.0.2.1', 'remote': '2001:db8::1'}}, 422, '/tunnel/remote')]:
        rest.problem('POST', '/v1/sas', {**sa('in', 0x1001, good), **change}, status=status,
                     field=field)
    rest.ok('POST', '/v1/sas', sa('in', 0x1001, good), status=201)
    rest.problem('POST', '/v1/sas', sa('in', 0x1002, key()), status=409, field='/id')
    rest.problem('POST', '/v1/sas', sa('in-2', 0x1001, key()), status=409, field='/spi')
    rest.problem('PUT', '/v1/sas/none', sa('none', 0x1003, key()), status=404)


def forms_of(text):
    """The ways in which a key could have been written down."""
    raw = bytes.fromhex(text)
    return [text.encode(), text.upper().encode(), raw, base64.b64encode(raw).rstrip(b'='),
            base64.urlsafe_b64encode(raw).rstrip(b'='), ':'.join(f'{b:02x}' for b in raw).encode()]


def memory_of(pid):
    """(permissions, locked, content) of each readable private mapping."""
    with open(f'/proc/{pid}/smaps', encoding='ascii') as smaps:
        text = smaps.read()
    with open(f'/proc/{pid}/mem', 'rb', 0) as memory:
        for block in re.split(r'\n(?=[0-9a-f]+-[0-9a-f]+ )', text):
            span = re.match(r'([0-9a-f]+)-([0-9a-f]+) (\S+)', block)
            if 'r' not in span[3] or 'w' not in span[3]:
                continue
            first, last = int(span[1], 16), int(span[2], 16)
            with contextlib.suppress(OSError, OverflowError):
                memory.seek(first)
                yield re.search(r'VmFlags:.*\blo\b', block) is not None, memory.read(last - first)


def test_a_key_goes_in_and_never_comes_out(rest, control):
    """Not in an answer, the log, the store, or memory that is not locked; good, refused or
    malformed made no difference."""
    rest.ok('PUT', '/v1/policy', document())
    keys = {name: key() for name in ('installed', 'replaced', 'gone', 'twice', 'wrong', 'broken',
                                     'elsewhere', 'dry')}
    rest.ok('POST', '/v1/sas', sa('a', 0x1001, keys['replaced']))
    rest.ok('PUT', '/v1/sas/a', sa('a', 0x1002, keys['installed']))
    rest.ok('POST', '/v1/sas', sa('b', 0x1003, keys['gone']))
    rest.ok('DELETE', '/v1/sas/b')
    rest.ok('POST', '/v1/sas', sa('c', 0x1004, keys['twice']))
    rest.problem('POST', '/v1/sas', sa('d', 0x1005, keys['twice']), status=409)
    rest.problem('POST', '/v1/sas', sa('d', 0xff, keys['wrong']), status=422)
    rest.problem('POST', '/v1/sas', ('{"key": ' + keys['broken'] + '}').encode(), status=400)
    rest.problem('POST', '/v1/sas', {**sa('d', 0x1006, key()), 'spi': keys['elsewhere']},
                 status=422)
    rest.ok('POST', '/v1/sas?dryRun=true', sa('e', 0x1007, keys['dry']))
    rest.ok('DELETE', '/v1/sas/c')
    for path in ('/v1/sas', '/v1/sas/a', '/v1/status', '/v1/events?follow=false', '/metrics',
                 '/v1/policy', '/v1/counters?by=sa'):
        rest.ok('GET', path)

    files = [control.log, *control.store.parent.glob('control.db*')]
    assert len(files) >= 2
    places = {str(path): path.read_bytes() for path in files}
    places['answers'] = b'\n'.join(rest.contents)
    for name, one in keys.items():
        for form in forms_of(one):
            for place, content in places.items():
                assert form not in content, f'the {name} key is in {place}'

    installed = bytes.fromhex(keys['installed'])
    found_locked = 0
    for locked, content in memory_of(control.process.pid):
        found_locked += locked and content.count(installed)
        for name, one in keys.items():
            text, upper, raw, *_ = forms_of(one)
            assert text not in content and upper not in content, f'the {name} key as text'
            assert locked or raw not in content, f'the {name} key in memory that may be swapped'
            assert name == 'installed' or raw not in content, f'the {name} key is still there'
    assert found_locked == 1  # this search does find keys


def test_nobody_else_can_look(control):
    for path in control.store.parent.glob('control.db*'):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with open(f'/proc/{control.process.pid}/limits', encoding='ascii') as limits:
        core = next(line for line in limits if line.startswith('Max core file size'))
    assert core.split()[4:6] == ['0', '0']


# ---- events and metrics


def test_events_come_as_they_happen_and_again_for_who_missed_them(rest, control):
    stream = EventStream(control)
    rest.ok('PUT', '/v1/policy', document())
    seen = []
    while not any(kind == 'policy_applied' for _, kind, _ in seen):
        seen.append(stream.event())
    assert ('dataplane', 'snapshot') in [(data['source'], kind) for _, kind, data in seen]
    applied = seen[-1]
    assert applied[2]['operator'] == 'alice'
    stream.close()

    rest.ok('POST', '/v1/sas', sa('in', 0x1001, key()))  # nobody listens now
    again = EventStream(control, last_id=applied[0])
    missed = []
    while not any(kind == 'operator' for _, kind, _ in missed):
        missed.append(again.event())
    assert {data.get('sa') for _, _, data in missed} == {'in'}
    assert applied[0] not in [one[0] for one in missed]
    again.close()

    everything = rest.ok('GET', '/v1/events?follow=false')
    ids = [parse_event(block)[0] for block in everything.strip().split('\n\n')]
    assert ids == sorted(ids, key=lambda i: int(i.split('-')[1])) and applied[0] in ids
    other_run = EventStream(control, last_id='00000000-5')  # from before a restart: all of them
    assert other_run.event()[0] == ids[0]
    other_run.close()


def test_event_streams_are_bounded_and_give_their_place_back(control, rest):
    streams = [EventStream(control) for _ in range(16)]
    assert {one.status for one in streams} == {200}
    assert EventStream(control).status == 503
    streams.pop().close()

    def free():
        one = EventStream(control)
        one.close()
        return one.status == 200
    assert wait_until(free, 10)
    for one in streams:
        one.close()
    rest.ok('GET', '/healthz')


def test_metrics_are_prometheus_text(rest):
    rest.ok('PUT', '/v1/policy', document())
    rest.ok('POST', '/v1/sas', sa('in', 0x1001, key()))
    answer = rest.request('GET', '/metrics')
    assert answer.headers['Content-Type'] == 'text/plain; version=0.0.4; charset=utf-8'
    samples, typed = {}, set()
    for line in answer.content.decode().splitlines():
        if line.startswith('# TYPE '):
            name, kind = line.split()[2:]
            assert kind in ('counter', 'gauge') and (kind == 'gauge') != name.endswith('_total')
            assert name not in typed
            typed.add(name)
        elif not line.startswith('# HELP '):
            match = re.fullmatch(r'([a-z_]+)(\{([a-z_]+="[^"]*",?)+\})? (\d+)', line)
            assert match and match[1] in typed, line
            assert line.rpartition(' ')[0] not in samples
            samples[line.rpartition(' ')[0]] = int(match[4])
    assert samples['portcullis_in_sync'] == samples['portcullis_dataplane_connected'] == 1
    assert samples['portcullis_sas'] == 1
    assert samples['portcullis_port_up{port="wire",role="untrusted"}'] == 1
    verdicts = rest.ok('GET', '/v1/counters')['total']['verdicts']
    assert {f'portcullis_packets_total{{verdict="{v}"}}' for v in verdicts} <= set(samples)
    assert 'portcullis_worker_packets_total{worker="0",verdict="accepted"}' in samples


# ---- bounds


def test_connections_are_bounded_and_slow_ones_hold_up_nobody(control, rest):
    context = control.pki.context('bob')

    def open_one():
        with control.namespace.entered():
            plain = socket.create_connection(('127.0.0.1', control.port), timeout=10)
        try:
            tls = context.wrap_socket(plain, server_hostname='127.0.0.1')
            tls.sendall(b'GET /healthz HTT')  # and never the rest
            return tls
        except OSError:
            plain.close()
            return None
    slow = [open_one() for _ in range(100)]
    assert all(slow)
    rest.ok('GET', '/v1/status')
    more = [open_one() for _ in range(60)]
    assert None in more  # beyond the limit
    for one in filter(None, slow + more):
        one.close()
    fresh = Contract(control)
    assert wait_until(fresh.ready, 10)
    fresh.close()


def test_many_requests_on_one_connection(rest):
    rest.ok('GET', '/healthz')
    connection = rest.connection
    for _ in range(200):
        rest.ok('GET', '/healthz')
    assert rest.connection is connection


# ---- start-up


def fails_to_start(control, folder, change):
    """What a control says that refuses to start on a copy of a good configuration."""
    config = {**control.config, 'store': str(folder / 'control.db'),
              'rest': {**control.config['rest'], 'port': 8445}}
    change(config)
    path = folder / 'control.yaml'
    path.write_text(yaml.safe_dump(config), encoding='ascii')
    done = control.namespace.run([BIN / 'portcullis-control', '--config', path], check=False,
                                 timeout=20)
    assert done.returncode == 1
    return done.stderr


def test_what_is_wrong_at_the_start_is_said(control, tmp_path):
    open_key = tmp_path / 'open.key'
    open_key.write_bytes(control.pki.server[1].read_bytes())
    open_key.chmod(0o644)
    no_store = tmp_path / 'no.db'
    no_store.write_text('this is not a store', encoding='ascii')
    for change, says in [
            (lambda c: c.update(colour='red'), 'control.yaml:1: colour: unknown field'),
            (lambda c: c['rest'].update(key=str(open_key)), 'others may read this key'),
            (lambda c: c['rest'].update(key=str(control.pki.clients['bob'][1])), 'rest.key'),
            (lambda c: c['rest'].update(certificate='/nowhere.pem'), 'rest.certificate'),
            (lambda c: c['rest'].update(port=control.port), 'Address already in use'),
            (lambda c: c['rest'].update(address='example'), 'rest.address'),
            (lambda c: c.update(store=str(no_store)), 'not an SQLite file'),
            (lambda c: c.update(store=str(control.store)), 'database is locked')]:
        said = fails_to_start(control, tmp_path, change)
        assert says in said, said
    assert no_store.read_text(encoding='ascii') == 'this is not a store'
    assert os.path.exists(control.store)
