"""strongSwan's charon with ESP in user space (plugin kernel-libipsec), one per namespace.

    a = Charon(gate, folder / 'a', '192.0.2.1', '192.0.2.2', [Child('net', ..., 'aes128gcm16')])
    b = Charon(peer, folder / 'b', '192.0.2.2', '192.0.2.1', [Child('net', ..., 'aes128gcm16')])
    a.start(); b.start(); b.initiate('net')

It asks nothing of the kernel but TUN: ESP goes in UDP from port 4500 (it can do no other), with
32-bit sequence numbers (it has no ESN). Sockets, configuration and log are in a folder of their
own, so any number may run beside each other and beside an installed strongSwan.
"""

import dataclasses
import os
import pathlib
import re
import subprocess

from processes import Process

CHARON = '/usr/sbin/charon-systemd'


@dataclasses.dataclass(frozen=True)
class Child:
    """What is to become a pair of SAs. proposal: strongSwan's name of the algorithms."""
    name: str
    local: str    # prefixes
    remote: str
    proposal: str


@dataclasses.dataclass(frozen=True)
class KeyedPair:
    """One CHILD_SA as charon logged it. Keys: encryption, then salt or integrity key."""
    inbound_spi: int    # of the charon whose log this is
    outbound_spi: int
    initiator_key: bytes
    responder_key: bytes


class Charon(Process):
    """One IKE daemon with one connection. log_keys is for laboratories, like our `lab: true`."""

    def __init__(self, namespace, folder, local, remote, children, log_keys=False):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.charon_log = self.folder / 'charon.log'
        self.socket = f'unix://{self.folder}/vici'
        self.settings = self.folder / 'strongswan.conf'
        # On the command line of swanctl too: its own defaults are those of an installed one.
        self.settings.write_text(_SETTINGS.format(
            socket=self.socket, log=self.charon_log, level=1 if log_keys else 0,
            keys='chd = 4' if log_keys else ''), encoding='ascii')
        self.connections = self.folder / 'swanctl.conf'
        self.connections.write_text(_CONNECTION.format(
            local=local, remote=remote, children='\n'.join(_CHILD.format(
                **dataclasses.asdict(child)) for child in children)), encoding='ascii')
        super().__init__(namespace, ['env', f'STRONGSWAN_CONF={self.settings}', CHARON],
                         self.folder / 'charon.out')

    def start(self):
        self.launch()
        self.require(lambda: self._swanctl('--stats').returncode == 0, 'answering')
        self._must('--load-all', '--file', self.connections)

    def initiate(self, child):
        """Runs IKE until the child's SAs are installed on both sides."""
        self._must('--initiate', '--child', child, '--timeout', 10)

    def _swanctl(self, *arguments):
        return subprocess.run(
            ['swanctl', *map(str, arguments), '--uri', self.socket], capture_output=True,
            text=True, check=False, timeout=20,
            env={**os.environ, 'STRONGSWAN_CONF': str(self.settings)})

    def _must(self, *arguments):
        done = self._swanctl(*arguments)
        if done.returncode != 0:
            raise RuntimeError(f'swanctl {" ".join(map(str, arguments))}: {done.stderr.strip()}\n'
                               f'{done.stdout.strip()}')

    def log_text(self):
        return self.charon_log.read_text(errors='replace') if self.charon_log.exists() else ''

    def log_tail(self, lines=25):
        return '\n'.join((super().log_tail(lines) + '\n' + self.log_text()).splitlines()[-lines:])

    def keys(self):
        """{child: KeyedPair} of all that was negotiated so far (needs log_keys).

        Debian's strongSwan does not have the plugin save-keys; level 4 of `chd` logs the same.
        """
        found, keys, current = {}, {}, None
        for line in self.log_text().splitlines():
            begins = re.search(r'\[CHD\] (?:encryption|integrity) (initiator|responder) key =>',
                               line)
            more = re.search(r'\[CHD\] +\d+: ((?:[0-9A-F]{2} ){1,16}) ', line + '  ')
            done = re.search(r'CHILD_SA (\S+)\{\d+\} established with SPIs ([0-9a-f]{8})_i '
                             r'([0-9a-f]{8})_o', line)
            if begins:
                current = begins[1]
                keys.setdefault(current, b'')  # the integrity key follows the encryption key
            elif more and current:
                keys[current] += bytes.fromhex(more[1])
            elif done:
                found[done[1]] = KeyedPair(int(done[2], 16), int(done[3], 16), keys['initiator'],
                                           keys['responder'])
                keys, current = {}, None
            else:
                current = None
        return found


# What an installed strongSwan would load by itself is named here, so that no file of the host takes
# part. encap: kernel-libipsec sends and takes ESP only inside UDP.
_SETTINGS = '''
charon-systemd {{
  load = random nonce openssl hmac kdf kernel-libipsec kernel-netlink socket-default vici
  plugins {{ vici {{ socket = {socket} }} }}
  journal {{ default = -1 }}
  filelog {{ log {{
    path = {log}
    flush_line = yes
    default = {level}
    {keys}
  }} }}
}}
swanctl {{ load = random openssl }}
'''

_CONNECTION = '''
connections {{ gate {{
  version = 2
  local_addrs = {local}
  remote_addrs = {remote}
  proposals = aes128gcm16-prfsha256-ecp256
  encap = yes
  mobike = no
  local {{
    auth = psk
    id = {local}
  }}
  remote {{
    auth = psk
    id = {remote}
  }}
  children {{
{children}
  }}
}} }}
secrets {{ ike-all {{ secret = laboratory }} }}
'''

_CHILD = '''    {name} {{
      local_ts = {local}
      remote_ts = {remote}
      esp_proposals = {proposal}
    }}'''
