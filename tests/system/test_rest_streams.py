"""What control sends on its own accord or in bulk (events, metrics), what it bounds, and how it
refuses to start."""

import os
import re
import socket

import yaml

from netns import wait_until
from processes import BIN
from rest_contract import Contract, EventStream, document, parse_event, sa
from rest_gate import control, dataplane, key, namespace, pki, rest, world  # noqa: F401

# ---- events and metrics


def test_events_come_as_they_happen_and_again_for_who_missed_them(rest, control):
    stream = EventStream(control)
    rest.ok('PUT', '/v1/policy', document())
    seen = []
    while not any(kind == 'policy_applied' for _, kind, _ in seen):
        seen.append(stream.event())
    assert ('dataplane', 'snapshot') in [(data['source'], kind) for _, kind, data in seen]
    applied = seen[-1]
    assert applied[2]['operator'] == 'alice'
    stream.close()

    rest.ok('POST', '/v1/sas', sa('in', 0x1001, key()))  # nobody listens now
    again = EventStream(control, last_id=applied[0])
    missed = []
    while not any(kind == 'operator' for _, kind, _ in missed):
        missed.append(again.event())
    assert {data.get('sa') for _, _, data in missed} == {'in'}
    assert applied[0] not in [one[0] for one in missed]
    again.close()

    everything = rest.ok('GET', '/v1/events?follow=false')
    ids = [parse_event(block)[0] for block in everything.strip().split('\n\n')]
    assert ids == sorted(ids, key=lambda i: int(i.split('-')[1])) and applied[0] in ids
    other_run = EventStream(control, last_id='00000000-5')  # from before a restart: all of them
    assert other_run.event()[0] == ids[0]
    other_run.close()


def test_event_streams_are_bounded_and_give_their_place_back(control, rest):
    streams = [EventStream(control) for _ in range(16)]
    assert {one.status for one in streams} == {200}
    assert EventStream(control).status == 503
    streams.pop().close()

    def free():
        one = EventStream(control)
        one.close()
        return one.status == 200
    assert wait_until(free, 10)
    for one in streams:
        one.close()
    rest.ok('GET', '/healthz')


def test_metrics_are_prometheus_text(rest):
    rest.ok('PUT', '/v1/policy', document())
    rest.ok('POST', '/v1/sas', sa('in', 0x1001, key()))
    answer = rest.request('GET', '/metrics')
    assert answer.headers['Content-Type'] == 'text/plain; version=0.0.4; charset=utf-8'
    samples, typed = {}, set()
    for line in answer.content.decode().splitlines():
        if line.startswith('# TYPE '):
            name, kind = line.split()[2:]
            assert kind in ('counter', 'gauge') and (kind == 'gauge') != name.endswith('_total')
            assert name not in typed
            typed.add(name)
        elif not line.startswith('# HELP '):
            match = re.fullmatch(r'([a-z_]+)(\{([a-z_]+="[^"]*",?)+\})? (\d+)', line)
            assert match and match[1] in typed, line
            assert line.rpartition(' ')[0] not in samples
            samples[line.rpartition(' ')[0]] = int(match[4])
    assert samples['portcullis_in_sync'] == samples['portcullis_dataplane_connected'] == 1
    assert samples['portcullis_sas'] == 1
    assert samples['portcullis_port_up{port="wire",role="untrusted"}'] == 1
    verdicts = rest.ok('GET', '/v1/counters')['total']['verdicts']
    assert {f'portcullis_packets_total{{verdict="{v}"}}' for v in verdicts} <= set(samples)
    assert not any(name.startswith('portcullis_xdp_') for name in samples), 'no port here has XDP'
    assert 'portcullis_worker_packets_total{worker="0",verdict="accepted"}' in samples


# ---- bounds


def test_connections_are_bounded_and_slow_ones_hold_up_nobody(control, rest):
    context = control.pki.context('bob')

    def open_one():
        with control.namespace.entered():
            plain = socket.create_connection(('127.0.0.1', control.port), timeout=10)
        try:
            tls = context.wrap_socket(plain, server_hostname='127.0.0.1')
            tls.sendall(b'GET /healthz HTT')  # and never the rest
            return tls
        except OSError:
            plain.close()
            return None
    slow = [open_one() for _ in range(100)]
    assert all(slow)
    rest.ok('GET', '/v1/status')
    more = [open_one() for _ in range(60)]
    assert None in more  # beyond the limit
    for one in filter(None, slow + more):
        one.close()
    fresh = Contract(control)
    assert wait_until(fresh.ready, 10)
    fresh.close()


def test_many_requests_on_one_connection(rest):
    rest.ok('GET', '/healthz')
    connection = rest.connection
    for _ in range(200):
        rest.ok('GET', '/healthz')
    assert rest.connection is connection


# ---- start-up


def fails_to_start(control, folder, change):
    """What a control says that refuses to start on a copy of a good configuration."""
    config = {**control.config, 'store': str(folder / 'control.db'),
              'guard': {**control.config['guard'], 'socket': str(folder / 'admission.sock')},
              'rest': {**control.config['rest'], 'port': 8445}}
    change(config)
    path = folder / 'control.yaml'
    path.write_text(yaml.safe_dump(config), encoding='ascii')
    done = control.namespace.run([BIN / 'portcullis-control', '--config', path], check=False,
                                 timeout=20)
    assert done.returncode == 1
    return done.stderr


def test_what_is_wrong_at_the_start_is_said(control, tmp_path):
    open_key = tmp_path / 'open.key'
    open_key.write_bytes(control.pki.server[1].read_bytes())
    open_key.chmod(0o644)
    no_store = tmp_path / 'no.db'
    no_store.write_text('this is not a store', encoding='ascii')
    for change, says in [
            (lambda c: c.update(colour='red'), 'control.yaml:1: colour: unknown field'),
            (lambda c: c['rest'].update(key=str(open_key)), 'others have rights on this key'),
            (lambda c: c['rest'].update(key=str(control.pki.clients['bob'][1])), 'rest.key'),
            (lambda c: c['rest'].update(certificate='/nowhere.pem'), 'rest.certificate'),
            (lambda c: c['rest'].update(port=control.port), 'Address already in use'),
            (lambda c: c['rest'].update(address='example'), 'rest.address'),
            (lambda c: c['guard'].update(users=['nobody-here']), 'guard.users: there is no such'),
            (lambda c: c['guard'].update(socket=str(control.guard_socket)),
             'another process serves the socket'),
            (lambda c: c.update(store=str(no_store)), 'not an SQLite file'),
            (lambda c: c.update(store=str(control.store)), 'database is locked')]:
        said = fails_to_start(control, tmp_path, change)
        assert says in said, said
    assert no_store.read_text(encoding='ascii') == 'this is not a store'
    assert os.path.exists(control.store)
