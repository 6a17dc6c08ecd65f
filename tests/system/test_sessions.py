"""Sessions from end to end: a peer of another making authenticates to the guard over TLS, shows its
token, derives keys, and its ESP passes the gate, both ways. No key is installed by hand: neither
control nor the dataplane are laboratories here. Then who must not get in, each beside who does."""

import http.client
import time

import pytest
from OpenSSL import SSL

from netns import wait_until
from session_peer import PeerPki, SessionError, TokenIssuer
from session_world import ISSUER, SessionWorld
from tunnel import SERVER, numbered

@pytest.fixture(scope='module')
def world(tmp_path_factory):
    with SessionWorld(tmp_path_factory.mktemp('sessions')) as w:
        yield w


@pytest.fixture(autouse=True)
def nothing_left(world):
    yield
    world.close_sessions()


def test_a_session_carries_packets_both_ways_and_ends_when_the_peer_says_so(world):
    answer = world.open().answer
    assert answer['generation'] == 1 and answer['peer_identity'] == 'csmf-1.example'
    assert 0 < answer['expires_in'] <= 600  # the token's end, before policy's
    assert world.passes()
    assert [(s['peer'], s['confirmed']) for s in world.sessions()] == [('csmf-1', True)]
    world.close_sessions()
    number = next(world.numbers)
    world.send_inbound(number)
    world.settle()
    assert number not in world.arrived_inbound()


def test_the_first_packet_confirms_as_well(world):
    with world.session() as (_, session):
        assert len(world.sas()) == 1  # outbound waits
        number = next(world.numbers)
        world.send_inbound(number)
        assert wait_until(lambda: number in world.arrived_inbound(), 20)
        assert wait_until(lambda: len(world.sas()) == 2, 20)
        assert world.passes()
        assert session.id == world.sessions()[0]['id']


def test_a_renewal_takes_over_under_traffic(world):
    """Not one packet is lost between the generations."""
    first = world.open()
    assert world.passes()
    old = world.inbound
    numbers = [next(world.numbers) for _ in range(30)]
    for number in numbers[:10]:
        world.send_inbound(number)
    second = world.open(spi=0x5002, session=first.id)
    assert second.id == first.id and second.answer['generation'] == 2
    for number in numbers[10:20]:
        world.send_inbound(number)
    for number in numbers[20:]:  # what was under way under the old keys
        world.send_wire(old.packet(numbered('10.1.0.2', SERVER, number)))
    assert world.passes()
    world.settle()
    assert sorted(n for n in world.arrived_inbound() if n in numbers) == numbers


def test_a_connection_gives_keys_once(world):
    with world.session() as (connection, session):
        with pytest.raises(SessionError) as refusal:
            world.ask(connection, world.token(), 0x5003, session=session.id)
        assert refusal.value.status == 409
        connection.confirm(session)
    assert world.passes()


def test_a_second_place_is_refused_unless_the_peer_knows_of_nothing(world):
    world.open()
    assert world.refused(world.csmf, world.token(), spi=0x5004) == 409
    world.open(spi=0x5005, initial_contact=True)
    assert wait_until(lambda: len(world.sessions()) == 1 and len(world.sas()) == 2, 20)
    assert world.passes()


TOKENS = {
    'of another client': (lambda w: w.token(client='csmf-2'), 401),
    'bound to another certificate': (
        lambda w: w.token(w.peers.issue('csmf-1.example', 'client')), 401),
    'expired': (lambda w: w.token(exp=int(time.time()) - 60), 401),
    'for another interface': (lambda w: w.token(audience='https://gate.example/scef'), 401),
    'of another issuer': (lambda w: w.token(iss='https://as.other'), 401),
    'that the issuer did not sign': (lambda w: w.token(issuer=TokenIssuer(ISSUER)), 401),
    'without scope': (lambda w: w.token(scope='nothing'), 403),
}


@pytest.mark.parametrize('what', TOKENS)
def test_a_token_that_does_not_do(world, what):
    make, status = TOKENS[what]
    assert world.refused(world.csmf, make(world)) == status
    assert not world.sas()
    world.open()  # and its twin
    assert world.passes()


def test_an_identity_that_policy_does_not_know_is_refused(world):
    stranger = world.peers.issue('csmf-9.example', 'client')
    assert world.refused(stranger, world.token(stranger)) == 403
    world.open()


CERTIFICATES = {
    'none': lambda w: None,
    'of another CA': lambda w: PeerPki(w.folder / 'others').issue('csmf-1.example', 'client'),
    'that has ended': lambda w: w.peers.issue('csmf-1.example', 'client', days=-1),
    "of a server": lambda w: w.peers.issue('csmf-1.example', 'server'),
}


@pytest.mark.parametrize('what', CERTIFICATES)
def test_a_certificate_that_does_not_do_ends_in_the_handshake(world, what):
    credential = CERTIFICATES[what](world)
    # In TLS 1.3 a client learns only with its first request what the gate thinks of it.
    with pytest.raises((SSL.Error, OSError, http.client.HTTPException)):
        with world.connect(credential) as connection:
            connection.ask('GET', '/')
    assert not world.sas()
    world.open()


def test_a_revoked_peer_is_cut_off_and_stays_out_until_it_is_admitted_again(world):
    world.open()
    assert world.passes()
    world.rest.post('/v1/peers/csmf-1/revoke', {'revoked': True})
    number = next(world.numbers)
    world.send_inbound(number)
    world.settle()
    assert number not in world.arrived_inbound()
    assert wait_until(lambda: not world.sas(), 20)
    assert world.refused(world.csmf, world.token()) == 403
    world.rest.post('/v1/peers/csmf-1/revoke', {'revoked': False})
    world.open()
    assert world.passes()


def test_a_key_belongs_to_the_peer_that_first_came_with_it(world):
    world.open()
    world.close_sessions()
    own, = [key for key in world.rest.get('/v1/keys')['items'] if key['peer'] == 'csmf-1']
    assert own['identity'] == 'csmf-1.example'
    copied = world.peers.issue('csmf-2.example', 'client', key=world.csmf.key)
    token = world.token(copied, client='csmf-2')
    assert world.refused(copied, token) == 403
    said = world.rest.exchange('GET', '/v1/events?follow=false', None, {})[1].decode()
    assert 'spki_reuse' in said and f"that of peer 'csmf-1' ({own['identity']})" in said

    # Its twins: the peer's own renewed certificate, another key of the other peer.
    world.csmf = world.peers.issue('csmf-1.example', 'client', key=world.csmf.key)
    world.open()
    world.close_sessions()
    other = world.peers.issue('csmf-2.example', 'client')
    with world.connect(other) as connection:
        session = world.ask(connection, world.token(other, client='csmf-2'))
        connection.end(session.id, world.token(other, client='csmf-2'))

    # Control remembers it over a restart, until an operator says otherwise.
    world.control.kill()
    world.control.start()
    assert wait_until(lambda: _status(world, copied, token) == 403, 20)
    world.rest.delete(f'/v1/keys/{own["id"]}')
    assert _status(world, copied, token) == 201
    assert world.rest.get('/v1/audit?count=1000')['items'][-1]['subject'] == f'/v1/keys/{own["id"]}'
    world.rest.delete(f'/v1/keys/{own["id"]}')


def _status(world, credential, token):
    try:
        with world.connect(credential) as connection:
            session = world.ask(connection, token, initial_contact=True)
            connection.end(session.id, token)
    except SessionError as refusal:
        return refusal.status
    return 201


def test_without_control_nobody_gets_in_and_who_is_in_goes_on(world):
    world.open()
    world.control.kill()
    try:
        assert world.refused(world.csmf, world.token(), initial_contact=True) == 503
        assert world.passes()
    finally:
        world.control.start()

    # Control finds the session again in the dataplane, and the guard control.
    def renewed():
        if not world.sessions():
            return None
        try:
            return world.open(spi=0x5006, session=world.sessions()[0]['id'])
        except SessionError as refusal:
            assert refusal.status == 503
            return None

    assert wait_until(renewed, 20)
    assert wait_until(lambda: len(world.sas()) == 3, 20)  # the old inbound one has its grace
    assert world.passes()
