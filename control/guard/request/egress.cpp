#include "control/guard/request/egress.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "control/admission/reference.hpp"
#include "control/guard/request/answer.hpp"
#include "control/guard/request/http1.hpp"
#include "control/guard/request/relay.hpp"
#include "control/guard/session/address.hpp"
#include "control/guard/session/peer_certificate.hpp"
#include "control/identity/token/url.hpp"
#include "control/model/callback.hpp"
#include "dataplane/steer/messages.hpp"

namespace portcullis::guard {

namespace asio = boost::asio;
using identity::Reason;
using profiles::Fault;

namespace {

constexpr const char* kApiRoot = "3gpp-Sbi-Target-apiRoot";

// What of a prefix stands before the paths of a profile.
std::string RootOf(std::string_view prefix) {
  const auto address = identity::ParseWebAddress(std::string(prefix), "");
  if (!address || address->target == "/") return {};
  return address->target.substr(0, address->target.size() - 1);
}

// What may be sent there is what it was.
bool IsSame(admission::CallPermitted a, admission::CallPermitted b) {
  for (auto* one : {&a, &b}) {
    one->clear_version();
    one->clear_seconds();
  }
  return a.SerializeAsString() == b.SerializeAsString();
}

// A message on its way out.
struct Call {
  std::string reference;
  Destination to;
  Permits::CallPermit permit;
  std::shared_ptr<Upstream> peer;
  bool change = false;
};

// One connection of a server.
class EgressConversation {
 public:
  EgressConversation(RequestContext& context, const EgressInterface& interface,
                     const ListenerLimits& limits, Connection& connection)
      : context_(context), interface_(interface), limits_(limits), connection_(connection) {
    const auto* certificate = VerifiedIdentity(connection.who.certificate.get());
    who_ = IdentityMessage(*certificate, connection.from);
    for (const auto& name : certificate->names) {
      if (interface.servers.contains(name.text)) server_ = name.text;
    }
  }

  asio::awaitable<void> Run() {
    return ServeHttp1(connection_.stream, limits_,
                      [this](Exchange& exchange, std::optional<Stopped> fault) {
                        return Answer(exchange, std::move(fault));
                      });
  }

 private:
  asio::awaitable<void> Answer(Exchange& exchange, std::optional<Stopped> fault) {
    if (fault) {
      co_await Refuse(exchange, *std::move(fault));
      co_return;
    }
    auto call = co_await Decide(exchange);
    if (!call) {
      co_await Refuse(exchange, std::move(call.error()));
      co_return;
    }
    Relay relay(*call->peer, exchange, std::nullopt, [this, &call = *call] { return Still(call); });
    Onward onward;
    onward.authority = call->peer->authority();
    onward.target = call->to.target;
    if (auto answered = co_await relay.Ask(std::move(onward)); !answered) {
      End(*call, 0, relay.request_bytes(), 0);
      // Why nothing came of what is in the records: operators find it by what the server is told.
      answered.error().why.detail += fmt::format(" (operation {})", call->reference);
      co_await Refuse(exchange, std::move(answered.error()));
      co_return;
    }
    if (call->change) End(*call, relay.status(), relay.request_bytes(), relay.announced());
    co_await relay.Stream();
    if (!call->change) {
      End(*call, relay.status(), relay.request_bytes(), relay.response_bytes());
    }
  }

  asio::awaitable<Step<Call>> Decide(Exchange& exchange) {
    const RequestHead& request = exchange.head();
    // A reload may have taken it off the list since the handshake.
    if (!interface_.servers.contains(server_)) {
      co_return Stop(Reason::policy_denied, "this server may send nothing here");
    }
    if (auto none = CheckHasNoNeedlessBody(exchange); !none) {
      co_return tl::unexpected(std::move(none.error()));
    }
    auto to = DestinationOf(request);
    if (!to) co_return tl::unexpected(std::move(to.error()));
    Call call;
    call.to = *std::move(to);
    const auto profile = interface_.profile;  // a reload may change it
    const auto callees = interface_.callees;
    auto permit = co_await context_.permits.Call(interface_.name, call.to.url);
    if (!permit) co_return Stop(std::move(permit.error()));
    call.permit = *std::move(permit);
    auto operations = WhatIsSent(*profile, request.method, call.to, call.permit->prefix());
    if (!operations) co_return StopFor(operations.error());
    auto granted = Granted(*operations, *call.permit);
    if (!granted) co_return tl::unexpected(std::move(granted.error()));
    auto peer = callees->To(call.permit, call.to.origin);
    if (!peer) co_return StopFor(peer.error());
    call.peer = *std::move(peer);
    call.reference = admission::NewReference();
    auto begun = co_await Begin(call, request, *granted, profile->opens != nullptr);
    if (!begun) co_return Stop(std::move(begun.error()));
    co_return call;
  }

  // Something has changed in policy while the message is on its way; perhaps nothing about this.
  asio::awaitable<bool> Still(Call& call) {
    if (context_.permits.Current(*call.permit)) co_return true;
    auto permit = co_await context_.permits.Call(interface_.name, call.to.url);
    if (!permit || !IsSame(**permit, *call.permit)) co_return false;
    call.permit = *std::move(permit);
    co_return true;
  }

  // Of those that it may be, those that the peer may be sent.
  static Step<profiles::Operations> Granted(const profiles::Operations& may_be,
                                            const admission::CallPermitted& permit) {
    profiles::Operations granted;
    std::vector<std::string_view> names;
    for (const auto* one : may_be) {
      names.emplace_back(one->name);
      const auto& given = permit.operations();
      if (std::ranges::find(given, one->name) != given.end()) granted.push_back(one);
    }
    if (!granted.empty()) return granted;
    return Stop(Reason::operation_denied,
                fmt::format("peer '{}' is not sent '{}' on this interface", permit.peer(),
                            fmt::join(names, "', '")));
  }

  asio::awaitable<Outcome<void>> Begin(Call& call, const RequestHead& request,
                                       const profiles::Operations& operations, bool registered) {
    admission::Operate operate;
    operate.set_id(call.reference);
    operate.set_peer(call.permit->peer());
    operate.set_tenant(call.permit->tenant());
    operate.set_interface(interface_.name);
    operate.set_method(request.method);
    operate.set_path(std::string(PathOf(call.to.target)));
    for (const auto* operation : operations) {
      operate.add_operations(operation->name);
      call.change = call.change || operation->effect == profiles::Effect::change;
    }
    operate.set_change(call.change);
    operate.set_source(steer::ToBytes(ToAddress(connection_.from.address())));
    operate.set_registered(registered);
    operate.mutable_call()->set_server(server_);
    operate.mutable_call()->set_url(call.to.url);
    return context_.outcomes.Begin(std::move(operate));
  }

  void End(const Call& call, unsigned status, uint64_t sent, uint64_t received) {
    admission::Request message;
    admission::Outcome& outcome = *message.mutable_outcome();
    outcome.set_id(call.reference);
    outcome.set_status(status);
    outcome.set_request_bytes(sent);
    outcome.set_response_bytes(received);
    context_.outcomes.End(std::move(message), call.change);
  }

  asio::awaitable<void> Refuse(Exchange& exchange, Stopped stopped) {
    std::string reference = context_.shared.refusals.Note(
        stopped.why, {connection_.from, interface_.name, who_, stopped.reference});
    co_await AnswerRefusal(exchange, std::move(stopped), std::move(reference), "");
  }

  RequestContext& context_;
  const EgressInterface& interface_;
  const ListenerLimits& limits_;
  Connection& connection_;
  admission::Identity who_;
  std::string server_;
};

}  // namespace

Step<Destination> DestinationOf(const RequestHead& request) {
  const auto wrong = [&](const std::string& fault) {
    return StopFor(Error{ErrorKind::kInvalid,
                         fault,
                         "the address to be called",
                         fmt::format("https://host[:port]/path as the request's target, or a path "
                                     "and {}",
                                     kApiRoot),
                         {}});
  };
  const auto roots = request.fields.count(kApiRoot);
  const bool origin_form = request.target.starts_with('/');
  if (roots > 1 || (origin_form ? roots == 0 : roots != 0)) {
    return wrong(roots == 0 ? "it is not said" : "it is said twice");
  }
  std::string url = request.target;
  if (origin_form) {
    const std::string_view root(request.fields[kApiRoot]);
    // What follows is a path: behind anything else it would become part of it.
    if (root.find_first_of("?#") != std::string_view::npos || root.ends_with('/')) {
      return wrong(fmt::format("{} is not the beginning of one", kApiRoot));
    }
    url.insert(0, root);
  }
  if (const auto fault = model::CallbackFault(url)) return wrong(*fault);
  constexpr size_t kScheme = std::string_view("https://").size();
  const auto path = url.find('/', kScheme);
  return Destination{std::string(PathOf(url)), url.substr(0, path), url.substr(path)};
}

tl::expected<profiles::Operations, Fault> WhatIsSent(const profiles::Profile& profile,
                                                     std::string_view method, const Destination& to,
                                                     std::string_view prefix) {
  const auto delivery = profile.FindEgress(method, to.target, RootOf(prefix));
  if (delivery) return profiles::Operations{(*delivery)->operation};
  // There is such a path, but not like this.
  if (delivery.error() == Fault::query_unlisted) return tl::unexpected(delivery.error());
  profiles::Operations callbacks;
  for (const profiles::Egress& one : profile.egress) {
    if (one.path || one.method != method) continue;
    if (std::ranges::find(callbacks, one.operation) == callbacks.end()) {
      callbacks.push_back(one.operation);
    }
  }
  if (callbacks.empty()) return tl::unexpected(delivery.error());
  return callbacks;
}

ConnectionHandler ServeEgress(RequestContext& context, std::shared_ptr<EgressInterface> interface,
                              ListenerLimits limits) {
  // The listener keeps the lambda, and with it what it captured, for as long as it has connections.
  return [&context, interface = std::move(interface),
          limits](Connection& connection) -> asio::awaitable<void> {
    EgressConversation conversation(context, *interface, limits, connection);
    co_await conversation.Run();
  };
}

}  // namespace portcullis::guard
