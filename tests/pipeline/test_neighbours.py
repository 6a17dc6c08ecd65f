"""Next hops whose link-layer address is not known: packets wait, bounded in number and time, and
are never sent anywhere else. Nobody answers the kernel's questions on these wires."""

import time

import pytest

from gate import SILENT, to_core
from scapy_esp import udp


@pytest.fixture(scope='module')
def patient(make_gate):
    return make_gate(driver='pcap', neighbours={'queue': 8, 'timeout_ms': 200})


def test_who_stays_unknown_gets_nothing(patient):
    link = patient.link()
    begin = time.monotonic()
    outcome = patient.judge(link.seal(udp(link.client[4], SILENT['core'], 1, 2)), counted=0)
    assert outcome.core == [] and outcome.wire == []
    outcome = patient.wait_for({'no_neighbour': 1})
    assert time.monotonic() - begin >= 0.19
    assert outcome.core == [] and outcome.wire == []
    patient.accepts(link)


def test_an_unknown_peer_endpoint(patient):
    link = patient.link(endpoint=SILENT['wire'])
    outcome = patient.judge(to_core(link.answer()), 'core', counted=0)
    assert outcome.wire == []
    patient.wait_for({'no_neighbour': 1})
    patient.accepts(link)


def test_the_queue_is_bounded(patient):
    link = patient.link()
    frames = [link.seal(udp(link.client[4], SILENT['core'], 1, 2)) for _ in range(20)]
    outcome = patient.judge(frames, counted=12)
    assert outcome.verdicts == {'queue_full': 12}
    patient.accepts(link)  # others are not held up
    patient.wait_for({'no_neighbour': 8})
    patient.judge(frames[:0])


def test_a_waiting_packet_of_a_removed_sa_is_dropped(patient):
    link = patient.link()
    patient.judge(link.seal(udp(link.client[4], SILENT['core'], 1, 2)), counted=0)
    patient.steer.remove_sas([f'{link.name}-in'])
    patient.wait_for({'no_neighbour': 1})
    patient.accepts(patient.link())
