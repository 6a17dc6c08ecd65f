#!/usr/bin/python3
"""Requests through the gate beside the same through nginx, which authorises nothing.

Both end mutual TLS 1.3 without resumption, on one thread on the same core, with the same certificates
and the same revocation list, and send requests on over kept connections of mutual TLS to the same
backend, an nginx that answers at once. Load and backend have a core of their own. A and B take turns;
ratios are medians of those of neighbours.

    bench/requests.py [--quick] [--only NAME,...] [--json FILE]      adds what it found to FILE

"gate" is guard and control together on the server's core: control judges and records each request, so
its costs are the gate's. nginx writes no log. Control's store is in memory, so no disk is measured.
"""

import contextlib
import json
import os
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / folder) for folder in ('bench/sessions', 'tests', 'tests/system')]
import figures  # noqa: E402
from figures import row, spread  # noqa: E402
from gate import client_core, cpu, server_core  # noqa: E402
from corpus.message import put, rename, request, slice_path, unlock  # noqa: E402
from nginx import Nginx, mutual_tls  # noqa: E402
from processes import BIN  # noqa: E402
from request_gate import HOST, RequestGate  # noqa: E402

API = 'api'
BACKEND_PORT, FRONT_PORT = 8503, 8504
FILES = 40_000
IDLE = 10_000
ANSWER = json.dumps({'id': 'own-1', 'attributes': {'userLabel': 'x' * 64}}).replace('"', '\\"')
BACKEND = '''
map $request_method $made {{ default 200; PUT 201; }}
keepalive_requests 1000000000;
keepalive_timeout 600s;
server {{
  listen {address}:{port} ssl;
  {tls}
  location / {{
    default_type application/json;
    if ($made = 201) {{ return 201 "{answer}"; }}
    return 200 "{answer}";
  }}
}}
'''
FRONT = '''
upstream backend {{ server {address}:{backend}; keepalive 64; keepalive_requests 1000000000; }}
keepalive_requests 1000000000;
keepalive_timeout 600s;
server {{
  listen {address}:{port} ssl;
  {tls}
  ssl_crl {crl};
  ssl_ecdh_curve P-256:P-384:X25519;
  location / {{
    proxy_pass https://backend;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_ssl_certificate {own.certificate_file};
    proxy_ssl_certificate_key {own.key_file};
    proxy_ssl_trusted_certificate {ca};
    proxy_ssl_verify on;
    proxy_ssl_name nsmf.example;
    proxy_ssl_session_reuse off;
    proxy_ssl_protocols TLSv1.3;
  }}
}}
'''


class Load:
    """portcullis-request-load, on the client's core."""

    def __init__(self, gate):
        self.process = subprocess.Popen(
            gate.host.command(['taskset', '-c', str(client_core()), BIN / 'portcullis-request-load',
                               gate.csmf.certificate_file, gate.csmf.key_file]),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def must(self, what, **wish):
        """Nothing may fail."""
        self.process.stdin.write(json.dumps({'do': what, **wish}) + '\n')
        self.process.stdin.flush()
        told = json.loads(self.process.stdout.readline())
        if told.get('failed') or 'error' in told:
            raise RuntimeError(f'{what} {wish.get("port")}: {told}')
        return told

    def close(self):
        self.process.stdin.close()
        self.process.wait(20)


def pin(process, core):
    for task in pathlib.Path(f'/proc/{process}/task').iterdir():
        os.sched_setaffinity(int(task.name), {core})


def workers(master):
    """nginx's worker: the process that does the work."""
    children = pathlib.Path(f'/proc/{master}/task/{master}/children').read_text(encoding='ascii')
    return [int(child) for child in children.split()]


def memory(pids):
    """Bytes that these processes alone account for (PSS)."""
    text = ''.join(pathlib.Path(f'/proc/{pid}/smaps_rollup').read_text(encoding='ascii')
                   for pid in pids)
    return sum(int(kb) for kb in re.findall(r'^Pss:\s+(\d+) kB', text, re.M)) * 1024


class Beside:
    """The gate and nginx, before one backend. `servers`: their processes, and the port of each."""

    def __init__(self, folder):
        self.stack = contextlib.ExitStack()
        gate = self.gate = self.stack.enter_context(RequestGate(
            folder, {API: BACKEND_PORT},
            limits={'open': 65536, 'open_per_source': 65536, 'half_open_per_source': 512}))
        backend = Nginx(gate.host, folder / 'backend', BACKEND.format(
            address=HOST, port=BACKEND_PORT, answer=ANSWER,
            tls=mutual_tls(gate.server_credential, gate.peers.ca)), (HOST, BACKEND_PORT))
        front = Nginx(gate.host, folder / 'front', FRONT.format(
            address=HOST, port=FRONT_PORT, backend=BACKEND_PORT, own=gate.own.client,
            ca=gate.peers.ca.certificate_file, crl=gate.peers.list_file,
            tls=mutual_tls(gate.own.server, gate.peers.ca)), (HOST, FRONT_PORT), connections=FILES)
        for one in (backend, front):
            one.start()
        gate.wait_until_open(API)
        pids = [one.process.pid
                for one in (gate.guard, gate.control, front, backend)]
        guard, control, front_master, backend_master = pids
        self.pids = {'gate': [guard, control], 'nginx': workers(front_master)}
        self.backend = workers(backend_master)
        self.guard = guard
        self.ports = {'gate': gate.port(API), 'nginx': FRONT_PORT}
        for pid in self.pids['gate'] + self.pids['nginx']:
            pin(pid, server_core())
        for pid in self.backend:
            pin(pid, client_core())
        self.load = Load(gate)
        self.stack.callback(self.load.close)
        token = gate.token(API, exp=int(time.time()) + 4 * 3600)
        who = token, 'bench'
        self.requests = {'GET': request('GET', slice_path(1), *who), 'activate': unlock(1, *who),
                         'modify': rename(1, *who), 'PUT': put(1, *who)}
        self.requests = {name: one.render().decode('latin-1') for name, one in self.requests.items()}
        self.load.must('keep-alive', port=self.ports['gate'], request=self.requests['PUT'],
                       expected=201, connections=1, seconds=0.05)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stack.close()

    def once(self, server, what, **wish):
        """What the load tells, and microseconds of CPU a piece, on either side."""
        before = {name: sum(map(cpu, pids)) for name, pids in self.sides(server).items()}
        told = self.load.must(what, port=self.ports[server], **wish)
        pieces = max(1, told['done'])
        told['us'] = {name: (sum(map(cpu, pids)) - before[name]) / pieces * 1e6
                      for name, pids in self.sides(server).items()}
        told['rate'] = told['done'] / told['seconds']
        return told

    def sides(self, server):
        sides = {'server': self.pids[server],
                 'load and backend': [self.load.process.pid, *self.backend]}
        return {**sides, 'guard': [self.guard]} if server == 'gate' else sides

    def turns(self, rounds, what, **wish):
        """[(the gate's, nginx's)]; the first pair warms up."""
        return [tuple(self.once(server, what, **wish) for server in ('gate', 'nginx'))
                for _ in range(rounds + 1)][1:]


def middle(values):
    return statistics.median(values)


def rates(name, unit, turns, least):
    """By the clock, and by CPU time: the first is what clients see, the second is free of whatever
    else the machine does."""
    ratios = [gate['rate'] / nginx['rate'] for gate, nginx in turns]
    by_cpu = [nginx['us']['server'] / gate['us']['server'] for gate, nginx in turns]
    alone = [nginx['us']['server'] / gate['us']['guard'] for gate, nginx in turns]
    return row(name, middle([gate['rate'] for gate, _ in turns]), unit, ratio=middle(ratios),
               least=least, spread=spread(ratios), nginx=round(middle([n['rate'] for _, n in turns])),
               ratio_by_cpu=round(middle(by_cpu), 3), ratio_of_guard_by_cpu=round(middle(alone), 3),
               gate_us=round(middle([g['us']['server'] for g, _ in turns])),
               guard_us=round(middle([g['us']['guard'] for g, _ in turns])),
               nginx_us=round(middle([n['us']['server'] for _, n in turns])),
               other_core_us=round(middle([g['us']['load and backend'] for g, _ in turns])))


def throughput(beside, quick):
    rounds, seconds = (2, 0.5) if quick else (5, 2)
    return [rates(f'{text}, keep-alive', 'requests per second', beside.turns(
        rounds, 'keep-alive', request=beside.requests[name], connections=connections,
        seconds=seconds), 0.8) for name, text, connections in (
            ('GET', 'GET', 32), ('activate', 'PATCH with its body inspected', 64))]


def handshakes(beside, quick):
    rounds, seconds = (2, 0.5) if quick else (5, 3)
    return [rates('handshakes', 'per second', beside.turns(
        rounds, 'handshakes', connections=8, seconds=seconds), 0.8)]


def latency(beside, quick):
    rounds, seconds, per_second = (2, 1, 500) if quick else (5, 2, 1000)
    rows = []
    for name, text in (('GET', 'GET'), ('activate', 'PATCH with its body inspected')):
        turns = beside.turns(rounds, 'paced', request=beside.requests[name], connections=32,
                             seconds=seconds, per_second=per_second)
        times = {server: middle([turn[i]['ms']['p99'] for turn in turns])
                 for i, server in enumerate(('gate', 'nginx'))}
        ratio = middle([gate['ms']['p99'] / nginx['ms']['p99'] for gate, nginx in turns])
        one = row(f'p99 of {text} at {per_second} a second', times['gate'], 'ms', ratio=ratio,
                  nginx=round(times['nginx'], 3),
                  p50=round(middle([gate['ms']['p50'] for gate, _ in turns]), 3),
                  nginx_p50=round(middle([nginx['ms']['p50'] for _, nginx in turns]), 3))
        rows.append({**one, 'aim': 1.5, 'met': ratio <= 1.5})
    return rows


def idle(beside, quick):
    count = 500 if quick else IDLE
    each = {}
    for server in ('gate', 'nginx'):
        before = memory(beside.pids[server])
        beside.load.must('idle', port=beside.ports[server], request=beside.requests['GET'],
                         connections=count)
        each[server] = (memory(beside.pids[server]) - before) / count / 1024
        beside.load.must('close')
    ratio = each['gate'] / each['nginx']
    one = row(f'memory per idle connection, of {count:,}', each['gate'], 'KiB', ratio=ratio,
              nginx=round(each['nginx'], 1))
    return [{**one, 'aim': 1.5, 'met': ratio <= 1.5}]


PARTS = {part.__name__: part for part in (throughput, handshakes, latency, idle)}


@contextlib.contextmanager
def beside():
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, most), most))
    with tempfile.TemporaryDirectory(dir='/dev/shm') as name, Beside(pathlib.Path(name)) as both:
        yield both


if __name__ == '__main__':
    figures.main('requests', __doc__, PARTS, beside)
