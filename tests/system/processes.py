"""The processes of one gate as an operator runs them, for the system tests and the demo.

    pki = Pki(folder)
    dataplane = Dataplane(namespace, folder, instance, ports=[...]); dataplane.start()
    control = Control(namespace, folder, dataplane.socket, pki); control.start()
    rest = control.rest('alice')
    rest.post('/v1/peers', {...})
    dataplane.kill(); dataplane.start()

Nothing here talks to the dataplane behind control's back: what the tests set, they set over REST.
Binaries come from $PORTCULLIS_BIN, or from the release build.
"""

import http.client
import json
import os
import pathlib
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
import uuid

import yaml

from netns import wait_until
from verdicts import ended_here

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get('PORTCULLIS_BIN', ROOT / 'build' / 'release' / 'bin'))
READY_SECONDS = 30  # a start on two busy cores; a healthy one takes one or two


def instance_name(letter):
    """An instance name that no other run has (at most 16 of [a-z0-9-])."""
    return f'{letter}-{uuid.uuid4().hex[:10]}'


# ---- certificates

class Pki:
    """A certificate authority, control's server certificate and the operators', made by openssl.

    An operator in the role `server` is called INTERFACE-server."""

    def __init__(self, folder, operators=(('alice', 'operator'), ('bob', 'viewer'),
                                          ('nsmf-server', 'server'))):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.operators = [{'name': name, 'role': role,
                           **({'interfaces': [name.removesuffix('-server')]} if role == 'server' else {})}
                          for name, role in operators]
        self.ca = self.folder / 'ca.pem'
        self._openssl('req', '-x509', *self._new_key('ca'), '-days', '7', '-out', self.ca,
                      '-subj', '/CN=Portcullis laboratory CA')
        self.server = self._issue('server', 'subjectAltName=IP:127.0.0.1,DNS:localhost\n'
                                            'extendedKeyUsage=serverAuth\n')
        self.clients = {name: self._issue(name, 'extendedKeyUsage=clientAuth\n')
                        for name, _ in operators}

    def _openssl(self, *arguments):
        done = subprocess.run(['openssl', *map(str, arguments)], cwd=self.folder,
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f'openssl {arguments[0]}: {done.stderr.strip()}')

    def _new_key(self, name):
        return ('-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout',
                self.folder / f'{name}.key')

    def _issue(self, name, extensions):
        """(certificate, key), signed by the authority."""
        request, certificate = self.folder / f'{name}.csr', self.folder / f'{name}.pem'
        profile = self.folder / f'{name}.ext'
        profile.write_text(extensions, encoding='ascii')
        self._openssl('req', *self._new_key(name), '-out', request, '-subj', f'/CN={name}')
        self._openssl('x509', '-req', '-in', request, '-CA', self.ca, '-CAkey',
                      self.folder / 'ca.key', '-CAcreateserial', '-days', '7', '-extfile', profile,
                      '-out', certificate)
        return certificate, self.folder / f'{name}.key'

    def context(self, operator):
        context = ssl.create_default_context(cafile=str(self.ca))
        context.load_cert_chain(*map(str, self.clients[operator]))
        return context


# ---- REST

class RestError(Exception):
    """An RFC 9457 problem."""

    def __init__(self, status, problem, request):
        self.status = status
        self.problem = problem if isinstance(problem, dict) else {'detail': str(problem)}
        super().__init__(f'{request}: {status} {json.dumps(self.problem)}')


class Rest:
    """One operator's HTTPS connection, kept alive, opened inside the namespace."""

    def __init__(self, namespace, port, context, timeout=20):
        self.namespace = namespace
        self.address = ('127.0.0.1', port)
        self.context = context
        self.timeout = timeout
        self.connection = None

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def _connect(self):
        connection = http.client.HTTPSConnection(*self.address, context=self.context,
                                                 timeout=self.timeout)
        with self.namespace.entered():
            connection.connect()
        self.connection = connection

    def exchange(self, method, target, data, headers):
        """(response, its content). Only a connection that was already old is tried a second time."""
        for fresh in ([True] if self.connection is None else [False, True]):
            try:
                if fresh:
                    self.close()
                    self._connect()
                self.connection.request(method, target, data, headers)
                response = self.connection.getresponse()
                return response, response.read()
            except (OSError, http.client.HTTPException):
                self.close()
                if fresh:
                    raise
        raise AssertionError('a fresh connection answers or raises')

    def call(self, method, path, body=None):
        """(status, parsed body)"""
        data = None if body is None else json.dumps(body)
        headers = {'Content-Type': 'application/json'} if data else {}
        response, content = self.exchange(method, path, data, headers)
        kind = response.headers.get_content_type()
        if kind.endswith('json') and content:
            return response.status, json.loads(content)
        return response.status, content.decode()

    def _expect(self, method, path, body=None):
        status, answer = self.call(method, path, body)
        if status >= 400:
            raise RestError(status, answer, f'{method} {path}')
        return answer

    def get(self, path):
        return self._expect('GET', path)

    def post(self, path, body):
        return self._expect('POST', path, body)

    def put(self, path, body):
        return self._expect('PUT', path, body)

    def delete(self, path):
        return self._expect('DELETE', path)

    def verdicts(self):
        """Packets by verdict, each counted once, by where it ended: in the dataplane since it
        started, or already in XDP (xdp_...) since the port was closed first."""
        return ended_here(self.get('/v1/counters?by=verdict')['total']['verdicts'].items())

    def counters(self, by):
        """{name: {verdict: packets}} of workers, peers or SAs."""
        return {row['name']: row['verdicts'] for row in self.get(f'/v1/counters?by={by}')['rows']}

    def ready(self):
        try:
            return self.call('GET', '/readyz')[0] == 200
        except (OSError, http.client.HTTPException):
            return False


# ---- processes

class Process:
    """One process of ours that can be killed and started again. Its log is a file."""

    def __init__(self, namespace, argv, log, prefix=()):
        self.namespace = namespace
        self.argv = list(map(str, argv))
        self.prefix = list(prefix)  # in front of the namespace's own entry
        self.log = pathlib.Path(log)
        self.process = None

    def launch(self):
        assert not self.running(), f'{self.argv[0]} runs already'
        with open(self.log, 'ab') as log:
            command = self.prefix + self.namespace.command(self.argv)
            self.process = subprocess.Popen(command, stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL)
        self.namespace.processes.append(self.process)

    def running(self):
        return self.process is not None and self.process.poll() is None

    def require(self, condition, what, timeout=READY_SECONDS):
        """Waits for it; a process that ended meanwhile, or never got there, is an error."""
        if not wait_until(lambda: not self.running() or condition(), timeout) or \
                not self.running():
            state = 'still runs' if self.running() else f'exit {self.process.returncode}'
            raise RuntimeError(f'{self.argv[0]}: not {what} in {timeout} s ({state}); its log '
                               f'ends:\n{self.log_tail()}')

    def log_tail(self, lines=25):
        if not self.log.exists():
            return '(no log)'
        return '\n'.join(self.log.read_text(errors='replace').splitlines()[-lines:])

    def reload(self):
        self.process.send_signal(signal.SIGHUP)

    def kill(self):
        """kill -9; nothing is tidied up."""
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process is not None:
            return self.namespace.stop(self.process, signal.SIGTERM)
        return None


class Dataplane(Process):
    """portcullis-dataplane with a configuration of its own in `folder`."""

    def __init__(self, namespace, folder, instance, ports, prefix=(), **settings):
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.instance = instance
        self.socket = folder / 'steer.sock'
        self.state_file = pathlib.Path(f'/dev/shm/portcullis-{instance}.state')
        self.config = {
            'instance': instance,
            'lab': True,
            'workers': {'count': 1, 'idle': 'sleep'},
            'memory': {'hugepages': 'never', 'megabytes': 128, 'buffers': 12288},
            'ports': ports,
            'sas': {'capacity': 4096},
            'state_file': str(self.state_file),
            'steering': {'socket': str(self.socket), 'users': ['root']},
            **settings,
        }
        self.config_file = folder / 'dataplane.yaml'
        self.config_file.write_text(yaml.safe_dump(self.config, sort_keys=False), encoding='ascii')
        super().__init__(namespace,
                         [BIN / 'portcullis-dataplane', '--config', self.config_file],
                         folder / 'dataplane.log', prefix)

    def start(self):
        self.launch()
        self.require(self._listening, 'listening on its steering socket')

    def _listening(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def forget(self):
        """Removes what outlives the process on purpose: the state file and the XDP programs."""
        self.state_file.unlink(missing_ok=True)
        self.namespace.run([BIN / 'portcullis-dataplane', '--config', self.config_file,
                            '--open-ports'], check=False)


class Control(Process):
    """portcullis-control, its store and its REST port on the namespace's own loopback."""

    def __init__(self, namespace, folder, steering, pki, port=8443, lab=True):
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.pki = pki
        self.port = port
        self.store = folder / 'control.db'
        self.guard_socket = folder / 'admission.sock'
        certificate, key = pki.server
        self.config = {
            'lab': lab,
            'store': str(self.store),
            'steering': str(steering),
            'guard': {'socket': str(self.guard_socket), 'users': ['root']},
            'rest': {'address': '127.0.0.1', 'port': port, 'certificate': str(certificate),
                     'key': str(key), 'client_ca': str(pki.ca), 'operators': pki.operators},
        }
        self.config_file = folder / 'control.yaml'
        self.config_file.write_text(yaml.safe_dump(self.config, sort_keys=False), encoding='ascii')
        super().__init__(namespace, [BIN / 'portcullis-control', '--config', self.config_file],
                         folder / 'control.log')

    def start(self, ready=True):
        """ready: also connected to its dataplane and in step with it."""
        self.launch()
        probe = self.rest()
        if ready:
            self.require(probe.ready, 'ready')
        else:
            self.require(lambda: self._answers(probe), 'answering')
        probe.close()

    @staticmethod
    def _answers(rest):
        try:
            return rest.call('GET', '/healthz')[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def wait_ready(self):
        probe = self.rest()
        self.require(probe.ready, 'ready')
        probe.close()

    def rest(self, operator='alice'):
        return Rest(self.namespace, self.port, self.pki.context(operator))


class Guard(Process):
    """portcullis-guard with one listener for certificates, on all addresses of the namespace; pki
    and issuer are session_peer's. The audience of interface nsmf is AUDIENCE; `settings` replace or
    add sections."""

    NAME = 'gate.example'
    AUDIENCE = 'https://gate.example/nsmf'

    def __init__(self, namespace, folder, control, pki, issuer, port=4433, **settings):
        folder = pathlib.Path(folder)
        own = pki.issue(self.NAME, 'server')
        self.config = {
            'identity': self.NAME,
            'control': {'socket': str(control), 'user': 'root'},
            'listeners': {'certificate': [{
                'address': '0.0.0.0', 'port': port,
                'certificates': [{'chain': str(own.certificate_file), 'key': str(own.key_file)}]}]},
            'anchors': [{'path': str(pki.ca.certificate_file)}],
            'crls': {'locations': [str(pki.list_file)]},
            'interfaces': [{'name': 'nsmf', 'audience': self.AUDIENCE}],
            'issuers': [issuer.for_guard(folder)],
        }
        listeners = settings.pop('listeners', {})
        self.config = {**self.config, **settings,
                       'listeners': {**self.config['listeners'], **listeners}}
        self.config_file = folder / 'guard.yaml'
        self.config_file.write_text(yaml.safe_dump(self.config, sort_keys=False), encoding='ascii')
        super().__init__(namespace, [BIN / 'portcullis-guard', '--config', self.config_file],
                         folder / 'guard.log')
        self.port = port

    def start(self):
        self.launch()
        self.require(self._listening, 'listening')

    def _listening(self):
        with self.namespace.entered(), socket.socket() as probe:
            return probe.connect_ex(('127.0.0.1', self.port)) == 0


class Lab:
    """What a test built and has to take down: leaving the block stops its processes, then undoes
    the rest, the latest first."""

    def __init__(self, world):
        self.world = world  # Namespaces
        self.closing = []   # functions

    def close(self):
        for process in ('control', 'dataplane'):
            if getattr(self, process, None):
                getattr(self, process).stop()
        for function in reversed(self.closing):
            function()
        self.world.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


# ---- packets

ETH_P_ALL = 3
_PACKET_OUTGOING = 4
_SO_RCVBUFFORCE = 33


class Wire:
    """A raw socket on an interface: sends frames as they are, and records what arrives.

    It sees what the kernel receives there (and so not what an XDP program takes away), never
    what is sent. keep: which frames to record; the record is bounded.
    """

    def __init__(self, namespace, interface, keep=lambda frame: frame[12:14] == b'\x08\0',
                 limit=200_000):
        self.keep = keep
        self.limit = limit
        self.frames = []
        with namespace.entered():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            self.socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 64 << 20)
            self.socket.bind((interface, ETH_P_ALL))
        self.socket.settimeout(0.2)
        self.open = True
        self.thread = threading.Thread(target=self._record, daemon=True)
        self.thread.start()

    def _record(self):
        while self.open:
            try:
                frame, address = self.socket.recvfrom(65536)
            except TimeoutError:
                continue
            except OSError:
                return
            if address[2] != _PACKET_OUTGOING and self.keep(frame) and \
                    len(self.frames) < self.limit:
                self.frames.append(frame)

    def send(self, frame):
        while True:
            try:
                self.socket.send(frame)
                return
            except (BlockingIOError, TimeoutError):
                pass
            except OSError as error:
                if error.errno != 105:  # ENOBUFS: the queue is full for a moment
                    raise
            time.sleep(0.0005)

    def count(self):
        return len(self.frames)

    def settle(self, quiet=0.15, timeout=5.0):
        """Returns once nothing has arrived for `quiet` seconds."""
        end = time.monotonic() + timeout
        seen = -1
        while seen != self.count() and time.monotonic() < end:
            seen = self.count()
            time.sleep(quiet)

    def dropped(self):
        """Frames that this socket missed since it was last asked (SOL_PACKET, PACKET_STATISTICS)."""
        return struct.unpack('II', self.socket.getsockopt(263, 6, 8))[1]

    def close(self):
        self.open = False
        self.thread.join()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
