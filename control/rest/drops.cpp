// Dropped packets as openapi.yaml describes them.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>
#include <span>

#include "control/rest/observe.hpp"

namespace portcullis::rest {

using nlohmann::json;

namespace {

json DropJson(const steer::Drop& drop) {
  const auto time =
      std::chrono::system_clock::time_point(std::chrono::milliseconds(drop.wall_ms()));
  const std::span bytes(reinterpret_cast<const uint8_t*>(drop.frame().data()), drop.frame().size());
  return {{"time", TimeText(time)},
          {"port", drop.port()},
          {"verdict", drop.verdict()},
          {"length", drop.length()},
          {"frame", fmt::format("{:02x}", fmt::join(bytes, ""))}};
}

}  // namespace

std::string DropsText(const std::vector<steer::Drop>& drops) {
  std::string text;
  for (const steer::Drop& drop : drops) {
    text += fmt::format("event: drop\ndata: {}\n\n", DropJson(drop).dump());
  }
  return text;
}

}  // namespace portcullis::rest
