"""Tokens that are good for one request, and requests that an operator lets pass one by one: at the
socket by which the guard asks control."""

import contextlib
import hashlib
import re
import secrets
import sqlite3

import pytest

from admission_world import (  # noqa: F401
    command_line, gate, guard, operate, permit, process, requests_policy)
from netns import wait_until
from rest_contract import Contract
from rest_gate import namespace, pki, world  # noqa: F401


# ---- tokens that are good for one request


def one_time(gate):
    body = requests_policy()
    body['policies'][0]['one_time'] = True
    gate.rest.ok('PUT', '/v1/policy', body)


def with_jti(jti, *arguments, **more):
    request = operate(*arguments, **more)
    request.token.jti = jti
    return request


@pytest.mark.parametrize('operation', ['nsi:read', 'nsi:create'])
def test_a_one_time_token_is_refused_the_second_time_also_after_a_kill(gate, operation):
    one_time(gate)
    jti = secrets.token_hex(8)
    with gate.guard() as guard:
        assert guard.done(permit=permit()).permitted.one_time
        guard.done(operate=with_jti(jti, operation))
        assert guard.refusal(operate=with_jti(jti, operation)).reason == 'token_used'
    gate.kill()  # right after the answer: what was answered is on the disk
    gate.start()
    with gate.guard() as guard:
        assert guard.refusal(operate=with_jti(jti, operation)).reason == 'token_used'
        guard.done(operate=with_jti(secrets.token_hex(8), operation))


def test_of_many_requests_with_one_token_exactly_one_passes(gate, guard):
    one_time(gate)
    tokens = [secrets.token_hex(8) for _ in range(20)]
    sent = [(jti, guard.begin_all([{'operate': with_jti(jti)} for _ in range(10)]))
            for jti in tokens]
    for jti, numbers in sent:
        answers = [guard.answer(number) for number in numbers]
        refused = [a.refusal.reason for a in answers if a.HasField('refusal')]
        assert refused == ['token_used'] * 9, jti


def test_a_kill_in_the_middle_lets_no_token_pass_twice(gate):
    """Whatever was answered before the kill is refused afterwards; what was not, may be either."""
    one_time(gate)
    tokens = [secrets.token_hex(8) for _ in range(200)]
    passed = set()
    with gate.guard() as guard:
        numbers = guard.begin_all([{'operate': with_jti(jti, 'nsi:create')} for jti in tokens])
        for jti, number in list(zip(tokens, numbers))[:20]:
            assert not guard.answer(number).HasField('refusal')
            passed.add(jti)
        gate.kill()
        with contextlib.suppress(ConnectionError):
            for jti, number in list(zip(tokens, numbers))[20:]:
                if not guard.answer(number).HasField('refusal'):
                    passed.add(jti)
    gate.start()
    with gate.guard() as guard:
        for jti in passed:
            assert guard.refusal(operate=with_jti(jti)).reason == 'token_used'
        guard.done(operate=with_jti(secrets.token_hex(8)))


# ---- requests that an operator must approve


@pytest.fixture
def held(gate, guard):
    """A policy that asks for approval of deletions, and who approves."""
    body = requests_policy()
    body['policies'][0] |= {'approval': ['nsi:delete'], 'approval_seconds': 600}
    gate.rest.ok('PUT', '/v1/policy', body)
    second = Contract(gate.control, 'carol')
    yield second
    second.close()


def delete(resource='7', body=b'', number=1):
    request = operate('nsi:delete', resource, number)
    request.whole.target = f'{request.path}?a=b'
    request.whole.content_type = 'application/json'
    request.whole.body = body
    return request


def held_ids(gate):
    return {request['id'] for request in gate.rest.ok('GET', '/v1/held-requests')['items']}


def test_a_held_request_is_approved_by_what_it_is_and_passes_once(gate, guard, held):
    assert guard.done(permit=permit()).permitted.approval == ['nsi:delete']
    first = delete(body=b'{"x": 1}')
    refusal = guard.refusal(operate=first)
    assert (refusal.reason, refusal.held) == ('approval_needed', first.id)
    assert guard.refusal(operate=delete(body=b'{"x": 1}')).held == first.id
    one, = held.ok('GET', '/v1/held-requests')['items']
    assert one.items() >= {'id': first.id, 'peer': 'csmf-1', 'tenant': 'a', 'interface': 'nsmf',
                           'operations': ['nsi:delete'], 'target': '/nsi/7?a=b',
                           'state': 'waiting', 'body_bytes': 8}.items()
    path = f'/v1/held-requests/{first.id}'
    assert held.ok('GET', path)['body'] == '{"x": 1}'
    digest = hashlib.sha256(b'portcullis request 1\nPOST\n/nsi/7?a=b\napplication/json\n{"x": 1}')
    assert one['digest'] == digest.hexdigest()
    held.problem('POST', f'{path}/approve', {'digest': '0' * 64}, status=409, field='/digest')
    held.problem('POST', f'{path}/approve', {}, status=422, field='/digest')
    with contextlib.closing(Contract(gate.control, 'bob')) as viewer:
        assert len(viewer.ok('GET', '/v1/held-requests')['items']) == 1
        viewer.problem('GET', path, status=403)
        viewer.problem('POST', f'{path}/approve', {'digest': one['digest']}, status=403)
    assert guard.refusal(operate=delete(body=b'{"x": 1}')).reason == 'approval_needed'
    approved = held.ok('POST', f'{path}/approve', {'digest': one['digest']})
    assert (approved['state'], approved['decided_by']) == ('approved', 'carol')
    held.problem('POST', f'{path}/approve', {'digest': one['digest']}, status=409)

    gate.kill()  # what was approved is on the disk
    gate.start()
    with gate.guard() as again:
        other = delete(body=b'{"x": 2}')
        assert again.refusal(operate=other).held == other.id
        passes = delete(body=b'{"x": 1}')
        again.done(operate=passes)
        gate.kill()  # so is that it was made
        gate.start()
    with gate.guard() as third:
        anew = delete(body=b'{"x": 1}')
        assert third.refusal(operate=anew).held == anew.id
    gate.rest.problem('GET', path, status=404)
    records = gate.records()
    assert [r['outcome'] for r in records if r['subject'] == first.id] == ['held']
    begun, = [r for r in records if r['subject'] == passes.id]
    assert begun['detail']['approval'] == {'held': first.id, 'approved_by': 'carol',
                                           'request_digest': one['digest']}
    start = max(1, gate.rest.ok('GET', '/v1/audit/checkpoint')['count'] - 50)
    made = [r for r in gate.rest.ok('GET', f'/v1/audit?from={start}')['items']
            if r['subject'] == f'{path}/approve' and r['outcome'] == 'done']
    assert made[0]['who'] == 'carol'
    assert made[0]['detail'].items() >= {'peer': 'csmf-1', 'request_digest': one['digest'],
                                         'request_target': '/nsi/7?a=b'}.items()
    for one in gate.rest.ok('GET', '/v1/held-requests')['items']:
        gate.rest.ok('POST', f'/v1/held-requests/{one["id"]}/deny', {})


def test_what_is_denied_is_refused_until_it_expires_and_approvals_can_be_taken_back(gate, guard,
                                                                                   held):
    first = delete('8')
    assert guard.refusal(operate=first).held == first.id
    path = f'/v1/held-requests/{first.id}'
    digest = held.ok('GET', path)['request']['digest']
    denied = held.ok('POST', f'{path}/deny', {'reason': 'not today'})
    assert (denied['state'], denied['reason']) == ('denied', 'not today')
    assert guard.refusal(operate=delete('8')).reason == 'operation_denied'
    held.ok('POST', f'{path}/approve', {'digest': digest})
    held.ok('POST', f'{path}/deny', {})
    assert guard.refusal(operate=delete('8')).reason == 'operation_denied'
    held.ok('POST', f'{path}/approve', {'digest': digest})
    guard.done(operate=delete('8'))
    held.problem('POST', f'{path}/deny', {}, status=404)
    texts = [e['text'] for e in gate.events('held_request') if first.id in e['text']]
    assert 'waits' in texts[0] and 'not today' in texts[1]


def test_a_peer_does_not_approve_for_itself(gate, guard, held):
    body = requests_policy()
    body['peers'][0] |= {'identity': 'carol'}
    body['policies'][0] |= {'approval': ['nsi:delete']}
    gate.rest.ok('PUT', '/v1/policy', body)
    first = delete('9')
    assert guard.refusal(operate=first).held == first.id
    path = f'/v1/held-requests/{first.id}'
    digest = {'digest': gate.rest.ok('GET', path)['request']['digest']}
    held.problem('POST', f'{path}/approve', digest, status=403)
    gate.rest.ok('POST', f'{path}/approve', digest)
    guard.done(operate=delete('9'))


def test_a_held_request_that_nobody_approves_in_time_is_gone(gate, held):
    first, second = delete('10'), delete('11')
    with gate.guard() as guard:
        for request in (first, second):
            assert guard.refusal(operate=request).held == request.id
    gate.kill()
    with contextlib.closing(sqlite3.connect(gate.control.store)) as store, store:
        changed = store.execute('UPDATE held_request SET expires = held - 1 WHERE id = ?',
                                (first.id,))
        assert changed.rowcount == 1
    gate.start()
    assert wait_until(lambda: first.id not in held_ids(gate), 10)
    assert second.id in held_ids(gate)
    start = max(1, gate.rest.ok('GET', '/v1/audit/checkpoint')['count'] - 50)
    record, = [r for r in gate.rest.ok('GET', f'/v1/audit?from={start}')['items']
               if r['subject'] == f'/v1/held-requests/{first.id}' and r['action'] == 'expire']
    assert record['who'] == 'control' and record['detail']['state'] == 'waiting'
    with gate.guard() as guard:
        anew = delete('10')
        assert guard.refusal(operate=anew).held == anew.id
        assert guard.refusal(operate=delete('11')).held == second.id


def test_the_command_line_approves_and_denies_held_requests(gate, guard, held):
    cli = command_line(gate)
    before = {r['id'] for r in held.ok('GET', '/v1/held-requests')['items']}
    first, second = delete('11', b'\x1b[2J'), delete('12')
    for request in (first, second):
        assert guard.refusal(operate=request).held == request.id
    listed = cli('held-requests')
    assert re.search(rf'{first.id} +csmf-1 +nsmf +POST /nsi/11\?a=b +nsi:delete +4 .* waiting ',
                     listed), listed
    shown = cli('held-requests', 'show', first.id)
    assert 'WRONG' not in shown and '\x1b' not in shown and '\\u001b[2J' in shown
    digest = re.search(r'[0-9a-f]{64}', shown)[0]
    assert cli('held-requests', 'approve', first.id, digest) == f'request {first.id} is approved\n'
    assert cli('held-requests', 'deny', second.id, '--reason', 'no') == \
        f'request {second.id} is denied\n'
    guard.done(operate=delete('11', b'\x1b[2J'))
    assert guard.refusal(operate=delete('12')).reason == 'operation_denied'
    assert {r['id'] for r in held.ok('GET', '/v1/held-requests')['items']} == before | {second.id}


# ---- whose it is
