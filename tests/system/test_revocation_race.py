"""A revocation that comes while peers open sessions leaves none behind: what was decided before is held
against it again when it is committed (design: Revocation)."""

import collections
import concurrent.futures
import threading

import pytest
from OpenSSL import SSL

from netns import wait_until
from session_peer import SessionError
from session_world import ISSUER, SessionWorld, policy
from tunnel import peer_body

PEERS = 8
THREADS = 4
HANDSHAKES = 120

WHAT = {'issuer': {'id': ISSUER}, 'policy': {'id': 'manage'},
        'key': {'issuer': ISSUER, 'id': 'es256-1'}}


class Race(SessionWorld):
    """Many peers, each a certificate and a token of its own."""

    def _configure(self, algorithm):
        super()._configure(algorithm)
        body = policy()
        body['peers'] = [peer_body(f'csmf-{i}', client=f'10.1.1.{i}',
                                   token={'issuer': ISSUER, 'client_id': f'csmf-{i}'})
                         for i in range(1, PEERS + 1)]
        self.rest.put('/v1/policy', body)
        self.everybody = [self.peers.issue(f'csmf-{i}.example', 'client')
                          for i in range(1, PEERS + 1)]

    def enter(self, number):
        """One handshake and what follows it; the status, 201 once it is in force."""
        turn = number % PEERS
        credential = self.everybody[turn]
        token = self.token(credential, client=f'csmf-{turn + 1}')
        try:
            with self.connect(credential) as connection:
                session = self.ask(connection, token, 0x10000 + number, initial_contact=True)
                connection.confirm(session)
            return 201
        except SessionError as refusal:
            return refusal.status
        except SSL.Error:
            return 'cut off'


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    with Race(tmp_path_factory.mktemp('race')) as w:
        yield w


@pytest.mark.parametrize('kind, at', [('issuer', HANDSHAKES // 10), ('policy', HANDSHAKES // 3),
                                      ('key', HANDSHAKES // 2), ('issuer', HANDSHAKES * 4 // 5)])
def test_a_revocation_among_handshakes_leaves_no_session_behind(world, kind, at):
    done = collections.Counter()
    there = threading.Event()

    def enter(number):
        status = world.enter(number)
        done[status] += 1
        if sum(done.values()) >= at:
            there.set()

    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        handshakes = [pool.submit(enter, number) for number in range(HANDSHAKES)]
        assert there.wait(60)
        answer = world.rest.call('POST', '/v1/revocations', {'kind': kind, **WHAT[kind]})
        assert answer[0] == 200, answer
        for one in handshakes:
            one.result()
    # It was a race: some were quicker, and the others were refused.
    assert done[201] >= at - THREADS and sum(done.values()) - done[201] >= THREADS, done
    assert set(done) <= {201, 401, 403, 409}, done
    assert world.sessions() == []
    # An SA that was on its way into the dataplane meanwhile is taken out as soon as it is there.
    assert wait_until(lambda: not world.sas(), 5)

    world.rest.post('/v1/revocations', {'kind': kind, **WHAT[kind], 'revoked': False})
    assert world.enter(0) == 201
    assert len(world.sessions()) == 1
    world.rest.post('/v1/peers/csmf-1/revoke', {'revoked': True})
    world.rest.post('/v1/peers/csmf-1/revoke', {'revoked': False})
    assert wait_until(lambda: not world.sas(), 20)
