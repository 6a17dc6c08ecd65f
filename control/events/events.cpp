#include "control/events/events.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <charconv>
#include <ctime>
#include <nlohmann/json.hpp>
#include <random>

namespace portcullis {

Events::Events() : run_(fmt::format("{:08x}", std::random_device{}())) {}

void Events::Publish(Event event) {
  event.number = ++last_;
  spdlog::info("event {} {}{}{}{}: {}", event.source, event.kind,
               event.operator_name.empty() ? "" : " by " + event.operator_name,
               event.peer.empty() ? "" : " peer " + event.peer,
               event.sa.empty() ? "" : " sa " + event.sa, event.text);
  kept_.push_back(std::move(event));
  if (kept_.size() > kKept) kept_.pop_front();
  for (const auto& wake : wakes_) wake();
}

void Events::Tell(std::string kind, std::string text, std::string operator_name, std::string peer,
                  std::string sa) {
  Publish({0, std::chrono::system_clock::now(), "control", std::move(kind), std::move(peer),
           std::move(sa), std::move(operator_name), std::move(text)});
}

std::vector<const Event*> Events::After(uint64_t number) const {
  std::vector<const Event*> out;
  for (const auto& event : kept_) {
    if (event.number > number) out.push_back(&event);
  }
  return out;
}

std::string Events::IdOf(const Event& event) const {
  return fmt::format("{}-{}", run_, event.number);
}

uint64_t Events::NumberOf(const std::string& id) const {
  uint64_t number = 0;
  if (id.size() <= run_.size() + 1 || !id.starts_with(run_ + "-")) return 0;
  const char* end = id.data() + id.size();
  const auto [stop, failed] = std::from_chars(id.data() + run_.size() + 1, end, number);
  return failed == std::errc() && stop == end ? number : 0;
}

nlohmann::json Events::ToJson(const Event& event) const {
  nlohmann::json out = {{"id", IdOf(event)},
                        {"time", TimeText(event.time)},
                        {"source", event.source},
                        {"kind", event.kind},
                        {"text", event.text}};
  if (!event.peer.empty()) out["peer"] = event.peer;
  if (!event.sa.empty()) out["sa"] = event.sa;
  if (!event.operator_name.empty()) out["operator"] = event.operator_name;
  return out;
}

Events::Subscription::Subscription(Events& events, std::function<void()> wake)
    : events_(events), at_(events.wakes_.insert(events.wakes_.end(), std::move(wake))) {}

Events::Subscription::~Subscription() {
  events_.wakes_.erase(at_);
}

std::string TimeText(std::chrono::system_clock::time_point time) {
  const auto ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
  const auto seconds = static_cast<std::time_t>(ms / 1000);
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", utc.tm_year + 1900,
                     utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, ms % 1000);
}

}  // namespace portcullis
