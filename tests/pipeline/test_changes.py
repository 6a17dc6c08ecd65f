"""Changes under load: SAs and policy come and go while traffic flows, and no packet of anybody who
is not concerned is lost. Counted end to end."""

import os
import threading
import time

import pytest

from gate import forwarded, to_core
from steer_client import SteerError


class Traffic:
    """Both directions of some links, paced, from a thread, while the block runs, but at least so
    many packets that a loss would have its chance."""

    LEAST = 400

    def __init__(self, gate, links):
        self.gate = gate
        self.links = links
        self.sent = 0
        self.stop = False
        self.thread = threading.Thread(target=self.run)

    def run(self):
        frames = {link.name: to_core(link.answer()) for link in self.links}
        while not self.stop or self.sent < self.LEAST:
            for link in self.links:
                for _ in range(4):
                    self.gate.wires['wire'].send(link.seal(link.request()))
                    self.gate.wires['core'].send(frames[link.name])
                    self.sent += 2
            time.sleep(0.001)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop = True
        self.thread.join()


def assert_nothing_lost(gate, traffic):
    outcome = gate.judge(counted=traffic.sent)
    assert outcome.verdicts == {'accepted': traffic.sent}
    assert len(outcome.core) == len(outcome.wire) == traffic.sent // 2


def extra_sas(link, count, start):
    """SAs of the same peer that carry nothing: their selectors match nobody."""
    return [{'id': f'{link.name}-extra-{start + n}', 'peer': link.name,
             'direction': 'inbound' if n % 2 else 'outbound', 'spi': 0x702000 + start + n,
             'key': os.urandom(20),
             'selectors': [{'local': '10.254.0.1/32'}], 'tunnel': {'local': '192.0.2.1', 'remote': '192.0.2.2'}}
            for n in range(count)]


def test_a_thousand_sas_come_and_go(gate):
    links = [gate.link() for _ in range(4)]
    with Traffic(gate, links) as traffic:
        for batch in range(10):
            sas = extra_sas(links[batch % 4], 100, batch * 100)
            gate.steer.add_sas(sas)
            gate.steer.remove_sas([sa['id'] for sa in sas])
    assert_nothing_lost(gate, traffic)


def test_policy_is_swapped_a_hundred_times(gate):
    links = [gate.link() for _ in range(4)]
    with Traffic(gate, links) as traffic:
        for n in range(100):
            for link in links:
                link.peer['rules'] = ([{'policy': f'generation {n}',
                                        'selector': {'remote': p}} for p in link.prefixes]
                                      + [{'policy': 'more', 'selector': {
                                          'remote': link.prefixes[0], 'protocol': 6 + n % 2}}])
            gate.push_policy(full=n % 2 == 0, peers=None if n % 2 == 0 else [link.peer])
    assert_nothing_lost(gate, traffic)


def test_a_refused_policy_changes_nothing(gate):
    """Older generation, wrong base, one prefix for two peers: the old policy goes on."""
    links = [gate.link() for _ in range(2)]
    with Traffic(gate, links) as traffic:
        generation = gate.steer.hello().generation
        for _ in range(20):
            for wrong in (
                    {'generation': generation},
                    {'generation': generation + 1, 'full': False, 'base_generation': 1},
                    {'generation': generation + 1, 'peers': [
                        dict(links[0].peer), dict(links[1].peer, prefixes=links[0].prefixes)]}):
                with pytest.raises(SteerError):
                    gate.steer.apply(**wrong)
        assert gate.steer.hello().generation == generation
    assert_nothing_lost(gate, traffic)


def test_outbound_sas_are_replaced_under_load(gate):
    """Each packet is sealed under one SA or its successor; none is lost in between, and no number
    is used twice under a key."""
    link, other = gate.link(), gate.link()
    spis = {link.outbound.spi}
    current = link.sas[1]['id']
    with Traffic(gate, [link, other]) as traffic:
        for n in range(20):
            spi = link.outbound.spi ^ (n + 1) << 16
            new = dict(link.sas[1], id=f'{link.name}-out-{n + 2}', spi=spi,
                       key=bytes([n]) * 16 + link.outbound.key[-4:], replaces=current)
            gate.steer.add_sas([new])
            current = new['id']
            spis.add(spi)
            time.sleep(0.005)
    outcome = gate.judge(counted=traffic.sent)
    assert outcome.verdicts == {'accepted': traffic.sent}
    numbers = [(int.from_bytes(p[20:24], 'big'), int.from_bytes(p[24:28], 'big'))
               for p in outcome.wire]
    assert len(set(numbers)) == len(numbers) == traffic.sent // 2
    assert len({spi for spi, _ in numbers} & spis) > 3


def test_an_inbound_sa_is_replaced(gate):
    """Make before break: both work while both are there; replacing takes the old one away."""
    link = gate.link()
    old = link.inbound.spi
    gate.accepts(link)
    new = dict(link.sas[0], id=f'{link.name}-in-2', spi=old ^ 0x1000, key=bytes([9]) * 20)
    gate.steer.add_sas([new])
    gate.accepts(link)
    key, sequence = link.inbound.key, link.inbound.sequence
    link.inbound.spi, link.inbound.key, link.inbound.sequence = new['spi'], new['key'], 0
    link.inbound.__post_init__()
    gate.accepts(link)
    third = dict(link.sas[0], id=f'{link.name}-in-3', spi=old ^ 0x2000, key=bytes([10]) * 20,
                 replaces=f'{link.name}-in-2')
    gate.steer.add_sas([third])
    gate.refuses(link.seal(link.request()), 'unknown_spi')
    link.inbound.spi, link.inbound.key, link.inbound.sequence = old, key, sequence
    link.inbound.__post_init__()
    gate.accepts(link)


def test_a_removed_sa_is_gone_and_its_key_stays_used(gate):
    link = gate.link()
    gate.accepts(link)
    gate.steer.remove_sas([f'{link.name}-in'])
    gate.refuses(link.seal(link.request()), 'unknown_spi')
    with pytest.raises(SteerError):
        gate.steer.add_sas([link.sas[0]])  # the same key again: its old packets would be new
    gate.steer.add_sas([dict(link.sas[0], key=bytes([11]) * 16 + link.inbound.key[:4])])
    link.inbound.key = bytes([11]) * 16 + link.inbound.key[:4]
    link.inbound.sequence = 0
    link.inbound.__post_init__()
    gate.accepts(link)


def test_sas_of_a_busy_peer_are_removed_under_its_traffic(gate):
    """Nothing crashes, and every packet has one verdict."""
    link = gate.link()
    with Traffic(gate, [link]) as traffic:
        time.sleep(0.02)
        gate.steer.remove_sas([f'{link.name}-in', f'{link.name}-out'])
        time.sleep(0.02)
        gate.push_policy(full=False, peers=[], removed_peers=[link.name])
        time.sleep(0.02)
    outcome = gate.judge(counted=traffic.sent)
    assert set(outcome.verdicts) <= {'accepted', 'unknown_spi', 'no_policy'}
    assert outcome.verdicts['accepted'] > 0 and outcome.verdicts['unknown_spi'] > 0
    del gate.links[link.name]


def test_counters_of_a_peer_survive_its_sas(gate):
    link = gate.link()
    gate.judge([link.seal(link.request()) for _ in range(5)])
    assert gate.steer.counters('peer', link.name)['accepted'] == 5
    assert gate.steer.counters('sa', f'{link.name}-in')['accepted'] == 5
    gate.steer.remove_sas([f'{link.name}-in'])
    assert gate.steer.counters('peer', link.name)['accepted'] == 5


def test_revocation_under_load_is_immediate(gate):
    """Of packets sent after the answer to Revoke none passes."""
    link, other = gate.link(), gate.link()
    with Traffic(gate, [link, other]):
        time.sleep(0.02)
        gate.steer.revoke(link.name)
        before = gate.steer.counters('peer', link.name)['accepted']
        time.sleep(0.05)
        assert gate.steer.counters('peer', link.name)['accepted'] - before <= 0
        assert gate.steer.counters('peer', other.name)['accepted'] > 0
    gate.drain()
    gate.steer.revoke(link.name, False)
    gate.accepts(link)
    inner = link.answer()
    assert link.open(gate.judge(to_core(inner), 'core').wire[0]).inner == forwarded(inner)
