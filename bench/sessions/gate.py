"""A gate as an operator runs it, and thousands of peers that want something of it.

    with Gate(folder, peers=5000) as gate:
        gate.load.do('sessions', count=5000)         # portcullis-session-load
        gate.cpu(gate.guard)                         # seconds so far
        gate.load.keys[7]                            # of the peers that told theirs

The hosts, the wires and all processes are those of the system tests (tests/system/tunnel.py). The
peers share one address on the wire; behind it each has an inner one of its own.
"""

import ipaddress
import json
import os
import pathlib
import subprocess
import time
import types

from processes import BIN, Guard
from tunnel import GATE, Tunnel, peer_body, policy_body

ISSUER = 'https://as.example'
ALGORITHM = 'aes-128-gcm-16'
FIRST_CLIENT = ipaddress.ip_address('10.64.0.0')
TICK = os.sysconf('SC_CLK_TCK')


def client(peer):
    return str(FIRST_CLIENT + 1 + peer)


class Load:
    """portcullis-session-load: the peers. In `namespace`, on core 1 if there is one; keys and
    certificates in `folder`, in the form in which the system tests' Guard wants them."""

    def __init__(self, namespace, folder, peers, revoked):
        folder.mkdir(parents=True)
        self.folder = folder
        self.ca = types.SimpleNamespace(certificate_file=folder / 'ca.pem')
        self.list_file = folder / 'peers.crl'
        self.keys = {}          # of peers that told theirs, the latest
        self.tell = lambda keys: None
        self.process = subprocess.Popen(
            namespace.command(['taskset', '-c', str(client_core()), BIN / 'portcullis-session-load',
                               folder, '--peers', peers, '--revoked', revoked]),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()

    def _answer(self):
        for line in self.process.stdout:
            told = json.loads(line)
            if 'peer' not in told:
                return told
            self.keys[told['peer']] = told
            self.tell(told)
        raise RuntimeError(f'portcullis-session-load ended: {self.process.wait()}')

    def do(self, what, port=4433, **wish):
        self.process.stdin.write(json.dumps({'do': what, 'gate': GATE, 'port': port, **wish}) + '\n')
        self.process.stdin.flush()
        return self._answer()

    def must(self, what, **wish):
        """As do(), when nothing may fail."""
        done = self.do(what, **wish)
        if done['failed']:
            raise RuntimeError(f'{what}: {done["failed"]}')
        return done

    def close(self):
        self.process.stdin.close()
        self.process.wait(20)

    # What Guard wants of a PKI and of an issuer.

    def issue(self, name, role):
        assert (name, role) == (Guard.NAME, 'server')
        return types.SimpleNamespace(certificate_file=self.folder / 'gate.pem',
                                     key_file=self.folder / 'gate.key')

    def for_guard(self, _):
        return {'issuer': ISSUER, 'keys': str(self.folder / 'as.jwks')}


def client_core():
    return max(os.sched_getaffinity(0))


def server_core():
    return min(os.sched_getaffinity(0))


class Gate(Tunnel):
    """The three hosts and all processes; `pinned`: the guard on a core of its own."""

    def __init__(self, folder, peers, revoked=0, pinned=False):
        self.peers, self.revoked, self.pinned = peers, revoked, pinned
        self.sealers = {}  # SPI -> inbound SA, see traffic.py
        super().__init__(folder, lab=False, sas={'capacity': 65536},
                         memory={'hugepages': 'never', 'megabytes': 512, 'buffers': 12288})

    def policy(self):
        return policy_body([
            peer_body(f'peer-{i}', client=client(i),
                      token={'issuer': ISSUER, 'client_id': f'peer-{i}'})
            for i in range(self.peers)])

    def _configure(self, _):
        # One connection after the other between the same two hosts.
        self.peer.sysctl('net.ipv4.ip_local_port_range', '1024 65535')
        self.peer.sysctl('net.ipv4.tcp_tw_reuse', 1)
        self.server.route('10.64.0.0/10', via='10.2.0.1')
        self.load = Load(self.peer, self.folder / 'load', self.peers, self.revoked)
        self.closing.append(self.load.close)
        self.rest.timeout = 120
        body = self.policy()
        body['policies'][0]['scope'] = 'nsi'
        body['policies'][0]['grant_seconds'] = 900
        started = time.monotonic()
        self.rest.put('/v1/policy', body)
        self.policy_seconds = time.monotonic() - started
        self.guard = Guard(self.gate, self.folder, self.control.guard_socket, self.load, self.load)
        self.closing.append(self.guard.stop)
        self.guard.start()
        if self.pinned:
            os.sched_setaffinity(self.guard.process.pid, {server_core()})
        self._wait_until_sessions_open()

    def _wait_until_sessions_open(self):
        """The guard reads lists and keys in the background."""
        end = time.monotonic() + 30
        while (done := self.load.do('sessions', initial_contact=True))['failed']:
            if time.monotonic() > end:
                raise RuntimeError(f'no session: {done["failed"]}\n{self.guard.log_tail()}')
            time.sleep(0.1)
        self.end_all()

    def end_all(self):
        """Whatever rests on the issuer's word; then it is believed again."""
        for revoked in (True, False):
            self.rest.post('/v1/revocations', {'kind': 'issuer', 'id': ISSUER, 'revoked': revoked})
        if left := self.rest.get('/v1/sessions')['items']:
            raise RuntimeError(f'{len(left)} sessions are left')

    def cpu(self, process):
        """Seconds of CPU of a process since its start."""
        return cpu(process.process.pid)


def cpu(pid):
    fields = pathlib.Path(f'/proc/{pid}/stat').read_text(encoding='ascii').rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK  # utime, stime: proc(5)
