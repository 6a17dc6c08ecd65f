#!/usr/bin/python3
"""A small NSMF: what the gate protects in the demo and the system tests.

It keeps network slices in memory and really creates, modifies, lists and deletes them, at the
paths of the standards:

    POST    /NSProvMnS/v1/ServiceProfiles               TS 28.531: allocate a slice for a profile
    GET     /NSProvMnS/v1/ServiceProfiles
    DELETE  /NSProvMnS/v1/ServiceProfiles/{id}          deallocate it
    PUT     /ProvMnS/v1/{LDN}/NetworkSlice={id}         TS 28.532: create or replace the object
    GET     /ProvMnS/v1/{LDN}/NetworkSlice={id}
    GET     /ProvMnS/v1/{LDN}?scopeType=BASE_ALL        list what is below it
    PATCH   /ProvMnS/v1/{LDN}/NetworkSlice={id}         merge patch or JSON patch, by content type
    DELETE  /ProvMnS/v1/{LDN}/NetworkSlice={id}

There is no authentication here: that only authenticated peers get this far is the gate's work. With
--tls the gate itself must show a certificate, and --seen writes down each request as it came.

    nsmf.py --address 10.2.0.10 --port 8080 [--tls CERTIFICATE KEY CA] [--seen FILE]
"""

import argparse
import copy
import http.server
import itertools
import json
import re
import ssl
import sys
import threading
import urllib.parse

PROFILES = re.compile(r'/NSProvMnS/v1/ServiceProfiles(?:/(?P<id>[^/]+))?')
MOI = re.compile(r'/ProvMnS/v1/(?P<ldn>[^/=]+=[^/]+(?:/[^/=]+=[^/]+)*)')
SUBNETWORK = 'SubNetwork=1'  # where slices that come from a service profile are put
MERGE_PATCH = ('application/merge-patch+json', 'application/3gpp-merge-patch+json')
JSON_PATCH = ('application/json-patch+json', 'application/3gpp-json-patch+json')
MAX_BODY = 1 << 20
MAX_OBJECTS = 10000


class Refused(Exception):
    """An HTTP status and the reason."""

    def __init__(self, status, reason):
        super().__init__(reason)
        self.status = status


def merge_patch(target, patch):
    """RFC 7396 2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge_patch(result.get(name), value)
    return result


def json_patch(target, operations):
    """RFC 6902: add, replace, remove and test on members of objects."""
    if not isinstance(operations, list):
        raise Refused(400, 'a JSON patch is an array of operations')
    result = copy.deepcopy(target)
    for step in operations:
        try:
            # TS 28.532 writes '#/attributes/x' for the path inside an object.
            path = step['path'].removeprefix('#').split('/')[1:]
            *parents, last = [p.replace('~1', '/').replace('~0', '~') for p in path]
            place = result
            for name in parents:
                place = place[name]
            operation = step['op']
            if operation != 'add' and last not in place:
                raise Refused(409, f'{step["path"]} does not exist')
            if operation in ('add', 'replace'):
                place[last] = step['value']
            elif operation == 'remove':
                del place[last]
            elif operation == 'test':
                if place[last] != step['value']:
                    raise Refused(409, f'{step["path"]} is {place[last]!r}')
            else:
                raise Refused(400, f'operation {operation!r} is not known here')
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Refused(400, f'no such patch: {step!r}') from error
    return result


class Slices:
    """The objects, by their distinguished name (SubNetwork=1/NetworkSlice=17)."""

    def __init__(self):
        self.lock = threading.Lock()
        self.objects = {}
        self.profiles = {}  # service profile -> the name of its slice
        self.numbers = itertools.count(1)

    def put(self, ldn, body):
        """True when it is new."""
        kind, _, identity = ldn.rsplit('/', 1)[-1].partition('=')
        if kind != 'NetworkSlice':
            raise Refused(404, f'only NetworkSlice objects live here, not {kind}')
        if not isinstance(body, dict) or not isinstance(body.get('attributes', {}), dict):
            raise Refused(400, 'expected an object with "attributes"')
        with self.lock:
            new = ldn not in self.objects
            if new and len(self.objects) >= MAX_OBJECTS:
                raise Refused(507, 'no room for another slice')
            attributes = {'administrativeState': 'UNLOCKED', 'operationalState': 'ENABLED',
                          **body.get('attributes', {})}
            self.objects[ldn] = {'id': identity, 'objectClass': 'NetworkSlice',
                                 'attributes': attributes}
            return new

    def get(self, ldn):
        with self.lock:
            if ldn not in self.objects:
                raise Refused(404, f'no object {ldn}')
            return copy.deepcopy(self.objects[ldn])

    def below(self, ldn):
        with self.lock:
            return [copy.deepcopy(value) for name, value in sorted(self.objects.items())
                    if name.startswith(ldn + '/')]

    def patch(self, ldn, change):
        """Replaces the object by change(object), all of it or nothing."""
        with self.lock:
            if ldn not in self.objects:
                raise Refused(404, f'no object {ldn}')
            new = change(self.objects[ldn])
            if not isinstance(new, dict) or not isinstance(new.get('attributes'), dict):
                raise Refused(400, 'what is left has no "attributes"')
            state = new['attributes'].get('administrativeState')
            if state not in ('LOCKED', 'UNLOCKED', 'SHUTTINGDOWN'):
                raise Refused(400, f'administrativeState: expected LOCKED, UNLOCKED or '
                                   f'SHUTTINGDOWN, found {state!r}')
            self.objects[ldn] = {**new, 'id': self.objects[ldn]['id'],
                                 'objectClass': 'NetworkSlice'}
            return copy.deepcopy(self.objects[ldn])

    def delete(self, ldn):
        with self.lock:
            if self.objects.pop(ldn, None) is None:
                raise Refused(404, f'no object {ldn}')

    def allocate(self, profile):
        if not isinstance(profile, dict):
            raise Refused(400, 'expected a ServiceProfile object')
        with self.lock:
            identity = f'sp-{next(self.numbers)}'
        ldn = f'{SUBNETWORK}/NetworkSlice={identity}'
        profile = {**profile, 'serviceProfileId': identity}
        self.put(ldn, {'attributes': {'serviceProfileList': [profile]}})
        with self.lock:
            self.profiles[identity] = ldn
        return identity, {'serviceProfileId': identity, 'networkSlice': ldn}

    def deallocate(self, identity):
        with self.lock:
            ldn = self.profiles.pop(identity, None)
        if ldn is None:
            raise Refused(404, f'no service profile {identity}')
        self.delete(ldn)

    def allocated(self):
        with self.lock:
            return [{'serviceProfileId': name, 'networkSlice': ldn}
                    for name, ldn in sorted(self.profiles.items())]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    server_version = 'demo-nsmf'
    timeout = 30  # of an idle connection

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

    def _answer(self, status, body=None, location=None):
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
        slices = self.server.slices
        if self.server.seen:
            line = {'method': self.command, 'target': self.path, 'headers': self.headers.items()}
            with self.server.lock, open(self.server.seen, 'a', encoding='utf-8') as file:
                print(json.dumps(line), file=file)
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        body = self._body()
        try:
            if match := PROFILES.fullmatch(path):
                return self._profiles(slices, match['id'], body)
            if match := MOI.fullmatch(path):
                return self._object(slices, match['ldn'], body)
            raise Refused(404, f'nothing at {path}')
        except Refused as refused:
            return self._answer(refused.status, {'error': {'errorInfo': str(refused)}})

    def _profiles(self, slices, identity, body):
        if self.command == 'POST' and identity is None:
            identity, answer = slices.allocate(body)
            return self._answer(201, answer, f'/NSProvMnS/v1/ServiceProfiles/{identity}')
        if self.command == 'GET' and identity is None:
            return self._answer(200, slices.allocated())
        if self.command == 'DELETE' and identity is not None:
            slices.deallocate(identity)
            return self._answer(204)
        raise Refused(405, f'{self.command} is not possible here')

    def _object(self, slices, ldn, body):
        if self.command == 'PUT':
            new = slices.put(ldn, body)
            return self._answer(201 if new else 200, slices.get(ldn),
                                f'/ProvMnS/v1/{ldn}' if new else None)
        if self.command == 'GET':
            query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
            if query.get('scopeType', ['BASE_ONLY']) != ['BASE_ONLY']:
                return self._answer(200, slices.below(ldn))
            return self._answer(200, slices.get(ldn))
        if self.command == 'PATCH':
            kind = self.headers.get('Content-Type', '').partition(';')[0].strip().lower()
            if kind in MERGE_PATCH:
                return self._answer(200, slices.patch(ldn, lambda old: merge_patch(old, body)))
            if kind in JSON_PATCH:
                return self._answer(200, slices.patch(ldn, lambda old: json_patch(old, body)))
            raise Refused(415, f'expected one of {", ".join(MERGE_PATCH + JSON_PATCH)}, '
                               f'found {kind!r}')
        if self.command == 'DELETE':
            slices.delete(ldn)
            return self._answer(204)
        raise Refused(405, f'{self.command} is not possible here')

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = _dispatch  # names are http.server's

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except Refused as refused:  # a body that could not be read: the connection is out of step
            self.close_connection = True
            self._answer(refused.status, {'error': {'errorInfo': str(refused)}})
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def log_message(self, format, *args):  # pylint: disable=redefined-builtin
        sys.stderr.write(f'nsmf: {self.client_address[0]} {format % args}\n')


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address, tls=None, seen=None):
        super().__init__(address, Handler)
        self.slices = Slices()
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--address', default='127.0.0.1')
    parser.add_argument('--port', type=int, default=8080)
    parser.add_argument('--tls', nargs=3, metavar=('CERTIFICATE', 'KEY', 'CA'))
    parser.add_argument('--seen', metavar='FILE')
    options = parser.parse_args()
    with Server((options.address, options.port), options.tls, options.seen) as server:
        print(f'nsmf: listening on {options.address}:{server.server_port}', file=sys.stderr,
              flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass


if __name__ == '__main__':
    main()
