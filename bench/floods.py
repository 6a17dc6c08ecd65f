#!/usr/bin/python3
"""What a flood of garbage takes away from those who are authenticated.

Two gates with a tunnel between them, as in bench/veth.py; legitimate packets go from the client
through both to the server, at a share of what gets through at most beside a flood that costs the gate
nothing. Beside them somebody on the wire sends garbage to gate b, as fast as one core can (A); or
exactly as much to a port that only drops: another veth with an XDP program of two instructions (B).
Goodput in A over goodput in B is what the gate, and not the flood's own cost, takes away. A and B in
turns, medians; all share all cores.

    bench/floods.py [--quick] [--only NAME,...] [--share X,...] [--repeats N] [--seconds S] [--json FILE]

All load stays within namespaces that this program makes, is bounded in time and ends with it.
"""

import argparse
import contextlib
import ipaddress
import pathlib
import random
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / 'bench' / 'gates'), str(ROOT / 'tests'), str(ROOT / 'tests' / 'system')]
import figures  # noqa: E402
import scapy_esp  # noqa: E402
from contenders import Portcullis  # noqa: E402
from steer_client import SteerClient  # noqa: E402
from veth import machine  # noqa: E402
from world import A, B, SERVER_NET, World  # noqa: E402

AIM = 0.95
FRAMES = 16384
FASTEST = 1e9               # packets a second: as many as there is time for
SPI = 0x1001                # of gate b's inbound SA
SESSION_PORT = 4433
CRYPTO = ('accepted', 'auth_failed')
DROP = 'int drop(void* context) { (void)context; return 1; /* XDP_DROP */ }\n'


def random_source(chance):
    return str(ipaddress.ip_address(0x0b000000 + chance.getrandbits(24)))  # 11.0.0.0/8: nobody's here


def esp(source, spi, sequence):
    return scapy_esp.datagram(source, B, 50, struct.pack('!II', spi, sequence) + bytes(80))


def syn(source, port, sequence):
    return scapy_esp.tcp(source, B, port, SESSION_PORT, flags=2, ident=sequence & 0xffff)


# name: (the frame, gate b's first line, the verdicts that garbage may get). Of the SA's sequence
# numbers those from 2^30 on are ahead of the window, where everything has to be tried; the lowest
# were used long ago.
FLOODS = {
    'random sources': (
        lambda c: esp(random_source(c), SPI, c.getrandbits(30)),
        {'admit_strangers': False, 'admit': [A + '/32']}, {'xdp_source_denied'}),
    'random SPIs': (
        lambda c: esp(A, c.getrandbits(32) | 0x10000, c.getrandbits(30)), {}, {'xdp_unknown_spi'}),
    'live SPI with garbage ICV in window': (
        lambda c: esp(random_source(c), SPI, 1 << 30 | c.getrandbits(29)), {},
        {'auth_failed', 'auth_throttled', 'xdp_auth_throttled'}),
    'replays': (
        lambda c: esp(A, SPI, 1 + c.randrange(1000)), {}, {'replayed', 'stale', 'xdp_stale'}),
    'SYN flood on the session port': (
        lambda c: syn(random_source(c), 1024 + c.getrandbits(15), c.getrandbits(32)),
        {'handshakes': {'per_second': 5, 'burst': 20},
         'strangers': {'per_second': 100, 'burst': 200},
         'sessions': [{'protocol': 'tcp', 'ports': SESSION_PORT}]}, {'xdp_handshake_limited'}),
}


class Scene:
    """The world with both gates, the port that only drops, and who floods."""

    def __init__(self, folder, load):
        self.folder, self.load = folder, load
        self.stack = contextlib.ExitStack()

    def __enter__(self):
        with contextlib.ExitStack() as undo:
            undo.push(self.stack)
            self.world = self.stack.enter_context(World())
            self.gates = self.stack.enter_context(Portcullis(self.world, self.folder / 'gates'))
            self.world.offloads('off')
            self._make_sink()
            # The guard's place: what gets through is answered by a kernel that really listens.
            with self.world.b.entered():
                listener = self.stack.enter_context(socket.create_server((B, SESSION_PORT)))
            listener.listen(128)
            self.steer = self.stack.enter_context(SteerClient(self.gates.dataplanes['b'].socket))
            self.steer.hello()
            undo.pop_all()
        return self

    def __exit__(self, *_):
        self.stack.close()

    def _make_sink(self):
        source, program = self.folder / 'drop.c', self.folder / 'drop.o'
        source.write_text(f'__attribute__((section("xdp"), used)) {DROP}', encoding='ascii')
        subprocess.run(['clang', '-O2', '-target', 'bpf', '-c', source, '-o', program], check=True)
        sink = self.world.namespaces.add('sink')
        self.world.namespaces.veth(self.world.a, 'sink0', sink, 'drop0')
        sink.run(['ip', 'link', 'set', 'drop0', 'xdpdrv', 'obj', program, 'sec', 'xdp'])
        self.sink = sink

    def policy(self, first_line):
        generation = self.steer.hello().generation
        self.steer.apply(generation + 1, full=False, base_generation=generation,
                         interfaces=[{'name': 'inside', 'prefixes': [SERVER_NET]}],
                         first_line=first_line)

    def write_frames(self, name, make):
        """A file of each: to the gate, and to the port that drops."""
        chance = random.Random(name)
        packets = [make(chance) for _ in range(FRAMES)]
        files = {}
        for interface, to in (('wire0', self.world.b.mac('wire0')), ('sink0', self.sink.mac('drop0'))):
            files[interface] = self.folder / f'{interface}-{name.replace(" ", "-")}'
            own = self.world.a.mac(interface)
            with open(files[interface], 'wb') as file:
                for packet in packets:
                    data = scapy_esp.frame(packet, to, own)
                    file.write(struct.pack('!H', len(data)) + data)
        return files

    @contextlib.contextmanager
    def flood(self, files, interface, rate, seconds):
        """Yields a function that waits for its end and says how many a second went out."""
        process = self.world.a.popen([self.load, 'flood', interface, files[interface], round(rate),
                                      round(seconds * 1000)], stdout=subprocess.PIPE, text=True)
        try:
            yield lambda: int(process.communicate(timeout=seconds + 20)[0]) / seconds
        finally:
            self.world.a.stop(process)

    def counters(self):
        """Gate b's verdicts, those of XDP on its wire with their prefix."""
        status = self.steer.status()
        wire = next(port for port in status.ports if port.name == 'wire')
        return self.steer.counters() | {f'xdp_{name}': count for name, count in
                                        zip(status.xdp_verdicts, wire.xdp_verdicts, strict=True)}

    def legitimate(self, rate, seconds):
        return self.world.received_pps(self.load, rate, seconds)

    def calibrate(self, files, seconds):
        """What gets through at most beside a flood that costs the gate nothing."""
        with self.flood(files, 'sink0', FASTEST, 45):
            time.sleep(0.3)
            best, _ = self.world.peak_pps(self.load, seconds)
        return best

    def beside(self, files, interface, flood_rate, rate, seconds):
        """(goodput, the flood's packets a second, how gate b's counters grew), per second."""
        before, started = self.counters(), time.monotonic()
        with self.flood(files, interface, flood_rate, seconds + 1.5) as went_out:
            time.sleep(0.3)
            goodput = self.legitimate(rate, seconds)
            sent = went_out()
        lasted = time.monotonic() - started
        grown = {name: (count - before[name]) / lasted for name, count in self.counters().items()}
        return goodput, sent, {name: round(value) for name, value in grown.items() if value >= 1}


def measure(scene, name, repeats, seconds, rates):
    """A row for each of {share: packets a second}."""
    make, first_line, verdicts = FLOODS[name]
    scene.policy(first_line)
    files = scene.write_frames(name, make)
    return [row(name, share, in_turns(scene, files, repeats, seconds, rate), verdicts, rate)
            for share, rate in rates.items()]


def in_turns(scene, files, repeats, seconds, rate):
    pairs = []
    for number in range(repeats + 1):
        against = scene.beside(files, 'wire0', FASTEST, rate, seconds)
        aside = scene.beside(files, 'sink0', against[1], rate, seconds)
        if number > 0:  # the first one warms up
            pairs.append((against, aside))
    return pairs


def row(name, share, pairs, verdicts, rate):
    ratios = [against[0] / aside[0] for against, aside in pairs]
    against = [one for one, _ in pairs]
    flood = statistics.median(one[1] for one in against)
    hit = statistics.median(sum(one[2].get(v, 0) for v in verdicts) for one in against)
    # More than half: the flood is shorter than the interval that the counters are read over, and
    # what a full ring loses has no verdict.
    if hit < flood / 2:
        raise RuntimeError(f'{name}: {flood:.0f} a second, but of {sorted(verdicts)} only {hit:.0f}: '
                           f'{against[-1][2]}')
    crypto = [statistics.median(sum(one[2].get(v, 0) for v in CRYPTO) for one in side)
              for side in (against, [one for _, one in pairs])]
    ratio = statistics.median(ratios)
    return {'name': f'flood: {name}', 'share': share,
            'unit': 'of the goodput beside a port that drops',
            'ratio': round(ratio, 3), 'aim': AIM, 'met': ratio >= AIM,
            'spread': round(max(ratios) - min(ratios), 3), 'repeats': len(ratios),
            'offered_pps': round(rate),
            'goodput_pps': round(statistics.median(one[0] for one in against)),
            'goodput_beside_drop_pps': round(statistics.median(one[0] for _, one in pairs)),
            'flood_pps': round(flood), 'crypto_per_second': round(crypto[0]),
            'crypto_beside_drop_per_second': round(crypto[1]),
            'verdicts': {v: against[-1][2][v] for v in sorted(verdicts) if v in against[-1][2]}}


def table(rows):
    print(f'\n{machine()}, medians of {rows[0]["repeats"]}, legitimate packets of 64 B\n'
          f'\n{"":32}{"share":>6}{"ratio":>7}{"spread":>8}{"goodput":>10}{"beside":>9}{"flood":>10}'
          f'{"crypto":>9}{"beside":>9}\n{"":46}{"":7}{"kpps":>10}{"kpps":>9}{"kpps":>10}{"k/s":>9}{"k/s":>9}')
    for one in rows:
        print(f'{one["name"][7:]:32}{one["share"]:>6g}{one["ratio"]:>7.3f}{one["spread"]:>8.3f}'
              + ''.join(f'{one[k] / 1e3:>{w}.1f}' for k, w in (
                  ('goodput_pps', 10), ('goodput_beside_drop_pps', 9), ('flood_pps', 10),
                  ('crypto_per_second', 9), ('crypto_beside_drop_per_second', 9)))
              + f'  {"met" if one["met"] else "MISSED"}, aim {one["aim"]:g}; {one["verdicts"]}')


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n', maxsplit=1)[0])
    parser.add_argument('--quick', action='store_true', help='one repeat, to see that it works')
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--seconds', type=float, default=2, help='of each measurement')
    parser.add_argument('--only', help='floods, with commas: ' + ', '.join(FLOODS))
    parser.add_argument('--share', default='0.5,0.9', help='how much of what gets through at most '
                        'is offered')
    parser.add_argument('--json', type=pathlib.Path)
    arguments = parser.parse_args()
    wanted = arguments.only.split(',') if arguments.only else list(FLOODS)
    if unknown := set(wanted) - set(FLOODS):
        parser.error(f'no such flood: {", ".join(sorted(unknown))}')
    repeats, seconds = (1, 1) if arguments.quick else (arguments.repeats, arguments.seconds)

    with tempfile.TemporaryDirectory(dir='/dev/shm') as name:
        folder = pathlib.Path(name)
        load = folder / 'load'
        subprocess.run(['cc', '-O2', '-o', load, ROOT / 'bench' / 'gates' / 'load.c'], check=True)
        with Scene(folder, load) as scene:
            most = scene.calibrate(scene.write_frames('calibration', FLOODS[wanted[0]][0]), seconds)
            print(f'at most {most:.0f} legitimate packets a second get through', flush=True)
            rates = {float(share): float(share) * most for share in arguments.share.split(',')}
            rows = []
            for one in wanted:
                started = time.monotonic()
                rows += measure(scene, one, repeats, seconds, rates)
                print(f'{one}: {time.monotonic() - started:.0f} s', flush=True)
    table(rows)
    figures.add(arguments.json, 'floods', rows)


if __name__ == '__main__':
    main()
