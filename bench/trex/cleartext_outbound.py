"""TRex STL profile: cleartext towards the gate's trusted port, which seals it. Addresses and ports
are those of `portcullis-generator --write-lab lab --sas SAS --flows FLOWS`.

    trex> start -f cleartext_outbound.py -p 1 -m 1mpps -d 60 \\
            -t --gate-mac 02:00:00:00:00:02 --size 64 --sas 100

Sequence numbers are the gate's here, so the packets may repeat. TRex counts what comes back on port
0 but cannot open it: that it is right is for portcullis-generator to say.
"""

import argparse
import ipaddress

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from trex_stl_lib.api import (STLPktBuilder, STLScVmRaw, STLStream, STLTXCont, STLVmFixIpv4,
                              STLVmFlowVar, STLVmWrFlowVar)


class CleartextOutbound:
    def get_streams(self, tunables, **_):
        parser = argparse.ArgumentParser(prog='cleartext_outbound')
        parser.add_argument('--gate-mac', required=True, help='of its trusted port')
        parser.add_argument('--size', type=int, default=64, help='of the IP packet, 28 at least')
        parser.add_argument('--sas', type=int, default=1)
        parser.add_argument('--flows', type=int, default=1)
        parser.add_argument('--server', default='198.19.0.2')
        parser.add_argument('--clients', default='10.64.0.1', help='of the first SA')
        parser.add_argument('--service-port', type=int, default=8000)
        options = parser.parse_args(tunables)

        # UDP checksum 0: optional over IPv4, and the source port varies.
        headers = (Ether(dst=options.gate_mac) / IP(src=options.server, dst=options.clients) /
                   UDP(sport=options.service_port, dport=40000, chksum=0))
        packet = headers / bytes(options.size - 28)
        first = int(ipaddress.IPv4Address(options.clients))
        vary = STLScVmRaw([
            STLVmFlowVar('client', min_value=first, max_value=first + options.sas - 1, size=4,
                         op='random'),
            STLVmWrFlowVar('client', pkt_offset='IP.dst'),
            STLVmFlowVar('service', min_value=options.service_port,
                         max_value=options.service_port + options.flows - 1, size=2, op='random'),
            STLVmWrFlowVar('service', pkt_offset='UDP.sport'),
            STLVmFixIpv4(offset='IP'),
        ])
        return [STLStream(packet=STLPktBuilder(pkt=packet, vm=vary), mode=STLTXCont(pps=1000))]


def register():
    return CleartextOutbound()
