"""What the dataplane refuses to be told: each wrong field of an SA or a policy is named, nothing of
it takes effect, and the same made right works."""

import os

import pytest

from steer_client import SteerError, pb, sa


def refused(gate, spec):
    """The failure of the only SA."""
    before = {name: state.spec.spi for name, state in gate.steer.list_sas().items()}
    (result,) = gate.steer.try_add_sas([spec])
    assert result.HasField('failure'), spec
    assert {name: state.spec.spi for name, state in gate.steer.list_sas().items()} == before
    return result.failure


WRONG = [
    ('spi', {'spi': 0}), ('spi', {'spi': 255}),
    ('key', {'key': bytes(19)}), ('key', {'key': bytes(21)}), ('key', {'key': b''}),
    ('key', {'algorithm': pb.CHACHA20_POLY1305}),
    ('algorithm', {'algorithm': 0}), ('algorithm', {'algorithm': 6}),
    ('replay_window', {'replay_window': 63}), ('replay_window', {'replay_window': 8193}),
    ('tunnel', {'tunnel': pb.Tunnel(local=bytes(4), remote=bytes(16))}),
    ('tunnel', {'tunnel': pb.Tunnel(local=bytes(5), remote=bytes(4))}),
    ('selectors', {'selectors': []}),
    ('selectors', {'selectors': [pb.Selector(protocol=256)]}),
    ('selectors', {'selectors': [pb.Selector(local_ports=pb.Ports(first=2, last=1))]}),
    ('selectors', {'selectors': [pb.Selector(remote_ports=pb.Ports(first=1, last=65536))]}),
    ('selectors', {'selectors': [pb.Selector(local=pb.Prefix(address=bytes(4), length=33))]}),
    ('id', {'id': ''}),
]


@pytest.mark.parametrize('field,change', WRONG, ids=[f'{w} {n}' for n, (w, _) in enumerate(WRONG)])
def test_each_wrong_field_is_named(gate, field, change):
    link = gate.link()
    good = sa(dict(link.sas[0], id=f'{link.name}-2', spi=link.inbound.spi ^ 0x1000,
                   key=os.urandom(20)))
    wrong = pb.SaSpec()
    wrong.CopyFrom(good)
    for name, value in change.items():
        wrong.ClearField(name)
        if name == 'selectors':
            wrong.selectors.extend(value)
        elif name == 'tunnel':
            wrong.tunnel.CopyFrom(value)
        else:
            setattr(wrong, name, value)
    failure = refused(gate, wrong)
    assert field in failure.where and failure.message
    gate.steer.add_sas([good])
    gate.accepts(link)


def test_names_slots_and_peers_are_unique(gate):
    link = gate.link()
    spec = dict(link.sas[0], key=os.urandom(20), spi=link.inbound.spi ^ 0x1000)
    for wrong in (dict(spec),                                                  # its name is taken
                  dict(spec, id='x', spi=link.inbound.spi ^ 1 << 30),         # its slot
                  dict(spec, id='x', peer='nobody'),
                  dict(spec, id='x', replaces='nothing'),
                  dict(spec, id='x', key=link.inbound.key),                   # its key was used
                  dict(spec, id='x', mode='resume')):
        refused(gate, sa(wrong))
    gate.accepts(link)
    gate.steer.add_sas([dict(spec, id=f'{link.name}-2')])


def test_atomic_means_all_or_none(gate):
    link = gate.link()
    good = dict(link.sas[0], id=f'{link.name}-2', spi=link.inbound.spi ^ 0x1000,
                key=os.urandom(20))
    bad = dict(link.sas[0], id=f'{link.name}-3', spi=7, key=os.urandom(20))
    results = gate.steer.try_add_sas([good, bad], atomic=True)
    assert all(r.HasField('failure') for r in results)
    assert not gate.steer.list_sas().keys() & {good['id'], bad['id']}
    good['key'] = os.urandom(20)
    results = gate.steer.try_add_sas([good, bad])
    assert [r.HasField('failure') for r in results] == [False, True]
    gate.accepts(link)


def test_keys_come_out_only_when_asked_for(gate):
    link = gate.link()
    assert link.state().spec.key == b''
    assert gate.steer.list_sas(with_keys=True)[f'{link.name}-in'].spec.key == link.inbound.key


@pytest.fixture(scope='module')
def serious(make_gate):
    """Not a laboratory. (Its fences are not marked as manually keyed.)"""
    return make_gate(lab=False)


def test_manual_keys_are_for_laboratories(serious):
    assert not serious.steer.hello().lab
    link = serious.link()
    failure = refused(serious, sa(dict(link.sas[0], id='manual', key=os.urandom(20), lab=True,
                                       spi=link.inbound.spi ^ 0x1000)))
    assert 'lab' in failure.message
    failure = refused(serious, sa(dict(link.sas[0], id='open', key=os.urandom(20),
                                       replay_window=0, spi=link.inbound.spi ^ 0x1000)))
    assert 'replay_window' in failure.where
    serious.accepts(link)


def test_unknown_requests_are_answered(gate):
    with pytest.raises(SteerError):
        gate.steer.call()
    assert gate.alive()
