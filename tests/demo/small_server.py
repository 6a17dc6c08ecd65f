"""What the demo's servers share: HTTP/1.1 and JSON in memory, with or without TLS.

There is no authentication in them: that only authenticated peers get this far is the gate's work. With
--tls whoever connects, the gate, must show a certificate, and --seen writes down each request as it came.
A server is a Handler with serve(), and what it keeps.
"""

import http.server
import json
import ssl
import sys
import threading
import urllib.parse

MAX_BODY = 1 << 20


class Refused(Exception):
    """An HTTP status and the reason."""

    def __init__(self, status, reason):
        super().__init__(reason)
        self.status = status


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    server_version = 'demo'
    timeout = 30  # of an idle connection

    def serve(self, path, body):
        """Answers; `path` is decoded and without its query, `body` is JSON ({}: there is none)."""
        raise NotImplementedError

    def _length(self, text, base=10):
        try:
            length = int(text, base)
        except ValueError as error:
            raise Refused(400, 'a length that is not a number') from error
        if not 0 <= length <= MAX_BODY:
            raise Refused(413, f'at most {MAX_BODY} bytes')
        return length

    def _chunks(self):
        """RFC 9112 7.1, without trailers."""
        body = b''
        while length := self._length(self.rfile.readline(100), 16):
            body += self.rfile.read(length)
            self._length(str(len(body)))
            self.rfile.readline(100)
        self.rfile.readline(100)
        return body

    def _body(self):
        if 'Transfer-Encoding' in self.headers:
            data = self._chunks()
        else:
            data = self.rfile.read(self._length(self.headers.get('Content-Length', '0')))
        try:
            return json.loads(data or b'{}')
        except ValueError as error:
            raise Refused(400, f'not JSON: {error}') from error

    def answer(self, status, body=None, location=None):
        data = b'' if body is None else json.dumps(body).encode() + b'\n'
        self.send_response(status)
        if location:
            self.send_header('Location', location)
        if self.close_connection:
            self.send_header('Connection', 'close')
        if data:
            self.send_header('Content-Type', 'application/json')
        if status != 204:
            self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _dispatch(self):
        if self.server.seen:
            line = {'method': self.command, 'target': self.path, 'headers': self.headers.items()}
            with self.server.lock, open(self.server.seen, 'a', encoding='utf-8') as file:
                print(json.dumps(line), file=file)
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        body = self._body()
        try:
            self.serve(path, body)
        except Refused as refused:
            self.answer(refused.status, {'error': {'errorInfo': str(refused)}})

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = _dispatch  # names are http.server's

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except Refused as refused:  # a body that could not be read: the connection is out of step
            self.close_connection = True
            self.answer(refused.status, {'error': {'errorInfo': str(refused)}})
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def log_message(self, format, *args):  # pylint: disable=redefined-builtin
        sys.stderr.write(f'{self.client_address[0]} {format % args}\n')


class Server(http.server.ThreadingHTTPServer):
    """`tls`: files of certificate, key and authority. `kept` is the handler's."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address, handler, kept, tls=None, seen=None):
        super().__init__(address, handler)
        self.kept = kept
        self.seen, self.lock = seen, threading.Lock()
        self.tls = None
        if tls:
            certificate, key, authority = tls
            self.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority)
            self.tls.verify_mode = ssl.CERT_REQUIRED
            self.tls.load_cert_chain(certificate, key)

    def finish_request(self, request, client_address):
        """In the connection's own thread."""
        if self.tls:
            request.settimeout(Handler.timeout)
            try:
                request = self.tls.wrap_socket(request, server_side=True)
            except (OSError, ValueError):  # somebody without a certificate
                return
        super().finish_request(request, client_address)


def add_options(parser):
    parser.add_argument('--address', default='127.0.0.1')
    parser.add_argument('--port', type=int, default=8080)
    parser.add_argument('--tls', nargs=3, metavar=('CERTIFICATE', 'KEY', 'CA'))
    parser.add_argument('--seen', metavar='FILE')


def run(options, handler, kept):
    """Until it is interrupted."""
    with Server((options.address, options.port), handler, kept, options.tls,
                options.seen) as server:
        print(f'listening on {options.address}:{server.server_port}', file=sys.stderr, flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass
