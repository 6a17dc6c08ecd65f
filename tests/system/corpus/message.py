"""An HTTP/1.1 request in pieces that can each be wrong, and the right ones that the corpus starts from."""

import copy
import dataclasses
import json

HOST = 'gate.example'
SLICES = 16                 # that are there: the tenant's own
FOREIGN = '/ProvMnS/v1/SubNetwork=1/NetworkSlice=foreign'      # another tenant's
MERGE_PATCH = 'application/merge-patch+json'
JSON_PATCH = 'application/json-patch+json'


def slice_path(number):
    return f'/ProvMnS/v1/SubNetwork=1/NetworkSlice=own-{number}'


def latin(text):
    return text if isinstance(text, bytes) else text.encode('latin-1')


@dataclasses.dataclass
class Field:
    name: bytes
    value: bytes
    colon: bytes = b': '
    end: bytes = b'\r\n'

    def render(self):
        return self.name + self.colon + self.value + self.end


@dataclasses.dataclass
class Message:
    """`before` stands in front of the request line and `behind` after the body: there another request
    can hide, or stand openly."""

    method: bytes
    target: bytes
    fields: list
    body: bytes = b''
    version: bytes = b'HTTP/1.1'
    gaps: tuple = (b' ', b' ')
    end: bytes = b'\r\n'        # of the request line
    close: bytes = b'\r\n'      # of the head
    before: bytes = b''
    behind: bytes = b''

    def head(self):
        line = self.method + self.gaps[0] + self.target + self.gaps[1] + self.version + self.end
        return line + b''.join(field.render() for field in self.fields) + self.close

    def render(self):
        return self.before + self.head() + self.body + self.behind

    def copy(self):
        return copy.deepcopy(self)

    def find(self, name):
        """Of the first field of that name; None: there is none."""
        return next((number for number, field in enumerate(self.fields)
                     if field.name.lower() == name.lower()), None)

    def drop(self, name):
        self.fields = [field for field in self.fields if field.name.lower() != name.lower()]

    def put(self, name, value, at=None, **more):
        """Behind all others, or where `at` says; a list of one name and one value may be bytes or
        text of single octets."""
        field = Field(latin(name), latin(value), **more)
        self.fields.insert(len(self.fields) if at is None else at, field)

    def set(self, name, value, **more):
        self.drop(latin(name))
        self.put(name, value, **more)

    def content(self, body, kind=None):
        """A body with the length that it has."""
        self.drop(b'Transfer-Encoding')
        if kind is not None:
            self.set('Content-Type', kind)
        self.body = latin(body)
        self.set('Content-Length', str(len(self.body)))

    def chunked(self, *pieces):
        self.drop(b'Content-Length')
        self.set('Transfer-Encoding', 'chunked')
        self.body = b''.join(b'%x\r\n%s\r\n' % (len(piece), piece) for piece in (*pieces, b''))


def request(method, target, token, mark, body=None, kind=None):
    message = Message(latin(method), latin(target), [
        Field(b'Host', latin(HOST)), Field(b'Authorization', b'Bearer ' + latin(token)),
        Field(b'X-Variant', latin(mark))])
    if body is not None:
        message.content(json.dumps(body), kind)
    return message


# What is right, and which operation each is. A token for the corpus grants all but deletion.

def get(number, *who):
    return request('GET', slice_path(number), *who)


def get_with_query(number, *who):
    return request('GET', slice_path(number) + '?fields=a%20b&scopeType=BASE_ALL', *who)


def unlock(number, *who):
    return request('PATCH', slice_path(number), *who,
                   {'attributes': {'administrativeState': 'UNLOCKED'}}, MERGE_PATCH)


def lock(number, *who):
    return request('PATCH', slice_path(number), *who,
                   [{'op': 'replace', 'path': '/attributes/administrativeState',
                     'value': 'LOCKED'}], JSON_PATCH)


def rename(number, *who):
    return request('PATCH', slice_path(number), *who, {'attributes': {'userLabel': 'x'}},
                   MERGE_PATCH)


def put(number, *who):
    return request('PUT', slice_path(number), *who, {
        'id': f'own-{number}', 'objectClass': 'NetworkSlice', 'attributes': {'userLabel': 'x'}},
        'application/json')


def allocate(_, *who):
    return request('POST', '/NSProvMnS/v1/ServiceProfiles', *who, {'sST': 1}, 'application/json')


def jobs(_, *who):
    return request('GET', '/PerfMeasJobCtrlMnS/v1/measJobs?jobIdList=1', *who)


def streamed(number, *who):
    """A body that nobody reads to decide: it flows as it comes."""
    message = allocate(number, *who)
    message.chunked(message.body[:3], message.body[3:])
    return message


def comment(number, *who):
    return request('POST', f'/FaultSupervisionMnS/v1/alarms/{number}/comments', *who, {'commentText': 'x'},
                   'application/json')


def streamed_comment(number, *who):
    message = comment(number, *who)
    message.chunked(message.body[:3], message.body[3:])
    return message


PLAIN = (get, get_with_query, jobs)
WITH_BODY = (unlock, lock, rename, put, allocate, streamed)
RIGHT = PLAIN + WITH_BODY
# What is decided by its head, and has an outcome that nobody needs to know.
BY_HEAD = PLAIN + (comment, streamed_comment)


def smuggled(chance, token, mark):
    """What must not come out at the other end unless it was judged: deletion, which the token does not
    grant, another tenant's slice, or what needs a token and has none."""
    mark = f'{mark}-hidden'
    hidden = chance.choice([
        lambda: request('DELETE', slice_path(0), token, mark),
        lambda: request('GET', FOREIGN, token, mark),
        lambda: request('GET', slice_path(1), 'none', mark)])()
    return hidden.render()
