// The first line of defence as operators configure it: its rules, what changes in it, and what the
// dataplane gets of it.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "base/result.hpp"
#include "control/model/types.hpp"
#include "dataplane/steer/steer.pb.h"

namespace portcullis::model {

/// The rule that it breaks, with a JSON pointer into the document; or what is added to `warnings`.
Result<void> CheckFirstLine(const Document& document, std::vector<Warning>& warnings);

/// Prefixes in their order, each once: how it is kept, shown and compared.
void SortPrefixes(FirstLine& line);

/// The fields that differ, as a difference lists them: [{field, from, to}]. A prefix that comes or
/// goes is one entry, wherever it stands in its list.
nlohmann::json FirstLineFields(const FirstLine& before, const FirstLine& after);

/// With the endpoints of the peers that may do anything, each admitted by name. Where the document
/// says nothing, what admits everybody.
steer::FirstLine CompileFirstLine(const Document& document);

}  // namespace portcullis::model
