"""The other direction: what servers send to peers goes to the one whose address it is, who has proved
to be that one, and is allowed to get it; nowhere else. Each refusal beside what passes."""

import http.client
import ssl

import pytest

from egress_world import (CSMF, DELIVERY, GATEWAY, IMPOSTOR, MSGIN5G_OUT, NAMELESS, NSMF_OUT,
                          REGISTRATIONS, EgressWorld, callback)
from netns import wait_until
from request_world import OPERATIONS, SLICE
from tunnel import GATE, PEER, SERVER

SUBSCRIPTION = '/ProvMnS/v1/SubNetwork=1/NtfSubscriptionControl=1'
MESSAGE = '/msgs-msgdelivery/v1/deliver-ue-message'


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    with EgressWorld(tmp_path_factory.mktemp('egress')) as w:
        yield w


def got(world, port=CSMF):
    return world.receivers[port].seen


def refused(world, reason, status, *arguments, **more):
    """Nothing of it reached anybody."""
    before = [len(recorder.seen) for recorder in (*world.receivers.values(), world.decoy)]
    answer, problem = world.send(*arguments, **more)
    assert answer == status, problem
    assert wait_until(lambda: world.rest.call(
        'GET', f'/v1/decisions/{problem["reference"]}')[0] == 200, 5)
    assert world.why(problem) == reason
    assert [len(recorder.seen)
            for recorder in (*world.receivers.values(), world.decoy)] == before


def test_a_notification_reaches_the_peer_whose_address_it_is(world):
    before = len(got(world))
    assert world.send(callback(CSMF, '/cb/1?to=7'), b'{"a": 1}')[0] == 204
    assert world.send('/1?to=8', **{
        '3gpp-Sbi-Target-apiRoot': callback(CSMF, '/cb')})[0] == 204
    first, second = got(world)[before:]
    assert first[:2] == ('POST', '/cb/1?to=7') and first[3] == b'{"a": 1}'
    assert second[:2] == ('POST', '/cb/1?to=8')
    for message in (first, second):
        headers = {name.lower() for name in message[2]}
        assert message[2]['Host'] == f'{PEER}:{CSMF}'
        assert not headers & {'3gpp-sbi-target-apiroot', 'portcullis-client'}


@pytest.mark.parametrize('url', [
    callback(CSMF, '/elsewhere'), callback(CSMF, '/cb2'), callback(8443, '/cb/1'),
    'https://192.0.2.9:9443/cb/1', 'https://csmf-1.example/cb/1'])
def test_what_is_nobodys_is_not_called(world, url):
    refused(world, 'callback_denied', 403, url)
    assert world.send(callback(CSMF, '/cb/1'))[0] == 204


@pytest.mark.parametrize('url', [
    callback(CSMF, '/cb/../elsewhere'), callback(CSMF, '/cb/%2e%2e/elsewhere'),
    callback(CSMF, '/cb//1'), callback(CSMF, '/cb/1#x'), f'http://{PEER}:{CSMF}/cb/1',
    f'https://user@{PEER}:{CSMF}/cb/1', f'https://{PEER}:0{CSMF}/cb/1', '/cb/1'])
def test_an_address_has_one_spelling(world, url):
    refused(world, 'request_malformed', 400, url)
    assert world.send(callback(CSMF, '/cb/1'))[0] == 204


def test_two_addresses_are_none(world):
    refused(world, 'request_malformed', 400, callback(CSMF, '/cb/1'),
            **{'3gpp-Sbi-Target-apiRoot': callback(CSMF, '/cb')})


def test_what_is_protected_and_the_gate_itself_are_not_called(world):
    """Also where policy has taken them for a peer's by mistake, and where a name leads there."""
    refused(world, 'callback_denied', 403, f'https://{SERVER}:9443/cb')
    refused(world, 'callback_denied', 403, 'https://localhost:9443/cb')
    refused(world, 'callback_denied', 403, f'https://{GATE}:9443/cb')
    assert world.decoy.seen == []


def test_whoever_answers_must_be_that_host_and_that_peer(world):
    refused(world, 'server_unavailable', 502, callback(NAMELESS, '/cb'))  # not that host
    refused(world, 'server_unavailable', 502, callback(IMPOSTOR, '/cb'))  # that host, another peer
    assert world.send(callback(CSMF, '/cb/1'))[0] == 204


def test_a_method_that_is_not_sent_is_refused(world):
    refused(world, 'request_unlisted', 404, callback(CSMF, '/cb/1'), None, method='DELETE')


def test_only_the_named_servers_may_send(world):
    for credential in (world.csmf, world.senders[MSGIN5G_OUT]):
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
            with world.out(NSMF_OUT, credential) as connection:
                world.send(callback(CSMF, '/cb/1'), connection=connection)
    with world.out(NSMF_OUT) as connection:
        assert world.send(callback(CSMF, '/cb/1'), connection=connection)[0] == 204


def test_policy_decides_what_a_peer_is_sent(world):
    policies = world.rest.get('/v1/policies')['items']
    monitor, = (one for one in policies if one['name'] == 'nsi-monitor')
    world.rest.delete('/v1/policies/nsi-monitor')
    refused(world, 'operation_denied', 403, callback(CSMF, '/cb/1'))
    world.rest.put('/v1/policies/nsi-monitor', monitor)
    assert world.send(callback(CSMF, '/cb/1'))[0] == 204


def test_a_revoked_peer_is_sent_nothing(world):
    with world.out() as connection:
        assert world.send(callback(CSMF, '/cb/1'), connection=connection)[0] == 204
        what = {'kind': 'peer', 'id': 'csmf-1'}
        world.rest.post('/v1/revocations', what)
        # Its body is not read, so that the connection ends with it.
        refused(world, 'peer_revoked', 403, callback(CSMF, '/cb/1'), connection=connection)
    world.rest.post('/v1/revocations', {**what, 'revoked': False})
    assert world.send(callback(CSMF, '/cb/1'))[0] == 204


def test_a_callback_is_authorised_when_it_is_given(world):
    def subscribe(address):
        return world.ask('PUT', SUBSCRIPTION, {
            'id': '1', 'objectClass': 'NtfSubscriptionControl',
            'attributes': {'notificationRecipientAddress': address}},
            token=world.api_token(*OPERATIONS))

    reached = len(world.nsmf.requests())
    for address in (callback(CSMF, '/other/1'), callback(CSMF, '/cb/../other/1'),
                    f'https://user@{PEER}:{CSMF}/cb/1', 'https://169.254.169.254/cb/1',
                    f'http://{PEER}:{CSMF}/cb/1', callback(CSMF, '/cb/%2E%2E/other/1')):
        status, _, problem = subscribe(address)
        assert status == 403, address
        assert wait_until(lambda: world.rest.call(
            'GET', f'/v1/decisions/{problem["reference"]}')[0] == 200, 5)
        assert world.why(problem) == 'callback_denied'
    assert len(world.nsmf.requests()) == reached
    # The twin goes on to the server, which has no such objects.
    assert subscribe(callback(CSMF, '/cb/1'))[0] == 404
    assert len(world.nsmf.requests()) == reached + 1


def test_what_was_sent_is_recorded(world):
    assert world.send(callback(CSMF, '/cb/recorded'))[0] == 204

    def records():
        return [r for r in world.rest.get('/v1/audit?count=1000')['items']
                if r.get('detail', {}).get('sent_to') == callback(CSMF, '/cb/recorded')]

    assert wait_until(lambda: len(records()) == 1, 10)
    record, = records()
    assert record['who'] == 'csmf-1' and record['outcome'] == 'done'
    assert record['detail'].items() >= {'sent_by': 'nsmf.example', 'operations': ['nsi:monitor'],
                                        'interface': 'nsmf-api', 'status': 204}.items()


# ---- registration


def registrations(world):
    return [(one['interface'], one['peer'])
            for one in world.rest.get('/v1/registrations')['items']]


def shut(world):
    """Before it has registered, a gateway may do nothing else, and is sent nothing."""
    sent = len(world.msgin5g.seen)
    status, _, problem = world.ask_gateway('POST', MESSAGE, {'oriAddr': {'addr': 'gw-1'}})
    assert status == 403
    assert wait_until(lambda: world.rest.call(
        'GET', f'/v1/decisions/{problem["reference"]}')[0] == 200, 5)
    assert world.why(problem) == 'not_registered'
    assert len(world.msgin5g.seen) == sent
    refused(world, 'not_registered', 403, callback(GATEWAY, DELIVERY), port=MSGIN5G_OUT)
    assert registrations(world) == []


def opened(world):
    delivered = len(got(world, GATEWAY))
    assert world.ask_gateway('POST', MESSAGE, {'oriAddr': {'addr': 'gw-1'}})[0] == 204
    assert world.deliver()[0] == 204
    assert got(world, GATEWAY)[delivered][:2] == ('POST', DELIVERY)
    assert registrations(world) == [('msgin5g', 'gw-1')]


def test_a_gateway_registers_before_anything_else_and_until_it_is_gone(world):
    shut(world)
    world.registration_status = 403  # the server's own word counts
    assert world.ask_gateway('POST', REGISTRATIONS, {})[0] == 403
    shut(world)
    world.registration_status = 201
    assert world.ask_gateway('POST', REGISTRATIONS, {})[0] == 201
    opened(world)
    assert world.ask_gateway('DELETE', f'{REGISTRATIONS}/7')[0] == 204
    shut(world)


def test_a_delivery_has_the_paths_of_the_profile_only(world):
    assert world.ask_gateway('POST', REGISTRATIONS, {})[0] == 201
    refused(world, 'request_unlisted', 404, callback(GATEWAY, '/msgg-l3gdelivery/v1/other'),
            port=MSGIN5G_OUT)
    opened(world)
    assert world.ask_gateway('DELETE', f'{REGISTRATIONS}/7')[0] == 204


def test_a_registration_outlives_control_and_ends_with_the_peer(world):
    assert world.ask_gateway('POST', REGISTRATIONS, {})[0] == 201
    world.control.kill()
    world.control.start()
    assert wait_until(lambda: world.ask_gateway(
        'POST', MESSAGE, {'oriAddr': {'addr': 'gw-1'}})[0] == 204, 20)
    opened(world)
    what = {'kind': 'peer', 'id': 'gw-1'}
    world.rest.post('/v1/revocations', what)
    assert registrations(world) == []
    world.rest.post('/v1/revocations', {**what, 'revoked': False})
    assert wait_until(lambda: world.deliver()[0] == 403, 5)
    shut(world)  # it is admitted again, not registered


def test_operators_end_registrations(world):
    assert world.ask_gateway('POST', REGISTRATIONS, {})[0] == 201
    world.rest.delete('/v1/registrations/msgin5g~gw-1?dryRun=true')
    opened(world)
    world.rest.delete('/v1/registrations/msgin5g~gw-1')
    shut(world)
    assert world.rest.call('DELETE', '/v1/registrations/msgin5g~gw-1')[0] == 404


def test_slices_go_on_as_before(world):
    assert world.create('beside') == 201
    assert world.ask('DELETE', SLICE.format('beside'))[0] == 204
