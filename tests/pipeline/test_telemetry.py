"""The rte_telemetry commands, asked as dpdk-telemetry.py, collectd and telegraf ask: over DPDK's own
socket, which is root's."""

import glob
import json
import os
import socket
import stat
import time

import pytest


class Telemetry:
    def __init__(self, instance):
        [path] = glob.glob(f'/var/run/dpdk/*{instance}*/dpdk_telemetry.v2')
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(5)
        self.socket.connect(path)
        self.size = json.loads(self.socket.recv(1024))['max_output_len']

    def ask(self, command):
        self.socket.send(command.encode())
        [answer] = json.loads(self.socket.recv(self.size)).values()
        return answer


@pytest.fixture(scope='module', params=[1, 2], ids=['one worker', 'two workers'])
def gate(make_gate, request):
    """Not the shared one: that has more SAs than the 512 names that DPDK puts into one answer."""
    return make_gate(workers=request.param)


def test_counters_peers_and_sas(gate):
    link = gate.link()
    outcome = gate.judge([link.seal(link.request()) for _ in range(10)])
    assert outcome.verdicts == {'accepted': 10}
    telemetry = Telemetry(gate.instance)
    time.sleep(2.1)  # its readings are refreshed once a second

    total = telemetry.ask('/portcullis/counters')
    assert total.pop('bytes') > 0
    steered = gate.steer.read_counters()
    assert total == dict(zip(steered.verdicts, steered.total.verdicts))

    assert link.name in telemetry.ask('/portcullis/peers')
    assert telemetry.ask(f'/portcullis/peers,{link.name}')['accepted'] == 10
    assert f'{link.name}-in' in telemetry.ask('/portcullis/sas')
    assert telemetry.ask(f'/portcullis/sas,{link.name}-in')['accepted'] == 10
    assert telemetry.ask('/portcullis/sas,nobody') is None
    assert '/portcullis/counters' in telemetry.ask('/')


def test_the_socket_is_roots(gate):
    path = Telemetry(gate.instance).path
    assert os.stat(path).st_uid == 0
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) & 0o077 == 0
