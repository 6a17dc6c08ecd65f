"""The demo's laboratory: three hosts in network namespaces and everything that runs on them.

      csmf                                     gate                         nsmf
    curl ─ csmf-app ═ csmf-dp                                         HTTP server
           10.1.0.2     │ dataplane            dataplane              10.2.0.10 :8080
                        │ (peer role)       ┌──────┴──────┐           10.2.0.20 (off limits)
                      wire0 ═ sw-csmf     wire0         core0 ═════════ nsmf0
                  192.0.2.2      │      192.0.2.1     10.2.0.1
                                br0 ═ sw-gate ┘

br0 is the wire itself, as a switch: whoever stands there sees each protected packet and can send
what he likes. That is where the attacks come from. It is a network device of the CSMF's host here
and knows nothing of IP.
"""

import os
import pathlib
import subprocess

from processes import Control, Dataplane, Pki, Process, Wire, instance_name
from netns import Namespaces, wait_until
from scapy_esp import Sa

NSMF = '10.2.0.10'
OFF_LIMITS = '10.2.0.20'
SERVICE_PORT = 8080
GATE = '192.0.2.1'
WINDOW = 64
INSIDER_RATE = 1000  # packets per second
INSIDER_BURST_MS = 100

# name, outer address, inner address. The insider is an honest name for an authenticated attacker:
# it has an SA of its own, whose key the attacker holds, so that attacks made with a valid key do
# not use up the CSMF's sequence numbers.
CSMF = ('csmf-1', '192.0.2.2', '10.1.0.2')
INSIDER = ('insider', '192.0.2.3', '10.1.0.3')
FLOODER = ('flooder', '192.0.2.4', '10.1.0.4')


def service(side, **more):
    """The NSMF's interface, as each of the two sides sees it."""
    return {'name': 'nsmf-exposure', 'type': 'management-exposure', 'side': side,
            'prefixes': [f'{NSMF}/32'],
            'ports': [{'protocol': 'tcp', 'first': SERVICE_PORT, 'last': SERVICE_PORT}],
            # This interface type needs TLS and the guard in zone external: control admits ESP alone
            # only because this is a laboratory, and warns of it.
            'zone': 'external', 'protection': 'esp', **more}


def gate_peer(who, **more):
    name, outer, inner = who
    return {'name': name, 'identity': f'{name}.operator.example', 'role': 'csmf',
            'tenant': 'operator-a', 'endpoint': outer, 'prefixes': [f'{inner}/32'], **more}


def sa(name, peer, direction, keys, local, remote, inner_local, inner_remote, server):
    """A lab SA as REST takes it. server: which of the two inner ends is the HTTP server's."""
    port = {'first': SERVICE_PORT, 'last': SERVICE_PORT}
    return {'id': name, 'peer': peer, 'direction': direction, 'spi': f'0x{keys.spi:08x}',
            'algorithm': keys.algorithm, 'key': keys.key.hex(), 'esn': True,
            **({'replay_window': WINDOW} if direction == 'inbound' else {}),
            'selectors': [{'local': f'{inner_local}/32', 'remote': f'{inner_remote}/32',
                           'protocol': 'tcp', f'{server}_ports': port}],
            'tunnel': {'local': local, 'remote': remote}}


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
        self.pki = Pki(self.folder / 'pki')
        self.say('certificates made on the spot: a CA, control\'s server certificate, '
                 'operators alice (operator) and bob (viewer)')
        self._start()
        self._policy()

    # -- hosts and wires

    def _hosts(self):
        world = self.world
        self.csmf, self.gate, self.nsmf = (world.add(n) for n in ('csmf', 'gate', 'nsmf'))
        for host in (self.csmf, self.gate, self.nsmf):
            host.forwarding(False)
        csmf = self.csmf
        world.veth(csmf, 'wire0', csmf, 'sw-csmf')
        world.veth(csmf, 'sw-gate', self.gate, 'wire0')
        world.veth(csmf, 'csmf-app', csmf, 'csmf-dp')
        world.veth(self.gate, 'core0', self.nsmf, 'nsmf0')
        csmf.run(['ip', 'link', 'add', 'br0', 'type', 'bridge', 'stp_state', '0',
                  'mcast_snooping', '0'])
        for port in ('sw-csmf', 'sw-gate'):
            csmf.run(['ip', 'link', 'set', port, 'master', 'br0'])
        for interface in ('br0', 'sw-csmf', 'sw-gate', 'csmf-dp'):
            csmf.sysctl(f'net.ipv6.conf.{interface}.disable_ipv6', 1)
        csmf.run(['ip', 'link', 'set', 'br0', 'arp', 'off', 'up'])
        csmf.address('wire0', f'{CSMF[1]}/24')
        csmf.run(['ip', 'link', 'set', 'csmf-app', 'arp', 'off'])
        csmf.address('csmf-app', f'{CSMF[2]}/32')
        csmf.route('10.2.0.0/24', dev='csmf-app', extra=['src', CSMF[2]])
        self.gate.address('wire0', f'{GATE}/24')
        self.gate.address('core0', '10.2.0.1/24')
        self.nsmf.address('nsmf0', f'{NSMF}/24')
        self.nsmf.address('nsmf0', f'{OFF_LIMITS}/24')
        self.nsmf.route('10.1.0.0/24', via='10.2.0.1')
        self.say('three hosts in network namespaces: csmf, gate, nsmf; a switch between csmf and '
                 'gate is the wire')

    # -- processes

    def _start(self):
        self.server = Process(self.nsmf, ['/usr/bin/python3', '-B',
                                          pathlib.Path(__file__).with_name('nsmf.py'),
                                          '--address', NSMF, '--port', SERVICE_PORT],
                              self.folder / 'nsmf.log')
        self.server.launch()
        self.processes.append(self.server)
        self.gate_side = self._side('gate', self.gate, [
            {'name': 'wire', 'role': 'untrusted', 'device': {'interface': 'wire0'}},
            {'name': 'core', 'role': 'trusted', 'device': {'interface': 'core0'}}])
        self.csmf_side = self._side('csmf', self.csmf, [
            {'name': 'wire', 'role': 'untrusted', 'device': {'interface': 'wire0'}},
            {'name': 'app', 'role': 'local', 'device': {'interface': 'csmf-dp'},
             'prefixes': [f'{CSMF[2]}/32']}])
        self.rest = self.gate_side[1].rest('alice')
        self.say('on gate and on csmf: portcullis-dataplane (on csmf in its peer role) and '
                 'portcullis-control; on nsmf: an HTTP server that keeps network slices')
        self.wire_from_csmf = self._tap(self.csmf, 'sw-csmf')
        self.wire_to_gate = self._tap(self.csmf, 'sw-gate')
        self.counter = self._tap(self.nsmf, 'nsmf0')

    def _side(self, name, host, ports):
        folder = self.folder / name
        dataplane = Dataplane(host, folder, instance_name(name), ports)
        control = Control(host, folder, dataplane.socket, self.pki)
        self.processes += [dataplane, control]
        dataplane.start()
        control.start()
        return dataplane, control

    def _tap(self, host, interface):
        wire = Wire(host, interface)
        self.wires.append(wire)
        return wire

    # -- policy and keys, all of it over REST

    def _policy(self):
        answer = self.rest.put('/v1/policy', {
            'interfaces': [service('local')],
            'peers': [gate_peer(CSMF), gate_peer(INSIDER),
                      gate_peer(FLOODER, rate={'packets_per_second': INSIDER_RATE,
                                               'burst_ms': INSIDER_BURST_MS})],
            'policies': [{'name': 'csmf-may-manage', 'role': 'csmf',
                          'interface': 'nsmf-exposure'}]})
        csmf_rest = self.csmf_side[1].rest('alice')
        csmf_rest.put('/v1/policy', {
            'interfaces': [service('remote', clients=[f'{CSMF[2]}/32'])],
            'peers': [{'name': 'gate', 'identity': 'gate.operator.example', 'role': 'nsmf',
                       'endpoint': GATE, 'prefixes': [f'{NSMF}/32']}],
            'policies': [{'name': 'may-reach-nsmf', 'role': 'nsmf',
                          'interface': 'nsmf-exposure'}]})
        self.say('policy put over REST on both sides: role csmf may reach '
                 f'{NSMF} tcp/{SERVICE_PORT}, nothing else')
        for warning in answer['warnings']:
            self.say(f'control warns: {warning["kind"]} {warning["name"]}: {warning["text"]}')

        there, back = Sa(0x1001, CSMF[1], GATE), Sa(0x2001, GATE, CSMF[1])
        install = self.rest.post
        install('/v1/sas', sa('csmf-1-in', 'csmf-1', 'inbound', there, GATE, CSMF[1], NSMF,
                              CSMF[2], 'local'))
        install('/v1/sas', sa('csmf-1-out', 'csmf-1', 'outbound', back, GATE, CSMF[1], NSMF,
                              CSMF[2], 'local'))
        for spi, who in ((0x1002, INSIDER), (0x1003, FLOODER)):
            keys = self.keys[who] = Sa(spi, who[1], GATE)
            install('/v1/sas', sa(f'{who[0]}-in', who[0], 'inbound', keys, GATE, who[1], NSMF,
                                  who[2], 'local'))
        csmf_rest.post('/v1/sas', sa('gate-in', 'gate', 'inbound', back, CSMF[1], GATE, CSMF[2],
                                     NSMF, 'remote'))
        csmf_rest.post('/v1/sas', sa('gate-out', 'gate', 'outbound', there, CSMF[1], GATE, CSMF[2],
                                     NSMF, 'remote'))
        csmf_rest.close()
        self.say('security associations with laboratory keys installed over REST '
                 '(AES-128-GCM-16, ESN)')

    # -- use

    def curl(self, method, path, body=None, kind='application/json', timeout=5):
        """(status, body) of a real HTTP client on the CSMF's host; status 0: no answer."""
        argv = ['curl', '--silent', '--noproxy', '*', '--max-time', timeout, '--request', method,
                '--write-out', '\n%{http_code}']
        if body is not None:
            argv += ['--header', f'Content-Type: {kind}', '--data-binary', body]
        done = self.csmf.run([*argv, self.url(path)], check=False)
        content, _, status = done.stdout.rpartition('\n')
        return int(status or 0), content

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
