#include "control/peer/offer.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "control/identity/token/encoding.hpp"
#include "control/model/fields.hpp"

namespace portcullis::peer {

using guard::SessionSelector;
using model::Fields;
using nlohmann::json;

namespace {

constexpr uint32_t kLeastSpi = 256;  // RFC 4303 2.1
constexpr uint32_t kLeastWindow = 64;
constexpr uint32_t kMostWindow = 8192;
constexpr uint64_t kLongestLife = 7UL * 86400;
constexpr size_t kLongestText = 255;
constexpr size_t kLongestId = 64;
constexpr size_t kMostSelectors = 1024;

// It becomes part of a URL and of names in the dataplane.
bool IsId(std::string_view text) {
  return !text.empty() && text.size() <= kLongestId && std::ranges::all_of(text, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  });
}

bool PrefixWithin(const std::optional<Prefix>& inner, const std::optional<Prefix>& outer) {
  if (!outer) return true;
  return inner && outer->IsV4() == inner->IsV4() && outer->Contains(*inner);
}

bool PortsWithin(const SessionSelector::Ports& inner, const SessionSelector::Ports& outer) {
  return inner.first >= outer.first && inner.last <= outer.last;
}

SessionSelector::Ports ReadPorts(Fields& fields, const char* name) {
  const json* value = fields.Find(name, Fields::Presence::required);
  if (value == nullptr) return {};
  if (value->is_array() && value->size() == 2) {
    const auto first = model::AsUnsigned((*value)[0]);
    const auto last = model::AsUnsigned((*value)[1]);
    if (first && last && *first <= *last && *last <= UINT16_MAX) {
      return {static_cast<uint16_t>(*first), static_cast<uint16_t>(*last)};
    }
  }
  fields.Refuse(name, "not a range of ports", "[first, last]", model::Describe(*value));
  return {};
}

std::optional<Prefix> ReadPrefix(Fields& fields, const char* name) {
  const json* value = fields.Find(name, Fields::Presence::required);
  if (value == nullptr || value->is_null()) return {};  // null: any
  return fields.Net(name);
}

SessionSelector ReadSelector(const json& value, const std::string& where,
                             std::optional<Error>& error) {
  Fields fields(value, where, error);
  SessionSelector selector;
  selector.behind_gate = ReadPrefix(fields, "gate");
  selector.behind_peer = ReadPrefix(fields, "peer");
  selector.protocol = static_cast<uint8_t>(fields.Number("protocol", 0, UINT8_MAX));
  selector.gate_ports = ReadPorts(fields, "gate_ports");
  selector.peer_ports = ReadPorts(fields, "peer_ports");
  return selector;
}

// The first of its rules that the offer breaks.
class Rules {
 public:
  void Check(bool good, const char* where, const char* message, std::string expected,
             std::string found) {
    if (good || broken_) return;
    broken_ = Error{ErrorKind::kForbidden, std::string("the gate's offer is refused: ") + message,
                    where, std::move(expected), std::move(found)};
  }
  [[nodiscard]] const std::optional<Error>& broken() const { return broken_; }

 private:
  std::optional<Error> broken_;
};

std::optional<Error> Judge(const guard::KeyContext& agreed, std::string_view algorithm,
                           const Asked& asked) {
  Rules rules;
  rules.Check(agreed.gate_identity == asked.gate_identity, "/gate_identity", "it is another gate's",
              asked.gate_identity, agreed.gate_identity);
  rules.Check(agreed.peer_identity == asked.peer_identity, "/peer_identity",
              "it is for another peer", asked.peer_identity, agreed.peer_identity);
  rules.Check(agreed.interface == asked.interface, "/interface", "it is for another interface",
              asked.interface, agreed.interface);
  rules.Check(IsId(agreed.session_id), "/session", "this cannot be a session's id",
              "1 to 64 of a-z, A-Z, 0-9, '.', '_', '-'", model::Describe(agreed.session_id));
  rules.Check(asked.session.empty() || agreed.session_id == asked.session, "/session",
              "it is another session than the one to be renewed", asked.session,
              model::Describe(agreed.session_id));
  rules.Check(
      agreed.generation > asked.last_generation, "/generation", "a renewal's generation must grow",
      fmt::format("more than {}", asked.last_generation), std::to_string(agreed.generation));
  rules.Check(std::ranges::any_of(asked.algorithms,
                                  [&](Algorithm one) { return Info(one).name == algorithm; }),
              "/algorithm", "an algorithm that this peer did not offer", "one that it did",
              std::string(algorithm));
  rules.Check(agreed.esn, "/esn", "without extended sequence numbers", "true", "false");
  rules.Check(!agreed.selectors.empty(), "/selectors", "it carries nothing", "at least one",
              "none");
  for (size_t i = 0; i < agreed.selectors.size(); ++i) {
    const auto& selector = agreed.selectors[i];
    rules.Check(std::ranges::any_of(asked.selectors,
                                    [&](const auto& outer) { return Within(selector, outer); }),
                "/selectors", "it carries more than this peer is configured for",
                "selectors that lie within those of the configuration", Describe(selector));
  }
  return rules.broken();
}

}  // namespace

bool Within(const SessionSelector& inner, const SessionSelector& outer) {
  return PrefixWithin(inner.behind_gate, outer.behind_gate) &&
         PrefixWithin(inner.behind_peer, outer.behind_peer) &&
         (outer.protocol == 0 || inner.protocol == outer.protocol) &&
         PortsWithin(inner.gate_ports, outer.gate_ports) &&
         PortsWithin(inner.peer_ports, outer.peer_ports);
}

std::string Describe(const SessionSelector& s) {
  const auto prefix = [](const auto& p) { return p ? p->Text() : std::string("any"); };
  return fmt::format("{} protocol {} [{}, {}] - {} [{}, {}]", prefix(s.behind_gate), s.protocol,
                     s.gate_ports.first, s.gate_ports.last, prefix(s.behind_peer),
                     s.peer_ports.first, s.peer_ports.last);
}

std::string RequestText(const Asked& asked, const RequestOptions& options) {
  json algorithms = json::array();
  for (const Algorithm one : asked.algorithms) algorithms.push_back(Info(one).name);
  json body = {{"interface", asked.interface},
               {"spi", Value(asked.to_peer)},
               {"algorithms", std::move(algorithms)},
               {"nonce", identity::EncodeBase64Url(asked.nonce)}};
  if (!asked.session.empty()) body["session"] = asked.session;
  if (options.initial_contact) body["initial_contact"] = true;
  if (options.udp_encap) body["udp_encap"] = true;
  if (!options.outer_peer.empty()) body["outer"]["peer"] = options.outer_peer;
  if (!options.outer_gate.empty()) body["outer"]["gate"] = options.outer_gate;
  return body.dump();
}

// Members that nobody knows here are no harm: what counts for the keys is all in the context.
Result<Offer> ReadOffer(std::string_view body, const Asked& asked) {
  const auto value = model::ParseJson(body);
  if (!value) return tl::unexpected(value.error());
  std::optional<Error> error;
  Fields fields(*value, "", error);
  Offer offer;
  guard::KeyContext& agreed = offer.agreed;
  agreed.session_id = fields.Text("session", kLongestText);
  agreed.generation = fields.Number("generation", 1, UINT64_MAX);
  agreed.interface = fields.Text("interface", kLongestText);
  agreed.to_gate = Spi{static_cast<uint32_t>(fields.Number("spi", kLeastSpi, UINT32_MAX))};
  const std::string algorithm = fields.Text("algorithm", kLongestText);
  agreed.esn = fields.Flag("esn", false);
  offer.replay_window =
      static_cast<uint32_t>(fields.Number("replay_window", kLeastWindow, kMostWindow));
  offer.life = std::chrono::seconds(fields.Number("expires_in", 1, kLongestLife));
  agreed.gate_identity = fields.Text("gate_identity", kLongestText);
  agreed.peer_identity = fields.Text("peer_identity", kLongestText);
  const auto nonce = identity::DecodeBase64Url(fields.Text("nonce", kLongestId));
  if (nonce && nonce->size() == agreed.gate_nonce.size()) {
    std::ranges::copy(*nonce, agreed.gate_nonce.begin());
  } else {
    fields.Refuse("nonce", "not a nonce", "32 bytes in base64url", "something else");
  }
  fields.Each("selectors", Fields::Presence::required,
              [&](const json& one, const std::string& where) {
                if (agreed.selectors.size() < kMostSelectors) {
                  agreed.selectors.push_back(ReadSelector(one, where, error));
                } else {
                  fields.Refuse("selectors", "too many", std::to_string(kMostSelectors), "more");
                }
              });
  if (error) return tl::unexpected(*error);
  agreed.to_peer = asked.to_peer;
  agreed.peer_nonce = asked.nonce;
  if (auto broken = Judge(agreed, algorithm, asked)) return tl::unexpected(*std::move(broken));
  agreed.algorithm = *std::ranges::find_if(
      asked.algorithms, [&](Algorithm one) { return Info(one).name == algorithm; });
  return offer;
}

}  // namespace portcullis::peer
