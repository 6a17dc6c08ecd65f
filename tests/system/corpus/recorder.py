#!/usr/bin/python3
"""A server that writes down each octet it gets, connection by connection, and says yes to whatever it
can read in one way (corpus/strict.py). What it cannot, it leaves unanswered: the record tells.

    recorder.py --address 127.0.0.1 --port 8443 --tls CERTIFICATE KEY CA --record FILE

A record is (number of the connection, length, octets), both numbers 32 bits, big endian.
"""

import argparse
import itertools
import pathlib
import socket
import ssl
import struct
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from corpus import strict  # noqa: E402

STATUS = {'GET': '200 OK', 'POST': '201 Created', 'PATCH': '200 OK', 'DELETE': '409 Conflict'}


def answer(request, number):
    status = STATUS.get(request.method, '200 OK')
    if request.method == 'PUT' and 'if-none-match' in request.fields:
        status = '201 Created'
    body = b'{}'
    location = f'Location: {request.target}/{number}\r\n' if request.method == 'POST' else ''
    return (f'HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{location}'
            f'Content-Length: {len(body)}\r\n\r\n').encode('latin-1') + body


def loaded(file):
    """{number of the connection: all that came on it}"""
    data, at, found = file.read_bytes(), 0, {}
    while at < len(data):
        number, length = struct.unpack_from('!II', data, at)
        found.setdefault(number, bytearray()).extend(data[at + 8:at + 8 + length])
        at += 8 + length
    return {number: bytes(octets) for number, octets in found.items()}


class Recorder:
    def __init__(self, context, record):
        self.context = context
        self.file = open(record, 'ab', buffering=0)
        self.lock = threading.Lock()
        self.answers = itertools.count(1)

    def serve(self, number, plain):
        with plain, self.context.wrap_socket(plain, server_side=True) as stream:
            waiting = b''
            while octets := stream.recv(65536):
                with self.lock:
                    self.file.write(struct.pack('!II', number, len(octets)) + octets)
                waiting += octets
                while (found := strict.first(waiting)) and found[0].whole:
                    waiting = waiting[found[1]:]
                    stream.sendall(answer(found[0], next(self.answers)))

    def one(self, number, plain):
        try:
            self.serve(number, plain)
        except (OSError, strict.Unclear):
            pass  # the record has it


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--address', required=True)
    parser.add_argument('--port', type=int, required=True)
    parser.add_argument('--tls', nargs=3, required=True)
    parser.add_argument('--record', type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    certificate, key, ca = arguments.tls
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate, key)
    recorder = Recorder(context, arguments.record)
    with socket.create_server((arguments.address, arguments.port), backlog=256) as listener:
        print('listening', flush=True)
        for number in itertools.count(1):
            plain, _ = listener.accept()
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=recorder.one, args=(number, plain), daemon=True).start()


if __name__ == '__main__':
    main()
