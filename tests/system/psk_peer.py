"""A peer without a certificate: TLS 1.3 with an external pre-shared key (RFC 8446 2.2), tokens bound to
a key that it proves to have for each request (DPoP, RFC 9449). Otherwise as session_peer's.

    key = PskKey('7f3a9c', 'non-3gpp-gateway', folder / 'gateway.psk')
    proof = ProofKey(); proof.thumbprint          # for policy, RFC 7638
    with PskPeer(socket.create_connection(...), key, proof, 'https://gate.example:4434',
                 'gate.example') as connection:
        session = connection.open({'interface': 'msgin5g-4', 'spi': 0x2001}, token)
"""

import hashlib
import json
import secrets
import time
import uuid

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from OpenSSL import SSL
from OpenSSL._util import ffi, lib  # pyOpenSSL itself has no pre-shared keys

from session_peer import SessionPeer, base64url


def sign_es256(key, header, payload):
    """A compact JWS (RFC 7515 7.1)."""
    signed = '.'.join(base64url(json.dumps(part).encode()) for part in (header, payload))
    r, s = utils.decode_dss_signature(key.sign(signed.encode('ascii'), ec.ECDSA(hashes.SHA256())))
    return f'{signed}.{base64url(r.to_bytes(32, "big") + s.to_bytes(32, "big"))}'


class ProofKey:
    """The key that proves whose token it is."""

    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())
        numbers = self.key.public_key().public_numbers()
        self.jwk = {'crv': 'P-256', 'kty': 'EC', 'x': base64url(numbers.x.to_bytes(32, 'big')),
                    'y': base64url(numbers.y.to_bytes(32, 'big'))}
        # RFC 7638 3: the required members, sorted, without white space.
        canonical = json.dumps(self.jwk, separators=(',', ':'), sort_keys=True).encode()
        self.thumbprint = base64url(hashlib.sha256(canonical).digest())

    def prove(self, method, url, token=None, nonce=None, **change):
        """The value of the header DPoP (RFC 9449 4.2)."""
        claims = {'jti': uuid.uuid4().hex, 'htm': method, 'htu': url, 'iat': int(time.time())}
        if token is not None:
            claims['ath'] = base64url(hashlib.sha256(token.encode('ascii')).digest())
        if nonce is not None:
            claims['nonce'] = nonce
        return sign_es256(self.key, {'typ': 'dpop+jwt', 'alg': 'ES256', 'jwk': self.jwk},
                          {**claims, **change})


class PskKey:
    """A pre-shared key and the file in which the guard finds it."""

    def __init__(self, identity, peer, file, key=None):
        self.identity, self.peer, self.file = identity, peer, file
        self.key = key or secrets.token_bytes(32)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.write_text(self.key.hex() + '\n', encoding='ascii')


class PskPeer(SessionPeer):
    """`url` is how the guard's configuration calls the listener; `protocols` are offered by ALPN."""

    mode = 2

    def __init__(self, sock, key, proof, url, gate_name, protocols=()):
        self.proof, self.url, self.protocols = proof, url, protocols
        self.identity = key.identity
        super().__init__(sock, None, key, gate_name)

    def _context(self, ca, credential):
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        if self.protocols:
            context.set_alpn_protos(list(self.protocols))

        @ffi.callback('unsigned int(SSL *, const char *, char *, unsigned int, unsigned char *, '
                      'unsigned int)')
        def use(_, hint, identity, identity_size, key, key_size):
            name = credential.identity.encode('ascii') + b'\0'
            ffi.memmove(identity, name, len(name))
            ffi.memmove(key, credential.key, len(credential.key))
            return len(credential.key)

        self._use = use  # as long as the connection
        lib.SSL_CTX_set_psk_client_callback(context._context, use)
        return context

    def _check_gate(self):
        """Who has the key is the gate."""

    def _own_identity(self):
        return self.identity

    def _ask_with_token(self, method, target, token, body=b''):
        """The first answer gives the nonce that the proof must have."""
        nonce = None
        for _ in range(2):
            proof = self.proof.prove(method, self.url + target, token, nonce)
            status, headers, answer = self.ask(
                method, target, [('Authorization', f'DPoP {token}'), ('DPoP', proof),
                                 ('Content-Type', 'application/json')], body)
            nonce = headers.get('DPoP-Nonce')
            if status != 401 or nonce is None:
                break
        return status, headers, answer
