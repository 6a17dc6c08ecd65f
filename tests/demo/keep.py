"""What ./run demo --keep leaves running, and the commands by which it can be explored."""

from lab import NSMF, SERVICE_PORT
from processes import BIN


def hints(lab, cases, path, stop):
    """Lines to print. A slice is put at `path` of the NSMF; `stop` is the script that ends it all."""
    held, files = cases.held, cases.leave()
    ctl, peers = f'  nsenter --net={lab.gate.path} {BIN / "portcullisctl"}', lab.peers.path
    lab.curl('PUT', path, '{"attributes": {"userLabel": "left behind"}}')
    yield '\nLeft running; the CSMF\'s session and all tokens end after an hour. To explore, as root:'
    yield f'  export {" ".join(lab.cli_environment())}'
    for command in ('status', 'peers', 'sas', 'counters --watch', 'events', 'policy show',
                    'pipeline'):
        yield f'{ctl} {command}'
    yield f'  nsenter --net={lab.csmf.path} curl http://{NSMF}:{SERVICE_PORT}{path}'
    yield '\nOne by one: read a slice over HTTPS; delete it, which that token does not say; ask why not:'
    yield f'  nsenter --net={peers} curl --config {files["read"]}'
    yield f'  nsenter --net={peers} curl --config {files["read"]} --request DELETE'
    yield f'{ctl} why REFERENCE'
    for command in ('why', 'owners', 'registrations', 'audit list'):
        yield f'{ctl} {command}'
    yield '\nThe OSS\'s request to terminate is held; look at it, approve it, and it passes once:'
    for command in ('', f' show {held}', f' approve {held} DIGEST'):
        yield f'{ctl} held-requests{command}'
    yield f'  nsenter --net={peers} curl --config {files["terminate"]}'
    yield '\nWhat has reached the servers, and the logs:'
    yield f'  tail -n 3 {lab.services.folder}/*.seen'
    yield f'  less {lab.folder}/gate/dataplane.log {lab.folder}/gate/control.log ' \
          f'{lab.folder}/gate/guard.log'
    yield f'To stop it:\n  {stop}'
