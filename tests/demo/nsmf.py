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

    nsmf.py --address 10.2.0.10 --port 8080 [--tls CERTIFICATE KEY CA] [--seen FILE]
"""

import argparse
import copy
import itertools
import re
import threading
import urllib.parse

import small_server
from small_server import Refused

PROFILES = re.compile(r'/NSProvMnS/v1/ServiceProfiles(?:/(?P<id>[^/]+))?')
MOI = re.compile(r'/ProvMnS/v1/(?P<ldn>[^/=]+=[^/]+(?:/[^/=]+=[^/]+)*)')
SUBNETWORK = 'SubNetwork=1'  # where slices that come from a service profile are put
MERGE_PATCH = ('application/merge-patch+json', 'application/3gpp-merge-patch+json')
JSON_PATCH = ('application/json-patch+json', 'application/3gpp-json-patch+json')
MAX_OBJECTS = 10000


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


class Handler(small_server.Handler):
    def serve(self, path, body):
        if match := PROFILES.fullmatch(path):
            return self._profiles(self.server.kept, match['id'], body)
        if match := MOI.fullmatch(path):
            return self._object(self.server.kept, match['ldn'], body)
        raise Refused(404, f'nothing at {path}')

    def _profiles(self, slices, identity, body):
        if self.command == 'POST' and identity is None:
            identity, answer = slices.allocate(body)
            return self.answer(201, answer, f'/NSProvMnS/v1/ServiceProfiles/{identity}')
        if self.command == 'GET' and identity is None:
            return self.answer(200, slices.allocated())
        if self.command == 'DELETE' and identity is not None:
            slices.deallocate(identity)
            return self.answer(204)
        raise Refused(405, f'{self.command} is not possible here')

    def _object(self, slices, ldn, body):
        if self.command == 'PUT':
            new = slices.put(ldn, body)
            return self.answer(201 if new else 200, slices.get(ldn),
                               f'/ProvMnS/v1/{ldn}' if new else None)
        if self.command == 'GET':
            query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
            if query.get('scopeType', ['BASE_ONLY']) != ['BASE_ONLY']:
                return self.answer(200, slices.below(ldn))
            return self.answer(200, slices.get(ldn))
        if self.command == 'PATCH':
            kind = self.headers.get('Content-Type', '').partition(';')[0].strip().lower()
            if kind in MERGE_PATCH:
                return self.answer(200, slices.patch(ldn, lambda old: merge_patch(old, body)))
            if kind in JSON_PATCH:
                return self.answer(200, slices.patch(ldn, lambda old: json_patch(old, body)))
            raise Refused(415, f'expected one of {", ".join(MERGE_PATCH + JSON_PATCH)}, '
                               f'found {kind!r}')
        if self.command == 'DELETE':
            slices.delete(ldn)
            return self.answer(204)
        raise Refused(405, f'{self.command} is not possible here')


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    small_server.add_options(parser)
    small_server.run(parser.parse_args(), Handler, Slices())


if __name__ == '__main__':
    main()
