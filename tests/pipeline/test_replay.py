"""Freshness: each packet passes at most once, and no good one is lost for being late."""

import random

import pytest

from gate import forwarded

WINDOWS = (64, 100, 128, 1024, 2048, 8192)


def seal_all(link, numbers):
    inner = link.request()
    return [link.seal(inner, n) for n in numbers]


@pytest.mark.parametrize('esn', (False, True), ids=('32 bit', 'esn'))
@pytest.mark.parametrize('window', WINDOWS)
def test_a_replay_of_each_of_the_last_w_packets(gate, window, esn):
    link = gate.link(window=window, esn=esn)
    frames = seal_all(link, range(1, window + 1))
    assert gate.judge(frames).verdicts == {'accepted': window}
    again = gate.judge(frames)
    assert again.verdicts == {'replayed': window}
    assert again.core == []
    gate.judge(seal_all(link, [window + 1]))
    gate.refuses(frames[:1], 'stale')
    gate.refuses(frames[1:2], 'replayed')
    link.inbound.sequence = window + 1
    gate.accepts(link)


@pytest.mark.parametrize('window', WINDOWS)
def test_reordering_within_the_window_drops_nothing(gate, window):
    link = gate.link(window=window)
    count = window * 2
    # Reversed in blocks of the window: each packet is up to window - 1 late.
    numbers = [n for start in range(1, count + 1, window)
               for n in range(start + window - 1, start - 1, -1)]
    outcome = gate.judge(seal_all(link, numbers))
    assert outcome.verdicts == {'accepted': count}
    assert len(outcome.core) == count


@pytest.mark.parametrize('window', WINDOWS)
def test_the_left_edge_is_exact(gate, window):
    link = gate.link(window=window)
    top = 3 * window
    gate.judge(seal_all(link, [top]))
    gate.refuses(seal_all(link, [top - window]), 'stale')
    gate.refuses(seal_all(link, [top - window - 1]), 'stale')
    gate.refuses(seal_all(link, [1]), 'stale')
    assert gate.judge(seal_all(link, [top - window + 1])).verdicts == {'accepted': 1}
    gate.refuses(seal_all(link, [top - window + 1]), 'replayed')


def test_any_order_each_exactly_once(gate):
    """Shuffled within the window and each sent twice."""
    window = 256
    link = gate.link(window=window)
    chance = random.Random(4303)
    numbers = []
    for start in range(1, 2048, window // 2):
        block = list(range(start, start + window // 2)) * 2
        chance.shuffle(block)
        numbers += block
    outcome = gate.judge(seal_all(link, numbers))
    assert outcome.verdicts == {'accepted': 2048, 'replayed': 2048}
    assert len(outcome.core) == 2048


@pytest.mark.parametrize('algorithm', ('aes-128-gcm-16', 'chacha20-poly1305',
                                       'aes-256-cbc-hmac-sha-256-128'))
def test_duplicates_in_one_burst(gate, algorithm):
    """All copies pass the first check, which looks before anything is committed."""
    link = gate.link(algorithm=algorithm)
    inner = link.request()
    data = link.seal(inner)
    outcome = gate.judge([data] * 32, burst=True)
    assert outcome.verdicts == {'accepted': 1, 'replayed': 31}
    assert outcome.core == [forwarded(inner)]
    pairs = [link.seal(inner) for _ in range(16)]
    outcome = gate.judge([data for pair in zip(pairs, pairs) for data in pair], burst=True)
    assert outcome.verdicts == {'accepted': 16, 'replayed': 16}
    gate.accepts(link)


def test_sequence_number_zero_is_never_valid(gate):
    for esn in (False, True):
        link = gate.link(esn=esn)
        outcome = gate.judge(link.seal(link.request(), 0))
        assert outcome.core == [] and set(outcome.verdicts) <= {'stale', 'replayed'}
        gate.accepts(link)


def test_old_packets_under_esn_cost_no_crypto(gate):
    """Left of the window is stale, not a packet 2^32 ahead that then fails as a forgery."""
    link = gate.link(window=64)
    old = seal_all(link, range(1, 101))
    gate.judge(old)
    gate.judge(seal_all(link, [1000]))
    gate.refuses(old, 'stale')
    link.inbound.sequence = 1000
    gate.accepts(link)


def test_a_forgery_far_ahead_does_not_move_the_window(gate):
    link = gate.link(window=64)
    gate.accepts(link)
    forged = bytearray(link.seal(link.request(), 1 << 30))
    forged[-1] ^= 1
    gate.refuses(bytes(forged), 'auth_failed')
    gate.accepts(link)


@pytest.mark.parametrize('window', (64, 1024, 8192))
@pytest.mark.parametrize('algorithm', ('aes-128-gcm-16', 'aes-128-cbc-hmac-sha-256-128'))
def test_esn_wraps_at_2_32(gate, algorithm, window):
    """The upper half is inferred; windows on both sides of the wrap (RFC 4303 A2)."""
    link = gate.link(algorithm=algorithm, window=window)
    wrap = 1 << 32
    # Up to just before the wrap, in jumps that are plausible.
    for number in (1, 1 << 31, wrap - window):
        assert gate.judge(seal_all(link, [number])).verdicts == {'accepted': 1}
    before = seal_all(link, range(wrap - window // 2, wrap))
    after = seal_all(link, range(wrap, wrap + window // 4))
    assert gate.judge(before[::2]).verdicts == {'accepted': len(before[::2])}
    assert gate.judge(after).verdicts == {'accepted': len(after)}
    # The window now lies on both sides: late ones from before the wrap, replays of either.
    assert gate.judge(before[1::2]).verdicts == {'accepted': len(before[1::2])}
    gate.refuses(before + after, 'replayed')
    # The upper half is authenticated: the same lower half in the epoch before is no valid packet.
    link.inbound.sequence = wrap + window // 4
    gate.refuses(seal_all(link, [window // 4 + 5]), 'auth_failed')
    gate.accepts(link)


def test_without_esn_the_numbers_end(gate):
    link = gate.link(esn=False, window=64)
    assert gate.judge(seal_all(link, [1, (1 << 31) - 1, (1 << 32) - 1])).verdicts == {'accepted': 3}
    gate.refuses(seal_all(link, [5]), 'stale')
    gate.refuses(seal_all(link, [(1 << 32) - 1]), 'replayed')
    assert gate.judge(seal_all(link, [(1 << 32) - 2])).verdicts == {'accepted': 1}


def test_an_implausible_jump_is_stale(gate):
    """The documented deviation: more than 2^31 ahead reaches no crypto, re-keying recovers."""
    link = gate.link(window=64)
    gate.judge(seal_all(link, [1000]))
    gate.refuses(seal_all(link, [1000 + (1 << 31) + 1]), 'stale')
    assert gate.judge(seal_all(link, [1000 + (1 << 31)])).verdicts == {'accepted': 1}


def test_no_window_admits_replays_in_the_laboratory(gate):
    """RFC 4303 5: manually keyed SAs without anti-replay; only with lab: true."""
    link = gate.link(window=0, esn=False)
    data = link.seal(link.request(), 5)
    assert gate.judge([data] * 3).verdicts == {'accepted': 3}
