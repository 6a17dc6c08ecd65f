"""Keys go in over REST and never come out: not in an answer, the log, the store or memory."""

import base64
import contextlib
import re
import stat

from rest_contract import document, sa
from rest_gate import control, dataplane, key, namespace, pki, rest, world  # noqa: F401


def test_a_key_is_taken_once(rest):
    rest.ok('PUT', '/v1/policy', document())
    used = key()
    rest.ok('POST', '/v1/sas', sa('in', 0x1001, used), status=201)
    rest.problem('POST', '/v1/sas', sa('in-2', 0x1002, used), status=409, field='/key',
                 detail='used before')
    rest.problem('PUT', '/v1/sas/in', sa('in', 0x1002, used), status=409, field='/key')
    rest.ok('DELETE', '/v1/sas/in')
    rest.problem('POST', '/v1/sas', sa('in', 0x1001, used), status=409, field='/key')
    rest.problem('POST', '/v1/sas?dryRun=true', sa('in', 0x1001, used.upper()), status=409)
    rest.ok('POST', '/v1/sas', sa('in', 0x1001, key()), status=201)  # the twin


def test_wrong_sas_are_refused_and_their_key_can_still_be_used(rest):
    rest.ok('PUT', '/v1/policy', document())
    good = key()
    for change, status, field in [
            ({'peer': 'nobody'}, 422, '/peer'), ({'spi': '0x000000ff'}, 422, '/spi'),
            ({'algorithm': '3des-cbc'}, 422, '/algorithm'), ({'algorithm': 'null'}, 422,
                                                             '/algorithm'),
            ({'key': good[2:]}, 422, '/key'), ({'replay_window': 9000}, 422, '/replay_window'),
            ({'selectors': []}, 422, '/selectors'),
            ({'tunnel': {'local': '192.0.2.1', 'remote': '2001:db8::1'}}, 422, '/tunnel/remote')]:
        rest.problem('POST', '/v1/sas', {**sa('in', 0x1001, good), **change}, status=status,
                     field=field)
    rest.ok('POST', '/v1/sas', sa('in', 0x1001, good), status=201)
    rest.problem('POST', '/v1/sas', sa('in', 0x1002, key()), status=409, field='/id')
    rest.problem('POST', '/v1/sas', sa('in-2', 0x1001, key()), status=409, field='/spi')
    rest.problem('PUT', '/v1/sas/none', sa('none', 0x1003, key()), status=404)


def test_a_replacement_needs_an_spi_of_its_own(rest):
    """Packets under way were protected with the old key, so the new one would refuse them."""
    rest.ok('PUT', '/v1/policy', document())
    rest.ok('POST', '/v1/sas', sa('in', 0x1001, key()), status=201)
    again = key()
    for target in ('/v1/sas/in', '/v1/sas/in?dryRun=true'):  # not only once the dataplane is asked
        rest.problem('PUT', target, sa('in', 0x1001, again), status=409, field='/spi',
                     detail='under way')
    rest.ok('PUT', '/v1/sas/in', sa('in', 0x1002, again), status=200)
    rest.ok('PUT', '/v1/sas/in', sa('in-2', 0x1001, key()), status=200)  # it is free again


def forms_of(text):
    """The ways in which a key could have been written down."""
    raw = bytes.fromhex(text)
    return [text.encode(), text.upper().encode(), raw, base64.b64encode(raw).rstrip(b'='),
            base64.urlsafe_b64encode(raw).rstrip(b'='), ':'.join(f'{b:02x}' for b in raw).encode()]


def memory_of(pid):
    """(permissions, locked, content) of each readable private mapping."""
    with open(f'/proc/{pid}/smaps', encoding='ascii') as smaps:
        text = smaps.read()
    with open(f'/proc/{pid}/mem', 'rb', 0) as memory:
        for block in re.split(r'\n(?=[0-9a-f]+-[0-9a-f]+ )', text):
            span = re.match(r'([0-9a-f]+)-([0-9a-f]+) (\S+)', block)
            if 'r' not in span[3] or 'w' not in span[3]:
                continue
            first, last = int(span[1], 16), int(span[2], 16)
            with contextlib.suppress(OSError, OverflowError):
                memory.seek(first)
                yield re.search(r'VmFlags:.*\blo\b', block) is not None, memory.read(last - first)


def test_a_key_goes_in_and_never_comes_out(rest, control):
    """Not in an answer, the log, the store, or memory that is not locked; good, refused or
    malformed made no difference."""
    rest.ok('PUT', '/v1/policy', document())
    keys = {name: key() for name in ('installed', 'replaced', 'gone', 'twice', 'wrong', 'broken',
                                     'elsewhere', 'dry')}
    rest.ok('POST', '/v1/sas', sa('a', 0x1001, keys['replaced']))
    rest.ok('PUT', '/v1/sas/a', sa('a', 0x1002, keys['installed']))
    rest.ok('POST', '/v1/sas', sa('b', 0x1003, keys['gone']))
    rest.ok('DELETE', '/v1/sas/b')
    rest.ok('POST', '/v1/sas', sa('c', 0x1004, keys['twice']))
    rest.problem('POST', '/v1/sas', sa('d', 0x1005, keys['twice']), status=409)
    rest.problem('POST', '/v1/sas', sa('d', 0xff, keys['wrong']), status=422)
    rest.problem('POST', '/v1/sas', ('{"key": ' + keys['broken'] + '}').encode(), status=400)
    rest.problem('POST', '/v1/sas', {**sa('d', 0x1006, key()), 'spi': keys['elsewhere']},
                 status=422)
    rest.ok('POST', '/v1/sas?dryRun=true', sa('e', 0x1007, keys['dry']))
    rest.ok('DELETE', '/v1/sas/c')
    for path in ('/v1/sas', '/v1/sas/a', '/v1/status', '/v1/events?follow=false', '/metrics',
                 '/v1/policy', '/v1/counters?by=sa'):
        rest.ok('GET', path)

    files = [control.log, *control.store.parent.glob('control.db*')]
    assert len(files) >= 2
    places = {str(path): path.read_bytes() for path in files}
    places['answers'] = b'\n'.join(rest.contents)
    for name, one in keys.items():
        for form in forms_of(one):
            for place, content in places.items():
                assert form not in content, f'the {name} key is in {place}'

    installed = bytes.fromhex(keys['installed'])
    found_locked = 0
    for locked, content in memory_of(control.process.pid):
        found_locked += locked and content.count(installed)
        for name, one in keys.items():
            text, upper, raw, *_ = forms_of(one)
            assert text not in content and upper not in content, f'the {name} key as text'
            assert locked or raw not in content, f'the {name} key in memory that may be swapped'
            assert name == 'installed' or raw not in content, f'the {name} key is still there'
    assert found_locked == 1  # this search does find keys


def test_nobody_else_can_look(control):
    for path in control.store.parent.glob('control.db*'):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with open(f'/proc/{control.process.pid}/limits', encoding='ascii') as limits:
        core = next(line for line in limits if line.startswith('Max core file size'))
    assert core.split()[4:6] == ['0', '0']
