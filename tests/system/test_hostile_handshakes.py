"""Peers that do not keep to TLS 1.3, in tlsfuzzer's manner: what they send, with which alert the guard
ends it and under which reason it counts it. Whatever they do, the next sound peer gets its session."""

import collections
import re
import socket
import struct

import pytest

import tls13_client as tls
from netns import wait_until
from session_world import SessionWorld
from tls13_client import Client, Hello, message, vector, words
from tunnel import GATE

UNEXPECTED_MESSAGE, BAD_RECORD_MAC, RECORD_OVERFLOW = 10, 20, 22
HANDSHAKE_FAILURE, ILLEGAL_PARAMETER, DECODE_ERROR, DECRYPT_ERROR = 40, 47, 50, 51
PROTOCOL_VERSION, MISSING_EXTENSION, CERTIFICATE_REQUIRED = 70, 109, 116
SECP256K1, AES_128_CCM, RSA_PSS = 22, 0x1304, 0x0804
GREASE = 0x0a0a  # RFC 8701


class World(SessionWorld):
    def client(self, hello=None):
        with self.peer.entered():
            sock = socket.create_connection((GATE, self.guard.port), 20)
        return Client(sock, self.csmf, hello)

    def refusals(self):
        """All reasons under which somebody was refused so far, in order."""
        return re.findall(r'refused [\d.]+ \(\w+\): (\w+)', self.guard.log.read_text())


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    with World(tmp_path_factory.mktemp('hostile')) as w:
        w.open()  # the guard has its lists and keys
        w.close_sessions()
        yield w


@pytest.fixture
def refused(world):
    """Says under which reason the guard counted what the test did; it is still sound afterwards."""
    before, process = len(world.refusals()), world.guard.process.pid

    def reason():
        assert wait_until(lambda: len(world.refusals()) > before, 20), 'nothing was counted'
        return world.refusals()[before]

    yield reason
    assert world.guard.process.pid == process and world.guard.running()
    client = world.client()
    client.shake_hands()
    assert client.request('/nothing') == 404
    client.socket.close()


def changed(**fields):
    def change(hello):
        for name, value in fields.items():
            setattr(hello, name, value)
    return change


def extension(kind, data):
    return lambda hello: hello.change(kind, data)


def more(*extensions, first=False):
    def change(hello):
        hello.extensions = [*extensions, *hello.extensions] if first else \
            [*hello.extensions, *extensions]
    return change


def off_the_curve(hello):
    point = bytearray(hello.point())
    point[-1] ^= 1
    hello.change(tls.KEY_SHARE, hello.shares((tls.P256, bytes(point))))


def other_group(hello):
    hello.change(tls.SUPPORTED_GROUPS, vector(2, words(SECP256K1)))
    hello.change(tls.KEY_SHARE, hello.shares((SECP256K1, hello.point())))


VERSION, CIPHER, FAILED = 'tls_version_denied', 'tls_cipher_denied', 'tls_failed'
PSK = vector(2, vector(2, b'ticket') + bytes(4)) + vector(2, vector(1, bytes(32)))
WRONG_HELLOS = {
    'TLS 1.2 only': (extension(tls.SUPPORTED_VERSIONS, None), PROTOCOL_VERSION, VERSION),
    'TLS 1.1 only': (extension(tls.SUPPORTED_VERSIONS, vector(1, words(0x0302))),
                     PROTOCOL_VERSION, VERSION),
    'a version that nobody knows': (extension(tls.SUPPORTED_VERSIONS, vector(1, words(0x0399))),
                                    PROTOCOL_VERSION, VERSION),
    'no version': (extension(tls.SUPPORTED_VERSIONS, vector(1, b'')), PROTOCOL_VERSION, VERSION),
    'no suites': (changed(suites=b''), ILLEGAL_PARAMETER, FAILED),
    'half a suite': (changed(suites=b'\x13\x01\x13'), DECODE_ERROR, FAILED),
    'suites of TLS 1.2': (changed(suites=words(0xc02b, 0xc02f)), HANDSHAKE_FAILURE, CIPHER),
    'a suite that the profile lacks': (changed(suites=words(AES_128_CCM)), HANDSHAKE_FAILURE,
                                       CIPHER),
    'compression': (changed(compression=b'\x01\0'), ILLEGAL_PARAMETER, FAILED),
    'no way without compression': (changed(compression=b'\x01'), DECODE_ERROR, FAILED),
    'a session id too long': (changed(session_id=bytes(33)), DECODE_ERROR, FAILED),
    'no groups': (extension(tls.SUPPORTED_GROUPS, None), MISSING_EXTENSION, FAILED),
    'an empty list of groups': (extension(tls.SUPPORTED_GROUPS, vector(2, b'')), DECODE_ERROR,
                                FAILED),
    'a group that the profile lacks': (other_group, HANDSHAKE_FAILURE, CIPHER),
    'a key share of a group that is not offered': (
        extension(tls.SUPPORTED_GROUPS, vector(2, words(SECP256K1))), ILLEGAL_PARAMETER, FAILED),
    'no signature algorithms': (extension(tls.SIGNATURE_ALGORITHMS, None), MISSING_EXTENSION,
                                FAILED),
    'an empty list of signature algorithms': (
        extension(tls.SIGNATURE_ALGORITHMS, vector(2, b'')), DECODE_ERROR, FAILED),
    'no key share': (extension(tls.KEY_SHARE, None), MISSING_EXTENSION, CIPHER),
    'a key share cut short': (extension(tls.KEY_SHARE, vector(2, words(tls.P256) + b'\0\x41')),
                              DECODE_ERROR, FAILED),
    'a point off the curve': (off_the_curve, ILLEGAL_PARAMETER, FAILED),
    'the same extension twice': (more((tls.SIGNATURE_ALGORITHMS,
                                       vector(2, words(tls.ECDSA_P256)))), ILLEGAL_PARAMETER,
                                 FAILED),
    'bytes after the extensions': (changed(trailing=b'\0'), DECODE_ERROR, FAILED),
    'early data': (more((tls.EARLY_DATA, b'')), HANDSHAKE_FAILURE, 'tls_early_data_denied'),
    'a pre-shared key that is not last': (more((tls.PRE_SHARED_KEY, PSK), first=True),
                                          ILLEGAL_PARAMETER, FAILED),
    'a pre-shared key without its modes': (more((tls.PRE_SHARED_KEY, PSK)), MISSING_EXTENSION,
                                           FAILED),
}


@pytest.mark.parametrize('name', WRONG_HELLOS)
def test_a_wrong_client_hello(world, refused, name):
    change, alert, reason = WRONG_HELLOS[name]
    hello = Hello()
    change(hello)
    client = world.client(hello)
    client.send_hello()
    assert (client.end(), refused()) == (alert, reason)


UNUSUAL_HELLOS = {
    'as it is': lambda hello: None,
    'unknown suites and extensions': lambda hello: (
        changed(suites=words(GREASE, tls.AES_128_GCM, 0xc02b))(hello),
        more((GREASE, b'\0'), (0xfafa, b''), first=True)(hello)),
    'unknown groups and versions': lambda hello: (
        hello.change(tls.SUPPORTED_GROUPS, vector(2, words(GREASE, tls.P256))),
        hello.change(tls.SUPPORTED_VERSIONS, vector(1, words(GREASE, 0x0304, 0x0303)))),
    'a session id': changed(session_id=bytes(32)),
    'a pre-shared key, and a certificate as well': more((tls.PSK_MODES, vector(1, b'\x01')),
                                                        (tls.PRE_SHARED_KEY, PSK)),
}


@pytest.mark.parametrize('name', UNUSUAL_HELLOS)
def test_an_unusual_client_hello_passes(world, name):
    hello = Hello()
    UNUSUAL_HELLOS[name](hello)
    client = world.client(hello)
    client.shake_hands()
    assert client.request('/nothing') == 404


# ---- before there are keys

def raw(data):
    return lambda client: client.send(data)


def interleaved(client):
    hello = client.hello.encode()
    client.record(tls.HANDSHAKE, hello[:20])
    client.record(tls.CHANGE_CIPHER_SPEC, b'\x01')
    client.record(tls.HANDSHAKE, hello[20:])


def retried_in_vain(client):
    client.hello.change(tls.KEY_SHARE, vector(2, b''))
    client.send_hello()
    assert client.read_flight()  # HelloRetryRequest
    client.send_hello()


def cut_off(client):
    client.send(struct.pack('!BHH', tls.HANDSHAKE, 0x0301, 512) + client.hello.encode()[:99])
    client.socket.shutdown(socket.SHUT_WR)


def twice(client):
    client.send_hello()
    client.record(tls.HANDSHAKE, client.hello.encode())
    client.read_flight()  # the answer to the first one, and the keys of the alert


WRONG_STARTS = {
    'application data': (raw(b'\x17\x03\x03\0\x05hello'), UNEXPECTED_MESSAGE),
    'empty records without end': (lambda c: [c.record(tls.HANDSHAKE, b'') for _ in range(40)],
                                  UNEXPECTED_MESSAGE),
    'a record of no kind': (raw(b'\x19\x03\x01\0\x05hello'), UNEXPECTED_MESSAGE),
    'a record too long': (lambda c: c.record(tls.HANDSHAKE, bytes(2**14 + 1)), RECORD_OVERFLOW),
    'a message too long': (raw(b'\x16\x03\x01\0\x04\x01\xff\xff\xff'), ILLEGAL_PARAMETER),
    'a Finished': (lambda c: c.record(tls.HANDSHAKE, message(tls.FINISHED, bytes(32))),
                   UNEXPECTED_MESSAGE),
    'something else between two parts': (interleaved, UNEXPECTED_MESSAGE),
    'a second ClientHello': (twice, UNEXPECTED_MESSAGE),
    'a retry that changes nothing': (retried_in_vain, ILLEGAL_PARAMETER),
    'cut off': (cut_off, 'closed'),
    'SSL 2': (raw(b'\x80\x2e\x01\0\x02\0\x15\0\0\0\x10' + bytes(37)), PROTOCOL_VERSION),
}


@pytest.mark.parametrize('name', WRONG_STARTS)
def test_a_wrong_start(world, refused, name):
    act, end = WRONG_STARTS[name]
    client = world.client()
    act(client)
    assert (client.end(), refused()) == (end, FAILED)


def test_a_client_hello_in_pieces_passes(world):
    client = world.client()
    client.send_hello(pieces=1)
    client.read_flight()
    client.send(b'\x14\x03\x03\0\x01\x01')  # for middleboxes (RFC 8446 D.4), in the clear
    client.say(client.certificate(), pieces=100)
    client.say(client.certificate_verify(), padding=500)
    client.finish(pieces=5)
    assert client.request('/nothing') == 404


# ---- under the handshake's keys

def flight(client, *messages):
    for make in messages:
        client.say(make(client))


def certificate(client):
    return client.certificate()


def verify(client):
    return client.certificate_verify()


def finished(client):
    return client.finished()


def spoilt(make):
    def wrong(client):
        text = bytearray(make(client))
        text[-1] ^= 1
        return bytes(text)
    return wrong


def key_update(value):
    return lambda _: message(tls.KEY_UPDATE, bytes((value,)))


def spoilt_record(client):
    record = bytearray(client.writing.seal(tls.HANDSHAKE, client.certificate()))
    record[-1] ^= 1
    client.send(bytes(record))


WRONG_FLIGHTS = {
    'a spoilt record': (spoilt_record, BAD_RECORD_MAC, FAILED),
    'ChangeCipherSpec under the keys': (lambda c: c.record(tls.CHANGE_CIPHER_SPEC, b'\x01'),
                                        UNEXPECTED_MESSAGE, FAILED),
    'a record of padding only': (lambda c: c.record(None, b'', padding=8), UNEXPECTED_MESSAGE,
                                 FAILED),
    'a record too long': (lambda c: c.record(tls.HANDSHAKE, bytes(2**14 + 1)), RECORD_OVERFLOW,
                          FAILED),
    'no certificate': (lambda c: flight(c, lambda c: c.certificate(empty=True), finished),
                       CERTIFICATE_REQUIRED, 'cert_missing'),
    'a certificate that nobody asked for': (
        lambda c: flight(c, lambda c: c.certificate(context=b'x')), DECODE_ERROR, FAILED),
    'nothing but Finished': (lambda c: flight(c, finished), UNEXPECTED_MESSAGE, FAILED),
    'no CertificateVerify': (lambda c: flight(c, certificate, finished), UNEXPECTED_MESSAGE,
                             FAILED),
    'CertificateVerify first': (lambda c: flight(c, verify, certificate), UNEXPECTED_MESSAGE,
                                FAILED),
    'another\'s signature': (lambda c: flight(c, certificate, lambda c: c.certificate_verify(
        key=c.hello.key)), DECRYPT_ERROR, FAILED),
    'a spoilt signature': (lambda c: flight(c, certificate, spoilt(verify)), DECRYPT_ERROR, FAILED),
    'a signature of another kind': (lambda c: flight(c, certificate, lambda c: c.certificate_verify(
        scheme=RSA_PSS)), ILLEGAL_PARAMETER, 'weak_alg_refused'),
    'a spoilt Finished': (lambda c: flight(c, certificate, verify, spoilt(finished)), DECRYPT_ERROR,
                          FAILED),
    'KeyUpdate too early': (lambda c: flight(c, certificate, key_update(0)), UNEXPECTED_MESSAGE,
                            FAILED),
    'early application data': (lambda c: c.record(tls.APPLICATION_DATA, b'POST /'),
                               UNEXPECTED_MESSAGE, FAILED),
}


@pytest.mark.parametrize('name', WRONG_FLIGHTS)
def test_a_wrong_flight(world, refused, name):
    act, alert, reason = WRONG_FLIGHTS[name]
    client = world.client()
    client.send_hello()
    client.read_flight()
    act(client)
    assert (client.end(), refused()) == (alert, reason)


# ---- after the handshake

LATE_MESSAGES = {
    'renegotiation': (lambda c: c.hello.encode(), UNEXPECTED_MESSAGE),
    'a certificate once more': (certificate, UNEXPECTED_MESSAGE),
    'Finished once more': (finished, UNEXPECTED_MESSAGE),
    'a ticket from the client': (lambda c: message(tls.NEW_SESSION_TICKET, bytes(12)),
                                 UNEXPECTED_MESSAGE),
    'a KeyUpdate that is none': (key_update(2), ILLEGAL_PARAMETER),
}


@pytest.mark.parametrize('name', LATE_MESSAGES)
def test_a_message_after_the_handshake_ends_the_connection(world, name):
    make, alert = LATE_MESSAGES[name]
    client = world.client()
    client.shake_hands()
    client.say(make(client))
    assert client.end() == alert


def test_new_keys_after_the_handshake_pass(world):
    client = world.client()
    client.shake_hands()
    client.say(key_update(1)(client))  # both directions
    client.writing = client.writing.update()
    assert client.request('/nothing') == 404


def test_after_all_this_a_sound_peer_gets_its_session(world):
    """And control's counters say what the log says."""
    world.open()
    assert world.passes()

    def counted():
        text = world.rest.call('GET', '/metrics')[1]
        return {name: int(count) for name, count in re.findall(
            r'portcullis_refusals_total\{reason="(\w+)"\} (\d+)', text) if int(count)}

    logged = collections.Counter(world.refusals())
    assert set(logged) >= {VERSION, CIPHER, FAILED, 'tls_early_data_denied', 'cert_missing'}
    assert wait_until(lambda: counted() == logged, 20), (counted(), logged)
    world.close_sessions()
