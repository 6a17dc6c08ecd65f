"""What operators see of sessions and refusals: why somebody was refused, who is in, what will run out
and whether the record of it all is bounded and intact."""

import contextlib
import datetime
import json
import re
import shutil
import signal
import sqlite3

import pytest

from netns import wait_until
from processes import BIN, Guard
from rest_contract import Contract
from session_peer import SessionError
from session_world import SessionWorld
from test_cli import NOT_ALLOWED, REFUSED, Ctl

PATIENCE = 60


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    with SessionWorld(tmp_path_factory.mktemp('visibility')) as w:
        yield w


@pytest.fixture(autouse=True)
def nothing_left(world):
    yield
    world.close_sessions()


@pytest.fixture
def ctl(world):
    return Ctl(world)


@pytest.fixture
def rest(world):
    client = Contract(world.control)
    yield client
    client.close()


def reference_of(world, credential, token, **more):
    """What a refused peer is given in place of the reason."""
    with world.connect(credential) as connection, pytest.raises(SessionError) as refusal:
        world.ask(connection, token, **more)
    return refusal.value.problem['reference']


def known(rest, reference):
    """The guard tells control of what it refused itself, without waiting for it."""
    path = f'/v1/decisions/{reference}'
    assert wait_until(lambda: rest.request('GET', path).status == 200, PATIENCE)
    return rest.ok('GET', path)


def records(rest, **wanted):
    """Of the audit log, those whose detail is as wanted."""
    found, start = [], 1
    while start:
        page = rest.ok('GET', f'/v1/audit?count=1000&from={start}')
        found += page['items']
        start = page.get('next')
    return [one for one in found
            if all(one['detail'].get(name) == value for name, value in wanted.items())]


def events(world, kind):
    text = world.rest.call('GET', '/v1/events?follow=false')[1]
    found = [json.loads(line[6:]) for line in text.splitlines() if line.startswith('data: ')]
    return [one for one in found if one['kind'] == kind]


# ---- why


def test_a_reference_tells_operators_what_the_peer_is_not_told(world, ctl, rest):
    stranger = world.peers.issue('csmf-9.example', 'client')
    cases = (  # decided by the guard, by control on the token, by control on the identity
        (world.csmf, world.token(exp=1), 'token_expired', 'csmf-1'),
        (world.csmf, world.token(scope='nothing'), 'token_scope_fail', 'csmf-1'),
        (stranger, world.token(stranger), 'peer_unknown', None))
    for credential, token, reason, peer in cases:
        reference = reference_of(world, credential, token)
        decision, = known(rest, reference)['items']
        assert (decision['what'], decision['reason']) == ('refused', reason)
        assert decision.get('peer') == peer
        assert decision['identity'] == f'csmf-{9 if credential is stranger else 1}.example'
        assert (decision['interface'], decision['source']) == ('nsmf', '192.0.2.2')
        assert f'refused: {reason}' in ctl('why', reference)
        assert reference in ctl('why', '--reason', reason)
        assert token.split('.')[1] not in json.dumps(decision)
    assert wait_until(lambda: {'token_expired', 'token_scope_fail', 'peer_unknown'} <=
                      {one['detail'].get('reason') for one in records(rest, what='refused')})
    # The twin: whoever is let in has a name, too, and the answer says that he is in.
    session = world.open()
    answer = rest.ok('GET', f'/v1/decisions/{session.id}')
    assert [one['what'] for one in answer['items']] == ['admitted', 'in_force']
    assert answer['session']['confirmed'] and answer['items'][0]['source'] == '192.0.2.2'
    assert 'is in force, of csmf-1 on nsmf' in ctl('why', session.id)
    assert session.key_to_gate.hex() not in json.dumps(answer)


def test_who_may_ask_and_what_is_unknown(world, ctl, rest):
    reference = reference_of(world, world.csmf, world.token(scope='nothing'))
    assert 'token_scope_fail' in Ctl(world, 'bob')('why', reference)  # a viewer
    assert 'nothing is known' in ctl('why', '0123456789abcdef', expect=REFUSED)
    rest.problem('GET', '/v1/decisions?limit=1001', status=400, field='limit')
    rest.problem('GET', '/v1/decisions?peer=A%20B', status=400, field='peer')
    assert len(rest.ok('GET', '/v1/decisions?limit=1&peer=csmf-1')['items']) == 1


def test_a_handshake_that_failed_is_among_the_decisions(world, rest):
    expired = world.peers.issue('csmf-1.example', 'client', days=-1)
    with contextlib.suppress(Exception), world.connect(expired) as connection:
        connection.ask('GET', '/')
    def listed():
        return rest.ok('GET', '/v1/decisions?reason=cert_expired')['items']
    assert wait_until(listed, PATIENCE)
    assert listed()[0]['source'] == '192.0.2.2' and 'peer' not in listed()[0]


# ---- sessions


def test_the_life_of_a_session_is_in_the_audit_log(world, rest):
    session = world.open()
    world.open(spi=0x5002, session=session.id)
    world.rest.post('/v1/peers/csmf-1/revoke', {'revoked': True})
    world.rest.post('/v1/peers/csmf-1/revoke', {'revoked': False})

    def life():
        return [(one['detail']['what'], one['detail'].get('generation'), one['who'])
                for one in records(rest) if one['subject'] == session.id]
    assert wait_until(lambda: len(life()) == 3, PATIENCE), life()
    assert life() == [('in_force', 1, 'csmf-1'), ('renewed', 2, 'csmf-1'),
                      ('ended', 2, 'control')]
    end, = records(rest, what='ended', generation=2)[-1:]
    assert 'revoked' in end['detail']['detail']
    session = world.open()
    world.close_sessions()
    assert wait_until(lambda: len(life()) == 2, PATIENCE)
    assert life()[1][2] == 'csmf-1'  # its own doing


def test_an_operator_ends_a_session_and_its_traffic(world, ctl, rest):
    session = world.open()
    assert world.passes()
    assert re.search(rf'^{session.id} +csmf-1 +nsmf +1 +in force', ctl('sessions'), re.M)
    assert ctl.json('sessions', 'list')['items'][0]['id'] == session.id
    Ctl(world, 'bob')('sessions', 'end', session.id, expect=NOT_ALLOWED)
    assert session.id in ctl('sessions', 'end', session.id, '--dry-run')
    assert world.passes()  # the twin: neither of them ended it

    ctl('sessions', 'end', session.id)
    number = next(world.numbers)
    world.send_inbound(number)
    world.settle()
    assert number not in world.arrived_inbound()
    assert not world.sas() and 'no sessions' in ctl('sessions')
    text = ctl('why', session.id)
    assert 'ended by alice' in text and f'{session.id} is over' in text
    begun, done = [one for one in records(rest) if one['subject'] == f'/v1/sessions/{session.id}'
                   and one['who'] == 'alice']
    assert (begun['outcome'], done['outcome']) == ('begun', 'done')
    assert wait_until(lambda: [one for one in records(rest, what='ended')
                               if (one['subject'], one['who']) == (session.id, 'alice')], PATIENCE)
    ctl('sessions', 'end', session.id, expect=REFUSED)
    again = world.open()
    assert rest.ok('DELETE', f'/v1/sessions/{again.id}')['in_force']


# ---- what runs out


def reload(world):
    world.guard.process.send_signal(signal.SIGHUP)


def expiring(rest, part):
    """Of the status, what has `part` in its name."""
    return [one for one in rest.ok('GET', '/v1/status')['expiring'] if part in one['what']]


def test_the_guard_says_how_it_fares(world, ctl, rest):
    reference_of(world, world.csmf, world.token(scope='nothing'))
    assert wait_until(lambda: rest.ok('GET', '/v1/status')['guard'].get('refusals', {}).get(
        'token_scope_fail'), PATIENCE)
    world.open()  # the twin
    guard = rest.ok('GET', '/v1/status')['guard']
    assert guard['connected'] and guard['listeners'][0]['authenticated'] > 0
    assert [one['name'] for one in guard['issuers']] == [world.issuer.issuer]
    assert guard['lists'][0]['succeeded'] and 'error' not in guard['lists'][0]
    assert re.search(r'^guard +connected since', ctl('status'), re.M)
    metrics = rest.ok('GET', '/metrics')
    assert 'portcullis_guard_up 1' in metrics
    assert re.search(r'portcullis_refusals_total\{reason="token_scope_fail"\} [1-9]', metrics)
    assert 'portcullis_refusals_total{reason="dpop_fail"} 0' in metrics
    assert re.search(r'portcullis_tls_handshakes_total\{port="4433",mode="certificate"\} [1-9]',
                     metrics)
    whose = {one['where'] for one in rest.ok('GET', '/v1/status')['expiring']}
    assert whose == {'guard', 'control'}

    world.guard.stop()
    assert wait_until(lambda: not rest.ok('GET', '/v1/status')['guard']['connected'], PATIENCE)
    assert 'NOT CONNECTED: nobody can open' in ctl('status')
    metrics = rest.ok('GET', '/metrics')
    assert 'portcullis_guard_up 0' in metrics and 'portcullis_refusals_total' not in metrics
    world.guard.start()
    assert wait_until(lambda: rest.ok('GET', '/v1/status')['guard']['connected'], PATIENCE)


def test_a_certificate_that_ends_soon_is_an_alarm(world, ctl, rest):
    assert wait_until(lambda: expiring(rest, Guard.NAME), PATIENCE)
    assert not expiring(rest, Guard.NAME)[0]['alarm']  # the twin: a week is left
    assert not [one for one in events(world, 'alarm') if Guard.NAME in one['text']]
    own = world.guard.config['listeners']['certificate'][0]['certificates'][0]
    kept = {path: open(path, 'rb').read() for path in own.values()}
    # A quarter of its life is less than what is left of it: an hour is over.
    ending = world.peers.issue(Guard.NAME, 'server', days=10 / 1440)
    shutil.copy(ending.certificate_file, own['chain'])
    shutil.copy(ending.key_file, own['key'])
    reload(world)
    assert wait_until(lambda: [one for one in expiring(rest, Guard.NAME) if one['alarm']], PATIENCE)
    one, = expiring(rest, Guard.NAME)
    assert one['where'] == 'guard' and 0 < one['seconds_left'] <= 600
    when = int(ending.certificate.not_valid_after.replace(
        tzinfo=datetime.timezone.utc).timestamp())
    assert re.search(rf'portcullis_expiry_timestamp_seconds\{{where="guard",what="[^"]*'
                     rf'{re.escape(Guard.NAME)}[^"]*"\}} {when}\n', rest.ok('GET', '/metrics'))
    assert re.search(rf'^expires +guard: .*{Guard.NAME}', ctl('status'), re.M)

    def told():
        return [one for one in events(world, 'alarm') if Guard.NAME in one['text']]
    assert len(told()) == 1 and 'ends in' in told()[0]['text']
    # Told once; and once more after a restart, lest nobody heard it.
    world.control.stop()
    world.control.start()
    assert wait_until(told, PATIENCE) and len(told()) == 1

    for path, content in kept.items():
        open(path, 'wb').write(content)
    reload(world)
    assert wait_until(lambda: not [one for one in expiring(rest, Guard.NAME) if one['alarm']],
                      PATIENCE)
    world.open(initial_contact=True)


def test_a_list_that_ends_soon_or_cannot_be_had_is_an_alarm(world, ctl, rest):
    ends = 'revocation list'

    def alarmed():
        return [one for one in expiring(rest, ends) if one['alarm']]

    def told(part):
        return [one for one in events(world, 'alarm') if part in one['text']]
    assert wait_until(lambda: expiring(rest, ends), PATIENCE)
    assert not alarmed() and not told(ends)  # the twin: it is published each day
    world.peers.write_list(age=datetime.timedelta(hours=1), left=datetime.timedelta(minutes=10))
    reload(world)
    assert wait_until(alarmed, PATIENCE)
    assert told(ends) and re.search(rf'^expires +guard: {ends}', ctl('status'), re.M)
    world.peers.write_list()
    reload(world)
    assert wait_until(lambda: expiring(rest, ends) and not alarmed(), PATIENCE)

    hidden = world.peers.list_file.with_suffix('.away')
    world.peers.list_file.rename(hidden)
    reload(world)
    assert wait_until(lambda: told('cannot be renewed'), PATIENCE)
    assert 'NOT RENEWED' in ctl('status')
    hidden.rename(world.peers.list_file)
    reload(world)
    assert wait_until(lambda: events(world, 'alarm_over'), PATIENCE)
    assert wait_until(lambda: 'NOT RENEWED' not in ctl('status'), PATIENCE)
    world.open(initial_contact=True)


# ---- the clock


def test_an_operator_says_that_the_clock_is_right(world, ctl, rest):
    world.control.stop()
    with contextlib.closing(sqlite3.connect(world.control.store)) as store, store:
        # As if it had been an hour later before.
        store.execute('UPDATE time_guard SET mark = mark + 3600000')
    world.control.start()
    assert wait_until(lambda: rest.ok('GET', '/v1/status')['clock'] == 'stepped_back', PATIENCE)
    assert 'NOT TO BE BELIEVED: stepped_back' in ctl('status')
    assert 'stepped_back' in ctl('time')

    def refused():
        reference = reference_of(world, world.csmf, world.token(), initial_contact=True)
        return known(rest, reference)['items'][0]['reason']
    # Until the guard has found control again, that is the reason.
    assert wait_until(lambda: refused() == 'clock_wrong', PATIENCE)
    Ctl(world, 'bob')('time', 'confirm', expect=NOT_ALLOWED)
    assert 'would believe' in ctl('time', 'confirm', '--dry-run')
    assert rest.ok('GET', '/v1/status')['clock'] == 'stepped_back'
    assert 'before: stepped_back' in ctl('time', 'confirm')
    assert rest.ok('GET', '/v1/status')['clock'] == 'ok'
    assert events(world, 'time_confirmed')[-1]['operator'] == 'alice'
    assert [one['outcome'] for one in records(rest) if one['who'] == 'alice'
            and one['subject'] == '/v1/time/confirm'] == ['begun', 'done']
    world.control.stop()  # and it is stored
    world.control.start()
    assert rest.ok('GET', '/v1/status')['clock'] == 'ok'
    assert wait_until(lambda: rest.ok('GET', '/v1/status')['guard']['connected'], PATIENCE)
    world.open(initial_contact=True)


# ---- floods


def written(world, **wanted):
    """Of the log's own file, control being down."""
    found = []
    for line in (world.control.store.parent / 'audit.log').read_text(encoding='utf-8').splitlines():
        record = json.loads(line.split(' ', 1)[1])
        if all(record.get(name, record['detail'].get(name)) == value
               for name, value in wanted.items()):
            found.append(record)
    return found


def test_a_flood_of_refusals_does_not_fill_the_log(world, ctl, rest):
    """Of peers and of operators; what is left out is there as a number, and the chain is intact."""
    before = len(written(world, reason='request_malformed'))
    connections, each = 20, 8
    for _ in range(connections):
        with world.connect(world.csmf) as connection:
            for _ in range(each):
                assert connection.ask('GET', '/nowhere')[0] == 404
    total = connections * each
    assert wait_until(lambda: rest.ok('GET', '/v1/status')['guard'].get('refusals', {}).get(
        'request_malformed', 0) >= total, PATIENCE)
    viewer = Contract(world.control, 'bob')
    for _ in range(100):
        viewer.problem('PUT', '/v1/policy', {}, status=403)
    viewer.close()
    heard = len([one for one in rest.ok('GET', '/v1/decisions?limit=1000&reason=request_malformed')
                 ['items']])
    assert 50 <= heard <= total  # the guard itself tells of 50 in a second at most
    world.control.stop()

    told = written(world, reason='request_malformed')[before:]
    assert len(told) == 6 and told[-1]['detail']['more'] == heard - 5
    forbidden = written(world, who='bob', outcome='refused')
    assert forbidden[-1]['detail']['more'] >= 80 and len(forbidden) < 40
    log = world.control.store.parent / 'audit.log'
    verified = world.gate.run([BIN / 'portcullisctl', 'audit', 'verify', log], check=False)
    assert verified.returncode == 0, verified.stdout
    world.control.start()
    assert wait_until(lambda: rest.ok('GET', '/v1/status')['guard']['connected'], PATIENCE)
    world.open(initial_contact=True)  # and nobody was locked out
