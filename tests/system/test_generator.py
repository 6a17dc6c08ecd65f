"""portcullis-generator against a real gate, against itself on a loop, and before Scapy's eyes."""

import collections
import struct

import pytest
from scapy.layers.inet import IP
from scapy.utils import RawPcapReader

from generator import Bench, run, write_lab
from scapy_esp import Sa

GATE_MAC = ('--gate-wire-mac', '02:00:00:00:00:01')
MAGIC = b'PGEN'
TAG = '<4sIIIQQ'  # bench/generator/tag.hpp, on this machine's byte order
GOOD, FORGED, REPLAY, UNKNOWN = range(4)


@pytest.fixture(scope='module')
def bench(tmp_path_factory):
    # Forgeries are to be counted here, each of them: the budget against floods has its own tests.
    with Bench(tmp_path_factory.mktemp('generator'), '--sas', 3, '--flows', 2,
               auth_failures={'per_second': 100000, 'cpu_percent': 100}) as running:
        yield running


def judged(bench, *options):
    """The generator's result, and what it made the gate's counters grow by."""
    before = bench.rest.verdicts()
    result = bench.run('--rate', 5000, '--packets', 1000, '--seconds', 20, '--drain-ms', 150,
                       *options)
    now = bench.rest.verdicts()
    return result, {name: now[name] - before[name] for name in now if now[name] != before[name]}


@pytest.mark.parametrize(('direction', 'size'), [('inbound', 64), ('outbound', 'imix')])
def test_what_is_sent_arrives_once_and_is_timed(bench, direction, size):
    result, verdicts = judged(bench, '--direction', direction, '--size', size)
    assert result['offered'] == result['sent'] == result['sent_good'] == 1000, result
    assert result['received'] == 1000, (result, verdicts)
    for nothing in ('lost', 'reordered', 'duplicates', 'late', 'leaked', 'damaged'):
        assert result[nothing] == 0, result
    assert verdicts == {'accepted': 1000}
    latency = result['latency_us']
    assert 0 < latency['p50'] <= latency['p99'] <= latency['p99.9'] <= latency['max']
    assert result['sent_pps'] == pytest.approx(5000, rel=0.5)


def test_attacks_are_refused_and_the_packets_between_them_pass(bench):
    result, verdicts = judged(bench, '--forge-icv', 100, '--replay', 100, '--unknown-spi', 100)
    assert min(result[k] for k in ('sent_forged', 'sent_replay', 'sent_unknown_spi')) > 50
    assert result['sent_good'] > 500
    assert result['received'] == result['sent_good'] and result['lost'] == 0, (result, verdicts)
    assert result['leaked'] == result['duplicates'] == 0
    # An unknown SPI costs nothing: XDP drops it before the dataplane sees it.
    assert verdicts == {'accepted': result['sent_good'], 'auth_failed': result['sent_forged'],
                        'replayed': result['sent_replay'],
                        'xdp_unknown_spi': result['sent_unknown_spi']}


def test_a_gate_that_admits_nothing_is_found_out(bench):
    """The twin of 'nothing is lost': without its policy all of it is, and said to be."""
    policy = bench.rest.get('/v1/policy')
    bench.rest.put('/v1/policy', dict(policy, policies=[]))
    try:
        result, verdicts = judged(bench)
    finally:
        bench.rest.put('/v1/policy', policy)
    assert (result['sent_good'], result['received'], result['lost']) == (1000, 0, 1000)
    assert verdicts == {'no_policy': 1000}
    result, verdicts = judged(bench)
    assert result['lost'] == 0 and verdicts == {'accepted': 1000}


def test_a_loop_finds_every_attack(tmp_path):
    """On a loop nobody refuses anything: what a gate would have to stop is all seen and named, so
    that zeros elsewhere are not blindness."""
    lab = tmp_path / 'lab'
    write_lab(lab, '--sas', 5, '--udp-encap')
    result = run(lab, *GATE_MAC, '--forge-icv', 100, '--replay', 100, '--unknown-spi', 100,
                 '--rate', 20000, '--packets', 3000, '--drain-ms', 50, wire_port='net_ring0')
    assert result['received'] == result['sent_good'] > 0
    assert result['duplicates'] == result['sent_replay'] > 0
    assert result['damaged'] == result['sent_forged'] > 0
    assert result['foreign'] == result['sent_unknown_spi'] > 0


@pytest.mark.parametrize('options', [
    ['--algorithm', 'aes-128-gcm-16'],
    ['--algorithm', 'chacha20-poly1305', '--udp-encap'],
    ['--algorithm', 'aes-256-cbc-hmac-sha-256-128', '--no-esn'],
], ids=['gcm', 'chacha-udp', 'cbc'])
def test_scapy_opens_it(tmp_path, options):
    lab, pcap = tmp_path / 'lab', tmp_path / 'out.pcap'
    _, sas = write_lab(lab, '--sas', 2, *options)
    parties = {}
    for sa in sas:
        parties[int(sa['spi'], 16)] = Sa(
            int(sa['spi'], 16), sa['tunnel']['remote'], sa['tunnel']['local'], sa['algorithm'],
            bytes.fromhex(sa['key']), sa['esn'], sa['tunnel'].get('udp_encap', False)).scapy()
    highest = collections.Counter()
    # A second run goes on where the first one stopped.
    for _ in range(2 if len(options) == 2 else 1):
        run(lab, *GATE_MAC, '--rate', 'max', '--packets', 50, '--forge-icv', 200, '--send-only',
            '--drain-ms', 0, wire_port=f'net_pcap0,tx_pcap={pcap}')
        kinds = collections.Counter()
        for frame, _ in RawPcapReader(str(pcap)):
            kind, spi, sequence = opened(frame, parties)
            assert sequence > highest[spi]
            highest[spi] = sequence
            kinds[kind] += 1
        assert kinds[GOOD] + kinds[FORGED] == 50 and kinds[GOOD] > 0 and kinds[FORGED] > 0


def test_several_senders_share_the_packets_and_no_sa(tmp_path):
    """Two senders beside the receiver (here all on one core): each has SAs of its own, and together
    they send what was asked for at the rate that was asked for."""
    lab, captures = tmp_path / 'lab', [tmp_path / 'a.pcap', tmp_path / 'b.pcap']
    write_lab(lab, '--sas', 5)
    ports = ''.join(f',tx_pcap={path}' for path in captures)
    result = run(lab, *GATE_MAC, '--rate', 2000, '--packets', 501, '--send-only', '--drain-ms', 0,
                 wire_port=f'net_pcap0{ports}', core='0,0,0')
    assert result['offered'] == result['sent'] == 501
    assert result['sent_pps'] == pytest.approx(2000, rel=0.5)
    seen = [collections.defaultdict(list) for _ in captures]
    for numbers, path in zip(seen, captures):
        for frame, _ in RawPcapReader(str(path)):
            esp = IP(frame[14:])['ESP']
            numbers[esp.spi].append(esp.seq)
    assert [sum(map(len, numbers.values())) for numbers in seen] == [251, 250]
    assert [len(numbers) for numbers in seen] == [3, 2] and not seen[0].keys() & seen[1].keys()
    for numbers in (*seen[0].values(), *seen[1].values()):
        assert numbers == list(range(1, len(numbers) + 1))


def opened(frame, parties):
    """(kind, SPI, sequence number), by Scapy's IPsec layer; a forgery must not open."""
    packet = IP(frame[14:])
    spi, sequence = packet['ESP'].spi, packet['ESP'].seq
    try:
        inner = parties[spi].decrypt(packet)
    except Exception as error:  # Scapy's IPSecIntegrityError, or InvalidTag from below
        assert type(error).__name__ in ('IPSecIntegrityError', 'InvalidTag'), error
        return FORGED, spi, sequence
    assert len(inner) == 64 and inner.dst == '198.19.0.2' and inner.dport == 8000
    magic, _, _, kind, counter, _ = struct.unpack_from(TAG, bytes(inner)[28:])
    assert magic == MAGIC and counter > 0
    assert kind == GOOD
    return kind, spi, sequence
