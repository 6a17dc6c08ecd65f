"""What can be wrong with the fields of a head."""

from corpus.message import FOREIGN, latin, smuggled
from corpus.register import fault

FAULTS = []


TRICKY = ['Transfer-Encoding', 'Content-Length', 'Host', 'Connection', 'X-Variant', 'Authorization',
          'Content-Type', 'Expect']


@fault(FAULTS)
def folded(chance, message, token, mark):
    """obs-fold, RFC 9112 5.2."""
    name = chance.choice(TRICKY)
    fold = latin(chance.choice(['\r\n ', '\r\n\t', '\n ', '\r ', '\r\n  \t ', '\r\n \r\n ']))
    value = chance.choice([fold + b'chunked', b'x' + fold + b'Transfer-Encoding: chunked',
                           b'x' + fold + b'y', fold + b'5'])
    message.put(name, value, at=chance.randint(0, len(message.fields)))


@fault(FAULTS)
def odd_colons(chance, message, token, mark):
    field = chance.choice(message.fields)
    field.colon = latin(chance.choice([' : ', '\t:', ' :', '', ' ', '::', ':\0', '\0:', ':\x0b', '=', ': \t',
                                       ':', ';', '\r:', '\n:', '\xa0:', ':\r\n ', '_:']))


@fault(FAULTS)
def odd_line_ends(chance, message, token, mark):
    field = chance.choice(message.fields)
    field.end = latin(chance.choice(['\n', '\r', '\r\r\n', '\n\r\n', '\r\n\r', '\0\r\n', '\n\n', '\r\n\n', '\x85',
                                     '\r\n\0', '\u00a0\r\n']))


@fault(FAULTS)
def odd_end_of_head(chance, message, token, mark):
    message.close = latin(chance.choice(['\n', '\r', '\n\r\n', ' \r\n', '\r\n\r\n', '\0\r\n', '\t\r\n', '', '\r\r\n',
                                         '\n\n', ':\r\n', ': x\r\n\r\n', '\x0b\r\n']))


@fault(FAULTS)
def an_octet_in_a_field(chance, message, token, mark):
    field = chance.choice(message.fields)
    octet = bytes([chance.choice([*range(0x21), 0x7f, *range(0x80, 0x100, 9), 0x28, 0x2c, 0x3a, 0x5f])])
    if chance.random() < 0.5:
        at = chance.randint(0, len(field.name))
        field.name = field.name[:at] + octet + field.name[at:]
    else:
        at = chance.randint(0, len(field.value))
        field.value = field.value[:at] + octet + field.value[at:]


@fault(FAULTS)
def hosts(chance, message, token, mark):
    value = chance.choice(['other.example', '', 'gate.example:4443', 'gate.example@other.example',
                           'gate.example/x', 'a b', 'gate.example, other.example', '[::1]', 'gate.example\t',
                           'GATE.EXAMPLE', 'gate.example#', '%00', 'localhost'])
    how = chance.choice(['instead', 'twice', 'twice', 'none', 'first'])
    if how in ('instead', 'none'):
        message.drop(b'Host')
    if how != 'none':
        message.put(chance.choice(['Host', 'host', 'HOST']), value, at=0 if how == 'first' else None)


@fault(FAULTS)
def twice(chance, message, token, mark):
    field = chance.choice(message.fields)
    message.put(chance.choice([field.name, field.name.lower(), field.name.upper()]),
                chance.choice([field.value, b'x', b'']), at=chance.randint(0, len(message.fields)))


OVERRIDES = ['X-HTTP-Method-Override', 'X-HTTP-Method', 'X-Method-Override', 'X-Original-URL',
             'X-Rewrite-URL', 'X-Original-URI', 'x-http-method-override', 'X-Original-Method',
             'X-Forwarded-Uri', 'X-Forwarded-Method', 'X-Forwarded-Path', 'X-Forwarded-Prefix',
             'X-Original-Host', 'X-Forwarded-Host', 'Forwarded', 'X-Forwarded-For', 'X-Real-IP',
             'X_HTTP_METHOD_OVERRIDE', 'X-Script-Name', 'Destination', 'Max-Forwards', 'Via', 'Range',
             'If-None-Match', 'If-Match', 'TE', 'Trailer', 'Keep-Alive', 'Accept-Encoding', 'Cookie']


@fault(FAULTS)
def other_words_for_it(chance, message, token, mark):
    message.put(chance.choice(OVERRIDES), chance.choice(
        ['DELETE', FOREIGN, 'host=other.example', '*', '127.0.0.1', 'trailers', 'bytes=0-1', '0',
         'Content-Length', '"a"']), at=chance.randint(0, len(message.fields)))


@fault(FAULTS)
def who_asks(chance, message, token, mark):
    """The gate's own field, as near as one gets to it."""
    message.put(chance.choice(['Portcullis-Client', 'portcullis-client', 'PORTCULLIS-CLIENT',
                               'Portcullis_Client', 'Portcullis-Client ', 'Portcullis-Client\t',
                               ' Portcullis-Client', 'Portcullis.Client', 'Portcullis-Client\0',
                               'X\r\nPortcullis-Client', 'X: y\nPortcullis-Client', 'X: y\rPortcullis-Client']),
                'peer="csmf-2", tenant="operator-b", role="csmf", request="0123456789abcdef"',
                at=chance.randint(0, len(message.fields)))


@fault(FAULTS)
def of_this_connection(chance, message, token, mark):
    """RFC 9110 7.6.1: fields that Connection names are dropped; not those that matter."""
    message.put('Connection', chance.choice(
        ['Content-Length', 'Transfer-Encoding', 'Host', 'Portcullis-Client', 'If-None-Match', 'Content-Type',
         'close', 'keep-alive', 'close, keep-alive', 'Authorization', 'X-Variant, close', 'upgrade', 'TE', '"', ',',
         'close\0', 'keep-alive, Host', 'Connection']))


@fault(FAULTS)
def upgrades(chance, message, token, mark):
    message.put('Connection', chance.choice(['Upgrade', 'Upgrade, HTTP2-Settings', 'upgrade, close']))
    message.put('Upgrade', chance.choice(['h2c', 'websocket', 'HTTP/2.0', 'TLS/1.3', 'h2c, websocket']))
    message.put('HTTP2-Settings', 'AAMAAABkAARAAAAAAAIAAAAA')
    message.behind = chance.choice([b'', b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', smuggled(chance, token, mark)])


@fault(FAULTS)
def expectations(chance, message, token, mark):
    message.put('Expect', chance.choice(['100-continue', '100-Continue', '100-continue, x', 'x', '', '100',
                                         ' 100-continue ', '100-continue\0', '200-ok']))
    message.behind = chance.choice([b'', smuggled(chance, token, mark)])


@fault(FAULTS)
def very_many(chance, message, token, mark):
    for number in range(chance.choice([50, 97, 98, 99, 100, 101, 400])):
        message.put(f'X-{number}', 'y' * chance.choice([1, 1, 1, 100, 400]))


@fault(FAULTS)
def credentials(chance, message, token, mark):
    value = chance.choice([f'Bearer  {token}', f'bearer {token}', f'Bearer {token},', f'Bearer {token} x',
                           f'Basic {token}', f'Bearer\t{token}', f'Bearer {token[:-1]}', f'DPoP {token}', '', token,
                           f'Bearer {token}\0'])
    if chance.random() < 0.5:
        message.drop(b'Authorization')
    message.put(chance.choice(['Authorization', 'AUTHORIZATION', 'Authorization ', 'X-Authorization',
                               'Proxy-Authorization']), value)
