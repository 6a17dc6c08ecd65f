"""Every management request authorised, one by one: a CSMF's HTTPS requests through the guard to an
NSMF that really creates, modifies and deletes slices. Each refusal beside what passes."""

import time

import pytest

from netns import wait_until
from request_world import MERGE_PATCH, OPERATIONS, SLICE, RequestWorld


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    with RequestWorld(tmp_path_factory.mktemp('requests')) as w:
        yield w


@pytest.fixture
def reached(world):
    """How many more requests have reached the NSMF."""
    before = len(world.nsmf.requests())
    return lambda: len(world.nsmf.requests()) - before


def patch(world, name, attributes, **more):
    return world.ask('PATCH', SLICE.format(name), {'attributes': attributes}, MERGE_PATCH, **more)


def test_a_slice_lives_and_goes(world, reached):
    assert world.create('one') == 201
    status, _, slice_ = world.ask('GET', SLICE.format('one'))
    assert (status, slice_['attributes']['userLabel']) == (200, 'one')
    assert patch(world, 'one', {'administrativeState': 'LOCKED'})[0] == 200
    assert patch(world, 'one', {'administrativeState': 'UNLOCKED'})[0] == 200
    status, _, slice_ = patch(world, 'one', {'userLabel': 'renamed'})
    assert (status, slice_['attributes']['userLabel']) == (200, 'renamed')
    assert world.ask('DELETE', SLICE.format('one'))[0] == 204
    assert reached() == 6
    headers = dict(world.nsmf.requests()[-1]['headers'])
    assert headers['Portcullis-Client'].startswith(
        'peer="csmf-1", tenant="operator-a", role="csmf", request="')
    assert 'Authorization' not in headers


def do(world, operation, name, token):
    """One request that is this operation, on a slice that is there."""
    if operation == 'nsi:create':
        return world.create(f'{name}-new-{time.monotonic_ns()}', token=token)
    if operation == 'nsi:delete':
        return world.ask('DELETE', SLICE.format(name), token=token)[0]
    if operation == 'nsi:monitor':
        return world.ask('GET', SLICE.format(name), token=token)[0]
    attributes = {'nsi:activate': {'administrativeState': 'UNLOCKED'},
                  'nsi:deactivate': {'administrativeState': 'LOCKED'},
                  'nsi:modify': {'userLabel': 'x'}}[operation]
    return patch(world, name, attributes, token=token)[0]


@pytest.mark.parametrize('granted', OPERATIONS)
def test_a_token_for_one_operation_is_good_for_exactly_that_one(world, granted):
    name = 'matrix-' + granted.replace(':', '-')
    assert world.create(name) == 201
    token = world.api_token(granted)
    # What is refused first, since deleting comes last.
    for asked in [o for o in OPERATIONS if o != granted] + [granted]:
        status = do(world, asked, name, token)
        assert status in (200, 201, 204) if asked == granted else status == 403, asked


def test_both_operations_of_a_body_are_needed(world):
    assert world.create('both') == 201
    both = {'administrativeState': 'LOCKED', 'userLabel': 'x'}
    for operations in (['nsi:modify'], ['nsi:deactivate'], ['nsi:modify', 'nsi:activate']):
        assert patch(world, 'both', both, token=world.api_token(*operations))[0] == 403
    token = world.api_token('nsi:modify', 'nsi:deactivate')
    assert patch(world, 'both', both, token=token)[0] == 200


def test_a_slice_is_its_tenants(world, reached):
    assert world.create('mine') == 201
    token = world.api_token(credential=world.other, client='csmf-2')
    for method in ('GET', 'DELETE'):
        connection = world.client(world.other)
        status, _, problem = world.ask(method, SLICE.format('mine'), token=token,
                                       connection=connection)
        assert status == 403
        # The same as for what is not there at all.
        absent = world.ask(method, SLICE.format('absent'), token=token, connection=connection)
        assert (absent[0], absent[2] | {'reference': ''}) == (status, problem | {'reference': ''})
    assert reached() == 1
    assert world.ask('GET', SLICE.format('mine'))[0] == 200


def test_what_a_collection_creates_is_its_creators(world):
    """AllocateNsi: the new id is in the answer's Location."""
    status, headers, _ = world.ask('POST', '/NSProvMnS/v1/ServiceProfiles', {'sST': 1})
    assert status == 201
    token = world.api_token(credential=world.other, client='csmf-2')
    assert world.ask('DELETE', headers['Location'], token=token,
                     connection=world.client(world.other))[0] == 403
    assert world.ask('DELETE', headers['Location'])[0] == 204


def test_without_the_right_token_nothing_passes(world, reached):
    status, headers, problem = world.ask('GET', SLICE.format('one'), token='')
    assert (status, headers['WWW-Authenticate']) == (401, 'Bearer')
    assert len(problem['reference']) == 16
    stolen = world.api_token(credential=world.other, client='csmf-2')
    for token in ('x', stolen, world.api_token(exp=int(time.time()) - 60),
                  world.token()):  # the last one: of another interface
        assert world.ask('GET', SLICE.format('one'), token=token)[0] == 401
    assert world.ask('GET', SLICE.format('one'), token=world.api_token('other'))[0] == 403
    assert reached() == 0
    assert world.create('with-token') == 201


def test_why_knows_the_reference(world):
    problem = world.ask('GET', '/ProvMnS/v1/Nothing=1')[2]
    path = f'/v1/decisions/{problem["reference"]}'
    assert wait_until(lambda: world.rest.call('GET', path)[0] == 200, 5)
    assert world.rest.get(path)['items'][0]['reason'] == 'request_unlisted'


def test_a_one_time_token_is_good_for_one_request(world, reached):
    """On one connection as on two; what is refused for another reason uses up nothing."""
    assert world.create('once') == 201
    policy = world.rest.get('/v1/policies/nsi-monitor')
    world.rest.put('/v1/policies/nsi-monitor', {**policy, 'one_time': True})
    try:
        token, connection = world.api_token('nsi:monitor'), world.client()
        assert patch(world, 'once', {'userLabel': 'x'}, token=token, connection=connection)[0] == 403
        assert world.ask('GET', SLICE.format('once'), token=token, connection=connection)[0] == 200
        for again in (connection, None):
            status, headers, problem = world.ask('GET', SLICE.format('once'), token=token,
                                                 connection=again)
            assert (status, headers['WWW-Authenticate']) == (401, 'Bearer error="invalid_token"')
        path = f'/v1/decisions/{problem["reference"]}'
        assert wait_until(lambda: world.rest.call('GET', path)[0] == 200, 5)
        assert world.rest.get(path)['items'][0]['reason'] == 'token_used'
        assert world.ask('GET', SLICE.format('once'), token=world.api_token('nsi:monitor'),
                         connection=connection)[0] == 200
        assert reached() == 3
    finally:
        world.rest.put('/v1/policies/nsi-monitor', policy)


def test_a_deletion_needs_two_parties_where_policy_says_so(world, reached):
    """TR 33.811 5.1.1 consequence 5: held with one, made with two, and once."""
    assert world.create('precious') == 201
    policy = world.rest.get('/v1/policies/nsi-delete')
    world.rest.put('/v1/policies/nsi-delete', {**policy, 'approval': ['nsi:delete']})
    try:
        connection, path = world.client(), SLICE.format('precious')
        # 503 until the guard has heard of it.
        assert wait_until(lambda: world.ask('DELETE', path)[0] == 403, 5)
        status, _, problem = world.ask('DELETE', path, connection=connection)
        assert status == 403
        assert problem['type'] == 'urn:portcullis:problem:guard:approval_needed'
        held = problem['held']
        assert world.ask('DELETE', path)[2]['held'] == held
        digest = world.rest.get(f'/v1/held-requests/{held}')['request']['digest']
        world.rest.post(f'/v1/held-requests/{held}/approve', {'digest': digest})
        assert reached() == 1
        another = world.ask('DELETE', path + '?x=1', connection=connection)
        assert another[0] in (400, 403) and another[2].get('held') != held
        assert world.ask('DELETE', path, connection=connection)[0] == 204
        assert world.create('precious') == 201
        again = world.ask('DELETE', path, connection=connection)
        assert again[0] == 403 and again[2]['held'] != held
        assert reached() == 3
    finally:
        world.rest.put('/v1/policies/nsi-delete', policy)
    assert world.ask('DELETE', path)[0] == 204


def test_a_block_is_in_force_within_a_second(world):
    """Runtime-16: a weakness became known; nobody restarts anything and nobody else loses anything."""
    assert world.create('weak') == 201
    with_connection = world.client()
    assert world.ask('GET', SLICE.format('weak'), connection=with_connection)[0] == 200
    world.rest.put('/v1/request-blocks/cve', {
        'name': 'cve', 'interface': 'nsmf-api', 'peer': 'csmf-1', 'method': 'GET',
        'path': SLICE.format('weak')})
    began = time.monotonic()
    assert wait_until(lambda: world.ask('GET', SLICE.format('weak'),
                                        connection=with_connection)[0] == 403, 1)
    assert time.monotonic() - began <= 1
    assert patch(world, 'weak', {'userLabel': 'x'}, connection=with_connection)[0] == 200
    world.rest.delete('/v1/request-blocks/cve')
    assert wait_until(lambda: world.ask('GET', SLICE.format('weak'),
                                        connection=with_connection)[0] == 200, 1)


def test_a_revoked_peer_is_out_on_the_connection_it_has(world):
    connection = world.client()
    assert world.create('revoked') == 201
    assert world.ask('GET', SLICE.format('revoked'), connection=connection)[0] == 200
    what = {'kind': 'peer', 'id': 'csmf-1'}
    world.rest.post('/v1/revocations', what)
    assert wait_until(lambda: world.ask('GET', SLICE.format('revoked'),
                                        connection=connection)[0] == 403, 1)
    world.rest.post('/v1/revocations', {**what, 'revoked': False})
    assert wait_until(lambda: world.ask('GET', SLICE.format('revoked'))[0] == 200, 1)


def test_each_admitted_operation_has_its_record_and_owners_survive_a_restart(world):
    assert world.create('kept') == 201
    world.control.kill()
    world.control.start()
    assert wait_until(lambda: world.ask('GET', SLICE.format('kept'))[0] == 200, 20)
    assert world.ask('DELETE', SLICE.format('kept'),
                     token=world.api_token(credential=world.other, client='csmf-2'),
                     connection=world.client(world.other))[0] == 403
    assert world.ask('DELETE', SLICE.format('kept'))[0] == 204

    def recorded(operation):
        records = world.rest.get('/v1/audit?count=1000')['items']
        return [r for r in records if r.get('detail', {}).get('path') == SLICE.format('kept') and
                r['detail']['operations'] == [operation]]

    for operation in ('nsi:create', 'nsi:delete'):  # what came of it is written a little later
        assert wait_until(lambda name=operation: len(recorded(name)) == 2), recorded(operation)
        assert [r['outcome'] for r in recorded(operation)] == ['begun', 'done']
        assert all(r['who'] == 'csmf-1' for r in recorded(operation))
