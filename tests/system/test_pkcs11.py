"""The guard's and control's TLS keys in a PKCS#11 token (SoftHSM), by URI (RFC 7512): handshakes that
only the token's key can have signed, and what is said at the start when something is wrong."""

import os
import signal
import socket
import ssl
import subprocess

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from netns import Namespaces, wait_until
from processes import BIN, Control, Guard, Pki
from session_peer import PeerPki, SessionPeer, TokenIssuer

MODULE = '/usr/lib/softhsm/libsofthsm2.so'
PIN = '471147'


class Token:
    """A SoftHSM of a test's own."""

    def __init__(self, folder):
        self.folder = folder
        (folder / 'tokens').mkdir(parents=True)
        self.config = folder / 'softhsm2.conf'
        self.config.write_text(f'directories.tokendir = {folder}/tokens\nobjectstore.backend = file\n',
                               encoding='ascii')
        self.pin_file = self.write_pin('pin', PIN + '\n')
        self.init('gate')

    def _run(self, *argv):
        subprocess.run(list(map(str, argv)), check=True, capture_output=True,
                       env={**os.environ, 'SOFTHSM2_CONF': str(self.config)})

    def init(self, label):
        self._run('softhsm2-util', '--init-token', '--free', '--label', label, '--pin', PIN,
                  '--so-pin', '815815')

    def write_pin(self, name, content, mode=0o600):
        path = self.folder / name
        path.write_text(content, encoding='ascii')
        path.chmod(mode)
        return path

    def keep(self, credential, label, identifier, token='gate'):
        """The credential's key is in the token from now on, and nowhere else."""
        self._run('softhsm2-util', '--import', credential.key_file, '--token', token, '--label',
                  label, '--id', identifier, '--pin', PIN)
        credential.key_file.unlink()

    def uri(self, label, token='gate', pin=None, more=''):
        return (f'pkcs11:token={token};object={label};type=private{more}'
                f'?module-path={MODULE}&pin-source=file:{pin or self.pin_file}')

    def prefix(self):
        return ['env', f'SOFTHSM2_CONF={self.config}']


@pytest.fixture(scope='module')
def namespace():
    with Namespaces('p11') as world:
        yield world.add('gate')


@pytest.fixture
def token(tmp_path):
    return Token(tmp_path / 'hsm')


@pytest.fixture
def pki(tmp_path):
    return PeerPki(tmp_path / 'peers')


class Gate:
    """A guard whose certificate's key may be in a token. Nobody is in control: handshakes need none."""

    def __init__(self, namespace, folder, pki, token):
        self.pki = pki
        self.peer = pki.issue('csmf-1.example', 'client')
        self.guard = Guard(namespace, folder, folder / 'admission.sock', pki,
                           TokenIssuer('https://as.example'))
        self.guard.prefix = token.prefix()

    def use(self, *certificates):
        """(credential, key's setting) of each certificate."""
        own = [{'chain': str(credential.certificate_file), 'key': str(key)}
               for credential, key in certificates]
        self.guard.config['listeners']['certificate'][0].update(certificates=own, tls_1_2=True)
        self.guard.config_file.write_text(yaml.safe_dump(self.guard.config), encoding='ascii')

    def shakes_hands(self):
        with self.guard.namespace.entered():
            sock = socket.create_connection(('127.0.0.1', self.guard.port), 20)
        with SessionPeer(sock, self.pki.ca, self.peer, Guard.NAME) as connection:
            return connection.ask('GET', '/')[0] == 404

    def tls_1_2(self, cipher):
        """The kind of key that the gate signs with when a client knows this suite alone."""
        context = ssl.create_default_context(cafile=str(self.pki.ca.certificate_file))
        context.load_cert_chain(str(self.peer.certificate_file), str(self.peer.key_file))
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(cipher)
        with self.guard.namespace.entered():
            sock = socket.create_connection(('127.0.0.1', self.guard.port), 20)
        with sock, context.wrap_socket(sock, server_hostname=Guard.NAME) as tls:
            return tls.cipher()[0]

    def start_fails(self):
        """What it says. A guard that starts is an error."""
        command = self.guard.prefix + self.guard.namespace.command(self.guard.argv)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1, done.stderr
        assert PIN not in done.stderr and '1212' not in done.stderr
        return done.stderr

    def starts(self):
        self.guard.start()
        try:
            return self.shakes_hands()
        finally:
            self.guard.stop()


@pytest.fixture
def gate(namespace, tmp_path, pki, token):
    gate = Gate(namespace, tmp_path, pki, token)
    yield gate
    gate.guard.stop()


def test_handshakes_with_an_ec_and_an_rsa_key_that_live_in_the_token(gate, pki, token):
    ec_one = pki.issue(Guard.NAME, 'server', key=ec.generate_private_key(ec.SECP256R1()))
    rsa_one = pki.issue(Guard.NAME, 'server', key=rsa.generate_private_key(65537, 3072))
    token.keep(ec_one, 'tls-ec', '01')
    token.keep(rsa_one, 'tls-rsa', '02')
    gate.use((ec_one, token.uri('tls-ec')), (rsa_one, token.uri('tls-rsa')))
    gate.guard.start()
    assert gate.shakes_hands()
    for cipher in ('ECDHE-ECDSA-AES128-GCM-SHA256', 'ECDHE-RSA-AES128-GCM-SHA256',
                   'DHE-RSA-AES128-GCM-SHA256'):
        assert gate.tls_1_2(cipher) == cipher
    # RSA alone in TLS 1.3 (RSA-PSS), and a key that came into the token meanwhile, without a restart.
    later = pki.issue(Guard.NAME, 'server', key=ec.generate_private_key(ec.SECP256R1()))
    token.keep(later, 'tls-later', '03')
    for certificate in ((rsa_one, token.uri('tls-rsa')), (later, token.uri('tls-later'))):
        seen = gate.guard.log.stat().st_size
        gate.use(certificate)
        gate.guard.process.send_signal(signal.SIGHUP)
        assert wait_until(lambda: b'is in force' in gate.guard.log.read_bytes()[seen:], 20), \
            gate.guard.log_tail()
        for _ in range(3):
            assert gate.shakes_hands()


def test_all_modules_of_the_host_are_looked_through_when_none_is_named(gate, pki, token):
    own = pki.issue(Guard.NAME, 'server')
    token.keep(own, 'tls', '01')
    uri = token.uri('tls').replace(f'module-path={MODULE}&', '')
    gate.use((own, uri))
    assert gate.starts()


WRONG = {
    'a PIN that is another': (
        lambda t: t.uri('tls', pin=t.write_pin('wrong', '121212\n')), 'does not take the PIN'),
    'a PIN that others can read': (
        lambda t: t.uri('tls', pin=t.write_pin('open', PIN, 0o640)), 'others have rights'),
    'a PIN file that is not there': (
        lambda t: t.uri('tls', pin='/nowhere/pin'), '/nowhere/pin'),
    'an empty PIN': (lambda t: t.uri('tls', pin=t.write_pin('empty', '\n')), 'not a PIN'),
    'no PIN at all': (lambda t: t.uri('tls').split('&')[0], 'asks for a PIN'),
    'a PIN in the URI': (lambda t: t.uri('tls') + f'&pin-value={PIN}',
                         'a PIN stands in the configuration'),
    'a PIN from elsewhere': (lambda t: t.uri('tls').replace('file:', '|cat%20'),
                             'can only come from a file'),
    'another token': (lambda t: t.uri('tls', token='elsewhere'), 'the token is not there'),
    'another object': (lambda t: t.uri('tls-other'), 'no such private key'),
    'another id': (lambda t: t.uri('tls', more=';id=%09'), 'no such private key'),
    'no object': (lambda t: t.uri('tls').replace('object=tls;', ''), 'names no object'),
    'the public key': (lambda t: t.uri('tls').replace('private', 'public'), 'type=private'),
    'no URI': (lambda t: 'pkcs11:token', 'not a PKCS#11 URI'),
    'an unknown attribute': (lambda t: t.uri('tls', more=';colour=red'), 'nobody knows'),
    'another module': (lambda t: t.uri('tls').replace('libsofthsm2', 'nowhere'),
                       'module cannot be loaded'),
    "another certificate's key": (lambda t: t.uri('other'), 'does not belong to the certificate'),
}


@pytest.mark.parametrize('what', WRONG)
def test_it_does_not_start_with(gate, pki, token, what):
    own, other = (pki.issue(Guard.NAME, 'server') for _ in range(2))
    token.keep(own, 'tls', '01')
    token.keep(other, 'other', '02')
    make, says = WRONG[what]
    gate.use((own, make(token)))
    said = gate.start_fails()
    assert says in said, said
    assert 'certificates/0/key' in said
    gate.use((own, token.uri('tls')))  # and its twin
    assert gate.starts()


def test_two_tokens_that_fit_are_one_too_many(gate, pki, token):
    own = pki.issue(Guard.NAME, 'server')
    token.keep(own, 'tls', '01')
    token.init('spare')
    gate.use((own, token.uri('tls').replace('token=gate;', '')))
    assert 'more than one token fits' in gate.start_fails()
    gate.use((own, token.uri('tls')))
    assert gate.starts()


def test_a_reload_that_lost_its_token_changes_nothing(gate, pki, token):
    own = pki.issue(Guard.NAME, 'server')
    token.keep(own, 'tls', '01')
    gate.use((own, token.uri('tls')))
    gate.guard.start()
    gate.use((own, token.uri('gone')))
    gate.guard.process.send_signal(signal.SIGHUP)
    assert wait_until(lambda: 'nothing was changed' in gate.guard.log.read_text(), 20)
    assert gate.shakes_hands()


def test_controls_own_key_may_be_in_a_token_too(namespace, tmp_path, token):
    pki = Pki(tmp_path / 'pki')
    subprocess.run(['openssl', 'pkcs8', '-topk8', '-nocrypt', '-in', pki.server[1], '-out',
                    tmp_path / 'p8.key'], check=True)
    subprocess.run(['softhsm2-util', '--import', tmp_path / 'p8.key', '--token', 'gate', '--label',
                    'rest', '--id', '01', '--pin', PIN], check=True, capture_output=True,
                   env={**os.environ, 'SOFTHSM2_CONF': str(token.config)})
    pki.server[1].unlink()
    control = Control(namespace, tmp_path, tmp_path / 'steer.sock', pki)
    control.prefix = token.prefix()

    def use(uri):
        control.config['rest']['key'] = uri
        control.config_file.write_text(yaml.safe_dump(control.config), encoding='ascii')

    use(token.uri('tls'))
    done = subprocess.run(control.prefix + namespace.command(control.argv), capture_output=True,
                          text=True, timeout=60, check=False)
    assert done.returncode == 1 and 'rest.key' in done.stderr
    assert 'no such private key' in done.stderr
    use(token.uri('rest'))
    control.start(ready=False)
    try:
        rest = control.rest()
        assert rest.get('/v1/policy')['peers'] == []
        rest.close()
    finally:
        control.stop()
