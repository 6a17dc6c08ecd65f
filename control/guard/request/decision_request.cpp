#include "control/guard/request/decision_request.hpp"

#include <fmt/format.h>
#include <openssl/pem.h>

#include <boost/asio/ip/address.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <map>
#include <new>
#include <utility>

#include "control/profiles/target.hpp"

namespace portcullis::guard {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;

namespace {

constexpr uint32_t kMostQuestionHead = 32U << 10U;
constexpr int kMostCertificates = 16;  // as CertificateVerifier takes

tl::unexpected<Stopped> NoQuestion(const std::string& what, std::string expected,
                                   std::string found = {}) {
  return StopFor(Error{ErrorKind::kInvalid,
                       "what the gateway asks: " + what,
                       {},
                       std::move(expected),
                       std::move(found)});
}

// The one value of the field; empty: it is not there. Refused: it is there twice.
Step<std::string> Only(const Fields& fields, const char* name) {
  if (fields.count(name) > 1) return NoQuestion(std::string(name) + " appears twice", "once");
  return std::string(fields[name]);
}

// ---- certificates

// PEM with percent-encoding, as both write it. Refused: anything else between or behind them.
Step<identity::ChainPtr> Certificates(std::string_view encoded) {
  const std::string pem = profiles::Decoded(encoded);
  identity::ChainPtr all(sk_X509_new_null());
  if (!all) throw std::bad_alloc();
  const identity::BioPtr reader = identity::Reader(pem);
  ERR_clear_error();
  while (X509* one = PEM_read_bio_X509(reader.get(), nullptr, nullptr, nullptr)) {
    identity::CertificatePtr certificate(one);
    if (sk_X509_push(all.get(), one) == 0) throw std::bad_alloc();
    static_cast<void>(certificate.release());
    if (sk_X509_num(all.get()) > kMostCertificates) {
      return NoQuestion("a chain is too long", fmt::format("{} certificates", kMostCertificates));
    }
  }
  // The end of the text is reported as "no start line".
  const bool whole = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  ERR_clear_error();
  if (!whole || sk_X509_num(all.get()) == 0) {
    return NoQuestion("a certificate cannot be read", "PEM, percent-encoded");
  }
  return all;
}

Step<void> TakeCertificate(ClientRequest& request, std::string_view encoded) {
  if (encoded.empty()) return {};
  auto shown = Certificates(encoded);
  if (!shown) return tl::unexpected(std::move(shown.error()));
  if (sk_X509_num(shown->get()) != 1) return NoQuestion("several clients' certificates", "one");
  request.certificate = identity::Share(sk_X509_value(shown->get(), 0));
  return {};
}

// The members of X-Forwarded-Client-Cert: what one proxy says of the connection that it has.
// Values may be quoted, with \" in them. Refused: elements of several proxies, of which the first
// may be whatever a client wrote, and what is not written like that.
Step<std::map<std::string, std::string, std::less<>>> ReadForwarded(std::string_view text) {
  std::map<std::string, std::string, std::less<>> members;
  const auto wrong = [] {
    return NoQuestion("X-Forwarded-Client-Cert", "one element of KEY=VALUE, each key once");
  };
  while (!text.empty()) {
    const auto equals = text.find('=');
    if (equals == std::string_view::npos) return wrong();
    const std::string key(text.substr(0, equals));
    text.remove_prefix(equals + 1);
    const bool quoted = text.starts_with('"');
    if (quoted) text.remove_prefix(1);
    std::string value;
    bool ended = false;
    while (!text.empty() && !ended) {
      const char c = text.front();
      if (!quoted && (c == ',' || c == '"')) return wrong();
      if (!quoted && c == ';') break;
      text.remove_prefix(1);
      ended = quoted && c == '"';
      if (ended) break;
      if (quoted && c == '\\' && text.starts_with('"')) {
        text.remove_prefix(1);
        value += '"';
      } else {
        value += c;
      }
    }
    if (quoted && !ended) return wrong();
    if (!text.empty() && !text.starts_with(';')) return wrong();
    if (!text.empty()) text.remove_prefix(1);
    // URI and DNS may be there several times, and matter to nobody here.
    const bool again = !members.emplace(key, std::move(value)).second;
    if (again && key != "URI" && key != "DNS") return wrong();
  }
  return members;
}

// ---- where from

Step<void> TakeAddress(ClientRequest& request, const std::string& text) {
  beast::error_code error;
  const auto address = asio::ip::make_address(text, error);
  if (error) return NoQuestion("the client's address", "an IP address", text);
  request.from = {address, 0};
  return {};
}

std::string LastOf(std::string_view list) {
  const auto comma = list.rfind(',');
  if (comma != std::string_view::npos) list.remove_prefix(comma + 1);
  const auto first = list.find_first_not_of(' ');
  return std::string(first == std::string_view::npos ? "" : list.substr(first));
}

// ---- the two ways

struct Told {
  const char* by;    // the gateway's field
  const char* name;  // the client's
};
// Each may be absent.
constexpr Told kTold[] = {{"Authorization", "Authorization"},
                          {"DPoP", "DPoP"},
                          {"Content-Type", "Content-Type"},
                          {"Content-Encoding", "Content-Encoding"},
                          {"Portcullis-Content-Length", "Content-Length"},
                          {"Portcullis-Transfer-Encoding", "Transfer-Encoding"}};

// The client's head, written anew from what the gateway tells of it, and read as strictly as any.
// Its request line must be what the gateway took it for, which is what goes on.
Step<ClientRequest> ReadAuthRequest(const Question& question) {
  const RequestHead& asked = question.head;
  if (asked.method != "GET" || asked.target != kDecisionTarget || !question.body.empty()) {
    return NoQuestion("another request", std::string("GET ") + kDecisionTarget,
                      asked.method + " " + asked.target);
  }
  const auto line = Only(asked.fields, "Portcullis-Request-Line");
  if (!line) return tl::unexpected(line.error());
  if (line->empty()) return NoQuestion("no Portcullis-Request-Line", "the client's");
  std::string text = *line + "\r\nHost: gateway\r\n";
  for (const Told& one : kTold) {
    const auto value = Only(asked.fields, one.by);
    if (!value) return tl::unexpected(value.error());
    if (asked.fields.count(one.by) > 0) text += fmt::format("{}: {}\r\n", one.name, *value);
  }
  auto head = ParseHead(text + "\r\n");
  if (!head) return tl::unexpected(std::move(head.error()));
  const auto method = Only(asked.fields, "Portcullis-Method");
  const auto target = Only(asked.fields, "Portcullis-Target");
  if (!method || !target || *method != head->method || *target != head->target) {
    return NoQuestion("it takes the request for another one", *line,
                      method && target ? *method + " " + *target : "two");
  }
  ClientRequest request;
  request.head = *std::move(head);
  request.has_body = request.head.body.chunked || request.head.body.bytes.value_or(0) != 0;
  const auto certificate = Only(asked.fields, "Portcullis-Client-Certificate");
  const auto address = Only(asked.fields, "Portcullis-Client-Address");
  if (!certificate) return tl::unexpected(certificate.error());
  if (!address) return tl::unexpected(address.error());
  if (auto taken = TakeCertificate(request, *certificate); !taken) {
    return tl::unexpected(std::move(taken.error()));
  }
  if (auto taken = TakeAddress(request, *address); !taken) {
    return tl::unexpected(std::move(taken.error()));
  }
  return request;
}

// Envoy says nothing of a body that it does not send: where the method may have one and none came,
// there may be one all the same. What came in part, or without its word that it is whole, is none.
void TakeBody(ClientRequest& request, std::string body) {
  const std::string& method = request.head.method;
  const bool partly = request.head.fields["x-envoy-auth-partial-body"] != "false";
  request.has_body = !body.empty() || (method != "GET" && method != "HEAD" && method != "DELETE");
  if (body.empty() || partly) {
    request.head.body = {};
    return;
  }
  request.head.body = {body.size(), false};
  request.body = std::move(body);
}

Step<ClientRequest> ReadExtAuthz(Question question) {
  const auto forwarded = Only(question.head.fields, "X-Forwarded-Client-Cert");
  const auto from = Only(question.head.fields, "X-Forwarded-For");
  if (!forwarded) return tl::unexpected(forwarded.error());
  if (!from) return tl::unexpected(from.error());
  ClientRequest request;
  request.head = std::move(question.head);
  TakeBody(request, std::move(question.body));
  const auto members = ReadForwarded(*forwarded);
  if (!members) return tl::unexpected(members.error());
  if (const auto certificate = members->find("Cert"); certificate != members->end()) {
    if (auto taken = TakeCertificate(request, certificate->second); !taken) {
      return tl::unexpected(std::move(taken.error()));
    }
  }
  if (const auto chain = members->find("Chain"); chain != members->end()) {
    auto taken = Certificates(chain->second);
    if (!taken) return tl::unexpected(std::move(taken.error()));
    request.chain = *std::move(taken);
  }
  if (auto taken = TakeAddress(request, LastOf(*from)); !taken) {
    return tl::unexpected(std::move(taken.error()));
  }
  return request;
}

}  // namespace

Step<RequestHead> ParseHead(std::string_view text) {
  const auto refuse = [](const std::string& fault) {
    return StopFor(Error{ErrorKind::kInvalid, "not an HTTP/1.1 request: " + fault, {}, {}, {}});
  };
  if (text.empty() || HeadLength(text) != text.size()) return refuse("its head does not end");
  if (const auto fault = FramingFault(text)) return refuse(*fault);
  http::request_parser<http::empty_body> parser;
  parser.header_limit(kMostQuestionHead);
  parser.body_limit(boost::none);
  beast::error_code error;
  parser.put(asio::buffer(text), error);
  if (!parser.is_header_done()) return refuse(error.message());
  const auto& message = parser.get();
  RequestHead head;
  head.method = message.method_string();
  head.target = message.target();
  head.fields = message;
  if (const auto length = parser.content_length()) head.body.bytes = *length;
  head.body.chunked = parser.chunked();
  return head;
}

Step<ClientRequest> ReadQuestion(DecisionProtocol protocol, Question question) {
  return protocol == DecisionProtocol::auth_request ? ReadAuthRequest(question)
                                                    : ReadExtAuthz(std::move(question));
}

}  // namespace portcullis::guard
