#include "control/guard/request/head.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/rfc7230.hpp>
#include <iterator>
#include <span>

namespace portcullis::guard {

namespace beast = boost::beast;
namespace http = beast::http;

namespace {

constexpr std::string_view kEndOfHead = "\r\n\r\n";
constexpr std::string_view kVersion = "HTTP/1.1";
constexpr size_t kMostFields = 100;

bool IsToken(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
  });
}

// A number as RFC 9112 6.2 has it, and not as strtoull() has it.
bool IsLength(std::string_view text) {
  constexpr size_t kMostDigits = 18;  // no overflow in anybody's 64 bits
  return !text.empty() && text.size() <= kMostDigits &&
         std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

std::string_view Trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

std::optional<std::string> RequestLineFault(std::string_view line) {
  const auto first = line.find(' ');
  const auto last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) return "no request line";
  if (!IsToken(line.substr(0, first))) return "a method that is no token";
  const auto target = line.substr(first + 1, last - first - 1);
  if (target.empty() || target.find_first_of(" \t") != std::string_view::npos) {
    return "white space in the target";
  }
  if (line.substr(last + 1) != kVersion) return "another version than HTTP/1.1";
  return {};
}

// Some servers take the method or the path from these instead.
constexpr auto kOverrides =
    std::to_array<std::string_view>({"x-http-method", "x-http-method-override", "x-method-override",
                                     "x-original-url", "x-rewrite-url", "x-original-uri"});

bool IsOneOf(std::span<const std::string_view> names, std::string_view name) {
  return std::ranges::any_of(names, [&](auto one) { return beast::iequals(one, name); });
}

// What `Connection` names goes no further (RFC 9110 7.6.1); the server would read the body without
// what it was judged by.
bool TakesAwayWhatABodyIs(std::string_view connection) {
  http::token_list options(connection);
  return options.exists("content-type") || options.exists("content-encoding");
}

// The fields that say where a message ends, and for whom it is.
class Framing {
 public:
  std::optional<std::string> Take(std::string_view name, std::string_view value) {
    if (beast::iequals(name, "Content-Length")) {
      if (++lengths_ > 1) return "Content-Length twice";
      if (!IsLength(value)) return "a Content-Length that is no number";
    } else if (beast::iequals(name, "Transfer-Encoding")) {
      if (++encodings_ > 1) return "Transfer-Encoding twice";
      if (!beast::iequals(value, "chunked")) return "a Transfer-Encoding other than chunked";
    } else if (beast::iequals(name, "Host")) {
      if (++hosts_ > 1) return "Host twice";
      if (value.empty()) return "an empty Host";
    } else if (beast::iequals(name, "Content-Type")) {
      if (++types_ > 1) return "Content-Type twice";
    } else if (beast::iequals(name, "Expect")) {
      if (!beast::iequals(value, "100-continue")) return "an expectation other than 100-continue";
    } else if (beast::iequals(name, "Connection")) {
      if (TakesAwayWhatABodyIs(value))
        return "a Connection that names what says how to read the body";
    } else if (name.find('_') != std::string_view::npos) {
      // To CGI and its kin it is a dash (RFC 3875 4.1.18), and the field another one.
      return "a field name with an underscore";
    } else if (IsOneOf(kOverrides, name)) {
      return "a field that would be another method or path to some servers: " + std::string(name);
    }
    return {};
  }
  [[nodiscard]] std::optional<std::string> End() const {
    if (hosts_ == 0) return "no Host";
    if (lengths_ > 0 && encodings_ > 0) return "both Content-Length and Transfer-Encoding";
    return {};
  }

 private:
  unsigned lengths_ = 0;
  unsigned encodings_ = 0;
  unsigned hosts_ = 0;
  unsigned types_ = 0;
};

// Of one connection only, or this gate's own business.
constexpr auto kStaysHere = std::to_array<std::string_view>(
    {"connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization",
     "te", "trailer", "transfer-encoding", "upgrade", "content-length", "host", "expect",
     "authorization", "dpop", "dpop-nonce", "www-authenticate", "portcullis-client",
     "3gpp-sbi-target-apiroot"});

// Those that `Connection` names are of this connection only.
bool IsNamedByConnection(const Fields& fields, std::string_view name) {
  const auto [first, last] = fields.equal_range(http::field::connection);
  return std::any_of(first, last, [&](const auto& connection) {
    return http::token_list(connection.value()).exists(name);
  });
}

bool GoesOn(const Fields& fields, std::string_view name) {
  return !IsOneOf(kStaysHere, name) && !IsNamedByConnection(fields, name);
}

void AppendField(std::string& out, std::string_view name, std::string_view value) {
  fmt::format_to(std::back_inserter(out), "{}: {}\r\n", name, value);
}

void AppendLength(std::string& out, const BodyLength& body) {
  if (body.bytes) fmt::format_to(std::back_inserter(out), "Content-Length: {}\r\n", *body.bytes);
  if (body.chunked) out += "Transfer-Encoding: chunked\r\n";
}

}  // namespace

size_t HeadLength(std::string_view bytes) {
  const auto end = bytes.find(kEndOfHead);
  return end == std::string_view::npos ? 0 : end + kEndOfHead.size();
}

std::optional<std::string> FramingFault(std::string_view head) {
  head.remove_suffix(std::string_view("\r\n").size());  // of the empty line
  Framing framing;
  for (size_t number = 0; !head.empty(); ++number) {
    const auto end = head.find("\r\n");
    const std::string_view line = head.substr(0, end);
    head.remove_prefix(line.size() + 2);
    for (const char c : line) {
      if (c == '\r' || c == '\n') return "a line that does not end in CR LF";
      if ((static_cast<unsigned char>(c) < ' ' && c != '\t') || c == '\x7f') {
        return "a control character";
      }
    }
    if (number == 0) {
      if (auto fault = RequestLineFault(line)) return fault;
      continue;
    }
    if (number > kMostFields) return fmt::format("more than {} fields", kMostFields);
    if (line.starts_with(' ') || line.starts_with('\t')) return "a folded line (RFC 9112 5.2)";
    const auto colon = line.find(':');
    if (colon == std::string_view::npos) return "a field without a colon";
    const auto name = line.substr(0, colon);
    if (!IsToken(name)) return "a field name that is no token";
    if (auto fault = framing.Take(name, Trimmed(line.substr(colon + 1)))) return fault;
  }
  return framing.End();
}

std::string RequestHeadText(const RequestHead& request, const Onward& onward,
                            const BodyLength& body) {
  std::string out =
      fmt::format("{} {} HTTP/1.1\r\nHost: {}\r\n", request.method,
                  onward.target.empty() ? request.target : onward.target, onward.authority);
  if (!onward.client.empty()) AppendField(out, kClientField, onward.client);
  if (!onward.authorization.empty()) AppendField(out, "Authorization", onward.authorization);
  if (onward.only_absent) out += "If-None-Match: *\r\n";
  AppendLength(out, body);
  for (const auto& field : request.fields) {
    const std::string_view name(field.name_string());
    if (onward.only_absent && field.name() == http::field::if_none_match) continue;
    if (GoesOn(request.fields, name)) AppendField(out, name, field.value());
  }
  return out + "\r\n";
}

bool GoesOn(const AnswerHead& answer, std::string_view name) {
  return answer.own || GoesOn(answer.fields, name);
}

std::string AnswerHeadText(const AnswerHead& answer, bool close, std::string_view nonce) {
  std::string out = fmt::format("HTTP/1.1 {} {}\r\n", answer.status, answer.reason);
  AppendLength(out, answer.body);
  if (close) out += "Connection: close\r\n";
  if (!nonce.empty()) AppendField(out, "DPoP-Nonce", nonce);
  for (const auto& field : answer.fields) {
    const std::string_view name(field.name_string());
    if (GoesOn(answer, name)) AppendField(out, name, field.value());
  }
  return out + "\r\n";
}

std::string Chunk(std::string_view bytes) {
  return fmt::format("{:x}\r\n{}\r\n", bytes.size(), bytes);
}

}  // namespace portcullis::guard
