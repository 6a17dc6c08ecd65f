#include "control/guard/request/answer.hpp"

#include <boost/beast/http/status.hpp>
#include <utility>

#include "control/guard/session/messages.hpp"

namespace portcullis::guard {

namespace http = boost::beast::http;
using identity::Reason;

boost::asio::awaitable<void> AnswerProblem(Exchange& exchange, unsigned status, Fields fields,
                                           std::string body) {
  fields.set(http::field::content_type, "application/problem+json");
  fields.set(http::field::cache_control, "no-store");
  const auto reason = http::obsolete_reason(static_cast<http::status>(status));
  const AnswerHead head{status, reason, fields, {body.size(), false}, true};
  exchange.Answer(head);
  co_await exchange.Write(body, true);
}

boost::asio::awaitable<void> AnswerRefusal(Exchange& exchange, Stopped stopped,
                                           std::string reference, std::string challenge) {
  const Reason reason = stopped.why.reason;
  const ProblemClass& kind = ClassOf(reason);
  std::string body =
      ProblemText(kind, reference, stopped.form ? &*stopped.form : nullptr, stopped.why.held);
  Fields fields;
  const bool about_token =
      kind.status == kInvalidToken.status || kind.slug == kInsufficientScope.slug;
  if (about_token && !challenge.empty()) fields.set(http::field::www_authenticate, challenge);
  if (reason == Reason::gate_unavailable || reason == Reason::quota_exceeded) {
    fields.set(http::field::retry_after, "1");
  }
  co_await AnswerProblem(exchange, kind.status, std::move(fields), std::move(body));
}

}  // namespace portcullis::guard
