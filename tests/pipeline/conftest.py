"""The gates that the pipeline tests share. Every test makes peers of its own on them."""

import pytest

pytest.register_assert_rewrite('gate')

from gate import Gate  # noqa: E402


@pytest.fixture(scope='session', params=[1, 2], ids=['one worker', 'two workers'])
def gate(request, tmp_path_factory):
    """The default gate: every test that takes it runs with one worker and again with two, where
    packets come in on one worker and are handed to the one that owns the SA."""
    with Gate(tmp_path_factory.mktemp('gate'), workers=request.param) as it:
        yield it
        assert it.alive(), it.log()


@pytest.fixture(scope='module')
def make_gate(tmp_path_factory):
    """Gates with settings of their own, for one file."""
    gates = []

    def make(**settings):
        gate = Gate(tmp_path_factory.mktemp('gate'), **settings).__enter__()
        gates.append(gate)
        return gate

    yield make
    for gate in gates:
        alive = gate.alive()
        log = gate.log()
        gate.close()
        assert alive, log
