"""Sends the corpus through a gate, from where its clients are."""

import collections
import concurrent.futures
import os
import re
import socket
import ssl
import threading

import pytest

from corpus.message import SLICES, put

COUNT = int(os.environ.get('PORTCULLIS_CORPUS', '1000'))
SEED = 1
AT_ONCE = 6
SETTLED = 15  # seconds within which all is recorded


def fill(world, name, token):
    """The slices that the corpus asks for: the tenant's, and one of another tenant's."""
    theirs = world.token(name, credential=world.other, client='csmf-2')
    for number in range(SLICES):
        assert world.send(name, [put(number, token, 'setup').render()]) == [201]
    foreign = put(0, theirs, 'setup')
    foreign.target = foreign.target.replace(b'own-0', b'foreign')
    foreign.content(foreign.body.replace(b'own-0', b'foreign'))
    assert world.send(name, [foreign.render()], world.context(world.other)) == [201]


def send(host, place, context, name, records):
    """On a connection of its own, whose sending half ends behind them: nobody waits for what does not
    come. The statuses of the answers. `place`: address and port; `name`: of who answers there."""
    with host.entered():
        plain = socket.create_connection(place, 30)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    answer = b''
    with context.wrap_socket(plain, server_hostname=name) as stream:
        try:
            for octets in records:
                stream.sendall(octets)
            socket.socket.shutdown(stream, socket.SHUT_WR)  # of TCP: wrap_socket's ends TLS as well
            while some := stream.recv(65536):
                answer += some
        except (OSError, ssl.SSLError):
            pass  # it was refused before it was all sent
    return [int(status) for status in re.findall(rb'HTTP/1\.1 ([1-5][0-9][0-9]) ', answer)]


def all_sent(variants, send_records):
    """({number: octets}, how many answers of which status)"""
    statuses, lock = collections.Counter(), threading.Lock()

    def one(variant):
        found = send_records(variant.records)
        with lock:
            statuses.update(found or ['none'])
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(one, variants))
    return {variant.number: variant.octets for variant in variants}, statuses


def none_of(wrong):
    if wrong:
        pytest.fail(f'{len(wrong)} disagreements:\n' + '\n'.join(wrong[:20]), pytrace=False)


def enough(statuses):
    """Whoever refuses everything agrees with everybody."""
    admitted = statuses[200] + statuses[201]
    refused = statuses[400] + statuses[403] + statuses[404] + statuses[401]
    assert admitted > COUNT / 20, statuses
    assert refused > COUNT / 3, statuses
