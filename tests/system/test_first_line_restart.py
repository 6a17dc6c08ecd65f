"""The first line stays in force while either process is dead, and when it comes back without its
policy: what XDP holds outlives both."""

from flow import Flow, check_everything
from test_first_line import STRANGER, pings, wire
from tunnel import PEER, Tunnel


def test_it_stays_in_force_whoever_dies(tmp_path):
    with Tunnel(tmp_path) as tunnel:
        tunnel.peer.address('wire0', f'{STRANGER}/32')
        assert tunnel.passes(), tunnel.dataplane.log_tail()
        assert pings(tunnel, STRANGER)
        tunnel.rest.put('/v1/first-line', {'deny': [f'{STRANGER}/32']})

        def holds():
            return not pings(tunnel, STRANGER) and pings(tunnel, PEER)
        assert holds()
        with Flow(tunnel) as flow:
            assert flow.resumes()
            tunnel.control.kill()
            assert holds() and flow.runs()
            tunnel.dataplane.kill()
            assert holds()
            tunnel.dataplane.start()  # nobody has told it a policy yet
            assert holds()
            tunnel.control.start()
            tunnel.rest.close()
            assert holds()
        check_everything(tunnel, flow)
        # Control had been killed, too: the keys are gone. New ones, and a restart of the dataplane
        # alone: control brings SAs and SPIs back.
        tunnel.inbound, tunnel.outbound = tunnel.new_pair(0x5001)
        tunnel.install_pair()
        assert tunnel.passes(), tunnel.dataplane.log_tail()
        with Flow(tunnel) as flow:
            tunnel.dataplane.kill()
            assert holds()
            tunnel.dataplane.start()
            assert flow.resumes(), tunnel.dataplane.log_tail()
        assert holds()
        port = wire(tunnel)
        assert port['xdp']['generation'] == tunnel.rest.get('/v1/status')['policy']['generation']
        assert port['xdp']['verdicts']['xdp_source_denied'] > 0
        tunnel.rest.delete('/v1/first-line')
        assert pings(tunnel, STRANGER)
