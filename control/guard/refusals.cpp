#include "control/guard/refusals.hpp"

#include <fmt/format.h>
#include <openssl/rand.h>
#include <spdlog/spdlog.h>

#include <array>
#include <new>
#include <utility>

#include "control/guard/session/address.hpp"
#include "control/guard/session/messages.hpp"
#include "dataplane/steer/messages.hpp"

namespace portcullis::guard {

namespace {

constexpr unsigned kMostPerSecond = 50;

std::string NewReference() {
  std::array<uint8_t, 8> random{};
  if (RAND_bytes(random.data(), random.size()) != 1) throw std::bad_alloc();
  return fmt::format("{:02x}", fmt::join(random, ""));
}

}  // namespace

bool Refusals::MaySay() {
  const auto now = std::chrono::steady_clock::now();
  if (now - second_ >= std::chrono::seconds(1)) {
    if (unsaid_ > 0) spdlog::warn("{} refusals were counted and not logged", unsaid_);
    second_ = now;
    said_ = unsaid_ = 0;
  }
  if (said_ < kMostPerSecond) {
    ++said_;
    return true;
  }
  ++unsaid_;
  return false;
}

std::string Refusals::Note(const identity::Refusal& refusal, const About& about) {
  counters_.Count(refusal.reason);
  return NoteCounted(refusal, about);
}

std::string Refusals::NoteCounted(const identity::Refusal& refusal, const About& about) {
  std::string reference = NewReference();
  if (!MaySay()) return reference;
  const Address source = ToAddress(about.from.address());
  spdlog::info("refused {} ({}): {}", source.Text(), reference, refusal.Text());
  if (about.control_knows) return reference;
  admission::Request request;
  admission::Refused& refused = *request.mutable_refused();
  refused.mutable_refusal()->set_reason(std::string(identity::Info(refusal.reason).name));
  refused.mutable_refusal()->set_detail(fmt::format(
      "reference {}{}{}", reference, refusal.detail.empty() ? "" : ": ", refusal.detail));
  refused.set_source(steer::ToBytes(source));
  refused.set_interface(about.interface);
  control_.Tell(std::move(request));
  return reference;
}

}  // namespace portcullis::guard
