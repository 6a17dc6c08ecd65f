"""No allocation, no lock, no system call in a worker's loop; no capability on a worker's thread; no
key in memory that can be swapped out or dumped.

The program is the real one, with workers that only poll, on ports that do no input or output of
their own: net_pcap reads a file into memory at start-up and delivers it for ever, what is sent is
freed. (A device's own kicks, such as AF_XDP's sendto(), are the device's and not the workers'.) The
traffic is everything at once: all algorithms in both directions, forgeries, replays, fragments that
are put together, cleartext, packets that wait for a neighbour, hand-offs between the workers; and
while it flows, the main thread swaps policies, adds, revokes and removes.

Three instruments watch the same threads, and each is seen to work on a thread that does what a
worker must not: strace counts system calls, an LD_PRELOADed library (count_calls.c) counts calls of
allocators, locks and the log, and the kernel counts how often a thread gave up its CPU. What none
of them could see is a spin lock of DPDK, which is code in a header; the program names none, which
is looked up in its source.
"""

import contextlib
import itertools
import mmap
import os
import pathlib
import re
import signal
import struct
import subprocess
import time

import pytest

import scapy_esp
from netns import Namespaces, wait_until
from processes import Dataplane, instance_name
from scapy_esp import Sa, datagram, frame, udp
from steer_client import SteerClient

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
SECONDS = 2.0  # each measurement

GATE, PEER, STRANGER = '192.0.2.1', '192.0.2.2', '203.0.113.66'
SERVER, SILENT = '10.2.0.10', '10.3.0.10'
WIRE_MAC, PEER_MAC = '02:00:00:00:00:01', '02:00:00:00:0a:02'
CORE_MAC, SERVER_MAC = '02:00:00:00:00:02', '02:00:00:00:02:0a'

# What the traffic provokes; each must go on being provoked while the instruments watch.
VERDICTS = {'accepted', 'bypassed', 'keepalive', 'icmp_consumed', 'malformed', 'inner_malformed',
            'cleartext_denied', 'unknown_spi', 'replayed', 'auth_failed', 'auth_throttled', 'dummy',
            'selector_mismatch', 'no_policy', 'grant_expired', 'rate_limited', 'ecn_illegal',
            'ttl_expired', 'too_big', 'no_route', 'no_neighbour', 'queue_full'}


# ---- traffic

def write_pcap(path, frames):
    with open(path, 'wb') as file:
        file.write(struct.pack('<IHHiIII', 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))
        for data in frames:
            file.write(struct.pack('<IIII', 0, 0, len(data), len(data)) + data)


class Traffic:
    """The frames of both sides, and the policy and SAs that they are made for."""

    def __init__(self):
        self.numbers = itertools.count(1)
        self.peers, self.sas, self.wire, self.core = [], [], [], []
        self.accepted = []  # ids of the SAs of which packets pass
        for algorithm in scapy_esp.ALGORITHMS:
            for encapsulated in (False, True):
                self._good(algorithm, encapsulated)
        self._refused()
        self._cleartext()
        self._fragments()
        self._waiting()

    def peer(self, algorithm='aes-128-gcm-16', udp_encap=False, window=0, remote=PEER, rate=None,
             esn=False, **peer):
        """A peer with an SA in each direction: (the Sa that the gate opens, the peer's address)."""
        number = next(self.numbers)
        name, inner = f'peer{number}', f'10.1.{number}.2'
        everything = {'remote': f'10.1.{number}.0/24'}
        self.peers.append({'name': name, 'prefixes': [f'10.1.{number}.0/24'], 'rate': rate,
                           'rules': [{'policy': 'test', 'selector': everything}], **peer})
        inbound = Sa(0x5eed1000 + number, remote, GATE, algorithm, esn=esn, udp=udp_encap)
        outbound = Sa(0x5eed2000 + number, GATE, remote, algorithm, udp=udp_encap)
        tunnel = {'local': GATE, 'remote': remote, 'udp_encap': udp_encap}
        if udp_encap:
            tunnel |= {'local_port': 4500, 'remote_port': 4500}
        common = {'peer': name, 'algorithm': algorithm, 'tunnel': tunnel,
                  'selectors': [everything]}
        self.sas += [{'id': f'{name}-in', 'direction': 'inbound', 'spi': inbound.spi,
                      'key': inbound.key, 'esn': esn, 'replay_window': window, **common},
                     {'id': f'{name}-out', 'direction': 'outbound', 'spi': outbound.spi,
                      'key': outbound.key, **common}]
        return inbound, inner

    def from_peer(self, packet):
        self.wire.append(frame(packet, WIRE_MAC, PEER_MAC))

    def from_server(self, packet):
        self.core.append(frame(packet, CORE_MAC, SERVER_MAC))

    def _good(self, algorithm, encapsulated):
        sa, inner = self.peer(algorithm, encapsulated)
        self.accepted += [sa['id'] for sa in self.sas[-2:]]
        for size in (10, 64, 1200):
            self.from_peer(sa.packet(udp(inner, SERVER, 1, 2, bytes(size))))
            self.from_server(udp(SERVER, inner, 2, 1, bytes(size)))

    def _refused(self):
        sa, inner = self.peer()
        good = udp(inner, SERVER, 1, 2, bytes(64))
        self.from_peer(sa.packet(b'', next_header=59))                      # dummy
        self.from_peer(sa.packet(good[:10]))                                # inner_malformed
        self.from_peer(sa.packet(udp('10.99.0.1', SERVER, 1, 2)))           # selector_mismatch
        self.from_peer(sa.packet(udp(inner, SERVER, 1, 2, ttl=1)))          # ttl_expired
        self.from_peer(sa.packet(udp(inner, '10.77.0.1', 1, 2)))            # no_route
        self.from_peer(sa.packet(good, outer={'tos': 3}))                   # ecn_illegal
        self.from_peer(sa.packet(good)[:-40])                               # malformed
        self.from_server(udp(SERVER, inner, 2, 1, bytes(1472), df=True))    # too_big, and told so
        self.from_server(udp(SERVER, inner, 2, 1, ttl=1))
        self.from_server(udp(SERVER, '10.98.0.1', 2, 1))                    # no_policy
        self.from_server(scapy_esp.tcp(SERVER, inner, 2, 1, flags=2, options=b'\2\4\5\xb4'))
        forged = sa.packet(good)
        self.from_peer(forged[:-1] + bytes((forged[-1] ^ 1,)))
        stranger, inner = self.peer()
        stranger.source = STRANGER
        forged = stranger.packet(udp(inner, SERVER, 1, 2))
        self.wire += [frame(forged[:-1] + bytes((forged[-1] ^ 1,)), WIRE_MAC, PEER_MAC)] * 4
        unknown = Sa(0x5eed0fff, PEER, GATE)
        self.from_peer(unknown.packet(good))
        windowed, inner = self.peer(window=1024, esn=True)
        self.from_peer(windowed.packet(udp(inner, SERVER, 1, 2)))           # replayed
        slow, inner = self.peer(rate={'packets_per_second': 10})
        self.from_peer(slow.packet(udp(inner, SERVER, 1, 2)))               # rate_limited
        late, inner = self.peer(grant_deadline_boot_ns=1)
        self.from_peer(late.packet(udp(inner, SERVER, 1, 2)))               # grant_expired

    def _cleartext(self):
        self.from_peer(udp('10.1.1.2', SERVER, 1, 2))
        self.from_peer(udp('203.0.113.4', SERVER, 1, 2))                    # bypassed
        self.from_server(udp(SERVER, '203.0.113.4', 2, 1))
        self.from_peer(udp(PEER, GATE, 4500, 4500, scapy_esp.KEEPALIVE))
        self.from_peer(udp(PEER, GATE, 4500, 4500, scapy_esp.NON_ESP_MARKER + bytes(28)))
        quoted = Sa(0x5eed2001, GATE, PEER).packet(bytes(40), 1)[:36]
        self.from_peer(datagram('203.0.113.1', GATE, 1, bytes((3, 4, 0, 0, 0, 0, 5, 0)) + quoted))
        self.wire.append(bytes.fromhex('ffffffffffff' '020000000a02' '0806') + bytes(28))
        self.core.append(bytes.fromhex('ffffffffffff' '02000000020a' '0806') + bytes(28))

    def _fragments(self):
        sa, inner = self.peer()
        self.accepted.append(self.sas[-2]['id'])
        whole = sa.packet(udp(inner, SERVER, 1, 2, bytes(1000)))
        body = whole[20:]
        for offset, piece, more in ((0, body[:800], True), (100, body[800:], False)):
            self.from_peer(datagram(PEER, GATE, 50, piece, offset=offset, more_fragments=more,
                                    ident=7))

    def _waiting(self):
        sa, inner = self.peer()
        self.from_peer(sa.packet(udp(inner, SILENT, 1, 2)))
        _, inner = self.peer(remote='198.51.100.2')
        self.from_server(udp(SERVER, inner, 2, 1))

    def policy(self):
        return {'peers': self.peers,
                'interfaces': [{'name': 'servers', 'prefixes': [f'{SERVER}/32']}],
                'bypasses': [{'local': f'{SERVER}/32', 'remote': '203.0.113.4/32'}]}

    def extra(self):
        """SAs that come and go, of a peer that has others. No key is taken twice."""
        return [dict(self.sas[0], id=f'extra{n}', spi=0x5eed0800 + n, key=os.urandom(20))
                for n in range(16)]  # slots of their own


# ---- instruments

class Calls:
    """The library of count_calls.c, and what it has counted by thread."""

    _ENTRY = struct.Struct('=QQQQQ24s')
    _THREADS = 128

    def __init__(self, folder):
        self.library = folder / 'count_calls.so'
        subprocess.run(['cc', '-std=gnu11', '-Wall', '-Wextra', '-Werror', '-O1', '-fPIC',
                        '-fno-builtin', '-shared', '-ftls-model=initial-exec', '-o', self.library,
                        HERE / 'count_calls.c'], check=True)
        self.file = folder / 'calls'
        self.file.write_bytes(bytes(self._ENTRY.size * self._THREADS))
        with open(self.file, 'rb') as file:
            self.table = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)

    @property
    def prefix(self):
        return ['env', f'LD_PRELOAD={self.library}', f'COUNT_CALLS_FILE={self.file}']

    def read(self, tid):
        """{'allocations', 'locks', 'logs'}, and the last call for whoever reads a failure."""
        for tid_here, allocations, locks, logs, caller, name in self._ENTRY.iter_unpack(self.table):
            if tid_here == tid:
                return {'allocations': allocations, 'locks': locks, 'logs': logs,
                        'last': f'{name.split(bytes(1))[0].decode()} from {caller:#x}'}
        return {'allocations': 0, 'locks': 0, 'logs': 0, 'last': 'none'}


def thread_status(pid, tid):
    """{'CapEff': ..} of one thread."""
    with open(f'/proc/{pid}/task/{tid}/status', encoding='ascii') as file:
        return dict(line.rstrip('\n').split(':\t', 1) for line in file)


def threads(pid):
    """{name: tid}"""
    return {pathlib.Path(path, 'comm').read_text(encoding='ascii').strip(): int(path.name)
            for path in pathlib.Path(f'/proc/{pid}/task').iterdir()}


def count_system_calls(pid, tids, folder, meanwhile):
    """{tid: [line of strace]} of several threads while `meanwhile` runs. Fails unless every one of
    them is being traced."""
    output = folder / 'strace.txt'
    arguments = itertools.chain.from_iterable(('-p', str(tid)) for tid in tids)
    with open(folder / 'strace.err', 'wb') as errors:
        strace = subprocess.Popen(['strace', '-o', output, *arguments], stderr=errors,
                                  stdin=subprocess.DEVNULL)
    try:
        assert wait_until(lambda: all(thread_status(pid, tid)['TracerPid'] == str(strace.pid)
                                      for tid in tids)), (folder / 'strace.err').read_text()
        begin = output.stat().st_size
        meanwhile()
        end = output.stat().st_size  # detaching has lines of its own
        traced = [thread_status(pid, tid)['TracerPid'] == str(strace.pid) for tid in tids]
    finally:
        strace.send_signal(signal.SIGINT)
        strace.wait(10)
    assert all(traced)
    lines = {tid: [] for tid in tids}
    # A call may have been half written when the measurement began or ended.
    for tid, call in re.findall(r'^(\d+) +(.*)\n', output.read_text()[begin:end], re.M):
        lines[int(tid)].append(call)
    return lines


# ---- the program under test

@contextlib.contextmanager
def running(folder, ports, prefix=(), **settings):
    """(Dataplane, SteerClient) in a namespace of its own."""
    with Namespaces(folder.name) as world:
        dataplane = Dataplane(world.add('gate'), folder, instance_name('d'), ports, prefix=prefix,
                              **settings)
        try:
            dataplane.start()
            with SteerClient(dataplane.socket) as steer:
                steer.hello()
                yield dataplane, steer
                assert dataplane.running(), dataplane.log_tail()
        finally:
            dataplane.stop()
            dataplane.forget()


def worker_threads(dataplane):
    found = {name: tid for name, tid in threads(dataplane.process.pid).items()
             if re.search(r'-worker-\d+$', name)}
    assert len(found) == dataplane.config['workers']['count'], threads(dataplane.process.pid)
    return list(found.values())


class Busy:
    """The gate under all that traffic, and what its main thread is kept busy with."""

    def __init__(self, dataplane, steer, traffic, calls):
        self.dataplane, self.steer, self.traffic, self.calls = dataplane, steer, traffic, calls
        self.pid = dataplane.process.pid
        self.workers = worker_threads(dataplane)

    def changes(self):
        """SECONDS of policy swaps, SAs that come and go and a peer that loses its right; asserts
        that packets flowed and every verdict grew meanwhile."""
        before, by_sa = self.steer.counters(), self.steer.counters(by='sa')
        by_worker = self.steer.counters(by='worker')
        swaps = 0
        # On a host that others keep busy it takes longer until everything has happened.
        soon, latest = time.monotonic() + SECONDS, time.monotonic() + 20
        while time.monotonic() < soon or (self.missing(before) and time.monotonic() < latest):
            self.steer.apply(**self.traffic.policy())
            extra = self.traffic.extra()
            self.steer.add_sas(extra)
            self.steer.revoke('peer1')
            self.steer.remove_sas([sa['id'] for sa in extra])
            self.steer.revoke('peer1', False)
            swaps += 1
            time.sleep(0.01)
        assert swaps >= 20
        assert not self.missing(before), f'not seen: {self.missing(before)}'
        for name, counters in self.steer.counters(by='worker').items():
            # Only the first worker receives: what the second accepts was handed to it.
            assert counters['accepted'] > by_worker[name]['accepted'] + 1000, f'worker {name}'
        now = self.steer.counters(by='sa')
        for sa in self.traffic.accepted:
            assert now[sa]['accepted'] > by_sa[sa]['accepted'], sa

    def missing(self, before):
        return VERDICTS - set(self.steer.seen(before))


@pytest.fixture(scope='module')
def busy(tmp_path_factory):
    folder = tmp_path_factory.mktemp('discipline')
    calls = Calls(folder)
    traffic = Traffic()
    write_pcap(folder / 'wire.pcap', traffic.wire)
    write_pcap(folder / 'core.pcap', traffic.core)

    def port(n, name, role, mac, addresses):
        vdev = f'net_pcap{n},rx_pcap={folder}/{name}.pcap,infinite_rx=1'
        return {'name': name, 'role': role, 'device': {'vdev': vdev}, 'mac': mac, 'mtu': 1500,
                'addresses': addresses}

    with running(
            folder, [port(0, 'wire', 'untrusted', WIRE_MAC, [f'{GATE}/32', '198.51.100.1/24']),
                     port(1, 'core', 'trusted', CORE_MAC, ['10.2.0.1/32', '10.3.0.1/24'])],
            prefix=calls.prefix, workers={'count': 2, 'idle': 'poll'}, fragments='reassemble',
            routes=[{'prefix': '192.0.2.0/24', 'port': 'wire', 'mac': PEER_MAC},
                    {'prefix': '203.0.113.0/24', 'port': 'wire', 'mac': PEER_MAC},
                    {'prefix': '10.2.0.0/24', 'port': 'core', 'mac': SERVER_MAC}],
            neighbours={'queue': 8, 'timeout_ms': 50},
            auth_failures={'per_second': 100, 'suspect_seconds': 1, 'cpu_percent': 10},
    ) as (dataplane, steer):
        steer.apply(**traffic.policy())
        steer.add_sas(traffic.sas)
        it = Busy(dataplane, steer, traffic, calls)
        steer.wait_counters(lambda now: all(now[v] for v in VERDICTS), 20)
        yield it


def mappings_with(pid, secrets):
    """{mapping as /proc/<pid>/smaps names it: VmFlags} of those that contain one of the secrets."""
    found = {}
    smaps = pathlib.Path(f'/proc/{pid}/smaps').read_text(encoding='ascii')
    blocks = re.findall(r'^([0-9a-f]+)-([0-9a-f]+) (r.*)$((?:\n[A-Z].*)*)', smaps, re.M)
    with open(f'/proc/{pid}/mem', 'rb', buffering=0) as memory:
        for begin, end, name, facts in blocks:
            begin, end = int(begin, 16), int(end, 16)
            if name.endswith(('[vvar]', '[vsyscall]')) or 'Rss:                   0 kB' in facts:
                continue
            memory.seek(begin)
            content = memory.read(end - begin)
            if any(secret in content for secret in secrets):
                found[f'{begin:x}-{end:x} {name}'] = re.search('VmFlags: (.*)', facts)[1].split()
    return found


# ---- tests

def test_no_system_call(busy, tmp_path):
    lines = count_system_calls(busy.pid, [busy.pid, *busy.workers], tmp_path, busy.changes)
    assert {tid: lines[tid] for tid in busy.workers} == {tid: [] for tid in busy.workers}
    # The main thread, under the same strace at the same time, answers the test's requests.
    assert any(line.startswith('epoll_wait') for line in lines[busy.pid])


def test_no_allocation_lock_or_log_line(busy):
    before = {tid: busy.calls.read(tid) for tid in [busy.pid, *busy.workers]}
    busy.changes()
    after = {tid: busy.calls.read(tid) for tid in before}
    assert {t: after[t] for t in busy.workers} == {t: before[t] for t in busy.workers}
    # The same library sees the main thread's calls, and saw the workers' own before their loop.
    main, main_before = after[busy.pid], before[busy.pid]
    assert main['allocations'] > main_before['allocations'] + 1000
    assert main['locks'] > main_before['locks']
    assert all(before[tid]['allocations'] > 0 for tid in busy.workers)


def test_no_waiting(busy):
    """voluntary_ctxt_switches: the thread blocked. A worker loses its CPU only to the scheduler."""
    def waits(tid):
        return int(thread_status(busy.pid, tid)['voluntary_ctxt_switches'])
    before = {tid: waits(tid) for tid in busy.workers}
    main = waits(busy.pid)
    busy.changes()
    assert {tid: waits(tid) for tid in busy.workers} == before
    assert waits(busy.pid) > main


def test_no_spin_lock_in_the_source():
    """rte_spinlock, rte_rwlock, rte_seqlock and their kin are inline: no instrument sees them."""
    lock = re.compile(r'\brte_\w*(spinlock|rwlock|ticketlock|mcslock|seqlock|pflock)\w*\(')
    sources = [path for path in (ROOT / 'dataplane').rglob('*.[ch]pp')
               if not path.name.endswith(('_test.cpp', '_bench.cpp'))]
    assert len(sources) > 50
    assert [path for path in sources if lock.search(path.read_text())] == []
    assert lock.search('rte_spinlock_lock(&lock);')


def test_an_idle_worker_is_seen_to_sleep(tmp_path):
    """The instruments' twin on a worker's own thread: with `idle: sleep` and nothing to do it naps,
    and strace and the kernel's counter both say so."""
    ports = [{'name': name, 'role': role, 'device': {'vdev': f'net_null{n},no-rx=1'},
              'mac': f'02:00:00:00:00:0{n}', 'addresses': [f'10.{n}.0.1/24']}
             for n, (name, role) in enumerate((('wire', 'untrusted'), ('core', 'trusted')))]
    with running(tmp_path, ports) as (dataplane, _):
        pid, (worker,) = dataplane.process.pid, worker_threads(dataplane)
        before = int(thread_status(pid, worker)['voluntary_ctxt_switches'])
        lines = count_system_calls(pid, [pid, worker], tmp_path, lambda: time.sleep(0.5))
        assert any('clock_nanosleep' in line for line in lines[worker])
        assert int(thread_status(pid, worker)['voluntary_ctxt_switches']) > before


def test_workers_have_no_capabilities(busy):
    """The main thread keeps what netlink and BPF maps need; a worker can change nothing."""
    for tid in busy.workers:
        status = thread_status(busy.pid, tid)
        for name in ('CapEff', 'CapPrm', 'CapInh', 'CapAmb'):
            assert int(status[name], 16) == 0, name
    cap_net_admin = 1 << 12
    assert int(thread_status(busy.pid, busy.pid)['CapEff'], 16) & cap_net_admin


def test_keys_are_in_locked_memory_only(busy):
    """Looked for byte by byte: wherever a key stands, its pages are locked (lo) or huge (ht), so
    that they never reach a disk."""
    # The first round key of AES is the key itself; ChaCha20 takes it as it is.
    keys = {sa['algorithm']: sa['key'][:16] for sa in busy.traffic.sas}.values()
    found = mappings_with(busy.pid, keys)
    assert found, 'the search itself does not work'
    assert {name: flags for name, flags in found.items() if not {'lo', 'ht'} & set(flags)} == {}
    assert int(thread_status(busy.pid, busy.pid)['VmLck'].split()[0]) > 0
