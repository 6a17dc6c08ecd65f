"""Every verdict that the program knows (the list is read from its source) is provoked from outside
here, each at most a few lines, or is named below with the reason why no packet can do it. The
other files look closely; this one sees that none is forgotten."""

import re
import time

import pytest

from gate import GATE, PEER, ROOT, SERVER, SILENT, to_core, to_gate
from scapy_esp import datagram, tcp, udp

NAMES = re.findall(r'^\s*X\((\w+), "', (ROOT / 'dataplane/packet/verdicts.h').read_text(), re.M)

# No packet can cause these; unit tests with a full ring, an empty pool, a refusing engine do.
NOT_FROM_OUTSIDE = {
    'handoff_full': 'needs a worker that is slower than the port for 4096 packets',
    'no_buffer': 'needs a packet pool that is empty',
    'crypto_error': 'the engine refuses nothing that passed the checks before it',
    'no_socket': 'XDP says so of a dataplane that is not there',
    'not_tls': 'XDP says so, which finds the sockets of connections to the host',
    'seq_exhausted': 'needs 2^32 packets or an edited record: test_restart.py',
}


@pytest.fixture(scope='module')
def small(make_gate):
    """Everything bounded is small here: queues, times, budgets."""
    return make_gate(
        driver='pcap', neighbours={'queue': 2, 'timeout_ms': 50}, fragments='reassemble',
        auth_failures={'per_second': 5, 'suspect_seconds': 1, 'cpu_percent': 10},
        extra_ports=[{'name': 'host', 'role': 'exception', 'exception': 'wire',
                      'mac': '02:00:00:00:00:01', 'mtu': 1500}])


def first_line(line, make, beside=()):
    """Provokes under this first line, which is gone afterwards. `beside`: verdicts of those that
    used up the limit."""
    def provoke(gate):
        gate.push_policy(full=False, peers=[], first_line=line)
        outcome = gate.judge(make(gate))
        gate.push_policy(full=False, peers=[], first_line={})
        for name in beside:
            assert outcome.verdicts.pop(name) > 0
        return outcome
    return provoke


def syn(source, port):
    return to_gate(tcp(source, GATE[4], 40000, port, flags=2))


def forged(data):
    return data[:-1] + bytes([data[-1] ^ 1])


def bypassed(gate):
    gate.bypasses = [{'name': 'test', 'local': SERVER[4] + '/32', 'remote': '203.0.113.0/24'}]
    gate.push_policy(full=False, peers=[])
    outcome = gate.judge(to_gate(udp('203.0.113.4', SERVER[4], 1, 2)))
    gate.bypasses = []
    gate.push_policy(full=False, peers=[])
    return outcome


def sa_expired(gate):
    link = gate.link(lifetime={'hard_packets': 1})
    gate.accepts(link)
    return gate.judge(link.seal(link.request()))


def not_registered(gate):
    link = gate.link(selectors=[{'local': '10.254.0.1/32'}],
                     sa_more={'registered_selectors': [{}]})
    return gate.judge(link.seal(link.request()))


def replayed(gate):
    link = gate.link()
    gate.accepts(link)
    return gate.judge(link.seal(link.request(), link.inbound.sequence))


def stale(gate):
    link = gate.link(window=64)
    gate.judge(link.seal(link.request(), 1000))
    return gate.judge(link.seal(link.request(), 1))


def auth_throttled(gate):
    link = gate.link()
    gate.accepts(link)
    link.inbound.source = '203.0.113.66'
    frames = [forged(link.seal(link.request())) for _ in range(100)]
    outcome = gate.judge(frames)
    outcome.verdicts.pop('auth_failed')
    return outcome


def grant_expired(gate):
    link = gate.link()
    gate.steer.revoke(link.name)
    return gate.judge(link.seal(link.request()))


def rate_limited(gate):
    link = gate.link(rate={'packets_per_second': 1, 'burst_ms': 1})
    gate.accepts(link)
    return gate.judge(link.seal(link.request()))


def no_neighbour(gate):
    link = gate.link()
    gate.judge(link.seal(udp(link.client[4], SILENT['core'], 1, 2)), counted=0)
    return gate.wait_for({'no_neighbour': 1})


def queue_full(gate):
    link = gate.link()
    frames = [link.seal(udp(link.client[4], SILENT['core'], 1, 2)) for _ in range(3)]
    outcome = gate.judge(frames, counted=1, burst=True)
    gate.wait_for({'no_neighbour': 2})
    return outcome


def frag_timeout(gate):
    alone = datagram(PEER[4], GATE[4], 50, bytes(64), more_fragments=True)
    gate.judge(to_gate(alone), counted=0)
    return gate.wait_for({'frag_timeout': 1})


def icmp_consumed(gate):
    link = gate.link()
    sent = gate.judge(to_core(link.answer()), 'core').wire[0]
    return gate.judge(to_gate(datagram('203.0.113.1', GATE[4], 1,
                                       bytes((3, 4, 0, 0, 0, 0, 5, 0)) + sent[:36])))


def with_link(make):
    def provoke(gate):
        link = gate.link()
        return gate.judge(make(link))
    return provoke


PROVOKE = {
    'accepted': with_link(lambda link: link.seal(link.request())),
    'bypassed': bypassed,
    'exception': lambda gate: gate.judge(to_gate(datagram(PEER[4], GATE[4], 6, bytes(20)))),
    'keepalive': lambda gate: gate.judge(to_gate(udp(PEER[4], GATE[4], 4500, 4500, b'\xff'))),
    'icmp_consumed': icmp_consumed,
    'malformed': with_link(lambda link: link.seal(link.request(), outer={'header_checksum': 1})),
    'inner_malformed': with_link(lambda link: link.seal(link.request(), next_header=41)),
    'frag_timeout': frag_timeout,
    'cleartext_denied': with_link(lambda link: to_gate(link.request())),
    'not_for_us': lambda gate: gate.judge(to_gate(udp(PEER[4], '192.0.2.99', 1, 2))),
    'source_denied': first_line({'deny': ['203.0.113.0/24']}, lambda _: syn('203.0.113.66', 22)),
    'source_limited': first_line(
        {'packets': {'per_second': 1, 'burst': 50}},
        lambda _: [to_gate(udp('203.0.113.66', GATE[4], 4500, 4500, b'\xff'))] * 100,
        beside=['keepalive']),
    'handshake_limited': first_line(
        {'handshakes': {'per_second': 1, 'burst': 1},
         'sessions': [{'protocol': 'tcp', 'ports': 4433}]},
        lambda _: [syn('203.0.113.66', 4433)] * 5, beside=['exception']),
    'host_denied': first_line({'host': [{'protocol': 'tcp', 'ports': 22}]},
                              lambda _: syn(PEER[4], 23)),
    'unknown_spi': lambda gate: gate.judge(to_gate(datagram(PEER[4], GATE[4], 50,
                                                            b'\x7e' * 64))),
    'sa_expired': sa_expired,
    'replayed': replayed,
    'stale': stale,
    'not_registered': not_registered,
    'auth_failed': with_link(lambda link: forged(link.seal(link.request()))),
    'auth_throttled': auth_throttled,
    'dummy': with_link(lambda link: link.seal(b'', next_header=59)),
    'selector_mismatch': lambda gate: gate.judge(
        (link := gate.link(selectors=[{'local': '10.254.0.1/32'}])).seal(link.request())),
    'no_policy': lambda gate: gate.judge((link := gate.link(rules=[])).seal(link.request())),
    'grant_expired': grant_expired,
    'rate_limited': rate_limited,
    'ecn_illegal': with_link(lambda link: link.seal(link.request(), outer={'tos': 3})),
    'ttl_expired': with_link(lambda link: link.seal(link.request(ttl=1))),
    'too_big': lambda gate: gate.judge(to_core(gate.link().answer(size=1460)), 'core'),
    'no_route': with_link(lambda link: link.seal(udp(link.client[4], '172.16.0.1', 1, 2))),
    'no_neighbour': no_neighbour,
    'queue_full': queue_full,
}

# Needs the other setting of `fragments`.
WITHOUT_REASSEMBLY = {
    'fragment': with_link(lambda link: link.seal(link.request(), outer={'more_fragments': True})),
}


def test_each_verdict_is_provoked_or_explained():
    assert len(NAMES) > 25
    told = list(PROVOKE) + list(WITHOUT_REASSEMBLY) + list(NOT_FROM_OUTSIDE)
    assert sorted(told) == sorted(NAMES)


@pytest.mark.parametrize('verdict', PROVOKE)
def test_provoked(small, verdict):
    outcome = PROVOKE[verdict](small)
    assert set(outcome.verdicts) == {verdict}
    if verdict not in ('accepted', 'bypassed', 'too_big'):
        assert outcome.core == [] and outcome.wire == []
    small.accepts(small.link())


@pytest.mark.parametrize('verdict', WITHOUT_REASSEMBLY)
def test_provoked_without_reassembly(make_gate, verdict):
    gate = make_gate(driver='pcap')
    assert set(WITHOUT_REASSEMBLY[verdict](gate).verdicts) == {verdict}
    gate.accepts(gate.link())


def test_every_name_is_told_over_the_socket(small):
    assert list(small.steer.read_counters().verdicts) == NAMES


def test_counters_agree_with_each_other(gate):
    """The total is the sum over the workers, and a peer's counters those of its SAs."""
    link = gate.link()
    gate.judge([link.seal(link.request()) for _ in range(20)])
    gate.judge([forged(link.seal(link.request())) for _ in range(7)])
    gate.judge([to_core(link.answer())] * 5, 'core')
    time.sleep(0.01)
    (bytes_of_link,) = (c.bytes for c in gate.steer.read_counters(peers=True).peers
                        if c.name == link.name)
    assert bytes_of_link == 20 * len(link.request()) + 5 * len(link.answer())
    total = gate.steer.counters()
    workers = gate.steer.counters(by='worker')
    for name in NAMES:
        assert total[name] == sum(worker[name] for worker in workers.values())
    peer = gate.steer.counters('peer', link.name)
    assert {name: n for name, n in peer.items() if n} == {'accepted': 25, 'auth_failed': 7}
    assert gate.steer.counters('sa', f'{link.name}-in')['accepted'] == 20
    assert gate.steer.counters('sa', f'{link.name}-out')['accepted'] == 5
