"""Smuggling and path variants through the guard: what was authorised and what the server received are the
same, octet for octet, or nothing was received. 1,000 to each of two servers here; `./run check` sends 24,000
(PORTCULLIS_CORPUS). Two servers that read for themselves: one of ours that takes offence at everything
(corpus/strict.py), and nginx, which normalises paths and is as lenient as servers are."""

import json
import sys
import time

import pytest

import corpus
from corpus import agreement, recorder, sending, strict
from corpus.message import MERGE_PATCH, put, rename, request, slice_path
from corpus.sending import COUNT, SEED, SETTLED, enough, fill, none_of
from netns import wait_until
from nginx import Nginx, mutual_tls
from processes import Guard, Process
from request_gate import HOST, OPERATIONS, ROOT, RequestGate

LONGEST = 4 * 3600  # seconds that the tokens last
SERVERS = {'api-recorder': 8501, 'api-nginx': 8502}
NGINX = '''
log_format seen escape=json '{{"request":"$request","method":"$request_method","uri":"$uri",'
  '"status":$status,"client":"$http_portcullis_client","mark":"$http_x_variant"}}';
map $request_method $answer {{ default 200; POST 201; DELETE 409; }}
map "$request_method $http_if_none_match" $made {{ default 0; "PUT *" 1; }}
server {{
  listen {address}:{port} ssl;
  {tls}
  access_log {log} seen;
  keepalive_requests 1000000;
  location / {{
    add_header Location $uri/$request_id always;
    if ($made) {{ return 201 "{{}}"; }}
    if ($answer = 201) {{ return 201 "{{}}"; }}
    if ($answer = 409) {{ return 409 "{{}}"; }}
    return 200 "{{}}";
  }}
}}
'''


class World(RequestGate):
    """Behind one interface the recorder, behind the other nginx. The tenant's slices are there, and one
    of another tenant's."""

    def __init__(self, folder):
        super().__init__(folder, SERVERS)
        self.record, self.log = folder / 'recorded', folder / 'nginx.seen'
        own = self.server_credential
        script = ROOT / 'tests/system/corpus/recorder.py'
        self.recorder = Process(self.host, [
            sys.executable, '-B', script, '--address', HOST, '--port', SERVERS['api-recorder'],
            '--record', self.record, '--tls', own.certificate_file, own.key_file,
            self.peers.ca.certificate_file], folder / 'recorder.log')
        self.nginx = Nginx(self.host, folder / 'nginx', NGINX.format(
            address=HOST, port=SERVERS['api-nginx'], log=self.log,
            tls=mutual_tls(own, self.peers.ca)), (HOST, SERVERS['api-nginx']))
        self.recorder.launch()
        self.recorder.require(lambda: 'listening' in self.recorder.log.read_text(), 'listening')
        self.nginx.start()
        # All but deletion, which is what hides in many of them.
        granted = [operation for operation in OPERATIONS if operation != 'nsi:delete']
        until = int(time.time()) + LONGEST
        self.tokens = {name: self.token(name, *granted, exp=until) for name in SERVERS}
        self.contexts = self.context(), self.context(self.other)
        for name in SERVERS:
            self.wait_until_open(name)
            fill(self, name, self.tokens[name])

    def send(self, name, records, context=None):
        return sending.send(self.host, (HOST, self.port(name)), context or self.contexts[0], Guard.NAME,
                            records)

    def seen_by_nginx(self):
        text = self.log.read_text(encoding='utf-8', errors='surrogateescape')
        return [json.loads(line) for line in text.splitlines()]

    def disagreements(self, name, compare):
        """`compare` is given what was authorised and says what does not fit. What is read only is
        recorded a while after it was done; whatever is wrong then stays wrong."""
        wrong = []

        def agreed():
            wrong[:] = compare(agreement.authorised(self.records(), name))
            return not wrong
        wait_until(agreed, SETTLED, interval=1)
        return wrong


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    with World(tmp_path_factory.mktemp('corpus')) as world:
        yield world


def all_sent(world, name):
    variants = corpus.variants(SEED, COUNT, world.tokens[name])
    return sending.all_sent(variants, lambda records: world.send(name, records))


def test_a_recorder_receives_what_was_authorised(world):
    sent, statuses = all_sent(world, 'api-recorder')
    connections = recorder.loaded(world.record)
    wrong = world.disagreements('api-recorder', lambda known: agreement.with_records(
        connections, known, sent))
    none_of(wrong)
    assert not any(request.method == 'DELETE' for octets in connections.values()
                   for request in strict.requests(octets))
    enough(statuses)


def test_nginx_receives_what_was_authorised(world):
    _, statuses = all_sent(world, 'api-nginx')
    lines = world.seen_by_nginx()
    wrong = world.disagreements('api-nginx', lambda known: agreement.with_log(lines, known))
    none_of(wrong)
    enough(statuses)


# ---- whoever compares would notice

def smuggle(octets):
    return octets + b'GET /ProvMnS/v1/SubNetwork=1/NetworkSlice=foreign HTTP/1.1\r\nHost: x\r\n\r\n'


def again(octets):
    """A request a second time, with the same voucher."""
    return octets[:strict.first(octets)[1]] + octets


def in_place(old, new):
    def change(octets):
        assert old in octets
        return octets.replace(old, new, 1)
    return change


PLANTED = {  # what else a server could receive, of PUT own-1 and PATCH own-1 to LOCKED on one connection
    'another path': in_place(b'NetworkSlice=own-1 ', b'NetworkSlice=own-2 '),
    'a path of another spelling': in_place(b'/SubNetwork=1/', b'/SubNetwork=1//'),
    'another method': in_place(b'PATCH ', b'PUT '),
    'another operation': in_place(b'"LOCKED"', b'"UNLOCKED"'),
    'a fenced member': in_place(b'administrativeState":', b'networkSliceSubnetRef":'),
    'a member twice': in_place(b'{"administrativeState"', b'{"administrativeState":"X","administrativeState"'),
    'one more': smuggle,
    'one twice': again,
    'one less': lambda octets: octets[strict.first(octets)[1]:],
    'half of one': lambda octets: octets[:-3],
    'a folded line': in_place(b'\r\nX-Variant', b'\r\n X-Variant'),
    'a bare line feed': in_place(b'\r\nX-Variant', b'\nX-Variant'),
    'both lengths': in_place(b'X-Variant: planted', b'Transfer-Encoding: chunked'),
    'another tenant': in_place(b'tenant="operator-a"', b'tenant="operator-b"'),
    'a voucher that nobody gave': in_place(b'request="', b'request="0123456789abcdef'[:-1]),
    'octets behind': lambda octets: octets + b'\r\n'}


@pytest.fixture(scope='module')
def pair(world):
    """(what the recorder received of two requests, what was authorised)"""
    before = recorder.loaded(world.record)
    token = world.tokens['api-recorder']
    body = {'attributes': {'administrativeState': 'LOCKED'}}
    two = put(1, token, 'planted').render() + request('PATCH', slice_path(1), token, 'planted', body,
                                                      MERGE_PATCH).render()
    assert world.send('api-recorder', [two]) == [200, 200]
    after = recorder.loaded(world.record)
    octets, = [after[number].removeprefix(before.get(number, b'')) for number in after
               if after[number] != before.get(number)]
    references = {one.only('portcullis-client')[-17:-1] for one in strict.requests(octets)}
    known = {}

    def recorded():
        known.update({reference: one for reference, one in agreement.authorised(
            world.records(), 'api-recorder').items() if reference in references})
        return len(known) == 2 and all('done' in one.outcomes for one in known.values())
    assert wait_until(recorded, SETTLED)
    return octets, known


@pytest.mark.parametrize('planted', PLANTED)
def test_a_planted_disagreement_is_found(pair, planted):
    octets, known = pair
    assert not agreement.with_records({1: octets}, known)
    assert agreement.with_records({1: PLANTED[planted](octets)}, known)


def test_a_target_that_was_never_sent_is_found(pair):
    octets, known = pair
    octets = octets.replace(b'X-Variant: planted', b'X-Variant: 7')
    sent = put(1, 't', '7').render() + b'PATCH ' + slice_path(1).encode() + b' HTTP/1.1\r\n'
    assert not agreement.with_records({1: octets}, known, {7: sent})
    assert agreement.with_records({1: octets}, known, {7: sent.replace(b'own-1', b'own-%31')})


@pytest.fixture(scope='module')
def line(world):
    """(what nginx wrote about a request, what was authorised)"""
    wanted = request('GET', slice_path(1), world.tokens['api-nginx'], 'planted')
    assert world.send('api-nginx', [wanted.render()]) == [200]
    line = world.seen_by_nginx()[-1]
    reference = agreement.CLIENT.fullmatch(line['client'])[4]
    known = {}

    def recorded():
        known.update(agreement.authorised(world.records(), 'api-nginx'))
        return reference in known
    assert wait_until(recorded, SETTLED)
    return line, {reference: known[reference]}


@pytest.mark.parametrize('member, old, new', [
    ('uri', 'own-1', 'own-2'), ('uri', 'own-1', 'own-%31'), ('method', 'GET', 'PUT'), ('client', 'peer', 'x'),
    ('request', '=1/', '=1/./'), ('request', 'HTTP/1.1', 'HTTP/1.0'), ('client', 'request="', 'request="0')])
def test_what_nginx_takes_for_something_else_is_found(line, member, old, new):
    seen, known = line
    assert not agreement.with_log([seen], known)
    assert agreement.with_log([{**seen, member: seen[member].replace(old, new)}], known)


def test_nginx_with_one_too_many_or_too_few_is_found(line):
    seen, known = line
    assert agreement.with_log([seen, seen], known)
    assert agreement.with_log([], known)


# ---- what the corpus has found

def test_a_head_that_is_too_large_is_answered(world):
    big = request('GET', slice_path(1), world.tokens['api-recorder'], 'big')
    for size, status in ((30_000, 200), (40_000, 400)):
        big.set('X-Big', 'x' * size)
        assert world.send('api-recorder', [big.render()]) == [status]


def test_a_long_path_is_recorded_whole(world):
    """What is recorded of two paths that differ only at their end must differ."""
    paths = {f'/PerfMeasJobCtrlMnS/{"x" * 1200}{end}/measJobs' for end in 'ab'}
    for path in paths:
        octets = request('GET', path, world.tokens['api-recorder'], 'long').render()
        assert world.send('api-recorder', [octets]) == [200]
    assert wait_until(lambda: paths <= {one.path for one in agreement.authorised(
        world.records(), 'api-recorder').values()}, SETTLED)


def test_what_a_body_is_stays_with_it(world):
    """`Connection: Content-Type` would have the server read a body otherwise than it was judged."""
    message = rename(1, world.tokens['api-recorder'], 'named')
    for named, status in (('Content-Type', 400), ('x, content-type', 400), ('Content-Encoding', 400),
                          ('X-Variant', 200)):
        message.set('Connection', named)
        assert world.send('api-recorder', [message.render()]) == [status], named


def test_who_breaks_off_within_a_body_is_not_waited_for(world):
    cut = put(1, world.tokens['api-nginx'], 'cut').render()[:-3]
    began = time.monotonic()
    for _ in range(5):
        assert world.send('api-nginx', [cut]) == [400]
    assert time.monotonic() - began < 5  # a farewell that waits takes two seconds
