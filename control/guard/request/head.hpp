// The heads of HTTP/1.1 messages: how one is read so strictly that nobody behind the gate can read
// another message out of the same bytes, and how it is written anew for the other side. Nothing is
// passed on as it came but the target and the fields that are end to end (RFC 9110 7.6.1).
#pragma once

#include <boost/beast/http/fields.hpp>
#include <boost/beast/http/message.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace portcullis::guard {

/// Length of the head at the front of `bytes`, its empty line included; 0: it has not ended yet.
size_t HeadLength(std::string_view bytes);

/// What in a request's whole head could be read in two ways, or is not HTTP/1.1 (RFC 9112): for
/// people. Parsers are lenient where standards let them be; this is where ours is not.
std::optional<std::string> FramingFault(std::string_view head);

/// How long a body is.
struct BodyLength {
  std::optional<uint64_t> bytes;  // known beforehand
  bool chunked = false;           // else; neither: there is none
};

using Fields = boost::beast::http::fields;

/// What comes before a request's body. What may follow it (RFC 9112 7.1.2) nobody checks, and
/// nobody gets.
struct RequestHead {  // NOLINT(bugprone-exception-escape): Beast's fields swear not to throw
  std::string method;
  std::string target;  // byte for byte
  Fields fields;
  BodyLength body;
};

/// A target without its query.
inline std::string_view PathOf(std::string_view target) {
  return target.substr(0, target.find('?'));
}
/// Who asks, as the protected server is told: in one field, which no client can write.
inline constexpr const char* kClientField = "Portcullis-Client";

/// What the gate says to the protected server for itself.
struct Onward {
  std::string authority;     // the server's
  std::string client = {};   // the value of kClientField; empty: nobody is told
  bool only_absent = false;  // nothing that is there already may be replaced (RFC 9110 13.1.2)
  std::string target = {};   // empty: the request's
  std::string authorization = {};  // the gate's own for the server; empty: none
};

/// For the protected server. The client's token and proof stay here: they are bound to its key and
/// of no use to anybody else. `body`: as it is sent now.
std::string RequestHeadText(const RequestHead& request, const Onward& onward,
                            const BodyLength& body);

/// What comes before an answer's body.
struct AnswerHead {
  unsigned status;
  std::string_view reason;
  const Fields& fields;
  BodyLength body;
  bool own = false;  // the gate's: all of its fields are for the client
};

/// Is this field of it for the client?
bool GoesOn(const AnswerHead& answer, std::string_view name);
/// For the client. `close`: the connection ends after it. `nonce`: for its next proof of
/// possession.
std::string AnswerHeadText(const AnswerHead& answer, bool close, std::string_view nonce = {});

/// An element of a chunked body (RFC 9112 7.1). Empty `bytes` end the body.
std::string Chunk(std::string_view bytes);

}  // namespace portcullis::guard
