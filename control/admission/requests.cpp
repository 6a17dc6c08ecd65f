// What each request of the guard does.
#include <fmt/format.h>

#include "control/admission/notes.hpp"
#include "control/admission/refusal_message.hpp"
#include "control/admission/server.hpp"
#include "dataplane/steer/messages.hpp"

namespace portcullis::admission {

namespace asio = boost::asio;
using identity::Reason;
using Wrong = tl::unexpected<identity::Refusal>;

namespace {

constexpr uint32_t kProtocol = 1;

Wrong Malformed(std::string detail) {
  return Wrong(identity::Refusal{Reason::request_malformed, std::move(detail)});
}

void Fill(const steer::Selector& from, Selector& to) {
  const auto prefix = [](const steer::Prefix& p, Prefix& out) {
    out.set_address(p.address());
    out.set_length(p.length());
  };
  const auto ports = [](const steer::Ports& p, Ports& out) {
    out.set_first(p.first());
    out.set_last(p.last());
  };
  if (from.has_local()) prefix(from.local(), *to.mutable_gate());
  if (from.has_remote()) prefix(from.remote(), *to.mutable_peer());
  to.set_protocol(from.protocol());
  if (from.has_local_ports()) ports(from.local_ports(), *to.mutable_gate_ports());
  if (from.has_remote_ports()) ports(from.remote_ports(), *to.mutable_peer_ports());
}

tl::expected<void, identity::Refusal> DoAdmit(Context& context, const Admit& request,
                                              Admitted& reply) {
  const auto peer_outer = steer::FromBytes(request.peer_outer());
  const auto gate_outer = steer::FromBytes(request.gate_outer());
  if (!peer_outer || !gate_outer || peer_outer->IsV4() != gate_outer->IsV4()) {
    return Malformed("peer_outer and gate_outer are addresses of one family");
  }
  Wanted wanted;
  wanted.session = request.session();
  wanted.peer_spi = request.peer_spi();
  for (const int a : request.algorithms()) {
    if (steer::Algorithm_IsValid(a)) wanted.algorithms.push_back(static_cast<steer::Algorithm>(a));
  }
  wanted.initial_contact = request.initial_contact();
  wanted.udp_encap = request.udp_encap();
  wanted.peer_outer = *peer_outer;
  wanted.gate_outer = *gate_outer;
  const auto terms = context.sessions.Admit(
      ApplicantOf(request.identity(), request.token(), request.interface()), wanted);
  if (!terms) return tl::unexpected(terms.error());
  NoteAdmission(context, request, *terms);
  reply.set_session(terms->session);
  reply.set_generation(terms->generation);
  reply.set_peer(terms->peer);
  reply.set_gate_spi(terms->gate_spi);
  reply.set_algorithm(static_cast<Algorithm>(terms->algorithm));
  reply.set_esn(true);
  reply.set_replay_window(kReplayWindow);
  for (const auto& selector : terms->selectors) Fill(selector, *reply.add_selectors());
  reply.set_seconds(static_cast<uint32_t>(terms->life.count()));
  return {};
}

Secret Take(std::string& key) {
  Secret secret(std::span(reinterpret_cast<const uint8_t*>(key.data()), key.size()));
  Wipe(key);
  return secret;
}

}  // namespace

asio::awaitable<Response> Answer(Context& context, Request& request, uint64_t guard) {
  Sessions& sessions = context.sessions;
  using Kind = Request::KindCase;
  Response response;
  response.set_id(request.id());
  tl::expected<void, identity::Refusal> done;
  switch (request.kind_case()) {
    case Kind::kHello:
      if (request.hello().protocol() == kProtocol) {
        response.mutable_hello()->set_protocol(kProtocol);
      } else {
        done = Malformed(fmt::format("protocol {}; this control speaks {}",
                                     request.hello().protocol(), kProtocol));
      }
      break;
    case Kind::kAdmit:
      done = DoAdmit(context, request.admit(), *response.mutable_admitted());
      break;
    case Kind::kInstall: {
      Install& install = *request.mutable_install();
      Secret to_gate = Take(*install.mutable_inbound_key());
      Secret to_peer = Take(*install.mutable_outbound_key());
      done = co_await sessions.Install(install.session(), install.generation(), std::move(to_gate),
                                       std::move(to_peer));
      break;
    }
    case Kind::kConfirm:
      done = co_await sessions.Confirm(request.confirm().session(), request.confirm().generation());
      break;
    case Kind::kEnd: {
      // A name of its own: see sessions.cpp about GCC.
      Applicant who = ApplicantOf(request.end().identity(), request.end().token(), "");
      done = co_await sessions.End(std::move(who), request.end().session());
      break;
    }
    case Kind::kReview:
      sessions.Review(request.review().after(), *response.mutable_reviewed());
      break;
    case Kind::kWithdraw:
      co_await sessions.Withdraw(std::move(*request.mutable_withdraw()));
      break;
    case Kind::kRefused:
      NoteRefusal(context, request.refused());
      break;
    case Kind::kStatus:
      context.guard.Take(request.status());
      break;
    case Kind::kPermit: {
      const Permit& permit = request.permit();
      done =
          context.permits.Permit(ApplicantOf(permit.identity(), permit.token(), permit.interface()),
                                 *response.mutable_permitted());
      break;
    }
    case Kind::kPermitCall:
      done = context.permits.PermitCall(request.permit_call(), *response.mutable_call_permitted());
      break;
    case Kind::kRecognise:
      done = context.permits.Recognise(request.recognise());
      break;
    case Kind::kStay: {
      const Stay& stay = request.stay();
      done = context.permits.Stay(ApplicantOf(stay.identity(), {}, stay.interface()));
      break;
    }
    case Kind::kWatch: {
      const uint64_t version = co_await context.permits.Watch(request.watch().version());
      response.mutable_changed()->set_version(version);
      break;
    }
    case Kind::kOperate: {
      Operate operate = request.operate();
      done = co_await context.operations.Operate(std::move(operate), guard);
      break;
    }
    case Kind::kOutcome:
      done = co_await context.operations.Outcome(std::move(*request.mutable_outcome()));
      // What a session opens by it is open before the peer hears that it is registered.
      if (done) co_await sessions.FollowRegistrations();
      break;
    case Kind::kFindOwner: {
      auto tenant = context.operations.FindOwner(request.find_owner());
      if (tenant) {
        response.mutable_owner()->set_tenant(std::move(*tenant));
      } else {
        done = tl::unexpected(tenant.error());
      }
      break;
    }
    case Kind::KIND_NOT_SET:
      done = Malformed("no such request: the guard speaks a later protocol");
      break;
  }
  if (!done) {
    response.clear_kind();
    Fill(*response.mutable_refusal(), done.error());
    // That a connection ends with its session refuses nobody anything.
    if (request.kind_case() == Kind::kStay) co_return response;
    NoteRefusal(context, request, *response.mutable_refusal());
  }
  co_return response;
}

}  // namespace portcullis::admission
