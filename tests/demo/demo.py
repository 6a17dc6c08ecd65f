#!/usr/bin/python3
"""./run demo: peers enrol, a network slice is managed through the gate, requests are judged one by one,
then those come who must not get in, and the interface is attacked from the wire.

One line per case, ok or NOT OK: what was tried, what was expected, what happened; for packets and for
requests what was sent, what the gate said, what reached the servers. The exit status is 0 only when
every line is ok. See lab.py for the hosts, enrolment.py for certificates and tokens, services.py for
the interfaces whose requests are judged, request_cases.py, entrance.py and attacks.py for the cases.
"""

import argparse
import json
import pathlib
import re
import shutil
import signal
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / 'system')]

import attacks  # noqa: E402  (the path above is what finds these)
import enrolment  # noqa: E402
import entrance  # noqa: E402
import keep  # noqa: E402
import lab as laboratory  # noqa: E402
import request_cases  # noqa: E402
from netns import wait_until  # noqa: E402

LIMIT_SECONDS = 240
PROFILES = '/NSProvMnS/v1/ServiceProfiles'
SLICE = '/ProvMnS/v1/SubNetwork=1/NetworkSlice=edge-video'
SECRET = 'gold-customer-1742'  # must not be readable on the wire


class Report:
    def __init__(self):
        self.lines = 0
        self.failed = 0

    def _print(self, name, ok, text):
        self.lines += 1
        self.failed += not ok
        print(f'{"ok    " if ok else "NOT OK"}  {name:<23} {text}', flush=True)

    def line(self, name, sent, said, reached, ok, note=''):
        """Of packets; `said`: by verdict."""
        verdicts = ', '.join(f'{k} {v}' for k, v in sorted(said.items())) or 'nothing'
        self._print(name, ok, f'sent: {sent} | gate: {verdicts} | reached the NSMF: {reached}'
                              f'{f" ({note})" if note else ""}')

    def request(self, name, outcome):
        self._print(name, outcome.ok, f'sent: {outcome.sent} | gate: {outcome.said} | reached: '
                                      f'{outcome.reached}')

    def case(self, name, outcome):
        self._print(name, outcome.ok, f'{outcome.tried} | expected: {outcome.expected} | '
                                      f'happened: {outcome.happened}')


def say(text):
    print(f'  {text}', flush=True)


def heading(text):
    print(f'\n{text}', flush=True)


def manage_slices(lab, report):
    """The legitimate use: each operation of the interface, by curl on the CSMF's host."""
    def operation(name, method, path, expected, body=None, kind='application/json', holds=None):
        lab.counter.settle()
        before, seen = lab.rest.verdicts(), lab.counter.count()
        status, content = lab.curl(method, path, json.dumps(body) if body is not None else None,
                                   kind)
        lab.counter.settle()
        # Wait for the last packets of the connection's end, too.
        wait_until(lambda: lab.rest.verdicts()['accepted'] > before['accepted'], timeout=2)
        now = lab.rest.verdicts()
        said = {k: now[k] - before[k] for k in now if now[k] != before[k]}
        reached = lab.counter.count() - seen
        ok = status == expected and set(said) == {'accepted'} and reached > 0
        if holds is not None:
            ok = ok and holds in content
        report.line(name, f'{method} {path.partition("?")[0]} -> HTTP {status}', said,
                    f'{reached} packets', ok)
        return content

    created = operation('create a slice', 'POST', PROFILES, 201,
                        {'maxNumberofUEs': 1000, 'userLabel': SECRET}, holds='serviceProfileId')
    identity = json.loads(created or '{}').get('serviceProfileId', 'none')
    operation('create another', 'PUT', SLICE, 201, {'attributes': {'userLabel': SECRET}})
    operation('read it', 'GET', SLICE, 200, holds=SECRET)
    operation('modify it', 'PATCH', SLICE, 200, {'attributes': {'administrativeState': 'LOCKED'}},
              'application/merge-patch+json', holds='LOCKED')
    operation('read it again', 'GET', SLICE, 200, holds='LOCKED')
    operation('list', 'GET', '/ProvMnS/v1/SubNetwork=1?scopeType=BASE_ALL', 200, holds=identity)
    operation('delete', 'DELETE', f'{PROFILES}/{identity}', 204)
    operation('delete the other', 'DELETE', SLICE, 204)
    operation('read the deleted', 'GET', f'/ProvMnS/v1/SubNetwork=1/NetworkSlice={identity}', 404)


def look_at_the_wire(lab, report):
    """Everything between the two gates was ESP, or TLS with the guard; nothing could be read."""
    frames = lab.wire_from_csmf.frames + lab.wire_to_gate.frames
    esp = sum(frame[23] == 50 for frame in frames)
    ports = {port.to_bytes(2, 'big') for port in (lab.enrolment.guard.port, enrolment.PSK_PORT)}
    tls = sum(frame[23] == 6 and bool(ports & {frame[34:36], frame[36:38]}) for frame in frames)
    readable = sum(SECRET.encode() in frame for frame in frames)
    ok = esp > 0 and esp + tls == len(frames) and readable == 0
    say(f'{"ok    " if ok else "NOT OK"}  on the wire: {len(frames)} packets, {esp} of them ESP, '
        f'{tls} TLS with the guard, {readable} in which the slice\'s label can be read')
    report.lines += 1
    report.failed += not ok


def print_counters(lab):
    heading('The gate\'s counters')
    for name, value in lab.rest.verdicts().items():
        if value:
            print(f'  {name:<20} {value:>8}')
    for row, verdicts in lab.rest.counters('peer').items():
        said = ', '.join(f'{k} {v}' for k, v in verdicts.items() if v)
        if said:  # who comes without ESP has none
            print(f'  peer {row:<15} {said}')


def print_requests(lab):
    """From /metrics: what became of requests, and why the guard refused, at its door as well."""
    heading('The guard\'s counters')
    text = lab.rest.get('/metrics')
    rows = {}
    for interface, operation, outcome, count in re.findall(
            r'portcullis_operations_total\{interface="(.*?)",operation="(.*?)",outcome="(.*?)"\} '
            r'(\d+)', text):
        rows.setdefault(interface, []).append(f'{operation} {outcome} {count}')
    for interface, said in sorted(rows.items()):
        print(f'  {interface:<12} {", ".join(said)}')
    print('  refused     ', ', '.join(f'{reason} {count}' for reason, count in re.findall(
        r'portcullis_refusals_total\{reason="(.*?)"\} ([1-9]\d*)', text)))


def run(leave):
    report = Report()
    folder = tempfile.mkdtemp(prefix='portcullis-demo-')
    lab = laboratory.Laboratory(folder, say)
    left = False
    try:
        print('Portcullis demo: authenticated peers, keys that nobody carries, and who is kept out.')
        heading(f'Hosts, enrolment, sessions ({laboratory.kernel_version()})')
        lab.build()
        if not lab.wait_for_service():
            raise RuntimeError('the CSMF does not reach the NSMF through the gate')
        heading('The CSMF manages network slices of the NSMF, through the gate')
        manage_slices(lab, report)
        look_at_the_wire(lab, report)
        cases = request_cases.Cases(lab)
        for title, part in cases.parts():
            heading(title)
            for name, outcome in part():
                report.request(name, outcome)
        heading('And what the others say of these requests')
        report.case('the servers\' own books', cases.asking.books())
        report.case('control\'s records', cases.asking.records())
        heading('At the guard\'s door: each has one thing wrong, and then comes again with it right')
        for name, outcome in entrance.Entrance(lab).cases():
            report.case(name, outcome)
        heading('The interface is attacked from the wire')
        attacker = attacks.Attacker(lab)
        attacker.gather()
        for name, outcome in attacks.cases(attacker):
            report.line(name, outcome.sent, outcome.said, outcome.reached, outcome.ok,
                        outcome.note)
        heading('After all that, the CSMF goes on')
        manage_slices(lab, report)
        print_counters(lab)
        print_requests(lab)
        good = report.failed == 0
        print(f'\n{report.lines - report.failed} of {report.lines} lines ok'
              f'{"" if good else ": NOT OK"}', flush=True)
        if leave:
            print('\n'.join(keep.hints(lab, cases, SLICE, lab.detach())), flush=True)
            left = True
        return 0 if good else 1
    except Exception as error:  # whatever went wrong: say it with the logs, and clean up
        print(f'\nNOT OK: {type(error).__name__}: {error}', file=sys.stderr)
        for process in lab.processes:
            if process.process is not None:
                print(f'-- {process.log}:\n{process.log_tail(12)}', file=sys.stderr)
        return 1
    finally:
        if not left:
            lab.close()
            shutil.rmtree(folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--keep', action='store_true',
                        help='leave everything running and print how to explore it')
    options = parser.parse_args()

    def interrupted(number, _):
        raise SystemExit(f'demo: ended by {signal.Signals(number).name}')
    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGALRM, interrupted)
    signal.alarm(LIMIT_SECONDS)
    started = time.monotonic()
    code = run(options.keep)
    print(f'{time.monotonic() - started:.0f} s')
    sys.exit(code)


if __name__ == '__main__':
    main()
