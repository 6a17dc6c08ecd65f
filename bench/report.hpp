// What people and programs read: a table on the terminal as the rows come in, and all of it as
// JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "bench/row.hpp"

namespace portcullis::bench {

void PrintHeading();
void Print(const Case& test, const Row& row);
[[nodiscard]] nlohmann::json ToJson(const Case& test, const Row& row);
/// The machine that all rows come from.
[[nodiscard]] nlohmann::json Machine();

}  // namespace portcullis::bench
