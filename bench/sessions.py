#!/usr/bin/python3
"""What sessions cost and how long it takes to end them: handshakes and complete sessions beside what
OpenSSL alone needs, tokens beside a bare signature check, revocation with 10,000 live SAs, 10,000
peers that renew within a minute, and legitimate peers while strangers flood the listener.

    bench/sessions.py [--quick] [--only NAME,...] [--json FILE]      adds what it found to FILE

The gate is the system tests' (bench/sessions/gate.py); all load goes between namespaces that this
program makes, is bounded in count and time and ends with it. The server's CPU is what counts where
the row says "per CPU second", so that the load's own costs are not in it.
"""

import concurrent.futures
import contextlib
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / folder) for folder in ('bench/sessions', 'tests', 'tests/system')]
import figures  # noqa: E402
from figures import row, spread  # noqa: E402
from gate import ISSUER, Gate, cpu, server_core  # noqa: E402
from processes import BIN  # noqa: E402
from traffic import Traffic  # noqa: E402
from tunnel import GATE, PEER  # noqa: E402

BASELINE_PORT = 5000
LONG_LIST = 20_000  # entries
FLOOD_SOURCES = [f'192.0.2.{last}' for last in range(100, 200)]


# ---- handshakes and complete sessions

@contextlib.contextmanager
def baseline(gate):
    """OpenSSL's own loop with the gate's key and chain, on the guard's core; its pid."""
    process = subprocess.Popen(
        gate.gate.command(['taskset', '-c', str(server_core()), BIN / 'portcullis-session-load',
                           gate.load.folder, '--serve', BASELINE_PORT]), stdout=subprocess.PIPE)
    try:
        process.stdout.readline()
        yield process.pid
    finally:
        process.kill()
        process.wait()


def per_piece(pid, load, what, count, **wish):
    """Microseconds of the server's CPU."""
    before = cpu(pid)
    load.must(what, count=count, **wish)
    return (cpu(pid) - before) / count * 1e6


def handshake_rounds(gate, rounds, count):
    guard = gate.guard.process.pid
    beside = {'control': gate.control.process.pid, 'dataplane': gate.dataplane.process.pid}
    result = []
    with baseline(gate) as bare:
        for number in range(rounds + 1):
            one = {'bare': per_piece(bare, gate.load, 'handshakes', count, port=BASELINE_PORT),
                   'guard': per_piece(guard, gate.load, 'handshakes', count)}
            verify = gate.load.do('verify', count=count)
            one['token'] = verify['seconds'] / verify['done'] * 1e6
            before = {name: cpu(pid) for name, pid in beside.items()}
            one['session'] = per_piece(guard, gate.load, 'sessions', count, at_once=8,
                                       initial_contact=True)
            one |= {name: (cpu(pid) - before[name]) / count * 1e6 for name, pid in beside.items()}
            if number > 0:  # the first one warms up
                result.append(one)
    return result


def handshakes(folder, quick):
    rounds, count = (2, 500) if quick else (7, 2000)
    rows = []
    for revoked, beside in ((0, ''), (LONG_LIST, f', list of {LONG_LIST:,}')):
        with Gate(folder / f'handshakes-{revoked}', peers=count, revoked=revoked,
                  pinned=True) as gate:
            gate.wire.close()
            gate.core.close()
            measured = handshake_rounds(gate, rounds, count)
        middle = {name: statistics.median(one[name] for one in measured) for name in measured[0]}
        ratios = [one['bare'] / one['guard'] for one in measured]
        rows.append(row(f'handshakes{beside}', 1e6 / middle['guard'], 'per guard CPU second',
                        ratio=statistics.median(ratios), least=0.8, spread=spread(ratios),
                        openssl=round(1e6 / middle['bare'])))
        ratios = [(one['bare'] + one['token']) / one['session'] for one in measured]
        rows.append(row(f'complete sessions{beside}', 1e6 / middle['session'],
                        'per guard CPU second', ratio=statistics.median(ratios), least=0.8,
                        spread=spread(ratios), guard_us=round(middle['session']),
                        control_us=round(middle['control']),
                        dataplane_us=round(middle['dataplane']),
                        limit_us=round(middle['bare'] + middle['token'])))
    return rows


def tokens(_, quick):
    """token_bench's rows, as ratios."""
    done = subprocess.run(
        [BIN / 'token_bench', '--benchmark_format=json', '--benchmark_enable_random_interleaving=true',
         f'--benchmark_repetitions={3 if quick else 9}',
         f'--benchmark_min_time={0.05 if quick else 0.3}'],
        capture_output=True, check=True)
    ns = {}
    for one in json.loads(done.stdout)['benchmarks']:
        if one['run_type'] == 'iteration':
            ns.setdefault(one['run_name'], []).append(one['cpu_time'])
    middle = {name: statistics.median(values) for name, values in ns.items()}
    rows = [row(f'token {name}', 1e9 / middle[f'Token/{name}'], 'per second',
                ratio=middle[f'Bare/{name}'] / middle[f'Token/{name}'], least=least,
                spread=spread(ns[f'Token/{name}'])) for name, least in (('ES256', 0.9), ('RS256', 0.7))]
    proof = middle['DPoP/ES256']
    return rows + [row('DPoP proof ES256', 1e9 / proof, 'per second',
                       ratio=middle['Bare/ES256'] / proof, spread=spread(ns['DPoP/ES256']))]


# ---- revocation

REVOKED = {'peer': 'peer-0', 'policy': 'manage', 'issuer': ISSUER}


def revoke(gate, kind, revoked=True):
    """(ns since 1970 when it was asked for, seconds until the answer)"""
    asked, started = time.time_ns(), time.monotonic()
    status, answer = gate.rest.call('POST', '/v1/revocations',
                                    {'kind': kind, 'id': REVOKED[kind], 'revoked': revoked})
    if status != 200:
        raise RuntimeError(f'revocation of {kind} {REVOKED[kind]}: {status} {answer}')
    return asked, time.monotonic() - started


def end_by(gate, kind, per_second):
    """Opens what is not open, revokes while packets flow: seconds to the last packet, and to the
    answer."""
    live = len(gate.rest.get('/v1/sessions')['items'])
    everybody = gate.peers if live == 0 else 1  # or only the one that was revoked
    gate.load.must('sessions', count=everybody, at_once=8, tell_every=1, initial_contact=True)
    streams = 10 if kind == 'peer' else 100
    with Traffic(gate, range(0, gate.peers, gate.peers // streams), per_second) as traffic:
        time.sleep(1)
        before = sum(traffic.sent.values())
        asked, answered = revoke(gate, kind)
        time.sleep(1.5)
    concerned = {0} if kind == 'peer' else set(traffic.sample)
    if min(traffic.sent.values()) < 3 or before == 0:
        raise RuntimeError('too few packets to see anything')
    last = max(0, (traffic.last_arrival(concerned) - asked) / 1e9)
    left = len(gate.rest.get('/v1/sessions')['items'])
    if left != (gate.peers - 1 if kind == 'peer' else 0):
        raise RuntimeError(f'{left} sessions are left after the revocation of a {kind}')
    if kind == 'peer':
        rest = set(traffic.sample) - concerned
        missing = sum(traffic.sent[p] for p in rest) * 2 - sum(
            1 for way in traffic.arrived.values() for p, *_ in way if p in rest)
        if missing:
            raise RuntimeError(f'{missing} packets of peers whom it did not concern were lost')
    revoke(gate, kind, revoked=False)
    return last, answered


def revocation(folder, quick):
    peers = 500 if quick else 5000
    rows = []
    with Gate(folder / 'revocation', peers) as gate:
        gate.wire.close()
        gate.core.close()
        for kind in ('peer', 'policy', 'issuer'):
            times = [end_by(gate, kind, per_second=2000) for _ in range(1 if quick else 3)]
            rows.append(row(f'revocation of {kind} to last packet, {2 * peers:,} SAs',
                            max(last for last, _ in times), 's, the longest', most=1.0,
                            answer=round(max(answer for _, answer in times), 3),
                            repeats=len(times)))
        rows.append(race(gate, count=200 if quick else 1000, repeats=2 if quick else 5))
    return rows


def race(gate, count, repeats):
    """An issuer is revoked while so many handshakes are under way."""
    opened = refused = left = 0
    for turn in range(repeats):
        # Each time later among them.
        wait = gate.load.must('sessions', count=count, at_once=8)['seconds'] * (turn + 1) / \
            (repeats + 1)
        gate.end_all()
        with concurrent.futures.ThreadPoolExecutor() as pool:
            under_way = pool.submit(gate.load.do, 'sessions', count=count, at_once=8)
            time.sleep(wait)
            revoke(gate, 'issuer')
            done = under_way.result()
        opened += done['done']
        refused += sum(done['failed'].values())
        left += len(gate.rest.get('/v1/sessions')['items']) + len(gate.rest.get('/v1/sas')['items'])
        revoke(gate, 'issuer', revoked=False)
    if not opened or not refused:
        raise RuntimeError(f'no race: {opened} opened, {refused} refused')
    return row(f'left after a revocation among {count:,} handshakes', left, 'sessions and SAs',
               most=0, opened=opened, refused=refused, repeats=repeats)


# ---- renewal

def renewal(folder, quick):
    peers, seconds = (500, 5) if quick else (10_000, 60)
    sample = peers // 100
    with Gate(folder / 'renewal', peers) as gate:
        gate.wire.close()
        gate.core.close()
        gate.load.must('sessions', count=peers, at_once=8, tell_every=sample)
        busy = {name: getattr(gate, name) for name in ('guard', 'control', 'dataplane')}
        with Traffic(gate, range(0, peers, sample), per_second=2000) as traffic:
            time.sleep(1)
            before = {name: gate.cpu(process) for name, process in busy.items()}
            done = gate.load.must('sessions', count=peers, at_once=32, seconds=seconds, renew=True,
                                  tell_every=sample)
            used = {name: round((gate.cpu(process) - before[name]) / done['seconds'], 2)
                    for name, process in busy.items()}
            time.sleep(2)
        sent = sum(traffic.sent.values())
        lost = {way: traffic.lost(way) for way in ('inbound', 'outbound')}
    one = row(f'lost while {peers:,} peers renew within {seconds} s', sum(lost.values()), 'packets',
              most=0, sent=2 * sent, **lost, seconds=round(done['seconds'], 1),
              renewal_p99_ms=round(done['ms']['p99'], 1), cores=used)
    one['met'] = one['met'] and done['seconds'] < 1.05 * seconds
    return [one]


# ---- floods

FLOODS = {  # name: kind, sources, connections held, a second
    'silent connections': ('silence', FLOOD_SOURCES, 2000, 1000),
    'silent connections from the peer\'s own address': ('silence', [PEER], 1000, 1000),
    'slow loris': ('drip', FLOOD_SOURCES, 2000, 1000),
    'ClientHello and silence': ('hello', FLOOD_SOURCES, 2000, 300),
    'garbage': ('garbage', FLOOD_SOURCES, 500, 1000),
}


def legitimate(gate, count):
    one = gate.load.must('sessions', count=count, at_once=1, initial_contact=True)
    many = gate.load.must('sessions', count=count, at_once=4, initial_contact=True)
    return {'p50': one['ms']['p50'], 'p99': one['ms']['p99'], 'rate': many['done'] / many['seconds']}


def flooded(gate, kind, sources, connections, per_second, count, seconds):
    process = subprocess.Popen(
        gate.peer.command([sys.executable, '-B', ROOT / 'bench/sessions/floods.py', kind, GATE,
                           str(gate.guard.port), str(seconds), '--sources', ','.join(sources),
                           '--connections', str(connections), '--per-second', str(per_second)]),
        stdout=subprocess.PIPE, text=True)
    try:
        time.sleep(min(3, seconds / 3))  # until it is as strong as it gets
        figures = legitimate(gate, count)
        if process.poll() is not None:
            raise RuntimeError('the flood was over before the peers were')
    finally:
        process.terminate()
        opened, ended = process.communicate()[0].split()
    return figures, {'sources': len(sources), 'connections': int(opened), 'ended_by_gate': int(ended)}


def floods(folder, quick):
    count, seconds = (50, 20) if quick else (400, 60)
    with Gate(folder / 'floods', peers=count) as gate:
        gate.wire.close()
        gate.core.close()
        for source in FLOOD_SOURCES:
            gate.peer.address('wire0', f'{source}/24')
        legitimate(gate, count)
        calm = legitimate(gate, count)
        rows = [row('sessions, no flood', calm['rate'], 'per second', p50_ms=round(calm['p50'], 1),
                    p99_ms=round(calm['p99'], 1))]
        for name, (kind, sources, connections, per_second) in FLOODS.items():
            found, flood = flooded(gate, kind, sources, connections, per_second, count, seconds)
            if flood['ended_by_gate'] == 0:
                raise RuntimeError(f'{name}: the gate never noticed')
            rows.append(row(f'sessions, {name}', found['rate'], 'per second',
                            ratio=found['rate'] / calm['rate'], p50_ms=round(found['p50'], 1),
                            p99_ms=round(found['p99'], 1), failed=0, flood=flood))
    return rows


PARTS = {part.__name__: part for part in (handshakes, tokens, revocation, renewal, floods)}


@contextlib.contextmanager
def folder_in_memory():
    with tempfile.TemporaryDirectory(dir='/dev/shm') as name:
        yield pathlib.Path(name)


if __name__ == '__main__':
    figures.main('sessions', __doc__, PARTS, folder_in_memory)
