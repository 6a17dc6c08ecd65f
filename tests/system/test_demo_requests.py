"""The demo's requests: what it takes for passed and for refused, and what it does not."""

import json
import subprocess
import threading
import types

import pytest

import apis
import curl
import requests_part
import small_server
from requests_part import Asking, Attempt

HEAD = [('Host', 'x'), ('Portcullis-Client', 'peer="csmf-3", tenant="a"')]
GOOD = {'method': 'GET', 'target': '/a?b=c', 'headers': HEAD}


class CarelessGuard:
    """Stands in for the laboratory: whatever is asked, these requests arrive and that is the answer."""

    def __init__(self, arrivals=(), status=200, version='2', reason=None):
        self.arrivals, self.reason = arrivals, reason
        self.got = {'nsmf': [], 'scef': []}
        problem = json.dumps({'reference': 'new'}) if status >= 400 else ''
        self.answer = curl.Answer(status, version, '', problem)
        self.decisions = [{'id': 'old', 'what': 'refused', 'reason': 'token_missing'}]
        self.services = types.SimpleNamespace(servers={
            name: types.SimpleNamespace(title=name, requests=lambda name=name: self.got[name])
            for name in self.got})
        self.rest = types.SimpleNamespace(get=lambda _: {'items': self.decisions})

    def ask(self):
        for server, request in self.arrivals:
            self.got[server].append(request)
        if self.reason:
            self.decisions.append({'id': 'new' if self.answer.content else 'another',
                                   'what': 'refused', 'reason': self.reason})
        return self.answer

    def attempt(self):
        return Attempt('', self.ask, 'nsmf', 'GET /a?b=c', 'csmf-3', '2')


def test_what_passes_as_it_should_is_content():
    guard = CarelessGuard([('nsmf', GOOD)])
    asking = Asking(guard)
    assert asking.passes(guard.attempt(), 200).ok
    assert asking.books().ok
    guard.got['scef'].append(GOOD)  # which nobody was answered
    assert not asking.books().ok


@pytest.mark.parametrize('arrivals, more', [
    ([], {}),                                                # the gate answers by itself
    ([('nsmf', GOOD)] * 2, {}),
    ([('scef', GOOD)], {}),                                  # to another server
    ([('nsmf', GOOD), ('scef', GOOD)], {}),
    ([('nsmf', {**GOOD, 'method': 'DELETE'})], {}),
    ([('nsmf', {**GOOD, 'target': '/a'})], {}),
    ([('nsmf', {**GOOD, 'headers': HEAD[:1]})], {}),         # nobody says who asks
    ([('nsmf', {**GOOD, 'headers': [('Portcullis-Client', 'peer="csmf-33", ')]})], {}),
    ([('nsmf', {**GOOD, 'headers': [*HEAD, ('Authorization', 'Bearer x')]})], {}),
    ([('nsmf', GOOD)], {'status': 201}),
    ([('nsmf', GOOD)], {'version': '1.1'})])
def test_what_passes_otherwise_is_not_ok(arrivals, more):
    guard = CarelessGuard(arrivals, **more)
    assert not Asking(guard).passes(guard.attempt(), 200).ok


@pytest.mark.parametrize('arrivals, status, reason, ok', [
    ([], 403, 'tenant_violation', True),
    ([], 0, 'tenant_violation', True),                   # no answer: a new one is its reason
    ([('nsmf', GOOD)], 403, 'tenant_violation', False),  # it got there all the same
    ([], 403, 'operation_denied', False),                # refused for another reason
    ([], 403, None, False),
    ([], 0, None, False),                                # or for none that anybody was told
    ([], 401, 'tenant_violation', False),
    ([('nsmf', GOOD)], 200, None, False)])
def test_the_demo_is_not_content_with_any_refusal(monkeypatch, arrivals, status, reason, ok):
    monkeypatch.setattr(requests_part, 'NOTED_SECONDS', 0.1)
    guard = CarelessGuard(arrivals, status, reason=reason)
    expected = 0 if status == 0 else 403
    assert Asking(guard).refused(guard.attempt(), expected, 'tenant_violation').ok == ok


class Here:
    """A host as curl.ask() needs it."""

    @staticmethod
    def run(argv, check, **more):
        return subprocess.run(list(map(str, argv)), check=check, capture_output=True, text=True, **more)


def test_a_request_can_be_left_behind_as_a_file(tmp_path):
    server = small_server.Server(('127.0.0.1', 0), apis.Handler, apis.Resources('nfvo'))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    root = f'http://127.0.0.1:{server.server_port}/nsd/v2/ns_descriptors'
    request = curl.Request('POST', root, '{"x": "a \\"quoted\\" \\\\ word"}', config='http1.1\n')
    try:
        answer = curl.ask(Here, request)
        assert (answer.status, answer.version) == (201, '1.1')
        file = tmp_path / 'post.curl'
        file.write_text(request.whole(), encoding='ascii')
        said = subprocess.run(['curl', '--config', file], check=True, capture_output=True, text=True)
        assert said.stdout.startswith('HTTP/1.1 201')
        one, other = server.kept.below('/nsd/v2/ns_descriptors')
        assert one['x'] == other['x'] == 'a "quoted" \\ word'
        assert answer.location == one['self']
        assert curl.ask(Here, curl.Request('GET', 'http://127.0.0.1:1/')).status == 0
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
