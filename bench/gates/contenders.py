"""What is measured: each contender turns the two gateways of a World into a tunnel between the
client's and the server's network, as its users would set it up.

A contender is a context manager that takes the World and a folder. `offloads` are the settings of
the veths it is measured with: all of them with those that AF_XDP needs, so that the gateways differ
in nothing but themselves, and those that do without AF_XDP also with the kernel's own, which suit
them better.
"""

import contextlib
import os
import pathlib
import subprocess
import uuid

import steer_client
from processes import Dataplane, Process, instance_name
from strongswan import Charon, Child
from world import A, B, CLIENT_NET, SERVER_NET


class Contender:
    name = ''
    encrypts = True
    offloads = ('off', 'on')

    def __init__(self, world, folder):
        self.world = world
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True)
        self.stack = contextlib.ExitStack()

    def sides(self):
        """(namespace, letter, own wire address, the other's, own network, the other's)."""
        return ((self.world.a, 'a', A, B, CLIENT_NET, SERVER_NET),
                (self.world.b, 'b', B, A, SERVER_NET, CLIENT_NET))

    def start(self):
        raise NotImplementedError

    def __enter__(self):
        with contextlib.ExitStack() as undo:
            undo.push(self.stack)
            self.start()
            self.world.wait_for_path()
            undo.pop_all()
        return self

    def __exit__(self, *_):
        self.stack.close()


class Routed(Contender):
    """No protection at all: what the hosts, the veths and the kernel's forwarding cost."""
    name = 'routed'
    encrypts = False

    def start(self):
        self.world.forwarding()
        for host, _, _, other, _, network in self.sides():
            host.route(network, via=other)


class WireGuard(Contender):
    """wireguard-go as Debian has it, ChaCha20-Poly1305."""
    name = 'wireguard-go'

    def start(self):
        self.world.forwarding()
        # The control sockets of all namespaces lie in one folder.
        names = {letter: f'wg{letter}{uuid.uuid4().hex[:8]}' for letter in 'ab'}
        private = {letter: _text(['wg', 'genkey']) for letter in 'ab'}
        public = {letter: _text(['wg', 'pubkey'], private[letter]) for letter in 'ab'}
        for host, letter, _, other, _, network in self.sides():
            name = names[letter]
            process = Process(host, ['env', 'WG_PROCESS_FOREGROUND=1', 'LOG_LEVEL=error',
                                     'wireguard-go', '--foreground', name],
                              self.folder / f'wireguard-{letter}.log')
            self.stack.callback(process.stop)
            process.launch()
            process.require(pathlib.Path(f'/var/run/wireguard/{name}.sock').exists, 'listening')
            key = self.folder / f'{letter}.key'
            key.touch(0o600)
            key.write_text(private[letter], encoding='ascii')
            host.run(['wg', 'set', name, 'listen-port', 51820, 'private-key', key, 'peer',
                      public['b' if letter == 'a' else 'a'], 'allowed-ips', network, 'endpoint',
                      f'{other}:51820'])
            host.run(['ip', 'link', 'set', name, 'up'])
            host.route(network, dev=name)


def _text(argv, stdin=''):
    return subprocess.run(argv, input=stdin, capture_output=True, text=True,
                          check=True).stdout.strip()


class StrongSwan(Contender):
    """strongSwan's ESP in user space (kernel-libipsec), keyed by IKEv2, AES-128-GCM."""
    name = 'strongswan-libipsec'

    def start(self):
        self.world.forwarding()
        charons = []
        for host, letter, own, other, network, others in self.sides():
            charon = Charon(host, self.folder / letter, own, other,
                            [Child('net', network, others, 'aes128gcm16')])
            self.stack.callback(charon.stop)
            charon.start()
            charons.append(charon)
        charons[0].initiate('net')


class Portcullis(Contender):
    """The dataplane in both gateways, ports over AF_XDP, one worker each, AES-128-GCM, ESN."""
    name = 'portcullis'
    offloads = ('off',)

    def start(self):
        self.keys = {direction: os.urandom(20) for direction in ('ab', 'ba')}
        self.dataplanes = {}
        for host, letter, own, other, network, others in self.sides():
            dataplane = Dataplane(
                host, self.folder / letter, instance_name(letter),
                [{'name': 'wire', 'role': 'untrusted', 'device': {'interface': 'wire0'}},
                 {'name': 'core', 'role': 'trusted', 'device': {'interface': 'core0'}}],
                memory={'hugepages': 'auto', 'megabytes': 256, 'buffers': 16384})
            self.stack.callback(dataplane.forget)
            self.stack.callback(dataplane.stop)
            dataplane.start()
            self.dataplanes[letter] = dataplane
            self._steer(dataplane, self.keys, letter, own, other, network, others)

    @staticmethod
    def _steer(dataplane, keys, letter, own, other, network, others):
        """Policy and keys as control would send them: one peer, which may reach this network."""
        selector = {'local': network, 'remote': others}
        far = 'b' if letter == 'a' else 'a'
        common = {'peer': 'gateway', 'selectors': [selector],
                  'tunnel': {'local': own, 'remote': other}}
        with steer_client.SteerClient(dataplane.socket) as steer:
            steer.hello()
            steer.apply(peers=[{'name': 'gateway', 'prefixes': [others], 'rules': [selector]}],
                        interfaces=[{'name': 'inside', 'prefixes': [network]}])
            steer.add_sas([
                {'id': 'in', 'direction': 'inbound', 'replay_window': 1024,
                 'spi': 0x1001 if letter == 'b' else 0x1002, 'key': keys[far + letter], **common},
                {'id': 'out', 'direction': 'outbound',
                 'spi': 0x1001 if letter == 'a' else 0x1002, 'key': keys[letter + far], **common}])


CONTENDERS = (Routed, WireGuard, StrongSwan, Portcullis)
