"""agent_world with a peer whose packets the kernel's IPsec carries, and an eye on all that it sends.

       peer                              gate                      server
    10.1.0.2 on lo                      dataplane
    192.0.2.2 wire0 ═══════════════════ wire0   core0 ═════════ srv0 10.2.0.10, UDP 5000
                                      192.0.2.1"""

import contextlib
import re

from agent_world import World
from netns import wait_until
from processes import BIN, Wire
from tunnel import CLIENT, GATE, SERVER

ESP, UDP = 50, 17
NAT_PORT = 4500


class Sent(Wire):
    """What leaves through an interface, as (IP protocol, packet)."""

    def __init__(self, namespace, interface):
        self.packets = []
        super().__init__(namespace, interface)

    def _record(self):
        while self.open:
            try:
                frame, address = self.socket.recvfrom(65536)
            except TimeoutError:
                continue
            if address[2] == 4 and frame[12:14] == b'\x08\0':  # PACKET_OUTGOING
                self.packets.append((frame[23], frame[14:]))


class XfrmWorld(World):
    """The world's peer without a dataplane; `sent` is what went over its wire."""

    def __init__(self, folder):
        super().__init__(folder)
        self.sent = Sent(self.peer, 'wire0')
        self.closing.append(self.sent.close)

    def _way_to_servers(self):
        self.peer.address('lo', f'{CLIENT}/32')
        self.peer.route('10.2.0.0/24', via=GATE, extra=['src', CLIENT])

    def _peer_datapath(self, folder):
        return {'kernel': {}}

    def start(self):
        """Returns once nothing is let out in clear any more."""
        self.agent.start()
        self.agent.wait_for("the kernel's IPsec carries the packets")

    def answered(self, sock):
        with contextlib.suppress(OSError):  # what the kernel blocks, it says
            return super().answered(sock)
        return False

    # -- the kernel's IPsec

    def xfrm(self, *arguments):
        return self.peer.run(['ip', 'xfrm', *arguments])

    def peer_sas(self):
        """SPIs of whatever there is."""
        return set(re.findall('proto esp spi (0x[0-9a-f]+)', self.xfrm('state')))

    def gone(self, timeout=60):
        return wait_until(lambda: not self.peer_sas(), timeout)

    def clear_kernel(self):
        self.peer.run([BIN / 'portcullis-peer', '--clear-kernel'])

    # -- the wire

    def in_clear(self):
        """What went to or from the servers without ESP, whatever it was."""
        server = bytes(map(int, SERVER.split('.')))
        return [packet for protocol, packet in list(self.sent.packets)
                if server[:3] in (packet[12:15], packet[16:19])]

    def protected(self):
        return [packet for protocol, packet in list(self.sent.packets) if protocol == ESP]

    def encapsulated(self):
        """ESP in UDP (RFC 3948), without keepalives."""
        return [packet for protocol, packet in list(self.sent.packets)
                if protocol == UDP and packet[22:24] == NAT_PORT.to_bytes(2, 'big')
                and len(packet) > 60]
