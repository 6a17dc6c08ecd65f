"""What can be wrong with a target (corpus/register.py)."""

from corpus.message import HOST, latin, slice_path
from corpus.register import fault

FAULTS = []


def split_target(message):
    path, mark, query = message.target.partition(b'?')
    return path, mark + query


def between_segments(chance, message, text):
    """In front of a random slash of the path."""
    path, query = split_target(message)
    places = [number for number, byte in enumerate(path) if byte == 0x2f] or [0]
    at = chance.choice(places)
    message.target = path[:at] + text + path[at:] + query


def within(chance, message, text, instead=0):
    """Somewhere in the path but in front; `instead` of that many octets."""
    path, query = split_target(message)
    at = chance.randrange(1, max(2, len(path)))
    message.target = path[:at] + text + path[at + instead:] + query


DOTS = ['/.', '/..', '/x/..', '/./.', '/x/../x/..', '/%2e', '/%2E', '/%2e%2e', '/.%2e', '/%2E.',
        '/..;', '/..;x=1', '/.;', '/..%2f', '/..%5c', '/..\\', '\\..', '/%252e%252e', '/%c0%ae',
        '/%c0%ae%c0%ae', '/%e0%80%ae', '/%C0%AE', '/%uff0e%uff0e', '/..%00', '/%2e%00', '/...',
        '/. ', '/.%20', '/..%c0%af', '/%ef%bc%8e%ef%bc%8e', '/%EF%BC%8E%EF%BC%8E']


@fault(FAULTS)
def dot_segments(chance, message, token, mark):
    between_segments(chance, message, latin(chance.choice(DOTS)))


@fault(FAULTS)
def climbs_to_another(chance, message, token, mark):
    """A listed path that, resolved, is another tenant's."""
    dots = chance.choice(['..', '%2e%2e', '.%2e', '..;', '%252e%252e', '%c0%ae%c0%ae', '..%2f..'])
    message.target = latin(slice_path(2) + f'/{dots}/NetworkSlice=foreign')


@fault(FAULTS)
def slashes(chance, message, token, mark):
    between_segments(chance, message, latin(chance.choice(
        ['/', '//', '%2f', '%2F', '/%2f', '\\', '%5c', '%5C', '/%5C', '%252f', '%c0%af', '%C0%AF',
         '%e0%80%af', '%EF%BC%8F', '\xef\xbc\x8f', '%E2%88%95', ':', '/%20', '%u2215'])))


@fault(FAULTS)
def slash_at_the_end(chance, message, token, mark):
    path, query = split_target(message)
    message.target = path + latin(chance.choice(['/', '//', '/.', '/..', '%2F', '?', '#', ';', '%00',
                                                 '%20', '.', '\\', '%3F', '%23', '%0a', '%0d%0a'])) + query


@fault(FAULTS)
def parameters(chance, message, token, mark):
    between_segments(chance, message, latin(chance.choice(
        [';', ';a', ';a=b', ';/', ';a=b/..', ';jsessionid=1', '%3b', '%3B', '%3Ba=b', ';%2f..'])))


@fault(FAULTS)
def another_case(chance, message, token, mark):
    path, query = split_target(message)
    letters = [number for number, byte in enumerate(path) if chr(byte).isalpha()]
    for at in chance.sample(letters, min(len(letters), chance.randint(1, 3))):
        path = path[:at] + path[at:at + 1].swapcase() + path[at + 1:]
    message.target = path + query


def encoded(octet, how):
    return {'upper': b'%%%02X' % octet, 'lower': b'%%%02x' % octet, 'twice': b'%%25%02X' % octet,
            'thrice': b'%%2525%02X' % octet, 'unicode': b'%%u00%02x' % octet,
            'overlong 2': b'%%%02X%%%02X' % (0xc0 | octet >> 6, 0x80 | octet & 0x3f),
            'overlong 3': b'%%E0%%%02X%%%02X' % (0x80 | octet >> 6, 0x80 | octet & 0x3f),
            'overlong 4': b'%%F0%%80%%%02X%%%02X' % (0x80 | octet >> 6, 0x80 | octet & 0x3f),
            'overlong raw': bytes([0xc0 | octet >> 6, 0x80 | octet & 0x3f]),
            'high': bytes([octet | 0x80]), 'half': b'%%%X' % (octet >> 4), 'hex': b'\\x%02x' % octet,
            }[how]


ENCODINGS = ['upper', 'lower', 'twice', 'thrice', 'unicode', 'overlong 2', 'overlong 3', 'overlong 4',
             'overlong raw', 'high', 'half', 'hex']


@fault(FAULTS)
def other_spellings(chance, message, token, mark):
    """Of one to three octets of the path."""
    path, query = split_target(message)
    how = chance.choice(ENCODINGS)
    for at in sorted((chance.randrange(1, max(2, len(path))) for _ in range(chance.randint(1, 3))), reverse=True):
        path = path[:at] + encoded((path[at:at + 1] or b'a')[0], how) + path[at + 1:]
    message.target = path + query


@fault(FAULTS)
def an_octet(chance, message, token, mark):
    """Any at all, raw or encoded, somewhere in the path."""
    octet = chance.randrange(256)
    within(chance, message, chance.choice([bytes([octet]), b'%%%02X' % octet, b'%%%02x' % octet]),
           chance.randint(0, 1))


@fault(FAULTS)
def in_the_query(chance, message, token, mark):
    path, _ = split_target(message)
    message.target = path + latin(chance.choice([
        '?fields=a&fields=b', '?fields=%0d%0aX:y', '?fields=a#b', '?', '?&', '?fields', '?=a', '?fields=a?b',
        '??fields=a', '?fields=%', '?fields=%00', '?fields=\x00', '?fields=a b', '?FIELDS=a',
        '?fields%3Da', '?fields=a;scope=b', '?fields=%2e%2e/', '?fields=/../../x', '?fields=//x',
        '?%66ields=a', '?fields[]=a', '?fields=%C0%AF', '?fields=a&x=1', '?fields=%26scope%3Db',
        '?fields=a%23', '?fields=+', '?attributes=a&fields=b', '?scope=%2B&filter=a%3Db']))


@fault(FAULTS)
def another_name(chance, message, token, mark):
    """What is allowed, and has to come out as it went in."""
    name = ''.join(chance.choice(['a', '7', '-', '.', '_', '~', '!', '$', "'", '(', ')', '*', '+', ',',
                                  '=', ':', '@', '%20', '%C3%A9', '%E2%82%AC', '%F0%9F%98%80', '%22',
                                  '%3C', '%5B', '%7C', '%5E', '%60', '&'])
                   for _ in range(chance.randint(1, 12)))
    message.target = latin(f'/ProvMnS/v1/SubNetwork={name}/NetworkSlice=own-3')


@fault(FAULTS)
def other_forms(chance, message, token, mark):
    """RFC 9112 3.2: absolute, authority and asterisk form; and what is none of them."""
    path = message.target
    message.target = latin(chance.choice([
        b'http://' + latin(HOST) + path, b'https://' + latin(HOST) + path, b'https://other.example' + path,
        b'HTTPS://' + latin(HOST) + path, b'https://' + latin(HOST) + b'@other.example' + path,
        b'//' + latin(HOST) + path, b'///' + path, latin(HOST) + b':443', b'*', b'', path[1:],
        b'ftp://x' + path, b'https:' + path, b'https:/' + path, b'https://' + latin(HOST) + b'\\' + path,
        b'file://' + path, b'\\' + path[1:], b'.' + path, b'..' + path, b'@x' + path, b'?' + path,
        b'#' + path, b'%2F' + path[1:]]))


@fault(FAULTS)
def too_long(chance, message, token, mark):
    filling = chance.choice([b'a', b'/a', b'%41', b'../', b'/', b'%20'])
    within(chance, message, filling * chance.choice([300, 1100, 3000, 9000]))
