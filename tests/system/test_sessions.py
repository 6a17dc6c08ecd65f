"""Sessions from end to end: a peer of another making authenticates to the guard over TLS, shows its
token, derives keys, and its ESP passes the gate, both ways. No key is installed by hand: neither
control nor the dataplane are laboratories here. Then who must not get in, each beside who does."""

import contextlib
import json
import time

import pytest
from OpenSSL import SSL

from netns import wait_until
from processes import Guard
from scapy_esp import Sa
from session_peer import ALGORITHM, CLIENT, SERVER as SERVER_USAGE, Authorities, Ca, connect, new_key
from tunnel import GATE, PEER, SERVER, Tunnel, numbered, peer_body, policy_body

PORT = 4433


def policy():
    body = policy_body([peer_body(token={'issuer': 'https://as.example', 'client_id': 'csmf-1'}),
                        peer_body('csmf-2', client='10.1.0.3', endpoint='192.0.2.3',
                                  token={'issuer': 'https://as.example', 'client_id': 'csmf-2'})])
    body['policies'][0]['scope'] = 'nsi'
    return body


class World(Tunnel):
    """A tunnel whose SAs come from sessions."""

    def __init__(self, folder):
        self.authorities = Authorities(folder / 'authorities')
        super().__init__(folder, lab=False)

    def _configure(self, algorithm):
        self.rest.put('/v1/policy', policy())
        self.guard = Guard(self.gate, self.folder, self.control.guard_socket, self.authorities)
        self.closing.append(self.guard.stop)
        self.guard.start()
        self.csmf = self.authorities.credentials('csmf-1.example', CLIENT)

    def connect(self, credentials):
        return connect(self.peer, GATE, PORT, self.authorities.ca.anchor, credentials)

    def token(self, credentials=None, client='csmf-1', **more):
        return self.authorities.token((credentials or self.csmf)[0], client, **more)

    @contextlib.contextmanager
    def session(self, spi=0x5001, **more):
        """An admitted one whose SAs the peer has, not confirmed yet."""
        with self.connect(self.csmf) as connection:
            status, answer = connection.ask(self.token(), spi=spi, **more)
            assert status == 201, (answer, self.guard.log_tail())
            to_gate, to_peer = connection.keys(answer, spi)
            self.inbound = Sa(answer['spi'], PEER, GATE, ALGORITHM, key=to_gate)
            self.outbound = Sa(spi, GATE, PEER, ALGORITHM, key=to_peer)
            yield connection, answer

    def open(self, **more):
        with self.session(**more) as (connection, answer):
            assert connection.confirm(answer) == 204
        return answer

    def sas(self):
        return {one['id'] for one in self.rest.get('/v1/sas')['items']}

    def sessions(self):
        return self.rest.get('/v1/sessions')['items']

    def close_sessions(self):
        """As a peer does it."""
        for one in self.sessions():
            with self.connect(self.csmf) as connection:
                status, _ = connection.request('DELETE', f"/session/v1/sessions/{one['id']}",
                                               Authorization=f'Bearer {self.token()}')
                assert status == 204
        assert wait_until(lambda: not self.sas(), 20)


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    with World(tmp_path_factory.mktemp('sessions')) as w:
        yield w


@pytest.fixture(autouse=True)
def nothing_left(world):
    yield
    world.close_sessions()


def test_a_session_carries_packets_both_ways_and_ends_when_the_peer_says_so(world):
    answer = world.open()
    assert answer['generation'] == 1 and answer['gate_identity'] == 'gate.example'
    assert answer['peer_identity'] == 'csmf-1.example'
    assert 0 < answer['expires_in'] <= 900
    assert world.passes()
    assert [(s['peer'], s['confirmed']) for s in world.sessions()] == [('csmf-1', True)]
    world.close_sessions()
    number = next(world.numbers)
    world.send_inbound(number)
    world.settle()
    assert number not in world.arrived_inbound()


def test_the_first_packet_confirms_as_well(world):
    with world.session() as (_, answer):
        assert len(world.sas()) == 1  # outbound waits
        number = next(world.numbers)
        assert wait_until(lambda: world.send_inbound(number) or
                          number in world.arrived_inbound(), 20)
        assert wait_until(lambda: len(world.sas()) == 2, 20)
        assert world.passes()
        assert answer['session'] == world.sessions()[0]['id']


def test_a_renewal_takes_over_under_traffic(world):
    """Not one packet is lost between the generations, in either direction."""
    first = world.open()
    assert world.passes()
    old = world.inbound
    numbers = [next(world.numbers) for _ in range(30)]
    for number in numbers[:10]:
        world.send_inbound(number)
    second = world.open(spi=0x5002, session=first['session'])
    assert second['session'] == first['session'] and second['generation'] == 2
    for number in numbers[10:20]:
        world.send_inbound(number)
    for number in numbers[20:]:  # what was under way under the old keys
        world.send_wire(old.packet(numbered('10.1.0.2', SERVER, number)))
    assert world.passes()
    world.settle()
    assert sorted(n for n in world.arrived_inbound() if n in numbers) == numbers


def test_a_connection_gives_keys_once(world):
    with world.session() as (connection, answer):
        status, problem = connection.ask(world.token(), spi=0x5003, session=answer['session'])
        assert status == 409, problem
        assert connection.confirm(answer) == 204


def test_the_same_peer_from_a_second_place_is_refused_unless_it_knows_of_nothing(world):
    world.open()
    with world.connect(world.csmf) as connection:
        assert connection.ask(world.token(), spi=0x5004)[0] == 409
    world.open(spi=0x5005, initial_contact=True)
    assert wait_until(lambda: len(world.sessions()) == 1 and len(world.sas()) == 2, 20)
    assert world.passes()


REFUSED = {
    'no token': (lambda w: (w.csmf, None), 401),
    'a token of another client': (lambda w: (w.csmf, w.token(client='csmf-2')), 401),
    'a token bound to another certificate': (
        lambda w: (w.csmf, w.token(w.authorities.credentials('csmf-1.example', CLIENT))), 401),
    'an expired token': (
        lambda w: (w.csmf, w.token(exp=int(time.time()) - 60, nbf=1, iat=1)), 401),
    'a token for another interface': (
        lambda w: (w.csmf, w.token(audience='https://gate.example/scef')), 401),
    'a token of another issuer': (lambda w: (w.csmf, w.token(iss='https://as.other')), 401),
    'a token that the issuer did not sign': (lambda w: (w.csmf, w.token(key=new_key())), 401),
    'a token without scope': (lambda w: (w.csmf, w.token(scope='nothing')), 403),
}


@pytest.mark.parametrize('what', REFUSED)
def test_refused_and_the_peer_learns_only_the_class(world, what):
    make, status = REFUSED[what]
    credentials, token = make(world)
    with world.connect(credentials) as connection:
        found, problem = connection.ask(token)
        assert found == status, problem
        assert set(problem) <= {'type', 'title', 'status', 'detail', 'instance', 'reference'}
    assert not world.sas()
    world.open()  # and its twin
    assert world.passes()


def test_an_identity_that_policy_does_not_know_is_refused(world):
    stranger = world.authorities.credentials('csmf-9.example', CLIENT)
    with world.connect(stranger) as connection:
        assert connection.ask(world.token(stranger))[0] == 403
    world.open()


CERTIFICATES = {
    'none': lambda w: None,
    'of another CA': lambda w: w.authorities.credentials(
        'csmf-1.example', CLIENT, ca=Ca(w.folder / 'other-ca', 'Peers CA')),
    'expired': lambda w: w.authorities.credentials('csmf-1.example', CLIENT, expired=True),
    "a server's": lambda w: w.authorities.credentials('csmf-1.example', SERVER_USAGE),
}


@pytest.mark.parametrize('what', CERTIFICATES)
def test_a_certificate_that_does_not_do_ends_in_the_handshake(world, what):
    credentials = CERTIFICATES[what](world)
    with pytest.raises((SSL.Error, ConnectionError)):
        # In TLS 1.3 a client learns only now what the gate thinks of it.
        with world.connect(credentials) as connection:
            connection.ask(world.token())
    assert not world.sas()
    world.open()


def test_a_revoked_peer_is_cut_off_and_stays_out_until_it_is_admitted_again(world):
    world.open()
    assert world.passes()
    world.rest.post('/v1/peers/csmf-1/revoke', {'revoked': True})
    began = time.monotonic()
    number = next(world.numbers)
    world.send_inbound(number)
    world.settle()
    assert number not in world.arrived_inbound()
    assert wait_until(lambda: not world.sas(), 20)
    with world.connect(world.csmf) as connection:
        assert connection.ask(world.token())[0] == 403
    world.rest.post('/v1/peers/csmf-1/revoke', {'revoked': False})
    world.open()
    assert world.passes()
    assert time.monotonic() > began


def test_nothing_secret_is_in_the_logs(world):
    with world.session() as (connection, answer):
        assert connection.confirm(answer) == 204
        secrets = [world.inbound.key.hex(), world.outbound.key.hex()]
    token = world.token()
    with world.connect(world.csmf) as connection:
        connection.ask(token)
    for log in world.folder.rglob('*.log'):
        text = log.read_text(errors='replace')
        assert not [s for s in [*secrets, token.split('.')[1]] if s in text], log
    assert json.dumps(world.rest.get('/v1/sas')).find(secrets[0]) < 0


def test_without_control_nobody_gets_in_and_who_is_in_goes_on(world):
    world.open()
    world.control.kill()
    try:
        with world.connect(world.csmf) as connection:
            assert connection.ask(world.token(), initial_contact=True)[0] == 503
        assert world.passes()
    finally:
        world.control.start()

    # Control has forgotten the session, the peer says that it knows of none: all is well again,
    # as soon as the guard has found control.
    def again():
        with world.connect(world.csmf) as connection:
            return connection.ask(world.token(), initial_contact=True)[0] == 201

    assert wait_until(again, 20)
    world.open(spi=0x5006, initial_contact=True)
    assert wait_until(lambda: len(world.sas()) == 2, 20)
    assert world.passes()
