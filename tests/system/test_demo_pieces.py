"""What the demo is made of, each piece alone: its NSMF, its certificates, its wire."""

import contextlib
import http.client
import json
import socket
import ssl
import threading
import types

import pytest

import apis
import attacks
import entrance
import lab
import nsmf
import small_server
from netns import Namespaces
from processes import Pki, Wire
from scapy_esp import Sa, frame, udp
from session_peer import SessionError

SLICE = '/ProvMnS/v1/SubNetwork=1/NetworkSlice=s1'


@contextlib.contextmanager
def calling(handler, kept):
    """A function that asks a server of this kind: status and JSON."""
    server = small_server.Server(('127.0.0.1', 0), handler, kept)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    connection = http.client.HTTPConnection('127.0.0.1', server.server_port, timeout=10)

    def request(method, path, body=None, kind='application/json'):
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body)
        connection.request(method, path, data, {'Content-Type': kind})
        response = connection.getresponse()
        content = response.read()
        return response.status, json.loads(content) if content else None

    try:
        yield request
    finally:
        connection.close()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def call():
    with calling(nsmf.Handler, nsmf.Slices()) as request:
        yield request


def test_a_slice_lives_from_put_to_delete(call):
    assert call('GET', SLICE)[0] == 404
    assert call('PUT', SLICE, {'attributes': {'userLabel': 'gold'}})[0] == 201
    status, body = call('GET', SLICE)
    assert status == 200
    assert body['id'] == 's1'
    assert body['attributes'] == {'userLabel': 'gold', 'administrativeState': 'UNLOCKED',
                                  'operationalState': 'ENABLED'}
    assert call('PUT', SLICE, {'attributes': {'userLabel': 'silver'}})[0] == 200
    assert call('GET', SLICE)[1]['attributes']['userLabel'] == 'silver'
    assert call('DELETE', SLICE)[0] == 204
    assert call('DELETE', SLICE)[0] == 404
    assert call('GET', SLICE)[0] == 404


@pytest.mark.parametrize('kind', nsmf.MERGE_PATCH)
def test_merge_patch(call, kind):
    call('PUT', SLICE, {'attributes': {'userLabel': 'gold', 'latency': 5}})
    status, body = call('PATCH', SLICE, {'attributes': {'administrativeState': 'LOCKED',
                                                        'latency': None}}, kind)
    assert status == 200
    assert body['attributes'] == {'userLabel': 'gold', 'administrativeState': 'LOCKED',
                                  'operationalState': 'ENABLED'}


@pytest.mark.parametrize('kind', nsmf.JSON_PATCH)
def test_json_patch(call, kind):
    call('PUT', SLICE, {'attributes': {'latency': 5}})
    steps = [{'op': 'test', 'path': '/attributes/latency', 'value': 5},
             {'op': 'replace', 'path': '/attributes/administrativeState', 'value': 'LOCKED'},
             {'op': 'add', 'path': '#/attributes/userLabel', 'value': 'x'},
             {'op': 'remove', 'path': '/attributes/latency'}]
    status, body = call('PATCH', SLICE, steps, kind)
    assert status == 200
    assert body['attributes'] == {'administrativeState': 'LOCKED', 'userLabel': 'x',
                                  'operationalState': 'ENABLED'}


def test_a_patch_is_applied_whole_or_not(call):
    call('PUT', SLICE, {'attributes': {'latency': 5}})
    steps = [{'op': 'replace', 'path': '/attributes/latency', 'value': 9},
             {'op': 'test', 'path': '/attributes/latency', 'value': 5}]
    assert call('PATCH', SLICE, steps, nsmf.JSON_PATCH[0])[0] == 409
    assert call('GET', SLICE)[1]['attributes']['latency'] == 5
    broken = {'attributes': {'administrativeState': 'AJAR'}}
    assert call('PATCH', SLICE, broken, nsmf.MERGE_PATCH[0])[0] == 400
    assert call('PATCH', SLICE, broken, 'text/plain')[0] == 415
    assert call('GET', SLICE)[1]['attributes']['administrativeState'] == 'UNLOCKED'


def test_listing_shows_what_is_below(call):
    for name in ('a', 'b'):
        call('PUT', f'/ProvMnS/v1/SubNetwork=1/NetworkSlice={name}', {})
    call('PUT', '/ProvMnS/v1/SubNetwork=2/NetworkSlice=c', {})
    status, body = call('GET', '/ProvMnS/v1/SubNetwork=1?scopeType=BASE_ALL')
    assert status == 200
    assert [item['id'] for item in body] == ['a', 'b']


def test_a_service_profile_becomes_a_slice(call):
    status, body = call('POST', '/NSProvMnS/v1/ServiceProfiles', {'maxNumberofUEs': 100})
    assert status == 201
    where = '/ProvMnS/v1/' + body['networkSlice']
    profile = call('GET', where)[1]['attributes']['serviceProfileList'][0]
    assert profile == {'maxNumberofUEs': 100, 'serviceProfileId': body['serviceProfileId']}
    assert call('GET', '/NSProvMnS/v1/ServiceProfiles')[1] == [body]
    path = '/NSProvMnS/v1/ServiceProfiles/' + body['serviceProfileId']
    assert call('DELETE', path)[0] == 204
    assert call('DELETE', path)[0] == 404
    assert call('GET', where)[0] == 404


@pytest.mark.parametrize('method, path, body, status', [
    ('GET', '/', None, 404),
    ('GET', '/ProvMnS/v1/', None, 404),
    ('POST', SLICE, {}, 405),
    ('PUT', '/ProvMnS/v1/SubNetwork=1', {}, 404),
    ('PUT', SLICE, {'attributes': 7}, 400),
    ('PUT', SLICE, b'{"attributes": ', 400),
    ('POST', '/NSProvMnS/v1/ServiceProfiles', [], 400),
])
def test_what_the_nsmf_refuses(call, method, path, body, status):
    assert call(method, path, body)[0] == status
    assert call('PUT', '/ProvMnS/v1/SubNetwork=1/NetworkSlice=other', {})[0] == 201


@pytest.mark.parametrize('api, collection', [
    ('scef', '/3gpp-monitoring-event/v1/as-1/subscriptions'),
    ('msgin5g', '/msgs-gwregistration/v1/registrations'), ('nfvo', '/nsd/v2/ns_descriptors')])
def test_what_is_posted_to_a_collection_is_kept(api, collection):
    with calling(apis.Handler, apis.Resources(api)) as request:
        assert request('GET', collection) == (200, [])
        status, made = request('POST', collection, {'x': 1})
        assert (status, made['x']) == (201, 1)
        assert request('GET', made['self']) == (200, made)
        assert request('PUT', made['self'], {'x': 2})[0] == 200
        assert request('GET', collection) == (200, [{**made, 'x': 2}])
        assert request('DELETE', made['self'])[0] == 204
        assert request('GET', made['self'])[0] == 404
        assert request('POST', '/elsewhere', {})[0] == 404


def test_a_lifecycle_task_starts_an_operation():
    with calling(apis.Handler, apis.Resources('nfvo')) as request:
        _, made = request('POST', '/nslcm/v2/ns_instances', {})
        assert request('POST', f'{made["self"]}/terminate', {})[0] == 202
        assert request('POST', f'{made["self"]}/explode', {})[0] == 404
        (started,) = request('GET', apis.OPERATIONS)[1]
        assert started.items() >= {'nsInstanceId': made['id'], 'lcmOperationType': 'TERMINATE'}.items()


def handshake(server_context, client_context):
    """True when both sides are content."""
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    theirs.settimeout(10)
    outcome = []

    def serve():
        try:
            with server_context.wrap_socket(ours, server_side=True) as tls:
                tls.sendall(tls.recv(1))
            outcome.append(True)
        except OSError:
            outcome.append(False)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client_context.wrap_socket(theirs, server_hostname='localhost') as tls:
            tls.sendall(b'x')
            tls.recv(1)
    except OSError:
        pass
    thread.join()
    return outcome[0]


def test_certificates_fit_and_strangers_do_not(tmp_path):
    pki, stranger = Pki(tmp_path / 'ours'), Pki(tmp_path / 'theirs')
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*map(str, pki.server))
    server.load_verify_locations(str(pki.ca))
    server.verify_mode = ssl.CERT_REQUIRED
    for operator in ('alice', 'bob'):
        assert handshake(server, pki.context(operator))
    wrong = ssl.create_default_context(cafile=str(pki.ca))
    wrong.load_cert_chain(*map(str, stranger.clients['alice']))
    assert not handshake(server, wrong)
    # A server's certificate is no operator's.
    serving = ssl.create_default_context(cafile=str(pki.ca))
    serving.load_cert_chain(*map(str, pki.server))
    assert not handshake(server, serving)


def test_the_wire_sends_and_records():
    with Namespaces('wire') as world:
        here, there = world.add('here'), world.add('there')
        world.veth(here, 'w0', there, 'w0')
        frame = bytes.fromhex('ffffffffffff020000000001') + b'\x08\0' + bytes(range(50))
        with Wire(here, 'w0') as sender, Wire(there, 'w0') as receiver:
            for number in range(500):
                sender.send(frame + number.to_bytes(2, 'big'))
            receiver.settle()
            assert receiver.frames == [frame + n.to_bytes(2, 'big') for n in range(500)]
            assert receiver.dropped() == 0
            assert sender.count() == 0  # what is sent is not what is received


class CarelessGate:
    """Stands in for the laboratory: a gate that gives every packet the same verdict."""

    def __init__(self, verdict, passes):
        self.verdict, self.passes = verdict, passes
        self.csmf_spi = 0x1001
        self.said, self.reached = 0, 0
        csmf = Sa(0x1001, lab.CSMF[1], lab.GATE)
        history = [frame(csmf.packet(udp(lab.CSMF[2], lab.NSMF, 1, 1)), *['02:00:00:00:00:01'] * 2)
                   for _ in range(3 * lab.WINDOW)]
        self.gate = types.SimpleNamespace(mac=lambda _: '02:00:00:00:00:01')
        self.wire_to_gate = types.SimpleNamespace(send=self.take)
        self.wire_from_csmf = types.SimpleNamespace(frames=history)
        self.counter = types.SimpleNamespace(settle=lambda: None, count=lambda: self.reached)
        self.rest = types.SimpleNamespace(verdicts=lambda: {verdict: self.said})
        self.keys = {who: Sa(spi, who[1], lab.GATE)
                     for spi, who in ((0x1002, lab.INSIDER), (0x1003, lab.FLOODER))}

    def take(self, _):
        self.said += 1
        self.reached += self.passes


@pytest.mark.parametrize('verdict, passes', [
    ('accepted', True),        # lets everything through
    ('xdp_cleartext_denied', True),  # says that it refuses, and does not
    ('accepted', False),       # says that it accepts, and does not
    ('auth_failed', False),    # refuses everything
    ('rate_limited', False)])
def test_the_demo_is_not_content_with_a_careless_gate(monkeypatch, verdict, passes):
    monkeypatch.setattr(attacks, 'GAP_SECONDS', 0)
    monkeypatch.setattr(attacks, 'FLOOD_PACKETS', 200)
    outcomes = list(attacks.cases(attacks.Attacker(CarelessGate(verdict, passes))))
    assert len(outcomes) == 11
    bad = {name for name, outcome in outcomes if not outcome.ok}
    if passes or verdict == 'accepted':
        assert len(bad) >= 8, 'each attack that came through is NOT OK'
    assert 'flood above its rate' in bad
    assert ('  its twin' in bad) == (verdict != 'accepted' or not passes)


class CarelessGuard:
    """Stands in for the laboratory: a guard that gives everybody the same answer."""

    def __init__(self, folder, reason, admits, leaks):
        self.folder, self.reason, self.admits, self.leaks = folder, reason, admits, leaks
        log = folder / 'guard.log'
        log.touch()
        self.sas = 0
        self.enrolment = types.SimpleNamespace(guard=types.SimpleNamespace(log=log))
        self.gate = types.SimpleNamespace(mac=lambda _: '02:00:00:00:00:01')
        self.counter = types.SimpleNamespace(settle=lambda: None, count=lambda: 0)
        self.rest = types.SimpleNamespace(get=lambda _: {'items': [{'id': n} for n in
                                                                   range(self.sas)]})

    def knock(self):
        self.sas += self.leaks
        if not self.admits:
            with self.enrolment.guard.log.open('a') as log:
                log.write(f'[info] refused 192.0.2.2 (0011aabb): {self.reason}: ...\n')
            raise SessionError(403, {})


@pytest.mark.parametrize('reason, admits, leaks, ok', [
    ('policy_denied', False, False, True),
    ('policy_denied', False, True, False),   # refuses, and lets in all the same
    ('tls_failed', False, False, False),     # refuses for another reason
    ('policy_denied', True, True, False)])   # lets everybody in
def test_the_demo_is_not_content_with_a_careless_guard(monkeypatch, tmp_path, reason, admits, leaks,
                                                       ok):
    monkeypatch.setattr(entrance, 'LOG_SECONDS', 0.1)
    gate = CarelessGuard(tmp_path, reason, admits, leaks)
    outcome, _ = entrance.Entrance(gate).refusal('somebody', 'policy_denied', gate.knock)
    assert outcome.ok == ok


def test_early_data_is_announced_in_an_otherwise_unchanged_client_hello():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    out = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), out)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    hello = out.read()
    changed = entrance.with_early_data(hello)
    assert len(changed) == len(hello) + 4
    assert int.from_bytes(changed[3:5], 'big') == len(changed) - 5
    assert int.from_bytes(changed[6:9], 'big') == len(changed) - 9
    at = changed.index(bytes.fromhex('002a0000'))
    assert int.from_bytes(changed[at - 2:at], 'big') == len(changed) - at
    assert changed[9:at - 2] == hello[9:at - 2] and changed[at + 4:] == hello[at:]
