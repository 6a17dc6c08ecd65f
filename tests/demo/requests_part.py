"""Requests that the guard judges one by one: how the demo makes them and finds out what became of them.
The cases are in request_cases.py.

A request has passed when its answer is the expected one, exactly one request reached exactly that
server, and it says there who asked and brings no token. It was refused when the status is the expected
one, the reason that the gate tells its operators is, too, and nothing reached anybody.
"""

import dataclasses
import json
import socket
import ssl
import typing

import curl
import entrance
import services
from http2_client import Http2Client
from lab import GATE
from netns import wait_until
from processes import Guard

NOTED_SECONDS = 10  # until control has heard why, or what became of a request
ANSWER_SECONDS = 20


@dataclasses.dataclass
class Outcome:
    sent: str
    said: str
    reached: str
    ok: bool
    answer: curl.Answer = None


class Attempt(typing.NamedTuple):
    """Something that can be asked, more than once."""
    sent: str
    make: typing.Callable[[], curl.Answer]
    to: str = ''       # the server that it reaches if it passes
    arrives: str = ''  # method and target, as they get there
    by: str = ''       # the peer whose it is; of what is sent to peers: nobody, they are not told
    version: str = '1.1'
    request: curl.Request = None  # if it is curl's


class Asking:
    """Requests of peers and of servers, and what each of them led to."""

    def __init__(self, lab):
        self.lab = lab
        self.servers = lab.services.servers
        self.tokens = {}
        self.answered = dict.fromkeys(self.servers, 0)  # how many requests ought to have got there

    # -- what can be asked

    def token(self, user, scope):
        """The same each time; where one is good for one request only, see new_token()."""
        if (user.name, scope) not in self.tokens:
            self.tokens[user.name, scope] = self.new_token(user, scope)
        return self.tokens[user.name, scope]

    def new_token(self, user, scope):
        return self.lab.enrolment.token(user.name, scope)

    def _config(self, user, service, token, certificate, version):
        """curl's, of a peer: what it has and whom it believes."""
        enrolment = self.lab.enrolment
        own = enrolment.credentials[user.name]
        return '\n'.join([
            f'cacert = "{enrolment.pki.ca.certificate_file}"', f'interface = "{user.outer}"',
            f'resolve = "{service.host}:{service.port}:{GATE}"', 'path-as-is',
            f'http{version}',
            *([f'cert = "{own.certificate_file}"', f'key = "{own.key_file}"'] if certificate else []),
            *([f'header = "Authorization: Bearer {token}"'] if token else [])]) + '\n'

    def ask(self, user, service, method, path, scope, body=None, *, kind='application/json',
            version='1.1', token=None, certificate=True, note=''):
        """By a peer. `token`: instead of the one for `scope`; empty: none."""
        token = self.token(user, scope) if token is None else token
        request = curl.Request(method, f'https://{service.host}:{service.port}{path}',
                               None if body is None else json.dumps(body), kind,
                               self._config(user, service, token, certificate, version))
        return Attempt(
            f'{user.name} {method} {path}{note}',
            lambda: curl.ask(self.lab.peers, request, ANSWER_SECONDS),
            service.server, f'{method} {path}', user.name, version, request)

    def send(self, service, url, path, user, body=None, *, sender=None):
        """By a server through the gate's way out, to `url` and `path` below it: the address is in a
        field, as service consumers do it (TS 29.500 5.2.3.2.4). `sender`: instead of that server."""
        sender = sender or service
        own = self.lab.services.senders[sender]
        config = '\n'.join([
            f'cacert = "{self.lab.services.server_pki.ca.certificate_file}"',
            f'interface = "{sender.address}"', 'http1.1',
            f'resolve = "{Guard.NAME}:{service.egress}:{services.TRUSTED}"',
            f'cert = "{own.certificate_file}"', f'key = "{own.key_file}"',
            f'header = "3gpp-Sbi-Target-apiRoot: {url}"']) + '\n'
        request = curl.Request('POST', f'https://{Guard.NAME}:{service.egress}{path}',
                               json.dumps(body or {}), config=config)
        return Attempt(f'the {sender.title} POST {url}{path}',
                       lambda: curl.ask(self.lab.nsmf, request, ANSWER_SECONDS),
                       user.name, f'POST {path}', request=request)

    def kept_connection(self, user, service):
        """One HTTP/2 connection that stays open: (ask(method, path, scope) -> Attempt, its end)."""
        enrolment = self.lab.enrolment
        own = enrolment.credentials[user.name]
        context = ssl.create_default_context(cafile=enrolment.pki.ca.certificate_file)
        context.load_cert_chain(own.certificate_file, own.key_file)
        context.set_alpn_protocols(['h2'])
        with self.lab.peers.entered():
            plain = socket.create_connection((GATE, service.port), ANSWER_SECONDS,
                                             (user.outer, 0))
        tls = context.wrap_socket(plain, server_hostname=service.host)
        client = Http2Client(tls)

        def ask(method, path, scope):
            token = self.token(user, scope)

            def make():
                answer = client.answer(client.begin(
                    method, path, [('authorization', f'Bearer {token}')], authority=service.host))
                if answer is None:
                    return curl.Answer(0, '2', '', '')
                return curl.Answer(int(answer[':status']), '2', '', answer['body'].decode())
            return Attempt(f'{user.name} {method} {path}, on one connection', make, service.server,
                           f'{method} {path}', user.name, '2')
        return ask, tls.close

    # -- what became of it

    def make(self, attempt):
        """The answer. Only the server itself says 2xx: then it must have had the request."""
        answer = attempt.make()
        if 200 <= answer.status < 300 and attempt.to:
            self.answered[attempt.to] += 1
        return answer

    def _seen(self):
        return {name: len(server.requests()) for name, server in self.servers.items()}

    def _new(self, before):
        """Requests by server, beyond those of `before`."""
        return {name: count - before[name] for name, count in self._seen().items()
                if count != before[name]}

    def _refusals(self):
        """{reference: reason} of the latest, as `portcullisctl why` has them."""
        return {one['id']: one['reason'] for one in self.lab.rest.get('/v1/decisions')['items']
                if one['what'] == 'refused'}

    def passes(self, attempt, status, holds=''):
        before = self._seen()
        answer = self.make(attempt)
        new = self._new(before)
        ok = (answer.status == status and answer.version == attempt.version and
              holds in answer.content and new == {attempt.to: 1} and
              _arrived(attempt, self.servers[attempt.to].requests()[-1]))
        return Outcome(attempt.sent, _said(answer), self._reached(new), ok, answer)

    def refused(self, attempt, status, reason):
        """Who never got as far as a request was told no reference: then the reason is a new one."""
        before, known = self._seen(), self._refusals()
        answer = self.make(attempt)
        reference = problem(answer).get('reference')

        def told():
            now = self._refusals()
            return {now.get(reference)} - {None} if reference else \
                {now[one] for one in now.keys() - known.keys()}

        wait_until(told, NOTED_SECONDS)
        reasons, new = told(), self._new(before)
        ok = answer.status == status and reasons == {reason} and not new
        return Outcome(attempt.sent, f'{_said(answer)}, {", ".join(reasons) or "no reason"}',
                       self._reached(new), ok, answer)

    def _reached(self, new):
        return ', '.join(self.servers[name].title + (f' {count} times' if count > 1 else '')
                         for name, count in new.items()) or 'nobody'

    def books(self):
        """Nobody has had a request that was not seen to be answered, and none had a token."""
        tokens = sum(name.lower() in ('authorization', 'dpop') for server in self.servers.values()
                     for request in server.requests() for name, _ in request['headers'])
        seen = self._seen()
        return entrance.Outcome(
            'what the servers wrote down', 'as many requests as were answered, and no token',
            f'{_each(seen)}; {tokens} tokens', seen == self.answered and tokens == 0)

    def records(self):
        """What reached a server is in the audit log, as an operation that was done."""
        expected = sum(self.answered.values())

        def recorded():
            found, start = 0, 1
            while page := self.lab.rest.get(f'/v1/audit?from={start}&count=1000')['items']:
                found += sum(one['action'] == 'operation' and one['outcome'] == 'done'
                             for one in page)
                start = page[-1]['number'] + 1
            return found

        wait_until(lambda: recorded() == expected, NOTED_SECONDS)
        found = recorded()
        return entrance.Outcome('what the audit log has', f'{expected} operations done',
                                f'{found} operations done', found == expected)


def problem(answer):
    """RFC 9457's, or {}."""
    try:
        return json.loads(answer.content)
    except ValueError:
        return {}


def _arrived(attempt, request):
    """Byte for byte as it was asked, with the peer's name and without its token."""
    headers = {name.lower(): value for name, value in request['headers']}
    who = headers.get('portcullis-client', '')
    return (f'{request["method"]} {request["target"]}' == attempt.arrives and
            bool(who) == bool(attempt.by) and who.startswith(
                f'peer="{attempt.by}", ' if attempt.by else '') and 'authorization' not in headers)


def _said(answer):
    return f'HTTP/{answer.version} {answer.status}' if answer.status else 'the handshake ends'


def _each(counts):
    return ', '.join(f'{name} {count}' for name, count in counts.items())
