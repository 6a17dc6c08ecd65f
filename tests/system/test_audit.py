"""The audit log as an operator meets it: what a change and a refusal leave in it, that nothing is
done unrecorded, and that portcullisctl finds what somebody did to the file."""

import contextlib
import hashlib
import json
import os
import re
import resource
import socket
import sqlite3
import subprocess

import pytest
import yaml

from netns import Namespaces, wait_until
from processes import BIN, Control, Pki
from rest_contract import Contract, document, peer, sa

INTACT, NOT_INTACT, USAGE = 0, 1, 2


@pytest.fixture(scope='module')
def namespace():
    with Namespaces('audit') as world:
        yield world.add('gate')


@pytest.fixture(scope='module')
def pki(tmp_path_factory):
    pki = Pki(tmp_path_factory.mktemp('pki'),
              (('alice', 'operator'), ('bob', 'viewer'), ('eve', 'viewer')))
    pki.operators = [o for o in pki.operators if o['name'] != 'eve']  # a certificate, no role
    return pki


@pytest.fixture
def control(namespace, pki, tmp_path):
    """Without a dataplane: changes are stored, and that is a change."""
    process = Control(namespace, tmp_path / 'control', tmp_path / 'none.sock', pki)
    process.log_file = tmp_path / 'control' / 'audit.log'
    process.start(ready=False)
    yield process
    process.stop()


@pytest.fixture
def rest(control):
    client = Contract(control)
    yield client
    client.close()


def records(rest, **wanted):
    """Those whose members are as wanted."""
    found = rest.ok('GET', '/v1/audit?count=1000')['items']
    return [one for one in found if all(one[name] == value for name, value in wanted.items())]


def digest(body):
    return hashlib.sha256(json.dumps(body).encode()).hexdigest()


# ---- what is recorded


def test_a_change_is_recorded_before_and_after(rest, pki):
    rest.ok('PUT', '/v1/policy', document())
    begun, done = records(rest, action='PUT')
    assert (begun['outcome'], done['outcome']) == ('begun', 'done')
    assert done['detail']['begun'] == begun['number'] == done['number'] - 1
    for one in begun, done:
        assert (one['who'], one['subject']) == ('alice', '/v1/policy')
        assert one['digest'] == digest(document())
    assert done['detail']['status'] == 200 and done['detail']['role'] == 'operator'
    shown = subprocess.run(['openssl', 'x509', '-in', pki.clients['alice'][0], '-noout',
                            '-fingerprint', '-sha256'], capture_output=True, text=True, check=True)
    assert done['detail']['certificate'] == \
        shown.stdout.strip().partition('=')[2].replace(':', '').lower()


def test_what_only_looks_is_not_recorded(rest):
    before = rest.ok('GET', '/v1/audit')['count']
    rest.ok('GET', '/v1/policy')
    rest.ok('PUT', '/v1/policy?dryRun=true', document())
    rest.problem('GET', '/v1/peers/none', status=404)
    assert rest.ok('GET', '/v1/audit')['count'] == before
    rest.ok('PUT', '/v1/policy', document())  # the twin
    assert rest.ok('GET', '/v1/audit')['count'] == before + 2


@pytest.mark.parametrize('who, method, target, body, status, role', [
    ('bob', 'PUT', '/v1/policy', document(), 403, 'viewer'),
    ('bob', 'GET', '/v1/audit', None, 403, 'viewer'),
    ('eve', 'GET', '/v1/status', None, 403, 'none'),
    ('eve', 'DELETE', '/v1/peers/csmf-1', None, 403, 'none'),
    ('alice', 'POST', '/v1/nowhere', {}, 404, 'operator'),
    ('alice', 'DELETE', '/v1/policy', None, 405, 'operator'),
    ('alice', 'PUT', '/v1/policy?dryRun=true', {}, 422, 'operator'),
])
def test_what_is_refused_is_recorded_once(control, rest, who, method, target, body, status, role):
    client = Contract(control, who)
    client.problem(method, target, body, status=status)
    client.close()
    one, = records(rest, outcome='refused')
    assert (one['who'], one['action']) == (who, method)
    assert one['subject'] == target.partition('?')[0]
    assert (one['detail']['status'], one['detail']['role']) == (status, role)


def test_a_change_that_is_refused_later_says_so(rest):
    rest.problem('POST', '/v1/peers', peer(colour='red'), status=422)
    begun, refused = records(rest, action='POST')
    assert (begun['outcome'], refused['outcome']) == ('begun', 'refused')
    rest.ok('POST', '/v1/peers', peer(), status=201)
    assert [one['outcome'] for one in records(rest, action='POST')][2:] == ['begun', 'done']


def test_a_body_that_is_too_large_is_recorded(rest):
    rest.problem('PUT', '/v1/policy', b' ' * (5 << 20), status=413)
    one, = records(rest, outcome='refused')
    assert (one['who'], one['detail']['status']) == ('alice', 413)


def test_no_key_is_in_it(control, rest):
    key = os.urandom(20).hex()
    rest.ok('PUT', '/v1/policy', document())
    answer = rest.request('POST', '/v1/sas', sa('in', 0x1001, key))
    assert answer.status == 503  # no dataplane; recorded all the same
    begun, failed = records(rest, action='POST')
    assert (begun['outcome'], failed['outcome']) == ('begun', 'failed')
    assert begun['digest'] == digest(sa('in', 0x1001, key))
    content = control.log_file.read_text(encoding='utf-8')
    assert key not in content and key[:16] not in content


def test_pages(rest):
    for number in range(3):
        rest.ok('PUT', '/v1/policy', document(peers=[peer(number=number + 2)]))
    page = rest.ok('GET', '/v1/audit?from=2&count=4')
    assert [one['number'] for one in page['items']] == [2, 3, 4, 5]
    assert page['count'] == 7 and page['next'] == 6
    last = rest.ok('GET', '/v1/audit?from=6')
    assert [one['number'] for one in last['items']] == [6, 7] and 'next' not in last
    assert rest.ok('GET', '/v1/audit?from=8')['items'] == []
    for wrong in 'from=0', 'from=x', 'count=1001', 'count=0', 'number=1':
        rest.problem('GET', f'/v1/audit?{wrong}', status=400)


# ---- what cannot be recorded is not done


def test_without_room_for_the_log_changes_are_refused(control, rest):
    rest.ok('PUT', '/v1/policy', document())
    pid = control.process.pid
    assert 'portcullis-control' in os.readlink(f'/proc/{pid}/exe')
    old = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (control.log_file.stat().st_size + 20, old[1]))
    try:
        problem = rest.problem('PUT', '/v1/policy', document(peers=[]), status=503)
        assert 'audit log' in problem['detail']
        assert len(rest.ok('GET', '/v1/peers')['items']) == 1
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, old)
    assert 'audit_failed' in rest.ok('GET', '/v1/events?follow=false')
    rest.ok('DELETE', '/v1/policies/manage')  # the twin


# ---- verification


class Verify:
    """portcullisctl audit verify, of a copy of the log, which may be changed before."""

    def __init__(self, control, rest, folder):
        self.log = folder / 'copy.log'
        self.log.write_bytes(control.log_file.read_bytes())
        self.key = folder / 'audit.pub'
        subprocess.run(['openssl', 'pkey', '-in', control.log_file.with_name('audit.key'),
                        '-pubout', '-out', self.key], check=True)
        self.anchor = folder / 'anchor.json'
        self.anchor.write_text(json.dumps(rest.ok('GET', '/v1/audit/checkpoint')), encoding='ascii')

    def __call__(self, *options, expect):
        done = subprocess.run([BIN / 'portcullisctl', 'audit', 'verify', *options, self.log],
                              capture_output=True, text=True, check=False)
        assert done.returncode == expect, (done.stdout, done.stderr)
        return done.stdout + done.stderr

    def lines(self, change):
        lines = self.log.read_text(encoding='utf-8').splitlines(keepends=True)
        change(lines)
        self.log.write_text(''.join(lines), encoding='utf-8')


@pytest.fixture
def verify(control, rest, tmp_path):
    for number in range(3):
        rest.ok('PUT', '/v1/policy', document(peers=[peer(number=number + 2)]))
    return Verify(control, rest, tmp_path)


def test_an_intact_log_verifies(verify):
    text = verify('--key', verify.key, '--anchor', verify.anchor, expect=INTACT)
    assert 'intact: 7 records' in text and 'no --' not in text
    text = verify(expect=INTACT)
    assert 'no --key' in text and 'no --anchor' in text
    report = json.loads(verify('--json', '--key', verify.key, expect=INTACT))
    assert report['intact'] and report['count'] == 7 and report['signatures_checked']


@pytest.mark.parametrize('change, number', [
    (lambda lines: lines.__setitem__(3, lines[3].replace('alice', 'carol')), 4),
    (lambda lines: lines.pop(3), 4),
    (lambda lines: lines.insert(3, lines[1]), 4),
    (lambda lines: lines.insert(3, lines.pop(5)), 4),
], ids=['changed', 'deleted', 'inserted', 'moved'])
def test_tampering_is_found_and_placed(verify, change, number):
    verify.lines(change)
    assert f'NOT INTACT: record {number}:' in verify(expect=NOT_INTACT)
    report = json.loads(verify('--json', expect=NOT_INTACT))
    assert report['wrong']['number'] == number and not report['intact']


def test_a_cut_off_end_is_found_with_an_anchor(verify):
    verify.lines(lambda lines: lines.__delitem__(slice(5, None)))
    verify('--key', verify.key, expect=INTACT)
    text = verify('--key', verify.key, '--anchor', verify.anchor, expect=NOT_INTACT)
    assert 'record 6: it is missing' in text


def test_files_that_are_none_are_a_usage_error(verify, tmp_path):
    assert 'absent' in verify('--key', tmp_path / 'absent.pub', expect=USAGE)
    assert 'copy.log' in verify('--key', verify.log, expect=USAGE)
    assert 'copy.log' in verify('--anchor', verify.log, expect=USAGE)
    verify.log.unlink()
    assert 'copy.log' in verify(expect=USAGE)


def test_the_signature_is_what_the_document_says(control, verify, tmp_path):
    """Checked by openssl alone, from the description in openapi.yaml."""
    checkpoint = json.loads(verify.anchor.read_text(encoding='ascii'))
    text = 'portcullis audit checkpoint 1\n' + ''.join(
        f'{checkpoint[name]}\n' for name in ('count', 'head', 'time', 'boot_id', 'boot_ms', 'key'))
    (tmp_path / 'text').write_text(text, encoding='ascii')
    (tmp_path / 'signature').write_bytes(bytes.fromhex(checkpoint['signature']))
    subprocess.run(['openssl', 'pkeyutl', '-verify', '-pubin', '-inkey', verify.key, '-rawin',
                    '-in', tmp_path / 'text', '-sigfile', tmp_path / 'signature'], check=True)
    # And the chain by hashlib alone.
    head = bytes(32)
    lines = control.log_file.read_text(encoding='utf-8').splitlines()
    for line in lines[:checkpoint['count']]:
        hexed, text = line.split(' ', 1)
        head = hashlib.sha256(head + text.encode()).digest()
        assert head.hex() == hexed
    assert head.hex() == checkpoint['head']


# ---- remote log


def test_every_record_goes_to_the_remote_log(control, namespace, rest):
    rest.close()
    control.stop()
    with namespace.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
        collector.bind(('127.0.0.1', 0))
        collector.settimeout(30)
        control.config['audit'] = {'syslog': {'address': '127.0.0.1',
                                              'port': collector.getsockname()[1]}}
        control.config_file.write_text(yaml.safe_dump(control.config), encoding='ascii')
        before = len(control.log_file.read_text(encoding='utf-8').splitlines())
        control.start(ready=False)
        rest.ok('PUT', '/v1/policy', document())
        lines = control.log_file.read_text(encoding='utf-8').splitlines()[before + 1:]
        assert len(lines) == 2
        for line in lines:
            got = collector.recv(65536).decode()
            assert re.match(r'<109>1 \d{4}-\d\d-\d\dT[\d:.]+Z \S+ portcullis-control \d+ audit - ', got)
            assert got.endswith(' ' + line)
    assert 'portcullis_audit_syslog_lost_total 0' in rest.ok('GET', '/metrics')


# ---- the clock


def test_a_clock_below_what_was_seen_is_not_believed(control, rest):
    assert rest.ok('GET', '/v1/status')['clock'] == 'ok'
    rest.close()
    control.stop()

    def set_mark(change):
        with contextlib.closing(sqlite3.connect(control.store)) as store, store:
            store.execute(f'UPDATE time_guard SET mark = mark {change}')
    set_mark('+ 3600000')  # as if the clock had been an hour later when control last saw it
    control.start(ready=False)
    assert wait_until(lambda: rest.ok('GET', '/v1/status')['clock'] == 'stepped_back', 30)
    assert 'event: time_step' in rest.ok('GET', '/v1/events?follow=false')
    assert 'portcullis_clock_ok 0' in rest.ok('GET', '/metrics')
    rest.close()
    control.stop()
    set_mark('- 3600000')
    control.start(ready=False)  # the twin
    assert rest.ok('GET', '/v1/status')['clock'] == 'ok'
    assert 'portcullis_clock_ok 1' in rest.ok('GET', '/metrics')


# ---- restarts


def test_killed_and_started_again_the_chain_goes_on(control, rest, tmp_path):
    rest.ok('PUT', '/v1/policy', document())
    control.kill()
    with control.log_file.open('ab') as log:
        log.write(b'0123')  # as if killed in the middle of an append
    rest.close()
    control.start(ready=False)
    opened = records(rest, action='open')
    assert len(opened) == 2 and opened[1]['detail'] == {'unsigned': 3, 'cut': 4}
    rest.ok('PUT', '/v1/policy', document(peers=[peer(number=9)]))
    verify = Verify(control, rest, tmp_path)
    verify('--key', verify.key, '--anchor', verify.anchor, expect=INTACT)


def test_control_does_not_write_on_a_log_that_was_changed(control, rest):
    rest.ok('PUT', '/v1/policy', document())
    rest.close()
    control.stop()
    intact = control.log_file.read_bytes()
    control.log_file.write_bytes(intact.replace(b'alice', b'carol', 1))
    control.launch()
    assert control.process.wait(30) == 1
    assert re.search(r'audit\.log.*record 2 is wrong', control.log_tail())
    control.log_file.write_bytes(intact)
    control.start(ready=False)  # the twin
