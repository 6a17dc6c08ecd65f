// The same readings for the tools that DPDK users have (dpdk-telemetry.py, collectd, telegraf):
// /portcullis/counters, /portcullis/peers, /portcullis/sas and /portcullis/sa,<id>.
#pragma once

#include "base/result.hpp"

namespace portcullis {

class Supervisor;

/// Registers the commands. They are answered on telemetry's own thread, so it asks the main thread
/// for nothing: worker counters are read where they are, lists of SAs under a copy that
/// RefreshTelemetry() makes.
Result<void> StartTelemetry(const Supervisor& supervisor);
/// On the main thread, once a second.
void RefreshTelemetry(const Supervisor& supervisor);

}  // namespace portcullis
