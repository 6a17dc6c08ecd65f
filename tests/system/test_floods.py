"""Floods of garbage beside a legitimate flow, on AF_XDP: each kind ends with its verdict in the first
line or, where only the dataplane can tell, there; no integrity is checked for the sake of an SPI that
does not exist; and the legitimate flow loses nothing. How much a flood costs is measured in
bench/floods.py; here it is small."""

import itertools
import os
import random
import socket
import struct

import pytest

from netns import wait_until
from scapy_esp import datagram, tcp
from tunnel import CLIENT, GATE, PEER, SERVER, Repeat, Tunnel, numbered

FLOOD = 2000
SESSIONS = 4433
SPI = 0x1001                # of the peer's SA
ATTACKER = '192.0.2.66'
# Names of no SA, and of none that the SPI's slot could hold.
UNKNOWN = range(0x20000, 0x20000 + FLOOD)


@pytest.fixture(scope='module')
def tunnel(tmp_path_factory):
    with Tunnel(tmp_path_factory.mktemp('tunnel')) as running:
        with running.gate.entered():  # in the guard's place
            listener = socket.create_server((GATE, SESSIONS))
        running.closing.append(listener.close)
        assert running.passes(), running.dataplane.log_tail()
        yield running


@pytest.fixture
def line(tunnel):
    """Puts a first line in force, until the test is over."""
    yield lambda **wish: tunnel.rest.put('/v1/first-line', wish)
    tunnel.rest.delete('/v1/first-line')


def counters(tunnel):
    """Of both: what XDP lets pass to the dataplane has a verdict there as well."""
    return tunnel.rest.get('/v1/counters?by=verdict')['total']['verdicts']


def grown(before, after):
    return {name: count - before[name] for name, count in after.items() if count != before[name]}


def flood(tunnel, packets):
    """Sends them beside the legitimate flow, which must arrive whole and in order. Returns how the
    verdicts grew, and how many legitimate packets there were."""
    tunnel.settle()
    before, core = counters(tunnel), len(tunnel.arrived_inbound())
    with Repeat(200, tunnel.send_inbound) as legitimate:
        for packet in packets:
            tunnel.send_wire(packet)
        assert wait_until(lambda: len(legitimate.sent) >= 100, 30)
    tunnel.settle()
    sent = [number for _, number, _ in legitimate.sent]
    assert wait_until(lambda: len(tunnel.arrived_inbound()) - core >= len(sent), 10)
    assert tunnel.arrived_inbound()[core:] == sent
    return grown(before, counters(tunnel)), len(sent)


def esp(source, spi, sequence):
    return datagram(source, GATE, 50, struct.pack('!II', spi, sequence) + os.urandom(80))


def strangers(count=FLOOD):
    chance = random.Random(5)
    return [f'198.18.{chance.randrange(256)}.{chance.randrange(1, 255)}' for _ in range(count)]


def integrity(verdicts):
    """Packets for whose integrity somebody cared, be it that there were too many."""
    return sum(verdicts.get(name, 0) for name in
               ('auth_failed', 'auth_throttled', 'xdp_auth_throttled'))


def crypto(verdicts):
    return verdicts.get('accepted', 0) + verdicts.get('auth_failed', 0)


def test_random_sources(tunnel, line):
    packets = [esp(source, SPI, 1 << 20 | n) for n, source in enumerate(strangers())]
    line(admit_strangers=False)  # the peer's endpoint is admitted by name
    verdicts, legitimate = flood(tunnel, packets)
    assert verdicts['xdp_source_denied'] == FLOOD
    assert crypto(verdicts) == verdicts['accepted'] == legitimate
    # The twin: the same sources, admitted, get as far as their integrity is checked.
    line(admit_strangers=False, admit=['198.18.0.0/16'])
    verdicts, legitimate = flood(tunnel, packets[:50])
    assert 'xdp_source_denied' not in verdicts and verdicts['accepted'] == legitimate
    assert verdicts['auth_failed'] > 0


def test_one_source_that_sends_too_much(tunnel, line):
    line(packets={'per_second': 1000, 'burst': 1000})
    verdicts, legitimate = flood(tunnel, [esp(ATTACKER, SPI, 1 << 20 | n) for n in range(FLOOD * 2)])
    assert verdicts['xdp_source_limited'] > FLOOD / 2
    assert verdicts['accepted'] == legitimate


def test_random_spis(tunnel):
    verdicts, legitimate = flood(tunnel, [esp(PEER, spi, spi) for spi in UNKNOWN])
    assert verdicts['xdp_unknown_spi'] == FLOOD
    assert 'unknown_spi' not in verdicts, 'it never reaches the dataplane'
    assert crypto(verdicts) == verdicts['accepted'] == legitimate
    verdicts, legitimate = flood(tunnel, [esp(ATTACKER, SPI, 1 << 20 | n) for n in range(20)])
    assert 'xdp_unknown_spi' not in verdicts and integrity(verdicts) == 20, 'the twin: a live SPI'


def test_live_spi_with_garbage_in_the_window(tunnel):
    """Few are tried; then XDP lets pass next to nothing but the peer's own, wherever they come from."""
    for sources in ([ATTACKER] * FLOOD, strangers()):
        verdicts, legitimate = flood(tunnel, [esp(source, SPI, 1 << 20 | n)
                                              for n, source in enumerate(sources)])
        assert verdicts['accepted'] == legitimate
        assert verdicts['xdp_auth_throttled'] > FLOOD / 2
        assert verdicts.get('auth_failed', 0) < FLOOD / 2
        assert integrity(verdicts) == FLOOD


def test_a_peer_that_moves_under_a_flood_comes_back(tunnel):
    """From elsewhere it has as little as those who forge; what gets through is authentic, and then
    the new address is its own, for XDP as well."""
    def throttled(before):
        return grown(before, counters(tunnel)).get('xdp_auth_throttled', 0)

    moved, before = '192.0.2.77', counters(tunnel)
    sources = itertools.cycle(strangers())
    with Repeat(500, lambda n: tunnel.send_wire(esp(next(sources), SPI, 1 << 20 | n))):
        assert wait_until(lambda: throttled(before) > 50, 10)
        for source in (moved, PEER):
            tunnel.core.frames.clear()
            tunnel.inbound.source = source
            with Repeat(100, tunnel.send_inbound) as sent:
                # XDP hears of it within a moment; from then on nothing is lost.
                assert wait_until(lambda: len(tunnel.arrived_inbound()) >= 10, 60)
                first = len(sent.sent)
                assert wait_until(lambda: len(sent.sent) >= first + 200, 30)
            last = len(sent.sent)
            assert wait_until(lambda: tunnel.arrived_inbound()[-1] == last - 1, 10)
            assert tunnel.arrived_inbound()[first - last:] == list(range(first, last))
    # The address that it left is a stranger's.
    before = counters(tunnel)
    with Repeat(500, lambda n: tunnel.send_wire(esp(moved, SPI, 1 << 20 | n))):
        # It takes a moment where the suspicion of the flood has just ended.
        assert wait_until(lambda: throttled(before) > 50, 10)


def test_replays(tunnel):
    old = [tunnel.send_inbound(number) for number in range(50)]
    verdicts, legitimate = flood(tunnel, old * (FLOOD // len(old)))
    assert verdicts.get('replayed', 0) + verdicts.get('stale', 0) == FLOOD
    assert crypto(verdicts) == verdicts['accepted'] == legitimate


def advance(tunnel, packets):
    """Moves the window by so many; returns the last."""
    last = None
    for number in range(packets):
        last = tunnel.send_inbound(number)
        if number % 400 == 0:
            tunnel.settle()
    tunnel.settle()
    return last


def test_replays_of_long_ago(tunnel):
    """What lies left of the window ends in XDP."""
    window = tunnel.rest.get('/v1/sas/in')['replay_window']
    old = [tunnel.send_inbound(number) for number in range(50)]
    last = advance(tunnel, window * 5 // 4)
    verdicts, legitimate = flood(tunnel, old * (FLOOD // len(old)))
    assert verdicts['xdp_stale'] == FLOOD
    assert 'stale' not in verdicts, 'it never reaches the dataplane'
    assert crypto(verdicts) == verdicts['accepted'] == legitimate
    # The twin: what still may be new only the window can tell.
    verdicts, legitimate = flood(tunnel, [last] * 50)
    assert 'xdp_stale' not in verdicts and verdicts['replayed'] == 50


def test_numbers_are_judged_by_the_record_after_a_death(tunnel):
    """The next dataplane lets through all that the one before had not seen, and nothing older."""
    window = tunnel.rest.get('/v1/sas/in')['replay_window']
    old = tunnel.send_inbound(0)
    held = [tunnel.inbound.packet(numbered(CLIENT, SERVER, 1 << 20 | n)) for n in range(20)]
    advance(tunnel, window - 30)  # those that are held back stay within the window

    def restart():
        tunnel.dataplane.kill()
        tunnel.dataplane.start()
        tunnel.control.wait_ready()
    restart()
    core = len(tunnel.arrived_inbound())
    before = counters(tunnel)
    for packet in held:
        tunnel.send_wire(packet)
    tunnel.settle()
    assert tunnel.arrived_inbound()[core:] == [1 << 20 | n for n in range(20)]
    assert 'xdp_stale' not in grown(before, counters(tunnel))
    # The twin: what is older is not, from the first packet on.
    advance(tunnel, 60)
    restart()
    before = counters(tunnel)
    tunnel.send_wire(old)
    assert wait_until(lambda: grown(before, counters(tunnel)).get('xdp_stale') == 1, 5)


def test_syns_to_the_session_port(tunnel, line):
    sessions = [{'protocol': 'tcp', 'first': SESSIONS, 'last': SESSIONS}]
    packets = [tcp(source, GATE, 1024 + n, SESSIONS, flags=2) for n, source in enumerate(strangers())]
    line(sessions=sessions, handshakes={'per_second': 5, 'burst': 20},
         strangers={'per_second': 10, 'burst': 100})
    verdicts, legitimate = flood(tunnel, packets)
    assert verdicts['xdp_handshake_limited'] > FLOOD / 2
    assert verdicts['xdp_handshake_limited'] + verdicts['xdp_exception'] >= FLOOD
    assert verdicts['accepted'] == legitimate
    # A peer, whom its endpoint names, gets a connection in the middle of it.
    for packet in packets:
        tunnel.send_wire(packet)
    with tunnel.peer.entered():
        socket.create_connection((GATE, SESSIONS), 10).close()
    # The twin: without the limit they all get through.
    line(sessions=sessions)
    verdicts, _ = flood(tunnel, packets[:200])
    assert 'xdp_handshake_limited' not in verdicts and verdicts['xdp_exception'] >= 200
