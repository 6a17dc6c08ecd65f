"""Overlapping roll-over, as an operator does it: the new one is put beside the old one, SIGHUP,
everybody changes, the old one is taken away, SIGHUP. Nobody who was in is dropped; afterwards the old
one opens nothing and the new one does. Peers' CA, the gate's own certificate, issuers' keys and
pre-shared keys."""

import http.client
import itertools
import json
import signal

import pytest
import yaml
from OpenSSL import SSL

from netns import wait_until
from scapy_esp import Sa
from session_peer import PeerPki, SessionError, TokenIssuer
from session_world import ALGORITHM, ISSUER, SessionWorld
from tunnel import GATE, PEER

PSK_PORT = 4434
KEYS = {'old': '00112233445566778899aabbccddeeff', 'new': 'ffeeddccbbaa99887766554433221100'}
REFUSED = (SessionError, SSL.Error, OSError, http.client.HTTPException)


class Rolling(SessionWorld):
    def _configure(self, algorithm):
        self.spis = itertools.count(0x6000)
        super()._configure(algorithm)
        self.guard.stop()
        for name, key in KEYS.items():
            path = self.folder / f'{name}.psk'
            path.touch(mode=0o600)
            path.write_text(key, encoding='ascii')
        self.config = self.guard.config
        self.config['listeners']['psk'] = [{'address': '0.0.0.0', 'port': PSK_PORT,
                                            'url': f'https://gate.example:{PSK_PORT}'}]
        self.config['keys'] = [self.psk('old')]
        self.write()
        self.guard.start()

    def write(self):
        self.guard.config_file.write_text(yaml.safe_dump(self.config), encoding='ascii')

    def reload(self):
        seen = self.guard.log.stat().st_size
        self.write()
        self.guard.process.send_signal(signal.SIGHUP)
        assert wait_until(lambda: b'in force' in self.guard.log.read_bytes()[seen:], 20), \
            self.guard.log_tail()

    def psk(self, name):
        return {'identity': f'k-{name}', 'peer': 'gateway-7', 'tls': '1.3', 'hash': 'sha256',
                'file': f'{name}.psk'}

    def psk_admits(self, name):
        """Only who has the key reads an answer."""
        done = self.peer.run(
            ['openssl', 's_client', '-quiet', '-tls1_3', '-connect', f'{GATE}:{PSK_PORT}',
             '-psk', KEYS[name], '-psk_identity', f'k-{name}',
             '-ciphersuites', 'TLS_AES_128_GCM_SHA256'],
            check=False, timeout=30, input='GET / HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n')
        return 'HTTP/1.1 404' in done.stdout

    def renews(self, session, credential, issuer=None):
        """The session goes on under this credential. What the guard fetches in the background may
        take a moment after a reload."""
        token = self.token(credential, issuer)
        spi = next(self.spis)

        def once():
            try:
                with self.connect(credential) as connection:
                    renewed = self.ask(connection, token, spi, session=session.id)
                    self.use(renewed, spi)
                    connection.confirm(renewed)
                    return renewed
            except REFUSED:
                return None

        return wait_until(once, 20) and self.passes()

    def use(self, session, spi):
        self.inbound = Sa(session.spi_to_gate, PEER, GATE, ALGORITHM,
                          key=session.key_to_gate)
        self.outbound = Sa(spi, GATE, PEER, ALGORITHM, key=session.key_to_peer)

    def is_refused(self, credential, issuer=None):
        try:
            with self.connect(credential) as connection:
                self.ask(connection, self.token(credential, issuer), 0x7777, initial_contact=True)
        except REFUSED as refusal:
            return getattr(refusal, 'status', 'in the handshake')
        return None


@pytest.fixture
def gate(tmp_path):
    with Rolling(tmp_path) as gate:
        yield gate


def in_force(gate):
    """Sessions; those that nobody confirmed are attempts of is_refused() that were not."""
    return [s['id'] for s in gate.sessions() if s['confirmed']]


def test_the_peers_ca(gate):
    session = gate.open()
    old, later = gate.csmf, PeerPki(gate.folder / 'later', 'later')
    new = later.issue('csmf-1.example', 'client')
    assert gate.is_refused(new) == 'in the handshake'

    gate.config['anchors'].append({'path': str(later.ca.certificate_file)})
    gate.config['crls']['locations'].append(str(later.list_file))
    gate.reload()
    assert gate.passes()
    assert gate.renews(session, old)
    assert gate.renews(session, new)

    del gate.config['anchors'][0], gate.config['crls']['locations'][0]
    gate.reload()
    assert gate.passes()  # what is open goes on
    assert gate.is_refused(old) == 'in the handshake'
    assert gate.renews(session, new)
    assert in_force(gate) == [session.id]


def test_the_gates_own_certificate(gate):
    session = gate.open()

    def shown():
        with gate.connect(gate.csmf) as connection:
            return connection.tls.get_peer_certificate().get_serial_number()

    own = gate.config['listeners']['certificate'][0]['certificates'][0]
    first = shown()
    new = gate.peers.issue(gate.guard.NAME, 'server')
    with gate.connect(gate.csmf) as before:  # a handshake done, a session not yet
        assert before.ask('GET', '/')[0] == 404
        own.update(chain=str(new.certificate_file), key=str(new.key_file))
        gate.reload()
        renewed = gate.ask(before, gate.token(), 0x6500, session=session.id)
        gate.use(renewed, 0x6500)
        before.confirm(renewed)
    assert gate.passes()
    assert shown() == new.certificate.serial_number != first
    assert gate.renews(session, gate.csmf)
    assert in_force(gate) == [session.id]


def test_an_issuers_keys(gate):
    session = gate.open()
    later = TokenIssuer(ISSUER, 'es256-2')
    jwks = gate.folder / 'as.jwks'
    assert gate.is_refused(gate.csmf, later) == 401

    both = []
    for issuer in (gate.issuer, later):
        issuer.write_jwks(jwks)
        both += json.loads(jwks.read_text(encoding='ascii'))['keys']
    jwks.write_text(json.dumps({'keys': both}), encoding='ascii')
    gate.reload()
    assert gate.renews(session, gate.csmf, later)
    assert gate.renews(session, gate.csmf, gate.issuer)
    assert gate.renews(session, gate.csmf, later)

    later.write_jwks(jwks)
    gate.reload()
    assert wait_until(lambda: gate.is_refused(gate.csmf, gate.issuer) == 401, 20)
    assert gate.passes()
    assert gate.renews(session, gate.csmf, later)
    assert in_force(gate) == [session.id]


def test_pre_shared_keys(gate):
    assert gate.psk_admits('old') and not gate.psk_admits('new')
    gate.config['keys'].append(gate.psk('new'))
    gate.reload()
    assert gate.psk_admits('old') and gate.psk_admits('new')
    del gate.config['keys'][0]
    gate.reload()
    assert gate.psk_admits('new') and not gate.psk_admits('old')


def test_a_broken_new_one_leaves_the_old_one_in_force(gate):
    session = gate.open()
    seen = gate.guard.log.stat().st_size
    gate.config['keys'].append({**gate.psk('new'), 'file': 'old.psk'})  # one key, two identities
    gate.write()
    gate.guard.process.send_signal(signal.SIGHUP)
    assert wait_until(lambda: b'nothing was changed' in gate.guard.log.read_bytes()[seen:], 20)
    assert gate.psk_admits('old')
    assert gate.renews(session, gate.csmf)
    gate.config['keys'][1] = gate.psk('new')
    gate.reload()
    assert gate.psk_admits('new')
