"""Counters by verdict, as tests want them: each packet once."""

# Packets that went on from XDP, to the dataplane, which has a verdict for them, or to the kernel; and
# those that an interface hears all the time and that are nobody's (multicast, router solicitations).
PASSED_XDP = {'xdp_accepted', 'xdp_exception', 'xdp_not_for_us'}


def ended_here(verdicts):
    """Of (verdict, packets): each packet once, by where it ended."""
    return {name: count for name, count in verdicts if name not in PASSED_XDP}
