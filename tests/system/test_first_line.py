"""The first line of defence on ports that XDP guards: what goes in over REST drops packets before the
dataplane sees them, each time beside the same packet that passes.

    peer (and whoever else lives on that wire)       gate                        server
    192.0.2.2, .3, .4   wire0 ═════════════════ wire0 192.0.2.1
                                                      core0 10.2.0.1 ═════ srv0 10.2.0.10
"""

import contextlib
import errno
import json
import re
import select
import socket
import subprocess
import time

import pytest

from netns import wait_until
from processes import BIN, RestError
from rest_contract import validate
from scapy_esp import Sa
from test_cli import environment
from test_traffic import exactly_once
from tunnel import (CLIENT, GATE, PEER, SERVER, Repeat, Tunnel, number_of, numbered, peer_body,
                    policy_body, sa_body)

STRANGER, OTHER = '192.0.2.3', '192.0.2.4'
SESSIONS = 4433  # the guard's port: here a socket listens where it would
SERVICES = [{'protocol': 'tcp', 'first': SESSIONS, 'last': SESSIONS}]
UNKNOWN = 0xdead0007


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    with Tunnel(tmp_path_factory.mktemp('first')) as tunnel:
        for address in (STRANGER, OTHER):
            tunnel.peer.address('wire0', f'{address}/32')
        with tunnel.gate.entered():
            for port in (SESSIONS, 5555):
                listener = socket.create_server(('0.0.0.0', port), backlog=256)
                tunnel.closing.append(listener.close)
        with tunnel.server.entered():  # for cleartext; a kernel without it would answer by ICMP
            sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sink.bind((SERVER, 5001))
            tunnel.closing.append(sink.close)
        assert tunnel.passes(), tunnel.dataplane.log_tail()
        yield tunnel


@pytest.fixture
def tunnel(world):
    yield world
    world.rest.put('/v1/policy', {**policy_body([peer_body()]), 'first_line': None})


@contextlib.contextmanager
def first_line(tunnel, **line):
    """In force while the block runs."""
    assert tunnel.rest.put('/v1/first-line', line)['in_force']
    try:
        yield
    finally:
        tunnel.rest.delete('/v1/first-line')


def said(tunnel, packets, count=None):
    """What became of these packets, once `count` (or all) of them were judged."""
    tunnel.settle()
    before = tunnel.rest.verdicts()
    for packet in packets:
        tunnel.send_wire(packet)

    def delta():
        now = tunnel.rest.verdicts()
        return {name: now[name] - before[name] for name in now if now[name] != before[name]}

    wait_until(lambda: sum(delta().values()) >= (count or len(packets)), 5)
    tunnel.settle()
    return delta()


def legitimate(tunnel, count):
    return [tunnel.inbound.packet(numbered(CLIENT, SERVER, next(tunnel.numbers)))
            for _ in range(count)]


def pings(tunnel, source):
    """Whether the gate's kernel answers this address."""
    done = tunnel.peer.run(['ping', '-n', '-c', 1, '-W', 1, '-I', source, GATE], check=False)
    return done.returncode == 0


def wire(tunnel):
    return next(p for p in tunnel.rest.get('/v1/status')['dataplane']['ports']
                if p['name'] == 'wire')


# ---- sources

def test_a_denied_source_is_dropped_in_xdp(tunnel):
    for source, expected in ((PEER, {'xdp_source_denied': 10}), (STRANGER, {'accepted': 10})):
        with first_line(tunnel, deny=[f'{source}/32']):
            assert said(tunnel, legitimate(tunnel, 10)) == expected
    assert said(tunnel, legitimate(tunnel, 10)) == {'accepted': 10}


def test_who_is_not_named_is_denied_where_strangers_are(tunnel):
    """The host itself, too; a peer is admitted by its endpoint, others by a prefix."""
    assert pings(tunnel, STRANGER)
    with first_line(tunnel, admit_strangers=False):
        assert not pings(tunnel, STRANGER)
        assert pings(tunnel, PEER)
        assert said(tunnel, legitimate(tunnel, 10)) == {'accepted': 10}
    with first_line(tunnel, admit_strangers=False, admit=['192.0.2.0/24'], deny=[f'{OTHER}/32']):
        assert pings(tunnel, STRANGER)
        assert not pings(tunnel, OTHER)
    assert pings(tunnel, OTHER)


def test_a_source_above_its_limit_is_cut_and_others_are_not(tunnel):
    with first_line(tunnel, packets={'per_second': 1, 'burst': 5}):
        verdicts = said(tunnel, legitimate(tunnel, 50))
        assert set(verdicts) == {'accepted', 'xdp_source_limited'}, verdicts
        assert sum(verdicts.values()) == 50 and 5 <= verdicts['accepted'] <= 10
        # Another source has a bucket of its own. The SPI is known, the key is not his.
        stranger = Sa(tunnel.inbound.spi, STRANGER, GATE)
        stranger.sequence = tunnel.inbound.sequence + 100  # numbers that were never accepted
        forged = [stranger.packet(numbered(CLIENT, SERVER, n)) for n in range(5)]
        assert said(tunnel, forged) == {'auth_failed': 5}
    assert said(tunnel, legitimate(tunnel, 50)) == {'accepted': 50}


# ---- cleartext

def test_cleartext_goes_to_the_dataplane_only_where_a_rule_admits_some(tunnel):
    clear = [numbered(CLIENT, SERVER, next(tunnel.numbers), dport=5001) for _ in range(10)]
    others = [numbered(CLIENT, SERVER, next(tunnel.numbers)) for _ in range(10)]
    assert said(tunnel, clear + others) == {'xdp_cleartext_denied': 20}
    tunnel.rest.put('/v1/policy', policy_body([peer_body()], [
        {'name': 'oam', 'type': 'other', 'side': 'local', 'zone': 'internal',
         'prefixes': [f'{SERVER}/32'], 'protection': 'none',
         'ports': [{'protocol': 'udp', 'first': 5001, 'last': 5001}]}]))
    assert said(tunnel, clear + others) == {'bypassed': 10, 'cleartext_denied': 10}
    with first_line(tunnel, deny=[f'{CLIENT}/32']):  # no tunnel around it: this is its outer source
        assert said(tunnel, clear) == {'xdp_source_denied': 10}


# ---- the host's own services

def begin(tunnel, source, count, port=SESSIONS):
    """How many of these connections are there at once; a SYN that was dropped comes again after a
    second."""
    with tunnel.peer.entered():
        sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.setblocking(False)
            one.bind((source, 0))
            assert one.connect_ex((GATE, port)) == errno.EINPROGRESS
        time.sleep(0.4)
        _, ready, _ = select.select([], sockets, [], 0)
        return sum(one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0 for one in ready)
    finally:
        for one in sockets:
            one.close()


def test_each_source_has_a_budget_of_handshakes(tunnel):
    assert begin(tunnel, STRANGER, 10) == 10
    with first_line(tunnel, sessions=SERVICES, handshakes={'per_second': 1, 'burst': 3}):
        before = tunnel.rest.verdicts()['xdp_handshake_limited']
        assert 3 <= begin(tunnel, STRANGER, 10) <= 4
        assert tunnel.rest.verdicts()['xdp_handshake_limited'] - before >= 6
        assert begin(tunnel, OTHER, 2) == 2  # somebody else's is whole
        assert begin(tunnel, STRANGER, 10, port=5555) == 10  # no port of sessions
    assert begin(tunnel, STRANGER, 10) == 10


def test_all_strangers_together_have_one_that_peers_do_not_draw_on(tunnel):
    with first_line(tunnel, sessions=SERVICES, strangers={'per_second': 1, 'burst': 4}):
        begun = [begin(tunnel, source, 3) for source in (STRANGER, OTHER)]
        assert begun[0] == 3 and begun[1] <= 2, begun
        assert begin(tunnel, PEER, 10) == 10
    assert begin(tunnel, OTHER, 10) == 10


def test_of_the_host_only_what_is_named_is_open(tunnel):
    with first_line(tunnel, sessions=SERVICES, host=[]):
        before = tunnel.rest.verdicts()['xdp_host_denied']
        assert begin(tunnel, STRANGER, 1, port=5555) == 0
        assert tunnel.rest.verdicts()['xdp_host_denied'] > before
        assert begin(tunnel, STRANGER, 1) == 1
        assert pings(tunnel, STRANGER)
    with first_line(tunnel, sessions=SERVICES,
                    host=[{'protocol': 'tcp', 'first': 5555, 'last': 5555}]):
        assert begin(tunnel, STRANGER, 1, port=5555) == 1


# ---- SPIs

def test_an_unknown_spi_never_reaches_the_dataplane(tunnel):
    unknown = Sa(UNKNOWN, PEER, GATE)
    packets = [unknown.packet(numbered(CLIENT, SERVER, n)) for n in range(60)]
    tunnel.settle()
    received = wire(tunnel)['rx_packets']
    assert said(tunnel, packets[:20]) == {'xdp_unknown_spi': 20}
    assert wire(tunnel)['rx_packets'] == received
    # The twin: from the answer on, at once, it is known; and from the answer on it is not.
    tunnel.rest.post('/v1/sas', sa_body('late', 'csmf-1', 'inbound', unknown))
    assert said(tunnel, packets[20:40]) == {'accepted': 20}
    assert wire(tunnel)['rx_packets'] == received + 20
    tunnel.rest.delete('/v1/sas/late')
    assert said(tunnel, packets[40:]) == {'xdp_unknown_spi': 20}


def test_a_replaced_sa_hands_its_place_over(tunnel):
    """Both to another slot and to the same one, whose old SPI must not be let through."""
    capacity = tunnel.rest.get('/v1/status')['dataplane']['sa_capacity']
    old = Sa(0x20070, PEER, GATE)
    tunnel.rest.post('/v1/sas', sa_body('old', 'csmf-1', 'inbound', old))
    name = 'old'
    for number, spi in enumerate((0x20071, 0x20071 + capacity)):
        new = Sa(spi, PEER, GATE)
        tunnel.rest.put(f'/v1/sas/{name}', sa_body(f'new-{number}', 'csmf-1', 'inbound', new))
        name = f'new-{number}'
        assert said(tunnel, [new.packet(numbered(CLIENT, SERVER, 1))]) == {'accepted': 1}
        assert said(tunnel, [old.packet(numbered(CLIENT, SERVER, 2))]) == {'xdp_unknown_spi': 1}
        old = new
    tunnel.rest.delete(f'/v1/sas/{name}')


# ---- all of it at once, or nothing

def test_a_policy_that_xdp_has_no_room_for_is_refused_whole(tunnel):
    before = tunnel.rest.get('/v1/policy')
    generation = wire(tunnel)['xdp']['generation']
    many = [f'10.{n >> 16}.{n >> 8 & 255}.{n & 255}/32' for n in range(0xa00000, 0xa00000 + 65537)]
    with pytest.raises(RestError) as refusal:
        tunnel.rest.put('/v1/policy', policy_body(
            [peer_body(), peer_body('many', client='10.1.0.3', endpoint=OTHER) | {
                'prefixes': many}]))
    assert refusal.value.status in (409, 422, 507), str(refusal.value)
    assert tunnel.rest.get('/v1/policy') == before
    assert wire(tunnel)['xdp']['generation'] == generation
    assert said(tunnel, legitimate(tunnel, 5)) == {'accepted': 5}
    tunnel.rest.put('/v1/policy', policy_body(  # the twin
        [peer_body(), peer_body('many', client='10.1.0.3', endpoint=OTHER) | {
            'prefixes': many[:1000]}]))
    assert wire(tunnel)['xdp']['generation'] > generation


def test_a_hundred_changes_under_traffic_lose_nothing(tunnel):
    lines = [{'deny': ['198.51.100.0/24', '2001:db8:66::/48']},
             {'admit_strangers': False, 'admit': ['203.0.113.0/24'], 'sessions': SERVICES,
              'packets': {'per_second': 1_000_000, 'burst': 10_000}}]
    tunnel.settle()
    core = tunnel.core.count()
    before = tunnel.rest.verdicts()
    with Repeat(500, tunnel.send_inbound) as inbound:
        for number in range(100):
            tunnel.rest.put('/v1/first-line', lines[number % 2])
    tunnel.settle()
    sent = [number for _, number, _ in inbound.sent]
    arrived = [number_of(f[14:]) for f in tunnel.core.frames[core:]]
    assert len(sent) > 100 and exactly_once(sent, arrived) == {}
    now = tunnel.rest.verdicts()
    assert {name: now[name] - before[name] for name in now if now[name] != before[name]} == {
        'accepted': len(sent)}


# ---- what is seen of it

def test_modes_generation_and_counters_are_reported(tunnel):
    with first_line(tunnel, deny=['198.51.100.0/24']):
        port = wire(tunnel)
        mode = port['xdp']['mode']
        assert mode in ('native', 'generic') and port['xdp']['af_xdp'] == 'copy'
        assert port['xdp']['generation'] == \
            tunnel.rest.get('/v1/status')['dataplane']['generation']
        metrics = tunnel.rest.get('/metrics')
        assert f'portcullis_xdp_info{{port="wire",mode="{mode}",af_xdp="copy"}} 1' in metrics
        assert re.search(r'^portcullis_xdp_packets_total\{port="wire",verdict="xdp_accepted"\} [1-9]',
                         metrics, re.M)
        assert f'portcullis_xdp_policy_generation{{port="wire"}} {port["xdp"]["generation"]}' \
            in metrics
        assert f'port wire: XDP {mode}, AF_XDP copy' in tunnel.dataplane.log.read_text()
        status = ctl(tunnel, 'status')
        assert re.search(rf'^wire .* {mode} +copy$', status, re.M), status
        assert 'xdp_accepted' in ctl(tunnel, 'drops')


def ctl(tunnel, *arguments, code=0, **more):
    done = tunnel.gate.run([BIN / 'portcullisctl', *arguments], check=False, timeout=30,
                           env=environment(tunnel.pki, 'alice'), **more)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done.stdout


def test_it_is_shown_applied_and_removed_by_the_command_line(tunnel, tmp_path):
    file = tmp_path / 'line.yaml'
    file.write_text('deny: [198.51.100.0/24]\npackets: {per_second: 100, burst: 10}\n',
                    encoding='ascii')
    assert '+ first-line' in ctl(tunnel, 'first-line', 'apply', '--dry-run', str(file))
    ctl(tunnel, 'first-line', 'show', code=1)  # there is none yet
    assert ctl(tunnel, 'first-line', 'apply', str(file)) == 'first line is set\n'
    shown = ctl(tunnel, 'first-line', 'show')
    assert 'deny: [198.51.100.0/24]' in shown and 'burst: 10' in shown
    again = ctl(tunnel, 'first-line', 'apply', '-', '--dry-run', input=shown)
    assert again == 'would change nothing\n'
    file.write_text('deny: [198.51.100.0/25]\n', encoding='ascii')
    assert ctl(tunnel, 'first-line', 'apply', '--dry-run', str(file)) == (
        'would change:\n~ first-line\n'
        '    /deny: "198.51.100.0/24" -> (absent)\n'
        '    /deny: (absent) -> "198.51.100.0/25"\n'
        '    /packets: {"burst":10,"per_second":100} -> (absent)\n')
    assert 'first_line:' in ctl(tunnel, 'policy', 'show')
    assert ctl(tunnel, 'first-line', 'remove') == 'first line removed\n'
    ctl(tunnel, 'first-line', 'remove', code=1)


@contextlib.contextmanager
def watching(tunnel, *arguments):
    """portcullisctl drops --watch; a function that gives its next line, or '' in vain."""
    process = tunnel.gate.popen([BIN / 'portcullisctl', 'drops', '--watch', *arguments],
                                stdout=subprocess.PIPE, text=True,
                                env=environment(tunnel.pki, 'bob'))

    def line(timeout=5):
        ready, _, _ = select.select([process.stdout], [], [], timeout)
        return process.stdout.readline() if ready else ''
    try:
        yield line
    finally:
        tunnel.gate.stop(process)
        process.stdout.close()


def unknown_packet():
    return Sa(UNKNOWN, PEER, GATE).packet(numbered(CLIENT, SERVER, 7))


def first_of(tunnel, line, wanted, at_once=1):
    """Sends unknown SPIs until the watcher shows one: it takes a moment until all are watching."""
    for _ in range(50):
        for _ in range(at_once):
            tunnel.send_wire(unknown_packet())
        shown = line(0.2)
        while shown:
            if wanted in shown:
                return shown
            shown = line(0.05)
    return ''


def test_drops_are_shown_as_they_come(tunnel):
    with watching(tunnel) as line:
        shown = first_of(tunnel, line, 'xdp_unknown_spi')
        assert re.match(r'\d{4}-\d\d-\d\dT\S+Z  wire +xdp_unknown_spi +'
                        rf'{PEER} > {GATE} esp {UNKNOWN:#x}, \d+ bytes$', shown), shown
    with watching(tunnel, '--json') as line:
        drop = json.loads(first_of(tunnel, line, 'xdp_unknown_spi'))
        validate(drop, {'$ref': '#/components/schemas/Drop'})
        packet = unknown_packet()
        assert drop['port'] == 'wire' and drop['length'] == 14 + len(packet)
        assert drop['frame'] == (bytes.fromhex(tunnel.gate_wire_mac.replace(':', '')) +
                                 bytes.fromhex(tunnel.peer_mac.replace(':', '')) + b'\x08\0' +
                                 bytes.fromhex(drop['frame'])[14:]).hex()
        # What is accepted is not shown.
        for one in legitimate(tunnel, 5):
            tunnel.send_wire(one)
        while shown := line(0.5):
            assert json.loads(shown)['verdict'] != 'xdp_accepted'


def test_one_drop_in_so_many(tunnel):
    with watching(tunnel, '--json', '--one-in', 64) as line:
        assert first_of(tunnel, line, 'xdp_unknown_spi', at_once=256)
        while line(0.5):
            pass
        for _ in range(1280):
            tunnel.send_wire(unknown_packet())
        seen = 0
        while line(0.5):
            seen += 1
    assert 0 < seen < 100, seen
