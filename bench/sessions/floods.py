#!/usr/bin/python3
"""What strangers do to a listener, for so long: the attacks of bench/sessions.py, in a process of
their own.

    floods.py KIND ADDRESS PORT SECONDS --sources A,B,... --connections N --per-second N

  silence   connections that never say anything
  drip      a record that comes byte by byte, one each second
  hello     a whole ClientHello, so that the gate computes and signs, and then nothing
  garbage   a record of random bytes; then the next connection

Opens at most N connections a second, holds at most N; what the gate closes is opened anew. Prints
how many were opened and how many the gate ended.
"""

import argparse
import itertools
import os
import selectors
import signal
import socket
import ssl
import sys
import time

HANDSHAKE_RECORD = b'\x16\x03\x01'


def client_hello():
    out = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_ecdh_curve('prime256v1')
    tls = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname='gate.example')
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return out.read()
    raise RuntimeError('a handshake without a server')


class Flood:
    """`first` is said at once, `drip` byte by byte after it."""

    def __init__(self, to, sources, connections, per_second, first=b'', drip=b''):
        self.to, self.sources = to, itertools.cycle(sources)
        self.connections, self.interval = connections, 1 / per_second
        self.first, self.drip = first, drip
        self.selector = selectors.DefaultSelector()
        self.held = {}  # socket -> [bytes of `drip` sent, when the next is due]
        self.opened = self.ended = 0

    def open(self):
        sock = socket.socket()
        sock.setblocking(False)
        sock.bind((next(self.sources), 0))
        sock.connect_ex(self.to)
        self.held[sock] = [-1, 0.0]
        self.selector.register(sock, selectors.EVENT_WRITE)
        self.opened += 1

    def close(self, sock):
        self.selector.unregister(sock)
        self.held.pop(sock)
        sock.close()
        self.ended += 1

    def serve(self, key, events):
        sock, state = key.fileobj, self.held[key.fileobj]
        try:
            if events & selectors.EVENT_WRITE:  # connected
                sock.send(self.first)
                state[:] = [0, time.monotonic() + 1]
                self.selector.modify(sock, selectors.EVENT_READ)
            elif not sock.recv(65536):
                self.close(sock)
        except BlockingIOError:
            pass
        except OSError:
            self.close(sock)

    def drop_by_drop(self):
        now = time.monotonic()
        for sock, state in list(self.held.items()):
            if state[0] < 0 or state[1] > now or state[0] >= len(self.drip):
                continue
            try:
                sock.send(self.drip[state[0]:state[0] + 1])
                state[:] = [state[0] + 1, now + 1]
            except OSError:
                self.close(sock)

    def run(self, seconds):
        started = due = time.monotonic()
        while (now := time.monotonic()) < started + seconds:
            while due <= now and len(self.held) < self.connections:
                self.open()
                due += self.interval
            due = max(due, now - 0.1)  # what could not be opened in time is not made up for
            for key, events in self.selector.select(0.005):
                self.serve(key, events)
            if self.drip:
                self.drop_by_drop()
        for sock in list(self.held):
            sock.close()


KINDS = {
    'silence': {},
    'drip': {'drip': HANDSHAKE_RECORD + b'\x02\x00' + b'\x01\x00\x01\xfc'},
    'hello': {'first': client_hello()},
    'garbage': {'first': HANDSHAKE_RECORD + b'\x01\x00' + os.urandom(256)},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n', maxsplit=1)[0])
    parser.add_argument('kind', choices=KINDS)
    parser.add_argument('address')
    parser.add_argument('port', type=int)
    parser.add_argument('seconds', type=float)
    parser.add_argument('--sources', required=True)
    parser.add_argument('--connections', type=int, required=True)
    parser.add_argument('--per-second', type=int, required=True)
    a = parser.parse_args()
    if a.seconds > 60 or a.connections > 8000 or a.per_second > 5000:
        parser.error('at most 60 s, 8000 connections, 5000 a second')
    flood = Flood((a.address, a.port), a.sources.split(','), a.connections, a.per_second,
                  **KINDS[a.kind])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        flood.run(a.seconds)
    finally:
        print(flood.opened, flood.ended)


if __name__ == '__main__':
    main()
