"""The first line of defence on ports that DPDK owns whole: what XDP would drop ends in the pipeline's
stage `prefilter`. Its decisions are looked at one by one in dataplane/pipeline/prefilter_test.cpp, and
that XDP decides alike in the parity test there; here packets that none of our code made meet the
whole program, with one worker and with two."""

import pytest

from gate import GATE, PEER, to_gate
from scapy_esp import tcp, udp

ATTACKER = '203.0.113.66'  # the wire's next hop is the way to it
SESSIONS = [{'protocol': 'tcp', 'ports': 4433}]


@pytest.fixture
def line(gate):
    """Puts a first line in force, until the test is over."""
    yield lambda **wish: gate.push_policy(full=False, peers=[], first_line=wish)
    gate.push_policy(full=False, peers=[], first_line={})


def test_denied_sources_and_others(gate, line):
    link = gate.link()
    line(deny=['203.0.113.0/24'], admit=['203.0.113.7/32'])
    own, link.inbound.source = link.inbound.source, ATTACKER
    gate.refuses(link.seal(link.request()), 'source_denied')
    link.inbound.source = '203.0.113.7'
    gate.accepts(link)
    link.inbound.source = own
    gate.accepts(link)


def test_strangers(gate, line):
    link = gate.link()
    line(admit_strangers=False, admit=[PEER[4] + '/32', PEER[6] + '/128'])
    own, link.inbound.source = link.inbound.source, ATTACKER
    data = link.seal(link.request())
    gate.refuses(data, 'source_denied')
    link.inbound.source = own
    gate.accepts(link)
    line()
    assert gate.judge(data).verdicts == {'accepted': 1}


def test_a_source_has_a_limit_and_others_have_theirs(gate, line):
    link, other = gate.link(), gate.link()
    line(packets={'per_second': 1, 'burst': 40})
    link.inbound.source = ATTACKER
    outcome = gate.judge([link.seal(link.request()) for _ in range(200)])
    assert set(outcome.verdicts) == {'accepted', 'source_limited'}
    # Everything comes in on one worker; whichever opens it, that one has counted it.
    assert 40 <= outcome.verdicts['accepted'] < 50
    gate.accepts(other)
    line()
    gate.accepts(link)


def test_nothing_is_spent_on_what_is_dropped(gate, line):
    """No integrity check, and no SA hears of it."""
    link = gate.link()
    line(deny=['203.0.113.0/24'])
    link.inbound.source = ATTACKER
    data = link.seal(link.request())
    gate.refuses([data[:-1] + bytes([data[-1] ^ 1])] * 20, 'source_denied')
    assert not any(gate.steer.counters('sa', f'{link.name}-in').values())


def test_addressed_to_nobody_here(gate):
    link = gate.link()
    gate.refuses(to_gate(udp(PEER[4], '192.0.2.99', 1, 2)), 'not_for_us')
    link.inbound.destination = '192.0.2.99'
    gate.refuses(link.seal(link.request()), 'not_for_us')
    link.inbound.destination = GATE[4]
    gate.accepts(link)


def test_a_handshake_budget_for_the_guards_port(make_gate):
    gate = make_gate(extra_ports=[{'name': 'host', 'role': 'exception', 'exception': 'wire',
                                   'mac': '02:00:00:00:00:01', 'mtu': 1500}])
    gate.push_policy(full=False, peers=[],
                     first_line={'handshakes': {'per_second': 1, 'burst': 3}, 'sessions': SESSIONS,
                                 'host': [{'protocol': 'tcp', 'ports': 22}]})

    def syn(source, port, flags=2):
        return to_gate(tcp(source, GATE[4], 40000, port, flags=flags))

    outcome = gate.judge([syn(ATTACKER, 4433)] * 50)
    assert set(outcome.verdicts) == {'exception', 'handshake_limited'}
    assert 3 <= outcome.verdicts['exception'] < 10
    to_guard = [f for f in outcome.frames['host'] if f[36:38] == (4433).to_bytes(2, 'big')]
    assert len(to_guard) == outcome.verdicts['exception']
    for allowed in (syn(PEER[4], 4433), syn(ATTACKER, 22), syn(ATTACKER, 4433, flags=0x10)):
        assert gate.judge(allowed).verdicts == {'exception': 1}
    gate.refuses(syn(PEER[4], 23), 'host_denied')
    gate.accepts(gate.link())
