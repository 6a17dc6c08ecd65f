"""Two-phase grants: what an SA admits only while its peer is registered; both directions, on flows
that the worker has just seen as on new ones."""

import time

import pytest

from gate import SERVER
from scapy_esp import udp
from test_policy import both

REGISTER = 5060  # the server's port that is open before


@pytest.fixture
def link(gate):
    return gate.link(selectors=lambda client: [{'remote': client[4] + '/32', 'protocol': 'udp',
                                                'local_ports': (REGISTER, REGISTER)}],
                     sa_more={'registered_selectors': [{}]})


def ids(link):
    return [sa['id'] for sa in link.sas]


def pair(link, port):
    client = link.client[4]
    return udp(client, SERVER[4], 40000, port, b'x'), udp(SERVER[4], client, port, 40000, b'x')


def seconds(gate, link):
    listed = gate.steer.list_sas()
    return [listed[name].spec.registered_seconds for name in ids(link)]


def test_before_during_and_after(gate, link):
    both(gate, link, *pair(link, REGISTER), None)
    both(gate, link, *pair(link, 8080), 'not_registered')
    assert seconds(gate, link) == [0, 0]
    for _ in range(2):
        gate.steer.register(ids(link), 600)
        assert all(590 < left <= 600 for left in seconds(gate, link))
        for _ in range(2):  # the second time the flow is known
            both(gate, link, *pair(link, 8080), None)
        gate.steer.register(ids(link), 0)
        both(gate, link, *pair(link, 8080), 'not_registered')
        both(gate, link, *pair(link, REGISTER), None)
    assert seconds(gate, link) == [0, 0]


def test_only_the_peer_that_registered(gate, link):
    other = gate.link(selectors=[{'local': '10.254.0.1/32'}],
                      sa_more={'registered_selectors': [{}]})
    gate.steer.register([*ids(link), 'nobody'], 600)
    both(gate, link, *pair(link, 8080), None)
    both(gate, other, *pair(other, 8080), 'not_registered')


def test_the_dataplane_ends_it_by_itself(gate, link):
    gate.steer.register(ids(link), 2)
    both(gate, link, *pair(link, 8080), None)
    deadline = time.monotonic() + 20
    request, _ = pair(link, 8080)
    while gate.judge(link.seal(request)).verdicts == {'accepted': 1}:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    both(gate, link, *pair(link, 8080), 'not_registered')


def test_a_renewed_sa_comes_registered(gate):
    link = gate.link(selectors=[{'local': '10.254.0.1/32'}],
                     sa_more={'registered_selectors': [{}], 'registered_seconds': 600})
    both(gate, link, *pair(link, 8080), None)


def test_what_neither_list_names_is_refused_all_the_same(gate):
    link = gate.link(selectors=[{'local': '10.254.0.1/32'}],
                     sa_more={'registered_selectors': [{'local': '10.254.0.2/32'}],
                              'registered_seconds': 600})
    both(gate, link, *pair(link, 8080), 'selector_mismatch')
