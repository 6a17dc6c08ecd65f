#include "control/guard/session/messages.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "control/identity/token/encoding.hpp"
#include "control/model/fields.hpp"
#include "dataplane/steer/messages.hpp"

namespace portcullis::guard {

using identity::Reason;
using model::Fields;
using nlohmann::json;
using Presence = Fields::Presence;

namespace {

constexpr size_t kLongestSession = 64;
constexpr size_t kLongestNonce = 64;
constexpr uint32_t kLeastSpi = 256;  // RFC 4303 2.1: 1 to 255 are reserved

constexpr std::array<std::pair<Algorithm, admission::Algorithm>, 3> kOffered = {
    {{Algorithm::aes_128_gcm_16, admission::AES_128_GCM_16},
     {Algorithm::aes_256_gcm_16, admission::AES_256_GCM_16},
     {Algorithm::chacha20_poly1305, admission::CHACHA20_POLY1305}}};

std::vector<Algorithm> ReadAlgorithms(Fields& fields, std::optional<Error>& error) {
  std::vector<Algorithm> out;
  const auto refuse = [&](const std::string& where, std::string message, const json& found) {
    std::string all;
    for (const auto& [one, _] : kOffered) {
      all += (all.empty() ? "" : ", ") + std::string(Info(one).name);
    }
    error = Error{ErrorKind::kInvalid, std::move(message), where, "of " + all + " each once",
                  model::Describe(found)};
  };
  fields.Each("algorithms", Presence::required, [&](const json& one, const std::string& where) {
    const auto known = std::find_if(kOffered.begin(), kOffered.end(),
                                    [&](const auto& pair) { return one == Info(pair.first).name; });
    if (known == kOffered.end()) return refuse(where, "not an algorithm", one);
    if (std::find(out.begin(), out.end(), known->first) != out.end()) {
      return refuse(where, "the same algorithm twice", one);
    }
    out.push_back(known->first);
  });
  return out;
}

std::array<uint8_t, kNonceBytes> ReadNonce(Fields& fields) {
  std::array<uint8_t, kNonceBytes> out{};
  const std::string text = fields.Text("nonce", kLongestNonce);
  const auto bytes = identity::DecodeBase64Url(text);
  if (bytes && bytes->size() == out.size()) {
    std::copy(bytes->begin(), bytes->end(), out.begin());
  } else {
    fields.Refuse("nonce", "not a nonce", fmt::format("{} bytes in base64url", kNonceBytes),
                  fmt::format("{} characters", text.size()));
  }
  return out;
}

json PortsOf(const SessionSelector::Ports& ports) {
  return json::array({ports.first, ports.last});
}

// As in the vectors of docs/session-keys.md.
json ToJson(const SessionSelector& s) {
  const auto prefix = [](const auto& p) { return p ? json(p->Text()) : json(); };
  return {{"gate", prefix(s.behind_gate)},
          {"peer", prefix(s.behind_peer)},
          {"protocol", s.protocol},
          {"gate_ports", PortsOf(s.gate_ports)},
          {"peer_ports", PortsOf(s.peer_ports)}};
}

std::optional<Prefix> PrefixOf(const admission::Prefix& message) {
  constexpr unsigned kMapped = 96;
  constexpr unsigned kMost = 128;
  const auto address = steer::FromBytes(message.address());
  if (!address || message.length() > kMost) return {};
  const unsigned length = message.length() + (message.address().size() == 4 ? kMapped : 0);
  if (length > kMost) return {};
  return Prefix(*address, length);
}

std::optional<SessionSelector::Ports> PortsOf(const admission::Ports& message) {
  if (message.first() > message.last() || message.last() > UINT16_MAX) return {};
  return SessionSelector::Ports{static_cast<uint16_t>(message.first()),
                                static_cast<uint16_t>(message.last())};
}

std::optional<SessionSelector> SelectorOf(const admission::Selector& message) {
  SessionSelector out;
  if (message.protocol() > UINT8_MAX) return {};
  out.protocol = static_cast<uint8_t>(message.protocol());
  if (message.has_gate() && !(out.behind_gate = PrefixOf(message.gate()))) return {};
  if (message.has_peer() && !(out.behind_peer = PrefixOf(message.peer()))) return {};
  const auto read = [](bool given, const admission::Ports& from, SessionSelector::Ports& to) {
    if (!given) return true;
    const auto ports = PortsOf(from);
    if (ports) to = *ports;
    return ports.has_value();
  };
  if (!read(message.has_gate_ports(), message.gate_ports(), out.gate_ports) ||
      !read(message.has_peer_ports(), message.peer_ports(), out.peer_ports)) {
    return {};
  }
  return out;
}

}  // namespace

Result<SessionRequest> ParseSessionRequest(std::string_view body) {
  const auto value = model::ParseJson(body);
  if (!value) return tl::unexpected(value.error());
  std::optional<Error> error;
  Fields fields(*value, "", error);
  SessionRequest request;
  request.interface = fields.Name("interface");
  request.session = fields.Text("session", kLongestSession, Presence::optional);
  request.initial_contact = fields.Flag("initial_contact", false);
  request.spi = Spi{static_cast<uint32_t>(fields.Number("spi", kLeastSpi, UINT32_MAX))};
  request.algorithms = ReadAlgorithms(fields, error);
  request.nonce = ReadNonce(fields);
  request.udp_encap = fields.Flag("udp_encap", false);
  if (const json* outer = fields.Object("outer", Presence::optional); outer != nullptr) {
    Fields inner(*outer, "/outer", error);
    request.outer_peer = inner.Ip("peer", Presence::optional);
    request.outer_gate = inner.Ip("gate", Presence::optional);
    inner.RefuseOthers();
  }
  fields.RefuseOthers();
  if (error) return tl::unexpected(*error);
  return request;
}

std::string AnswerText(const KeyContext& agreed, uint32_t replay_window,
                       std::chrono::seconds expires_in) {
  json selectors = json::array();
  for (const auto& selector : agreed.selectors) selectors.push_back(ToJson(selector));
  return json({{"session", agreed.session_id},
               {"generation", agreed.generation},
               {"interface", agreed.interface},
               {"spi", Value(agreed.to_gate)},
               {"algorithm", Info(agreed.algorithm).name},
               {"esn", agreed.esn},
               {"replay_window", replay_window},
               {"selectors", std::move(selectors)},
               {"expires_in", expires_in.count()},
               {"nonce", identity::EncodeBase64Url(agreed.gate_nonce)},
               {"gate_identity", agreed.gate_identity},
               {"peer_identity", agreed.peer_identity}})
             .dump() +
         "\n";
}

const ProblemClass& ClassOf(Reason reason) {
  switch (reason) {
    case Reason::token_missing:
    case Reason::token_malformed:
    case Reason::token_issuer_unknown:
    case Reason::token_key_unknown:
    case Reason::token_sig_fail:
    case Reason::token_expired:
    case Reason::token_not_yet_valid:
    case Reason::token_aud_fail:
    case Reason::token_claims_fail:
    case Reason::token_binding_fail:
    case Reason::token_client_fail:
    case Reason::token_revoked:
    case Reason::token_replay:
    case Reason::token_used:
    case Reason::dpop_fail:
    case Reason::dpop_nonce_fail:
      return kInvalidToken;
    case Reason::token_scope_fail:
      return kInsufficientScope;
    case Reason::request_malformed:
      return kMalformed;
    case Reason::request_unlisted:
      return kNotFound;
    case Reason::quota_exceeded:
      return kTooMany;
    case Reason::approval_needed:
      return kApprovalNeeded;
    case Reason::server_unavailable:
      return kBadGateway;
    case Reason::session_conflict:
      return kConflict;
    case Reason::gate_unavailable:
      return kUnavailable;
    default:
      return kDenied;
  }
}

std::string ProblemText(const ProblemClass& kind, const std::string& reference, const Error* error,
                        const std::string& held) {
  json body = {{"type", std::string("urn:portcullis:problem:guard:") + kind.slug},
               {"title", kind.title},
               {"status", kind.status},
               {"reference", reference}};
  if (!held.empty()) body["held"] = held;
  if (error != nullptr) {
    body["detail"] = error->Text();
    for (const auto& [name, value] : {std::pair{"field", &error->where},
                                      {"expected", &error->expected},
                                      {"found", &error->found}}) {
      if (!value->empty()) body[name] = *value;
    }
  }
  // What a peer wrote may not be UTF-8; an answer always is.
  return body.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

admission::Algorithm ToMessage(Algorithm algorithm) {
  for (const auto& [ours, theirs] : kOffered) {
    if (ours == algorithm) return theirs;
  }
  return admission::ALGORITHM_UNSPECIFIED;
}

Result<void> Take(const admission::Admitted& admitted, const SessionRequest& asked,
                  KeyContext& context) {
  const auto senseless = [](const char* what) {
    return Fail(ErrorKind::kInternal, fmt::format("control's answer makes no sense: {}", what));
  };
  if (admitted.session().empty() || admitted.generation() == 0) return senseless("no session");
  if (!asked.session.empty() && admitted.session() != asked.session) {
    return senseless("another session than the one to be renewed");
  }
  if (admitted.gate_spi() < kLeastSpi) return senseless("a reserved SPI");
  const auto chosen =
      std::find_if(asked.algorithms.begin(), asked.algorithms.end(),
                   [&](Algorithm one) { return ToMessage(one) == admitted.algorithm(); });
  if (chosen == asked.algorithms.end()) return senseless("an algorithm that was not offered");
  context.selectors.clear();
  for (const auto& message : admitted.selectors()) {
    const auto selector = SelectorOf(message);
    if (!selector) return senseless("a selector");
    context.selectors.push_back(*selector);
  }
  context.session_id = admitted.session();
  context.generation = admitted.generation();
  context.to_gate = Spi{admitted.gate_spi()};
  context.algorithm = *chosen;
  context.esn = admitted.esn();
  return {};
}

}  // namespace portcullis::guard
