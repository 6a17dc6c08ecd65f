"""HTTP/2 to the guard, HTTP/1.1 behind it: requests at a time, bodies both ways, and what attackers
do with frames. Each refusal beside what passes."""

import http.client
import json
import ssl

import h2.errors
import hpack
import hyperframe.frame
import pytest

from http2_client import Http2Client
from netns import wait_until
from processes import Guard
from tunnel import GATE
from request_world import MERGE_PATCH, PORT, PROFILE, SLICE, RequestWorld

CALM = h2.errors.ErrorCodes.ENHANCE_YOUR_CALM


class World(RequestWorld):
    """Its bodies of PUT decide nothing, so that they are streamed."""

    def _configure(self, algorithm):
        self.profile = self.folder / PROFILE.name
        text = PROFILE.read_text(encoding='utf-8')
        put = '          only: [/id, /objectClass, /attributes]\n          same:\n' \
              '            - { member: /id, parameter: id }\n' \
              '            - { member: /objectClass, text: NetworkSlice }\n'
        assert put in text
        self.profile.write_text(text.replace(put, '', 1), encoding='utf-8')
        super()._configure(algorithm)


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    with World(tmp_path_factory.mktemp('http2')) as w:
        assert w.create('one') == 201
        yield w


@pytest.fixture
def reached(world):
    before = len(world.nsmf.requests())
    return lambda: len(world.nsmf.requests()) - before


@pytest.fixture
def client(world):
    with world.tls(world.csmf, ['h2']) as connection:
        assert connection.selected_alpn_protocol() == 'h2'
        yield Http2Client(connection)


@pytest.fixture
def bearer(world):
    return ('authorization', f'Bearer {world.api_token()}')


ONE = SLICE.format('one')


def refusals(world, reason):
    return world.rest.get('/v1/status')['guard']['refusals'].get(reason, 0)


def body_of(name):
    return json.dumps({'id': name, 'objectClass': 'NetworkSlice',
                       'attributes': {'userLabel': name}}).encode()


def test_a_slice_lives_and_goes(client, bearer, reached):
    path, kind = SLICE.format('two'), ('content-type', 'application/json')
    created = client.answer(client.begin('PUT', path, [bearer, kind], body_of('two')))
    assert created[':status'] == '201'
    answer = client.answer(client.begin('GET', path, [bearer]))
    assert answer[':status'] == '200' and json.loads(answer['body'])['attributes']['userLabel'] == 'two'
    patch = json.dumps({'attributes': {'administrativeState': 'UNLOCKED'}}).encode()
    assert client.ask('PATCH', path, [bearer, ('content-type', MERGE_PATCH)], patch) == 200
    assert client.ask('DELETE', path, [bearer]) == 204
    assert reached() == 4


def test_refusals_are_those_of_http1(client, bearer, reached):
    unlisted = client.answer(client.begin('GET', '/nobody/knows', [bearer]))
    assert unlisted[':status'] == '404' and 'reference' in json.loads(unlisted['body'])
    nobody = client.answer(client.begin('GET', ONE))
    assert nobody[':status'] == '401' and nobody['www-authenticate'].startswith('Bearer')
    assert client.ask('GET', ONE, [bearer]) == 200
    assert reached() == 1


def test_many_at_a_time_on_one_connection(client, bearer, reached):
    streams = [client.begin('GET', ONE, [bearer]) for _ in range(90)]
    assert [client.answer(one)[':status'] for one in streams] == ['200'] * 90
    assert reached() == 90


def test_who_knows_only_http1_is_served_as_before(world):
    with world.tls(world.csmf, ['http/1.1']) as connection:
        assert connection.selected_alpn_protocol() == 'http/1.1'
    with pytest.raises(ssl.SSLError, match='NO_APPLICATION_PROTOCOL|no application protocol'):
        world.tls(world.csmf, ['spdy/3'])
    connection = http.client.HTTPSConnection(Guard.NAME, PORT)
    connection.sock = world.tls(world.csmf)
    assert world.ask('GET', ONE, connection=connection)[0] == 200


@pytest.mark.parametrize('command', [
    ['curl', '--silent', '--show-error', '--http2', '--output', '/dev/null', '--write-out',
     '%{http_version} %{response_code}', '--cacert', 'CA', '--cert', 'CERT', '--key', 'KEY', '--resolve',
     'NAME:PORT:GATE', '--header', 'AUTH', 'https://NAME:PORTPATH'],
    ['nghttp', '--null-out', '--stat', '--no-verify-peer', '--cert=CERT', '--key=KEY', '--header=AUTH',
     'https://GATE:PORTPATH']], ids=['curl', 'nghttp'])
def test_clients_that_people_have(world, bearer, command):
    words = {'CA': world.peers.ca.certificate_file, 'CERT': world.csmf.certificate_file,
             'KEY': world.csmf.key_file, 'NAME': Guard.NAME, 'PORT': PORT, 'GATE': GATE,
             'AUTH': ': '.join(bearer), 'PATH': ONE}
    for word, value in words.items():
        command = [c if c.startswith('--') and '=' not in c else c.replace(word, str(value))
                   for c in command]
    out = world.peer.run(command)
    assert ('2 200' if command[0] == 'curl' else ' 200 ') in out


def test_bodies_pass_in_pieces_and_no_faster_than_they_are_taken(client, bearer, reached):
    name = SLICE.format('large')
    label = 'x' * 900_000  # the NSMF takes 1 MiB
    data = json.dumps({'id': 'large', 'objectClass': 'NetworkSlice',
                       'attributes': {'userLabel': label}}).encode()
    stream = client.begin('PUT', name, [bearer, ('content-type', 'application/json')], end=False)
    while data:
        room = min(client.h2.local_flow_control_window(stream), 16384, len(data))
        if room == 0:
            assert client.receive()
            continue
        client.h2.send_data(stream, data[:room], end_stream=room == len(data))
        client.flush()
        data = data[room:]
    assert client.answer(stream)[':status'] == '201'
    back = client.answer(client.begin('GET', name, [bearer]))
    assert json.loads(back['body'])['attributes']['userLabel'] == label
    assert client.ask('DELETE', name, [bearer]) == 204
    assert reached() == 3


def test_a_server_that_answers_before_it_has_all_of_a_body_is_believed(world, reached):
    status, headers, _ = world.ask('PUT', SLICE.format('larger'), {'attributes': 'x' * (2 << 20)})
    assert (status, headers['Connection']) == (413, 'close')
    assert world.ask('GET', ONE)[0] == 200
    assert reached() == 2


@pytest.mark.parametrize('headers', [
    [('transfer-encoding', 'chunked')], [('connection', 'close')], [('content-length', '7')],
    [('content-length', '0'), ('content-length', '0')], [('x-a', 'b\r\nHost: c')], [('x-a', 'b\nc')],
    [('x-a', 'b\0c')], [('x_a', 'b')], [('X-A', 'b')], [('x a', 'b')], [('host', 'another')],
    [('te', 'gzip')], [('x-http-method-override', 'DELETE')], [('upgrade', 'h2c')],
    [('x', 'y')] * 101, [('x', 'y' * 40_000)]],
    ids=lambda headers: repr(headers[0])[:40])
def test_heads_that_have_two_meanings_behind_the_gate_go_nowhere(world, client, bearer, reached, headers):
    assert client.ask('GET', ONE, [bearer, *headers]) in (400, None)
    assert reached() == 0
    with world.tls(world.csmf, ['h2']) as connection:
        again = Http2Client(connection)
        assert again.ask('GET', ONE, [bearer, ('x-a', 'b'), ('te', 'trailers')]) == 200
    assert reached() == 1


@pytest.mark.parametrize('pseudo', [
    {':method': 'GET\r\nX: y'}, {':method': 'GET /evil HTTP/1.1\r\nX'}, {':path': f'{ONE} HTTP/1.1\r\nX: y'},
    {':path': ''}, {':path': None}, {':path': '*'}, {':path': f'https://gate{ONE}'}, {':path': f'{ONE}/../x'},
    {':path': f'/{ONE}'}, {':authority': 'a\r\nX: y'}, {':authority': ''}, {':scheme': None},
    {':method': 'CONNECT'}, {':protocol': 'websocket'}, {':method': 'get'}], ids=repr)
def test_pseudo_fields_are_no_way_around(client, bearer, reached, pseudo):
    head = {':method': 'GET', ':scheme': 'https', ':authority': 'gate', ':path': ONE}
    assert client.ask('', '', [bearer], pseudo=list(head.items())) == 200
    head |= pseudo
    head = [(name, value) for name, value in head.items() if value is not None]
    assert client.ask('', '', [bearer], pseudo=head) in (400, 403, 404, 405, None)
    assert reached() == 1


def test_trailers_go_nowhere(client, bearer, world, reached):
    stream = client.begin('PATCH', ONE, [bearer, ('content-type', MERGE_PATCH)], end=False)
    client.h2.send_data(stream, b'{"attributes":{"userLabel":"a"}}')
    client.h2.send_headers(stream, [('x-http-method-override', 'DELETE')], end_stream=True)
    client.flush()
    assert client.answer(stream)[':status'] == '200'
    assert reached() == 1
    assert 'override' not in str(world.nsmf.requests()[-1]).lower()


def test_cookies_are_put_together_again(client, bearer, world):
    assert client.ask('GET', ONE, [bearer, ('cookie', 'a=1'), ('cookie', 'b=2')]) == 200
    assert dict(world.nsmf.requests()[-1]['headers'])['Cookie'] == 'a=1; b=2'


def test_rapid_reset_ends_the_connection(world, client, bearer):
    """CVE-2023-44487."""
    before = refusals(world, 'request_malformed')
    for _ in range(20):
        client.h2.reset_stream(client.begin('GET', ONE, [bearer]))
        client.flush()
    assert client.ask('GET', ONE, [bearer]) == 200  # some change their mind
    try:
        for _ in range(400):
            client.h2.reset_stream(client.begin('GET', ONE, [bearer]))
            client.flush()
    except (OSError, h2.exceptions.ProtocolError):
        pass  # it has been closed
    assert client.until_closed() not in (None, h2.errors.ErrorCodes.NO_ERROR)
    assert wait_until(lambda: refusals(world, 'request_malformed') > before)


def raw(client, *frames):
    """False: the gate has closed the connection."""
    try:
        for frame in frames:
            client.socket.sendall(frame.serialize())
    except OSError:
        return False
    return True


def until_closed(connection):
    """What h2 would answer may not stand between the pieces of a head."""
    connection.settimeout(30)
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        pass


def heads(bearer, *more):
    return hpack.Encoder().encode([(':method', 'GET'), (':scheme', 'https'), (':authority', 'gate'),
                                   (':path', ONE), bearer, *more])


def in_pieces(block, pieces, end=True):
    frames = [hyperframe.frame.HeadersFrame(1, block[:1], flags=['END_STREAM'])]
    size = max(1, len(block) // pieces)
    frames += [hyperframe.frame.ContinuationFrame(1, block[at:at + size])
               for at in range(1, len(block), size)]
    if end:
        frames[-1].flags.add('END_HEADERS')
    return frames


def test_continuation_flood_ends_the_connection(world, bearer, reached):
    """CVE-2024-28182: a head that never ends."""
    with world.tls(world.csmf, ['h2']) as connection:
        client = Http2Client(connection)
        assert raw(client, *in_pieces(heads(bearer), 4))
        assert wait_until(lambda: reached() == 1)
    with world.tls(world.csmf, ['h2']) as connection:
        client = Http2Client(connection)
        raw(client, *in_pieces(heads(bearer), 200, end=False))
        until_closed(connection)
    assert reached() == 1


@pytest.mark.parametrize('frame', [
    hyperframe.frame.PingFrame(0, b'12345678'), hyperframe.frame.SettingsFrame(0),
    hyperframe.frame.PriorityFrame(1, depends_on=0, stream_weight=1),
    hyperframe.frame.WindowUpdateFrame(0, 1)], ids=lambda frame: type(frame).__name__)
def test_frames_that_ask_for_nothing_are_bounded(world, client, bearer, frame):
    assert raw(client, *[frame] * 50)
    assert client.ask('GET', ONE, [bearer]) == 200
    before = refusals(world, 'request_malformed')
    block = frame.serialize() * 4000
    client.socket.settimeout(30)
    try:
        for _ in range(400):
            client.socket.sendall(block)
    except OSError:
        pass
    else:
        pytest.fail('1.6 million frames were taken')
    assert wait_until(lambda: refusals(world, 'request_malformed') > before)


def test_a_head_that_does_not_end_in_time_ends_the_connection(world, client, bearer):
    before = refusals(world, 'handshake_timeout')
    raw(client, *in_pieces(heads(bearer), 4, end=False))
    until_closed(client.socket)
    assert wait_until(lambda: refusals(world, 'handshake_timeout') > before)


def test_what_is_no_http2_is_refused(world):
    before = refusals(world, 'request_malformed')
    with world.tls(world.csmf, ['h2']) as connection:
        connection.sendall(b'GET / HTTP/1.1\r\nHost: gate\r\n\r\n')
        until_closed(connection)
    assert wait_until(lambda: refusals(world, 'request_malformed') > before)
