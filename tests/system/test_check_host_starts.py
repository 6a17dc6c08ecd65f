"""What a host can lack, and the real program: it ends within seconds, with a status that is not 0
and one message that says what is missing, what was expected and what was found; and with just that
put right it starts. (dataplane/ports has the same for the parts: queues, MTU, buffers;
test_fail_closed.py for IP forwarding; config_test.cpp for what a configuration can have wrong.)

Most cases need no interface: two net_null ports are enough for the program to start, also without
any privilege, as whoever tries it out at his desk does.
"""

import contextlib
import os
import pathlib
import pwd
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile

import pytest
import yaml

from netns import Namespaces, wait_until
from processes import BIN, instance_name
from steer_client import SteerClient

PROGRAM = BIN / 'portcullis-dataplane'
NOBODY = ['setpriv', '--reuid=nobody', '--regid=nogroup', '--clear-groups']
SECONDS = 20  # to end in; one or two on a host that has nothing else to do


def null_port(n, name, role):
    return {'name': name, 'role': role, 'device': {'vdev': f'net_null{n},no-rx=1'},
            'mac': f'02:00:00:00:00:0{n}', 'addresses': [f'10.{n}.0.1/24']}


class Start:
    """One configuration and how it is started."""

    def __init__(self, folder):
        self.folder = folder
        self.argv = []  # in front of the program
        self.config = {
            'instance': instance_name('c'),
            'workers': {'count': 1, 'idle': 'sleep'},
            'memory': {'hugepages': 'never', 'megabytes': 64, 'buffers': 4096},
            'ports': [null_port(1, 'wire', 'untrusted'), null_port(2, 'core', 'trusted')],
            'sas': {'capacity': 64},
            'state_file': str(folder / 'state'),
            'steering': {'socket': str(folder / 'steer.sock'), 'users': ['root']},
        }
        self.limits = None  # run in the child

    def launch(self):
        path = self.folder / 'dataplane.yaml'
        path.write_text(yaml.safe_dump(self.config, sort_keys=False), encoding='ascii')
        path.chmod(0o644)
        self.log = self.folder / 'log'
        with open(self.log, 'wb') as log:
            return subprocess.Popen([*self.argv, PROGRAM, '--config', path], stdout=log, stderr=log,
                                    stdin=subprocess.DEVNULL, preexec_fn=self.limits)

    def messages(self):
        """What the program itself said at its end; DPDK's own words and notices are not counted."""
        return re.findall(r' (?:critical|error) portcullis-dataplane: (.*)', self.log.read_text())

    @contextlib.contextmanager
    def on_interface(self, name):
        """A namespace for the program; afterwards nothing of ours is left on the interface."""
        self.config['ports'][0] = {'name': 'wire', 'role': 'untrusted',
                                   'device': {'interface': name}}
        self.config['memory'] |= {'megabytes': 128, 'buffers': 8192}
        with Namespaces(self.folder.name[-8:]) as world:
            gate = world.add('gate')
            self.argv = gate.command([])
            try:
                yield world, gate
            finally:
                subprocess.run([*gate.command([PROGRAM]), '--config',
                                self.folder / 'dataplane.yaml', '--open-ports'], check=False,
                               capture_output=True)

    def refuses(self):
        """Ends by itself, not by a signal, having said one thing; returns that."""
        process = self.launch()
        try:
            status = process.wait(SECONDS)
        finally:
            process.kill()
            process.wait()
        assert status == 1, self.log.read_text()
        messages = self.messages()
        assert len(messages) == 1, self.log.read_text()
        return messages[0]

    @contextlib.contextmanager
    def starts(self):
        """The twin: serves its steering socket, says hello, and ends with status 0 when told to."""
        process = self.launch()
        try:
            path = self.config['steering']['socket']
            assert wait_until(lambda: process.poll() is not None or answers(path), SECONDS)
            assert process.poll() is None, self.log.read_text()
            with SteerClient(path) as steer:
                steer.hello()
            yield process
            process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS) == 0, self.log.read_text()
            assert self.messages() == []
        finally:
            process.kill()
            process.wait()


def answers(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(str(path)) == 0


@pytest.fixture
def start():
    """Its folder is one that an unprivileged user can enter and write to."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix='portcullis-start-'))
    folder.chmod(0o777)
    try:
        yield Start(folder)
    finally:
        shutil.rmtree(folder)


def contains(message, *parts):
    for part in parts:
        assert part in message, message
    return True


# ---- permission

def test_permission_for_interfaces(start):
    """An unprivileged user and a port of the kernel's; root in a unit that takes away too much."""
    with start.on_interface('wire0') as (world, gate):
        world.veth(gate, 'wire0', gate, 'wire1')
        start.argv = gate.command(NOBODY)
        assert contains(start.refuses(), 'port', 'Permission denied', 'expected root, or CAP_BPF',
                        f'found user id {pwd.getpwnam("nobody").pw_uid}')
        start.argv = gate.command(['setpriv', '--bounding-set=-net_raw', '--inh-caps=-net_raw'])
        assert contains(start.refuses(), 'no permission CAP_NET_RAW', 'to open AF_XDP sockets',
                        'AmbientCapabilities=CAP_NET_RAW')
        start.argv = gate.command([])
        with start.starts():
            pass


def test_no_permission_is_needed_without_interfaces(start):
    start.argv = NOBODY
    with start.starts():
        pass


def test_a_directory_for_the_steering_socket(start):
    closed = start.folder / 'closed'
    closed.mkdir(mode=0o755)  # root's
    start.argv = NOBODY
    start.config['steering']['socket'] = str(closed / 'steer.sock')
    assert contains(start.refuses(), str(closed / 'steer.sock'), 'Permission denied')
    start.config['steering']['socket'] = str(closed / 'new' / 'steer.sock')
    assert contains(start.refuses(), str(closed / 'new'), 'Permission denied')
    shutil.chown(closed, 'nobody')
    start.config['steering']['socket'] = str(closed / 'steer.sock')
    with start.starts():
        pass


def test_a_user_of_the_steering_socket(start):
    start.config['steering']['users'] = ['nobody-of-that-name']
    assert contains(start.refuses(), 'steering.users', 'no such user', 'nobody-of-that-name')
    start.config['steering']['users'] = ['nobody']
    with start.starts():
        pass


# ---- memory

def test_megabytes(start):
    """More packet buffers than the memory holds."""
    start.config['memory'] = {'hugepages': 'never', 'megabytes': 64, 'buffers': 131072}
    assert contains(start.refuses(), 'dataplane.yaml', '131072 packet buffers',
                    'memory.megabytes (64)', 'memory.buffers')
    start.config['memory']['buffers'] = 4096
    with start.starts():
        pass


def test_memory_of_the_host(start):
    """The configuration wants more than the host gives (here: than the process may have)."""
    start.config['memory']['megabytes'] = 4096
    start.limits = lambda: resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
    assert contains(start.refuses(), 'DPDK did not start', 'memory', '-m 4096')
    start.config['memory']['megabytes'] = 64
    with start.starts():
        pass


def test_hugepages(start):
    start.config['memory'] |= {'hugepages': 'require', 'megabytes': 65536}
    assert contains(start.refuses(), 'too few free hugepages', '65536 MB', 'vm.nr_hugepages',
                    'hugepages: auto')
    start.config['memory'] |= {'hugepages': 'auto', 'megabytes': 64}
    with start.starts():
        pass


def test_room_for_the_state_file(start):
    """A file system that is too small for the windows of all SAs."""
    small = start.folder / 'small'
    small.mkdir()
    subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=64k', 'none', small], check=True)
    try:
        start.config['state_file'] = str(small / 'state')
        start.config['sas']['capacity'] = 65536
        assert contains(start.refuses(), str(small / 'state'), 'sas.capacity')
        (small / 'state').unlink()
        subprocess.run(['mount', '-o', 'remount,size=64m', small], check=True)
        with start.starts():
            pass
    finally:
        subprocess.run(['umount', small], check=True)


# ---- interface, package, CPU

def test_an_interface(start):
    with start.on_interface('nowhere0') as (world, gate):
        assert contains(start.refuses(), "port wire: there is no interface 'nowhere0'",
                        'in this network namespace')
        world.veth(gate, 'nowhere0', gate, 'nowhere1')
        with start.starts():
            pass


def test_a_driver_of_dpdk(start):
    start.config['ports'][0]['device'] = {'vdev': 'net_nonsense0'}
    assert contains(start.refuses(), 'port wire', 'net_nonsense0',
                    'a driver of DPDK that is installed')
    start.config['ports'][0]['device'] = {'vdev': 'net_null0,no-rx=1'}
    with start.starts():
        pass


def elsewhere(command, *rest):
    """argv: with a view of the file system of its own, after `command` of a shell, `rest`."""
    return ['unshare', '--mount', '--propagation', 'private', 'sh', '-ec', command + '; exec "$@"',
            'sh', *rest]


def test_a_package(start):
    """Debian has a package for each driver of DPDK. Here one is not installed."""
    drivers = next(pathlib.Path('/usr/lib').glob('*/dpdk/pmds-*'))
    others = start.folder / 'drivers'
    shutil.copytree(drivers, others, symlinks=True,
                    ignore=shutil.ignore_patterns('librte_net_af_xdp*'))
    with start.on_interface('wire0') as (world, gate):
        world.veth(gate, 'wire0', gate, 'wire1')
        start.argv = elsewhere(f'mount --bind {others} {drivers}', *gate.command([]))
        assert contains(start.refuses(), 'package librte-net-af-xdp23', 'not installed',
                        str(drivers))
        start.argv = gate.command([])
        with start.starts():
            pass


def test_a_file_system_for_xdp(start):
    """The XDP program stays attached through links that are pinned there."""
    with start.on_interface('wire0') as (world, gate):
        world.veth(gate, 'wire0', gate, 'wire1')
        start.argv = elsewhere('umount /sys/fs/bpf', *gate.command([]))
        assert contains(start.refuses(), 'bpffs is not mounted on /sys/fs/bpf', 'expected', 'found')
        start.argv = gate.command([])
        with start.starts():
            pass


def test_a_pci_device(start):
    start.config['ports'][0]['device'] = {'pci': 'ffff:ff:1f.7'}
    assert contains(start.refuses(), 'port wire', 'there is no PCI device ffff:ff:1f.7',
                    'dpdk-devbind.py')


def test_a_cpu(start):
    start.config['workers']['cores'] = [1000]
    assert contains(start.refuses(), 'workers.cores', 'core 1000')
    start.config['workers']['cores'] = [min(os.sched_getaffinity(0))]
    with start.starts():
        pass


# ---- what another process has

def test_the_state_file_is_anothers(start):
    """Two processes on one file would use numbers twice; the message says who has it."""
    with start.starts() as first:
        second = Start(start.folder / 'second')
        second.folder.mkdir()
        second.config['state_file'] = start.config['state_file']
        assert contains(second.refuses(), start.config['state_file'], 'in use by',
                        f'process {first.pid} ')
        second.config['state_file'] = str(second.folder / 'state')
        with second.starts():
            pass
    second.config['state_file'] = start.config['state_file']
    with second.starts():
        pass


def test_the_state_file_is_of_another_user(start):
    """In /dev/shm, where all may write, it could be a trap laid out for us."""
    start.argv = NOBODY
    with start.starts():
        pass
    start.argv = []
    nobody = pwd.getpwnam('nobody').pw_uid
    assert contains(start.refuses(), start.config['state_file'], 'belongs to another user',
                    'user 0', f'user {nobody}')
    os.unlink(start.config['state_file'])
    with start.starts():
        pass


def test_the_steering_socket_is_anothers(start):
    with start.starts():
        second = Start(start.folder / 'second')
        second.folder.mkdir()
        second.config['steering'] = start.config['steering']
        assert contains(second.refuses(), start.config['steering']['socket'], 'another process')
    with second.starts():
        pass


# ---- what a process that holds keys takes care of itself

def test_nobody_but_root_reads_its_memory(start):
    """PR_SET_DUMPABLE 0: the kernel then gives the process's files in /proc to root, whoever runs
    it: no core is dumped, and its own user may not trace it."""
    nobody = pwd.getpwnam('nobody').pw_uid
    start.argv = NOBODY
    with start.starts() as process:
        assert os.stat(f'/proc/{process.pid}/fd').st_uid == 0
        traced = subprocess.run([*NOBODY, 'strace', '-p', str(process.pid)], capture_output=True,
                                text=True, timeout=10, check=False)
        assert traced.returncode != 0 and 'Operation not permitted' in traced.stderr
    twin = subprocess.Popen([*NOBODY, 'sleep', '60'])
    try:
        assert wait_until(lambda: os.stat(f'/proc/{twin.pid}/fd').st_uid == nobody, 5)
    finally:
        twin.kill()
        twin.wait()
