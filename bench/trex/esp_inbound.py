"""TRex STL profile: ESP towards the gate's untrusted port, out of a capture that
portcullis-generator has written (TRex cannot seal packets itself):

    portcullis-generator --config lab/generator.conf --small-pages --rate max --packets 500 \\
        --send-only --drain-ms 0 --gate-wire-mac 02:00:00:00:00:01 \\
        --wire-port net_pcap0,tx_pcap=esp.pcap
    trex> start -f esp_inbound.py -p 0 --force -t --pcap esp.pcap --ipg-usec 1 --loops 1

A sequence number passes the replay window once. So either each packet is played once (--loops 1,
a capture per trial), or, for a steady load, the laboratory's SAs are installed with
"replay_window": 0 and the capture is played for ever (--loops 0): that measures a gate without its
window, and has to be said beside the figure.
"""

import argparse

from trex_stl_lib.api import STLProfile


class EspInbound:
    def get_streams(self, tunables, **_):
        parser = argparse.ArgumentParser(prog='esp_inbound')
        parser.add_argument('--pcap', required=True)
        parser.add_argument('--ipg-usec', type=float, default=1.0, help='between two packets')
        parser.add_argument('--loops', type=int, default=1, help='0: for ever')
        options = parser.parse_args(tunables)
        # One stream a packet, each starting the next: some hundreds of packets, not millions.
        return STLProfile.load_pcap(options.pcap, ipg_usec=options.ipg_usec,
                                    loop_count=options.loops).get_streams()


def register():
    return EspInbound()
