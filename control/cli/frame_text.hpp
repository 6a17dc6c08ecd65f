// The beginning of a frame in one line for people, as far as it was captured.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace portcullis::cli {

/// "192.0.2.7 > 198.51.100.1 esp 0xdead0001", "192.0.2.7:40000 > 10.2.0.10:8080 tcp", "[cut
/// short]".
std::string FrameText(std::span<const uint8_t> frame);

}  // namespace portcullis::cli
