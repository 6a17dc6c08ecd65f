"""The fields that cross the tunnel's edge: ECN (RFC 6040), DSCP, TTL and the DF bit."""

import itertools

import pytest

from gate import forwarded, to_core

NOT_ECT, ECT1, ECT0, CE = range(4)

# RFC 6040 4.2: DECAPSULATE[inner][outer] is what the packet carries on; None: dropped.
DECAPSULATE = {
    NOT_ECT: {NOT_ECT: NOT_ECT, ECT0: NOT_ECT, ECT1: NOT_ECT, CE: None},
    ECT0: {NOT_ECT: ECT0, ECT0: ECT0, ECT1: ECT1, CE: CE},
    ECT1: {NOT_ECT: ECT1, ECT0: ECT1, ECT1: ECT1, CE: CE},
    CE: {NOT_ECT: CE, ECT0: CE, ECT1: CE, CE: CE},
}


def traffic_class(packet):
    if packet[0] >> 4 == 4:
        return packet[1]
    return (packet[0] << 8 | packet[1]) >> 4 & 0xff


@pytest.mark.parametrize('outer,family', [(4, 4), (4, 6), (6, 4), (6, 6)])
def test_ecn_on_the_way_in(gate, outer, family):
    link = gate.link(outer=outer)
    for inside, outside in itertools.product(range(4), range(4)):
        dscp = 0x28
        inner = link.request(family, tos=dscp | inside)
        outcome = gate.judge(link.seal(inner, outer={'tos': 0x50 | outside}))
        expected = DECAPSULATE[inside][outside]
        if expected is None:
            assert outcome.verdicts == {'ecn_illegal': 1}
            assert outcome.core == []
        else:
            assert outcome.verdicts == {'accepted': 1}, (inside, outside)
            # The DSCP inside stays its own; checksums are right again.
            assert outcome.core == [forwarded(link.request(family, tos=dscp | expected))]


@pytest.mark.parametrize('outer,family', [(4, 4), (4, 6), (6, 4), (6, 6)])
@pytest.mark.parametrize('copy', (True, False), ids=('dscp copied', 'dscp 0'))
def test_ecn_and_dscp_on_the_way_out(gate, outer, family, copy):
    """RFC 6040 4.1, normal mode: the outer header gets the inner one's ECN."""
    link = gate.link(outer=outer, tunnel={'copy_dscp': copy})
    for dscp, ecn in itertools.product((0, 0xb8, 0xfc), range(4)):
        inner = link.answer(family, tos=dscp | ecn)
        outcome = gate.judge(to_core(inner), 'core')
        assert outcome.verdicts == {'accepted': 1}
        opened = link.open(outcome.wire[0])
        assert opened.inner == forwarded(inner)
        assert opened.outer.traffic_class == (dscp if copy else 0) | ecn


@pytest.mark.parametrize('family', (4, 6))
def test_ttl(gate, family):
    link = gate.link()
    for ttl in (0, 1):
        gate.refuses(link.seal(link.request(family, ttl=ttl)), 'ttl_expired')
        outcome = gate.judge(to_core(link.answer(family, ttl=ttl)), 'core')
        assert outcome.verdicts == {'ttl_expired': 1} and outcome.wire == []
    for ttl in (2, 64, 255):
        inner = link.request(family, ttl=ttl)
        assert gate.judge(link.seal(inner)).core == [forwarded(inner)]
        inner = link.answer(family, ttl=ttl)
        outcome = gate.judge(to_core(inner), 'core')
        opened = link.open(outcome.wire[0])
        assert opened.inner == forwarded(inner)
        assert opened.outer.ttl == 64  # its own, not the inner one's (RFC 4301 5.1.2)


def test_an_expired_packet_is_still_not_replayable(gate):
    """The window was committed before the TTL was looked at."""
    link = gate.link()
    data = link.seal(link.request(ttl=1))
    gate.refuses(data, 'ttl_expired')
    gate.refuses(data, 'replayed')
    gate.accepts(link)


@pytest.mark.parametrize('policy', ('copy', 'set', 'clear'))
def test_df(gate, policy):
    link = gate.link(tunnel={'df': policy})
    for df in (False, True):
        outcome = gate.judge(to_core(link.answer(df=df)), 'core')
        expected = {'copy': df, 'set': True, 'clear': False}[policy]
        assert link.open(outcome.wire[0]).outer.df == expected
