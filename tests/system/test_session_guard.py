"""portcullis-guard as an operator runs it, and a peer that shares no code with it. Control's part is
played by a thread that admits everybody."""

import http.client
import importlib
import pathlib
import queue
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import pytest
import yaml
from OpenSSL import SSL

from processes import BIN, ROOT
from session_peer import PeerPki, SessionError, SessionPeer, TokenIssuer

GATE = 'gate.example'
AUDIENCE = 'https://gate.example/nsmf'
PATIENCE = 60  # seconds; what is waited for here takes milliseconds


@pytest.fixture(scope='module')
def pb(tmp_path_factory):
    folder = tmp_path_factory.mktemp('admission')
    source = ROOT / 'control' / 'admission'
    subprocess.run(['protoc', f'-I{source}', f'--python_out={folder}',
                    str(source / 'admission.proto')], check=True)
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module('admission_pb2')
    finally:
        sys.path.remove(str(folder))


class StandIn:
    """Control's end of the socket."""

    def __init__(self, path, pb):
        self.pb = pb
        self.asked = queue.Queue()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            client, _ = self.listener.accept()
            with client, client.makefile('rb') as stream:
                while len(head := stream.read(4)) == 4:
                    request = self.pb.Request.FromString(stream.read(struct.unpack('!I', head)[0]))
                    answer = self._answer(request).SerializeToString()
                    client.sendall(struct.pack('!I', len(answer)) + answer)

    def _answer(self, request):
        response = self.pb.Response(id=request.id)
        kind = request.WhichOneof('kind')
        if kind == 'hello':
            response.hello.protocol = 1
            return response
        if kind == 'admit':
            response.admitted.CopyFrom(self.pb.Admitted(
                session=request.admit.session or 's-1', generation=1, peer='csmf-1',
                gate_spi=0x10000001, algorithm=request.admit.algorithms[0], esn=True,
                replay_window=1024, seconds=900, selectors=[self.pb.Selector(
                    gate=self.pb.Prefix(address=bytes([192, 0, 2, 0]), length=24), protocol=6,
                    gate_ports=self.pb.Ports(first=443, last=443))]))
        self.asked.put((kind, getattr(request, kind)))
        return response

    def next(self, kind):
        while True:
            found, request = self.asked.get(timeout=PATIENCE)
            if found == kind:
                return request


class Guard:
    """The process, with a configuration that a test may change before start() or reload()."""

    def __init__(self, folder, pki, issuer):
        self.folder = pathlib.Path(folder)
        gate = pki.issue(GATE, 'server')
        issuer.write_jwks(self.folder / 'as.jwks')
        self.config = {
            'identity': GATE,
            'control': {'socket': 'admission.sock', 'user': 'root'},
            'listeners': {'certificate': [{
                'address': '127.0.0.1', 'port': 0,
                'certificates': [{'chain': str(gate.certificate_file),
                                  'key': str(gate.key_file)}]}]},
            'anchors': [{'path': str(pki.ca.certificate_file)}],
            'crls': {'locations': [str(pki.list_file)]},
            'interfaces': [{'name': 'nsmf', 'audience': AUDIENCE}],
            'issuers': [{'issuer': issuer.issuer, 'keys': 'as.jwks'}],
        }
        self.log_path = self.folder / 'guard.log'
        self.process = None

    def write(self):
        path = self.folder / 'guard.yaml'
        path.write_text(yaml.safe_dump(self.config), encoding='ascii')
        return path

    def start(self):
        with self.log_path.open('wb') as log:
            self.process = subprocess.Popen([BIN / 'portcullis-guard', '--config', self.write()],
                                            stderr=log)
        self.wait_for('connected to control')
        self.port = int(self.wait_for(r'listening on port (\d+)')[1])

    def reload(self, answer='read again and is in force'):
        seen = self.log_path.stat().st_size
        self.write()
        self.process.send_signal(signal.SIGHUP)
        self.wait_for(answer, seen)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(PATIENCE)
        return self.process.returncode if self.process else None

    def log(self, after=0):
        return self.log_path.read_bytes()[after:].decode()

    def wait_for(self, pattern, after=0):
        end = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self.log(after))):
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < end, f'no "{pattern}" in:\n{self.log()}'
            time.sleep(0.02)
        return found

    def connect(self, pki, credential):
        sock = socket.create_connection(('127.0.0.1', self.port), PATIENCE)
        return SessionPeer(sock, pki.ca, credential, GATE)

    def open(self, pki, credential, token):
        """A session and its confirmation. The guard fetches keys and lists in the background, so a
        moment after its start the first ones may be missing."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                with self.connect(pki, credential) as connection:
                    session = connection.open({'interface': 'nsmf', 'spi': 0x2001}, token)
                    connection.confirm(session)
                    return session
            except (SessionError, OSError, SSL.Error, http.client.HTTPException):
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)



@pytest.fixture
def pki(tmp_path):
    return PeerPki(tmp_path)


@pytest.fixture
def issuer():
    return TokenIssuer('https://as.example')


@pytest.fixture
def control(tmp_path, pb):
    return StandIn(tmp_path / 'admission.sock', pb)


@pytest.fixture
def guard(tmp_path, pki, issuer, control):
    guard = Guard(tmp_path, pki, issuer)
    yield guard
    guard.stop()


def test_a_peer_of_another_make_gets_the_keys_that_control_gets(guard, control, pki, issuer, pb):
    guard.start()
    peer = pki.issue('csmf-1.example', 'client')
    token = issuer.token(AUDIENCE, peer)
    session = guard.open(pki, peer, token)
    admit = control.next('admit')
    assert list(admit.identity.names) == ['csmf-1.example']
    assert admit.token.client_id == 'csmf-1'
    install = control.next('install')
    assert install.inbound_key == session.key_to_gate
    assert install.outbound_key == session.key_to_peer
    assert control.next('confirm').session == session.id
    with guard.connect(pki, peer) as connection:
        connection.end(session.id, token)
    assert control.next('end').session == session.id
    assert guard.stop() == 0
    for secret in (token, session.key_to_gate.hex(), session.key_to_peer.hex()):
        assert secret not in guard.log()


def test_a_revoked_certificate_and_one_of_another_ca_stay_out(guard, control, pki, issuer, tmp_path):
    good, bad = (pki.issue(f'csmf-{name}.example', 'client') for name in ('good', 'bad'))
    pki.revoke(bad)
    stranger = PeerPki(tmp_path / 'strangers').issue('csmf-good.example', 'client')
    guard.start()
    guard.open(pki, good, issuer.token(AUDIENCE, good))
    for who, reason in ((bad, 'cert_revoked'), (stranger, 'cert_chain_fail')):
        with pytest.raises((SSL.Error, http.client.HTTPException)):
            with guard.connect(pki, who) as connection:
                connection.open({'interface': 'nsmf', 'spi': 0x2001}, issuer.token(AUDIENCE, who))
        guard.wait_for(reason)
    guard.open(pki, good, issuer.token(AUDIENCE, good))


def test_a_reload_changes_anchors_and_drops_nobody(guard, control, pki, issuer, tmp_path):
    old = pki.issue('csmf-old.example', 'client')
    next_ca = PeerPki(tmp_path, 'next')
    new = next_ca.issue('csmf-new.example', 'client')
    guard.start()
    guard.open(pki, old, issuer.token(AUDIENCE, old))
    with guard.connect(pki, old) as open_before:
        assert open_before.ask('GET', '/')[0] == 404
        guard.config['anchors'] = [{'path': str(next_ca.ca.certificate_file)}]
        guard.config['crls']['locations'] = [str(next_ca.list_file)]
        guard.reload()
        session = open_before.open({'interface': 'nsmf', 'spi': 0x2001},
                                   issuer.token(AUDIENCE, old))
        open_before.confirm(session)
    guard.open(pki, new, issuer.token(AUDIENCE, new))
    with pytest.raises((SSL.Error, http.client.HTTPException)):
        with guard.connect(pki, old) as connection:
            connection.ask('GET', '/')

    guard.config['anchors'] = [{'path': 'nowhere.pem'}]
    guard.reload('nothing was changed.*nowhere.pem')
    guard.open(pki, new, issuer.token(AUDIENCE, new))
    guard.config['listeners']['certificate'][0]['address'] = '127.0.0.2'
    guard.config['anchors'] = [{'path': str(next_ca.ca.certificate_file)}]
    guard.reload('nothing was changed.*needs a restart')


@pytest.mark.parametrize('piece, missing', [
    ('chain', 'nowhere'), ('key', 'nowhere'), ('anchor', 'nowhere'), ('keys_ca', 'nowhere'),
    ('pin', 'sha256|SHA-256|pinned'), ('address', 'cannot listen')])
def test_it_does_not_start_without(guard, piece, missing):
    own = guard.config['listeners']['certificate'][0]
    if piece in ('chain', 'key'):
        own['certificates'][0][piece] = '/nowhere'
    elif piece == 'anchor':
        guard.config['anchors'][0]['path'] = '/nowhere'
    elif piece == 'pin':
        guard.config['anchors'][0]['sha256'] = '0' * 64
    elif piece == 'keys_ca':
        guard.config['issuers'][0].update(keys='https://127.0.0.1/jwks', keys_ca='/nowhere')
    else:
        own['address'] = '192.0.2.77'  # no address of this host
    done = subprocess.run([BIN / 'portcullis-guard', '--config', guard.write()], timeout=PATIENCE,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.search(missing, done.stderr), done.stderr
