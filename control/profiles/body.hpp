// What a request is when method and path do not say it: activating a slice differs from modifying
// it in one member of a PATCH (TS 28.541 administrativeState). The body is read as its media type
// says it works: a document, a merge patch (RFC 7396), a JSON Patch (RFC 6902), or 3GPP's forms of
// these (TS 32.158). What could be read in two ways is refused.
#pragma once

#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

#include "base/result.hpp"
#include "control/profiles/profile.hpp"

namespace portcullis::profiles {

struct Classified {
  Operations operations;               // in the order in which they were found, never empty
  std::vector<std::string> callers;    // each must be the peer's own
  std::vector<std::string> callbacks;  // URIs, to be authorised before the request goes on
};

struct BodyRefusal {
  Fault fault;
  Error error;  // for who sent it: `where` is a JSON pointer into the body
};

/// For a match that NeedsBody(), and without content coding: what is compressed is not read here.
tl::expected<Classified, BodyRefusal> Classify(const Profile& profile, const Match& match,
                                               std::string_view media_type, std::string_view body);

/// Whether a body of this Content-Type is listed; where nothing is listed, all are. The only
/// parameter is charset=utf-8: readers differ in whether others change what JSON says.
bool Accepts(const Rule& rule, std::string_view media_type);

/// The forms in which bodies can be read.
bool IsJsonPatch(std::string_view media_type);
bool IsJson(std::string_view media_type);

}  // namespace portcullis::profiles
