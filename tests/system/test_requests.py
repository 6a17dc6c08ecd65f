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
    records = world.rest.get('/v1/audit?count=1000')['items']
    mine = [r for r in records if r.get('detail', {}).get('path') == SLICE.format('kept')]
    for operation in ('nsi:create', 'nsi:delete'):
        of_it = [r for r in mine if r['detail']['operations'] == [operation]]
        assert [r['outcome'] for r in of_it] == ['begun', 'done'], of_it
        assert all(r['who'] == 'csmf-1' for r in of_it)
