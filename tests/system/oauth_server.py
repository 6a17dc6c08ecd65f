"""An authorization server that none of us wrote: glewlwyd, as Debian has it. Its clients are peers that
act for themselves (RFC 6749 4.4) and authenticate by their certificate (RFC 8705 2.1) or, having none,
by a secret and a proof of possession (RFC 9449). Its access tokens are RFC 9068's: bound to that
certificate or key, for one audience (`resource`, RFC 8707), signed with ES256.

    server = OAuthServer(namespace, folder, pki, '10.9.0.1', {'nsi': 'https://gate.example/nsmf'})
    server.start()
    server.add_certificate_client('csmf-1', 'csmf-1.example', ['nsi'])
    token = server.token(peer_namespace, 'csmf-1', 'nsi', credential)
"""

import base64
import http.client
import json
import pathlib
import secrets
import socket
import ssl
import subprocess
import urllib.parse

from cryptography.hazmat.primitives.asymmetric import ec

from processes import Process
from session_peer import base64url

PROGRAM = '/usr/bin/glewlwyd'
MODULES = '/usr/lib/glewlwyd'
SCHEMA = '/usr/share/dbconfig-common/data/glewlwyd/install/sqlite3'
INITIAL = {'username': 'admin', 'password': 'password'}  # what the schema comes with
PLUGIN = '/api/oidc'
BRIEF = '/api/brief'  # the same, with tokens that live for a second


class OAuthError(Exception):
    """The token endpoint's refusal."""

    def __init__(self, status, text):
        self.status = status
        super().__init__(f'{status} {text}')


class OAuthServer(Process):
    """pki (session_peer's) makes its certificate and is whom it believes its clients' from. It
    listens on `address`, which is one of the namespace's own. scopes: {scope: audience}."""

    def __init__(self, namespace, folder, pki, address, scopes, lifetime=900, port=4593):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.pki, self.address, self.port = pki, address, port
        self.scopes, self.lifetime = scopes, lifetime
        self.url = f'https://{address}:{port}'
        self.issuer = self.url + PLUGIN
        self.cookie = None
        own = pki.issue('as.example', 'server', [address])
        database = self.folder / 'as.db'
        with open(SCHEMA, encoding='utf-8') as schema:
            subprocess.run(['sqlite3', database], stdin=schema, check=True)
        self.config_file = self.folder / 'as.conf'
        self.config_file.write_text('\n'.join([
            f'port = {port}', f'bind_address = "{address}"', f'external_url = "{self.url}"',
            'api_prefix = "api"', 'login_url = "login.html"', 'hash_algorithm = "SHA512"',
            f'static_files_path = "{self.folder}"', f'cookie_domain = "{address}"',
            'log_mode = "console"', 'log_level = "DEBUG"',
            *(f'{name}_path = "{MODULES}/{folder}"' for name, folder in (
                ('user_module', 'user'), ('user_middleware_module', 'user_middleware'),
                ('client_module', 'client'), ('user_auth_scheme_module', 'scheme'),
                ('plugin_module', 'plugin'))),
            'use_secure_connection = true', f'secure_connection_key_file = "{own.key_file}"',
            f'secure_connection_pem_file = "{own.certificate_file}"',
            f'secure_connection_ca_file = "{pki.ca.certificate_file}"',
            f'database = {{ type = "sqlite3"; path = "{database}"; }};', '']), encoding='ascii')
        super().__init__(namespace, [PROGRAM, f'--config-file={self.config_file}'],
                         self.folder / 'as.log')

    def start(self):
        self.launch()
        self.require(self._listening, 'listening')
        _, headers, _ = self._call('POST', '/api/auth/', INITIAL)
        self.cookie = headers['Set-Cookie'].partition(';')[0]
        self._call('PUT', '/api/profile/password',
                   {'old_password': INITIAL['password'], 'password': secrets.token_urlsafe(24)})
        for scope in self.scopes:
            self._call('POST', '/api/scope/', {'name': scope, 'password_required': False})
        jwks = self._keys()
        for path, lifetime in ((PLUGIN, self.lifetime), (BRIEF, 1)):
            self._call('POST', '/api/mod/plugin/', {
                'module': 'oidc', 'name': path.rpartition('/')[2], 'display_name': path,
                'enabled': True, 'parameters': self._plugin(jwks, lifetime)})

    @staticmethod
    def _keys():
        key = ec.generate_private_key(ec.SECP256R1()).private_numbers()
        number = lambda value: base64url(value.to_bytes(32, 'big'))
        jwk = {'kty': 'EC', 'crv': 'P-256', 'alg': 'ES256', 'use': 'sig', 'kid': 'as-1',
               'x': number(key.public_numbers.x), 'y': number(key.public_numbers.y),
               'd': number(key.private_value)}
        return json.dumps({'keys': [jwk]})

    def _plugin(self, jwks, lifetime):
        off = ('code', 'token', 'implicit', 'password', 'refresh', 'device')
        return {'iss': self.issuer, 'jwks-private': jwks,
                'default-kid': 'as-1', 'jwt-type': 'ecdsa', 'jwt-key-size': '256',
                'access-token-duration': lifetime, 'refresh-token-duration': 900,
                'code-duration': 60, 'allow-non-oidc': True, 'auth-type-client-enabled': True,
                **{f'auth-type-{kind}-enabled': False for kind in off},
                'client-cert-source': 'TLS', 'resource-allowed': True,
                'resource-scope': {scope: [audience] for scope, audience in self.scopes.items()},
                'oauth-dpop-allowed': True, 'oauth-dpop-iat-duration': 60}

    def _listening(self):
        with self.namespace.entered(), socket.socket() as probe:
            return probe.connect_ex((self.address, self.port)) == 0

    def for_guard(self, _):
        """Its entry in guard.yaml."""
        return {'issuer': self.issuer, 'keys': self.issuer + '/jwks',
                'keys_ca': str(self.pki.ca.certificate_file), 'algorithms': ['ES256']}

    # -- its clients

    def add_certificate_client(self, client, name, scopes):
        """`name`: the alternative name of its certificate."""
        self._add_client(client, scopes, token_endpoint_auth_method=['tls_client_auth'],
                         tls_client_auth_san_dns=name)

    def add_secret_client(self, client, secret, scopes):
        self._add_client(client, scopes, client_secret=secret,
                         token_endpoint_auth_method=['client_secret_basic'])

    def _add_client(self, client, scopes, **how):
        self._call('POST', '/api/client/', {
            'client_id': client, 'name': client, 'enabled': True, 'confidential': True,
            'authorization_type': ['client_credentials'], 'scope': scopes, **how})

    # -- what clients do

    def token(self, namespace, client, scope, credential=None, audience=None, brief=False):
        """Asked for from `namespace`, with a certificate or, being refused, without."""
        return self._token(namespace, client, scope, audience, credential,
                           plugin=BRIEF if brief else PLUGIN)

    def token_by_proof(self, namespace, client, secret, scope, proof, audience=None):
        """proof: psk_peer's ProofKey."""
        basic = base64.b64encode(f'{client}:{secret}'.encode('ascii')).decode('ascii')
        return self._token(namespace, client, scope, audience, headers={
            'Authorization': f'Basic {basic}',
            'DPoP': proof.prove('POST', self.issuer + '/token')})

    def _token(self, namespace, client, scope, audience, credential=None, headers=(),
               plugin=PLUGIN):
        form = urllib.parse.urlencode({
            'grant_type': 'client_credentials', 'client_id': client, 'scope': scope,
            'resource': audience or self.scopes[scope]})
        status, _, text = self._exchange(
            namespace, 'POST', plugin + '/token', form,
            {'Content-Type': 'application/x-www-form-urlencoded', **dict(headers)}, credential)
        if status != 200:
            raise OAuthError(status, text.decode())
        return json.loads(text)['access_token']

    # -- HTTP

    def _call(self, method, path, body):
        """As its administrator, on its own host."""
        headers = {'Content-Type': 'application/json'}
        if self.cookie:
            headers['Cookie'] = self.cookie
        status, answered, text = self._exchange(self.namespace, method, path, json.dumps(body),
                                                headers)
        if status != 200:
            raise RuntimeError(f'{PROGRAM}: {method} {path}: {status} {text.decode()}\n'
                               f'{self.log_tail()}')
        return status, answered, text

    def _exchange(self, namespace, method, path, body, headers, credential=None):
        context = ssl.create_default_context(cafile=str(self.pki.ca.certificate_file))
        if credential is not None:
            context.load_cert_chain(credential.certificate_file, credential.key_file)
        connection = http.client.HTTPSConnection(self.address, self.port, context=context,
                                                 timeout=20)
        with namespace.entered():
            connection.connect()
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()
