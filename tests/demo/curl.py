"""An HTTP client that none of us wrote: curl, on one of the demo's hosts."""

import json
import typing


class Request(typing.NamedTuple):
    method: str
    url: str
    body: str = None
    kind: str = 'application/json'
    config: str = ''  # more options, as --config takes them

    def whole(self):
        """All of it for --config, also what ask() gives otherwise; answers are shown with heads."""
        quoted = {'request': self.method, 'url': self.url}
        if self.body is not None:
            quoted |= {'header': f'Content-Type: {self.kind}', 'data-binary': self.body}
        return self.config + ''.join(f'{name} = {json.dumps(value)}\n'
                                     for name, value in quoted.items()) + 'include\nsilent\n'


class Answer(typing.NamedTuple):
    status: int    # 0: none came
    version: str   # of HTTP: 1.1 or 2
    location: str  # the header, or empty
    content: str


def ask(host, request, timeout=5):
    """The options go in by a pipe: there are tokens among them."""
    argv = ['curl', '--silent', '--noproxy', '*', '--max-time', timeout, '--request', request.method,
            '--config', '-', '--write-out', '\n%{http_code} %{http_version} %header{location}']
    if request.body is not None:
        argv += ['--header', f'Content-Type: {request.kind}', '--data-binary', request.body]
    done = host.run([*argv, request.url], check=False, input=request.config)
    content, _, last = done.stdout.rpartition('\n')
    status, version, location = (last.split(' ', 2) + ['', ''])[:3]
    return Answer(int(status or 0), version, location, content)
