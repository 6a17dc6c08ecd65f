"""What can be wrong with the request line."""

from corpus.message import latin
from corpus.paths import within
from corpus.register import fault, one_of

FAULTS = []


@one_of(FAULTS, 'get', 'Get', 'GET\0', 'GET ', ' GET', 'G\xc3T', 'GETT', 'TRACE', 'TRACK',
        'CONNECT', 'OPTIONS', 'PRI', 'PROPFIND', 'HEAD', '', 'GET\t', '\tGET', 'GET\r', '"GET"', 'GET:',
        'G\x0bET', '\xefGET', 'DELETE', 'POST', 'MOVE', 'PATCH', 'patch', 'delete', 'PURGE', 'GET\xa0',
        'Delete', 'M-SEARCH')
def another_method(message, method):
    message.method = method


@one_of(FAULTS, 'HTTP/1.0', 'HTTP/0.9', 'HTTP/1.2', 'HTTP/2.0', 'HTTP/2', 'http/1.1', 'HTTP/01.1',
        'HTTP/1.1 ', 'HTTP/1.1\t', 'HTTP /1.1', 'HTTP/1.01', 'HTTP/1.10', 'HTTP/11', 'HTTP/1,1', '',
        'HTTP/1.1\0', 'HTTP/1.1 HTTP/1.1', 'HTTPS/1.1', 'HTTP/1.1\r', 'HTTP/\xb1.1', 'ICAP/1.0', 'HTTP/9.9')
def another_version(message, version):
    message.version = version


@fault(FAULTS)
def other_gaps(chance, message, token, mark):
    gap = latin(chance.choice(['', '  ', '\t', '\x0b', '\x0c', '\r', '\n', '\0', '\xa0', '\x85', ' \t', '%20']))
    message.gaps = chance.choice([(gap, b' '), (b' ', gap), (gap, gap)])


@fault(FAULTS)
def other_line_ends(chance, message, token, mark):
    end = latin(chance.choice(['\n', '\r', '\r\r\n', '\n\r', '\r\n ', '\0\r\n', '\x0b\r\n', '\x85', '\r\n\t']))
    message.end = end
    if chance.random() < 0.3:
        for field in message.fields:
            field.end = end
        message.close = end


@fault(FAULTS)
def a_request_within_the_line(chance, message, token, mark):
    end = latin(chance.choice(['\r\n', '\n', '\r', '%0d%0a', '%0D%0A', '\xe5\x98\x8a', '\r\n\r\n', '\n\n', '\0']))
    inner = chance.choice([b' HTTP/1.1' + end + b'X: ', b' HTTP/1.1' + end + b'Host: x' + end + end,
                           end + b'Portcullis-Client: peer="csmf-2"' + end + b'X: '])
    within(chance, message, inner)


@fault(FAULTS)
def in_front(chance, message, token, mark):
    message.before = latin(chance.choice(
        ['\r\n', '\r\n\r\n', '\n', '\r', '\0', ' ', '\t', '\xef\xbb\xbf', '\r\n' * 50, '\x16\x03\x01',
         'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'X: y\r\n', '0\r\n\r\n', 'PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\n',
         'GET / HTTP/0.9\r\n', 'GET /\r\n']))
