"""Numbered packets through sessions, both ways, and when each arrived.

    with Traffic(gate, sample=range(0, 5000, 50), per_second=1000) as traffic:
        ...
    traffic.lost('inbound'), traffic.last_arrival({7})

Inbound packets are sealed with the key that the peer last told; outbound ones are opened afterwards
with whichever it ever told. Times of arrival are the receiving kernel's (SO_TIMESTAMPNS).
"""

import collections
import socket
import struct
import threading
import time

from gate import ALGORITHM, client
from scapy_esp import Sa, frame, udp
from tunnel import GATE, PEER, PORT, SERVER

CLIENT_PORT = 40000
MARK = b'numbered'
_BODY = struct.Struct('!8sIQ')  # MARK, peer, number
_SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 33, 35


class _Receiver:
    """(bytes, ns since 1970) of all that comes, in a thread."""

    def __init__(self, sock):
        self.socket = sock
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 256 << 20)
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        sock.settimeout(0.2)
        self.got = []
        self.open = True
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while self.open:
            try:
                data, extra, _, _ = self.socket.recvmsg(2048, 64)
            except TimeoutError:
                continue
            seconds, ns = struct.unpack('qq', extra[0][2])
            self.got.append((data, seconds * 10**9 + ns))

    def close(self):
        self.open = False
        self.thread.join()
        self.socket.close()


class Traffic:
    """One after the other of the sample's peers, evenly, one packet each way at a time."""

    def __init__(self, gate, sample, per_second):
        self.gate, self.sample, self.interval = gate, list(sample), 2 / per_second
        self.sas, self.openers = {}, {}
        for peer in self.sample:
            self.learn(gate.load.keys[peer])
        gate.load.tell = self.learn
        self.sent = collections.Counter()  # peer -> the last number; the same both ways
        with gate.peer.entered():
            self.wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self.wire.bind(('wire0', 0))
            self.esp = _Receiver(socket.socket(socket.AF_INET, socket.SOCK_RAW,
                                               socket.IPPROTO_ESP))
        self.core = gate.sink.dup()  # the server's own socket
        self.datagrams = _Receiver(self.core)
        self.stopped = threading.Event()
        self.error = None
        self.thread = threading.Thread(target=self._send, daemon=True)
        self.thread.start()

    def learn(self, keys):
        """A session, or a generation of one: from now on its peer sends under it."""
        opener = Sa(keys['spi_to_peer'], GATE, PEER, ALGORITHM, key=bytes.fromhex(keys['key_to_peer']))
        self.openers[opener.spi] = opener
        fresh = Sa(keys['spi_to_gate'], PEER, GATE, ALGORITHM, key=bytes.fromhex(keys['key_to_gate']))
        # One that was used before goes on with its sequence numbers.
        self.sas[keys['peer']] = self.gate.sealers.setdefault(fresh.spi, fresh)

    def _send(self):
        try:
            started, turn = time.monotonic(), 0
            while not self.stopped.wait(max(0, started + turn * self.interval - time.monotonic())):
                peer = self.sample[turn % len(self.sample)]
                turn += 1
                number = self.sent[peer] + 1
                body = _BODY.pack(MARK, peer, number)
                inner = udp(client(peer), SERVER, CLIENT_PORT, PORT, body)
                self.wire.send(frame(self.sas[peer].packet(inner), self.gate.gate_wire_mac,
                                     self.gate.peer_mac))
                self.core.sendto(body, (client(peer), CLIENT_PORT))
                self.sent[peer] = number
        except Exception as error:  # reported when the block is left
            self.error = error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()
        time.sleep(0.3)  # what is under way arrives
        self.wire.close()
        self.datagrams.close()
        self.esp.close()
        self.gate.load.tell = lambda keys: None
        self.arrived = {'inbound': [_BODY.unpack(data)[1:] + (at,) for data, at in
                                    self.datagrams.got if data.startswith(MARK)],
                        'outbound': list(self._opened())}
        if self.error:
            raise self.error

    def _opened(self):
        for packet, at in self.esp.got:
            opener = self.openers.get(int.from_bytes(packet[20:24], 'big'))
            if opener is not None:
                body = opener.open(packet).inner[28:28 + _BODY.size]
                yield _BODY.unpack(body)[1:] + (at,)

    def lost(self, direction):
        """Of all that was sent."""
        came = {(peer, number) for peer, number, _ in self.arrived[direction]}
        return sum(self.sent.values()) - len(came)

    def last_arrival(self, peers):
        """ns since 1970, either way; None: nothing ever came."""
        return max((at for way in self.arrived.values() for peer, _, at in way if peer in peers),
                   default=None)
