// The rules that a policy document must obey as a whole. What fails names both sides.
#pragma once

#include "base/result.hpp"
#include "control/model/types.hpp"

namespace portcullis::model {

/// The first rule that `document` breaks, its `where` a JSON pointer into the document (the later
/// of two that contradict each other); or what the operator should know. `lab` admits less
/// protection than an interface's sources ask for, with a warning.
Result<std::vector<Warning>> Validate(const Document& document, bool lab);

/// In the order of names, which is how documents are kept, shown and compared.
void SortByName(Document& document);

}  // namespace portcullis::model
