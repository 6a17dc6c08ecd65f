// What a change does, for people and for `?dryRun=true`: which resources come, go, or differ, and
// in which fields.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "control/model/types.hpp"

namespace portcullis::model {

/// {"added":[{kind,name}], "changed":[{kind,name,fields:[{field,from,to}]}], "removed":[...]}
nlohmann::json DifferenceOf(const Document& before, const Document& after);

/// A difference of one resource: `list` is "added", "changed" or "removed".
nlohmann::json OneDifference(const char* list, const char* kind, const std::string& name);

bool IsEmpty(const nlohmann::json& difference);

}  // namespace portcullis::model
