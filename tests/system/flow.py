"""Traffic through a Tunnel in both directions, and an attacker beside it, while things happen to the
gate; and what must hold of it afterwards."""

import collections
import time

from netns import wait_until
from tunnel import CLEARTEXT, Repeat

PER_SECOND = 200
RESUMES_IN = 30  # seconds, on two busy cores


class Flow:
    """Both directions and the attacker, running until the block is left."""

    def __init__(self, tunnel):
        self.tunnel = tunnel
        self.inbound = Repeat(PER_SECOND, tunnel.send_inbound)
        self.outbound = Repeat(PER_SECOND, tunnel.send_outbound)
        self.probe = Repeat(PER_SECOND, tunnel.send_cleartext)
        self.parts = (self.inbound, self.outbound, self.probe)

    def __enter__(self):
        for part in self.parts:
            part.__enter__()
        return self

    def __exit__(self, *what):
        for part in self.parts:
            part.__exit__(*what)

    def runs(self):
        """True when a packet that is sent from now on arrives, in each direction."""
        tunnel = self.tunnel
        newest_in, newest_out = len(self.inbound.sent), len(self.outbound.sent)
        wire = tunnel.wire.count()
        core = tunnel.core.count()
        time.sleep(0.3)
        into = tunnel.arrived_inbound()[-50:] if tunnel.core.count() > core else []
        out = tunnel.arrived_outbound(wire)
        return any(n >= newest_in for n in into) and \
            any(n is not None and n >= newest_out for _, n in out)

    def resumes(self):
        return wait_until(self.runs, RESUMES_IN)


def check_everything(tunnel, flow):
    """What must hold whatever was killed, about all that was ever seen on either side."""
    tunnel.settle()
    assert tunnel.core.dropped() == 0 and tunnel.wire.dropped() == 0  # the recorders saw it all
    times = collections.Counter(tunnel.arrived_inbound())
    assert max(times.values()) == 1, 'a packet was accepted twice'
    sequences = collections.Counter(s for s, _ in tunnel.arrived_outbound())
    assert None not in sequences
    assert max(sequences.values()) == 1, 'an outbound sequence number was used twice'
    assert len(flow.probe.sent) > PER_SECOND / 2  # the attacker was really there
    assert tunnel.arrived_inbound(CLEARTEXT) == [], 'cleartext got through'
    assert not any(CLEARTEXT in frame for frame in tunnel.core.frames)
