"""An HTTP client that none of us wrote: curl, on one of the demo's hosts."""

import typing


class Answer(typing.NamedTuple):
    status: int    # 0: none came
    version: str   # of HTTP: 1.1 or 2
    location: str  # the header, or empty
    content: str


def ask(host, method, url, body=None, kind='application/json', timeout=5, config=''):
    """`config`: more options, as curl's --config takes them. Not on the command line: there are tokens
    among them."""
    argv = ['curl', '--silent', '--noproxy', '*', '--max-time', timeout, '--request', method,
            '--config', '-', '--write-out', '\n%{http_code} %{http_version} %header{location}']
    if body is not None:
        argv += ['--header', f'Content-Type: {kind}', '--data-binary', body]
    done = host.run([*argv, url], check=False, input=config)
    content, _, last = done.stdout.rpartition('\n')
    status, version, location = (last.split(' ', 2) + ['', ''])[:3]
    return Answer(int(status or 0), version, location, content)
