// control.yaml's rest.operators and rest.tokens: who the operators are.
#pragma once

#include <string>

#include "base/result.hpp"
#include "control/rest/operators.hpp"

namespace portcullis {

/// Of a file whose `rest.operators` is a list and whose `rest.tokens` is a mapping or absent.
Result<rest::Operators::Settings> ReadOperators(const std::string& path);

}  // namespace portcullis
