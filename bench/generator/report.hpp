// What a run was, as a table for people and JSON for programs.
#pragma once

#include "bench/generator/receiver.hpp"
#include "bench/generator/sender.hpp"

namespace portcullis::generator {

/// Prints the table, unless --json is "-", and writes the JSON where the options say.
void Report(const Options& options, const Sent& sent, const Received& received, double tsc_hz);

}  // namespace portcullis::generator
