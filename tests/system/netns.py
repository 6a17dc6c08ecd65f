"""Network namespaces and veth wires for the system tests and the demo.

    with Namespaces('demo') as world:
        csmf, gate = world.add('csmf'), world.add('gate')
        world.veth(csmf, 'wire0', gate, 'wire0', mtu=1500)
        gate.address('wire0', '192.0.2.1/24')
        gate.run(['ip', 'route'])
        with gate.entered():
            sock = socket.socket()      # belongs to gate, also after the block

Every name carries the process id, so parallel runs do not collide, and leaving the block ends
the processes that were started here, by their own pid, and removes the namespaces.

Commands are entered with `nsenter --net=`: `ip netns exec` would hide /sys/fs/bpf, where the
pinned XDP links live. Checksum and segmentation offload are off on both ends of a wire: what
AF_XDP sees is what a real wire would carry.
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import time

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _set_namespace(fd):
    if _libc.setns(fd, _CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, 'setns: ' + os.strerror(error))


def _check(argv, **kwargs):
    """Runs argv; a failure carries what the command said, not just its status."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, **kwargs)
    if done.returncode != 0:
        raise RuntimeError(f'{" ".join(map(str, argv))}: exit {done.returncode}: '
                           f'{done.stderr.strip() or done.stdout.strip()}')
    return done.stdout


class Namespace:
    """One network namespace. `name` is the short name, `full_name` the one `ip netns` knows."""

    def __init__(self, name, full_name):
        self.name = name
        self.full_name = full_name
        self.path = f'/run/netns/{full_name}'
        self.processes = []

    def command(self, argv):
        """The argv that runs `argv` in here (nsenter execs it: the pid is the command's own)."""
        return ['nsenter', f'--net={self.path}', '--', *map(str, argv)]

    def run(self, argv, check=True, timeout=60, **kwargs):
        """Runs to the end. Returns stdout, or with check=False the CompletedProcess."""
        if check:
            return _check(self.command(argv), timeout=timeout, **kwargs)
        return subprocess.run(self.command(argv), capture_output=True, text=True, check=False,
                              timeout=timeout, **kwargs)

    def popen(self, argv, **kwargs):
        """Starts it and goes on; stop() or leaving the Namespaces block ends it."""
        process = subprocess.Popen(self.command(argv), **kwargs)
        self.processes.append(process)
        return process

    def stop(self, process, how=signal.SIGTERM, timeout=10):
        """Ends one process of ours; SIGKILL when it does not listen. Returns its exit status."""
        if process.poll() is None:
            process.send_signal(how)
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process in self.processes:
            self.processes.remove(process)
        return process.returncode

    @contextlib.contextmanager
    def entered(self):
        """The calling thread is in this namespace; sockets opened meanwhile stay in it."""
        home = os.open('/proc/thread-self/ns/net', os.O_RDONLY)
        try:
            there = os.open(self.path, os.O_RDONLY)
            try:
                _set_namespace(there)
            finally:
                os.close(there)
            try:
                yield self
            finally:
                _set_namespace(home)
        finally:
            os.close(home)

    def address(self, interface, address):
        """Adds '192.0.2.1/24' or '2001:db8::1/64'; usable at once (no duplicate detection)."""
        nodad = ['nodad'] if ':' in address else []
        self.run(['ip', 'address', 'add', address, 'dev', interface, *nodad])

    def route(self, prefix, via=None, dev=None, extra=()):
        argv = ['ip', '-6' if ':' in prefix + (via or '') else '-4', 'route', 'add', prefix]
        argv += ['via', via] if via else []
        argv += ['dev', dev] if dev else []
        self.run([*argv, *extra])

    def neighbour(self, interface, address, mac):
        """A permanent neighbour, for tests that must not depend on ARP or ND."""
        self.run(['ip', 'neighbour', 'replace', address, 'lladdr', mac, 'dev', interface,
                  'nud', 'permanent'])

    def mac(self, interface):
        return self._link(interface)['address']

    def sysctl(self, name, value=None):
        """Reads 'net.ipv4.ip_forward', or sets it."""
        path = '/proc/sys/' + name.replace('.', '/')
        # /proc/sys/net shows the namespace of the thread that opens it.
        with self.entered():
            if value is None:
                with open(path, encoding='ascii') as file:
                    return file.read().strip()
            with open(path, 'w', encoding='ascii') as file:
                file.write(str(value))
            return str(value)

    def forwarding(self, on):
        """Kernel IP forwarding of both families, on every interface there is or will be."""
        for name in ('net.ipv4.ip_forward', 'net.ipv6.conf.all.forwarding'):
            self.sysctl(name, 1 if on else 0)

    def _link(self, interface):
        return json.loads(self.run(['ip', '-j', '-d', '-s', 'link', 'show', 'dev', interface]))[0]

    def received(self, interface):
        """How many packets the interface has received so far."""
        return self._link(interface)['stats64']['rx']['packets']


class Namespaces:
    """A set of namespaces that lives as long as its `with` block."""

    def __init__(self, prefix):
        self.prefix = f'pc-{prefix}-{os.getpid()}'
        self.all = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def add(self, name):
        namespace = Namespace(name, f'{self.prefix}-{name}')
        _check(['ip', 'netns', 'add', namespace.full_name])
        self.all.append(namespace)
        namespace.run(['ip', 'link', 'set', 'lo', 'up'])
        namespace.forwarding(False)  # a host that forwards (Docker) bequeaths it
        return namespace

    def veth(self, a, a_name, b, b_name, mtu=1500, queues=1, a_mac=None, b_mac=None):
        """A wire between two namespaces, both ends up, without offloads."""
        _check(['ip', 'link', 'add', a_name, 'netns', a.full_name, 'mtu', str(mtu),
                *(['address', a_mac] if a_mac else []),
                'numtxqueues', str(queues), 'numrxqueues', str(queues), 'type', 'veth',
                'peer', 'name', b_name, 'netns', b.full_name, 'mtu', str(mtu),
                *(['address', b_mac] if b_mac else []),
                'numtxqueues', str(queues), 'numrxqueues', str(queues)])
        for namespace, interface in ((a, a_name), (b, b_name)):
            namespace.run(['ethtool', '-K', interface, 'rx', 'off', 'tx', 'off', 'sg', 'off',
                           'tso', 'off', 'gso', 'off', 'gro', 'off'])
            namespace.run(['ip', 'link', 'set', interface, 'up'])

    def close(self):
        for namespace in reversed(self.all):
            for process in list(namespace.processes):
                namespace.stop(process)
        for namespace in reversed(self.all):
            subprocess.run(['ip', 'netns', 'delete', namespace.full_name], check=False,
                           capture_output=True)
        self.all.clear()


def wait_until(condition, timeout=10, interval=0.05):
    """True as soon as condition() is; False when `timeout` seconds were not enough."""
    end = time.monotonic() + timeout
    while True:
        if condition():
            return True
        if time.monotonic() > end:
            return False
        time.sleep(interval)
