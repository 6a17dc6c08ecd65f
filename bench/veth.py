#!/usr/bin/python3
"""End to end over veth: Portcullis beside what Debian has for the same job.

Four hosts in network namespaces, client, gateway a, gateway b, server (bench/gates/world.py), and
between the gateways one contender after the other (bench/gates/contenders.py): wireguard-go,
strongSwan with ESP in user space, Portcullis, and no protection at all for reference. All share
all cores. Each is first shown to encrypt, by looking for the payload on the wire, then measured in
turn, round after round, so that what else happens on the machine meets all of them:

  tcp   one iperf3 stream that fills inner packets of 1400 bytes
  pps   inner packets of 64 bytes that reach the server's socket, at the offered rate at which
        most do

    bench/veth.py [--repeats N] [--seconds S] [--only NAME,...] [--json FILE]

`taskset -c 2,3 bench/veth.py` gives them all the same cores of a larger machine.
"""

import argparse
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / 'bench' / 'gates'), str(ROOT / 'tests'), str(ROOT / 'tests' / 'system')]
import figures  # noqa: E402
from contenders import CONTENDERS  # noqa: E402
from world import World  # noqa: E402

METRICS = {'tcp': ('Gbit/s', 1, 3), 'pps': ('kpps', 1e3, 1)}  # unit, divisor, decimals for people


def label(contender, offloads):
    return contender.name if len(contender.offloads) == 1 else f'{contender.name}, {offloads}'


def show_that_it_encrypts(contender, folder):
    with World(tap=True) as world, contender(world, folder):
        seen = world.seen_in_clear()
    if contender.encrypts and seen:
        raise SystemExit(f'{contender.name}: {seen} payloads were readable on the wire')
    if not contender.encrypts and not seen:
        # The twin: a capture that never sees anything proves nothing.
        raise SystemExit(f'{contender.name}: no payload was seen on the wire; the capture is blind')


def measure(contender, folder, load, rates, seconds):
    """{(label, metric): value} of one contender with each of its settings."""
    values = {}
    with World() as world, contender(world, folder):
        for offloads in contender.offloads:
            world.offloads(offloads)
            name = label(contender, offloads)
            values[name, 'tcp'] = world.tcp_gbits(seconds)
        # Small packets have nothing to offload: once, with the last, which suits everybody best.
        values[name, 'pps'], rates[name] = world.peak_pps(load, seconds, rates.get(name))
    return values


def rows(rounds, contenders):
    """The JSON rows. The ratio is the median over the rounds of this contender's figure over the
    best of the other contenders' in the same round: what the machine did meanwhile met both."""
    owner = {label(c, o): c for c in contenders for o in c.offloads}
    result = []
    for metric, (unit, divisor, _) in METRICS.items():
        measured = [name for name in owner if (name, metric) in rounds[0]]
        for name in measured:
            values = [r[name, metric] / divisor for r in rounds]
            median = statistics.median(values)
            others = [n for n in measured if owner[n] is not owner[name] and owner[n].encrypts]
            ratio = statistics.median(r[name, metric] / max(r[n, metric] for n in others)
                                      for r in rounds) if others else None
            result.append({'name': f'veth {metric} {name}', 'contender': name, 'metric': metric,
                           'unit': unit, 'median': median,
                           'spread': (max(values) - min(values)) / median, 'repeats': len(values),
                           'ratio_to_best_other': ratio})
    return result


def machine():
    with open('/proc/cpuinfo', encoding='ascii') as file:
        model = next((line.split(':')[1].strip() for line in file if line.startswith('model name')),
                     platform.machine())
    return f'{len(os.sched_getaffinity(0))} cores of {model}, Linux {platform.release()}'


def table(result):
    print(f'\n{machine()}, medians of {result[0]["repeats"]}')
    for metric, (unit, _, decimals) in METRICS.items():
        print(f'\n{"TCP, inner packets of 1400 B" if metric == "tcp" else "inner packets of 64 B"}'
              f'\n{"":30}{unit:>12}{"spread":>9}{"x best other":>14}')
        for row in result:
            if row['metric'] == metric:
                ratio = row['ratio_to_best_other']
                print(f'{row["contender"]:30}{row["median"]:>12.{decimals}f}{row["spread"]:>9.0%}'
                      f'{"" if ratio is None else format(ratio, ".2f"):>14}')
    print('\non/off: checksum and segmentation offload of the veths; AF_XDP needs them off.')


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n', maxsplit=1)[0])
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--seconds', type=int, default=2, help='of each measurement')
    parser.add_argument('--only', help='contenders, with commas: '
                        + ', '.join(c.name for c in CONTENDERS))
    parser.add_argument('--json', type=pathlib.Path)
    arguments = parser.parse_args()
    wanted = arguments.only.split(',') if arguments.only else [c.name for c in CONTENDERS]
    if unknown := set(wanted) - {c.name for c in CONTENDERS}:
        parser.error(f'no such contender: {", ".join(sorted(unknown))}')
    contenders = [c for c in CONTENDERS if c.name in wanted]

    with tempfile.TemporaryDirectory(dir='/dev/shm') as name:
        folder = pathlib.Path(name)
        load = folder / 'load'
        subprocess.run(['cc', '-O2', '-o', load, ROOT / 'bench' / 'gates' / 'load.c'], check=True)
        for contender in contenders:
            show_that_it_encrypts(contender, folder / f'proof-{contender.name}')
            print(f'{contender.name}: {"encrypts" if contender.encrypts else "in clear"}, seen on '
                  'the wire', flush=True)
        rates, rounds = {}, []
        for number in range(arguments.repeats):
            started = time.monotonic()
            values = {}
            for contender in contenders:
                values |= measure(contender, folder / f'{number}-{contender.name}', load, rates,
                                  arguments.seconds)
            rounds.append(values)
            print(f'round {number + 1} of {arguments.repeats}: '
                  f'{time.monotonic() - started:.0f} s', flush=True)
    result = rows(rounds, contenders)
    table(result)
    figures.add(arguments.json, 'veth', result)


if __name__ == '__main__':
    main()
