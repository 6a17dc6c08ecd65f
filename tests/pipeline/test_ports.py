"""The other roles of ports: `local` (the gate's own services) and `exception` (the host's own
traffic on a port that DPDK owns whole); several receive queues; net_pcap instead of net_af_packet."""

import pytest

from gate import GATE, PEER, SERVER, forwarded, ip_packet, to_core, to_gate
from scapy_esp import datagram, frame, udp

GUARD = '10.9.0.1'
GUARD_MAC, GUARD_FAR_MAC = '02:00:00:00:00:03', '02:00:00:00:03:0a'
HOST_MAC = '02:00:00:00:00:01'


@pytest.fixture(scope='module')
def house(make_gate):
    """With a local port for 10.9.0.1 and an exception port for the wire."""
    def route(config):
        config['routes'].append({'prefix': GUARD + '/32', 'port': 'guard', 'mac': GUARD_FAR_MAC})
    return make_gate(change=route, extra_ports=[
        {'name': 'guard', 'role': 'local', 'mac': GUARD_MAC, 'mtu': 1500,
         'addresses': ['10.9.0.254/32'], 'prefixes': [GUARD + '/32']},
        {'name': 'host', 'role': 'exception', 'exception': 'wire', 'mac': HOST_MAC, 'mtu': 1500},
    ])


def guard_frame(packet):
    return frame(packet, GUARD_MAC, GUARD_FAR_MAC)


def test_decrypted_packets_reach_the_gates_own_services(house):
    link = house.link()
    inner = udp(link.client[4], GUARD, 1, 443)
    outcome = house.judge(link.seal(inner))
    assert outcome.verdicts == {'accepted': 1} and outcome.core == []
    assert [ip_packet(f) for f in outcome.frames['guard']] == [forwarded(inner)]
    # And they answer; what they send is judged as strictly as a server's.
    answer = udp(GUARD, link.client[4], 443, 1)
    outcome = house.judge(guard_frame(answer), 'guard')
    assert outcome.verdicts == {'accepted': 1}
    assert link.open(outcome.wire[0]).inner == forwarded(answer)
    house.refuses(guard_frame(udp(GUARD, '10.77.0.1', 443, 1)), 'no_policy', 'guard')


def test_services_have_their_selectors_too(house):
    link = house.link(selectors=lambda c: [{'remote': c[4] + '/32', 'local': GUARD + '/32',
                                            'protocol': 'tcp'}])
    house.refuses(link.seal(udp(link.client[4], GUARD, 1, 443)), 'selector_mismatch')
    house.refuses(guard_frame(udp(GUARD, link.client[4], 443, 1)), 'selector_mismatch', 'guard')
    good = datagram(link.client[4], GUARD, 6, bytes(20))
    assert house.judge(link.seal(good)).verdicts == {'accepted': 1}


def test_cleartext_does_not_reach_the_services(house):
    house.refuses(to_gate(udp(PEER[4], GUARD, 1, 443)), 'not_for_us')  # no interface names it
    house.accepts(house.link())


def test_the_hosts_own_traffic(house):
    """ARP, IKE and what is addressed to the wire's own addresses; nothing else."""
    arp = bytes.fromhex('ffffffffffff' '020000000a02' '0806') + bytes(28)
    ssh = to_gate(datagram(PEER[4], GATE[4], 6, bytes(20)))
    echo = to_gate(datagram(PEER[4], GATE[4], 1, bytes((8, 0, 0, 0, 0, 0, 0, 0))))
    ike = to_gate(udp(PEER[4], GATE[4], 4500, 4500, b'\0\0\0\0' + bytes(28)))
    for data in (arp, ssh, echo, ike):
        outcome = house.judge(data)
        assert outcome.verdicts == {'exception': 1}
        assert outcome.frames['host'] == [data]
        assert outcome.core == [] and outcome.wire == []
    house.refuses(to_gate(datagram(PEER[4], SERVER[4], 6, bytes(20))), 'cleartext_denied')
    house.accepts(house.link())


def test_the_host_sends_as_it_likes(house):
    data = frame(datagram(GATE[4], PEER[4], 6, bytes(20)), '02:00:00:00:0a:02', HOST_MAC)
    outcome = house.judge(data, 'host')
    assert outcome.verdicts == {'exception': 1}
    assert outcome.frames['wire'] == [data] and outcome.core == []


def test_esp_never_goes_to_the_host(house):
    link = house.link()
    spi, link.inbound.spi = link.inbound.spi, 0x5eed0fff
    outcome = house.judge(link.seal(link.request(), 1))
    assert outcome.verdicts == {'unknown_spi': 1} and outcome.frames['host'] == []
    link.inbound.spi = spi
    house.accepts(link)


# ---- the same through other doors

def assert_works(gate):
    links = [gate.link(outer=outer, udp=encap) for outer in (4, 6) for encap in (False, True)]
    for link in links:
        for family in (4, 6):
            gate.accepts(link, family)
            gate.answers(link, family)
        data = link.seal(link.request())
        assert gate.judge(data).verdicts == {'accepted': 1}
        gate.refuses(data, 'replayed')
        gate.accepts(link, vlan=5)
    # Well below the 200 or so that the buffer of a pcap port holds.
    frames = [link.seal(link.request()) for _ in range(30) for link in links]
    assert gate.judge(frames, burst=True).verdicts == {'accepted': 120}
    gate.refuses(frames, 'replayed', burst=True)


@pytest.mark.parametrize('workers', (1, 2))
def test_pcap_ports(make_gate, workers):
    assert_works(make_gate(driver='pcap', workers=workers))


def test_several_queues(make_gate):
    """Each worker receives; whoever does not own the SA hands over."""
    gate = make_gate(workers=2, queues=2)
    assert_works(gate)
    counters = gate.steer.counters(by='worker')
    assert set(counters) == {'0', '1'}
    assert all(worker['accepted'] > 0 for worker in counters.values())


def test_both_workers_work(make_gate):
    gate = make_gate(workers=2)
    links = [gate.link() for _ in range(4)]
    assert {link.state().worker for link in links} == {0, 1}
    for link in links:
        assert link.state().worker == link.state('outbound').worker
    frames = [link.seal(link.request()) for _ in range(100) for link in links]
    assert gate.judge(frames).verdicts == {'accepted': 400}
    assert gate.judge([to_core(link.answer()) for _ in range(25) for link in links],
                      'core').verdicts == {'accepted': 100}
    for link in links:
        assert gate.steer.counters('peer', link.name)['accepted'] == 125
    # Order within each peer is kept across the hand-off.
    outcome = gate.judge([link.seal(link.request(ident=n)) for n in range(50) for link in links])
    for link in links:
        own = [p for p in outcome.core if p[12:16] == link.request()[12:16]]
        assert [int.from_bytes(p[4:6], 'big') for p in own] == list(range(50))
