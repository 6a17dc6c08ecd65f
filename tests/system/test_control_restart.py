"""control and dataplane agree again after either restarts, in whatever order; and what control does
when the dataplane refuses, hangs up, or the store has no room."""

import random
import resource
import time

import pytest

from fake_dataplane import FakeDataplane
from netns import wait_until
from processes import Control, Dataplane, instance_name
from rest_contract import Contract, EventStream, document, interface, peer, policy, sa
from rest_gate import QUIET_PORTS, key, namespace, pki, world  # noqa: F401
from steer_client import pb


class Gate:
    """control, its dataplane (real or fake) and an operator."""

    def __init__(self, control, dataplane):
        self.control = control
        self.dataplane = dataplane
        self.rest = Contract(control)

    def start_control(self, ready=True):
        self.control.start(ready)
        self.rest.close()

    def status(self):
        return self.rest.ok('GET', '/v1/status')

    def generations(self):
        """(stored, in the dataplane)"""
        status = self.status()
        return status['policy']['generation'], status['dataplane'].get('generation')

    def sas(self):
        return {one['id']: one for one in self.rest.ok('GET', '/v1/sas')['items']}

    def events(self, kind):
        text = self.rest.ok('GET', '/v1/events?follow=false')
        return [block for block in text.split('\n\n') if f'event: {kind}\n' in block]

    def close(self):
        self.rest.close()
        self.control.stop()


@pytest.fixture
def gate(namespace, pki, tmp_path):
    dataplane = Dataplane(namespace, tmp_path, instance_name('c'), QUIET_PORTS)
    gate = Gate(Control(namespace, tmp_path, dataplane.socket, pki), dataplane)
    yield gate
    gate.close()
    dataplane.stop()
    dataplane.forget()


@pytest.fixture
def faked(namespace, pki, tmp_path):
    fake = FakeDataplane(tmp_path / 'fake.sock')
    gate = Gate(Control(namespace, tmp_path, fake.path, pki), fake)
    gate.start_control()
    yield gate
    gate.close()
    fake.stop()


# ---- with the real dataplane


def test_control_first(gate):
    gate.start_control(ready=False)
    assert gate.rest.request('GET', '/readyz').status == 503
    assert gate.rest.ok('PUT', '/v1/policy', document())['in_force'] is False
    assert gate.rest.ok('PUT', '/v1/peers/csmf-2', peer('csmf-2', 3))['in_force'] is False
    gate.rest.problem('POST', '/v1/sas', sa('in', 0x1001, key()), status=503)
    gate.rest.problem('GET', '/v1/counters', status=503)
    gate.rest.problem('GET', '/v1/pipeline', status=503)
    assert 'portcullis_dataplane_connected 0' in gate.rest.ok('GET', '/metrics')
    assert gate.status()['dataplane']['connected'] is False

    gate.dataplane.start()
    gate.control.wait_ready()
    status = gate.status()
    assert status['policy']['in_force'] and status['dataplane']['peers'] == 2
    assert gate.rest.ok('POST', '/v1/sas', sa('in', 0x1001, key()))['in_force'] is True


def test_control_killed(gate):
    gate.dataplane.start()
    gate.start_control()
    gate.rest.ok('PUT', '/v1/policy', document())
    used = key()
    made = gate.rest.ok('POST', '/v1/sas', sa('in', 0x1001, used))
    before = gate.generations()
    for _ in range(3):
        gate.control.kill()
        gate.start_control()
        assert gate.generations() == before  # nothing was pushed: it has it
        assert gate.sas()['in']['fingerprint'] == made['fingerprint']
        assert gate.status()['sas'] == 1
        gate.rest.problem('POST', '/v1/sas', sa('in-2', 0x1002, used), status=409, field='/key')
    # The keys came back with them: the dataplane may die now.
    gate.dataplane.kill()
    gate.dataplane.start()
    gate.control.wait_ready()
    assert gate.sas()['in']['in_force'] and not gate.events('sa_lost')
    gate.rest.ok('DELETE', '/v1/sas/in')


def test_dataplane_killed(gate):
    gate.dataplane.start()
    gate.start_control()
    gate.rest.ok('PUT', '/v1/policy', document())
    made = gate.rest.ok('POST', '/v1/sas', sa('in', 0x1001, key()))
    gate.rest.ok('POST', '/v1/sas', sa('out', 0x2001, key(), direction='outbound'))
    gate.dataplane.kill()
    assert wait_until(lambda: gate.rest.request('GET', '/readyz').status == 503)
    assert gate.rest.ok('PUT', '/v1/peers/csmf-2', peer('csmf-2', 3))['in_force'] is False
    assert gate.sas()['in']['in_force'] is False and 'state' not in gate.sas()['in']
    gate.rest.problem('DELETE', '/v1/sas/in', status=503)  # it might resume it
    gate.dataplane.start()
    gate.control.wait_ready()
    stored, there = gate.generations()
    assert stored == there
    assert gate.status()['dataplane']['peers'] == 2
    assert gate.sas()['in']['fingerprint'] == made['fingerprint']
    assert {one['in_force'] for one in gate.sas().values()} == {True}
    assert gate.status()['dataplane']['sas'] == 2 and not gate.events('sa_lost')


@pytest.mark.parametrize('first', ['control', 'dataplane'])
def test_both_killed_the_policy_is_there_and_the_keys_are_not(gate, first):
    gate.dataplane.start()
    gate.start_control()
    gate.rest.ok('PUT', '/v1/policy', document())
    used = key()
    gate.rest.ok('POST', '/v1/sas', sa('in', 0x1001, used))
    gate.control.kill()
    gate.dataplane.kill()
    if first == 'control':
        gate.start_control(ready=False)
        gate.dataplane.start()
    else:
        gate.dataplane.start()
        gate.start_control(ready=False)
    gate.control.wait_ready()
    assert gate.status()['policy']['in_force'] and gate.sas() == {}
    gate.rest.problem('POST', '/v1/sas', sa('in', 0x1001, used), status=409, field='/key')
    gate.rest.ok('POST', '/v1/sas', sa('in', 0x1001, key()), status=201)


def test_an_sa_without_its_record_is_lost_and_said_to_be(gate):
    gate.dataplane.start()
    gate.start_control()
    gate.rest.ok('PUT', '/v1/policy', document())
    used = key()
    gate.rest.ok('POST', '/v1/sas', sa('in', 0x1001, used))
    gate.dataplane.kill()
    gate.dataplane.state_file.unlink()  # as a reboot does
    gate.dataplane.start()
    gate.control.wait_ready()
    assert gate.sas() == {} and gate.status()['sas'] == 0
    assert len(gate.events('sa_lost')) == 1
    gate.rest.problem('POST', '/v1/sas', sa('in', 0x1001, used), status=409)
    gate.rest.ok('POST', '/v1/sas', sa('in', 0x1001, key()), status=201)


def test_killed_in_any_order_again_and_again(gate):
    order = random.Random(7)
    gate.dataplane.start()
    gate.start_control()
    last = 0
    for round_ in range(6):
        rate = {'packets_per_second': round_ + 1}
        gate.rest.ok('PUT', '/v1/policy', document(peers=[peer(rate=rate)]))
        if order.random() < 0.5:
            gate.dataplane.kill()
            gate.dataplane.start()
        else:
            gate.control.kill()
            gate.start_control(ready=False)
        gate.control.wait_ready()
        stored, there = gate.generations()
        assert stored == there > last
        last = stored
        assert gate.rest.ok('GET', '/v1/peers/csmf-1')['rate'] == rate


def test_it_ends_when_asked(gate):
    gate.dataplane.start()
    gate.start_control()
    for _ in range(2):
        stream = EventStream(gate.control)  # neither an open stream nor a half-sent request
        gate.rest.ok('GET', '/healthz')
        slow = gate.rest.connection
        slow.sock.sendall(b'GET /heal')
        begun = time.monotonic()
        assert gate.control.stop() == 0
        assert time.monotonic() - begun < 4  # holds it up
        assert stream.ended()
        gate.start_control()


# ---- with one that does what a test says


def test_nothing_is_pushed_to_who_has_it_and_everything_in_order_to_who_has_not(faked):
    fake = faked.dataplane
    faked.rest.ok('PUT', '/v1/policy', document(peers=[peer(), peer('csmf-2', 3)]))
    faked.rest.ok('POST', '/v1/peers/csmf-2/revoke', {'revoked': True})
    faked.rest.ok('POST', '/v1/sas', sa('in', 0x1001, key()))
    fake.requests.clear()
    fake.hang_up()
    faked.control.wait_ready()
    assert fake.kinds('apply_snapshot', 'add_sas') == []
    assert fake.kinds('list_sas', 'revoke') == ['list_sas', 'revoke']

    stored = faked.generations()[0]
    fake.restart()
    assert wait_until(lambda: 'add_sas' in fake.kinds(), 20)
    assert fake.kinds('apply_snapshot', 'revoke', 'add_sas') == ['apply_snapshot', 'revoke',
                                                                 'add_sas']
    snapshot = fake.messages('apply_snapshot')[0]
    assert snapshot.full and snapshot.generation > stored
    assert [p.name for p in snapshot.peers] == ['csmf-1', 'csmf-2']
    assert fake.messages('revoke')[0].peer == 'csmf-2' and fake.messages('revoke')[0].revoked
    resumed = fake.messages('add_sas')[0]
    assert [(s.id, s.mode) for s in resumed.sas] == [('in', pb.RESUME)] and not resumed.atomic
    assert len(resumed.sas[0].key) == 20
    faked.control.wait_ready()


def test_revocation_outlives_control(faked):
    faked.rest.ok('PUT', '/v1/policy', document())
    faked.rest.ok('POST', '/v1/peers/csmf-1/revoke', {'revoked': True})
    faked.control.kill()
    faked.dataplane.restart()
    faked.start_control()
    assert faked.status()['revoked_peers'] == ['csmf-1']
    assert faked.dataplane.messages('revoke')[0].peer == 'csmf-1'
    faked.dataplane.requests.clear()
    faked.rest.ok('PUT', '/v1/peers/csmf-1', peer(tenant='b'))  # nor does a change lift it
    assert faked.dataplane.kinds('apply_snapshot', 'revoke') == ['apply_snapshot', 'revoke']
    faked.rest.ok('POST', '/v1/peers/csmf-1/revoke', {'revoked': False})
    assert faked.dataplane.messages('revoke')[-1].revoked is False


def test_only_what_changed_is_pushed(faked):
    fake = faked.dataplane
    faked.rest.ok('PUT', '/v1/policy', document(peers=[peer(), peer('csmf-2', 3)]))
    base = fake.generation
    fake.requests.clear()
    faked.rest.ok('PUT', '/v1/peers/csmf-2', peer('csmf-2', 3, rate={'packets_per_second': 9}))
    (snapshot,) = fake.messages('apply_snapshot')
    assert not snapshot.full and snapshot.base_generation == base
    assert [p.name for p in snapshot.peers] == ['csmf-2'] and len(snapshot.interfaces) == 1
    faked.rest.ok('DELETE', '/v1/peers/csmf-2')
    assert list(fake.messages('apply_snapshot')[1].removed_peers) == ['csmf-2']
    faked.rest.ok('PUT', '/v1/policies/manage', policy())  # no change, no push
    assert len(fake.messages('apply_snapshot')) == 2


def test_a_refused_policy_leaves_the_old_one(faked):
    fake = faked.dataplane
    faked.rest.ok('PUT', '/v1/policy', document())
    before = faked.rest.ok('GET', '/v1/policy')
    generations = faked.generations()
    fake.on('apply_snapshot', lambda message: pb.Failure(kind=4, message='no room for rules'))
    faked.rest.problem('PUT', '/v1/peers/csmf-2', peer('csmf-2', 3), status=507,
                       detail='no room for rules')
    assert faked.rest.ok('GET', '/v1/policy') == before and faked.generations() == generations
    assert faked.events('policy_refused') and faked.status()['ready']
    fake.rules.clear()
    assert faked.rest.ok('PUT', '/v1/peers/csmf-2', peer('csmf-2', 3))['in_force'] is True


def test_a_policy_refused_on_reconnection_is_named_in_status(faked):
    fake = faked.dataplane
    faked.rest.ok('PUT', '/v1/policy', document())
    fake.on('apply_snapshot', lambda message: pb.Failure(kind=4, message='no room for rules'))
    fake.restart()
    assert wait_until(lambda: faked.events('policy_refused'), 20)
    assert wait_until(lambda: 'no room' in faked.status()['dataplane'].get('error', ''), 10)
    assert faked.status()['policy']['in_force'] is False
    assert faked.rest.request('GET', '/readyz').status == 503
    fake.rules.clear()
    assert faked.rest.ok('PUT', '/v1/peers/csmf-2', peer('csmf-2', 3))['in_force'] is True
    assert fake.messages('apply_snapshot')[-1].full
    assert faked.status()['ready'] and 'error' not in faked.status()['dataplane']


def test_a_dataplane_that_hangs_up_over_a_policy_gets_the_old_one(faked):
    fake = faked.dataplane
    faked.rest.ok('PUT', '/v1/policy', document())
    before = fake.generation

    def applies_but_dies(message):
        fake.rules.clear()
        fake.generation = message.generation
        return 'hang up'
    fake.on('apply_snapshot', applies_but_dies)
    faked.rest.problem('PUT', '/v1/peers/csmf-2', peer('csmf-2', 3), status=503)
    faked.control.wait_ready()
    last = fake.messages('apply_snapshot')[-1]
    assert last.full and last.generation > before + 1
    assert [p.name for p in last.peers] == ['csmf-1']
    faked.rest.problem('GET', '/v1/peers/csmf-2', status=404)


def test_without_room_in_the_store_the_old_policy_comes_back(faked):
    fake = faked.dataplane
    faked.rest.ok('PUT', '/v1/policy', document())
    pid = faked.control.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        faked.rest.problem('PUT', '/v1/peers/csmf-2', peer('csmf-2', 3), status=500,
                           detail='store')
        faked.rest.problem('POST', '/v1/sas', sa('in', 0x1001, key()), status=500)
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
    pushed = fake.messages('apply_snapshot')
    assert [p.name for p in pushed[-2].peers] == ['csmf-2']
    assert pushed[-1].full and [p.name for p in pushed[-1].peers] == ['csmf-1']
    assert fake.sas == {}
    assert [p['name'] for p in faked.rest.ok('GET', '/v1/peers')['items']] == ['csmf-1']
    assert faked.rest.ok('PUT', '/v1/peers/csmf-2', peer('csmf-2', 3))['in_force'] is True
    faked.rest.ok('POST', '/v1/sas', sa('in', 0x1001, key()))


@pytest.mark.parametrize('installed', [True, False])
def test_an_sa_whose_answer_was_lost(faked, installed):
    """What the dataplane has is the truth; the key counts as used either way."""
    fake = faked.dataplane
    faked.rest.ok('PUT', '/v1/policy', document())

    def dies(message):
        fake.rules.clear()
        if installed:
            fake.sas['in'] = message.sas[0]
        return 'hang up'
    fake.on('add_sas', dies)
    used = key()
    faked.rest.problem('POST', '/v1/sas', sa('in', 0x1001, used), status=503)
    faked.control.wait_ready()
    assert set(faked.sas()) == ({'in'} if installed else set())
    faked.rest.problem('POST', '/v1/sas', sa('in-2', 0x1002, used), status=409, field='/key')
    faked.rest.ok('POST', '/v1/sas', sa('in-2', 0x1002, key()), status=201)


def test_a_refused_sa_gives_its_key_back_unless_it_is_the_key(faked):
    fake = faked.dataplane
    faked.rest.ok('PUT', '/v1/policy', document())
    used = key()
    for kind, status, again in ((4, 507, 201), (2, 409, 409)):
        fake.on('add_sas', lambda message, kind=kind: pb.Failure(kind=kind, message='not now'))
        faked.rest.problem('POST', '/v1/sas', sa('in', 0x1001, used), status=status)
        fake.rules.clear()
        faked.rest.request('DELETE', '/v1/sas/in')
        answer = faked.rest.request('POST', '/v1/sas', sa('in', 0x1001, used))
        assert answer.status == again
        faked.rest.request('DELETE', '/v1/sas/in')
        used = key()


def test_thousands_of_sas_come_back_and_go_again(faked):
    fake = faked.dataplane
    faked.rest.ok('PUT', '/v1/policy', document())
    faked.rest.ok('POST', '/v1/sas', sa('in', 0x1001, key()))
    pattern = fake.sas['in']
    for number in range(2500):
        spec = pb.SaSpec()
        spec.CopyFrom(pattern)
        spec.id, spec.spi = f'sa-{number:05}', 0x2000 + number
        spec.key = number.to_bytes(20, 'big')
        fake.sas[spec.id] = spec
    faked.control.kill()
    faked.start_control()
    assert faked.status()['sas'] == 2501
    there = dict(fake.sas)
    fake.restart()
    assert wait_until(lambda: len(fake.sas) == 2501, 30)
    assert {name: spec.key for name, spec in fake.sas.items()} == \
        {name: spec.key for name, spec in there.items()}
    pages = faked.rest.ok('GET', '/v1/sas?limit=1000')
    assert len(pages['items']) == 1000 and pages['next'] == pages['items'][-1]['id']
    assert faked.rest.ok('GET', '/v1/sas?after=sa-02498')['items'][0]['id'] == 'sa-02499'


def test_a_dataplane_that_keeps_its_keys_from_control_is_not_ready(faked):
    fake = faked.dataplane
    faked.rest.ok('PUT', '/v1/policy', document())
    faked.rest.ok('POST', '/v1/sas', sa('in', 0x1001, key()))
    fake.gives_keys = False
    faked.control.kill()
    faked.start_control(ready=False)
    assert wait_until(lambda: 'keys' in faked.status()['dataplane'].get('error', ''), 10)
    assert faked.status()['ready'] is False
    fake.gives_keys = True
    faked.control.wait_ready()


def test_a_dataplane_ahead_of_the_store_is_overtaken(faked):
    faked.rest.ok('PUT', '/v1/policy', document(interfaces=[interface()]))
    faked.dataplane.generation = 1000  # another control's
    faked.dataplane.hang_up()
    faked.control.wait_ready()
    assert wait_until(lambda: faked.generations() == (1001, 1001), 10)
