"""What bodies can say of which readers differ, and what can stand behind a request."""

from corpus.message import FOREIGN, WITH_BODY, latin, request, slice_path, smuggled
from corpus.register import fault

FAULTS = []


BODIES = [
    '{{"attributes":{{"administrativeState":"{a}"}},"attributes":{{"userLabel":"x"}}}}',
    '{{"attributes":{{"administrativeState":"{a}","administrativeState":"{b}"}}}}',
    '{{"attributes":{{"administrativeState":"{a}","AdministrativeState":"{b}"}}}}',
    '{{"attributes":{{"administrativeState\\u0000":"{a}"}}}}', '{{"attributes":{{"administrative\\u0053tate":"{a}"}}}}',
    '{{"Attributes":{{"administrativeState":"{a}"}}}}', '{{"attributes":{{"administrativeState":"{a}"}}}}{{}}',
    '{{"attributes":{{"administrativeState":"{a}",}}}}', '/**/{{"attributes":{{"administrativeState":"{a}"}}}}',
    '\xef\xbb\xbf{{"attributes":{{"administrativeState":"{a}"}}}}', '{{"attributes":{{"administrativeState":["{a}"]}}}}',
    '{{"attributes":{{"administrativeState":null}}}}', '{{"attributes":{{"administrativeState":"{a} "}}}}',
    '{{"attributes":{{"administrativeState":"\\u0055NLOCKED"}}}}', "{{'attributes':{{'administrativeState':'{a}'}}}}",
    '{{"attributes":{{"administrativeState":NaN}}}}', '{{"attributes":{{"x":1e999}}}}', '[]', 'null', '""', '',
    '{{"attributes.administrativeState":"{a}"}}', '{{"attributes":{{"userLabel":"\xff"}}}}',
    '{{"attributes":{{"userLabel":"\\ud800"}}}}', '{{"id":"foreign","attributes":{{"userLabel":"x"}}}}',
    '{{"attributes":{{"networkSliceSubnetRef":"x"}}}}', '{{"attributes":{{"userLabel":"x","administrativeState":"{a}"}}}}',
    '[{{"op":"replace","path":"/attributes/administrativeState","value":"{a}"}},'
    '{{"op":"test","path":"/attributes/userLabel","value":"x"}}]',
    '[{{"op":"move","from":"/attributes/userLabel","path":"/attributes/administrativeState"}}]',
    '[{{"op":"replace","path":"/attributes","value":{{"administrativeState":"{a}"}}}}]',
    '[{{"op":"replace","path":"/attributes/administrative~0State","value":"{a}"}}]',
    '[{{"op":"replace","op":"remove","path":"/attributes/userLabel","value":"{a}"}}]',
    '[{{"op":"REPLACE","path":"/attributes/administrativeState","value":"{a}"}}]',
    '[{{"op":"replace","path":"/attributes/administrativeState/","value":"{a}"}}]',
    '[{{"op":"copy","from":"/attributes/administrativeState","path":"/attributes/userLabel"}}]']
KINDS = ['application/merge-patch+json', 'application/json-patch+json', 'application/3gpp-merge-patch+json',
         'application/3gpp-json-patch+json', 'application/json', 'application/merge-patch+json; charset=utf-8',
         'application/merge-patch+json;charset=utf-16', 'APPLICATION/MERGE-PATCH+JSON', 'text/plain', '',
         'application/merge-patch+json, application/json-patch+json', 'application/x-www-form-urlencoded',
         'application/merge-patch+json;', 'multipart/form-data; boundary=x', 'application/merge-patch+json\0']


@fault(FAULTS)
def documents(chance, message, token, mark):
    states = ['LOCKED', 'UNLOCKED', 'SHUTTINGDOWN', 'locked', 'X']
    body = chance.choice(BODIES).format(a=chance.choice(states), b=chance.choice(states))
    kinds = KINDS[1::2] if body.startswith('[') else KINDS[::2]
    message.method, message.target = b'PATCH', latin(slice_path(chance.randrange(8)))
    kind = chance.choice([*kinds[:2] * 3, *KINDS])
    if chance.random() < 0.2:
        body = '{"attributes":' * chance.choice([10, 200, 4000]) + '1' + '}' * 200
    message.content(body, kind)
    if chance.random() < 0.2:
        message.chunked(*(message.body[i:i + 7] for i in range(0, len(message.body), 7)))
    if chance.random() < 0.1:
        message.put('Content-Encoding', chance.choice(['gzip', 'identity', 'deflate', '', 'br']))
    if chance.random() < 0.1:
        message.put('Content-Type', chance.choice(KINDS))


@fault(FAULTS)
def makes_and_replaces(chance, message, token, mark):
    """PUT of what is there, of what is not, and of what the body says is something else."""
    name = chance.choice([f'own-{chance.randrange(8)}', f'new-{mark}', 'foreign'])
    inside = chance.choice([name, name, name, 'foreign', 'own-1', ''])
    other = request('PUT', f'/ProvMnS/v1/SubNetwork=1/NetworkSlice={name}', token, mark, {
        'id': inside, 'objectClass': chance.choice(['NetworkSlice', 'NetworkSlice', 'networkslice']),
        'attributes': {'administrativeState': chance.choice(['LOCKED', 'UNLOCKED'])}}, 'application/json')
    message.__dict__.update(other.__dict__)
    if chance.random() < 0.3:
        message.put('If-None-Match', chance.choice(['*', '"a"', 'W/"a"']))
    if chance.random() < 0.2:
        message.put('Connection', 'If-None-Match')


def another(chance, token, mark):
    made = chance.choice(WITH_BODY + (None,) * 3)
    if made:
        return made(chance.randrange(8), token, mark)
    return request('GET', slice_path(chance.randrange(8)), token, mark)


@fault(FAULTS)
def in_a_row(chance, message, token, mark):
    """Two to four, all of which may pass, at once."""
    for number in range(chance.randint(1, 3)):
        message.behind += another(chance, token, f'{mark}-{number + 2}').render()


@fault(FAULTS)
def a_forbidden_one_behind(chance, message, token, mark):
    message.behind = smuggled(chance, token, mark) + another(chance, token, f'{mark}-3').render()


@fault(FAULTS)
def behind_a_refused_one(chance, message, token, mark):
    message.target = latin(chance.choice([FOREIGN, '/nothing', '/..', slice_path(1) + '/']))
    message.behind = another(chance, token, f'{mark}-2').render()


@fault(FAULTS)
def something_between(chance, message, token, mark):
    message.behind = latin(chance.choice(['\r\n', '\n', ' ', '\0', '0\r\n\r\n', '\r\n\r\n', 'x', '\r', 'HTTP/1.1 200 OK\r\n\r\n'])) \
        + another(chance, token, f'{mark}-2').render()


@fault(FAULTS)
def a_request_as_a_body(chance, message, token, mark):
    """Where nobody reads the body: whatever it holds, it is a body."""
    message.method, message.target = b'POST', b'/NSProvMnS/v1/ServiceProfiles'
    hidden = smuggled(chance, token, mark)
    body = chance.choice([hidden, b'\r\n\r\n' + hidden, b'0\r\n\r\n' + hidden, b'\0' * 40 + hidden])
    message.content(body, 'application/json')
    if chance.random() < 0.5:
        message.chunked(*chance.choice([[body], [body[:5], body[5:]], [b'0\r\n\r\n', hidden]]))


@fault(FAULTS)
def breaks_off(chance, message, token, mark):
    whole = message.render()
    cut = whole[:chance.randrange(1, len(whole))]
    message.before, message.behind, message.body, message.fields = cut, b'', b'', []
    message.method = message.target = message.version = message.end = message.close = b''
    message.gaps = (b'', b'')
