#include "control/guard/refusals.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <utility>

#include "control/admission/reference.hpp"
#include "control/guard/session/address.hpp"
#include "control/guard/session/messages.hpp"
#include "dataplane/steer/messages.hpp"

namespace portcullis::guard {

namespace {
constexpr unsigned kMostPerSecond = 50;

// A detail quotes what strangers wrote: it must end no line of the log and break no message.
std::string Printable(const std::string& text) {
  constexpr size_t kLongest = 512;
  std::string printable = text.substr(0, kLongest);
  for (char& c : printable) c = c >= ' ' && c <= '~' ? c : '?';
  return printable;
}
}  // namespace

bool Refusals::MaySay(Share& share) {
  const auto now = std::chrono::steady_clock::now();
  if (now - share.second >= std::chrono::seconds(1)) {
    if (share.unsaid > 0) spdlog::warn("{} refusals were counted and not logged", share.unsaid);
    share.second = now;
    share.said = share.unsaid = 0;
  }
  if (share.said < kMostPerSecond) {
    ++share.said;
    return true;
  }
  ++share.unsaid;
  return false;
}

std::string Refusals::Note(const identity::Refusal& refusal, const About& about) {
  counters_.Count(refusal.reason);
  return NoteCounted(refusal, about);
}

std::string Refusals::NoteCounted(const identity::Refusal& refusal, const About& about) {
  const bool control_knows = !about.reference.empty();
  std::string reference = control_knows ? about.reference : admission::NewReference();
  if (!MaySay(about.identity ? peers_ : strangers_)) return reference;
  const Address source = ToAddress(about.from.address());
  spdlog::info("refused {} ({}): {}", source.Text(), reference, Printable(refusal.Text()));
  if (control_knows) return reference;
  admission::Request request;
  admission::Refused& refused = *request.mutable_refused();
  refused.mutable_refusal()->set_reason(std::string(identity::Info(refusal.reason).name));
  refused.mutable_refusal()->set_detail(Printable(refusal.detail));
  refused.mutable_refusal()->set_reference(reference);
  refused.set_source(steer::ToBytes(source));
  refused.set_interface(about.interface);
  if (about.identity) *refused.mutable_identity() = *about.identity;
  control_.Tell(std::move(request));
  return reference;
}

}  // namespace portcullis::guard
