"""Authentic is not authorised: selectors of the SA, rules of the policy, grants, bypasses; both
directions. Nothing passes that no rule admits."""

import os
import time

import pytest

from gate import PEER, SERVER, forwarded, to_core, to_gate
from scapy_esp import datagram, tcp, udp
from steer_client import SteerError

OTHER_SERVER = {4: '10.2.0.11', 6: '2001:db8:2::11'}


def both(gate, link, request, answer, verdict):
    """A packet and its mirror image have the same fate: `verdict`, None for accepted."""
    for frames, side, packet in ((link.seal(request), 'wire', request),
                                 (to_core(answer), 'core', answer)):
        outcome = gate.judge(frames, side)
        if verdict is None:
            assert outcome.verdicts == {'accepted': 1}, side
            out = outcome.core if side == 'wire' else [link.open(p).inner for p in outcome.wire]
            assert out == [forwarded(packet)]
        else:
            assert outcome.verdicts == {verdict: 1}, side
            assert outcome.core == [] and outcome.wire == []


# What a selector says, a packet (client, server, protocol, client port, server port) and whether it
# is meant. A packet names the families' usual addresses by default.
def selector(**more):
    return lambda family, client: {'local': SERVER[family] + ('/32' if family == 4 else '/128'),
                                   'remote': client + ('/32' if family == 4 else '/128')} | more


WEB = selector(protocol='tcp', local_ports=(8080, 8090))
CALLBACK = selector(protocol='tcp', remote_ports=(9090, 9090))
BOTH_PORTS = selector(protocol='udp', local_ports=(500, 500), remote_ports=(1000, 2000))
ANY_PROTOCOL = selector()
TABLE = [
    (WEB, 'first port', tcp, (40000, 8080), True),
    (WEB, 'last port', tcp, (40000, 8090), True),
    (WEB, 'below', tcp, (40000, 8079), False),
    (WEB, 'above', tcp, (40000, 8091), False),
    (WEB, 'ports swapped', tcp, (8080, 40000), False),
    (WEB, 'other protocol', udp, (40000, 8080), False),
    (CALLBACK, 'its port', tcp, (9090, 1), True),
    (CALLBACK, 'another', tcp, (9091, 1), False),
    (CALLBACK, 'swapped', tcp, (1, 9090), False),
    (BOTH_PORTS, 'inside', udp, (1500, 500), True),
    (BOTH_PORTS, 'edges', udp, (2000, 500), True),
    (BOTH_PORTS, 'remote outside', udp, (2001, 500), False),
    (BOTH_PORTS, 'local outside', udp, (1500, 501), False),
    (ANY_PROTOCOL, 'tcp', tcp, (1, 2), True),
    (ANY_PROTOCOL, 'udp', udp, (1, 2), True),
]


@pytest.mark.parametrize('where', ('selectors', 'rules'))
@pytest.mark.parametrize('family', (4, 6))
def test_ports_and_protocols(gate, family, where):
    refused = 'selector_mismatch' if where == 'selectors' else 'no_policy'
    links = {}
    for make, what, transport, (client_port, server_port), meant in TABLE:
        if make not in links:
            links[make] = gate.link(**{where: lambda client, make=make: [make(family,
                                                                              client[family])]})
        link = links[make]
        client, server = link.client[family], SERVER[family]
        request = transport(client, server, client_port, server_port, b'x')
        answer = transport(server, client, server_port, client_port, b'x')
        both(gate, link, request, answer, None if meant else refused)


@pytest.mark.parametrize('where', ('selectors', 'rules'))
@pytest.mark.parametrize('family', (4, 6))
def test_prefixes(gate, family, where):
    refused = 'selector_mismatch' if where == 'selectors' else 'no_policy'
    link = gate.link(**{where: lambda client: [ANY_PROTOCOL(family, client[family])]})
    client, server = link.client[family], SERVER[family]
    neighbour = client.rsplit('.', 1)[0] + '.3' if family == 4 else client + '3'
    other = OTHER_SERVER[family]
    both(gate, link, udp(client, server, 1, 2), udp(server, client, 2, 1), None)
    both(gate, link, udp(client, other, 1, 2), udp(other, client, 2, 1), refused)
    both(gate, link, udp(neighbour, server, 1, 2), udp(server, neighbour, 2, 1), refused)
    both(gate, link, udp(client, server, 1, 2), udp(server, client, 2, 1), None)


@pytest.mark.parametrize('family', (4, 6))
def test_a_spoofed_inner_source(gate, family):
    """A peer that speaks as another peer, as a server, as the gate: never."""
    one, two = gate.link(), gate.link()
    for source in (two.client[family], OTHER_SERVER[family], SERVER[family]):
        gate.refuses(one.seal(udp(source, SERVER[family], 1, 2)), 'selector_mismatch')
    gate.accepts(one, family)
    gate.accepts(two, family)
    # Even when its SA would carry anything, the policy still knows whose addresses these are.
    loose = gate.link(selectors=[{}])
    gate.refuses(loose.seal(udp(two.client[family], SERVER[family], 1, 2)), 'no_policy')
    gate.accepts(loose, family)


def test_no_selectors_admit_nothing(gate):
    with pytest.raises(SteerError):
        gate.link(selectors=[])  # refused at once: it would be a mistake
    link = gate.link(selectors=[{'local': '10.254.0.1/32'}])
    both(gate, link, link.request(), link.answer(), 'selector_mismatch')


def test_no_rules_admit_nothing(gate):
    link = gate.link(rules=[])
    both(gate, link, link.request(), link.answer(), 'no_policy')
    link.peer['rules'] = [{'policy': 'now', 'selector': {'remote': link.prefixes[0]}}]
    gate.push_policy(full=False, peers=[link.peer])
    both(gate, link, link.request(), link.answer(), None)


def test_protocols_without_ports_match_no_ports(gate):
    link = gate.link(selectors=lambda c: [{'remote': c[4] + '/32', 'local_ports': (0, 100)}])
    client = link.client[4]
    echo = bytes((8, 0, 0, 0, 0, 0, 0, 0))
    gate.refuses(link.seal(datagram(client, SERVER[4], 1, echo)), 'selector_mismatch')
    gate.refuses(link.seal(datagram(client, SERVER[4], 47, bytes(8))), 'selector_mismatch')
    assert gate.judge(link.seal(udp(client, SERVER[4], 1, 100))).verdicts == {'accepted': 1}


def test_the_first_matching_outbound_sa_carries_it(gate):
    """Two SAs with different selectors: each packet goes by the one that is meant for it."""
    link = gate.link(selectors=lambda c: [{'remote': c[4] + '/32', 'protocol': 'tcp'}])
    second = dict(link.sas[1], id=f'{link.name}-udp', spi=link.outbound.spi ^ 1 << 20,
                  key=os.urandom(20), selectors=[{'remote': link.client[4] + '/32',
                                                    'protocol': 'udp'}])
    gate.steer.add_sas([second])
    client = link.client[4]
    outcome = gate.judge([to_core(tcp(SERVER[4], client, 1, 2)),
                          to_core(udp(SERVER[4], client, 1, 2))], 'core')
    assert outcome.verdicts == {'accepted': 2}
    assert [int.from_bytes(p[20:24], 'big') for p in outcome.wire] == [link.outbound.spi,
                                                                       second['spi']]
    gate.refuses(to_core(datagram(SERVER[4], client, 47, bytes(8))), 'selector_mismatch', 'core')


# ---- ICMP errors inside the tunnel

def icmp_error(source, destination, quoted, kind=3, code=1):
    return datagram(source, destination, 1, bytes((kind, code, 0, 0, 0, 0, 0, 0)) + quoted[:28])


def test_inner_icmp_errors_belong_to_what_they_quote(gate):
    """RFC 4301 6.2: judged by the quoted packet, reversed."""
    link = gate.link(selectors=lambda c: [{'local': '10.2.0.10/32', 'remote': c[4] + '/32',
                                           'protocol': 'tcp', 'local_ports': (8080, 8080)}])
    client, server = link.client[4], SERVER[4]
    answer = tcp(server, client, 8080, 40000, b'x')
    other = tcp(server, client, 22, 40000, b'x')
    foreign = tcp(OTHER_SERVER[4], client, 8080, 40000, b'x')
    good = icmp_error(client, server, answer)
    outcome = gate.judge(link.seal(good))
    assert outcome.verdicts == {'accepted': 1} and outcome.core == [forwarded(good)]
    gate.refuses(link.seal(icmp_error(client, server, other)), 'selector_mismatch')
    # An error goes to the sender of what it quotes and to nobody else.
    gate.refuses(link.seal(icmp_error(client, server, foreign)), 'inner_malformed')
    gate.refuses(link.seal(icmp_error(client, server, b'')), 'inner_malformed')
    # The other direction.
    request = tcp(client, server, 40000, 8080, b'x')
    outcome = gate.judge(to_core(icmp_error(server, client, request)), 'core')
    assert outcome.verdicts == {'accepted': 1}
    gate.refuses(to_core(icmp_error(server, client, tcp(client, server, 40000, 22))),
                 'selector_mismatch', 'core')


# ---- cleartext

@pytest.mark.parametrize('family', (4, 6))
def test_cleartext_is_denied(gate, family):
    link = gate.link()
    for packet in (link.request(family), tcp(link.client[family], SERVER[family], 1, 8080),
                   udp(PEER[family], SERVER[family], 1, 8080),
                   datagram(PEER[family], SERVER[family], 1 if family == 4 else 58,
                            bytes((8 if family == 4 else 128,)) + bytes(7))):
        gate.refuses(to_gate(packet), 'cleartext_denied')
    gate.accepts(link, family)


@pytest.mark.parametrize('source,server,elsewhere,other_server', [
    ('203.0.113.7', '10.2.0.77', '203.0.112.255', '10.2.0.78'),
    ('2001:db8:f::7', '2001:db8:2::77', '2001:db8:e::7', '2001:db8:2::78')], ids=('4', '6'))
def test_bypass(gate, source, server, elsewhere, other_server):
    """Cleartext passes by an explicit rule only, and only what the rule says."""
    v4 = ':' not in source
    request, answer = udp(source, server, 5, 123), udp(server, source, 123, 5)
    gate.refuses(to_gate(request), 'cleartext_denied')
    gate.refuses(to_core(answer), 'no_policy', 'core')
    gate.bypasses = [{'name': 'time', 'local': server + ('/32' if v4 else '/128'),
                      'remote': '203.0.113.0/24' if v4 else '2001:db8:f::/64', 'protocol': 'udp',
                      'local_ports': (123, 123)}]
    gate.push_policy(full=False, peers=[])
    try:
        outcome = gate.judge(to_gate(request))
        assert outcome.verdicts == {'bypassed': 1} and outcome.core == [forwarded(request)]
        outcome = gate.judge(to_core(answer), 'core')
        assert outcome.verdicts == {'bypassed': 1} and outcome.wire == [forwarded(answer)]
        for packet in (udp(source, server, 5, 124), udp(source, other_server, 5, 123),
                       tcp(source, server, 5, 123), udp(elsewhere, server, 5, 123)):
            gate.refuses(to_gate(packet), 'cleartext_denied')
        # Routed like everything else: hop by hop.
        gate.refuses(to_gate(udp(source, server, 5, 123, ttl=1)), 'ttl_expired')
        outcome = gate.judge(to_core(udp(server, source, 123, 5, ttl=1)), 'core')
        assert outcome.verdicts == {'ttl_expired': 1} and outcome.wire == []
        gate.refuses(to_core(udp(server, source, 124, 5)), 'no_policy', 'core')
    finally:
        gate.bypasses = []
        gate.push_policy(full=False, peers=[])
    gate.refuses(to_gate(request), 'cleartext_denied')


def test_a_bypass_rule_does_not_open_tunnels_to_others(gate):
    """ESP is never cleartext: a bypass for everything still lets no unknown SPI through."""
    link = gate.link()
    gate.bypasses = [{'name': 'all', 'remote': '192.0.2.0/24'}]
    gate.push_policy(full=False, peers=[])
    try:
        spi, link.inbound.spi = link.inbound.spi, 0xdead0fff
        gate.refuses(link.seal(link.request(), 1), 'unknown_spi')
        link.inbound.spi = spi
        gate.accepts(link)
    finally:
        gate.bypasses = []
        gate.push_policy(full=False, peers=[])


# ---- grants

def test_revocation(gate):
    link, other = gate.link(), gate.link()
    both(gate, link, link.request(), link.answer(), None)
    gate.steer.revoke(link.name)
    both(gate, link, link.request(), link.answer(), 'grant_expired')
    both(gate, other, other.request(), other.answer(), None)
    gate.steer.revoke(link.name, False)
    both(gate, link, link.request(), link.answer(), None)


def test_a_grant_ends_at_its_deadline(gate):
    now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    link = gate.link(deadline_boot_ns=now + 700_000_000)
    both(gate, link, link.request(), link.answer(), None)
    verdict = 'accepted'
    while verdict == 'accepted':
        elapsed = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - now
        assert elapsed < 2_700_000_000, 'two seconds after its deadline'
        (verdict,) = gate.judge(link.seal(link.request())).verdicts
    assert elapsed > 600_000_000
    both(gate, link, link.request(), link.answer(), 'grant_expired')
    # A new deadline is a new grant.
    link.peer['grant_deadline_boot_ns'] = now + 3600 * 10**9
    gate.push_policy(full=False, peers=[link.peer])
    both(gate, link, link.request(), link.answer(), None)


# ---- whose packet, where to

def test_a_packet_without_a_route_is_not_guessed(gate):
    link = gate.link(tunnel={}, endpoint=None)
    gate.refuses(link.seal(udp(link.client[4], '172.16.0.1', 1, 2)), 'no_route')
    gate.refuses(link.seal(udp(link.client[6], '2001:db8:99::1', 1, 2)), 'no_route')
    gate.accepts(link)
    lost = gate.link(endpoint='172.16.0.2')
    gate.refuses(to_core(lost.answer()), 'no_route', 'core')
    gate.accepts(lost)


def test_decrypted_packets_never_return_to_the_wire(gate):
    """There is a route to 203.0.113.0/24, but it leads to the untrusted side."""
    link = gate.link()
    gate.refuses(link.seal(udp(link.client[4], '203.0.113.9', 1, 2)), 'no_route')
    gate.accepts(link)


def test_no_traffic_between_servers_or_between_peers(gate):
    one, two = gate.link(), gate.link()
    gate.refuses(to_core(udp(SERVER[4], OTHER_SERVER[4], 1, 2)), 'no_policy', 'core')
    outcome = gate.judge(one.seal(udp(one.client[4], two.client[4], 1, 2)))
    assert outcome.core == [] and outcome.wire == [] and 'accepted' not in outcome.verdicts


def test_the_longest_prefix_tells_the_peer(gate):
    wide = gate.link(prefixes=['10.200.0.0/16'])
    narrow = gate.link(prefixes=['10.200.7.0/24'])
    for address, link in (('10.200.1.1', wide), ('10.200.7.1', narrow), ('10.200.8.1', wide)):
        inner = udp(SERVER[4], address, 1, 2)
        outcome = gate.judge(to_core(inner), 'core')
        assert link.open(outcome.wire[0]).inner == forwarded(inner)
    gate.drop_link(narrow)
    outcome = gate.judge(to_core(udp(SERVER[4], '10.200.7.1', 1, 2)), 'core')
    wide.open(outcome.wire[0])
    gate.drop_link(wide)


def test_removing_a_peer_removes_its_right(gate):
    link = gate.link()
    frames = [link.seal(link.request()) for _ in range(2)]
    assert gate.judge(frames[0]).verdicts == {'accepted': 1}
    gate.push_policy(full=False, peers=[], removed_peers=[link.name])
    outcome = gate.judge(frames[1])
    assert outcome.core == [] and set(outcome.verdicts) <= {'unknown_spi', 'no_policy'}
    gate.refuses(to_core(link.answer()), 'no_policy', 'core')
    del gate.links[link.name]
