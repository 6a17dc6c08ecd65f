"""What is written for people is held against the programs: the README's verdicts, the examples."""

import itertools
import pathlib
import re
import subprocess

import pytest
import yaml

from processes import BIN, ROOT, Control, Pki
from netns import Namespaces

EXAMPLES = sorted(path for path in (ROOT / 'config' / 'examples').glob('*.yaml')
                  if not path.name.startswith('dataplane-'))


def test_the_readme_has_the_verdicts_that_the_program_has():
    done = subprocess.run([BIN / 'portcullisctl', 'verdicts', '--markdown'], capture_output=True,
                          text=True, check=True)
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    table = re.search(r'<!-- verdicts: .*? -->\n(.*)<!-- end of verdicts -->', readme, re.S)
    assert table[1] == done.stdout


@pytest.mark.parametrize('page', ['README.md', 'CONTRIBUTING.md', 'docs/operator-guide.md',
                                  'docs/benchmarking.md', 'docs/peer.md',
                                  'docs/requirements-coverage.md'])
def test_links_lead_somewhere(page):
    source = ROOT / page
    for target in re.findall(r'\]\(([^)#]+)(?:#[^)]*)?\)', source.read_text(encoding='utf-8')):
        if not target.startswith('http'):
            assert (source.parent / target).exists(), f'{page}: {target}'


def coverage():
    """(requirement, state, [tests]) of each row of docs/requirements-coverage.md."""
    page = (ROOT / 'docs' / 'requirements-coverage.md').read_text(encoding='ascii')
    for row in re.findall(r'^\| (?!row|---)(.*?) \| (.*?) \|(.*)\|$', page, re.M):
        yield row[0], row[1], re.findall(r'`([^`]+)`', row[2])


@pytest.fixture(scope='module')
def tests_there_are():
    """As the table names them: file::function of pytest's, Suite.Name of GoogleTest's."""
    named = set()
    for path in (ROOT / 'tests').rglob('test_*.py'):
        for function in re.findall(r'^def (test_\w+)', path.read_text(encoding='utf-8'), re.M):
            named.add(f'{path.name}::{function}')
    for path in itertools.chain(*((ROOT / part).rglob('*_test.cpp')
                                  for part in ('base', 'bpf', 'control', 'dataplane'))):
        for suite, name in re.findall(r'^(?:TYPED_)?TEST(?:_F|_P)?\(\s*(\w+),\s*(\w+)\)',
                                      path.read_text(encoding='utf-8'), re.M):
            named.add(f'{suite}.{name}')
    return named


def test_every_test_that_the_coverage_names_exists(tests_there_are):
    rows = list(coverage())
    assert len(rows) > 40, 'the table was found'
    missing = {name for _, _, tests in rows for name in tests} - tests_there_are
    assert not missing


def test_every_requirement_has_a_test_or_waits():
    for requirement, state, tests in coverage():
        assert re.match(r'(yes|in part: .+|waits)$', state), requirement
        assert bool(tests) == (state != 'waits'), requirement


def test_every_example_is_listed():
    listed = (ROOT / 'config' / 'examples' / 'README.md').read_text(encoding='utf-8')
    for path in (ROOT / 'config' / 'examples').glob('*.yaml'):
        assert f'`{path.name}`' in listed, path.name


@pytest.fixture(scope='module')
def rest(tmp_path_factory):
    """Control alone, in service (not lab): it validates without a dataplane."""
    folder: pathlib.Path = tmp_path_factory.mktemp('docs')
    with Namespaces('docs') as world:
        control = Control(world.add('host'), folder, folder / 'none.sock', Pki(folder / 'pki'),
                          lab=False)
        control.start(ready=False)
        client = control.rest()
        yield client
        client.close()


@pytest.mark.parametrize('path', EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_admitted_in_service(rest, path):
    document = yaml.safe_load(path.read_text(encoding='utf-8'))
    status, answer = rest.call('PUT', '/v1/policy?dryRun=true', document)
    assert status == 200, answer
    kinds = {item['kind'] for item in answer['would']['added']}
    assert kinds == {'interface', 'peer', 'policy'}
    # The twin: the same document with one rule broken is not.
    document['policies'][0]['interface'] = 'elsewhere'
    assert rest.call('PUT', '/v1/policy?dryRun=true', document)[0] == 422


@pytest.mark.parametrize('path', [
    ROOT / 'config' / 'dataplane.yaml',
    *sorted((ROOT / 'config' / 'examples').glob('dataplane-*.yaml'))], ids=lambda path: path.stem)
def test_every_dataplane_example_is_read(path, tmp_path):
    """--close-ports reads all of the file and then needs only that the interfaces exist."""
    text = path.read_text(encoding='utf-8').replace('instance: ', 'instance: test-', 1)
    config = tmp_path / path.name
    config.write_text(text, encoding='utf-8')
    with Namespaces('examples') as world:
        host, far = world.add('host'), world.add('far')
        for number, port in enumerate(yaml.safe_load(text)['ports']):
            if interface := port['device'].get('interface'):
                world.veth(host, interface, far, f'far{number}')
        program = [BIN / 'portcullis-dataplane', '--config', config]
        done = host.run([*program, '--close-ports'], check=False)
        host.run([*program, '--open-ports'])
        assert done.returncode == 0, done.stderr
        # The twin: with a field that does not exist it is refused, by file and line.
        config.write_text(text + 'surplus: 1\n', encoding='utf-8')
        done = host.run([*program, '--close-ports'], check=False)
        assert done.returncode == 1
        assert f'{config.name}:' in done.stderr and 'surplus' in done.stderr
