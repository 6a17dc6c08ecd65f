"""What can be wrong with where a body ends."""

from corpus.message import latin, smuggled
from corpus.register import fault

FAULTS = []


CODINGS = ['chunked, identity', 'identity', 'identity, chunked', 'xchunked', 'chunkedx', 'chunked;q=1', 'Chunked',
           'CHUNKED', '\x0bchunked', '\x0cchunked', 'gzip, chunked', 'chunked, chunked', '"chunked"', '', 'chunked,',
           ',chunked', ' chunked', 'chunked ', 'chunked\t', '\tchunked', 'chu nked', 'chunked\0', 'x', 'chunk',
           '\xa0chunked', 'chunked\r', 'deflate', 'chunked\r\n ', 'chunked;ext=x', "'chunked'", 'trailers, chunked']
CODING_NAMES = ['Transfer-Encoding', 'Transfer-Encoding', 'transfer-encoding', 'TRANSFER-ENCODING',
                'Transfer-Encoding ', 'Transfer-Encoding\t', ' Transfer-Encoding', '\tTransfer-Encoding',
                'Transfer_Encoding', 'Transfer-Encoding\0', 'Transfer\0-Encoding', 'X: y\nTransfer-Encoding',
                'X: y\rTransfer-Encoding', 'X:\r\n Transfer-Encoding', 'Transfer-Encodin\xe7', 'TransferEncoding',
                'Content-Transfer-Encoding', 'X-Transfer-Encoding', '\xefTransfer-Encoding']
LENGTHS = ['+{n}', '-{n}', '0x{n:x}', '0{n}', '{n},{n}', '{n}, {n}', '{n} {n}', ' {n}', '{n}\t', '{n};', '{n}e0',
           '{n}.0', '', '99999999999999999999', '18446744073709551616', '18446744073709551{n:03d}', '{n}\0',
           '\xb2{n}', '{n}\x0b', '"{n}"', '{n}L', '0', '1', '{n}\r', '{n}, 0', '0, {n}', '-1', '{n}\r\n ', 'a{n}',
           '000000000000000000000000{n}', '4294967296']
LENGTH_NAMES = ['Content-Length', 'Content-Length', 'content-length', 'Content-Length ', 'Content_Length',
                ' Content-Length', 'Content-Length\t', 'Content-Length\0', 'X: y\nContent-Length',
                'X: y\rContent-Length', 'Content-Lengt\xe8', 'X-Content-Length']


@fault(FAULTS)
def codings(chance, message, token, mark):
    """One or two transfer codings, beside a Content-Length or without; the body is chunked or plain,
    and behind it stands another request."""
    plain = b'{"sST":1}'
    hidden = smuggled(chance, token, mark)
    chunked = b'9\r\n' + plain + b'\r\n0\r\n\r\n'
    length = chance.choice([None, len(plain), len(chunked), len(chunked + hidden), 0, 3])
    message.drop(b'Content-Length')
    message.drop(b'Transfer-Encoding')
    if length is not None:
        message.put('Content-Length', str(length), at=chance.randint(0, len(message.fields)))
    for _ in range(chance.choice([1, 1, 1, 2])):
        message.put(chance.choice(CODING_NAMES), chance.choice(CODINGS + ['chunked'] * 12),
                    at=chance.randint(0, len(message.fields)))
    message.body = chance.choice([chunked, plain, b''])
    message.behind = hidden


@fault(FAULTS)
def both_lengths(chance, message, token, mark):
    """CL.TE and TE.CL, the classic pair."""
    hidden = smuggled(chance, token, mark)
    if chance.random() < 0.5:
        body = b'0\r\n\r\n' + hidden
        lengths = [len(body)]
    else:
        inner = hidden + b'\r\n'
        body = b'%x\r\n' % len(inner) + inner + b'\r\n0\r\n\r\n'
        lengths = [body.index(b'\r\n') + 2]
    message.drop(b'Content-Length')
    message.drop(b'Transfer-Encoding')
    pair = [('Transfer-Encoding', 'chunked'), *[('Content-Length', str(n)) for n in lengths]]
    chance.shuffle(pair)
    for name, value in pair:
        message.put(name, value)
    message.body = body


@fault(FAULTS)
def lengths(chance, message, token, mark):
    message.drop(b'Transfer-Encoding')
    message.drop(b'Content-Length')
    if not message.body or chance.random() < 0.3:
        message.body = chance.choice([b'{"sST":1}', b'x', b'[]'])
    for _ in range(chance.choice([1, 1, 2])):
        message.put(chance.choice(LENGTH_NAMES), chance.choice(LENGTHS).format(n=len(message.body)),
                    at=chance.randint(0, len(message.fields)))
    message.behind = chance.choice([b'', smuggled(chance, token, mark)])


@fault(FAULTS)
def two_lengths(chance, message, token, mark):
    hidden = smuggled(chance, token, mark)
    message.drop(b'Transfer-Encoding')
    message.drop(b'Content-Length')
    values = [0, len(message.body), len(message.body) + len(hidden)]
    for value in chance.sample(values, 2) if chance.random() < 0.8 else [values[1]] * 2:
        message.put(chance.choice(LENGTH_NAMES), str(value))
    message.behind = hidden


@fault(FAULTS)
def shorter_or_longer(chance, message, token, mark):
    """What is left over is the next request, or something is missing."""
    hidden = smuggled(chance, token, mark)
    body = message.body or b'{"sST":1}'
    message.content(body + chance.choice([b'', hidden]))
    length = len(message.body) + chance.choice([-3, -1, 1, 3, len(hidden), -len(hidden)])
    message.set('Content-Length', str(max(0, length)))
    message.behind = chance.choice([b'', b'', hidden])


@fault(FAULTS)
def a_body_for_the_bodiless(chance, message, token, mark):
    """GET with a body that is a request (RFC 9110 9.3.1)."""
    message.method = latin(chance.choice(['GET', 'GET', 'DELETE', 'HEAD']))
    hidden = smuggled(chance, token, mark)
    if chance.random() < 0.5:
        message.content(hidden)
    else:
        message.chunked(hidden)


SIZES = ['0x{n:x}', ' {n:x}', '{n:x} ', '{n:x};ext', '{n:x};ext="a"', '{n:x};ext="\r\n"', '{n:x};\n', '+{n:x}', '-{n:x}',
         '{n:x}_0', '0000{n:x}', 'FFFFFFFFFFFFFFFFF', '{n:x}\0', '{n:x}\t', '', '{n:x}h', '{n:x}:', '\r\n{n:x}',
         '1{n:016x}', '{n:x};a=b;c', '{n:x} ;a', '{n:x}\x0b', '0{n:x}', '8000000000000000', '{n:x},{n:x}', 'g', '{n:x};'
         + 'e' * 300, '{n:x};ext=\n\r', '%61']


@fault(FAULTS)
def chunk_sizes(chance, message, token, mark):
    data = message.body if message.find(b'Content-Length') is not None else b'{"sST":1}'
    hidden = smuggled(chance, token, mark)
    message.chunked(data)
    size = latin(chance.choice(SIZES).format(n=len(data)))
    message.body = chance.choice([
        size + b'\r\n' + data + b'\r\n0\r\n\r\n',
        b'%x\r\n' % len(data) + data + b'\r\n' + latin(chance.choice(['00', '0 ', '0;x', '0x0', '-0', '0\0', '0\t',
                                                                       '000000000000000000', '0;\n'])) + b'\r\n\r\n'])
    message.behind = chance.choice([b'', hidden])


@fault(FAULTS)
def chunk_ends(chance, message, token, mark):
    data = b'{"sST":1}'
    message.chunked(data)
    ends = [latin(chance.choice(['\r\n', '\r\n', '\n', '\r', '', 'x\r\n', '\r\r\n', '\n\r', '\r\nx', '\0\0', 'XX'])) for _ in range(4)]
    message.body = b'9' + ends[0] + data + ends[1] + b'0' + ends[2] + ends[3]
    message.behind = chance.choice([b'', smuggled(chance, token, mark)])


@fault(FAULTS)
def wrong_chunks(chance, message, token, mark):
    hidden = smuggled(chance, token, mark)
    message.chunked(b'{"sST":1}')
    message.body = chance.choice([
        b'8\r\n{"sST":1}\r\n0\r\n\r\n', b'a\r\n{"sST":1}\r\n0\r\n\r\n', b'9\r\n{"sST":1}\r\n', b'9\r\n{"sS', b'',
        b'9\r\n{"sST":1}\r\n0\r\n', b'0\r\n\r\n', b'{"sST":1}', b'9\r\n{"sST":1}0\r\n\r\n',
        b'9\r\n{"sST":1}\r\n0\r\n' + hidden, b'0\r\n' + hidden, b'9\r\n{"sST":1}\r\n0\r\nX'])
    message.behind = chance.choice([b'', hidden])


@fault(FAULTS)
def trailers(chance, message, token, mark):
    message.chunked(message.body if message.find(b'Content-Length') is not None else b'{"sST":1}')
    trailer = chance.choice([
        b'X: y\r\n', b'Content-Length: 5\r\n', b'Transfer-Encoding: chunked\r\n', b'Host: other.example\r\n',
        b'X-HTTP-Method-Override: DELETE\r\n', b'Portcullis-Client: peer="csmf-2"\r\n', b'X: y\n', b' folded\r\n', b'X\r\n',
        b'Content-Type: text/plain\r\n', b'Authorization: x\r\n', b': x\r\n', b'X : y\r\n', b'X: \0\r\n',
        b'If-None-Match: *\r\n', b'X: ' + b'y' * 20000 + b'\r\n', b'X: y\r\n' * 500, b'GET / HTTP/1.1\r\n'])
    message.body = message.body[:-2] + trailer + b'\r\n'
    if chance.random() < 0.3:
        message.put('Trailer', 'X')
    message.behind = chance.choice([b'', smuggled(chance, token, mark)])
