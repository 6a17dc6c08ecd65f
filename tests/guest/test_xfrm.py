"""portcullis-peer over the kernel's IPsec, against a whole gate: what passes, what never does, and
that the kernel ends what the agent no longer can."""

import re
import signal
import socket
import time

import pytest

from agent_world import PATIENCE, selector
from netns import wait_until
from processes import Wire
from scapy_esp import frame, udp
from tunnel import CLIENT, GATE, PORT, SERVER
from xfrm_world import XfrmWorld


@pytest.fixture(scope='module')
def module_world(tmp_path_factory):
    with XfrmWorld(tmp_path_factory.mktemp('xfrm')) as w:
        yield w


@pytest.fixture
def world(module_world):
    w = module_world
    w.by_certificate()
    w.sent.packets.clear()
    yield w
    assert w.agent.stop() in (0, None), w.agent.log_tail()
    for one in w.sessions():
        w.rest.delete(f"/v1/sessions/{one['id']}")
    w.clear_kernel()
    w.xfrm('state', 'flush')
    w.xfrm('policy', 'flush')
    assert not w.in_clear()


def test_packets_pass_both_ways_and_nothing_in_clear(world):
    assert not world.passes(timeout=1)  # the gate takes no cleartext
    assert world.in_clear(), 'before the agent first starts it leaves, and is seen here'
    world.start()
    world.sent.packets.clear()
    assert world.passes()
    states = {one['id'][-3:]: one['state'] for one in world.rest.get('/v1/sas')['items']}
    assert states['-in']['packets'] > 0 and states['out']['packets'] > 0
    assert world.protected()
    said = world.xfrm('state')
    assert said.count('rfc4106(gcm(aes))') == 2 and said.count('flag icmp af-unspec esn') == 2
    assert world.agent.stop() == 0
    assert not world.peer_sas() and not world.sessions()
    assert not world.passes(timeout=2)


@pytest.mark.parametrize('algorithm', ['aes-128-gcm-16', 'chacha20-poly1305'])
def test_each_cipher(world, algorithm):
    world.agent.config['sessions'][0]['algorithms'] = [algorithm]
    world.start()
    assert world.passes()
    name = 'chacha20,poly1305' if 'chacha' in algorithm else 'gcm(aes)'
    assert world.xfrm('state').count(name) == 2


def test_udp_encapsulation(world):
    world.agent.config['udp_encap'] = True
    world.start()
    assert world.passes()
    assert wait_until(world.encapsulated)
    assert not world.protected()
    world.sent.packets.clear()
    # RFC 3948 4: what keeps a NAT's mapping, without traffic.
    assert wait_until(lambda: any(packet[28:] == b'\xff' for _, packet in world.sent.packets), 40)


def test_udp_encapsulation_needs_its_port(world):
    world.agent.config['udp_encap'] = True
    with world.peer.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(('0.0.0.0', 4500))
        refused(world, 'UDP port 4500 cannot be had for ESP: Address already in use')
    world.start()
    assert world.passes()


def test_renewals_under_traffic_lose_nothing(world):
    with world.short_tokens(seconds=12):
        world.start()
        assert world.passes()
        world.renews_under_traffic()
    assert len(world.sessions()) == 1 and len(world.peer_sas()) >= 4  # the old pair still receives
    assert not world.in_clear()


def test_the_kernel_ends_what_a_killed_agent_cannot(world):
    world.write_token(exp=int(time.time()) + 15)
    world.start()
    assert world.passes()
    world.agent.kill()
    assert world.passes() and len(world.peer_sas()) == 2  # until then packets go on
    with world.client() as sock:
        while world.peer_sas():
            world.answered(sock)
        for _ in range(20):
            assert not world.answered(sock)
    assert not world.in_clear()
    world.write_token()
    world.start()
    assert world.passes()


def test_a_restarted_agent_takes_over(world):
    world.start()
    assert world.passes()
    world.agent.kill()
    before = world.peer_sas()
    world.guard.stop()
    try:
        world.start()
        world.agent.wait_for('cannot be reached')
        assert world.passes() and world.peer_sas() == before  # without a new session
    finally:
        world.guard.start()
    world.agent.wait_for('generation 1 is in force')
    assert world.passes()
    assert wait_until(lambda: len(world.peer_sas()) == 2 and not world.peer_sas() & before, 60)
    assert world.passes()


def test_what_an_earlier_configuration_admitted_goes(world):
    world.put_policy(last_port=PORT + 1)
    try:
        world.agent.config['sessions'][0]['selectors'] = [selector(gate_ports=[PORT, PORT + 1])]
        world.start()
        assert world.passes()
        world.agent.kill()
        assert '10.2.0.10' in world.xfrm('policy')
        world.agent.config['sessions'][0]['selectors'] = [selector(gate='10.2.0.11/32')]
        world.start()
        world.agent.wait_for('0 policies of an earlier run go on')
        assert '10.2.0.10' not in world.xfrm('policy')
    finally:
        world.put_policy()


def test_what_a_gate_ends_is_noticed(world):
    world.start()
    assert world.passes()
    world.rest.delete(f"/v1/sessions/{world.sessions()[0]['id']}")
    with world.client() as sock:
        assert wait_until(lambda: world.answered(sock) and bool(world.sessions()), PATIENCE)
    world.agent.wait_for('nothing came from the gate for [0-9]+ s')
    world.agent.wait_for('the gate no longer knows')
    assert world.passes()


def test_a_gate_that_is_revoked_gets_no_packet_more(world):
    gate = world.pki.issue('gate.example', 'server')
    world.restart_guard(gate)
    try:
        world.start()
        assert world.passes()
        world.pki.revoke(gate)
        world.agent.process.send_signal(signal.SIGHUP)
        world.agent.wait_for("the gate's certificate counts no more: cert_revoked")
        assert world.gone()
        assert not world.passes(timeout=2)
    finally:
        world.restart_guard()
    assert world.passes()


def reaches(world, source, destination, kind=socket.SOCK_DGRAM):
    """Whether one packet leaves the peer at all, under ESP or in clear."""
    world.sent.packets.clear()
    with world.peer.entered(), socket.socket(socket.AF_INET, kind) as sock:
        sock.bind((source, 0))
        sock.setblocking(False)
        try:
            if kind == socket.SOCK_STREAM:
                sock.connect_ex(destination)
            else:
                sock.sendto(b'x' * 100, destination)
        except OSError:
            pass
    return wait_until(lambda: world.in_clear() or world.protected(), 1)


def test_what_is_beside_the_selectors_does_not_leave(world):
    world.start()
    assert world.passes()
    assert not reaches(world, CLIENT, (SERVER, PORT + 1))
    assert not reaches(world, CLIENT, (SERVER, PORT), socket.SOCK_STREAM)
    assert not reaches(world, '192.0.2.2', (SERVER, PORT))  # another source
    assert reaches(world, CLIENT, (SERVER, PORT)) and world.protected() and not world.in_clear()


def test_cleartext_that_claims_to_be_a_servers_is_not_received(world):
    world.start()
    assert world.passes()
    macs = world.peer.mac('wire0'), world.gate.mac('wire0')
    with world.client() as sock, Wire(world.gate, 'wire0') as wire:
        port = sock.getsockname()[1]
        wire.send(frame(udp(SERVER, CLIENT, PORT, port, b'forged'), *macs))
        wire.send(frame(udp(GATE, CLIENT, PORT, port, b'another'), *macs))  # and its twin
        assert wait_until(lambda: received(sock) == b'another', 5)
        assert received(sock) is None


def received(sock):
    try:
        return sock.recv(2048)
    except TimeoutError:
        return None


def test_policies_that_somebody_flushed_are_restored(world):
    world.start()
    assert world.passes()
    world.xfrm('policy', 'flush')
    world.agent.wait_for("somebody changed this agent's policies; they are restored")
    world.sent.packets.clear()  # what went before they were
    assert world.passes()


OTHERS = ['src', '198.51.100.1', 'dst', '198.51.100.2']


def test_what_is_others_stays(world):
    world.xfrm('state', 'add', *OTHERS, 'proto', 'esp', 'spi', '0x1234', 'reqid', '1', 'mode',
               'tunnel', 'aead', 'rfc4106(gcm(aes))', '0x' + '00' * 20, '128')
    world.xfrm('policy', 'add', *OTHERS, 'dir', 'out', 'priority', '1000', 'tmpl', *OTHERS, 'proto',
               'esp', 'reqid', '1', 'mode', 'tunnel')
    world.start()
    assert world.passes()
    assert world.agent.stop() == 0
    assert world.peer_sas() == {'0x00001234'}
    assert 'priority 20548' in world.xfrm('policy')
    world.clear_kernel()
    assert world.peer_sas() == {'0x00001234'}
    assert re.findall('priority ([0-9]+)', world.xfrm('policy')) == ['1000']


def test_a_policy_of_somebody_elses_in_the_way_is_said(world):
    world.xfrm('policy', 'add', 'src', '0.0.0.0/0', 'dst', f'{SERVER}/32', 'dir', 'out', 'priority',
               '1000')
    refused(world, 'adding the policy out 0.0.0.0/0 - 10.2.0.10/32.*File exists')
    world.xfrm('policy', 'delete', 'src', '0.0.0.0/0', 'dst', f'{SERVER}/32', 'dir', 'out')
    world.start()
    assert world.passes()


def refused(world, pattern):
    world.agent.start()
    assert world.agent.process.wait(PATIENCE) == 1
    assert re.search(pattern, world.agent.said()), world.agent.said()
    world.agent.stop()
    world.agent.process = None


def test_without_the_capability_it_does_not_start(world):
    argv = world.agent.argv
    world.agent.argv = ['setpriv', '--bounding-set', '-net_admin', '--inh-caps', '-net_admin', *argv]
    try:
        refused(world, 'Operation not permitted; expected CAP_NET_ADMIN')
    finally:
        world.agent.argv = argv
    world.start()
    assert world.passes()
