"""A peer behind a NAT that moves: its endpoint follows authentic, newest packets, and nothing else."""

from gate import to_core


def endpoint(gate, link):
    outcome = gate.judge(to_core(link.answer()), 'core')
    opened = link.open(outcome.wire[0])
    return opened.outer.destination, opened.outer.ports[1]


def moved(link, address, port):
    link.inbound.source, link.inbound.ports = address, (port, 4500)


def test_the_endpoint_follows_the_newest_authentic_packet(gate):
    link = gate.link(udp=True, tunnel={'follow_nat': True})
    gate.accepts(link)
    assert endpoint(gate, link) == ('192.0.2.2', 4500)
    moved(link, '203.0.113.5', 61000)
    gate.accepts(link)
    link.outbound.ports = (4500, 61000)
    assert endpoint(gate, link) == ('203.0.113.5', 61000)
    state = link.state()
    assert (state.remote, state.remote_port) == (bytes((203, 0, 113, 5)), 61000)


def test_forgeries_replays_and_late_packets_move_nothing(gate):
    link = gate.link(udp=True, tunnel={'follow_nat': True})
    gate.accepts(link)
    late = link.inbound.sequence + 1
    link.inbound.sequence += 1
    gate.accepts(link)
    good = link.seal(link.request())
    assert gate.judge(good).verdicts == {'accepted': 1}
    moved(link, '203.0.113.6', 62000)
    forged = link.seal(link.request(), link.inbound.sequence + 5)
    gate.refuses(forged[:-1] + bytes([forged[-1] ^ 1]), 'auth_failed')
    gate.refuses(link.seal(link.request(), link.inbound.sequence), 'replayed')
    assert gate.judge(link.seal(link.request(), late)).verdicts == {'accepted': 1}
    assert endpoint(gate, link) == ('192.0.2.2', 4500)


def test_without_follow_nat_it_stays(gate):
    link = gate.link(udp=True)
    moved(link, '203.0.113.5', 61000)
    gate.accepts(link)
    assert endpoint(gate, link) == ('192.0.2.2', 4500)


def test_other_ports(gate):
    """The peer's own port may be any; ours is 4500."""
    link = gate.link(udp=True, ports=(50000, 4500))
    gate.accepts(link)
    assert endpoint(gate, link) == ('192.0.2.2', 50000)
