#!/usr/bin/python3
"""The no-drop rate of a gate: the highest rate at which not one packet is lost (RFC 1242 3.17,
RFC 2544 26.1), found by bisection with portcullis-generator and confirmed by a further trial.

    bench/ndr.py --max-rate 15e6 --json ndr.json -- --config lab/generator.conf \\
        --wire-port 0000:3b:00.0 --core-port 0000:3b:00.1 --cores 2,3,4 --size 64

Everything behind -- is the generator's; rate, seconds, packets and json are set here. The search
itself, search(), knows nothing of generators: it is given a function that makes one trial.
docs/benchmarking.md says how to read the result.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARIES = pathlib.Path(os.environ.get('PORTCULLIS_BIN', ROOT / 'build/release/bin'))
MOST_PACKETS = 1 << 30  # of one run of the generator
# A trial in which less than this share of what the rate asks for was sent says nothing about the
# gate: the generator, or its port, is the bottleneck.
REACHED = 0.995


@dataclasses.dataclass(frozen=True)
class Trial:
    """One rate, offered for a while. `valid`: the generator did what was asked and lost nothing
    itself, so that the loss is the device's."""
    rate: float
    sent: int
    lost: int
    valid: bool = True
    confirmation: bool = False
    detail: dict = dataclasses.field(default_factory=dict, compare=False)

    @property
    def loss(self):
        return self.lost / self.sent if self.sent else 1.0


@dataclasses.dataclass(frozen=True)
class Found:
    """`rate`: the no-drop rate, 0 when even the lowest rate lost packets. `limited_by`: "device",
    or "generator" when nothing was lost at the highest rate that could be sent, so that the device
    may be faster; or "trials" when they were used up first. `confirmed`: passed again."""
    rate: float
    limited_by: str
    confirmed: bool
    trials: tuple


def search(trial, maximum, *, minimum=1.0, resolution=0.01, tolerance=0.0, most_trials=20):
    """Bisects between minimum and maximum (packets/s) until the rates above and below differ by at
    most `resolution` of the upper one. trial(rate, confirmation) makes a Trial. A trial passes when
    it is valid and loses at most `tolerance` of its packets.

    A device is noisy where it is nearly full: what bisection found may have been luck, so it must
    pass a confirmation. If it does not, it becomes the upper end and the search goes on downwards.
    Every trial counts against `most_trials`, so that the search ends.
    """
    if not 0 < minimum <= maximum:
        raise ValueError(f'expected 0 < minimum <= maximum; found {minimum}, {maximum}')
    trials = []

    def passes(rate, confirmation=False):
        made = trial(rate, confirmation)
        trials.append(made)
        return made.valid and made.loss <= tolerance

    def limit():
        """Who stopped it: the slowest trial that did not pass tells."""
        failed = [t for t in trials if not t.valid or t.loss > tolerance]
        if not failed or not min(failed, key=lambda t: t.rate).valid:
            return 'generator'
        return 'device'

    low, high = 0.0, maximum   # low passed, high did not
    rate = maximum             # the quick answer first: perhaps nothing is lost at all
    while len(trials) < most_trials:
        if rate is not None:
            if passes(rate):
                low = rate
            else:
                high = rate
        if high <= minimum and low == 0.0:
            return Found(0.0, limit(), False, tuple(trials))
        if low == maximum or (low > 0 and high - low <= resolution * high):
            if len(trials) >= most_trials:
                break
            if passes(low, confirmation=True):
                return Found(low, limit(), True, tuple(trials))
            # Lower rates that passed still stand; without one, everything below is open.
            high = low
            below = [t.rate for t in trials
                     if t.rate < low and t.valid and t.loss <= tolerance]
            low = max(below, default=0.0)
            rate = None if low and high - low <= resolution * high else max(
                minimum, (low + high) / 2)
            continue
        rate = max(minimum, (low + high) / 2)
    return Found(low, 'trials', False, tuple(trials))


def judged(result, rate, confirmation=False):
    """What a run of the generator says about the gate."""
    valid = (result['offered_pps'] > 0 and result['skipped'] == 0 and
             result['receiver_missed'] == 0 and result['sent_pps'] >= REACHED * rate)
    # What arrives and must not, or twice, is as wrong as what does not arrive.
    wrong = result['lost'] + result['leaked'] + result['duplicates'] + result['damaged']
    return Trial(rate, result['sent_good'], wrong, valid, confirmation, result)


def run_generator(arguments, rate, seconds):
    packets = min(MOST_PACKETS, max(1, int(rate * seconds)))
    argv = [BINARIES / 'portcullis-generator', *arguments, '--rate', f'{rate:.3f}', '--packets',
            str(packets), '--seconds', str(seconds * 1.5 + 1), '--json', '-']
    done = subprocess.run(argv, capture_output=True, text=True, check=False,
                          timeout=seconds * 1.5 + 120)
    if done.returncode != 0:
        sys.exit(f'ndr: {done.stderr.strip() or "the generator failed"}')
    return json.loads(done.stdout)


def line(trial):
    latency = trial.detail.get('latency_us', {})
    verdict = 'invalid' if not trial.valid else 'loss' if trial.lost else 'ok'
    return (f'{trial.rate:14,.0f} {trial.detail.get("sent_pps", 0):14,.0f} {trial.sent:13,} '
            f'{trial.lost:11,} {latency.get("p50", 0):9.1f} {latency.get("p99", 0):9.1f}  '
            f'{verdict}{" (confirmation)" if trial.confirmation else ""}')


HEADER = (f'{"rate pps":>14} {"sent pps":>14} {"packets":>13} {"lost":>11} {"p50 us":>9} '
          f'{"p99 us":>9}')


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--max-rate', type=float, required=True, metavar='PPS',
                        help='the line, or what the generator can do')
    parser.add_argument('--min-rate', type=float, default=1000, metavar='PPS')
    parser.add_argument('--seconds', type=float, default=60,
                        help='of a trial; RFC 2544 24 wants 60 for the result')
    parser.add_argument('--search-seconds', type=float,
                        help='shorter trials until the confirmation; default: the same')
    parser.add_argument('--resolution', type=float, default=0.01, help='share of the rate')
    parser.add_argument('--tolerance', type=float, default=0.0,
                        help='share of packets that may be lost; RFC 2544: 0')
    parser.add_argument('--trials', type=int, default=20, help='at most')
    parser.add_argument('--latency-at', default='10,50,90', metavar='PERCENT,...',
                        help='of the no-drop rate; empty: none')
    parser.add_argument('--json', type=pathlib.Path)
    parser.add_argument('generator', nargs='+', help='its options, behind --')
    o = parser.parse_args()

    def trial(rate, confirmation):
        seconds = o.seconds if confirmation else o.search_seconds or o.seconds
        made = judged(run_generator(o.generator, rate, seconds), rate, confirmation)
        print(line(made), flush=True)
        return made

    print(HEADER)
    found = search(trial, o.max_rate, minimum=o.min_rate, resolution=o.resolution,
                   tolerance=o.tolerance, most_trials=o.trials)
    latency = []
    if found.rate > 0:
        for percent in filter(None, o.latency_at.split(',')):
            rate = max(found.rate * float(percent) / 100, 1)
            result = run_generator(o.generator, rate, o.seconds)
            latency.append({'percent': float(percent), 'rate': rate, **result['latency_us'],
                            'lost': result['lost']})
    limit = {'device': 'the device', 'generator': 'the generator: the device may be faster',
             'trials': 'the number of trials'}[found.limited_by]
    print(f'\nno-drop rate {found.rate:,.0f} packets/s, '
          f'{"confirmed" if found.confirmed else "NOT confirmed"}; limited by {limit}')
    for row in latency:
        print(f'latency at {row["percent"]:g} %: p50 {row["p50"]:.1f}  p99 {row["p99"]:.1f}  '
              f'p99.9 {row["p99.9"]:.1f}  max {row["max"]:.1f} us')
    if o.json:
        document = dataclasses.asdict(found) | {
            'max_rate': o.max_rate, 'resolution': o.resolution, 'tolerance': o.tolerance,
            'seconds': o.seconds, 'latency': latency}
        o.json.write_text(json.dumps(document, indent=1) + '\n', encoding='ascii')
    return 0 if found.confirmed else 1


if __name__ == '__main__':
    sys.exit(main())
