"""Who must not get in: each case is somebody with one thing wrong, at the guard's door, and then the same
one with it put right, who gets a session.

A refusal counts only when the guard's log names the reason that is expected for it, no association was
made and nothing reached the servers.
"""

import dataclasses
import http.client
import re
import socket
import threading
import time

from OpenSSL import SSL

from enrolment import GATEWAY as GATEWAY_NAME, SCOPES
from lab import GATEWAY, MSG_PORT, MSG_SERVER, NSMF, REGISTRATION_PORT, VISITOR
from netns import wait_until
from psk_peer import ProofKey, PskKey
from services import OSS
from scapy_esp import frame, tcp
from session_peer import PeerPki, SessionError, SessionPeer
from processes import Guard

LEEWAY_SECONDS = 30  # for which an expired token is still good
REVOKED_WITHIN_SECONDS = 1.0
LOG_SECONDS = 3  # until the guard has written why
STEADY_RATE = 200  # packets per second, of who is revoked meanwhile
RST = 0x04
ATTACKER_MAC = '02:00:00:00:66:66'
_EARLY_DATA = bytes.fromhex('002a0000')  # the extension, empty (RFC 8446 4.2.10)


@dataclasses.dataclass
class Outcome:
    tried: str
    expected: str
    happened: str
    ok: bool


def with_early_data(hello):
    """A TLS record with a ClientHello (RFC 8446 4.1.2), early_data added at the front of its
    extensions, since pre_shared_key would have to stay the last."""
    at = 5 + 4 + 2 + 32
    at += 1 + hello[at]                                        # legacy_session_id
    at += 2 + int.from_bytes(hello[at:at + 2], 'big')          # cipher_suites
    at += 1 + hello[at]                                        # legacy_compression_methods
    more = len(_EARLY_DATA)

    def longer(start, size):
        return (int.from_bytes(hello[start:start + size], 'big') + more).to_bytes(size, 'big')

    return (hello[:3] + longer(3, 2) + hello[5:6] + longer(6, 3) + hello[9:at] + longer(at, 2) +
            _EARLY_DATA + hello[at + 2:])


class Entrance:
    def __init__(self, lab):
        self.lab = lab
        self.enrolment = lab.enrolment
        self.others = PeerPki(lab.folder / 'others', 'others')
        self.gate_mac = lab.gate.mac('wire0')

    # -- what the guard says

    def _log(self, after=0):
        return self.enrolment.guard.log.read_bytes()[after:].decode(errors='replace')

    def _observe(self, action):
        """(reason in the guard's log or None, what the peer saw), and whether nobody got anything."""
        lab = self.lab
        lab.counter.settle()
        seen, sas = lab.counter.count(), self._sas()
        size = self.enrolment.guard.log.stat().st_size
        try:
            saw = action() or 'no refusal'
        except SessionError as refusal:
            saw = f'HTTP {refusal.status}'
        except (SSL.Error, OSError, http.client.HTTPException):
            saw = 'the handshake ends'
        pattern = re.compile(r'refused \S+ \(\w+\): (\w+)')
        wait_until(lambda: pattern.search(self._log(size)), LOG_SECONDS)
        reasons = pattern.findall(self._log(size))
        untouched = self._sas() == sas and lab.counter.count() == seen
        return (reasons[0] if reasons else None), saw, untouched

    def _sas(self):
        return {sa['id'] for sa in self.lab.rest.get('/v1/sas')['items']}

    def refusal(self, tried, expected, action, twin=None):
        """`twin`: a session of the same one with everything right; it is ended again."""
        reason, saw, untouched = self._observe(action)
        ok = reason == expected and saw != 'no refusal' and untouched
        happened = f'{saw}, {reason or "nothing logged"}'
        return Outcome(tried, expected, happened, ok), twin or self._visit

    def _visit(self):
        self.enrolment.end(self.enrolment.open(VISITOR), VISITOR)

    def _knock(self, credential):
        """In TLS 1.3 a client learns only with its first request what the gate thinks of it."""
        with self.enrolment.connect(credential) as connection:
            connection.ask('GET', '/')

    def _ask(self, token, who=VISITOR):
        with self.enrolment.connect(self.enrolment.credentials[who[0]]) as connection:
            self.enrolment.ask(connection, who, token)

    # -- certificates

    def no_certificate(self):
        return self.refusal('a TLS client without a certificate', 'cert_missing',
                            lambda: self._knock(None))

    def other_ca(self):
        stranger = self.others.issue('csmf-2.operator.example', 'client')
        return self.refusal('csmf-2\'s name, certified by another CA', 'cert_chain_fail',
                            lambda: self._knock(stranger))

    def expired_certificate(self):
        old = self.enrolment.certificate('csmf-2', days=-1)
        return self.refusal('csmf-2\'s certificate, expired yesterday', 'cert_expired',
                            lambda: self._knock(old))

    def server_certificate(self):
        server = self.enrolment.certificate('csmf-2', role='server')
        return self.refusal('csmf-2 with a certificate that is for servers only',
                            'cert_profile_fail', lambda: self._knock(server))

    def wrong_role(self):
        """Known, certified, with a good token of its own: the right is missing."""
        return self.refusal('the OSS, with its own certificate and token', 'policy_denied',
                            lambda: self._ask(self.enrolment.token('oss'), OSS))

    def peer_posing_as_gate(self):
        """Here it is the peer that has to refuse."""
        impostor = self.enrolment.credentials['insider']
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.use_certificate_file(str(impostor.certificate_file))
        context.use_privatekey_file(str(impostor.key_file))
        with self.lab.csmf.entered():
            listener = socket.create_server(('127.0.0.1', 0))

        def serve():
            sock, _ = listener.accept()
            with sock:
                tls = SSL.Connection(context, sock)
                tls.set_accept_state()
                try:
                    tls.do_handshake()
                except SSL.Error:
                    pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        happened, ok = 'the peer went on', False
        try:
            with self.lab.csmf.entered():
                sock = socket.create_connection(listener.getsockname(), 10)
            SessionPeer(sock, self.enrolment.pki.ca, self.enrolment.credentials['csmf-2'],
                        Guard.NAME).close()
        except (SSL.Error, ValueError) as error:
            happened, ok = f'the peer hangs up: {error.args[0] if error.args else error}', True
        finally:
            thread.join(5)
            listener.close()
        return Outcome('the insider\'s certificate, shown to csmf-2 as the gate\'s',
                       'the peer refuses', happened, ok), self._visit

    def early_data(self):
        def hello():
            tls = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
            tls.set_connect_state()
            try:
                tls.do_handshake()
            except SSL.WantReadError:
                return tls.bio_read(65536)

        def answer(record):
            with self.enrolment.socket() as sock:
                sock.settimeout(5)
                sock.sendall(record)
                return sock.recv(1)

        def action():
            content = answer(with_early_data(hello()))
            return 'alert' if content == b'\x15' else f'record {content.hex()}'

        def twin():
            if answer(hello()) != b'\x16':  # a handshake record: ServerHello
                raise RuntimeError('the same ClientHello without early_data got no answer')
        return self.refusal('a ClientHello that announces early data', 'tls_early_data_denied',
                            action, twin)

    # -- pre-shared keys

    def wrong_key(self):
        folder = self.lab.folder / 'enrolment'
        guess = PskKey(self.enrolment.psk.identity, GATEWAY_NAME, folder / 'guess.psk')

        def action():
            self.enrolment.connect_gateway(guess).close()
        return self.refusal('the gateway\'s PSK identity with another key', 'psk_unknown', action,
                            self._visit_gateway)

    def _visit_gateway(self):
        session = self.enrolment.open(GATEWAY)
        with self.enrolment.connect_gateway() as connection:
            connection.end(session.id, self.enrolment.gateway_token())

    def other_proof(self):
        thief = ProofKey()

        def action():
            with self.enrolment.connect_gateway(proof=thief) as connection:
                self.enrolment.ask(connection, GATEWAY, self.enrolment.gateway_token(),
                                   'msgin5g-4')
        return self.refusal('the gateway\'s token, proved with another key', 'token_binding_fail',
                            action, self._visit_gateway)

    # -- tokens

    def stolen_token(self):
        token = self.enrolment.token('insider')
        return self.refusal('csmf-2 with the insider\'s token', 'token_binding_fail',
                            lambda: self._ask(token))

    def expired_token(self):
        time.sleep(max(0.0, self.enrolment.expired_at + LEEWAY_SECONDS + 1 - time.monotonic()))
        return self.refusal('csmf-2 with its own token, expired', 'token_expired',
                            lambda: self._ask(self.enrolment.expired))

    def other_scope(self):
        token = self.enrolment.token('csmf-2', SCOPES[1])
        return self.refusal(f'csmf-2\'s token without the scope: it has {SCOPES[1]} alone',
                            'token_scope_fail', lambda: self._ask(token))

    # -- who is in

    def _send(self, sa, source, destination, port):
        packet = sa.packet(tcp(source, destination, 40000, port, flags=RST))
        self.lab.wire_to_gate.send(frame(packet, self.gate_mac, ATTACKER_MAC))

    def revoked(self):
        """Packets at a steady rate; when did the last one reach the NSMF?"""
        lab = self.lab
        inbound, _ = self.enrolment.sas(self.enrolment.open(VISITOR), VISITOR)
        lab.counter.settle()
        arrivals, revoked_at, first = [], None, lab.counter.count()
        start = time.monotonic()
        seen = first
        for number in range(3 * STEADY_RATE):
            time.sleep(max(0.0, start + number / STEADY_RATE - time.monotonic()))
            if number == STEADY_RATE:
                revoked_at = time.monotonic()
                lab.rest.post(f'/v1/peers/{VISITOR[0]}/revoke', {'revoked': True})
            self._send(inbound, VISITOR[2], NSMF, 8080)
            if lab.counter.count() != seen:
                seen = lab.counter.count()
                arrivals.append(time.monotonic())
        after = max(arrivals[-1] - revoked_at, 0.0) if arrivals else None
        ok = after is not None and arrivals[0] < revoked_at and after <= REVOKED_WITHIN_SECONDS
        reason, saw, untouched = self._observe(lambda: self._ask(self.enrolment.token('csmf-2')))
        ok = ok and reason == 'peer_revoked' and untouched
        lab.rest.post(f'/v1/peers/{VISITOR[0]}/revoke', {'revoked': False})
        happened = (f'{seen - first} of {3 * STEADY_RATE} packets arrived, the last '
                    f'{0 if after is None else after * 1000:.0f} ms after the revocation; then '
                    f'{saw}, {reason}')
        return Outcome(f'csmf-2 revoked while it sends {STEADY_RATE} packets/s',
                       f'none after {REVOKED_WITHIN_SECONDS:.0f} s, and no new session', happened,
                       ok), self._visit

    def gateway_elsewhere(self):
        """A gateway has a session, and its own server alone is open to it."""
        outcome, inbound = self._gateway_sends('to the NSMF', NSMF, 8080, 'selector_mismatch')
        return outcome, lambda: self._reaches(inbound, REGISTRATION_PORT)

    def gateway_unregistered(self):
        """And of that server only where gateways register, until it has (TR 33.862 5.4)."""
        outcome, inbound = self._gateway_sends(
            'to the MSGin5G server, before it has registered', MSG_SERVER, MSG_PORT,
            'not_registered')

        def twin():
            self._reaches(inbound, REGISTRATION_PORT)
            server = self.lab.gate_side[1].rest('msgin5g-4-server')
            server.post(f'/v1/peers/{GATEWAY[0]}/registration',
                        {'interface': 'msgin5g-4', 'registered': True})
            server.close()
            self._reaches(inbound, MSG_PORT)
            outcome.happened += '; the server says that it is registered'
        return outcome, twin

    def _gateway_sends(self, what, destination, port, verdict):
        """The outcome, and the SA that the gateway sent it by."""
        lab = self.lab
        inbound, _ = self.enrolment.sas(self.enrolment.open(GATEWAY, initial_contact=True), GATEWAY)
        lab.counter.settle()
        before, seen = lab.rest.verdicts()[verdict], lab.counter.count()
        for _ in range(5):
            self._send(inbound, GATEWAY[2], destination, port)
        wait_until(lambda: lab.rest.verdicts()[verdict] - before == 5, 5)
        lab.counter.settle()
        refused, reached = lab.rest.verdicts()[verdict] - before, lab.counter.count() - seen
        return Outcome(f'5 packets of the gateway {what}, in its own session', verdict,
                       f'{verdict} {refused}, {reached} arrived',
                       refused == 5 and reached == 0), inbound

    def _reaches(self, inbound, port):
        first = self.lab.counter.count()
        self._send(inbound, GATEWAY[2], MSG_SERVER, port)
        if not wait_until(lambda: self.lab.counter.count() == first + 1, 5):
            raise RuntimeError(f'tcp/{port} of the MSGin5G server was not reached')

    def cases(self):
        """(name, outcome) one after the other; each is run when it is asked for."""
        for name, function in (
                ('no certificate', self.no_certificate), ('another CA', self.other_ca),
                ('expired certificate', self.expired_certificate),
                ('not a client\'s', self.server_certificate), ('wrong role', self.wrong_role),
                ('a peer as the gate', self.peer_posing_as_gate), ('early data', self.early_data),
                ('wrong pre-shared key', self.wrong_key), ('stolen proof', self.other_proof),
                ('somebody else\'s token', self.stolen_token),
                ('expired token', self.expired_token), ('token without scope', self.other_scope),
                ('revoked meanwhile', self.revoked),
                ('gateway to the NSMF', self.gateway_elsewhere),
                ('gateway unregistered', self.gateway_unregistered)):
            outcome, twin = function()
            try:
                twin()
                outcome.happened += '; put right, it passes'
            except (SessionError, SSL.Error, OSError, RuntimeError,
                    http.client.HTTPException) as error:
                outcome.happened += f'; its twin fails, too: {error}'
                outcome.ok = False
            yield name, outcome
