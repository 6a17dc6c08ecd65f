#!/usr/bin/env python3
"""Runs tests under Debian's own kernel, in a guest: for what this host's kernel may not have.

    tests/guest/run.py [--emulate] [ARGS]   pytest's, such as -k; which files, is set here

The kernel is Debian's linux-image-amd64, which is downloaded and unpacked under build/guest, never
installed. The guest sees the host's root read-only over 9p, under a layer of memory that is gone at its
end; so it runs the programs that were built here, and this host's python and pytest. With KVM where it
works, else emulated. pytest's output is this program's, and so is its exit status."""

import argparse
import os
import pathlib
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = ROOT / 'build' / 'guest'
LONGEST = 1500    # seconds; emulated, the tests take a few minutes
FIRST_SIGN = 20   # seconds, for a guest under KVM; where KVM only pretends to work, nothing comes
MEMORY = '4G'
# The second one is the twin of itself on a host without ESP.
TESTS = ('tests/guest', 'tests/system/test_peer_kernel.py')
UP = b'guest: up\n'  # what init.c says
EXIT = re.compile(b'^guest: exit ([0-9]+)\n', re.MULTILINE)
# What the guest needs before it has its root, and what the tests need of the rest.
FIRST_MODULES = ('virtio_pci', '9pnet_virtio', '9p', 'overlay')
PARTS = ('./boot/vmlinuz-*', './lib/modules/*/modules.*',
         *(f'./lib/modules/*/kernel/{part}/*' for part in (
             'arch/x86/crypto', 'crypto', 'drivers/crypto', 'drivers/virtio', 'fs/9p', 'fs/fscache',
             'fs/netfs', 'fs/overlayfs', 'lib', 'net')),
         *(f'./lib/modules/*/kernel/drivers/net/{one}.ko' for one in ('dummy', 'veth', 'vrf')))


def run(argv, **more):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False, **more)
    if done.returncode != 0:
        raise SystemExit(f'guest: {" ".join(map(str, argv))}: exit {done.returncode}: '
                         f'{done.stderr.strip()[-2000:]}')
    return done.stdout


def kernel():
    """The folder with Debian's newest kernel; downloaded when it is not there."""
    depends = run(['apt-cache', 'depends', 'linux-image-amd64'])
    package = re.search(r'Depends: (linux-image-\S+)', depends)[1]
    folder = BUILD / package
    if folder.exists():
        return folder
    print(f'guest: downloading {package}', flush=True)
    BUILD.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as work:
        os.chmod(work, 0o755)
        if not list(pathlib.Path('/var/lib/apt/lists').glob('*_Packages*')):
            run(['apt-get', 'update', '-qq'])
        run(['apt-get', 'download', '-qq', '-o', 'APT::Sandbox::User=root', package], cwd=work)
        archive = next(pathlib.Path(work).glob('*.deb'))
        tree = pathlib.Path(work) / 'tree'
        tree.mkdir()
        # tar is content when some of the patterns fit nothing in a later kernel; what is missing shows.
        unpacked = subprocess.Popen(['dpkg-deb', '--fsys-tarfile', archive], stdout=subprocess.PIPE)
        subprocess.run(['tar', '-x', '-C', tree, '--wildcards', *PARTS], stdin=unpacked.stdout,
                       stderr=subprocess.DEVNULL, check=False)
        unpacked.communicate()
        version = next((tree / 'lib/modules').iterdir()).name
        run(['depmod', '-b', tree, version])
        tree.rename(folder)
    return folder


def cpio(entries):
    """An initramfs in the one format that the kernel takes (newc). entries: path -> (mode, bytes)."""
    archive = bytearray()
    everything = [*entries.items(), ('TRAILER!!!', (0, b''))]
    for number, (name, (mode, data)) in enumerate(everything, 1):
        encoded = name.encode() + b'\0'
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
        archive += b'070701' + b''.join(b'%08X' % f for f in fields) + encoded
        archive += bytes(-len(archive) % 4) + data
        archive += bytes(-len(archive) % 4)
    return bytes(archive)


def initramfs(tree, version, command, folder):
    init = folder / 'init'
    run(['gcc', '-O1', '-Wall', '-Werror', '-static', '-o', init, HERE / 'init.c'])
    entries = {'init': (0o100755, init.read_bytes()), 'dev': (0o040755, b'')}
    order = []
    for module in FIRST_MODULES:
        for line in run(['modprobe', '-d', tree, '-S', version, '--show-depends', module]).splitlines():
            if line.startswith('insmod '):
                path = pathlib.Path(line.split()[1])
                if path.name not in order:
                    order.append(path.name)
                    entries[path.name] = (0o100644, path.read_bytes())
    texts = {'modules': [f'/{name}' for name in order], 'version': [version],
             'tree': [str(tree / 'lib/modules' / version)], 'command': command}
    for name, words in texts.items():
        entries[name] = (0o100644, ('\n'.join(words) + '\n').encode())
    image = folder / 'initramfs'
    image.write_bytes(cpio(entries))
    return image


def boot(tree, version, image, accelerator, first_sign, longest):
    """Prints what the guest says. Its exit status, or None when there was no first sign of it."""
    argv = ['qemu-system-x86_64', *accelerator, '-machine', 'q35', '-smp', str(os.cpu_count() or 2),
            '-m', MEMORY, '-nodefaults', '-no-reboot', '-display', 'none', '-serial', 'stdio',
            '-virtfs', 'local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap',
            '-kernel', tree / 'boot' / f'vmlinuz-{version}', '-initrd', image,
            '-append', 'console=ttyS0 quiet loglevel=3 panic=-1']
    started = time.monotonic()
    process = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    text, up, code, printed = b'', False, None, 0
    try:
        while code is None:
            left = started + (longest if up else first_sign) - time.monotonic()
            if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                if up:
                    print(f'guest: not over after {longest} s', flush=True)
                    code = 124
                break
            got = os.read(process.stdout.fileno(), 65536)
            if not got:
                break
            text += got.replace(b'\r', b'')
            if not up and (first := text.find(UP)) >= 0:
                up, text = True, text[first + len(UP):]
            ended = EXIT.search(text)
            code = int(ended[1]) if ended else None
            end = ended.start() if ended else len(text)
            if not ended and b'guest: '.startswith(text[text.rfind(b'\n') + 1:][:7]):
                end = text.rfind(b'\n') + 1  # it may become the last word
            if up and end > printed:
                print(text[printed:end].decode(errors='replace'), end='', flush=True)
                printed = end
    finally:
        process.kill()
        process.wait()
    if up and code is None:
        print(f'guest: it ended without a word; the last: {text[-500:]!r}', flush=True)
        code = 1
    return code


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--emulate', action='store_true', help='without KVM')
    args, arguments = parser.parse_known_args()
    for program in ('qemu-system-x86_64', 'modprobe', 'depmod'):
        if not shutil.which(program, path=os.environ['PATH'] + ':/usr/sbin:/sbin'):
            raise SystemExit(f'guest: {program} is missing: ./run check installs it')
    tree = kernel()
    version = next((tree / 'lib/modules').iterdir()).name
    binaries = os.environ.get('PORTCULLIS_BIN', ROOT / 'build/release/bin')
    command = ['/usr/bin/env', f'--chdir={ROOT}', f'PORTCULLIS_BIN={binaries}',
               'PORTCULLIS_GUEST=1', '/usr/bin/python3',
               '-B', '-m', 'pytest', '-p', 'no:cacheprovider', '--color=no', *TESTS, *arguments]
    with tempfile.TemporaryDirectory() as work:
        image = initramfs(tree, version, command, pathlib.Path(work))
        code = None
        if not args.emulate and os.access('/dev/kvm', os.R_OK | os.W_OK):
            code = boot(tree, version, image, ['-accel', 'kvm'], FIRST_SIGN, LONGEST)
            if code is None:
                print('guest: KVM does not work here', flush=True)
        if code is None:
            code = boot(tree, version, image, ['-accel', 'tcg,thread=multi', '-cpu', 'max'],
                        5 * FIRST_SIGN, LONGEST)
        if code is None:
            raise SystemExit('guest: no sign of life')
        sys.exit(code)


if __name__ == '__main__':
    main()
