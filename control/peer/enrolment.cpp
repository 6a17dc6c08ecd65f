#include "control/peer/enrolment.hpp"

#include <openssl/rand.h>

#include <new>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/secret.hpp"
#include "control/model/fields.hpp"

namespace portcullis::peer {

namespace asio = boost::asio;

namespace {

constexpr std::chrono::seconds kConnectionTime{10};
constexpr std::chrono::seconds kFarewellTime{5};  // a host that goes down does not wait for long
constexpr const char* kSessions = "/session/v1/sessions";
constexpr unsigned kCreated = 201;
constexpr unsigned kNoContent = 204;
constexpr unsigned kUnauthorized = 401;
constexpr unsigned kConflict = 409;
constexpr unsigned kServerErrors = 500;

tl::unexpected<Failure> Failed(Error error) {
  return tl::unexpected(Failure{std::move(error), {}});
}

}  // namespace

// A gate tells no more than the class of a refusal and a reference into its log (RFC 9457).
Error Enrolment::RefusalOf(const Reply& reply) const {
  const auto problem = model::ParseJson(reply.body);
  const auto text_of = [&](const char* name) {
    if (!problem || !problem->is_object()) return std::string();
    const auto at = problem->find(name);
    return at == problem->end() ? std::string() : model::Describe(*at);
  };
  std::string text = fmt::format("the gate refuses with status {}", reply.status);
  for (const char* member : {"type", "title", "reference", "detail"}) {
    if (const auto said = text_of(member); !said.empty()) {
      text += fmt::format(", {} {}", member, said);
    }
  }
  const ErrorKind kind = reply.status == kConflict       ? ErrorKind::kConflict
                         : reply.status >= kServerErrors ? ErrorKind::kUnavailable
                                                         : ErrorKind::kForbidden;
  return {kind, std::move(text), {}, {}, {}};
}

Attempt<std::unique_ptr<GateConnection>> Enrolment::Connect(std::chrono::milliseconds time) {
  const auto tls = self_.tls();
  if (!tls) co_return Failed(tls.error());
  GateAddress gate = self_.config.gate;
  auto opened = co_await GateConnection::Open(executor_, std::move(gate), *tls, time);
  if (!opened) co_return Failed(opened.error());
  co_return *std::move(opened);
}

// RFC 9449 8 and 9: the gate gives a nonce with the first answer, and a proof is for one request.
Attempt<Reply> Enrolment::AskWithToken(GateConnection& connection, Question question) {
  auto token = co_await self_.tokens.Get(settings_);
  if (!token) co_return Failed(token.error());
  const bool by_proof = self_.proof_key != nullptr;
  const std::string url = self_.config.gate.url + question.target;
  std::string nonce;
  Result<Reply> reply;
  for (int asked = 0; asked < 2; ++asked) {
    Question next = question;
    next.headers.emplace_back("Authorization", (by_proof ? "DPoP " : "Bearer ") + *token);
    if (by_proof) {
      next.headers.emplace_back("DPoP",
                                self_.proof_key->Prove({question.method, url, *token, nonce}));
    }
    reply = co_await connection.Ask(std::move(next));
    if (!reply || !by_proof || asked == 1 || reply->status != kUnauthorized ||
        reply->nonce.empty()) {
      break;
    }
    nonce = reply->nonce;
  }
  Wipe(*token);
  if (!reply) co_return Failed(reply.error());
  co_return *std::move(reply);
}

// The master lives no longer than this call.
Result<SaPair> Enrolment::MakePair(GateConnection& connection, const Offer& offer) const {
  const guard::KeyContext& agreed = offer.agreed;
  const auto master = guard::MasterKey::Export(connection.ssl(), agreed);
  if (!master) return tl::unexpected(master.error());
  auto to_gate = master->Expand(Direction::inbound, agreed.to_gate, agreed.algorithm);
  if (!to_gate) return tl::unexpected(to_gate.error());
  auto to_peer = master->Expand(Direction::outbound, agreed.to_peer, agreed.algorithm);
  if (!to_peer) return tl::unexpected(to_peer.error());
  SaPair pair;
  pair.name = fmt::format("{}/{}-{}", agreed.interface, agreed.session_id, agreed.generation);
  pair.to_gate = agreed.to_gate;
  pair.to_peer = agreed.to_peer;
  pair.algorithm = agreed.algorithm;
  pair.esn = agreed.esn;
  pair.replay_window = offer.replay_window;
  pair.selectors = agreed.selectors;
  pair.peer_outer = self_.config.outer_peer.value_or(connection.local());
  pair.gate_outer = self_.config.outer_gate.value_or(connection.remote());
  pair.udp_encap = self_.config.udp_encap;
  pair.life = offer.life;
  pair.key_to_gate = *std::move(to_gate);
  pair.key_to_peer = *std::move(to_peer);
  return pair;
}

Attempt<Enrolled> Enrolment::Open(Wanted wanted) {
  const PeerConfig& config = self_.config;
  auto connection = co_await Connect(kConnectionTime);
  if (!connection) co_return tl::unexpected(connection.error());
  GateConnection& gate = **connection;

  const auto spi = datapath_.ChooseSpi();
  if (!spi) co_return Failed(spi.error());
  Asked asked;
  asked.interface = settings_.interface;
  asked.session = wanted.session;
  asked.last_generation = wanted.last_generation;
  asked.algorithms = settings_.algorithms;
  asked.selectors = settings_.selectors;
  asked.to_peer = *spi;
  asked.gate_identity = config.gate_identity;
  asked.peer_identity = config.identity;
  if (RAND_bytes(asked.nonce.data(), static_cast<int>(asked.nonce.size())) != 1) {
    throw std::bad_alloc();  // without random numbers there is nothing to go on with
  }
  RequestOptions options;
  options.initial_contact = wanted.initial_contact;
  options.udp_encap = config.udp_encap;
  if (config.outer_peer) options.outer_peer = config.outer_peer->Text();
  if (config.outer_gate) options.outer_gate = config.outer_gate->Text();
  Question question{"POST", kSessions, {{"Content-Type", "application/json"}}, ""};
  question.body = RequestText(asked, options);
  const auto reply = co_await AskWithToken(gate, std::move(question));
  if (!reply) co_return tl::unexpected(reply.error());
  if (reply->status != kCreated) {
    co_return tl::unexpected(Failure{RefusalOf(*reply), reply->retry_after});
  }

  auto offer = ReadOffer(reply->body, asked);
  if (!offer) co_return Failed(offer.error());
  offer->agreed.mode = gate.gate().mode;
  offer->agreed.tls_version = gate.gate().tls_version;
  auto pair = MakePair(gate, *offer);
  if (!pair) co_return Failed(pair.error());
  Enrolled enrolled{offer->agreed.session_id,
                    offer->agreed.generation,
                    pair->name,
                    offer->life,
                    false,
                    "",
                    gate.gate()};
  const auto installed = co_await datapath_.Install(*std::move(pair));
  if (!installed) co_return Failed(installed.error());

  Question confirmation{"POST", fmt::format("{}/{}/confirm", kSessions, enrolled.session), {}, ""};
  const auto confirmed = co_await gate.Ask(std::move(confirmation));
  enrolled.confirmed = confirmed && confirmed->status == kNoContent;
  if (!enrolled.confirmed) {
    enrolled.why_not = confirmed ? RefusalOf(*confirmed).Text() : confirmed.error().Text();
  }
  co_return enrolled;
}

Attempt<void> Enrolment::End(std::string session) {
  auto connection = co_await Connect(kFarewellTime);
  if (!connection) co_return tl::unexpected(connection.error());
  Question question{"DELETE", fmt::format("{}/{}", kSessions, session), {}, ""};
  const auto reply = co_await AskWithToken(**connection, std::move(question));
  if (!reply) co_return tl::unexpected(reply.error());
  if (reply->status != kNoContent) co_return Failed(RefusalOf(*reply));
  co_return tl::expected<void, Failure>{};
}

}  // namespace portcullis::peer
