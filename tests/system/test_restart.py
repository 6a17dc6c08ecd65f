"""kill -9 of either process while traffic flows, again and again; of both at once; a reboot.

All the while an attacker sends cleartext to the server and traffic runs in both directions. What
must hold afterwards: no packet from before is accepted, no outbound sequence number was used twice
under its key, traffic resumed without anyone's hand, and nothing unprotected ever got through.
"""

import collections
import os
import time

import pytest

from flow import PER_SECOND, Flow, check_everything
from processes import RestError
from netns import wait_until
from tunnel import Tunnel, sa_body

ROUNDS = 3


def replay_everything(tunnel, packets):
    """Sends all of these packets again; returns how many arrive at the server."""
    tunnel.settle()
    before = tunnel.core.count()
    for number, packet in enumerate(packets):
        tunnel.send_wire(packet)
        if number % 50 == 49:
            time.sleep(0.02)
    tunnel.settle()
    return tunnel.core.count() - before


@pytest.fixture
def tunnel(tmp_path):
    with Tunnel(tmp_path) as running:
        assert running.passes(), running.dataplane.log_tail()
        yield running


def test_either_process_killed_again_and_again(tunnel):
    fates = [tunnel.dataplane, tunnel.control] * ROUNDS
    with Flow(tunnel) as flow:
        assert flow.resumes()
        for process in fates:
            process.kill()
            time.sleep(0.5)
            if process is tunnel.control:
                # The dataplane goes on with what it has.
                assert flow.runs(), 'traffic stopped when control died'
                process.start(ready=False)
            else:
                process.start()
            assert flow.resumes(), f'{tunnel.dataplane.log_tail()}\n{tunnel.control.log_tail()}'
            tunnel.control.wait_ready()
    check_everything(tunnel, flow)
    # All that arrived, again. (What was sent while the dataplane was dead is no replay.)
    arrived = set(tunnel.arrived_inbound())
    packets = [packet for _, number, packet in flow.inbound.sent if number in arrived]
    assert len(packets) > len(fates) * PER_SECOND / 2
    assert replay_everything(tunnel, packets) == 0
    check_everything(tunnel, flow)
    assert tunnel.passes()  # the twin: the next packet of the same SA is accepted


def test_replays_between_death_and_the_first_new_packet(tunnel):
    """Nothing fresh advances the window again: what stands in the file alone must refuse them."""
    for _ in range(ROUNDS):
        with Flow(tunnel) as flow:
            assert flow.resumes()
            tunnel.dataplane.kill()
        packets = [packet for _, _, packet in flow.inbound.sent]
        before = collections.Counter(tunnel.arrived_inbound())
        tunnel.dataplane.start()
        tunnel.control.wait_ready()
        tunnel.settle()
        held = tunnel.rest.get('/v1/sas/in')['state']['sequence']
        # Those that were still on the way when it died were never accepted: they may come now.
        never_seen = [p for _, n, p in flow.inbound.sent if before[n] == 0]
        assert len(never_seen) < PER_SECOND
        seen = [p for p in packets if p not in set(never_seen)]
        assert replay_everything(tunnel, seen) == 0
        assert tunnel.rest.get('/v1/sas/in')['state']['sequence'] == held
        assert tunnel.passes(), tunnel.dataplane.log_tail()
        tunnel.core.frames.clear()
        tunnel.wire.frames.clear()


def test_killing_control_loses_no_packet(tunnel):
    tunnel.settle()
    core, wire = tunnel.core.count(), tunnel.wire.count()
    with Flow(tunnel) as flow:
        for _ in range(ROUNDS):
            tunnel.control.kill()
            time.sleep(0.5)
            tunnel.control.start()
    check_everything(tunnel, flow)
    sent = {number for _, number, _ in flow.inbound.sent}
    assert sent <= set(tunnel.arrived_inbound()) and tunnel.core.count() - core == len(sent)
    sent = {number for _, number, _ in flow.outbound.sent}
    assert {n for _, n in tunnel.arrived_outbound(wire)} == sent


def refused_again(tunnel, name='again'):
    """The problem with which the inbound SA's own key is refused."""
    with pytest.raises(RestError) as refusal:
        tunnel.rest.post('/v1/sas', sa_body(name, 'csmf-1', 'inbound', tunnel.inbound))
    assert refusal.value.status in (409, 422), str(refusal.value)
    return refusal.value.problem


def expect_gone(tunnel, packets):
    """The SAs are gone, their keys are refused, old packets are strangers; fresh keys work."""
    tunnel.rest.close()
    assert tunnel.rest.get('/v1/sas')['items'] == []
    before = tunnel.rest.verdicts()
    assert replay_everything(tunnel, packets[-200:]) == 0
    now = tunnel.rest.verdicts()
    assert now['xdp_unknown_spi'] - before['xdp_unknown_spi'] == 200
    assert now['unknown_spi'] == before['unknown_spi'], 'the dataplane saw them'
    assert 'key' in str(refused_again(tunnel))
    assert replay_everything(tunnel, packets[-200:]) == 0
    # The twin: the same thing with a fresh key is accepted, and traffic passes.
    tunnel.inbound, tunnel.outbound = tunnel.new_pair(0x5001)
    tunnel.install_pair()
    assert tunnel.passes(), tunnel.dataplane.log_tail()


def test_both_killed_at_once(tunnel):
    with Flow(tunnel) as flow:
        assert flow.resumes()
        tunnel.control.kill()
        tunnel.dataplane.kill()
        time.sleep(0.5)
        tunnel.dataplane.start()
        tunnel.control.start()
    check_everything(tunnel, flow)
    expect_gone(tunnel, [packet for _, _, packet in flow.inbound.sent])


def another_boot(folder):
    """An argv prefix: in a mount namespace of its own, the kernel says it was booted anew."""
    boot_id = folder / 'boot_id'
    boot_id.write_text('00000000-1111-4222-8333-' + os.urandom(6).hex() + '\n', encoding='ascii')
    script = f'mount --bind {boot_id} /proc/sys/kernel/random/boot_id && exec "$@"'
    return ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', script, 'sh']


@pytest.mark.parametrize('memory', ['kept', 'lost'])
def test_a_reboot(tunnel, memory, tmp_path):
    """kept: the file survived (a persistent /dev/shm of a container). lost: as on a real host."""
    with Flow(tunnel) as flow:
        assert flow.resumes()
        tunnel.control.kill()
        tunnel.dataplane.kill()
        time.sleep(0.5)
        if memory == 'lost':
            tunnel.dataplane.state_file.unlink()
        prefix = another_boot(tmp_path)
        tunnel.dataplane.prefix = tunnel.control.prefix = prefix
        tunnel.dataplane.start()
        tunnel.control.start()
    check_everything(tunnel, flow)
    expect_gone(tunnel, [packet for _, _, packet in flow.inbound.sent])


def test_control_cannot_bring_back_a_key_over_a_reboot_of_the_dataplane_alone(tunnel, tmp_path):
    """Control still holds the key, but the record is another boot's: resume is refused."""
    with Flow(tunnel) as flow:
        assert flow.resumes()
        tunnel.dataplane.kill()
        tunnel.dataplane.prefix = another_boot(tmp_path)
        tunnel.dataplane.start()
        assert wait_until(lambda: tunnel.rest.get('/v1/status')['dataplane']['connected'], 20)
        assert wait_until(lambda: not any(item['in_force']
                                          for item in tunnel.rest.get('/v1/sas')['items']), 10)
    check_everything(tunnel, flow)
    packets = [packet for _, _, packet in flow.inbound.sent]
    assert replay_everything(tunnel, packets[-200:]) == 0
    for item in tunnel.rest.get('/v1/sas')['items']:
        tunnel.rest.delete(f'/v1/sas/{item["id"]}')
    tunnel.inbound, tunnel.outbound = tunnel.new_pair(0x5001)
    tunnel.install_pair()
    assert tunnel.passes(), tunnel.dataplane.log_tail()
