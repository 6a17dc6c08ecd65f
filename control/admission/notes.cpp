#include "control/admission/notes.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "control/identity/refusal.hpp"
#include "dataplane/steer/messages.hpp"

namespace portcullis::admission {

using What = Decision::What;

namespace {

// Whose certificate or key it is, whatever it may do; empty: nobody's, or more than one's.
std::string PeerOf(const model::Document& policy, const Identity& identity) {
  std::string name;
  for (const model::Peer& peer : policy.peers) {
    const bool psk = peer.authentication == model::Authentication::psk;
    if (psk != (identity.mode() == PSK)) continue;
    const bool its =
        psk ? peer.name == identity.psk_peer()
            : std::ranges::find(identity.names(), peer.identity) != identity.names().end();
    if (!its) continue;
    if (!name.empty()) return {};
    name = peer.name;
  }
  return name;
}

Decision About(const Context& context, const Identity& identity, const std::string& source,
               const std::string& interface) {
  Decision d;
  d.peer = PeerOf(context.gate.document(), identity);
  d.identity = Plain(identity.names().empty() ? identity.psk_peer() : identity.names(0));
  if (const auto address = steer::FromBytes(source)) d.source = address->Text();
  d.interface = Plain(interface);
  return d;
}

Decision About(const Context& context, const Request& request) {
  using Kind = Request::KindCase;
  Decision d;
  switch (request.kind_case()) {
    case Kind::kAdmit: {
      const Admit& admit = request.admit();
      return About(context, admit.identity(), admit.identity().source(), admit.interface());
    }
    case Kind::kPermit: {
      const Permit& permit = request.permit();
      return About(context, permit.identity(), permit.identity().source(), permit.interface());
    }
    case Kind::kPermitCall:
      d.interface = Plain(request.permit_call().interface());
      d.detail = fmt::format("{}: ", Plain(request.permit_call().url()));
      return d;
    case Kind::kRecognise: {
      const Recognise& recognise = request.recognise();
      return About(context, recognise.identity(), recognise.identity().source(), "");
    }
    case Kind::kOperate: {
      const Operate& operate = request.operate();
      d = About(context, {}, operate.source(), operate.interface());
      d.id = operate.id();  // by which the peer is told of it
      d.peer = Plain(operate.peer());
      d.detail = fmt::format("{} {}: ", Plain(operate.method()), Plain(operate.path()));
      return d;
    }
    case Kind::kEnd:
      d = About(context, request.end().identity(), request.end().identity().source(), "");
      d.detail = request.end().session();
      break;
    case Kind::kInstall:
      d.detail = request.install().session();
      break;
    case Kind::kConfirm:
      d.detail = request.confirm().session();
      break;
    default:
      break;
  }
  if (!d.detail.empty()) d.detail = fmt::format("session '{}': ", Plain(d.detail));
  return d;
}

}  // namespace

void NoteRefusal(Context& context, const Request& request, Refusal& refusal) {
  Decision d = About(context, request);
  d.reason = refusal.reason();
  d.detail += refusal.detail();
  refusal.set_reference(context.journal.Note(std::move(d)).id);
}

void NoteRefusal(Context& context, const Refused& refused) {
  Decision d = About(context, refused.identity(), refused.source(), refused.interface());
  d.stranger = !refused.has_identity();
  d.id = refused.refusal().reference();
  // Its reasons are counted in the audit log by name, so only names that exist.
  const bool known = std::ranges::any_of(identity::kReasons, [&](const auto& reason) {
    return reason.name == refused.refusal().reason();
  });
  d.reason = known ? refused.refusal().reason() : "unknown";
  d.detail = Plain(refused.refusal().detail());
  context.journal.Note(std::move(d));
}

void NoteAdmission(Context& context, const Admit& request, const Terms& terms) {
  Decision d = About(context, request.identity(), request.identity().source(), request.interface());
  d.what = What::admitted;
  d.id = terms.session;
  d.peer = terms.peer;
  d.generation = terms.generation;
  d.detail = fmt::format("for {} s; its keys were to come", terms.life.count());
  context.journal.Note(std::move(d));
}

void NoteNews(Journal& journal, const SessionNews& news) {
  static constexpr std::array<What, 4> kWhat{What::in_force, What::renewed, What::not_confirmed,
                                             What::ended};  // SessionNews::What's order
  Decision d;
  d.what = kWhat[static_cast<size_t>(news.what)];
  d.id = news.id;
  d.peer = news.peer;
  d.interface = news.interface;
  d.generation = news.generation;
  d.detail = news.why;
  d.who = news.who;
  journal.Note(std::move(d));
}

}  // namespace portcullis::admission
