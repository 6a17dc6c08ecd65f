"""The gate that the REST tests speak to: a real control and a real dataplane whose ports carry
nothing. Import the fixtures by name."""

import secrets

import pytest

from netns import Namespaces
from processes import Control, Dataplane, Pki, instance_name
from rest_contract import Contract, clear

QUIET_PORTS = [
    {'name': 'wire', 'role': 'untrusted', 'device': {'vdev': 'net_null0,no-rx=1'}, 'mtu': 1500,
     'mac': '02:00:00:00:00:01', 'addresses': ['192.0.2.1/24']},
    {'name': 'core', 'role': 'trusted', 'device': {'vdev': 'net_null1,no-rx=1'}, 'mtu': 1500,
     'mac': '02:00:00:00:00:02', 'addresses': ['10.2.0.1/24']}]


def key():
    return secrets.token_hex(20)


@pytest.fixture(scope='module')
def world():
    with Namespaces('rest') as namespaces:
        yield namespaces


@pytest.fixture(scope='module')
def namespace(world):
    return world.add('gate')


@pytest.fixture(scope='module')
def pki(tmp_path_factory):
    pki = Pki(tmp_path_factory.mktemp('pki'),
              (('alice', 'operator'), ('bob', 'viewer'), ('carol', 'operator'), ('eve', 'viewer')))
    pki.operators = [o for o in pki.operators if o['name'] != 'eve']  # a certificate, no role
    return pki


@pytest.fixture(scope='module')
def dataplane(namespace, tmp_path_factory):
    process = Dataplane(namespace, tmp_path_factory.mktemp('dataplane'), instance_name('r'),
                        QUIET_PORTS)
    process.start()
    yield process
    process.stop()
    process.forget()


@pytest.fixture(scope='module')
def control(namespace, dataplane, pki, tmp_path_factory):
    process = Control(namespace, tmp_path_factory.mktemp('control'), dataplane.socket, pki)
    process.start()
    yield process
    process.stop()


@pytest.fixture
def rest(control):
    client = Contract(control)
    clear(client)
    yield client
    client.close()


@pytest.fixture
def viewer(control):
    client = Contract(control, 'bob')
    yield client
    client.close()
