#!/usr/bin/python3
"""How the dataplane scales: memory per SA and time to load many, changes a second, and how long a
policy swap takes. Ports lead nowhere (net_ring): what traffic loses meanwhile is a system test.

    bench/scale.py [--sas 100000] [--json FILE]        adds what it found to FILE
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / 'tests'))
import steer_client  # noqa: E402

BINARIES = pathlib.Path(os.environ.get('PORTCULLIS_BIN', ROOT / 'build/release/bin'))
PEERS = 1000
RULES = 100
BATCH = 1000


def config(folder, capacity):
    path = folder / 'dataplane.yaml'
    path.write_text(f'''
instance: scale
lab: true
memory: {{ hugepages: never, megabytes: 1024, buffers: 4096 }}
ports:
  - {{ name: wire, role: untrusted, device: {{ vdev: net_ring0 }}, mac: "02:00:00:00:00:01", addresses: [192.0.2.1/24] }}
  - {{ name: core, role: trusted, device: {{ vdev: net_ring1 }}, mac: "02:00:00:00:00:02", addresses: [10.2.0.1/24] }}
sas: {{ capacity: {capacity} }}
state_file: {folder}/state
steering: {{ socket: {folder}/steer.sock }}
''')
    return path


def resident_bytes(pid):
    for line in pathlib.Path(f'/proc/{pid}/status').read_text().splitlines():
        if line.startswith('VmRSS:'):
            return int(line.split()[1]) * 1024
    raise RuntimeError('no VmRSS')


def peers(generation):
    return [{'name': f'peer-{p}', 'prefixes': [f'10.{128 + p // 250}.{p % 250}.0/24'],
             'rules': [{'local': '10.2.0.0/24', 'protocol': 'tcp',
                        'local_ports': (1000 + r, 1000 + r + generation % 2)}
                       for r in range(RULES)]} for p in range(PEERS)]


def sa(number):
    inbound = number % 2 == 0
    peer = number // 2 % PEERS
    return {'id': f'sa-{number}', 'peer': f'peer-{peer}',
            'direction': 'inbound' if inbound else 'outbound', 'spi': 0x10000 + number,
            'key': number.to_bytes(20, 'big'), 'selectors': [{}],
            'tunnel': {'local': '192.0.2.1', 'remote': '192.0.2.2'}}


def snapshot(generation):
    return steer_client.pb.ApplySnapshot(
        generation=generation + 1, full=True, peers=[steer_client.peer(p) for p in peers(generation)],
        interfaces=[steer_client.interface({'name': 'servers', 'prefixes': ['10.2.0.0/24']})])


def seconds(call, **request):
    """Of the dataplane's work and the socket's; the message was made before."""
    started = time.monotonic()
    call(**request)
    return time.monotonic() - started


def measure(steer, pid, count):
    first_policy = seconds(steer.call, apply_snapshot=snapshot(0))

    before = resident_bytes(pid)
    load = 0.0
    for at in range(0, count, BATCH):
        batch = [steer_client.sa(sa(n)) for n in range(at, min(at + BATCH, count))]
        load += seconds(lambda: steer.add_sas(batch))
    memory = resident_bytes(pid) - before

    swaps = [seconds(steer.call, apply_snapshot=snapshot(g)) for g in range(1, 11)]

    changes = 500
    changed = 0.0
    for n in range(changes):
        one = steer_client.sa(sa(count + n))
        changed += seconds(lambda: (steer.add_sas([one]), steer.remove_sas([one.id])))
    return {'sas': count, 'load_seconds': round(load, 2),
            'bytes_per_sa': round(memory / count), 'peers': PEERS, 'rules_per_peer': RULES,
            'first_policy_ms': round(first_policy * 1000, 1),
            'policy_swap_ms_median': round(statistics.median(swaps) * 1000, 1),
            'sa_changes_per_second': round(2 * changes / changed)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--sas', type=int, default=100_000)
    parser.add_argument('--json', type=pathlib.Path)
    arguments = parser.parse_args()
    capacity = 1 << (arguments.sas + 1000 - 1).bit_length()
    with tempfile.TemporaryDirectory(dir='/dev/shm') as name:
        folder = pathlib.Path(name)
        process = subprocess.Popen([BINARIES / 'portcullis-dataplane', '--config',
                                    config(folder, capacity)], stderr=subprocess.DEVNULL)
        try:
            with steer_client.SteerClient(folder / 'steer.sock', timeout=60, wait=20) as steer:
                steer.hello()
                result = measure(steer, process.pid, arguments.sas)
        finally:
            process.terminate()
            process.wait(20)
    for key, value in result.items():
        print(f'{key:24} {value:>12}')
    if arguments.json:
        written = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
        arguments.json.write_text(json.dumps(written | {'scale': result}, indent=2) + '\n')


if __name__ == '__main__':
    main()
