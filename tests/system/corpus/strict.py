"""Requests as a gate should write them, and in no other form: what can be read in one way only. This is
not how HTTP is to be read; it is the other end of a test, which takes offence at everything."""

import dataclasses
import re

LINE = re.compile(rb'([A-Z]+) (/[!-~]*) HTTP/1\.1')
FIELD = re.compile(rb"([A-Za-z0-9!#$%&'*+.^`|~-]+): ([\t -~\x80-\xff]*)")
# As nginx writes it: it refuses no other control characters in values than these.
FIELD_OF_NGINX = re.compile(FIELD.pattern.replace(rb'[\t -~\x80-\xff]', rb'[^\0\r\n]'))
SIZE = re.compile(rb'[1-9a-f][0-9a-f]{0,7}|0')
BODILESS = (b'GET', b'HEAD', b'DELETE')


class Unclear(Exception):
    """Somebody could read it otherwise."""


@dataclasses.dataclass
class Request:
    method: str
    target: str
    fields: dict            # by name in lower case: a list of values
    body: bytes
    whole: bool             # False: the connection ended within it

    def only(self, name):
        """The value of a field that is there once; None: it is not there."""
        values = self.fields.get(name, [])
        if len(values) > 1:
            raise Unclear(f'{name} {len(values)} times')
        return values[0] if values else None


def head_of(octets, form):
    """A request without its body, and whether it is chunked, or how long it is."""
    lines = octets[:-4].split(b'\r\n')
    line = LINE.fullmatch(lines[0])
    if not line:
        raise Unclear(f'request line {lines[0]!r}')
    fields = {}
    for text in lines[1:]:
        field = form.fullmatch(text)
        if not field:
            raise Unclear(f'field {text!r}')
        fields.setdefault(field[1].decode('ascii').lower(), []).append(field[2].decode('latin-1'))
    request = Request(line[1].decode('ascii'), line[2].decode('ascii'), fields, b'', False)
    coding, length = request.only('transfer-encoding'), request.only('content-length')
    if request.only('host') is None:
        raise Unclear('no Host')
    if coding is not None and (coding != 'chunked' or length is not None):
        raise Unclear(f'Transfer-Encoding {coding!r}, Content-Length {length!r}')
    if length is not None and not re.fullmatch(r'0|[1-9][0-9]{0,9}', length):
        raise Unclear(f'Content-Length {length!r}')
    if line[1] in BODILESS and (coding or length not in (None, '0')):
        raise Unclear(f'{request.method} with a body')
    return request, coding is not None, int(length or 0)


def chunks_of(octets, at):
    """The body, and where it ends; None where it goes on."""
    body = b''
    while True:
        line_end = octets.find(b'\r\n', at)
        if line_end < 0 or len(octets) < line_end + 4:
            return body, None
        if not SIZE.fullmatch(octets[at:line_end]):
            raise Unclear(f'chunk size {octets[at:line_end][:40]!r}')
        size = int(octets[at:line_end], 16)
        at = line_end + 2 + size + 2
        if len(octets) < at:
            return body + octets[line_end + 2:line_end + 2 + size], None
        if octets[at - 2:at] != b'\r\n':
            raise Unclear('a chunk without its end, or a trailer')
        if size == 0:
            return body, at
        body += octets[line_end + 2:at - 2]


def first(octets, form=FIELD):
    """(the request that these begin with, how many of them it is); None: its head is not whole.
    One that is not whole takes all that there is. `form`: of its fields."""
    end = octets.find(b'\r\n\r\n')
    if end < 0:
        return None
    request, chunked, length = head_of(octets[:end + 4], form)
    end += 4
    if chunked:
        request.body, after = chunks_of(octets, end)
        request.whole, after = after is not None, after or len(octets)
    else:
        request.body, after = octets[end:end + length], min(end + length, len(octets))
        request.whole = len(request.body) == length
    return request, after


def requests(octets, form=FIELD):
    """All of one connection."""
    found = []
    while octets:
        one = first(octets, form)
        if one is None:
            raise Unclear(f'a head that does not end: {octets[:200]!r}')
        found.append(one[0])
        octets = octets[one[1]:]
    return found
