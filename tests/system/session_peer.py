"""A peer that gets sessions from the guard, and what it needs for that: a PKI, an authorization
server's key and tokens. Written from docs/session-interface.md and docs/session-keys.md alone; TLS is
pyOpenSSL's, since Python's own ssl has no exporter.

    pki = PeerPki(folder)
    issuer = TokenIssuer('https://as.example'); issuer.write_jwks(folder / 'as.jwks')
    peer = pki.issue('csmf-1.example', 'client')
    with SessionPeer(socket.create_connection(...), pki.ca, peer, 'gate.example') as connection:
        token = issuer.token('https://gate.example/nsmf', certificate=peer)
        session = connection.open({'interface': 'nsmf', 'spi': 0x2001}, token)
        session.key_to_gate, session.key_to_peer, session.answer['spi']
        connection.confirm(session)
"""

import base64
import datetime
import hashlib
import http.client
import io
import ipaddress
import json
import pathlib
import secrets
import time
import types
import uuid

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL

import session_keys

ALGORITHMS = ['aes-256-gcm-16', 'aes-128-gcm-16', 'chacha20-poly1305']
TLS_1_3 = 0x0304


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b'=').decode('ascii')


def _from_base64url(text):
    return base64.urlsafe_b64decode(text + '=' * (-len(text) % 4))


def _der(certificate):
    return certificate.public_bytes(serialization.Encoding.DER)


# ---- certificates

class Credential:
    """A certificate and its key, as objects and as PEM files."""

    def __init__(self, folder, name, certificate, key):
        self.certificate, self.key = certificate, key
        stem = f'{name}-{certificate.serial_number:x}'
        self.certificate_file = folder / f'{stem}.pem'
        self.key_file = folder / f'{stem}.key'
        self.certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.key_file.touch(mode=0o600)
        self.key_file.write_bytes(key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption()))


class PeerPki:
    """A CA after TS 33.310, whoever it signs, and its revocation list."""

    def __init__(self, folder, name='peers'):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(f'{name} CA', f'{name} CA', key, 30)
        builder = builder.add_extension(x509.BasicConstraints(True, None), True)
        builder = builder.add_extension(self._key_usage(sign=False), True)
        self.ca = Credential(self.folder, f'{name}-ca', builder.sign(key, hashes.SHA256()), key)
        self.revoked = []
        self.list_file = self.folder / f'{name}.crl'
        self._list_number = 0
        self.write_list()

    def _builder(self, subject, issuer, key, days):
        now = datetime.datetime.utcnow()  # `days` may be negative: it has ended
        name = lambda text: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
        builder = (x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer))
                   .public_key(key.public_key()).serial_number(x509.random_serial_number())
                   .not_valid_before(now + datetime.timedelta(days=min(days, 0), hours=-1))
                   .not_valid_after(now + datetime.timedelta(days=days))
                   .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()),
                                  False))
        above = self.ca.key if hasattr(self, 'ca') else key
        return builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(above.public_key()), False)

    @staticmethod
    def _key_usage(sign):
        return x509.KeyUsage(sign, False, False, False, False, not sign, not sign, False, False)

    def issue(self, name, role, addresses=(), days=7, key=None):
        """`role`: client or server. `name` is the alternative name. `key`: a private key that is
        there already."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        usage = (ExtendedKeyUsageOID.CLIENT_AUTH if role == 'client'
                 else ExtendedKeyUsageOID.SERVER_AUTH)
        names = [x509.DNSName(name)]
        names += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        point = x509.DistributionPoint([x509.UniformResourceIdentifier('http://crl.example/a.crl')],
                                       None, None, None)
        builder = (self._builder(name, f'{self.name} CA', key, days)
                   .add_extension(x509.BasicConstraints(False, None), True)
                   .add_extension(self._key_usage(sign=True), True)
                   .add_extension(x509.ExtendedKeyUsage([usage]), False)
                   .add_extension(x509.SubjectAlternativeName(names), False)
                   .add_extension(x509.CRLDistributionPoints([point]), False))
        return Credential(self.folder, name, builder.sign(self.ca.key, hashes.SHA256()), key)

    def revoke(self, credential):
        self.revoked.append(credential.certificate.serial_number)
        self.write_list()

    def write_list(self, age=datetime.timedelta(minutes=1), left=datetime.timedelta(days=1)):
        self._list_number += 1
        now = datetime.datetime.utcnow()
        builder = (x509.CertificateRevocationListBuilder().issuer_name(self.ca.certificate.subject)
                   .last_update(now - age)
                   .next_update(now + left)
                   .add_extension(x509.CRLNumber(self._list_number), False)
                   .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(
                       self.ca.key.public_key()), False))
        for serial in self.revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build())
        crl = builder.sign(self.ca.key, hashes.SHA256())
        self.list_file.write_bytes(crl.public_bytes(serialization.Encoding.PEM))


# ---- tokens

class TokenIssuer:
    """An authorization server's key, and the access tokens (RFC 9068) that it signs."""

    def __init__(self, issuer, kid='es256-1'):
        self.issuer, self.kid = issuer, kid
        self.key = ec.generate_private_key(ec.SECP256R1())

    def write_jwks(self, path):
        numbers = self.key.public_key().public_numbers()
        jwk = {'kty': 'EC', 'crv': 'P-256', 'alg': 'ES256', 'use': 'sig', 'kid': self.kid,
               'x': base64url(numbers.x.to_bytes(32, 'big')),
               'y': base64url(numbers.y.to_bytes(32, 'big'))}
        pathlib.Path(path).write_text(json.dumps({'keys': [jwk]}), encoding='ascii')

    def for_guard(self, folder):
        """Its entry in guard.yaml; the keys are a file in `folder`."""
        self.write_jwks(folder / 'as.jwks')
        return {'issuer': self.issuer, 'keys': 'as.jwks'}

    def token(self, audience, certificate, client='csmf-1', scope='slice:create', **change):
        """Bound to the certificate (RFC 8705), or with a `thumbprint` attribute to that key (RFC
        9449); `change` replaces claims."""
        now = int(time.time())
        if hasattr(certificate, 'thumbprint'):
            cnf = {'jkt': certificate.thumbprint}
        else:
            cnf = {'x5t#S256': base64url(hashlib.sha256(_der(certificate.certificate)).digest())}
        claims = {'iss': self.issuer, 'sub': client, 'client_id': client, 'aud': audience,
                  'iat': now - 5, 'exp': now + 600, 'jti': uuid.uuid4().hex, 'scope': scope,
                  'cnf': cnf, **change}
        header = {'alg': 'ES256', 'typ': 'at+jwt', 'kid': self.kid}
        signed = '.'.join(base64url(json.dumps(part).encode()) for part in (header, claims))
        der = self.key.sign(signed.encode('ascii'), ec.ECDSA(hashes.SHA256()))
        r, s = utils.decode_dss_signature(der)
        return f'{signed}.{base64url(r.to_bytes(32, "big") + s.to_bytes(32, "big"))}'


# ---- sessions

class SessionError(Exception):
    """A problem (RFC 9457)."""

    def __init__(self, status, problem):
        self.status, self.problem = status, problem
        super().__init__(f'{status} {problem}')


class Session:
    """`master` is what the tests look for where it must not be; a peer forgets it at once."""

    def __init__(self, answer, spi, master, key_to_gate, key_to_peer):
        self.answer = answer
        self.id = answer['session']
        self.master = master
        self.spi_to_gate, self.spi_to_peer = answer['spi'], spi
        self.key_to_gate, self.key_to_peer = key_to_gate, key_to_peer


class _Received(io.RawIOBase):
    def __init__(self, connection):
        self.connection = connection

    def readable(self):
        return True

    def readinto(self, buffer):
        try:
            data = self.connection.recv(len(buffer))
        except (SSL.ZeroReturnError, SSL.SysCallError):
            return 0
        buffer[:len(data)] = data
        return len(data)


class SessionPeer:
    """One TLS 1.3 connection over a connected blocking socket, with a client certificate, or with
    credential=None without. It checks the gate: anchor, name."""

    mode = 1  # docs/session-keys.md

    def __init__(self, sock, ca, credential, gate_name):
        sock.setblocking(True)  # pyOpenSSL knows no time-outs of Python's
        self.credential = credential
        self.gate_name = gate_name
        self.socket = sock
        self.tls = SSL.Connection(self._context(ca, credential), sock)
        self.tls.set_connect_state()
        self.tls.do_handshake()
        self._check_gate()

    def _context(self, ca, credential):
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.load_verify_locations(str(ca.certificate_file))
        context.set_verify(SSL.VERIFY_PEER, lambda *arguments: bool(arguments[-1]))
        if credential is not None:
            context.use_certificate_file(str(credential.certificate_file))
            context.use_privatekey_file(str(credential.key_file))
        return context

    def _check_gate(self):
        names = self.tls.get_peer_certificate().to_cryptography().extensions.get_extension_for_class(
            x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
        if self.gate_name not in names:
            raise ValueError(f'the gate is {names}, not {self.gate_name}')

    def _own_identity(self):
        return self.credential.certificate.extensions.get_extension_for_class(
            x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)[0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def ask(self, method, target, headers=(), body=b''):
        """(status, headers, JSON or None)."""
        lines = [f'{method} {target} HTTP/1.1', f'Host: {self.gate_name}',
                 f'Content-Length: {len(body)}', *(f'{name}: {value}' for name, value in headers)]
        self.tls.sendall('\r\n'.join([*lines, '', '']).encode('ascii') + body)
        stream = io.BufferedReader(_Received(self.tls))
        response = http.client.HTTPResponse(types.SimpleNamespace(makefile=lambda _: stream),
                                            method=method)
        response.begin()
        content = response.read()
        return response.status, response.headers, json.loads(content) if content else None

    def _ask_with_token(self, method, target, token, body=b''):
        headers = [('Authorization', f'Bearer {token}'), ('Content-Type', 'application/json')]
        return self.ask(method, target, headers, body)

    def open(self, request, token):
        """`request` needs interface and spi; the rest has defaults."""
        nonce = secrets.token_bytes(32)
        body = {'algorithms': ALGORITHMS, 'nonce': base64url(nonce), **request}
        status, _, answer = self._ask_with_token('POST', '/session/v1/sessions', token,
                                                 json.dumps(body).encode())
        if status != 201:
            raise SessionError(status, answer)
        return self._derive(answer, body['spi'], nonce)

    def _derive(self, answer, spi, nonce):
        own = self._own_identity()
        if answer['peer_identity'] != own:
            raise ValueError(f'the gate takes {own} for {answer["peer_identity"]}')
        if answer['gate_identity'] != self.gate_name:
            raise ValueError(f'the gate says it is {answer["gate_identity"]}')
        context = session_keys.context({
            'tls_version': TLS_1_3, 'mode': self.mode, 'gate': answer['gate_identity'],
            'peer': answer['peer_identity'], 'to_gate': answer['spi'], 'to_peer': spi,
            'gate_nonce': _from_base64url(answer['nonce']).hex(), 'peer_nonce': nonce.hex(),
            **{name: answer[name] for name in ('interface', 'session', 'generation', 'algorithm',
                                               'esn', 'selectors')}})
        master = self.tls.export_keying_material(
            session_keys.LABEL, session_keys.MASTER_BYTES, hashlib.sha256(context).digest())
        keys = [session_keys.sa_key(master, direction, of, answer['algorithm'])
                for direction, of in ((0, answer['spi']), (1, spi))]
        return Session(answer, spi, master, *keys)

    def confirm(self, session):
        status, _, problem = self.ask('POST', f'/session/v1/sessions/{session.id}/confirm')
        if status != 204:
            raise SessionError(status, problem)

    def end(self, session_id, token):
        status, _, problem = self._ask_with_token(
            'DELETE', f'/session/v1/sessions/{session_id}', token)
        if status != 204:
            raise SessionError(status, problem)
