"""portcullisctl against a real control with a real dataplane: what it shows is what is there, and
each exit code is met where it is meant, with a twin where the same thing, made right, exits 0."""

import json
import os
import re
import subprocess
import time

import pytest
import yaml

from netns import Namespaces, wait_until
from processes import BIN, ROOT, Pki
from tunnel import Tunnel, peer_body, policy_body, sa_body

OK, REFUSED, USAGE, UNREACHABLE, NOT_ALLOWED, SERVER_ERROR, DIFFERENCE = range(7)


def environment(pki, operator, port=8443):
    certificate, key = pki.clients[operator]
    return {**os.environ, 'HOME': str(pki.folder), 'XDG_CONFIG_HOME': str(pki.folder),
            'PORTCULLIS_URL': f'https://127.0.0.1:{port}', 'PORTCULLIS_CA': str(pki.ca),
            'PORTCULLIS_CERT': str(certificate), 'PORTCULLIS_KEY': str(key)}


class Ctl:
    """Runs portcullisctl inside the gate's namespace, as one operator."""

    def __init__(self, tunnel, operator='alice', **changes):
        self.namespace = tunnel.gate
        self.environment = {**environment(tunnel.pki, operator), **changes}

    def __call__(self, *arguments, expect=OK, stdin=None):
        """Its output; for an expected failure, what it says on standard error."""
        done = self.namespace.run([BIN / 'portcullisctl', *arguments], check=False, timeout=30,
                                  env=self.environment, input=stdin)
        assert done.returncode == expect, (arguments, done.returncode, done.stdout, done.stderr)
        return done.stdout if done.returncode in (OK, DIFFERENCE) else done.stderr

    def json(self, *arguments, **more):
        return json.loads(self(*arguments, '--json', **more))


@pytest.fixture(scope='module')
def tunnel(tmp_path_factory):
    gate = Tunnel(tmp_path_factory.mktemp('cli'))
    yield gate
    gate.close()


@pytest.fixture
def ctl(tunnel):
    return Ctl(tunnel)


@pytest.fixture
def policy(tunnel, tmp_path):
    """Writes the policy in force, changed by a function, to a file."""
    def write(change=lambda document: None, name='policy.yaml'):
        document = policy_body([peer_body()])
        change(document)
        path = tmp_path / name
        dump = json.dumps if name.endswith('json') else yaml.safe_dump
        path.write_text(dump(document), encoding='ascii')
        return path
    return write


# ---- what it shows is what is there


def test_status_names_what_stands(tunnel, ctl):
    text = ctl('status')
    assert tunnel.dataplane.instance in text
    assert 'alice (operator)' in text
    assert re.search(r'^wire +untrusted +wire0 +up +1500', text, re.M), text
    status = ctl.json('status')
    assert (status['operator'], status['ready']) == ('alice', True)
    assert status['dataplane']['instance'] == tunnel.dataplane.instance
    # Nobody has started a guard here.
    assert [line.split()[0] for line in text.splitlines() if 'NOT' in line] == ['guard']


def test_tables_and_json_say_the_same(ctl):
    for command, name in (('interfaces', 'nsmf'), ('peers', 'csmf-1'), ('policies', 'manage'),
                          ('sas', 'in')):
        listed = ctl(command).splitlines()
        as_json = ctl.json(command)['items']
        assert [line.split()[0] for line in listed[1:]] == \
            [item.get('name', item.get('id')) for item in as_json]
        assert ctl(command, 'list') .splitlines()[0] == listed[0]
        shown = yaml.safe_load(ctl(command, 'show', name))
        assert name in (shown.get('name'), shown.get('id'))


def test_no_key_is_ever_shown(tunnel, ctl):
    key = tunnel.inbound.key.hex()
    shown = ctl('sas') + ctl('sas', '--json') + ctl('sas', 'show', 'in') + ctl('events')
    assert 'fingerprint' in shown and key not in shown


def test_counters_count_the_traffic(tunnel, ctl):
    before = ctl.json('counters')['total']['verdicts']
    for number in range(5):
        tunnel.send_inbound(number + 1_000_000)

    def accepted():
        return ctl.json('counters')['total']['verdicts']['accepted'] - before['accepted']
    assert wait_until(lambda: accepted() >= 5), accepted()
    line = next(line for line in ctl('counters').splitlines() if line.startswith('accepted'))
    assert 'passed every check' in line
    for by, name in (('peer', 'csmf-1'), ('sa', 'in'), ('worker', '0')):
        rows = {row['name']: row for row in ctl.json('counters', '--by', by)['rows']}
        assert rows[name]['verdicts']['accepted'] >= 5
        assert re.search(rf'^{name} +accepted', ctl('counters', '--by', by), re.M)


def test_watched_counters_have_rates_and_end(ctl):
    start = time.monotonic()
    text = ctl('counters', '--watch', '0.2', '--times', '3', '--all')
    assert 0.4 <= time.monotonic() - start < 20
    assert text.count('PER SECOND') == 2  # the first has nothing to compare with
    reports = ctl('counters', '--watch', '0.1', '--times', '2', '--json').splitlines()
    assert [json.loads(report)['by'] for report in reports] == ['verdict', 'verdict']


def test_events_are_kept_and_followed(tunnel, ctl):
    kinds = {json.loads(line)['kind'] for line in ctl('events', '--json').splitlines()}
    assert 'policy_applied' in kinds and 'connected' in kinds
    follower = tunnel.gate.popen([BIN / 'portcullisctl', 'events', '--follow', '--json'],
                                 stdout=subprocess.PIPE, text=True, env=ctl.environment)
    try:
        seen = [json.loads(follower.stdout.readline())]  # it is connected
        ctl('peers', 'revoke', 'csmf-1')
        ctl('peers', 'revoke', 'csmf-1', '--undo')
        for _ in range(100):
            seen.append(json.loads(follower.stdout.readline()))
            if seen[-1]['kind'] == 'operator':
                break
        assert seen[-1].get('operator') == 'alice', seen
        ids = [event['id'] for event in seen]
        assert len(set(ids)) == len(ids)
    finally:
        tunnel.gate.stop(follower)
        follower.stdout.close()


def test_the_pipeline_is_drawn_in_order(ctl):
    stages = ctl.json('pipeline')
    text = ctl('pipeline')
    drawn = re.findall(r'│ (\w+)', text)
    assert drawn == stages['inbound'] + stages['outbound']
    assert drawn[0] == 'parse' and drawn.count('forward') == 2
    dot = ctl('pipeline', '--dot')
    assert dot.startswith('digraph') and ' -> '.join(
        f'"inbound/{stage}"' for stage in stages['inbound']) in dot


def test_the_drawing_in_the_docs_is_the_programs_own(ctl):
    page = (ROOT / 'docs' / 'pipeline.md').read_text(encoding='utf-8')
    drawing = re.search(r'```\n(.*?)```', page, re.S)
    assert drawing[1] == ctl('pipeline')


# ---- changes


def test_a_policy_shown_can_be_applied_again(ctl):
    shown = ctl('policy', 'show')
    assert 'no difference' in ctl('policy', 'diff', '-', stdin=shown)
    ctl('policy', 'apply', '-', stdin=shown)


def test_diff_exits_6_and_apply_makes_it_0(ctl, policy):
    def slower(document):
        document['peers'][0]['rate'] = {'packets_per_second': 77}
    for name in ('policy.yaml', 'policy.json'):
        changed = policy(slower, name)
        assert '~ peer csmf-1' in ctl('policy', 'diff', changed, expect=DIFFERENCE)
        ctl('policy', 'apply', '--dry-run', changed)
        ctl('policy', 'diff', changed, expect=DIFFERENCE)  # it was a rehearsal
        assert 'in force' in ctl('policy', 'apply', changed)
        assert ctl('policy', 'diff', changed) == 'no difference\n'
        assert '77 packets/s' in ctl('peers')
        ctl('policy', 'apply', policy())
        assert '77 packets/s' not in ctl('peers')


def test_a_peer_comes_and_goes(ctl):
    body = json.dumps(peer_body('csmf-2', '10.1.0.3', '192.0.2.3'))
    assert 'would change' in ctl('peers', 'add', '--dry-run', '-', stdin=body)
    ctl('peers', 'show', 'csmf-2', expect=REFUSED)
    ctl('peers', 'add', '-', stdin=body)
    ctl('peers', 'show', 'csmf-2')
    ctl('peers', 'add', '-', stdin=body, expect=REFUSED)  # it is there already
    ctl('peers', 'add', '--replace', '-', stdin=body)
    ctl('peers', 'delete', 'csmf-2')
    ctl('peers', 'show', 'csmf-2', expect=REFUSED)
    ctl('peers', 'delete', 'csmf-2', expect=REFUSED)


def test_a_revoked_peer_is_out_until_it_is_admitted_again(tunnel, ctl):
    assert tunnel.passes()
    ctl('peers', 'revoke', 'csmf-1')
    assert not tunnel.passes(timeout=1)
    assert 'revoked' in ctl('status')
    ctl('peers', 'revoke', 'csmf-1', '--undo')
    assert tunnel.passes()


def test_revocations_are_added_listed_and_removed(tunnel, ctl):
    assert 'nothing is revoked' in ctl('revocations')
    policy = ('policy', 'manage')
    assert 'would change' in ctl('revocations', 'add', *policy, '--dry-run')
    assert tunnel.passes()
    ctl('revocations', 'add', *policy, '--reason', 'mistake')
    assert not tunnel.passes(timeout=1)
    ctl('revocations', 'add', 'certificate', '1a:2f', '--issuer', 'CN=peers CA', '--until',
        '2099-01-31T12:00:00Z')
    listed = ctl('revocations')
    assert 'manage' in listed and 'mistake' in listed and '1A2F' in listed and '2099' in listed
    ctl('revocations', 'remove', *policy)
    ctl('revocations', 'remove', 'certificate', '1a:2f', '--issuer', 'CN=peers CA')
    assert 'nothing is revoked' in ctl('revocations', 'list')
    assert tunnel.passes()
    ctl('revocations', 'add', 'key', 'k1', expect=REFUSED)  # whose?


def test_sas_from_a_file(tunnel, ctl, tmp_path):
    pair = tunnel.new_pair(0x7011)
    bodies = [sa_body('cli-in', 'csmf-1', 'inbound', pair[0]),
              sa_body('cli-out', 'csmf-1', 'outbound', pair[1])]
    path = tmp_path / 'sas.yaml'
    path.write_text(yaml.safe_dump(bodies), encoding='ascii')
    ctl('sas', 'add', path)
    assert {'cli-in', 'cli-out'} <= {item['id'] for item in ctl.json('sas')['items']}
    for name in ('cli-in', 'cli-out'):
        ctl('sas', 'delete', name)
    assert 'security association cli-in' in ctl('sas', 'add', path, expect=REFUSED)  # used keys


# ---- exit codes, each with its twin


def test_1_a_refusal_is_one_sentence_with_field_expected_and_found(ctl, policy):
    def broken(document):
        document['interfaces'][0]['zone'] = 'moon'
    said = ctl('policy', 'apply', policy(broken), expect=REFUSED)
    assert said.startswith('portcullisctl: ') and said.count('\n') == 1
    assert 'field /interfaces/0/zone' in said
    assert 'expected' in said and 'found' in said and 'moon' in said
    problem = json.loads(ctl('policy', 'apply', policy(broken), '--json', expect=REFUSED))
    assert problem['field'] == '/interfaces/0/zone' and problem['exit_code'] == REFUSED
    ctl('policy', 'apply', policy())


def test_2_usage(ctl, policy, tmp_path):
    broken = tmp_path / 'broken.yaml'
    broken.write_text('interfaces: [1, 2\npeers: {}\n', encoding='ascii')
    assert f'{broken}:2:' in ctl('policy', 'diff', broken, expect=USAGE)
    ctl('policy', 'diff', tmp_path / 'none.yaml', expect=USAGE)
    ctl('policy', 'diff', expect=USAGE)
    ctl('policies', 'dance', expect=USAGE)
    ctl('status', '--url', 'http://127.0.0.1:8443', expect=USAGE)
    ctl('status', '--ca', tmp_path / 'none.pem', expect=USAGE)
    ctl('policy', 'diff', policy())
    ctl('status')


def test_3_unreachable(tunnel, ctl):
    ctl('status', '--url', 'https://127.0.0.1:8444', expect=UNREACHABLE)
    tunnel.control.kill()
    said = ctl('status', expect=UNREACHABLE)
    assert 'https://127.0.0.1:8443' in said and said.count('\n') == 1
    tunnel.control.start()
    ctl('status')


def test_4_not_authenticated_in_either_direction(tunnel, ctl, tmp_path):
    stranger = Pki(tmp_path / 'stranger')
    # Control does not know our CA ...
    ctl('status', '--cert', stranger.clients['alice'][0], '--key', stranger.clients['alice'][1],
        expect=NOT_ALLOWED)
    # ... we do not know control's ...
    assert 'not the control that we trust' in ctl('status', '--ca', stranger.ca,
                                                  expect=NOT_ALLOWED)
    # ... or it is another machine's certificate.
    assert 'another name' in ctl('status', '--server-name', 'gate.example', expect=NOT_ALLOWED)
    ctl('status', '--server-name', 'localhost')
    ctl('status')


def test_4_not_authorised(tunnel, ctl, policy):
    viewer = Ctl(tunnel, 'bob')
    assert 'viewer' in viewer('status')
    viewer('policy', 'apply', policy(), expect=NOT_ALLOWED)
    viewer('sas', 'delete', 'in', expect=NOT_ALLOWED)
    ctl('policy', 'apply', policy())


def test_5_the_dataplane_is_away(tunnel, ctl):
    tunnel.dataplane.kill()
    assert wait_until(lambda: not ctl.json('status')['dataplane']['connected'])
    ctl('counters', expect=SERVER_ERROR)
    ctl('pipeline', expect=SERVER_ERROR)
    assert 'NOT CONNECTED' in ctl('status')
    tunnel.dataplane.start()
    tunnel.control.wait_ready()
    ctl('counters')
    ctl('pipeline')


def test_settings_from_a_file(tunnel, tmp_path):
    certificate, key = tunnel.pki.clients['alice']
    (tmp_path / 'portcullis').mkdir()
    file = tmp_path / 'portcullis' / 'ctl.yaml'
    settings = {'url': 'https://127.0.0.1:8443', 'ca': str(tunnel.pki.ca),
                'certificate': str(certificate), 'key': str(key)}
    file.write_text(yaml.safe_dump(settings), encoding='ascii')
    empty = {f'PORTCULLIS_{name}': '' for name in ('URL', 'CA', 'CERT', 'KEY')}
    Ctl(tunnel, XDG_CONFIG_HOME=str(tmp_path), **empty)('status')
    Ctl(tunnel, **empty)('status', '--config', file)
    Ctl(tunnel, **empty)('status', expect=USAGE)


# ---- check-host, which needs no control


def check(namespace, *arguments, prefix=()):
    done = namespace.run([*prefix, BIN / 'portcullisctl', 'check-host', *arguments, '--json'],
                         check=False)
    answer = json.loads(done.stdout)
    assert done.returncode == (OK if answer['can_run'] else REFUSED)
    return answer['can_run'], {f['what']: f for f in answer['findings']}


@pytest.fixture(scope='module')
def host():
    with Namespaces('host') as world:
        gate, other = world.add('gate'), world.add('other')
        gate.forwarding(False)
        world.veth(gate, 'wire0', other, 'wire0')
        yield gate


def test_this_host_can_run_the_gate(host):
    fit, findings = check(host, '--interface', 'wire0')
    assert fit, [f for f in findings.values() if f['status'] == 'missing']
    assert findings['XDP and AF_XDP on veth']['status'] == 'ok'
    assert findings['wire0: forwarding']['found'] == 'off'
    assert 'pcchk' not in host.run(['ip', 'link'])  # it left nothing behind
    text = host.run([BIN / 'portcullisctl', 'check-host', '--interface', 'wire0'])
    assert text.endswith('This host can run the gate.\n')


def test_what_an_interface_lacks_is_said_with_its_cure(host):
    for break_it, what in ((['ip', 'link', 'set', 'wire0', 'mtu', '9000'], 'wire0: MTU'),
                           (['ip', 'link', 'set', 'wire0', 'down'], 'wire0: state'),
                           (['sysctl', '-w', 'net.ipv4.conf.wire0.forwarding=1'],
                            'wire0: forwarding')):
        host.run(break_it)
        fit, findings = check(host, '--interface', 'wire0')
        assert not fit and findings[what]['status'] == 'missing', what
        host.run(['sh', '-c', findings[what]['fix'].split(', or ')[0]])
        fit, findings = check(host, '--interface', 'wire0')
        assert fit and findings[what]['status'] == 'ok', what
    assert not check(host, '--interface', 'none0')[0]


@pytest.mark.parametrize('capability', ['net_admin', 'net_raw', 'bpf', 'ipc_lock'])
def test_a_missing_capability_is_said(host, capability):
    # Without CAP_SYS_ADMIN too, which includes CAP_BPF.
    dropped = f'-{capability},-sys_admin'
    fit, findings = check(host, prefix=['setpriv', '--bounding-set', dropped])
    finding = findings[f'CAP_{capability.upper()}']
    assert not fit and finding['status'] == 'missing' and 'AmbientCapabilities' in finding['fix']
    others = [f for name, f in findings.items() if name.startswith('CAP_') and f is not finding]
    assert all(f['status'] == 'ok' for f in others)


def test_a_dataplane_configuration_is_checked_whole(host, tmp_path):
    config = {'instance': 'cli', 'ports': [
        {'name': 'wire', 'role': 'untrusted', 'device': {'interface': 'wire0'}},
        {'name': 'core', 'role': 'trusted', 'device': {'interface': 'core0'}}]}
    path = tmp_path / 'dataplane.yaml'
    path.write_text(yaml.safe_dump(config), encoding='ascii')
    fit, findings = check(host, '--dataplane', path)
    assert not fit and 'core0' in findings['port core']['found']
    config['ports'][1]['device'] = {'vdev': 'net_null0'}
    config['ports'][1]['mac'] = '02:00:00:00:00:02'
    path.write_text(yaml.safe_dump(config), encoding='ascii')
    fit, findings = check(host, '--dataplane', path)
    assert fit, findings
    path.write_text('instance: "Not A Name"\n', encoding='ascii')
    assert not check(host, '--dataplane', path)[0]


def test_the_verdicts_are_the_dataplanes(tunnel, ctl):
    listed = [verdict['name'] for verdict in ctl.json('verdicts')]
    assert set(listed) == set(ctl.json('counters')['total']['verdicts'])
