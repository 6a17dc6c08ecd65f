"""A peer of the guard that shares no code with it: TLS by pyOpenSSL, tokens and certificates by
python3-cryptography, keys as docs/session-keys.md says (tests/session_keys.py).

    authorities = Authorities(folder)                 # CA of peers and gate, CRL, token issuer
    peer = Peer(namespace, authorities, 'csmf-1.example')
    with peer.connect('192.0.2.1', 4433) as connection:
        answer = connection.open(interface='nsmf', token=authorities.token(peer, 'csmf-1'), spi=0x5001)
        connection.confirm(answer)
"""

import base64
import datetime
import hashlib
import json
import os
import socket
import time

import session_keys
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL

ISSUER = 'https://as.example'
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
ALGORITHM = 'aes-128-gcm-16'
KEY_BYTES = 20


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b'=').decode()


def new_key():
    return ec.generate_private_key(ec.SECP256R1())


def _pem(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                             serialization.NoEncryption())


def write_secret(path, data):
    path.write_bytes(data)
    path.chmod(0o600)
    return path


class Ca:
    """A certificate authority with a revocation list in a file."""

    def __init__(self, folder, name):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.key = new_key()
        self.name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, 'Operator A'),
                               x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self._builder(self.name, self.key.public_key(), 3650)
                                      .add_extension(x509.BasicConstraints(True, 1), True)
                                      .add_extension(_usage(ca=True), True))
        self.anchor = folder / 'ca.pem'
        self.anchor.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        self.crl = folder / 'ca.crl'
        self.crl_number = 0
        self.write_crl([])

    def _builder(self, subject, public_key, days, ends=None):
        now = datetime.datetime.utcnow()
        return (x509.CertificateBuilder().subject_name(subject).issuer_name(self.name)
                .public_key(public_key).serial_number(x509.random_serial_number())
                .not_valid_before(now - datetime.timedelta(days=2))
                .not_valid_after(ends or now + datetime.timedelta(days=days))
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), False)
                .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(
                    self.key.public_key()), False))

    def _sign(self, builder):
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, name, usage, expired=False):
        """(certificate, key) of an end entity whose identity is the DNS name."""
        key = new_key()
        ends = datetime.datetime.utcnow() - datetime.timedelta(days=1) if expired else None
        subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, 'Operator A'),
                             x509.NameAttribute(NameOID.COMMON_NAME, name)])
        point = x509.DistributionPoint([x509.UniformResourceIdentifier('http://crl.example/ca.crl')],
                                       None, None, None)
        builder = (self._builder(subject, key.public_key(), 365, ends)
                   .add_extension(x509.BasicConstraints(False, None), True)
                   .add_extension(_usage(ca=False), True)
                   .add_extension(x509.ExtendedKeyUsage([usage]), False)
                   .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False)
                   .add_extension(x509.CRLDistributionPoints([point]), False))
        return self._sign(builder), key

    def write_crl(self, revoked):
        """Of these certificates, in force from now on for a day."""
        now = datetime.datetime.utcnow()
        self.crl_number += 1
        builder = (x509.CertificateRevocationListBuilder().issuer_name(self.name)
                   .last_update(now - datetime.timedelta(minutes=1))
                   .next_update(now + datetime.timedelta(days=1))
                   .add_extension(x509.CRLNumber(self.crl_number), False)
                   .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(
                       self.key.public_key()), False))
        for certificate in revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(certificate.serial_number)
                .revocation_date(now).build())
        crl = builder.sign(self.key, hashes.SHA256())
        self.crl.write_bytes(crl.public_bytes(serialization.Encoding.PEM))


def _usage(ca):
    return x509.KeyUsage(digital_signature=not ca, content_commitment=False, key_encipherment=False,
                         data_encipherment=False, key_agreement=False, key_cert_sign=ca,
                         crl_sign=ca, encipher_only=False, decipher_only=False)


class Authorities:
    """The CA of peers and gate, and an issuer of access tokens with its key set in a file."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.ca = Ca(folder / 'ca', 'Peers CA')
        self.token_key = new_key()
        self.jwks = folder / 'jwks.json'
        numbers = self.token_key.public_key().public_numbers()
        self.jwks.write_text(json.dumps({'keys': [{
            'kty': 'EC', 'crv': 'P-256', 'kid': 'one', 'alg': 'ES256', 'use': 'sig',
            'x': b64(numbers.x.to_bytes(32, 'big')), 'y': b64(numbers.y.to_bytes(32, 'big'))}]}))
        self.tokens = 0

    def credentials(self, name, usage, ca=None, **more):
        """Files: (certificate, key)."""
        certificate, key = (ca or self.ca).issue(name, usage, **more)
        stem = f'{name}-{os.urandom(4).hex()}'
        shown = self.folder / f'{stem}.pem'
        shown.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return shown, write_secret(self.folder / f'{stem}.key', _pem(key))

    def token(self, certificate, client_id, scope='nsi', audience='https://gate.example/nsmf',
              key=None, **claims):
        """An access token (RFC 9068) bound to the certificate in that file (RFC 8705)."""
        self.tokens += 1
        now = int(time.time())
        der = x509.load_pem_x509_certificate(certificate.read_bytes()).public_bytes(
            serialization.Encoding.DER)
        body = {'iss': ISSUER, 'sub': client_id, 'client_id': client_id, 'aud': audience,
                'iat': now, 'nbf': now, 'exp': now + 3600, 'jti': f'token-{self.tokens}',
                'scope': scope, 'cnf': {'x5t#S256': b64(hashlib.sha256(der).digest())}} | claims
        head = {'typ': 'at+jwt', 'alg': 'ES256', 'kid': 'one'}
        signed = '.'.join(b64(json.dumps(part).encode()) for part in (head, body))
        r, s = decode_dss_signature((key or self.token_key).sign(signed.encode(),
                                                                 ec.ECDSA(hashes.SHA256())))
        return signed + '.' + b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))


class Connection:
    """One TLS connection to the guard."""

    def __init__(self, namespace, address, port, context, timeout=20):
        with namespace.entered():
            self.socket = socket.create_connection((address, port), timeout)
        self.socket.settimeout(None)  # pyOpenSSL wants it to block
        seconds = timeout.to_bytes(8, 'little') + bytes(8)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, seconds)
        self.tls = SSL.Connection(context, self.socket)
        self.tls.set_connect_state()
        self.tls.do_handshake()
        self.nonce = None

    def request(self, method, path, body=None, **headers):
        """(status, decoded body or None)"""
        text = b'' if body is None else json.dumps(body).encode()
        lines = [f'{method} {path} HTTP/1.1', 'Host: gate.example', f'Content-Length: {len(text)}']
        if body is not None:
            lines.append('Content-Type: application/json')
        lines += [f'{name}: {value}' for name, value in headers.items()]
        self.tls.sendall('\r\n'.join(lines).encode() + b'\r\n\r\n' + text)
        data = b''
        while b'\r\n\r\n' not in data:
            data += self.tls.recv(65536)
        head, _, rest = data.partition(b'\r\n\r\n')
        fields = dict(line.lower().split(': ', 1) for line in head.decode().split('\r\n')[1:])
        while len(rest) < int(fields.get('content-length', 0)):
            rest += self.tls.recv(65536)
        return int(head.split()[1]), json.loads(rest) if rest else None

    def ask(self, token, interface='nsmf', spi=0x5001, **more):
        """POST, as it is answered."""
        self.nonce = os.urandom(32)
        body = {'interface': interface, 'spi': spi, 'algorithms': [ALGORITHM],
                'nonce': b64(self.nonce)} | more
        headers = {'Authorization': f'Bearer {token}'} if token else {}
        return self.request('POST', '/session/v1/sessions', body, **headers)

    def keys(self, answer, peer_spi=0x5001):
        """(to the gate, to the peer)"""
        nonce = base64.urlsafe_b64decode(answer['nonce'] + '=')
        context = {'tls_version': 0x0304, 'mode': 1, 'gate': answer['gate_identity'],
                   'peer': answer['peer_identity'], 'interface': answer['interface'],
                   'session': answer['session'], 'generation': answer['generation'],
                   'to_gate': answer['spi'], 'to_peer': peer_spi,
                   'algorithm': answer['algorithm'], 'esn': answer['esn'],
                   'selectors': answer['selectors'], 'gate_nonce': nonce.hex(),
                   'peer_nonce': self.nonce.hex()}
        master = self.tls.export_keying_material(session_keys.LABEL, session_keys.MASTER_BYTES,
                                                 session_keys.context_hash(context))
        return (session_keys.sa_key(master, False, answer['spi'], KEY_BYTES),
                session_keys.sa_key(master, True, peer_spi, KEY_BYTES))

    def confirm(self, answer):
        return self.request('POST', f"/session/v1/sessions/{answer['session']}/confirm")[0]

    def close(self):
        try:
            self.tls.shutdown()
        except SSL.Error:
            pass
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def connect(namespace, address, port, anchor, credentials=None):
    """A connection of a client that shows these credentials: (certificate, key) files."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.load_verify_locations(str(anchor))
    context.set_verify(SSL.VERIFY_PEER)
    if credentials:
        context.use_certificate_file(str(credentials[0]))
        context.use_privatekey_file(str(credentials[1]))
    return Connection(namespace, address, port, context)
