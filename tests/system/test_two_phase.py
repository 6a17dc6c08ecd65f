"""Two-phase grants: before the protected server says that a peer is registered, the peer's session
carries nothing but what registers; both directions."""

import time

import pytest

from netns import wait_until
from session_world import SessionWorld, policy

REGISTER = 5060


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    with SessionWorld(tmp_path_factory.mktemp('two-phase')) as w:
        document = policy()
        ports = document['interfaces'][0]['ports']
        ports.append({'protocol': 'udp', 'first': REGISTER, 'last': REGISTER})
        document['policies'][0]['registration_ports'] = [ports[1]]
        w.rest.put('/v1/policy', document)
        w.server_rest = w.control.rest('nsmf-server')
        yield w


@pytest.fixture(autouse=True)
def nothing_left(world):
    yield
    world.close_sessions()


def says(world, registered, who=None, interface='nsmf', peer='csmf-1', **more):
    status, _ = (who or world.server_rest).call(
        'POST', f'/v1/peers/{peer}/registration',
        {'interface': interface, 'registered': registered, **more})
    return status


def test_nothing_but_registration_before_and_all_after(world):
    world.open()
    before = world.rest.verdicts().get('not_registered', 0)
    assert not world.passes(timeout=1)
    assert world.rest.verdicts()['not_registered'] >= before + 2  # inbound and outbound
    assert world.passes(port=REGISTER)
    assert says(world, True) == 200
    assert world.passes()
    assert world.sessions()[0]['registered_for'] > 3500
    assert says(world, False) == 200
    assert not world.passes(timeout=1)
    assert world.passes(port=REGISTER)


def test_a_renewal_is_registered_as_before_and_a_new_session_is_not(world):
    first = world.open()
    assert says(world, True) == 200
    world.open(spi=0x5002, session=first.id)
    assert world.passes()
    world.open(spi=0x5003, initial_contact=True)
    assert not world.passes(timeout=1)
    assert says(world, True) == 200
    assert world.passes()


def test_it_outlives_a_restart_of_control_and_of_the_dataplane(world):
    world.open()
    assert says(world, True) == 200
    world.control.kill()
    assert world.passes()
    world.control.start()
    assert wait_until(world.sessions, 20)
    assert world.sessions()[0]['registered_for'] > 3000
    world.dataplane.kill()
    world.dataplane.start()
    world.control.wait_ready()
    assert world.passes()


def test_it_ends_by_itself(world):
    world.open()
    assert says(world, True, seconds=2) == 200
    assert world.passes()
    time.sleep(2)  # is what is tested
    assert wait_until(lambda: not world.passes(timeout=0.2), 20)


def test_only_the_interfaces_own_server_says_so(world):
    world.open()
    assert says(world, True, who=world.control.rest('bob')) == 403  # a viewer
    assert says(world, True, interface='scef') == 403  # another's interface
    assert says(world, True, peer='csmf-2') == 404  # has no session
    assert says(world, 'yes') == 422
    for path in ('/v1/status', '/v1/sessions', '/metrics'):
        assert world.server_rest.call('GET', path)[0] == 403, path
    assert world.server_rest.call('POST', '/v1/peers/csmf-1/revoke', {'revoked': True})[0] == 403
    assert not world.passes(timeout=1)
    assert says(world, True) == 200
    assert world.passes()
