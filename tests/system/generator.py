"""A gate on AF_XDP between the two ports of portcullis-generator, configured as docs/benchmarking.md
says: the generator writes policy and SAs (--write-lab), portcullisctl installs them, ARP finds the
neighbours.

        generator                   gate                       generator
    198.18.0.2 gen0 ════ wire0 198.18.0.1
                               core0 198.19.0.1 ════ gen1 198.19.0.2
"""

import json
import subprocess

from netns import Namespaces
from processes import BIN, Control, Dataplane, Lab, Pki, instance_name

GENERATOR = BIN / 'portcullis-generator'


def device(number):
    return f'net_af_packet{number},iface=gen{number},blocksz=4096,framesz=2048,framecnt=4096'


def write_lab(folder, *options):
    subprocess.run([GENERATOR, '--write-lab', folder, *map(str, options)], check=True)
    return (json.loads((folder / 'policy.json').read_text()),
            json.loads((folder / 'sas.json').read_text()))


def run(lab, *options, command=lambda argv: argv, core=0, **ports):
    """One run of the generator; its result. ports: wire=, core_port=."""
    argv = [GENERATOR, '--config', lab / 'generator.conf', '--small-pages', '--megabytes', 128,
            '--cores', core, '--json', '-']
    for name, value in ports.items():
        argv += [f'--{name.replace("_", "-")}', value]
    done = subprocess.run(command([str(a) for a in [*argv, *options]]), capture_output=True,
                          text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class Bench(Lab):
    """The gate, its control, and a generator's lab in force there."""

    def __init__(self, folder, *lab_options, **settings):
        super().__init__(Namespaces('gen'))
        self.lab = folder / 'lab'
        try:
            self._build(folder, lab_options, settings)
        except BaseException:
            self.close()
            raise

    def _build(self, folder, lab_options, settings):
        self.gate, self.tester = self.world.add('gate'), self.world.add('tester')
        # The kernel must not talk on these wires: no router solicitations, no MLD.
        self.tester.sysctl('net.ipv6.conf.default.disable_ipv6', 1)
        for number, (port, address) in enumerate((('wire0', '198.18.0.1/24'),
                                                  ('core0', '198.19.0.1/24'))):
            self.world.veth(self.tester, f'gen{number}', self.gate, port)
            self.gate.address(port, address)
        self.dataplane = Dataplane(self.gate, folder, instance_name('g'), [
            {'name': 'wire', 'role': 'untrusted', 'device': {'interface': 'wire0'}},
            {'name': 'core', 'role': 'trusted', 'device': {'interface': 'core0'}}], **settings)
        self.closing.append(self.dataplane.forget)
        self.control = Control(self.gate, folder, self.dataplane.socket, Pki(folder / 'pki'))
        self.dataplane.start()
        self.control.start()
        self.rest = self.control.rest()
        self.closing.append(self.rest.close)
        write_lab(self.lab, *lab_options)
        certificate, key = self.control.pki.clients['alice']
        for command in (['policy', 'apply', self.lab / 'policy.json'],
                        ['sas', 'add', self.lab / 'sas.json']):
            self.gate.run([BIN / 'portcullisctl', '--url',
                           f'https://127.0.0.1:{self.control.port}', '--ca', self.control.pki.ca,
                           '--cert', certificate, '--key', key, *command])

    def run(self, *options):
        return run(self.lab, *options, command=self.tester.command, wire_port=device(0),
                   core_port=device(1))
