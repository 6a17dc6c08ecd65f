"""Control's half of requests over HTTPS, at its socket: what a peer may ask for, how soon the guard
hears that it is otherwise, what is recorded, counted and owned, also when either of them dies."""

import contextlib
import re
import time

import pytest

from admission_client import pb
from admission_world import (  # noqa: F401
    ISSUER, OPERATIONS, command_line, create, gate, guard, operate, owner, permit, process,
    requests_policy)
from rest_contract import Contract
from rest_gate import namespace, pki, world  # noqa: F401


# ---- what they may ask for


def test_a_permit_is_what_token_and_policy_both_give(gate, guard):
    permitted = guard.done(permit=permit()).permitted
    assert (permitted.peer, permitted.role, permitted.tenant) == ('csmf-1', 'csmf', 'a')
    assert permitted.self == 'as-1' and list(permitted.operations) == OPERATIONS
    assert 0 < permitted.seconds <= 900 and not permitted.blocks
    refusal = guard.refusal(permit=permit(scope='*'))
    assert refusal.reason == 'token_scope_fail'
    found, = gate.rest.ok('GET', f'/v1/decisions/{refusal.reference}')['items']
    assert found['peer'] == 'csmf-1' and found['source'] == '192.0.2.2'


def test_a_watch_waits_and_an_older_version_is_answered_at_once(gate, guard):
    version = guard.done(permit=permit()).permitted.version
    assert guard.done(watch=pb.Watch(version=version - 1)).changed.version == version
    with pytest.raises(TimeoutError):
        guard.answer(guard.begin(watch=pb.Watch(version=version)), timeout=0.5)


def within_a_second(guard, change):
    """What Permit says once a Watch that waited has been answered, a second after `change` at most."""
    known = guard.done(permit=permit()).permitted.version
    waiting = guard.begin(watch=pb.Watch(version=known))
    guard.done(permit=permit())  # control is at it
    began = time.monotonic()
    change()
    version = guard.answer(waiting).changed.version
    answer = guard.call(permit=permit())
    took = time.monotonic() - began
    assert version != known and took < 1, took
    return answer


def test_a_revocation_is_in_force_within_a_second_while_a_watch_waits(gate, guard):
    wish = {'kind': 'token', 'issuer': ISSUER, 'id': 't1'}
    answer = within_a_second(guard, lambda: gate.rest.request('POST', '/v1/revocations', wish))
    assert answer.refusal.reason == 'token_revoked'
    assert guard.refusal(operate=operate()).reason == 'token_revoked'
    guard.done(operate=operate(number=2))
    gate.rest.request('POST', '/v1/revocations', {**wish, 'revoked': False})
    guard.done(operate=operate())


def test_a_block_is_in_force_within_a_second_and_others_lose_nothing(gate, guard):
    block = {'name': 'cve-1', 'interface': 'nsmf', 'peer': 'csmf-1', 'method': 'PATCH',
             'path': '/nsi/*'}
    patch = {'method': 'PATCH', 'resource': '7'}
    guard.done(operate=operate(**patch))
    answer = within_a_second(
        guard, lambda: gate.rest.ok('PUT', '/v1/request-blocks/cve-1', block, status=201))
    assert [(b.name, b.method, b.path) for b in answer.permitted.blocks] == [
        ('cve-1', 'PATCH', '/nsi/*')]
    assert guard.refusal(operate=operate(**patch)).reason == 'request_blocked'
    guard.done(operate=operate(resource='7', method='GET'))
    guard.done(operate=operate(number=2, **patch))
    answer = within_a_second(guard, lambda: gate.rest.ok('DELETE', '/v1/request-blocks/cve-1'))
    assert not answer.permitted.blocks
    guard.done(operate=operate(**patch))


# ---- what is recorded


def test_a_change_is_recorded_before_it_is_made_and_afterwards(gate, guard):
    before = len(gate.records())
    done = gate.counted('nsi:create', 'done')
    begun = operate('nsi:create')
    guard.done(operate=begun)
    record, = gate.records()[before:]
    assert record['outcome'] == 'begun' and record['subject'] == begun.id
    assert record['who'] == 'csmf-1' and record['detail']['token']['id'] == 't1'
    guard.done(outcome=pb.Outcome(id=begun.id, status=201, created='7', request_bytes=5,
                                  response_bytes=6))
    _, ended = gate.records()[before:]
    assert ended['outcome'] == 'done' and ended['detail']['begun'] == record['number']
    assert ended['detail'].items() >= {'status': 201, 'request_bytes': 5, 'response_bytes': 6,
                                       'created': {'kind': 'slice', 'id': '7'}}.items()
    assert gate.counted('nsi:create', 'done') == done + 1
    assert guard.refusal(outcome=pb.Outcome(id=begun.id, status=201)).reason == 'request_malformed'


def test_what_only_reads_has_one_record_and_what_is_denied_none(gate, guard):
    before = len(gate.records())
    reads = [operate() for _ in range(100)]
    for number in guard.begin_all([{'operate': read} for read in reads]):
        assert not guard.answer(number).HasField('refusal')
    for read in reads:
        guard.tell(outcome=pb.Outcome(id=read.id, status=200))
    denied = guard.refusal(operate=operate('nsi:activate'))
    assert denied.reason == 'operation_denied'
    assert not guard.answers, 'what nobody waits for is not answered'
    deadline = time.monotonic() + 30
    while len(gate.records()) < before + len(reads) and time.monotonic() < deadline:
        time.sleep(0.05)
    written = gate.records()[before:]
    assert sorted(record['subject'] for record in written) == sorted(read.id for read in reads)
    assert {record['outcome'] for record in written} == {'done'}


def test_a_quota_is_the_tenants(gate, guard):
    refused = gate.counted('nsi:modify', 'quota_exceeded')
    for _ in range(2):
        guard.done(operate=operate('nsi:modify'))
    denied = operate('nsi:modify')
    assert guard.refusal(operate=denied).reason == 'quota_exceeded'
    guard.done(operate=operate('nsi:modify', number=2))
    assert gate.counted('nsi:modify', 'quota_exceeded') == refused + 1
    found, = gate.rest.ok('GET', f'/v1/decisions/{denied.id}')['items']  # as the peer was told
    assert found['reason'] == 'quota_exceeded' and found['peer'] == 'csmf-1'


def test_a_thousand_creations_do_not_need_a_thousand_writes(gate, guard):
    before = len(gate.records())
    begun = [operate('nsi:create') for _ in range(1000)]
    for number in guard.begin_all([{'operate': one} for one in begun]):
        assert not guard.answer(number).HasField('refusal')
    records = gate.records()[before:]
    assert {record['subject'] for record in records} == {one.id for one in begun}
    # All records of one write have one time.
    assert len({record['boot_ms'] for record in records}) <= 100
    for number in guard.begin_all([{'outcome': pb.Outcome(id=one.id, status=201)}
                                   for one in begun]):
        assert not guard.answer(number).HasField('refusal')


def test_what_is_created_belongs_to_its_tenant_and_to_nobody_else(gate, guard):
    assert not create(guard, '7').HasField('refusal')
    assert owner(guard, '7') == 'a' and owner(guard, '8') == ''
    guard.done(operate=operate(resource='7'))
    assert guard.refusal(operate=operate(resource='7', number=2)).reason == 'tenant_violation'
    assert create(guard, '7', number=2).refusal.reason == 'tenant_violation'
    assert owner(guard, '7') == 'a'
    assert any("'7'" in event['text'] for event in gate.events('alarm'))
    for status, expected in ((500, 'a'), (204, '')):
        gone = operate('nsi:delete', '7')
        guard.done(operate=gone)
        guard.done(outcome=pb.Outcome(id=gone.id, status=status, deleted=True))
        assert owner(guard, '7') == expected
    assert not create(guard, '7', number=2).HasField('refusal')
    assert owner(guard, '7') == 'b'


def test_operators_see_owners_by_pages_and_take_them_away(gate, guard):
    for resource, number in (('1', 1), ('2', 2), ('with/slash', 1)):
        create(guard, resource, number)
    rest = gate.rest
    page = rest.ok('GET', '/v1/owners?limit=2')
    assert [one['resource'] for one in page['items']] == ['1', '2']
    rest_of_them = rest.ok('GET', f'/v1/owners?limit=2&after={page["next"]}')
    assert [one['resource'] for one in rest_of_them['items']] == ['with/slash']
    assert 'next' not in rest_of_them
    assert len(rest.ok('GET', '/v1/owners?tenant=a&interface=nsmf')['items']) == 2
    assert rest.ok('GET', '/v1/owners?interface=nowhere')['items'] == []
    for query in ('after=!', 'limit=0', 'tenant=', 'interface=A', 'colour=red'):
        rest.problem('GET', f'/v1/owners?{query}', status=400)
    one = rest_of_them['items'][0]
    would = rest.ok('DELETE', f'/v1/owners/{one["id"]}?dryRun=true')['would']
    assert would['removed'] == [{'kind': 'owner', 'name': one['id']}]
    assert owner(guard, 'with/slash') == 'a'
    known = guard.done(permit=permit()).permitted.version
    rest.ok('DELETE', f'/v1/owners/{one["id"]}')
    assert owner(guard, 'with/slash') == ''
    # A guard that keeps whose something is hears of it.
    assert guard.done(watch=pb.Watch(version=known)).changed.version != known
    rest.problem('DELETE', f'/v1/owners/{one["id"]}', status=404)
    rest.problem('DELETE', '/v1/owners/nonsense', status=404)
    start = max(1, rest.ok('GET', '/v1/audit/checkpoint')['count'] - 20)
    records = rest.ok('GET', f'/v1/audit?from={start}')['items']
    forgotten = [r for r in records if r['action'] == 'DELETE' and r['outcome'] == 'done'][-1]
    assert forgotten['detail'].items() >= {'resource': 'with/slash', 'tenant': 'a',
                                           'kind': 'slice', 'interface': 'nsmf'}.items()
    with contextlib.closing(Contract(gate.control, 'bob')) as viewer:
        assert len(viewer.ok('GET', '/v1/owners')['items']) == 2
        viewer.problem('DELETE', f'/v1/owners/{page["items"][0]["id"]}', status=403)


def test_the_command_line_shows_and_forgets_owners_and_blocks(gate, guard, tmp_path):
    create(guard, '1')
    cli = command_line(gate)
    listed = cli('owners')
    assert re.search(r'nsmf +slice +1 +a ', listed), listed
    cli('owners', 'forget', gate.rest.ok('GET', '/v1/owners')['items'][0]['id'])
    assert cli('owners') == 'nothing belongs to anybody\n'
    file = tmp_path / 'block.yaml'
    file.write_text('name: cve-2\ninterface: nsmf\npath: /nsi/*\n')
    cli('request-blocks', 'add', str(file))
    assert re.search(r'cve-2 +nsmf +any +any +/nsi/\*', cli('request-blocks'))
    cli('request-blocks', 'delete', 'cve-2')
    assert cli('request-blocks') == 'no requests are blocked\n'


# ---- when one of them dies


def test_what_was_begun_when_control_was_killed_can_still_be_ended(gate, guard):
    create(guard, 'before')
    begun, lost = operate('nsi:create'), operate('nsi:create')
    guard.done(operate=begun)
    guard.done(operate=lost)
    version = guard.done(permit=permit()).permitted.version
    gate.kill()
    gate.start()
    assert [begun.id in event['text'] for event in gate.events('operation')].count(True) == 1
    with gate.guard() as again:
        assert owner(again, 'before') == 'a'
        assert again.done(watch=pb.Watch(version=version)).changed.version != version
        again.done(outcome=pb.Outcome(id=begun.id, status=201, created='7'))
        assert owner(again, '7') == 'a'
        records = [r for r in gate.records() if r['subject'] == begun.id]
        assert [r['outcome'] for r in records] == ['begun', 'done']
        assert records[1]['detail']['begun'] == records[0]['number']
        # Of what is ended nothing is told any more; of the other one, again.
        gate.kill()
        gate.start()
    texts = ' '.join(event['text'] for event in gate.events('operation'))
    assert begun.id not in texts and lost.id in texts


def test_operations_of_a_guard_that_hung_up_are_told(gate):
    with gate.guard() as dying:
        dying.done(operate=operate('nsi:create'))
        dying.done(operate=operate())
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if any(event['text'].startswith('2 operations') for event in gate.events('operation')):
            return
        time.sleep(0.05)
    pytest.fail('nobody told of them')


def test_the_document_and_the_resource_are_the_same_block(gate):
    rest = gate.rest
    block = {'name': 'cve-3', 'interface': 'nsmf', 'path': '/x'}
    rest.ok('POST', '/v1/request-blocks', block, status=201)
    rest.problem('POST', '/v1/request-blocks', block, status=409)
    answer = rest.request('GET', '/v1/request-blocks/cve-3')
    assert answer.json == block
    tag = answer.headers['ETag']
    assert rest.ok('GET', '/v1/request-blocks')['items'] == [block]
    whole = rest.ok('GET', '/v1/policy')
    assert whole['request_blocks'] == [block]
    del whole['request_blocks']
    rest.ok('PUT', '/v1/policy', whole)  # an older tool: it stays
    assert rest.ok('GET', '/v1/request-blocks')['items'] == [block]
    rest.problem('PUT', '/v1/request-blocks/cve-3', {**block, 'path': 'x'}, status=422,
                 field='/path')
    rest.problem('PUT', '/v1/request-blocks/cve-3', {**block, 'peer': 'nobody'}, status=422,
                 field='/peer')
    rest.problem('DELETE', '/v1/interfaces/nsmf', status=409)
    would = rest.ok('PUT', '/v1/request-blocks/cve-3?dryRun=true', {**block, 'method': 'GET'})
    assert would['would']['changed'][0]['name'] == 'cve-3'
    rest.ok('PUT', '/v1/request-blocks/cve-3', {**block, 'method': 'GET'}, {'If-Match': tag})
    rest.problem('DELETE', '/v1/request-blocks/cve-3', headers={'If-Match': tag}, status=412)
    rest.ok('PUT', '/v1/policy', {**whole, 'request_blocks': []})
    rest.problem('GET', '/v1/request-blocks/cve-3', status=404)


def test_one_person_blocks_and_two_take_it_back(gate):
    rest = gate.rest
    rest.ok('PUT', '/v1/policy',
            requests_policy(approval=[{'name': 'two', 'changes': ['policies']}]))
    rest.ok('PUT', '/v1/request-blocks/cve-4',
            {'name': 'cve-4', 'interface': 'nsmf', 'path': '/x'}, status=201)
    second = Contract(gate.control, 'carol')
    for target, body in (('DELETE /v1/request-blocks/cve-4', None),
                         ('PUT /v1/policy', requests_policy(approval=[]))):
        method, path = target.split()
        held = rest.ok(method, path, body, status=202)['pending']
        second.ok('POST', f'/v1/approvals/{held["id"]}/approve', {'digest': held['digest']})
    second.close()
    rest.problem('GET', '/v1/request-blocks/cve-4', status=404)
