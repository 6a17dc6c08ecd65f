#!/usr/bin/python3
"""Small servers beside the NSMF, each with what the demo asks of its interface. What is posted to a
collection is kept and has an id; what is posted to a task is taken.

    scef      TS 29.122  MonitoringEvent and NIDD: subscriptions and configurations
    msgin5g   TS 29.538  gateways register (paths of ours) and send messages
    nfvo      SOL005     network services, packages, descriptors; a lifecycle task answers 202 with
                         the operation that it started
    receiver  what a peer has for notifications and deliveries: takes all that is posted

    apis.py scef --address 10.2.0.42 --port 8443 [--tls CERTIFICATE KEY CA] [--seen FILE]
"""

import argparse
import itertools
import re
import threading

import small_server
from small_server import Refused

OPERATIONS = '/nslcm/v2/ns_lcm_op_occs'
COLLECTIONS = {
    'scef': (r'/3gpp-monitoring-event/v1/[^/]+/subscriptions', r'/3gpp-nidd/v1/[^/]+/configurations'),
    'msgin5g': ('/msgs-gwregistration/v1/registrations',),
    'nfvo': ('/nslcm/v2/ns_instances', OPERATIONS, '/vnfpkgm/v2/vnf_packages',
             '/nsd/v2/ns_descriptors'),
    'receiver': ()}
# And where the answer's Location finds what a task started.
TASKS = {
    'msgin5g': ('/msgs-msgdelivery/v1/deliver-(ue-message|report)', None),
    'nfvo': ('/nslcm/v2/ns_instances/[^/]+/(instantiate|scale|terminate)', OPERATIONS),
    'receiver': ('/.*', None)}


class Resources:
    """By their paths. Any thread."""

    def __init__(self, api):
        self.collections, self.task = COLLECTIONS[api], TASKS.get(api)
        self.lock = threading.Lock()
        self.numbers = itertools.count(1)
        self.objects = {}

    def is_collection(self, path):
        return any(re.fullmatch(one, path) for one in self.collections)

    def is_task(self, path):
        return self.task and re.fullmatch(self.task[0], path)

    def create(self, collection, body):
        """(its path, itself)"""
        with self.lock:
            identity = str(next(self.numbers))
            path = f'{collection}/{identity}'
            self.objects[path] = {**body, 'id': identity, 'self': path}
            return path, self.objects[path]

    def below(self, collection):
        with self.lock:
            return [one for path, one in self.objects.items()
                    if path.rpartition('/')[0] == collection]

    def get(self, path):
        with self.lock:
            if path not in self.objects:
                raise Refused(404, f'nothing at {path}')
            return self.objects[path]

    def replace(self, path, body):
        old = self.get(path)
        with self.lock:
            self.objects[path] = {**body, 'id': old['id'], 'self': path}
            return self.objects[path]

    def delete(self, path):
        self.get(path)
        with self.lock:
            self.objects.pop(path, None)


class Handler(small_server.Handler):
    def serve(self, path, body):
        resources = self.server.kept
        if self.command == 'POST' and resources.is_collection(path):
            location, created = resources.create(path, body)
            return self.answer(201, created, location)
        if self.command == 'POST' and resources.is_task(path):
            return self._start(resources, path)
        if self.command == 'GET' and resources.is_collection(path):
            return self.answer(200, resources.below(path))
        if self.command == 'GET':
            return self.answer(200, resources.get(path))
        if self.command == 'PUT':
            return self.answer(200, resources.replace(path, body))
        if self.command == 'DELETE':
            resources.delete(path)
            return self.answer(204)
        raise Refused(404, f'{self.command} {path}: nothing of this interface')

    def _start(self, resources, path):
        _, started_in = resources.task
        if started_in is None:
            return self.answer(204)
        location, _ = resources.create(started_in, {
            'nsInstanceId': path.split('/')[-2], 'lcmOperationType': path.split('/')[-1].upper(),
            'operationState': 'PROCESSING'})
        return self.answer(202, location=location)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('api', choices=COLLECTIONS)
    small_server.add_options(parser)
    options = parser.parse_args()
    small_server.run(options, Handler, Resources(options.api))


if __name__ == '__main__':
    main()
