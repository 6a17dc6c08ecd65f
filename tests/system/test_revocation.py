"""What is revoked ends what rests on it, at once: over REST, by a CA's list, by an issuer's key set;
with control restarted, with the dataplane away. Each time somebody whom it does not concern goes
on, and whoever is admitted again gets in."""

import pytest

from netns import wait_until
from session_peer import SessionError, TokenIssuer
from session_world import ISSUER, SessionWorld


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    with SessionWorld(tmp_path_factory.mktemp('revocation')) as w:
        yield w


@pytest.fixture(autouse=True)
def nothing_left(world):
    yield
    for denied in world.rest.get('/v1/revocations')['items']:
        world.rest.post('/v1/revocations', {k: denied[k] for k in ('kind', 'id', 'issuer')
                                            if k in denied} | {'revoked': False})
    end_all(world)
    assert wait_until(lambda: not world.sas(), 20)


def end_all(world):
    """As an operator does it: a moment's revocation is one all the same."""
    for peer in {session['peer'] for session in world.sessions()}:
        for revoked in (True, False):
            world.rest.post(f'/v1/peers/{peer}/revoke', {'revoked': revoked})


def cut_off(world):
    """No packet gets through, and nothing is left of the session."""
    number = next(world.numbers)
    world.send_inbound(number)
    world.settle()
    return number not in world.arrived_inbound() and not world.sas() and not world.sessions()


def second(world):
    """A session of csmf-2."""
    credential = world.peers.issue('csmf-2.example', 'client')
    with world.connect(credential) as connection:
        session = world.ask(connection, world.token(credential, client='csmf-2'), 0x6001,
                            outer={'peer': '192.0.2.3'})
        connection.confirm(session)
    return credential, session


KINDS = {
    'certificate': (lambda w: {'issuer': 'CN=peers CA',
                               'id': f'{w.csmf.certificate.serial_number:x}'}, 403),
    'token': (lambda w: {'issuer': ISSUER, 'id': w.jti}, 401),
    'key': (lambda w: {'issuer': ISSUER, 'id': w.issuer.kid}, 401),
    'issuer': (lambda w: {'id': ISSUER}, 401),
    'policy': (lambda w: {'id': 'manage'}, 403),
    'peer': (lambda w: {'id': 'csmf-1'}, 403),
}


@pytest.mark.parametrize('kind', KINDS)
def test_revoked_over_rest_it_is_over_when_the_answer_comes(world, kind):
    make, status = KINDS[kind]
    token = world.token(jti=f'once-{kind}')
    world.jti = f'once-{kind}'
    world.open(token=token)
    assert world.passes()
    thing = {'kind': kind, **make(world)}
    would = world.rest.call('POST', '/v1/revocations?dryRun=true', thing)
    assert would[0] == 200 and world.passes()
    answer = world.rest.call('POST', '/v1/revocations', {**thing, 'reason': 'lost'})
    assert answer[0] == 200, answer
    assert cut_off(world)
    assert world.refused(world.csmf, token) == status
    listed = world.rest.get('/v1/revocations')['items']
    assert [(one['kind'], one['reason'], one['by']) for one in listed] == [(kind, 'lost', 'alice')]
    world.rest.post('/v1/revocations', {**thing, 'revoked': False})
    world.open(token=token)
    assert world.passes()


def test_only_what_rests_on_it_ends(world):
    world.open()
    _, other = second(world)
    world.rest.post('/v1/revocations', {'kind': 'certificate', 'issuer': 'CN=peers CA',
                                        'id': f'{world.csmf.certificate.serial_number:x}'})
    assert [one['id'] for one in world.sessions()] == [other.id]


@pytest.mark.parametrize('wrong, field', [
    ({'kind': 'certificate', 'id': '1f'}, '/issuer'),
    ({'kind': 'peer', 'id': 'csmf-1', 'issuer': 'x'}, '/issuer'),
    ({'kind': 'certificate', 'issuer': 'CN=peers CA', 'id': 'xyz'}, '/id'),
    ({'kind': 'host', 'id': 'x'}, '/kind'),
    ({'kind': 'token', 'issuer': ISSUER, 'id': 'x', 'until': '2001-01-01T00:00:00Z'}, '/until'),
    ({'kind': 'token', 'issuer': ISSUER, 'id': 'x', 'until': 'tomorrow'}, '/until'),
])
def test_a_wish_that_is_wrong_changes_nothing(world, wrong, field):
    status, problem = world.rest.call('POST', '/v1/revocations', wrong)
    assert (status, problem['field']) == (422, field)
    assert world.rest.call('POST', '/v1/revocations', {'kind': 'policy', 'id': 'none'})[0] == 404
    assert world.rest.get('/v1/revocations')['items'] == []


def test_a_certificate_on_its_cas_list_ends_the_session(world):
    world.open()
    credential, other = second(world)
    world.peers.revoke(credential)
    world.guard.reload()  # reads the lists again
    assert wait_until(lambda: other.id not in [s['id'] for s in world.sessions()], 20)
    assert len(world.sessions()) == 1 and world.passes()


def test_a_key_that_left_its_issuers_set_ends_what_it_signed(world):
    world.open()
    assert world.passes()
    newer = TokenIssuer(ISSUER, kid='es256-2')
    newer.write_jwks(world.folder / 'as.jwks')
    try:
        world.guard.reload()
        assert wait_until(lambda: cut_off(world), 20)
        assert world.refused(world.csmf, world.token()) == 401
        assert wait_until(lambda: opens(world, world.token(issuer=newer)), 20)
        assert world.passes()
    finally:
        end_all(world)
        world.issuer.write_jwks(world.folder / 'as.jwks')
        world.guard.reload()
    assert wait_until(lambda: opens(world, world.token()), 20)


def opens(world, token):
    try:
        return world.open(token=token)
    except SessionError:
        return None


def test_a_control_that_restarted_knows_its_sessions_and_can_end_them(world):
    session = world.open()
    world.control.kill()
    assert world.passes()
    world.control.start()
    assert wait_until(world.sessions, 20)
    found = world.sessions()[0]
    assert (found['id'], found['peer'], found['confirmed']) == (session.id, 'csmf-1', True)
    assert wait_until(lambda: renews(world, session), 20)
    assert world.passes()
    answer = world.rest.call('POST', '/v1/revocations',
                             {'kind': 'certificate', 'issuer': 'CN=peers CA',
                              'id': f'{world.csmf.certificate.serial_number:X}'})
    assert answer[0] == 200
    assert cut_off(world)


def renews(world, session):
    """Not before the guard has found control again."""
    try:
        return world.open(spi=0x5002, session=session.id)
    except SessionError as refusal:
        assert refusal.status == 503
        return None


def test_while_the_dataplane_is_away_it_is_said_and_follows(world):
    world.open()
    world.dataplane.kill()
    assert wait_until(lambda: not world.rest.get('/v1/status')['ready'], 20)
    status, body = world.rest.call('POST', '/v1/revocations', {'kind': 'issuer', 'id': ISSUER})
    assert status == 202 and body['in_force'] is False
    world.dataplane.start()
    world.control.wait_ready()
    assert cut_off(world)
    world.rest.post('/v1/revocations', {'kind': 'issuer', 'id': ISSUER, 'revoked': False})
    assert wait_until(lambda: opens(world, world.token()), 20)
    assert world.passes()
