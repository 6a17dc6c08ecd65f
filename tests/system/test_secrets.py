"""Nothing secret lies where it has no business: not in a log, an answer, the store, the audit log or
any other file that the processes write; in memory no longer than it is needed, and that memory is
locked and never dumped. Each search also finds the same secret where it may be, or where it was put
on purpose: one that cannot find anything would pass everything."""

import pathlib
import re
import subprocess

import pytest

import process_memory
from netns import wait_until
from processes import BIN
from scapy_esp import Sa
from session_world import SessionWorld
from tunnel import GATE, PEER

PROCESSES = ('control', 'guard', 'dataplane')
SALT_BYTES = 4  # at a key's end; what engines keep of it stands elsewhere
# A group that root's processes do not have: /proc shows it as the owner of a process that may be
# dumped, and root as that of one that may not (proc(5)).
MARK = 65534
MARKED = ['setpriv', f'--regid={MARK}', '--keep-groups']


def secrets_of(session, *tokens):
    """What nobody but the two ends may ever see, by name."""
    return {'key to the gate': session.key_to_gate[:-SALT_BYTES],
            'key to the peer': session.key_to_peer[:-SALT_BYTES],
            'master': session.master[:32],
            **{f'token {i}': token.split('.')[2].encode() for i, token in enumerate(tokens)}}


def found_in(content, secrets):
    return [name for name, secret in secrets.items()
            if any(form in content for form in process_memory.forms(secret))]


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    with SessionWorld(tmp_path_factory.mktemp('secrets'), prefix=MARKED) as w:
        for process in (w.control, w.guard):
            process.stop()
            process.prefix = MARKED
            process.start()
        assert wait_until(lambda: b'connected to control' in w.guard.log.read_bytes(), 20)
        yield w


@pytest.fixture(autouse=True)
def nothing_left(world):
    yield
    world.close_sessions()


def lived(world):
    """A session of two generations with traffic, a refusal, its end; the secrets of it all."""
    tokens = [world.token() for _ in range(4)]
    with world.connect(world.csmf) as connection:
        first = world.ask(connection, tokens[0], initial_contact=True)
        connection.confirm(first)
    with world.connect(world.csmf) as connection:
        second = world.ask(connection, tokens[1], 0x5101, session=first.id)
        connection.confirm(second)
    assert world.refused(world.csmf, tokens[2], spi=0x5102) == 409
    world.inbound = Sa(second.spi_to_gate, PEER, GATE, 'aes-128-gcm-16', key=second.key_to_gate)
    world.outbound = Sa(0x5101, GATE, PEER, 'aes-128-gcm-16', key=second.key_to_peer)
    assert world.passes()
    with world.connect(world.csmf) as connection:
        connection.end(second.id, tokens[3])
    assert wait_until(lambda: not world.sas(), 20)
    secrets = {f'1st {name}': value for name, value in secrets_of(first, tokens[0]).items()}
    return secrets | {f'2nd {n}': v for n, v in secrets_of(second, *tokens[1:]).items()}


# ---- files and answers

def written(world):
    """Every file that a process may have written: the world's own folder (logs, store, audit log,
    sockets' folder), DPDK's, and shared memory. Not the keys that it was given to read."""
    folders = [world.folder, pathlib.Path('/run/dpdk') / f'portcullis-{world.dataplane.instance}']
    files = [path for folder in folders if folder.exists() for path in folder.rglob('*')]
    files += [path for path in pathlib.Path('/run').rglob(f'*{world.dataplane.instance}*')]
    files += [world.dataplane.state_file]
    return [path for path in files if path.is_file()]


def test_no_secret_is_in_any_file(world):
    secrets = lived(world)
    world.rest.get('/v1/audit/checkpoint')
    files = written(world)
    names = {path.name for path in files}
    assert {'control.log', 'guard.log', 'dataplane.log', 'control.db', 'audit.log'} <= names, names
    for path in files:
        assert not found_in(path.read_bytes(), secrets), path
    for form in process_memory.forms(secrets['2nd key to the gate']):  # the search's twin
        leak = world.folder / 'leak.log'
        leak.write_bytes(b'key=' + form + b'\n')
        assert leak in written(world) and found_in(leak.read_bytes(), secrets)
        leak.unlink()


def test_private_keys_are_in_their_files_and_nowhere_else(world):
    keys = list(world.folder.rglob('*.key'))
    assert len(keys) > 3
    for key in keys:
        text = b''.join(line for line in key.read_bytes().splitlines() if b'-----' not in line)
        # Such files begin alike, and long ones end with what is public.
        secret = text[48:80] if len(text) > 80 else text[-24:-8]
        where = [path for path in written(world)
                 if secret in path.read_bytes().replace(b'\n', b'')]
        assert where == [key]


def get_routes():
    done = subprocess.run([BIN / 'portcullis-control', '--routes'], check=True, text=True,
                          capture_output=True)
    # Drops do not end; they are what strangers sent, before any key of ours has touched it.
    return [line.split()[1] for line in done.stdout.splitlines()
            if line.startswith('GET ') and '/v1/drops' not in line]


def answers(world):
    """{path: content} of every GET route that there is, while a session lives."""
    names = {'interfaces': 'nsmf', 'peers': 'csmf-1', 'policies': 'manage',
             'sas': sorted(world.sas())[0], 'decisions': world.sessions()[0]['id']}
    out = {}
    for route in get_routes():
        path = re.sub(r'\{\w+\}', lambda _: names.get(route.split('/')[2], '1'), route)
        if path == '/v1/events':
            path += '?follow=false'
        response, content = world.rest.exchange('GET', path, None, {})
        out[path] = (response.status, content)
    return out


def test_no_secret_is_in_any_answer(world):
    token = world.token()
    session = world.open(token=token)
    secrets = secrets_of(session, token)
    assert world.refused(world.csmf, token) == 409
    got = answers(world)
    assert len(got) == len(get_routes()) >= 20
    for path, (status, content) in got.items():
        # Nothing waits for approval here; what does is looked at by test_administration.py and
        # test_request_once.py. Nor is a first line configured, nor a request blocked.
        nothing = path in ('/v1/approvals/1', '/v1/first-line', '/v1/held-requests/1',
                           '/v1/request-blocks/1')
        assert status == (404 if nothing else 200), (path, content)
        assert not found_in(content, secrets), path
    # The search's twin: the fingerprint, which is public, is found where it belongs.
    with_sa = next(path for path in got if path.startswith('/v1/sas/'))
    assert b'fingerprint' in got[with_sa][1]
    assert found_in(got[with_sa][1] + session.key_to_gate.hex().encode(), secrets)


# ---- memory

def held(world, process, secrets):
    return process_memory.find(getattr(world, process).process.pid, secrets)


def test_keys_are_in_memory_while_the_session_lives_and_not_after_it(world):
    tokens = [world.token() for _ in range(2)]
    with world.connect(world.csmf) as connection:
        session = world.ask(connection, tokens[0])
        secrets = secrets_of(session, *tokens)
        keys = {name: value for name, value in secrets.items() if name.startswith('key')}
        # The guard has derived them, told control and forgotten them already.
        assert not held(world, 'guard', keys | {'master': secrets['master']})
        assert set(held(world, 'control', secrets)) == set(keys)
        assert set(held(world, 'dataplane', secrets)) == {'key to the gate'}
        connection.confirm(session)
    assert set(held(world, 'dataplane', secrets)) == set(keys)  # those of an SA in force
    world.inbound = Sa(session.spi_to_gate, PEER, GATE, 'aes-128-gcm-16', key=session.key_to_gate)
    world.outbound = Sa(0x5001, GATE, PEER, 'aes-128-gcm-16', key=session.key_to_peer)
    assert world.passes()
    with world.connect(world.csmf) as connection:
        connection.end(session.id, tokens[1])
    assert wait_until(lambda: not world.sas(), 20)
    for process in PROCESSES:
        assert not held(world, process, secrets), process


def test_what_a_renewal_replaces_is_wiped_too(world):
    first = world.open()
    old = secrets_of(first)
    new = secrets_of(world.open(spi=0x5201, session=first.id))
    assert wait_until(lambda: len(world.sas()) == 3, 20)  # the old inbound one has its grace time
    world.close_sessions()
    for process in PROCESSES:
        assert not held(world, process, old | new), process


def test_a_revoked_peers_keys_are_wiped(world):
    secrets = secrets_of(world.open())
    assert held(world, 'dataplane', secrets)
    world.rest.post('/v1/peers/csmf-1/revoke', {'revoked': True})
    try:
        assert wait_until(lambda: not world.sas(), 20)
        for process in PROCESSES:
            assert not held(world, process, secrets), process
    finally:
        world.rest.post('/v1/peers/csmf-1/revoke', {'revoked': False})
    world.open()


# ---- the processes

def status(process, name):
    text = pathlib.Path(f'/proc/{process.process.pid}/status').read_text(encoding='ascii')
    return int(re.search(rf'^{name}:\s+(\d+)', text, re.M)[1])


def owner_of_memory(pid):
    return pathlib.Path(f'/proc/{pid}/mem').stat().st_gid


@pytest.mark.parametrize('name', PROCESSES)
def test_memory_is_locked_and_never_dumped(world, name):
    process = getattr(world, name)
    world.open()
    assert status(process, 'VmLck') > 0 and status(process, 'VmSwap') == 0
    limits = pathlib.Path(f'/proc/{process.process.pid}/limits').read_text(encoding='ascii')
    assert re.search(r'^Max core file size +0 +0 +bytes', limits, re.M), limits
    assert owner_of_memory(process.process.pid) == 0
    # The twin: a process that may be dumped, started in the same way.
    other = subprocess.Popen([*MARKED, 'sleep', '60'])
    try:
        assert wait_until(lambda: owner_of_memory(other.pid) == MARK, 20)
    finally:
        other.kill()
        other.wait()
