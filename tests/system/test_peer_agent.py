"""portcullis-peer against a whole gate: packets both ways, renewals under traffic, restarts, and each
gate that it must not believe, beside the one that it does."""

import os
import re
import signal

import pytest

from agent_world import PSK_PEER, PATIENCE, World, selector
from netns import wait_until
from processes import Guard
from session_peer import PeerPki
from tunnel import PORT


@pytest.fixture(scope='module')
def module_world(tmp_path_factory):
    with World(tmp_path_factory.mktemp('agent')) as w:
        yield w


@pytest.fixture
def world(module_world):
    w = module_world
    w.by_certificate()
    yield w
    assert w.agent.stop() in (0, None), w.agent.log_tail()
    for one in w.sessions():  # that the agent could not end: the guard was away
        w.rest.delete(f"/v1/sessions/{one['id']}")
    if w.peer_dataplane.running():
        assert wait_until(lambda: not w.peer_sas(), 20)


def test_packets_pass_both_ways_and_the_end_is_orderly(world):
    world.agent.start()
    assert world.passes()
    assert [(s['peer'], s['confirmed'], s['generation']) for s in world.sessions()] == \
        [('csmf-1', True, 1)]
    states = {one['id'][-3:]: one['state'] for one in world.rest.get('/v1/sas')['items']}
    assert states['-in']['packets'] > 0 and states['out']['packets'] > 0  # it was ESP
    assert len(world.peer_sas()) == 2
    assert world.agent.stop() == 0
    assert not world.peer_sas() and not world.sessions()
    assert wait_until(lambda: not world.gate_sas(), 20)
    assert not world.passes(timeout=1)


def test_renewals_under_traffic_lose_nothing(world):
    """The tokens last 9 s each, and the sessions no longer than they."""
    with world.short_tokens(seconds=9):
        world.agent.start()
        assert world.passes()
        world.renews_under_traffic()
    assert {s['id'] for s in world.sessions()} and len(world.sessions()) == 1


def test_a_killed_agent_leaves_the_traffic_alone_and_comes_back(world):
    world.agent.start()
    assert world.passes()
    world.agent.kill()
    before = world.peer_sas()
    assert world.passes() and len(before) == 2
    first = world.sessions()[0]['id']
    world.agent.start()
    world.agent.wait_for('generation 1 is in force')
    assert wait_until(lambda: [s['id'] for s in world.sessions()] != [first], 20)
    assert len(world.sessions()) == 1
    assert world.passes()


def test_a_peer_whose_dataplane_restarts_opens_a_new_session(world):
    world.agent.start()
    assert world.passes()
    world.peer_dataplane.kill()
    world.peer_dataplane.start()
    assert world.passes()
    assert len(world.sessions()) == 1


def test_a_gate_that_forgot_everything_is_noticed(world):
    """Both at once: no keys, no sessions. The peer sends, nothing comes, and it asks."""
    world.agent.start()
    assert world.passes()
    world.control.kill()
    world.dataplane.kill()
    world.dataplane.start()
    world.control.start()
    assert not world.gate_sas()
    assert world.passes()
    assert re.search('nothing came from the gate for [0-9]+ s', world.agent.said())
    assert 'the gate no longer knows' in world.agent.said()
    assert len(world.sessions()) == 1


def test_a_gate_that_is_away_is_tried_again(world):
    world.guard.stop()
    world.agent.start()
    world.agent.wait_for('cannot be reached.*')
    assert not world.peer_sas()
    world.guard.start()
    assert world.passes()
    world.guard.stop()
    try:
        assert world.agent.stop() == 0
        assert 'the gate could not be told of the end' in world.agent.said()
        assert not world.peer_sas()
    finally:
        world.guard.start()


def refused(world, pattern):
    world.agent.start()
    world.agent.wait_for(pattern)
    assert not world.peer_sas()
    assert not [s for s in world.sessions() if s['confirmed']]
    assert not world.passes(timeout=1)
    assert world.agent.stop() == 0


GATES = {
    'of another name': (lambda w: w.pki.issue('other.example', 'server'),
                        "peer_unknown.*expected the name 'gate.example'; found 'other.example'"),
    'below the name': (lambda w: w.pki.issue('a.gate.example', 'server'), 'peer_unknown'),
    'of another CA': (lambda w: PeerPki(w.folder / 'others').issue(Guard.NAME, 'server'),
                      'cert_chain_fail'),
    "of a peer's": (lambda w: w.pki.issue(Guard.NAME, 'client'), 'cert_profile_fail.*serverAuth'),
    'that has ended': (lambda w: w.pki.issue(Guard.NAME, 'server', days=-1), 'cert_expired'),
    'that was revoked': (lambda w: revoked(w), 'cert_revoked'),
}


def revoked(world):
    credential = world.pki.issue(Guard.NAME, 'server')
    world.pki.revoke(credential)
    return credential


@pytest.mark.parametrize('what', GATES)
def test_a_gate_with_a_certificate_is_refused(world, what):
    make, pattern = GATES[what]
    world.restart_guard(make(world))
    try:
        refused(world, pattern)
    finally:
        world.restart_guard()
    world.agent.start()  # and its twin
    assert world.passes()


def test_a_gate_that_is_revoked_meanwhile_gets_no_packet_more(world):
    gate = world.pki.issue(Guard.NAME, 'server')
    world.restart_guard(gate)
    try:
        world.agent.start()
        assert world.passes()
        world.pki.revoke(gate)
        world.agent.process.send_signal(signal.SIGHUP)
        world.agent.wait_for("the gate's certificate counts no more: cert_revoked")
        assert wait_until(lambda: not world.peer_sas(), 20)
        assert not world.passes(timeout=1)
    finally:
        world.restart_guard()
    assert world.passes()  # and its twin, without a restart of the agent


def test_a_gate_that_offers_more_than_is_configured_is_refused(world):
    world.put_policy(last_port=PORT + 1)
    try:
        refused(world, r'/selectors: the gate\'s offer is refused: it carries more.*5000, 5001')
        world.agent.config['sessions'][0]['selectors'] = [selector(gate_ports=[PORT, PORT + 1])]
        world.agent.start()
        assert world.passes()
    finally:
        world.put_policy()


def test_a_gate_that_says_another_name_than_its_certificate_is_refused(world):
    world.guard.config['identity'] = 'second.example'
    world.restart_guard()
    try:
        refused(world, '/gate_identity: .*expected gate.example; found second.example')
    finally:
        world.guard.config['identity'] = Guard.NAME
        world.restart_guard()
    world.agent.start()
    assert world.passes()


def test_a_token_that_does_not_do_is_said_and_a_good_one_taken_without_a_restart(world):
    world.write_token(client='csmf-2')
    world.agent.start()
    world.agent.wait_for('the gate refuses with status 401.*invalid_token')
    assert not world.peer_sas()
    token = world.write_token()
    assert world.passes()
    assert token.split('.')[1] not in world.agent.said()


def test_a_session_by_pre_shared_key(world):
    world.put_policy(psk=True)
    try:
        world.by_psk()
        world.agent.start()
        assert world.passes()
        assert [(s['peer'], s['confirmed']) for s in world.sessions()] == [(PSK_PEER, True)]
        assert world.agent.stop() == 0
        assert not world.sessions()
        wrong = world.psk_file.with_suffix('.wrong')
        wrong.touch(mode=0o600)
        wrong.write_text(os.urandom(32).hex(), encoding='ascii')
        world.agent.config['psk']['file'] = str(wrong)
        refused(world, 'is refused, or refuses: TLS handshake: ')
        # The certificate's listener has no such key, and shows a certificate instead.
        world.agent.config['psk']['file'] = str(world.psk_file)
        world.agent.config['gate']['url'] = f'https://{Guard.NAME}:4433'
        refused(world, 'is refused, or refuses: TLS handshake: ')
        world.agent.config['gate']['url'] = f'https://{Guard.NAME}:4434'
        world.agent.start()
        assert world.passes()
        assert world.agent.stop() == 0
    finally:
        world.put_policy()


@pytest.mark.parametrize('piece, said', [
    ('unknown', 'peer.yaml:[0-9]+: .*unknown key'), ('chain', 'certificate/chain: cannot be used'),
    ('key', 'certificate/key: others have rights'), ('anchor', 'nowhere')])
def test_it_does_not_start_with(world, piece, said):
    config = world.agent.config
    if piece == 'unknown':
        config['gates'] = {}
    elif piece == 'chain':
        config['certificate']['chain'] = '/nowhere'
    elif piece == 'key':
        open_key = world.folder / 'open.key'
        open_key.write_bytes(world.csmf.key_file.read_bytes())
        open_key.chmod(0o644)
        config['certificate']['key'] = str(open_key)
    else:
        config['anchors'][0]['path'] = '/nowhere'
    world.agent.start()
    assert world.agent.process.wait(PATIENCE) == 1
    assert re.search(said, world.agent.said()), world.agent.said()
    world.agent.stop()
    world.agent.process = None
