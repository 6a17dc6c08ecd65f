"""TLS 1.3 by hand (RFC 8446), for peers that do not keep to it: every field of a ClientHello, every
message and every record can be made wrong, left out, doubled or sent at the wrong time, as tlsfuzzer
does it. Left alone it is a sound client with a certificate: TLS_AES_128_GCM_SHA256, P-256, ECDSA.

    client = Client(sock, credential)      # or a Hello of one's own: Client(sock, credential, hello)
    client.send_hello()
    client.read_flight()                   # until the server's Finished
    client.say(client.certificate()); client.say(client.certificate_verify())
    client.finish()
    client.request('/')                    # the status of an HTTP answer
    client.end()                           # how the server ends it: an alert's number, or 'closed'
"""

import hashlib
import hmac
import os
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = 20, 21, 22, 23
CLIENT_HELLO, SERVER_HELLO, NEW_SESSION_TICKET = 1, 2, 4
CERTIFICATE, CERTIFICATE_VERIFY, FINISHED, KEY_UPDATE = 11, 15, 20, 24
SUPPORTED_GROUPS, SIGNATURE_ALGORITHMS = 10, 13
PRE_SHARED_KEY, EARLY_DATA, SUPPORTED_VERSIONS, PSK_MODES, KEY_SHARE = 41, 42, 43, 45, 51
AES_128_GCM, P256, ECDSA_P256 = 0x1301, 23, 0x0403
RETRY = hashlib.sha256(b'HelloRetryRequest').digest()  # RFC 8446 4.1.3
PATIENCE = 20  # seconds


def vector(width, data):
    return len(data).to_bytes(width, 'big') + data


def words(*values):
    return b''.join(struct.pack('!H', value) for value in values)


def message(kind, body):
    return bytes((kind,)) + vector(3, body)


class Hello:
    """A ClientHello; all of it may be changed before encode()."""

    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.version = 0x0303
        self.session_id = b''
        self.suites = words(AES_128_GCM)
        self.compression = b'\0'
        self.extensions = [
            (SUPPORTED_VERSIONS, vector(1, words(0x0304))),
            (SUPPORTED_GROUPS, vector(2, words(P256))),
            (SIGNATURE_ALGORITHMS, vector(2, words(ECDSA_P256))),
            (KEY_SHARE, self.shares((P256, self.point())))]
        self.trailing = b''

    def point(self):
        return self.key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)

    @staticmethod
    def shares(*shares):
        return vector(2, b''.join(words(group) + vector(2, key) for group, key in shares))

    def change(self, kind, data):
        """That extension's content; None: without it."""
        self.extensions = [(k, data if k == kind else d) for k, d in self.extensions
                           if k != kind or data is not None]

    def encode(self):
        body = words(self.version) + os.urandom(32) + vector(1, self.session_id)
        body += vector(2, self.suites) + vector(1, self.compression)
        body += vector(2, b''.join(words(k) + vector(2, d) for k, d in self.extensions))
        return message(CLIENT_HELLO, body + self.trailing)


def _expand_label(secret, label, context, length):
    info = struct.pack('!H', length) + vector(1, b'tls13 ' + label) + vector(1, context)
    return hmac.digest(secret, info + b'\x01', 'sha256')[:length]  # one block of HKDF is enough


class Keys:
    """One direction under one secret (RFC 8446 7.3)."""

    def __init__(self, secret):
        self.secret, self.sequence = secret, 0
        self.aead = AESGCM(_expand_label(secret, b'key', b'', 16))
        self.iv = int.from_bytes(_expand_label(secret, b'iv', b'', 12), 'big')

    def nonce(self):
        return (self.iv ^ self.sequence).to_bytes(12, 'big')

    def seal(self, kind, data, padding=0):
        inner = data + (bytes((kind,)) if kind is not None else b'') + bytes(padding)
        head = struct.pack('!BHH', APPLICATION_DATA, 0x0303, len(inner) + 16)
        record = head + self.aead.encrypt(self.nonce(), inner, head)
        self.sequence += 1
        return record

    def open(self, head, body):
        """(type, content)"""
        inner = self.aead.decrypt(self.nonce(), body, head).rstrip(b'\0')
        self.sequence += 1
        return inner[-1], inner[:-1]

    def update(self):
        return Keys(_expand_label(self.secret, b'traffic upd', b'', 32))


class Client:
    def __init__(self, sock, credential, hello=None):
        sock.settimeout(PATIENCE)
        self.socket, self.credential, self.hello = sock, credential, hello or Hello()
        self.transcript = b''
        self.reading = []       # the keys that the server may use, the likeliest first
        self.writing = None     # None: in the clear
        self.handshake = b''    # of the server, not read yet
        self.version = 0x0301   # of records in the clear, RFC 8446 5.1

    # -- records

    def send(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # what came of it, end() tells

    def record(self, kind, data, **how):
        if self.writing is None:
            self.send(struct.pack('!BHH', kind, self.version, len(data)) + data)
        else:
            self.send(self.writing.seal(kind, data, **how))

    def say(self, text, pieces=None, **how):
        """A handshake message; `pieces`: bytes in each record."""
        self.transcript += text
        size = pieces or len(text)
        for at in range(0, len(text), size):
            self.record(HANDSHAKE, text[at:at + size], **how)

    def _exactly(self, size):
        data = b''
        while len(data) < size:
            got = self.socket.recv(size - len(data))
            if not got:
                raise EOFError
            data += got
        return data

    def read_record(self):
        """(type, content), opened where it has to be."""
        head = self._exactly(5)
        body = self._exactly(int.from_bytes(head[3:], 'big'))
        if head[0] != APPLICATION_DATA:
            return head[0], body
        for keys in self.reading:
            try:
                return keys.open(head, body)
            except InvalidTag:
                continue
        raise AssertionError('a record that cannot be opened')

    def read_message(self):
        """The next handshake message of the server."""
        while len(self.handshake) < 4 or \
                len(self.handshake) < 4 + int.from_bytes(self.handshake[1:4], 'big'):
            kind, data = self.read_record()
            if kind == CHANGE_CIPHER_SPEC:
                continue
            assert kind == HANDSHAKE, f'record {kind}: {data.hex()}'
            self.handshake += data
        size = 4 + int.from_bytes(self.handshake[1:4], 'big')
        text, self.handshake = self.handshake[:size], self.handshake[size:]
        return text

    def end(self):
        """The alert with which the server ends it (RFC 8446 6); 'closed' without one."""
        try:
            while True:
                kind, data = self.read_record()
                if kind == ALERT and data[1] != 0:
                    return data[1]
        except EOFError:
            return 'closed'
        except ConnectionResetError:
            return 'reset'

    # -- the handshake

    def send_hello(self, **how):
        self.say(self.hello.encode(), **how)

    def _derive(self, secret, label, text):
        return _expand_label(secret, label, hashlib.sha256(text).digest(), 32)

    def read_flight(self):
        """From ServerHello to the server's Finished. True: it was a HelloRetryRequest."""
        hello = self.read_message()
        assert hello[0] == SERVER_HELLO
        self.transcript += hello
        if hello[6:38] == RETRY:
            return True
        # After version, random, session id, suite and compression: extensions.
        at = 38 + 1 + hello[38] + 3 + 2
        share = None
        while at < len(hello):
            kind, size = struct.unpack('!HH', hello[at:at + 4])
            if kind == KEY_SHARE:
                share = hello[at + 8:at + 4 + size]
            at += 4 + size
        point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), share)
        early = hmac.digest(bytes(32), bytes(32), 'sha256')
        handshake = hmac.digest(self._derive(early, b'derived', b''),
                                self.hello.key.exchange(ec.ECDH(), point), 'sha256')
        self.client_secret = self._derive(handshake, b'c hs traffic', self.transcript)
        self.reading = [Keys(self._derive(handshake, b's hs traffic', self.transcript))]
        while True:
            text = self.read_message()
            self.transcript += text
            if text[0] == FINISHED:
                break
        master = hmac.digest(self._derive(handshake, b'derived', b''), bytes(32), 'sha256')
        self.reading.insert(0, Keys(self._derive(master, b's ap traffic', self.transcript)))
        self.application = Keys(self._derive(master, b'c ap traffic', self.transcript))
        self.writing = Keys(self.client_secret)
        return False

    def certificate(self, context=b'', empty=False):
        der = self.credential.certificate.public_bytes(serialization.Encoding.DER)
        entry = b'' if empty else vector(3, der) + vector(2, b'')
        return message(CERTIFICATE, vector(1, context) + vector(3, entry))

    def certificate_verify(self, key=None, scheme=ECDSA_P256):
        signed = (b' ' * 64 + b'TLS 1.3, client CertificateVerify\0' +
                  hashlib.sha256(self.transcript).digest())
        signature = (key or self.credential.key).sign(signed, ec.ECDSA(hashes.SHA256()))
        return message(CERTIFICATE_VERIFY, words(scheme) + vector(2, signature))

    def finished(self):
        key = _expand_label(self.client_secret, b'finished', b'', 32)
        return message(FINISHED, hmac.digest(key, hashlib.sha256(self.transcript).digest(),
                                             'sha256'))

    def finish(self, **how):
        self.say(self.finished(), **how)
        self.writing = self.application

    def shake_hands(self, **how):
        self.send_hello()
        self.read_flight()
        self.say(self.certificate(), **how)
        self.say(self.certificate_verify(), **how)
        self.finish(**how)

    # -- afterwards

    def request(self, target):
        """The status of the answer to a request of HTTP."""
        self.record(APPLICATION_DATA, f'POST {target} HTTP/1.1\r\nHost: gate\r\n'
                                      'Content-Length: 0\r\n\r\n'.encode())
        while True:
            kind, data = self.read_record()
            if kind == APPLICATION_DATA:
                return int(data.split()[1])
            assert kind == HANDSHAKE, f'record {kind}: {data.hex()}'  # a KeyUpdate of its own
            self.reading.insert(0, self.reading[0].update())

