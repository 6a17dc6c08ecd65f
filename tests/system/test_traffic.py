"""Traffic through a gate on AF_XDP, counted end to end, while everything about it changes.

The other ESP party is Scapy (and tests/scapy_esp.py, which is held against Scapy). Policy and keys
go in over REST, as an operator would do it.
"""

import collections

import pytest
from scapy.layers.inet import IP

from netns import wait_until
from scapy_esp import ALGORITHMS
from tunnel import (CLIENT, GATE, SERVER, Repeat, Tunnel, number_of, numbered, peer_body,
                    policy_body, sa_body)


@pytest.fixture(scope='module')
def tunnel(tmp_path_factory):
    with Tunnel(tmp_path_factory.mktemp('tunnel')) as running:
        assert running.passes(), running.dataplane.log_tail()
        yield running


def changes(rest, before):
    now = rest.verdicts()
    return {name: now[name] - before[name] for name in now if now[name] != before[name]}


def exactly_once(sent, arrived):
    """Empty when each number of `sent` arrived once and nothing else did; otherwise what is off."""
    found = collections.Counter(arrived)
    return {'lost': sorted(set(sent) - set(found))[:10], 'foreign': sorted(set(found) - set(sent))[:10],
            'doubled': [n for n, times in found.items() if times > 1][:10]} if (
                sorted(sent) != sorted(arrived)) else {}


@pytest.mark.parametrize('workers', [1, 2])
def test_both_directions_arrive_whole_and_are_counted(tmp_path, workers):
    with Tunnel(tmp_path, workers={'count': workers, 'idle': 'sleep'}) as tunnel:
        assert tunnel.passes(), tunnel.dataplane.log_tail()
        tunnel.settle()
        before, core, wire = tunnel.rest.verdicts(), tunnel.core.count(), tunnel.wire.count()
        with Repeat(500, tunnel.send_inbound) as inbound, \
                Repeat(500, tunnel.send_outbound) as outbound:
            assert wait_until(lambda: len(inbound.sent) >= 1000 and len(outbound.sent) >= 1000, 30)
        tunnel.settle()
        sent_in = [number for _, number, _ in inbound.sent]
        sent_out = [number for _, number, _ in outbound.sent]
        arrived = [number_of(f[14:]) for f in tunnel.core.frames[core:]]
        sealed = tunnel.arrived_outbound(wire)
        assert exactly_once(sent_in, arrived) == {}
        assert exactly_once(sent_out, [number for _, number in sealed]) == {}
        sequences = [sequence for sequence, _ in sealed]
        assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))
        assert changes(tunnel.rest, before) == {'accepted': len(sent_in) + len(sent_out)}


@pytest.mark.parametrize('esn', [True, False], ids=['esn', 'seq32'])
@pytest.mark.parametrize('algorithm', ALGORITHMS)
def test_scapy_seals_what_the_gate_opens_and_opens_what_it_seals(tunnel, algorithm, esn):
    spi = 0x3100 + list(ALGORITHMS).index(algorithm) * 2 + esn
    inbound, outbound = tunnel.new_pair(spi, algorithm, esn)
    old = tunnel.rest.get('/v1/sas/out')
    tunnel.rest.put(f'/v1/sas/{old["id"]}', sa_body('out', 'csmf-1', 'outbound', outbound))
    tunnel.rest.post('/v1/sas', sa_body(f'in-{spi:x}', 'csmf-1', 'inbound', inbound))
    tunnel.outbound = outbound
    try:
        core, wire = tunnel.core.count(), tunnel.wire.count()
        sealer, opener = inbound.scapy(), outbound.scapy()
        for number in range(20):
            inner = numbered(CLIENT, SERVER, number)
            packet = bytes(sealer.encrypt(IP(inner))) if sealer else inbound.packet(inner)
            tunnel.send_wire(packet)
            tunnel.send_outbound(number)
        tunnel.settle()
        assert [number_of(f[14:]) for f in tunnel.core.frames[core:]] == list(range(20))
        assert tunnel.arrived_outbound(wire) == [(n + 1, n) for n in range(20)]
        if opener:
            for number, seen in enumerate(tunnel.wire.frames[wire:]):
                inner = bytes(opener.decrypt(IP(seen[14:])))
                assert number_of(inner) == number
                assert inner[8] == 63  # the gate is a router for the inner packet
        # The one thing that Scapy cannot do is CBC with ESN.
        assert bool(sealer and opener) == (ALGORITHMS[algorithm].aead is not None or not esn)
    finally:
        tunnel.rest.delete(f'/v1/sas/in-{spi:x}')


def test_a_peer_without_rights_gets_nothing_and_the_twin_with_rights_does(tunnel):
    """The same SA, the same packets: with its policy, without it, with it again."""
    body = policy_body([peer_body()])
    without = dict(body, policies=[])
    for document, expected in ((body, 10), (without, 0), (body, 10)):
        tunnel.rest.put('/v1/policy', document)
        core, before = tunnel.core.count(), tunnel.rest.verdicts()
        for number in range(10):
            tunnel.send_inbound(number)
        assert wait_until(lambda before=before: sum(changes(tunnel.rest, before).values()) >= 10, 5)
        tunnel.settle()
        assert tunnel.core.count() - core == expected
        assert changes(tunnel.rest, before) == {'accepted' if expected else 'no_policy': 10}


def test_nothing_is_lost_while_sas_and_policy_change(tunnel):
    """1,000 SAs come and go and the policy is swapped 100 times; every packet arrives once."""
    others = [peer_body(f'other-{n}', f'10.1.9.{n}', f'192.0.2.{100 + n}') for n in range(10)]
    variants = [policy_body([peer_body(), *others]),
                policy_body([peer_body(rate={'packets_per_second': 1_000_000}), *others], [
                    {'name': 'second', 'type': 'other', 'side': 'local', 'zone': 'internal',
                     'prefixes': ['10.2.0.77/32'], 'protection': 'esp',
                     'ports': [{'protocol': 'tcp', 'first': 443, 'last': 443}]}])]
    rest = tunnel.rest
    rest.put('/v1/policy', variants[0])
    tunnel.settle()
    before, core, wire = rest.verdicts(), tunnel.core.count(), tunnel.wire.count()
    with Repeat(500, tunnel.send_inbound) as inbound, \
            Repeat(500, tunnel.send_outbound) as outbound:
        for number in range(1000):
            peer = number % len(others)
            keys, _ = tunnel.new_pair(0x100400 + number)
            body = sa_body(f'load-{number}', f'other-{peer}', 'inbound', keys, f'10.1.9.{peer}')
            body['tunnel'] = {'local': GATE, 'remote': f'192.0.2.{100 + peer}'}
            rest.post('/v1/sas', body)
            if number % 10 == 9:
                swap = number // 10
                rest.put('/v1/policy', variants[(swap + 1) % 2])
            if number >= 500:
                rest.delete(f'/v1/sas/load-{number - 500}')
        for number in range(500, 1000):
            rest.delete(f'/v1/sas/load-{number}')
    tunnel.settle()
    sent_in = [number for _, number, _ in inbound.sent]
    sent_out = [number for _, number, _ in outbound.sent]
    assert exactly_once(sent_in, [number_of(f[14:]) for f in tunnel.core.frames[core:]]) == {}
    assert exactly_once(sent_out, [n for _, n in tunnel.arrived_outbound(wire)]) == {}
    assert changes(rest, before) == {'accepted': len(sent_in) + len(sent_out)}
    assert rest.get('/v1/status')['dataplane']['generation'] == \
        rest.get('/v1/status')['policy']['generation']
    names = {item['id'] for item in rest.get('/v1/sas')['items']}
    assert not any(name.startswith('load-') for name in names)


def test_a_broken_policy_is_refused_and_the_old_one_loses_nothing(tunnel):
    rest = tunnel.rest
    good = rest.get('/v1/policy')
    broken = [
        dict(good, policies=[{'name': 'x', 'role': 'csmf', 'interface': 'no-such'}]),
        dict(good, peers=[peer_body('a'), peer_body('b')]),  # two peers share an address
        dict(good, interfaces=[dict(good['interfaces'][0], zone='external', protection='none')]),
    ]
    tunnel.settle()
    core = tunnel.core.count()
    with Repeat(500, tunnel.send_inbound) as inbound:
        for document in broken * 5:
            status, problem = rest.call('PUT', '/v1/policy', document)
            assert status in (409, 422), problem
            assert {'title', 'detail', 'field'} <= set(problem)
        rest.put('/v1/policy', good)
    tunnel.settle()
    sent = [number for _, number, _ in inbound.sent]
    assert exactly_once(sent, [number_of(f[14:]) for f in tunnel.core.frames[core:]]) == {}
    assert rest.get('/v1/policy') == good
