"""A gate that also lets out what its servers send: an NSMF that notifies CSMFs, and an MSGin5G server
whose gateways register and are sent messages. Peers and servers are real ones over TLS."""

import contextlib
import http.client
import http.server
import json
import pathlib
import ssl
import threading
import socket

from processes import Guard
from request_world import PROFILE, RequestWorld, policy
from session_world import ISSUER
from tunnel import GATE, PEER, SERVER, peer_body

GATEWAY_PROFILE = pathlib.Path(PROFILE).with_name('msgin5g-2.yaml')
TRUSTED = '10.2.0.1'
AUDIENCE = 'https://gate.example/msgin5g'
GATEWAY_PORT, MSGIN5G_PORT, NSMF_OUT, MSGIN5G_OUT = 4445, 8445, 4480, 4481
GATEWAY_OPERATIONS = ['register', 'deregister', 'message:send', 'report:send', 'message:deliver',
                      'report:deliver']
# Where peers listen: each port has another certificate.
CSMF, IMPOSTOR, NAMELESS, GATEWAY = 9443, 9444, 9445, 9446
REGISTRATIONS = '/msgs-gwregistration/v1/registrations'
DELIVERY = '/msgg-l3gdelivery/v1/deliver-message'


class Recorder:
    """An HTTPS server that wants a certificate, answers by `answer(method, path)`, and keeps what came:
    (method, path, headers, body)."""

    def __init__(self, namespace, address, port, credential, authority, answer=None):
        seen = self.seen = []
        answer = answer or (lambda method, path: (204, {}))

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'

            def _take(self):
                length = int(self.headers.get('Content-Length') or 0)
                seen.append((self.command, self.path, dict(self.headers), self.rfile.read(length)))
                status, headers = answer(self.command, self.path)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if status != 204:
                    self.send_header('Content-Length', '0')
                self.end_headers()

            do_GET = do_POST = do_DELETE = _take

            def log_message(self, *_):
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(credential.certificate_file, credential.key_file)
        context.load_verify_locations(authority.certificate_file)
        context.verify_mode = ssl.CERT_REQUIRED

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def get_request(self):
                plain, source = super().get_request()
                return context.wrap_socket(plain, server_side=True,
                                           do_handshake_on_connect=False), source

            def handle_error(self, *_):
                pass  # a client that went away

        with namespace.entered():
            self.server = Server((address, port), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def callback(port, path='/'):
    return f'https://{PEER}:{port}{path}'


class EgressWorld(RequestWorld):
    @staticmethod
    def policy():
        body = policy()
        csmf_1, csmf_2 = body['peers']
        csmf_1['callbacks'] = [callback(CSMF, '/cb/'), callback(IMPOSTOR), callback(NAMELESS),
                               f'https://{SERVER}:9443/', 'https://localhost:9443/',
                               f'https://{GATE}:9443/']
        csmf_2['callbacks'] = [callback(CSMF, '/other/')]
        body['peers'].append(peer_body(
            'gw-1', client='10.1.0.4', endpoint='192.0.2.4', role='gateway', tenant='operator-a',
            token={'issuer': ISSUER, 'client_id': 'gw-1'}, callbacks=[callback(GATEWAY)]))
        body['interfaces'].append(
            {'name': 'msgin5g', 'type': 'msgin5g', 'side': 'local', 'zone': 'external',
             'prefixes': ['10.2.0.11/32'], 'protection': 'tls',
             'ports': [{'protocol': 'tcp', 'first': MSGIN5G_PORT, 'last': MSGIN5G_PORT}]})
        body['policies'].append({'name': 'gateways', 'role': 'gateway', 'interface': 'msgin5g',
                                 'scope': 'gw', 'operations': GATEWAY_OPERATIONS})
        return body

    def guard_settings(self):
        self._start_recorders()
        own = self.peers.issue(Guard.NAME, 'server')
        out = self.peers.issue(Guard.NAME, 'client')
        pair = {'certificates': [{'chain': str(own.certificate_file), 'key': str(own.key_file)}]}
        ca = str(self.peers.ca.certificate_file)
        client = {'ca': ca, 'certificate': str(out.certificate_file), 'key': str(out.key_file)}
        return {
            'interfaces': [{'name': 'msgin5g', 'audience': AUDIENCE}],
            'requests': [{
                'interface': 'msgin5g', 'profile': str(GATEWAY_PROFILE), 'address': '0.0.0.0',
                'port': GATEWAY_PORT, **pair,
                'server': {'url': f'https://{SERVER}:{MSGIN5G_PORT}', **client}}],
            'egress': [
                {'interface': interface, 'profile': str(profile), 'address': TRUSTED, 'port': port,
                 **pair, 'servers': {'ca': ca, 'names': [name]}, 'peers': client}
                for interface, profile, port, name in (
                    ('nsmf-api', PROFILE, NSMF_OUT, 'nsmf.example'),
                    ('msgin5g', GATEWAY_PROFILE, MSGIN5G_OUT, 'msgin5g.example'))]}

    def _start_recorders(self):
        issue, authority = self.peers.issue, self.peers.ca
        self.receivers = {
            port: self._recorder_at(self.peer, PEER, port, issue(name, 'server', addresses),
                                    authority)
            for port, name, addresses in (
                (CSMF, 'csmf-1.example', [PEER]), (IMPOSTOR, 'csmf-2.example', [PEER]),
                (NAMELESS, 'csmf-1.example', []), (GATEWAY, 'gw-1.example', [PEER]))}
        self.decoy = self._recorder_at(self.server, SERVER, 9443,
                                       issue('csmf-1.example', 'server', [SERVER]), authority)

        def answer(method, path):
            if method == 'POST' and path == REGISTRATIONS:
                return self.registration_status, {'Location': f'{REGISTRATIONS}/7'}
            return 204, {}

        self.registration_status = 201
        self.msgin5g = self._recorder_at(self.server, SERVER, MSGIN5G_PORT,
                                         issue('msgin5g.example', 'server', [SERVER]), authority,
                                         answer)
        self.senders = {NSMF_OUT: issue('nsmf.example', 'client'),
                        MSGIN5G_OUT: issue('msgin5g.example', 'client')}
        self.gateway = issue('gw-1.example', 'client')

    def _recorder_at(self, *arguments):
        recorder = Recorder(*arguments)
        self.closing.append(recorder.close)
        return recorder

    @contextlib.contextmanager
    def out(self, port=NSMF_OUT, credential=None):
        """A connection of a server to the gate's way out."""
        credential = credential or self.senders[port]
        context = ssl.create_default_context(cafile=self.peers.ca.certificate_file)
        context.load_cert_chain(credential.certificate_file, credential.key_file)
        connection = http.client.HTTPSConnection(Guard.NAME, port)
        with self.server.entered():
            plain = socket.create_connection((TRUSTED, port), 20)
        connection.sock = context.wrap_socket(plain, server_hostname=Guard.NAME)
        try:
            yield connection
        finally:
            connection.close()

    def send(self, url, body=b'{}', port=NSMF_OUT, method='POST', connection=None, **headers):
        """Status and the answer's JSON (None: it has none)."""
        with contextlib.ExitStack() as stack:
            own = connection or stack.enter_context(self.out(port))
            own.request(method, url, body, {'Content-Type': 'application/json', **headers})
            answer = own.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None

    def why(self, problem):
        """The reason that operators are told."""
        path = f'/v1/decisions/{problem["reference"]}'
        return self.rest.get(path)['items'][0]['reason']

    def deliver(self, path=DELIVERY):
        return self.send(callback(GATEWAY, path), port=MSGIN5G_OUT)

    def ask_gateway(self, method, path, body=None):
        credential = self.gateway
        token = self.issuer.token(AUDIENCE, credential, 'gw-1', scope='gw')
        context = ssl.create_default_context(cafile=self.peers.ca.certificate_file)
        context.load_cert_chain(credential.certificate_file, credential.key_file)
        connection = http.client.HTTPSConnection(Guard.NAME, GATEWAY_PORT)
        with self.peer.entered():
            plain = socket.create_connection((GATE, GATEWAY_PORT), 20)
        connection.sock = context.wrap_socket(plain, server_hostname=Guard.NAME)
        with contextlib.closing(connection):
            return self.ask(method, path, body, token=token, connection=connection)
