"""Control and its socket for guards, which tests play; the policy that they start from."""

import hashlib
import json
import os
import re
import secrets
import socket
import time

import pytest

from admission_client import AdmissionClient, pb
from processes import BIN, Control
from rest_contract import Contract, interface, peer, policy

OPERATIONS = ['nsi:create', 'nsi:delete', 'nsi:modify', 'nsi:read']
QUOTA = {'operation': 'nsi:modify', 'count': 2, 'seconds': 3600}
ISSUER = 'https://as.example'


def requests_policy(**more):
    return {
        'interfaces': [interface(protection='tls', ports=[
            {'protocol': 'tcp', 'first': 443, 'last': 443}])],
        'peers': [peer(name, number, tenant=tenant, caller_id=f'as-{number}',
                       token={'issuer': ISSUER, 'client_id': name})
                  for name, number, tenant in (('csmf-1', 1, 'a'), ('csmf-2', 2, 'b'))],
        'policies': [policy(scope='nsi', operations=OPERATIONS, quotas=[QUOTA])], **more}


class Gate:
    """A control without a dataplane; the test is its guard."""

    def __init__(self, namespace, folder, pki):
        self.control = Control(namespace, folder, folder / 'nobody.sock', pki, lab=False)

    def start(self):
        self.control.start(ready=False)
        self.rest = Contract(self.control)

    def kill(self):
        self.rest.close()
        self.control.kill()

    def guard(self):
        client = AdmissionClient(self.control.guard_socket)
        client.done(hello=pb.Hello(protocol=1))
        return client

    def records(self):
        """Of operations, in the log as it is now."""
        found, start = [], 1
        while page := self.rest.ok('GET', f'/v1/audit?from={start}')['items']:
            found += [record for record in page if record['action'] == 'operation']
            start = page[-1]['number'] + 1
        return found

    def events(self, kind):
        text = self.rest.ok('GET', '/v1/events?follow=false')
        return [json.loads(data) for data in re.findall(rf'event: {kind}\ndata: (.*)', text)]

    def counted(self, operation, outcome):
        found = re.search(rf'portcullis_operations_total\{{interface="nsmf",operation="{operation}"'
                          rf',outcome="{outcome}"\}} (\d+)', self.rest.ok('GET', '/metrics'))
        return int(found[1]) if found else 0


@pytest.fixture(scope='module')
def process(namespace, pki, tmp_path_factory):
    gate = Gate(namespace, tmp_path_factory.mktemp('requests'), pki)
    gate.start()
    yield gate
    gate.rest.close()
    gate.control.stop()


@pytest.fixture
def gate(process):
    process.rest.ok('PUT', '/v1/policy', requests_policy(request_blocks=[]))
    for one in process.rest.ok('GET', '/v1/revocations')['items']:
        process.rest.ok('POST', '/v1/revocations',
                        {'kind': one['kind'], 'id': one['id'], 'revoked': False,
                         **({'issuer': one['issuer']} if 'issuer' in one else {})})
    for one in process.rest.ok('GET', '/v1/owners')['items']:
        process.rest.ok('DELETE', f'/v1/owners/{one["id"]}')
    return process


@pytest.fixture
def guard(gate):
    with gate.guard() as client:
        yield client


def identity(number=1):
    return pb.Identity(mode=pb.CERTIFICATE, names=[f'csmf-{number}.example'],
                       chain=[pb.Certificate(issuer='CN=below', serial=f'0{number}')],
                       spki_sha256=hashlib.sha256(str(number).encode()).hexdigest(),
                       certificate_not_after=int(time.time()) + 3600,
                       source=socket.inet_aton('192.0.2.2'))


def token(number=1, scope='nsi'):
    return pb.Token(issuer=ISSUER, client_id=f'csmf-{number}', subject=f'csmf-{number}',
                    jti=f't{number}', kid='k', scopes=[scope], expiry=int(time.time()) + 3600)


def permit(number=1, scope='nsi'):
    return pb.Permit(identity=identity(number), token=token(number, scope), interface='nsmf')


def operate(operation='nsi:read', resource='', number=1, **more):
    return pb.Operate(**{'id': secrets.token_hex(8), 'peer': f'csmf-{number}',
                         'tenant': 'ab'[number - 1], 'interface': 'nsmf', 'method': 'POST',
                         'path': f'/nsi/{resource}', 'operations': [operation], 'kind': 'slice',
                         'resource': resource, 'change': operation != 'nsi:read',
                         'source': socket.inet_aton('192.0.2.2'), 'token': token(number), **more})


def create(guard, resource, number=1):
    begun = operate('nsi:create', number=number)
    guard.done(operate=begun)
    return guard.call(outcome=pb.Outcome(id=begun.id, status=201, created=resource))


def owner(guard, resource):
    return guard.done(find_owner=pb.FindOwner(interface='nsmf', kind='slice',
                                              resource=resource)).owner.tenant


def command_line(gate):
    pki = gate.control.pki
    environment = {**os.environ, 'HOME': str(pki.folder), 'XDG_CONFIG_HOME': str(pki.folder),
                   'PORTCULLIS_URL': f'https://127.0.0.1:{gate.control.port}',
                   'PORTCULLIS_CA': str(pki.ca), 'PORTCULLIS_CERT': str(pki.folder / 'alice.pem'),
                   'PORTCULLIS_KEY': str(pki.folder / 'alice.key')}
    return lambda *arguments: gate.control.namespace.run([BIN / 'portcullisctl', *arguments],
                                                         env=environment)
