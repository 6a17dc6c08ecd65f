-- Pktgen-DPDK: cleartext towards the gate's trusted port (port 1 here), which seals it; port 0 counts
-- what comes out on the wire. Addresses are those of portcullis-generator --write-lab.
--
--   GATE_MAC=02:00:00:00:00:02 SAS=100 pktgen -l 1-3 -- -P -m "2.0,3.1" -f cleartext_outbound.lua
package.path = package.path .. ";?.lua;../?.lua"
require "Pktgen"

local sas = tonumber(os.getenv("SAS") or "1")      -- at most 255 here: the last byte varies
local size = tonumber(os.getenv("SIZE") or "82")   -- of the frame with FCS: 18 + 64 inner
local rate = tonumber(os.getenv("RATE") or "1")    -- per cent of the line
local seconds = tonumber(os.getenv("SECONDS") or "10")
local port = "1"

pktgen.clear("all")
pktgen.range.dst_mac(port, "start", os.getenv("GATE_MAC") or "02:00:00:00:00:02")
local function fixed(field, value, step)
  field(port, "start", value)
  field(port, "min", value)
  field(port, "max", value)
  field(port, "inc", step)
end
fixed(pktgen.range.src_ip, "198.19.0.2", "0.0.0.0")
pktgen.range.dst_ip(port, "start", "10.64.0.1")
pktgen.range.dst_ip(port, "min", "10.64.0.1")
pktgen.range.dst_ip(port, "max", "10.64.0." .. math.min(sas, 255))
pktgen.range.dst_ip(port, "inc", sas > 1 and "0.0.0.1" or "0.0.0.0")
fixed(pktgen.range.src_port, 8000, 0)
fixed(pktgen.range.dst_port, 40000, 0)
fixed(pktgen.range.pkt_size, size, 0)
pktgen.range.ip_proto(port, "udp")
pktgen.set_range(port, "on")
pktgen.set(port, "rate", rate)

pktgen.start(port)
pktgen.delay(seconds * 1000)
pktgen.stop(port)
pktgen.delay(2000) -- RFC 2544 23: residual frames

local sent = pktgen.portStats("1", "port")[1].opackets
local received = pktgen.portStats("0", "port")[0].ipackets
printf("sent %d, received %d, lost %d\n", sent, received, sent - received)
pktgen.quit()
