"""The demo's laboratory: five hosts in network namespaces and everything that runs on them.

      csmf                                     gate                         nsmf
    curl ─ csmf-app ═ csmf-dp               guard :4433, :4434        HTTP server
           10.1.0.2     │ dataplane            dataplane              10.2.0.10 :8080
                        │ (peer role)       ┌──────┴──────┐           10.2.0.20 (off limits)
                      wire0 ═ sw-csmf     wire0         core0 ═════════ nsmf0
                  192.0.2.2      │      192.0.2.1     10.2.0.1        10.2.0.30 (MSGin5G server)
      peers ═ sw-peers ════════ br0 ═ sw-gate ┘          and 10.2.0.41 to .44 (services.py)

      as 10.9.0.1: the authorization server, with a line to csmf and to gate
      peers: those who come without ESP, whose requests the guard judges one by one (services.py)

br0 is the wire itself, as a switch: whoever stands there sees each protected packet and can send
what he likes. That is where the attacks come from. It is a network device of the CSMF's host here
and knows nothing of IP. The gate is as in service: its keys come from sessions (enrolment.py). On the
CSMF's side the keys of its session are put in over REST, which is why that side is a laboratory.
"""

import os
import pathlib
import socket
import subprocess

import curl
import services
from enrolment import AS, SCOPES, Enrolment
from netns import Namespaces, wait_until
from processes import Control, Dataplane, Guard, Pki, Process, Wire, instance_name
from scapy_esp import Sa

NSMF = '10.2.0.10'
OFF_LIMITS = '10.2.0.20'
SERVICE_PORT = 8080
GATE = '192.0.2.1'
MSG_SERVER = '10.2.0.30'
MSG_PORT = 8443
REGISTRATION_PORT = 8444
WINDOW = 1024  # a session's
INSIDER_RATE = 1000  # packets per second
INSIDER_BURST_MS = 100

# name, outer address, inner address. The insider is an honest name for an authenticated attacker:
# it has a session of its own, whose keys the attacker holds, so that attacks made with a valid key do
# not use up the CSMF's sequence numbers.
CSMF = ('csmf-1', '192.0.2.2', '10.1.0.2')
INSIDER = ('insider', '192.0.2.3', '10.1.0.3')
FLOODER = ('flooder', '192.0.2.4', '10.1.0.4')
# Who stands at the entrance; a message gateway.
VISITOR = ('csmf-2', '192.0.2.5', '10.1.0.5')
GATEWAY = ('gateway-7', '192.0.2.7', '10.1.0.7')


def service(side, **more):
    """The NSMF's interface, as each of the two sides sees it. Within the operator's domain ESP is
    enough; for those outside, the guard has to see each request as well."""
    return {'name': 'nsmf', 'type': 'management-exposure', 'side': side,
            'prefixes': [f'{NSMF}/32'],
            'ports': [{'protocol': 'tcp', 'first': SERVICE_PORT, 'last': SERVICE_PORT}],
            'zone': 'internal', 'protection': 'esp', **more}


def messages():
    """The MSGin5G server's, for gateways that come by pre-shared key."""
    return {'name': 'msgin5g-4', 'type': 'msgin5g', 'side': 'local',
            'prefixes': [f'{MSG_SERVER}/32'],
            'ports': [{'protocol': 'tcp', 'first': port, 'last': port}
                      for port in (MSG_PORT, REGISTRATION_PORT)],
            'zone': 'external', 'protection': 'esp'}


def _was_forwarded(frame):
    """IPv4, and not the gate's own: the guard's connections to servers end when they have been idle."""
    return frame[12:14] == b'\x08\0' and frame[26:30] != socket.inet_aton(services.TRUSTED)


def sa(name, direction, keys, local, remote):
    """An SA of the CSMF's side as REST takes it: (outer, inner) address of each end."""
    return {'id': name, 'peer': 'gate', 'direction': direction, 'spi': f'0x{keys.spi:08x}',
            'algorithm': keys.algorithm, 'key': keys.key.hex(), 'esn': True,
            **({'replay_window': WINDOW} if direction == 'inbound' else {}),
            'selectors': [{'local': f'{local[1]}/32', 'remote': f'{remote[1]}/32',
                           'protocol': 'tcp', 'remote_ports': {'first': SERVICE_PORT,
                                                               'last': SERVICE_PORT}}],
            'tunnel': {'local': local[0], 'remote': remote[0]}}


class Laboratory:
    """Builds it all. close() ends what was started here; detach() leaves it running."""

    def __init__(self, folder, say):
        self.folder = pathlib.Path(folder)
        self.say = say
        self.world = Namespaces('demo')
        self.processes = []
        self.wires = []
        self.keys = {}

    def build(self):
        self._hosts()
        self.pki = Pki(self.folder / 'pki', (('alice', 'operator'), ('bob', 'viewer'),
                                             ('carol', 'operator'), ('msgin5g-4-server', 'server')))
        self.say('certificates made on the spot: a CA, control\'s server certificate, operators '
                 'alice and carol (operator) and bob (viewer), and the MSGin5G server\'s')
        self.enrolment = Enrolment(self)
        self.services = services.Services(self)
        self._start()
        self._policy()
        self.enrolment.start_guard()
        self._sessions()

    # -- hosts and wires

    def _hosts(self):
        world = self.world
        self.csmf, self.peers, self.gate, self.nsmf, self.as_host = (
            world.add(name) for name in ('csmf', 'peers', 'gate', 'nsmf', 'as'))
        for host in world.all:
            host.forwarding(False)
        csmf = self.csmf
        world.veth(csmf, 'wire0', csmf, 'sw-csmf')
        world.veth(csmf, 'sw-gate', self.gate, 'wire0')
        world.veth(csmf, 'sw-peers', self.peers, 'wire0')
        world.veth(csmf, 'csmf-app', csmf, 'csmf-dp')
        world.veth(self.gate, 'core0', self.nsmf, 'nsmf0')
        csmf.run(['ip', 'link', 'add', 'br0', 'type', 'bridge', 'stp_state', '0',
                  'mcast_snooping', '0'])
        ports = ('sw-csmf', 'sw-gate', 'sw-peers')
        for port in ports:
            csmf.run(['ip', 'link', 'set', port, 'master', 'br0'])
        for interface in ('br0', *ports, 'csmf-dp'):
            csmf.sysctl(f'net.ipv6.conf.{interface}.disable_ipv6', 1)
        csmf.run(['ip', 'link', 'set', 'br0', 'arp', 'off', 'up'])
        csmf.address('wire0', f'{CSMF[1]}/24')
        csmf.run(['ip', 'link', 'set', 'csmf-app', 'arp', 'off'])
        csmf.address('csmf-app', f'{CSMF[2]}/32')
        csmf.route('10.2.0.0/24', dev='csmf-app', extra=['src', CSMF[2]])
        self.gate.address('wire0', f'{GATE}/24')
        self.gate.address('core0', '10.2.0.1/24')
        self.nsmf.address('nsmf0', f'{NSMF}/24')
        for address in (OFF_LIMITS, MSG_SERVER, *(one.address for one in services.SERVICES)):
            self.nsmf.address('nsmf0', f'{address}/24')
        for user in services.USERS:
            self.peers.address('wire0', f'{user.outer}/24')
        self.nsmf.route('10.1.0.0/24', via='10.2.0.1')
        self.as_host.address('lo', f'{AS}/32')
        for number, host in enumerate((csmf, self.gate), 1):
            world.veth(host, 'mgmt0', self.as_host, f'eth{number}')
            host.address('mgmt0', f'10.9.{number}.2/24')
            self.as_host.address(f'eth{number}', f'10.9.{number}.1/24')
            host.route(f'{AS}/32', via=f'10.9.{number}.1')
        self.say('five hosts in network namespaces: csmf, peers, gate, nsmf, as; a switch between '
                 'csmf, peers and gate is the wire')

    # -- processes

    def _start(self):
        self.server = Process(self.nsmf, ['/usr/bin/python3', '-B',
                                          pathlib.Path(__file__).with_name('nsmf.py'),
                                          '--address', NSMF, '--port', SERVICE_PORT],
                              self.folder / 'nsmf.log')
        self.server.launch()
        self.processes.append(self.server)
        self.gate_side = self._side('gate', self.gate, False, [
            {'name': 'wire', 'role': 'untrusted', 'device': {'interface': 'wire0'}},
            {'name': 'core', 'role': 'trusted', 'device': {'interface': 'core0'}}])
        self.csmf_side = self._side('csmf', self.csmf, True, [
            {'name': 'wire', 'role': 'untrusted', 'device': {'interface': 'wire0'}},
            {'name': 'app', 'role': 'local', 'device': {'interface': 'csmf-dp'},
             'prefixes': [f'{CSMF[2]}/32']}])
        self.rest = self.gate_side[1].rest('alice')
        self.say('on gate and on csmf: portcullis-dataplane (on csmf in its peer role) and '
                 'portcullis-control; on nsmf: an HTTP server that keeps network slices')
        self.services.start()
        self.say('on nsmf, too, each over TLS: another NSMF, an SCEF, an MSGin5G server, an NFVO; on '
                 'peers what as-1 and gateway-8 are called at')
        self.wire_from_csmf = self._tap(self.csmf, 'sw-csmf')
        self.wire_to_gate = self._tap(self.csmf, 'sw-gate')
        self.counter = self._tap(self.nsmf, 'nsmf0', keep=_was_forwarded)

    def _side(self, name, host, lab, ports):
        folder = self.folder / name
        dataplane = Dataplane(host, folder, instance_name(name), ports, lab=lab)
        control = Control(host, folder, dataplane.socket, self.pki, lab=lab)
        self.processes += [dataplane, control]
        dataplane.start()
        control.start()
        return dataplane, control

    def _tap(self, host, interface, **keep):
        wire = Wire(host, interface, **keep)
        self.wires.append(wire)
        return wire

    # -- policy over REST, keys from sessions

    def peer(self, who, role='csmf', **more):
        name, outer, inner = who
        return {'name': name, 'identity': f'{name}.operator.example', 'role': role,
                'tenant': 'operator-a', 'endpoint': outer, 'prefixes': [f'{inner}/32'],
                'token': self.enrolment.token_client(name), **more}

    def _policy(self):
        self.rest.put('/v1/policy', {
            'interfaces': [service('local'), messages(), *services.interfaces()],
            'peers': [self.peer(CSMF), self.peer(INSIDER), self.peer(VISITOR),
                      self.peer(FLOODER, rate={'packets_per_second': INSIDER_RATE,
                                               'burst_ms': INSIDER_BURST_MS}),
                      self.peer(GATEWAY, 'n3g-gateway', authentication='psk'),
                      *(self.peer(user[:3], user.role, tenant=user.tenant, **user.more)
                        for user in services.USERS)],
            'policies': [
                {'name': 'csmf-may-manage', 'role': 'csmf', 'interface': 'nsmf',
                 'scope': SCOPES[0], 'grant_seconds': 3600},
                {'name': 'gateways-may-message', 'role': 'n3g-gateway', 'interface': 'msgin5g-4',
                 'scope': SCOPES[2], 'grant_seconds': 3600,
                 'registration_ports': [{'protocol': 'tcp', 'first': REGISTRATION_PORT,
                                         'last': REGISTRATION_PORT}]},
                *services.policies()]})
        csmf_rest = self.csmf_side[1].rest('alice')
        csmf_rest.put('/v1/policy', {
            'interfaces': [service('remote', clients=[f'{CSMF[2]}/32'])],
            'peers': [{'name': 'gate', 'identity': Guard.NAME, 'role': 'nsmf',
                       'endpoint': GATE, 'prefixes': [f'{NSMF}/32']}],
            'policies': [{'name': 'may-reach-nsmf', 'role': 'nsmf', 'interface': 'nsmf'}]})
        csmf_rest.close()
        self.say('policy put over REST on both sides: role csmf may reach '
                 f'{NSMF} tcp/{SERVICE_PORT} with scope {SCOPES[0]}, role n3g-gateway {MSG_SERVER} '
                 f'tcp/{REGISTRATION_PORT} and, once registered, tcp/{MSG_PORT}, with scope '
                 f'{SCOPES[2]}, and who may ask for which operations of '
                 f'{", ".join(one.name for one in services.SERVICES)}, nothing else')

    def _sessions(self):
        """Of those who are already in when the demo begins; the CSMF's keys go into its dataplane,
        the others' stay in the attacker's hands."""
        session = self.enrolment.open(CSMF)
        there, back = self.enrolment.sas(session, CSMF)
        self.csmf_spi = there.spi
        csmf_rest = self.csmf_side[1].rest('alice')
        ends = CSMF[1:], (GATE, NSMF)
        csmf_rest.post('/v1/sas', sa('gate-in', 'inbound', back, *ends))
        csmf_rest.post('/v1/sas', sa('gate-out', 'outbound', there, *ends))
        csmf_rest.close()
        self.say(f'csmf-1 has a session for {session.answer["expires_in"]} s: both sides derived the '
                 'keys from its TLS connection; no key went over the wire or over REST to the gate')
        for who in (INSIDER, FLOODER):
            self.keys[who], _ = self.enrolment.sas(self.enrolment.open(who), who)

    # -- use

    def curl(self, method, path, body=None, kind='application/json', timeout=5):
        """(status, body) of a real HTTP client on the CSMF's host; status 0: no answer."""
        answer = curl.ask(self.csmf, curl.Request(method, self.url(path), body, kind), timeout)
        return answer.status, answer.content

    @staticmethod
    def url(path):
        return f'http://{NSMF}:{SERVICE_PORT}{path}'

    def wait_for_service(self, timeout=15):
        """The first packets wait for ARP on three wires."""
        return wait_until(lambda: self.curl('GET', '/NSProvMnS/v1/ServiceProfiles', timeout=2)[0]
                          == 200, timeout)

    # -- the end

    def _close_wires(self):
        for wire in self.wires:
            wire.close()
        self.wires.clear()

    def close(self):
        self._close_wires()
        for process in reversed(self.processes):
            process.stop()
        for process in self.processes:
            if isinstance(process, Dataplane):
                process.forget()
        self.world.close()

    def detach(self):
        """Leaves everything running; returns the path of the script that ends it."""
        self._close_wires()
        lines = ['#!/usr/bin/env bash', '# Ends this demo: its own processes, then its namespaces.']
        for process in reversed(self.processes):
            pid = process.process.pid
            # The start time makes sure that it is still the process that we started.
            born = pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[19]
            lines.append(f'[ "$(sed "s/.*) //" /proc/{pid}/stat 2>/dev/null | cut -d" " -f20)" = '
                         f'{born} ] && kill {pid}')
        lines.append('sleep 2')
        lines += [f'ip netns delete {n.full_name}' for n in self.world.all]
        for process in self.processes:
            if isinstance(process, Dataplane):
                lines += [f'rm -f {process.state_file}', f'{process.argv[0]} --config '
                          f'{process.config_file} --open-ports 2>/dev/null']
        lines.append(f'rm -rf {self.folder}')
        script = self.folder / 'stop'
        script.write_text('\n'.join(lines) + '\n', encoding='ascii')
        os.chmod(script, 0o755)
        return script

    def cli_environment(self, operator='alice'):
        certificate, key = self.pki.clients[operator]
        return [f'PORTCULLIS_URL=https://127.0.0.1:{self.gate_side[1].port}',
                f'PORTCULLIS_CA={self.pki.ca}', f'PORTCULLIS_CERT={certificate}',
                f'PORTCULLIS_KEY={key}']


def kernel_version():
    return subprocess.run(['uname', '-sr'], capture_output=True, text=True,
                          check=True).stdout.strip()
