"""Application servers at the SCEF (T8): who may ask for which class of network data (TR 33.889 6.1, 6.3
R2), under whose name, and what passes. The SCEF is a recorder that answers as one would."""

import http.client
import json
import pathlib

import pytest

from egress_world import Recorder
from processes import Guard
from request_world import ISSUER, RequestWorld, policy
from tunnel import SERVER

PROFILE = pathlib.Path(__file__).resolve().parents[2] / 'config/interfaces/scef.yaml'
PORT, SCEF_PORT = 4446, 8446
AUDIENCE = 'https://gate.example/scef'
CLASSES = ['context', 'subscription', 'communication', 'control']
COLLECTIONS = {'context': '/3gpp-monitoring-event/v1/{}/subscriptions',
               'subscription': '/3gpp-network-parameter-configuration/v1/{}/configurations',
               'communication': '/3gpp-nidd/v1/{}/configurations',
               'control': '/3gpp-as-session-with-qos/v1/{}/subscriptions'}


class ScefWorld(RequestWorld):
    @staticmethod
    def policy():
        body = policy()
        for number, peer in enumerate(body['peers'], 1):
            peer.update(caller_id=f'as-{number}', callbacks=[f'https://as-{number}.example/'])
        body['interfaces'].append(
            {'name': 'scef', 'type': 'scef', 'side': 'local', 'zone': 'external',
             'prefixes': ['10.2.0.12/32'], 'protection': 'tls',
             'ports': [{'protocol': 'tcp', 'first': SCEF_PORT, 'last': SCEF_PORT}]})
        body['policies'] += [
            {'name': f'scef-{name}', 'role': 'csmf', 'interface': 'scef', 'scope': name,
             'operations': [f'{name}:{verb}' for verb in ('read', 'create', 'modify', 'delete')]}
            for name in CLASSES]
        return body

    def guard_settings(self):
        issue, authority = self.peers.issue, self.peers.ca
        self.scef = Recorder(self.server, SERVER, SCEF_PORT, issue('scef.example', 'server', [SERVER]),
                             authority, self._answer)
        self.closing.append(self.scef.close)
        own, out = issue(Guard.NAME, 'server'), issue(Guard.NAME, 'client')
        return {
            'interfaces': [{'name': 'scef', 'audience': AUDIENCE}],
            'requests': [{
                'interface': 'scef', 'profile': str(PROFILE), 'address': '0.0.0.0', 'port': PORT,
                'certificates': [{'chain': str(own.certificate_file), 'key': str(own.key_file)}],
                'server': {'url': f'https://{SERVER}:{SCEF_PORT}',
                           'ca': str(authority.certificate_file),
                           'certificate': str(out.certificate_file), 'key': str(out.key_file)}}]}

    @staticmethod
    def _answer(method, path):
        if method == 'POST':
            return 201, {'Location': f'https://scef.example{path}/7'}
        return (204 if method == 'DELETE' else 200), {}

    def call(self, method, path, body=None, scope=' '.join(CLASSES), number=1):
        """The status, and how many more requests have reached the SCEF."""
        credential = {1: self.csmf, 2: self.other}[number]
        token = self.issuer.token(AUDIENCE, credential, f'csmf-{number}', scope=scope)
        connection = http.client.HTTPSConnection(Guard.NAME, PORT)
        connection.sock = self.tls(credential, port=PORT)
        before = len(self.scef.seen)
        headers = {'Authorization': f'Bearer {token}'}
        if body is not None:
            headers['Content-Type'] = 'application/json'
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        status = connection.getresponse().status
        connection.close()
        return status, len(self.scef.seen) - before


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    with ScefWorld(tmp_path_factory.mktemp('scef')) as w:
        yield w


@pytest.mark.parametrize('granted', CLASSES)
def test_a_token_for_one_class_of_data_is_good_for_exactly_that_one(world, granted):
    for name, collection in COLLECTIONS.items():
        expected = (200, 1) if name == granted else (403, 0)
        assert world.call('GET', collection.format('as-1'), scope=granted) == expected, name


@pytest.mark.parametrize('name', CLASSES)
def test_an_application_server_asks_under_its_own_name_only(world, name):
    assert world.call('GET', COLLECTIONS[name].format('as-2')) == (403, 0)
    assert world.call('GET', COLLECTIONS[name].format('as-1')) == (200, 1)
    assert world.call('GET', COLLECTIONS[name].format('as-2'), number=2) == (200, 1)


def test_a_subscription_names_an_address_of_its_own_and_is_its_tenants(world):
    collection = COLLECTIONS['context'].format('as-1')
    ask = {'notificationDestination': 'https://as-1.example/cb', 'monitoringType': 'LOCATION_REPORTING'}
    theirs = {**ask, 'notificationDestination': 'https://as-2.example/cb'}
    assert world.call('POST', collection, theirs) == (403, 0)
    assert world.call('POST', collection, ask) == (201, 1)
    assert world.call('GET', f'{collection}/8') == (403, 0)  # nobody was seen to create it
    assert world.call('GET', f'{collection}/7') == (200, 1)
    assert world.call('DELETE', f'{collection}/7') == (204, 1)
    assert world.call('GET', f'{collection}/7') == (403, 0)


def test_what_is_not_of_the_interface_is_not_there(world):
    assert world.call('GET', '/3gpp-monitoring-event/v1/as-1/subscriptions/7/more') == (404, 0)
    assert world.call('PUT', COLLECTIONS['context'].format('as-1'), {}) == (404, 0)
