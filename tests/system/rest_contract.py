"""Holds what control answers against control/rest/openapi.yaml, call by call.

    rest = Contract(control, 'alice')
    rest.ok('POST', '/v1/peers', body)          # 2xx, and as documented
    rest.problem('POST', '/v1/peers', body, status=422, field='/prefixes/0')

Every answer of a documented operation must have a documented status, media type and body.
"""

import json
import re
import socket

import jsonschema
import yaml

from processes import ROOT, Rest

OPENAPI = ROOT / 'control' / 'rest' / 'openapi.yaml'
DOCUMENT = yaml.safe_load(OPENAPI.read_text(encoding='utf-8'))
METHODS = ('get', 'put', 'post', 'delete', 'patch', 'options', 'head', 'trace')


def operations():
    """{(METHOD, path): operation}"""
    return {(method.upper(), path): operation
            for path, item in DOCUMENT['paths'].items()
            for method, operation in item.items() if method in METHODS}


def resolve(node):
    while isinstance(node, dict) and '$ref' in node:
        target = DOCUMENT
        for part in node['$ref'].removeprefix('#/').split('/'):
            target = target[part]
        node = target
    return node


def validate(value, schema):
    resolver = jsonschema.RefResolver('', DOCUMENT)
    jsonschema.Draft202012Validator(schema, resolver=resolver).validate(value)


def documented(method, path):
    """The documented (METHOD, path template) that this is, or None."""
    for operation in operations():
        pattern = re.sub(r'\{[^}]*\}', '[^/]+', operation[1])
        if operation[0] == method and re.fullmatch(pattern, path):
            return operation
    return None


class Answer:
    def __init__(self, status, headers, content):
        self.status = status
        self.headers = headers
        self.content = content
        self.type = headers.get_content_type()

    @property
    def json(self):
        return json.loads(self.content)


class Contract(Rest):
    """A Rest that checks every answer, and remembers all of them."""

    def __init__(self, control, operator='alice'):
        super().__init__(control.namespace, control.port, control.pki.context(operator))
        self.met = set()      # documented operations that succeeded
        self.contents = []    # every body that came out

    def request(self, method, target, body=None, headers=None):
        """body: bytes as they are, anything else as JSON."""
        headers = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            headers.setdefault('Content-Type', 'application/json')
        response, content = self.exchange(method, target, body, headers)
        answer = Answer(response.status, response.headers, content)
        self.contents.append(content)
        self._check(method, target.partition('?')[0], answer)
        return answer

    def _check(self, method, path, answer):
        operation = documented(method, path)
        if operation is None:
            assert answer.status in (403, 404, 405), (method, path, answer.status)
            validate(answer.json, {'$ref': '#/components/schemas/Problem'})
            return
        responses = operations()[operation]['responses']
        assert str(answer.status) in responses, (method, path, answer.status, answer.content)
        content = resolve(responses[str(answer.status)])['content']
        assert answer.type in content, (method, path, answer.type)
        if answer.type.endswith('json'):
            validate(answer.json, content[answer.type]['schema'])
        if answer.status < 300:
            self.met.add(operation)

    def ok(self, method, target, body=None, headers=None, status=None):
        """The body of a success."""
        answer = self.request(method, target, body, headers)
        expected = (status,) if status else (200, 201)
        assert answer.status in expected, (method, target, answer.status, answer.content)
        return answer.json if answer.type.endswith('json') else answer.content.decode()

    def problem(self, method, target, body=None, headers=None, status=None, **members):
        """The problem body; `members` must be in it, strings as a part of theirs."""
        answer = self.request(method, target, body, headers)
        assert answer.status == status, (method, target, answer.status, answer.content)
        assert answer.type == 'application/problem+json'
        problem = answer.json
        assert problem['status'] == status and problem['instance'] == target.partition('?')[0]
        for name, value in members.items():
            found = problem.get(name)
            assert found == value or (name != 'field' and value in (found or '')), \
                (name, value, problem)
        return problem


# ---- events

class EventStream:
    """A client of /v1/events, or of another stream."""

    def __init__(self, control, last_id=None, path='/v1/events'):
        context = control.pki.context('bob')
        with control.namespace.entered():
            plain = socket.create_connection(('127.0.0.1', control.port), timeout=20)
        self.socket = context.wrap_socket(plain, server_hostname='127.0.0.1')
        extra = f'Last-Event-ID: {last_id}\r\n' if last_id else ''
        self.socket.sendall(f'GET {path} HTTP/1.1\r\nHost: gate\r\n{extra}\r\n'.encode())
        self.buffer = b''
        self.status = int(self.until(b'\r\n\r\n').split()[1])

    def until(self, end):
        while end not in self.buffer:
            got = self.socket.recv(65536)
            if not got:
                raise ConnectionError('the stream ended')
            self.buffer += got
        part, self.buffer = self.buffer.split(end, 1)
        return part.decode()

    def event(self):
        """(id, kind, data) of the next event; comments are skipped."""
        while True:
            block = self.until(b'\n\n')
            if not block.startswith(':'):
                return parse_event(block)

    def ended(self):
        """Whether the server has closed it."""
        try:
            while self.socket.recv(65536):
                pass
        except OSError:
            pass
        return True

    def close(self):
        self.socket.close()


def parse_event(block):
    fields = dict(line.split(': ', 1) for line in block.splitlines())
    data = json.loads(fields['data'])
    validate(data, {'$ref': '#/components/schemas/Event'})
    assert data['id'] == fields['id'] and data['kind'] == fields['event']
    return fields['id'], fields['event'], data


# ---- bodies that are right

def interface(name='nsmf', **more):
    return {'name': name, 'type': 'management-exposure', 'side': 'local',
            'prefixes': ['10.2.0.10/32'], 'zone': 'external', 'protection': 'esp',
            'ports': [{'protocol': 'tcp', 'first': 8080, 'last': 8080}], **more}


def peer(name='csmf-1', number=2, **more):
    return {'name': name, 'identity': f'{name}.example', 'role': 'csmf', 'endpoint': '192.0.2.2',
            'prefixes': [f'10.1.0.{number}/32'], **more}


def policy(name='manage', **more):
    return {'name': name, 'role': 'csmf', 'interface': 'nsmf', **more}


def document(**more):
    return {'interfaces': [interface()], 'peers': [peer()], 'policies': [policy()], **more}


def sa(name, spi, key, **more):
    return {'id': name, 'peer': 'csmf-1', 'direction': 'inbound', 'spi': f'0x{spi:08x}',
            'algorithm': 'aes-128-gcm-16', 'key': key,
            'selectors': [{'local': '10.2.0.10/32', 'remote': '10.1.0.2/32', 'protocol': 'tcp',
                           'local_ports': {'first': 8080, 'last': 8080}}],
            'tunnel': {'local': '192.0.2.1', 'remote': '192.0.2.2'}, **more}


EMPTY = {'interfaces': [], 'peers': [], 'policies': []}


def clear(rest):
    """Back to nothing, so that tests do not lean on each other."""
    for one in rest.ok('GET', '/v1/sas')['items']:
        rest.ok('DELETE', f'/v1/sas/{one["id"]}')
    for name in rest.ok('GET', '/v1/status')['revoked_peers']:
        if rest.request('GET', f'/v1/peers/{name}').status == 404:
            rest.ok('PUT', f'/v1/peers/{name}', peer(name))
        rest.ok('POST', f'/v1/peers/{name}/revoke', {'revoked': False})
    rest.ok('PUT', '/v1/policy', {**EMPTY, 'first_line': None, 'request_blocks': []})
