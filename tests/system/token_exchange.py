"""An authorization server's token endpoint for token exchange (RFC 8693) over mutual TLS. glewlwyd, which
oauth_server.py runs, does not know that grant, so this one is the tests' own; it takes a request to the
letter of the RFC or refuses it by the RFC's errors.

    server = TokenExchange(namespace, pki, issuer, 'https://nsmf.example')
    server.tokens[token]      # the claims of the token that this one was given for
"""

import base64
import http.server
import json
import secrets
import ssl
import threading
import urllib.parse

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

PORT = 9444
URL = f'https://127.0.0.1:{PORT}/token'
CLIENT = 'gate'
GRANT = 'urn:ietf:params:oauth:grant-type:token-exchange'
ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token'


class Refused(Exception):
    """By an error of RFC 6749 5.2 or RFC 8693 2.2.2."""


class TokenExchange(http.server.ThreadingHTTPServer):
    """It knows the gate by a certificate of pki or, with `secret`, by that. `issuer` (session_peer's)
    signed the tokens that it takes, and `audience` is for whom it gives others. `answer` changes what it
    answers; `errors`: what it says of a client's tokens; a cleared `open` makes it wait."""

    daemon_threads = True

    def __init__(self, namespace, pki, issuer, audience, secret=None):
        own = pki.issue('as.example', 'server', addresses=['127.0.0.1'])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(str(own.certificate_file), str(own.key_file))
        if secret is None:
            context.load_verify_locations(str(pki.ca.certificate_file))
            context.verify_mode = ssl.CERT_REQUIRED
        self.issuer, self.audience, self.secret = issuer, audience, secret
        self.tokens, self.asked, self.answer, self.errors = {}, [], {}, {}
        self.open = threading.Event()
        self.open.set()
        with namespace.entered():
            super().__init__(('127.0.0.1', PORT), Endpoint)
        self.socket = context.wrap_socket(self.socket, server_side=True,
                                          do_handshake_on_connect=False)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        """A gate that gave up waiting is no error of ours."""

    def stop(self):
        self.open.set()
        self.shutdown()
        self.server_close()

    def claims(self, token):
        """Of a token that the issuer signed."""
        head, payload, signature = token.split('.')
        raw = base64.urlsafe_b64decode(signature + '==')
        der = utils.encode_dss_signature(int.from_bytes(raw[:32], 'big'),
                                         int.from_bytes(raw[32:], 'big'))
        try:
            self.issuer.key.public_key().verify(der, f'{head}.{payload}'.encode(),
                                                ec.ECDSA(hashes.SHA256()))
        except InvalidSignature as wrong:
            raise Refused('invalid_request') from wrong
        return json.loads(base64.urlsafe_b64decode(payload + '=='))

    def exchange(self, form):
        """The answer to a form whose sender is known."""
        if form.get('grant_type') != [GRANT]:
            raise Refused('unsupported_grant_type')
        expected = {'grant_type', 'subject_token', 'subject_token_type', 'requested_token_type',
                    'audience'}
        if set(form) - {'client_id'} != expected or any(len(v) != 1 for v in form.values()):
            raise Refused('invalid_request')
        if (form['subject_token_type'] != [ACCESS_TOKEN] or
                form['requested_token_type'] != [ACCESS_TOKEN]):
            raise Refused('invalid_request')
        claims = self.claims(form['subject_token'][0])
        if form['audience'] != [self.audience]:
            raise Refused('invalid_target')
        if error := self.errors.get(claims['client_id']):
            raise Refused(error)
        token = secrets.token_urlsafe(32)
        self.tokens[token] = claims
        answer = {'access_token': token, 'issued_token_type': ACCESS_TOKEN, 'token_type': 'Bearer',
                  'expires_in': 300, **self.answer}
        return {name: value for name, value in answer.items() if value is not None}


class Endpoint(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        form = urllib.parse.parse_qs(self.rfile.read(int(self.headers['Content-Length'])).decode(),
                                     strict_parsing=True)
        self.server.asked.append(form)
        self.server.open.wait(60)
        if not self._knows_client(form):
            self._answer(401, {'error': 'invalid_client'})
        elif self.headers['Content-Type'] != 'application/x-www-form-urlencoded':
            self._answer(400, {'error': 'invalid_request'})
        else:
            try:
                self._answer(200, self.server.exchange(form))
            except Refused as refused:
                self._answer(400, {'error': str(refused)})

    def _knows_client(self, form):
        """RFC 8705 2, or RFC 6749 2.3.1."""
        if self.server.secret is None:
            names = dict(self.connection.getpeercert()['subjectAltName'])
            return names['DNS'] == 'gate.example' and form.get('client_id') == [CLIENT]
        pair = f'{CLIENT}:{urllib.parse.quote(self.server.secret, safe="")}'.encode()
        return self.headers['Authorization'] == f'Basic {base64.b64encode(pair).decode()}'

    def _answer(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(text)))
        self.send_header('Cache-Control', 'no-store')
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass
