"""Whether what a server received is what was authorised: method, path and operations as control
recorded them, nothing more often than it was, nothing that was not. What is said here of operations is
written from config/interfaces/management-exposure.yaml a second time, for the paths of the corpus, in
another language.

A disagreement is a line of text; none are what a test wants.
"""

import collections
import dataclasses
import json
import re
import urllib.parse

from corpus import strict

CLIENT = re.compile(r'peer="([^"]*)", tenant="([^"]*)", role="([^"]*)", request="([0-9a-f]{16})"')
SLICE = re.compile(r'/ProvMnS/[^/]+(?:/[^/]+)+/NetworkSlice=[^/]+')
COMMENTS = re.compile(r'/FaultSupervisionMnS/[^/]+/alarms/[^/]+/comments')
COLLECTIONS = {'PerfMeasJobCtrlMnS/measJobs': {'GET': ['nsi:monitor'], 'POST': ['nsi:monitor']},
               'NSProvMnS/ServiceProfiles': {'POST': ['nsi:create']}}
REPLACES = ['nsi:activate', 'nsi:deactivate', 'nsi:modify', 'nsi:modify-topology']
STATES = {'UNLOCKED': 'nsi:activate', 'LOCKED': 'nsi:deactivate', 'SHUTTINGDOWN': 'nsi:deactivate'}
FENCED = ('networkSliceSubnetRef', 'networkSliceControllerRef', 'isolationProfileRef')


@dataclasses.dataclass
class Authorised:
    """What control wrote about one request; all of its records together."""
    method: str
    path: str
    operations: list
    who: str
    tenant: str
    outcomes: list


def authorised(records, interface):
    found = {}
    for record in records:
        detail = record.get('detail', {})
        if record['action'] != 'operation' or detail.get('interface') != interface:
            continue
        one = found.setdefault(record['subject'], Authorised(
            detail['method'], detail['path'], sorted(detail['operations']), record['who'],
            detail.get('tenant', ''), []))
        one.outcomes.append(record['outcome'])
    return found


# ---- what it is

def once(pairs):
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError('a member twice')
    return dict(pairs)


def changed(attributes):
    found = {STATES.get(value, f'state {value!r}') if name == 'administrativeState' else
             'nsi:modify-topology' if name in FENCED else 'nsi:modify'
             for name, value in attributes.items()}
    return found or {'nsi:modify'}


def of_patch(request):
    body = json.loads(request.body.decode('utf-8'), object_pairs_hook=once)
    if 'json-patch' not in request.only('content-type'):
        return changed(body.get('attributes', {}) if isinstance(body, dict) else {})
    found = set()
    for step in body:
        name = step['path'].removeprefix('/attributes').strip('/').split('/')[0]
        if step['op'] == 'test':
            continue
        if not name:  # whatever else stands there is gone
            found |= changed(step.get('value', {})) | {'nsi:modify', 'nsi:modify-topology'}
        else:
            found |= changed({name: step.get('value')})
    return found or {'nsi:modify'}


def operations(request):
    path = request.target.partition('?')[0]
    service, _, collection = path[1:].partition('/')  # between them the version, whatever it is
    if found := COLLECTIONS.get(f'{service}/{collection.partition("/")[2]}'):
        return found[request.method]
    if COMMENTS.fullmatch(path):
        return {'POST': ['nsi:monitor']}[request.method]
    if not SLICE.fullmatch(path):
        raise ValueError(f'{path} is none of the paths of the corpus')
    if request.method == 'PATCH':
        return sorted(of_patch(request))
    if request.method == 'PUT':
        return ['nsi:create'] if request.fields.get('if-none-match') == ['*'] else REPLACES
    return [{'GET': 'nsi:monitor', 'DELETE': 'nsi:delete'}[request.method]]


# ---- a server of ours

def of_request(request, known):
    """(its reference or None, what does not fit)"""
    client = CLIENT.fullmatch(request.only('portcullis-client') or '')
    if not client:
        return None, f'nobody vouches for {request.method} {request.target}'
    peer, tenant, _, reference = client.groups()
    one = known.get(reference)
    if one is None:
        return reference, f'{reference} was never authorised: {request.method} {request.target}'
    came = (request.method, request.target.partition('?')[0], peer, tenant)
    if came != (one.method, one.path, one.who, one.tenant):
        return reference, f'{reference}: authorised {one}, came {came}'
    if not request.whole:
        return reference, None if 'done' not in one.outcomes else f'{reference}: done, but half came'
    try:
        # Whoever wants only to create says so himself, and may be told that it is there already.
        meant = operations(request)
        if meant != one.operations and (meant, one.operations) != (['nsi:create'], REPLACES):
            return reference, f'{reference}: authorised {one.operations}, it is {meant}'
    except (ValueError, KeyError, TypeError, AttributeError, strict.Unclear) as error:
        return reference, f'{reference}: authorised {one.operations}, but {error!r}'
    return reference, None


def counted(seen, known):
    times = collections.Counter(seen)
    wrong = [f'{reference}: {count} times' for reference, count in times.items() if count > 1]
    return wrong + [f'{reference}: authorised and never came: {one}' for reference, one in known.items()
                    if reference not in times and 'done' in one.outcomes]


def with_records(connections, known, sent=None, form=strict.FIELD):
    """`connections`: what came on each; `sent`: {number: the octets of a variant}; `form`: of fields."""
    wrong, seen = [], []
    for number, octets in connections.items():
        try:
            for request in strict.requests(octets, form):
                reference, fault = of_request(request, known)
                seen.append(reference)
                fault = fault or spelled_otherwise(request, sent)
                if fault:
                    wrong.append(f'connection {number}: {fault} ({request.fields.get("x-variant")})')
        except strict.Unclear as unclear:
            wrong.append(f'connection {number}: {unclear}')
    return wrong + counted([reference for reference in seen if reference], known)


def spelled_otherwise(request, sent):
    """The target that goes out is one that came in, octet for octet."""
    mark = request.fields.get('x-variant', [''])[0].partition('-')[0]
    if sent is None or not mark.isdigit() or int(mark) not in sent:
        return None
    line = f'{request.method} {request.target} HTTP/1.1'.encode('ascii')
    return None if line in sent[int(mark)] else f'{line} was never sent'


# ---- nginx, by its log

def with_log(lines, known):
    """`lines`: of nginx's access log, in JSON: what it took for request line, method and path, and who
    vouches."""
    wrong, seen = [], []
    for line in lines:
        client = CLIENT.fullmatch(line['client'])
        if not client or client[4] not in known:
            wrong.append(f'never authorised: {line}')
            continue
        one = known[client[4]]
        seen.append(client[4])
        method, target, version = line['request'].split(' ')
        decoded = urllib.parse.unquote_to_bytes(one.path).decode('utf-8')
        if (method, target.partition('?')[0], version) != (one.method, one.path, 'HTTP/1.1') or \
                (line['method'], line['uri']) != (one.method, decoded):
            wrong.append(f'authorised {one}, nginx took it for {line}')
    return wrong + counted(seen, known)
