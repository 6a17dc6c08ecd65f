-- Pktgen-DPDK: ESP towards the gate's untrusted port, out of a capture that portcullis-generator has
-- written (--wire-port net_pcap0,tx_pcap=esp.pcap --send-only; docs/benchmarking.md). Port 0 faces
-- the wire, port 1 the trusted side:
--
--   pktgen -l 1-3 -- -P -m "2.0,3.1" -s 0:esp.pcap -f esp_inbound.lua
--
-- A sequence number passes the replay window once, so `count` must not exceed the packets of the
-- capture, unless the laboratory's SAs have "replay_window": 0, which has to be said beside the figure.
package.path = package.path .. ";?.lua;../?.lua"
require "Pktgen"

local count = tonumber(os.getenv("COUNT") or "10000") -- packets of the capture
local rate = tonumber(os.getenv("RATE") or "1")       -- per cent of the line
local longest = 60                                    -- seconds; it ends by itself

pktgen.clear("all")
pktgen.pcap("0", "on")
pktgen.set("0", "count", count)
pktgen.set("0", "rate", rate)
pktgen.start("0")
for _ = 1, longest do
  pktgen.delay(1000)
  if pktgen.portStats("0", "port")[0].opackets >= count then break end
end
pktgen.stop("0")
pktgen.delay(2000) -- RFC 2544 23: residual frames

local sent = pktgen.portStats("0", "port")[0].opackets
local received = pktgen.portStats("1", "port")[1].ipackets
printf("sent %d, received %d, lost %d\n", sent, received, sent - received)
pktgen.quit()
