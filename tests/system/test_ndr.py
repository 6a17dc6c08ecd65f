"""The search for the no-drop rate: on devices that are functions, and once on a real gate."""

import importlib.util
import json
import random
import subprocess
import sys

import pytest

from generator import Bench, device
from processes import ROOT

_spec = importlib.util.spec_from_file_location('ndr', ROOT / 'bench' / 'ndr.py')
ndr = importlib.util.module_from_spec(_spec)
sys.modules['ndr'] = ndr
_spec.loader.exec_module(ndr)


def device_of(capacity, generator=float('inf'), packets=100_000):
    """Loses what exceeds its capacity; a generator that cannot send faster than that."""
    def trial(rate, confirmation):
        sent = min(rate, generator)
        lost = round(packets * max(0.0, 1 - capacity / sent))
        return ndr.Trial(rate, packets, lost, sent == rate, confirmation)
    return trial


@pytest.mark.parametrize('capacity', [1.5, 1234, 333_333, 7_654_321, 9_999_999])
@pytest.mark.parametrize('resolution', [0.1, 0.01, 0.001])
def test_a_steady_device_is_found_to_the_resolution(capacity, resolution):
    found = ndr.search(device_of(capacity, packets=10**9), 10e6, resolution=resolution,
                       most_trials=60)
    assert found.confirmed and found.limited_by == 'device'
    assert capacity * (1 - resolution) * 0.999 <= found.rate <= capacity * 1.000001
    assert found.trials[-1].confirmation and found.trials[-1].rate == found.rate


def test_what_loses_nothing_is_limited_by_the_generator():
    found = ndr.search(device_of(20e6), 10e6)
    assert (found.rate, found.confirmed, found.limited_by) == (10e6, True, 'generator')
    assert len(found.trials) == 2
    found = ndr.search(device_of(20e6, generator=4e6), 10e6)
    assert found.confirmed and found.limited_by == 'generator'
    assert 3.95e6 <= found.rate <= 4e6


def test_what_always_loses_has_no_rate_and_ends():
    found = ndr.search(device_of(0.0), 1e6, minimum=1000)
    assert (found.rate, found.confirmed) == (0.0, False)
    assert len(found.trials) <= 20
    found = ndr.search(device_of(0.0), 1e9, minimum=1e-3, most_trials=5)
    assert (found.rate, found.limited_by, len(found.trials)) == (0.0, 'trials', 5)


def test_tolerance_is_a_share_of_the_packets():
    assert ndr.search(device_of(1e6), 2e6, tolerance=0.0).rate <= 1e6
    assert 1.09e6 < ndr.search(device_of(1e6), 2e6, tolerance=0.1).rate <= 1.1112e6


@pytest.mark.parametrize('seed', range(50))
def test_a_noisy_device_is_never_overrated(seed):
    """Between 80 % of its capacity and all of it, it loses now and then, more and more often. What
    is reported passed twice, and the search ends."""
    dice = random.Random(seed)
    capacity = 1e6

    def trial(rate, confirmation):
        share = (rate / capacity - 0.8) / 0.2
        lost = 1 if rate > capacity or (share > 0 and dice.random() < share) else 0
        return ndr.Trial(rate, 1000, lost, True, confirmation)

    found = ndr.search(trial, 2e6, most_trials=40)
    assert len(found.trials) <= 40
    passed = [t for t in found.trials if t.rate == found.rate and t.lost == 0]
    if found.confirmed:
        assert len(passed) >= 2 and found.trials[-1].confirmation
        assert 0.75e6 < found.rate <= capacity
    else:
        assert found.limited_by == 'trials'


def test_a_failed_confirmation_sends_the_search_down():
    refused = []

    def trial(rate, confirmation):
        lost = int(rate > 800)
        if confirmation and not refused:
            refused.append(rate)
            lost = 1
        return ndr.Trial(rate, 100, lost, True, confirmation)

    found = ndr.search(trial, 1000, resolution=0.05, most_trials=30)
    assert 760 <= refused[0] <= 800
    assert found.confirmed and found.limited_by == 'device'
    assert refused[0] * 0.9 <= found.rate < refused[0]


def test_bounds_are_checked():
    for minimum, maximum in ((0, 1), (-1, 1), (2, 1)):
        with pytest.raises(ValueError):
            ndr.search(device_of(1), maximum, minimum=minimum)


def test_the_harness_finds_a_rate_on_a_real_gate(tmp_path):
    """Short trials over veth: the figure means nothing, that it is found, confirmed and written
    does. At most 2,000 packets/s, which a gate on any machine can do."""
    report = tmp_path / 'ndr.json'
    with Bench(tmp_path) as bench:
        argv = [sys.executable, '-B', ROOT / 'bench' / 'ndr.py', '--max-rate', 2000, '--min-rate',
                50, '--seconds', 0.3, '--trials', 8, '--resolution', 0.5, '--latency-at', '50',
                '--json', report, '--', '--config', bench.lab / 'generator.conf', '--wire-port',
                device(0), '--core-port', device(1), '--small-pages', '--megabytes', 128,
                '--drain-ms', 100]
        done = subprocess.run(bench.tester.command(argv), capture_output=True, text=True,
                              timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        result = json.loads(report.read_text())
        assert result['confirmed'] and 50 <= result['rate'] <= 2000, done.stdout
        assert result['trials'][-1]['confirmation'] and result['trials'][-1]['lost'] == 0
        assert result['latency'][0]['lost'] == 0 and result['latency'][0]['p50'] > 0
        accepted = bench.rest.verdicts()['accepted']
        assert accepted >= sum(t['detail']['received'] for t in result['trials']) > 0
