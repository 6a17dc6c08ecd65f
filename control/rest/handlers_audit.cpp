// The audit log, for operators.
#include <limits>
#include <nlohmann/json.hpp>

#include "control/registry/audit/log.hpp"
#include "control/rest/routes.hpp"

namespace portcullis::rest {

using nlohmann::json;

Answer ListAudit(Context& context, Request& request) {
  constexpr uint64_t kMostPerPage = 1000;
  constexpr uint64_t kUsual = 100;
  const auto from = Number(request, "from", 1, std::numeric_limits<uint32_t>::max());
  if (!from) co_return Problem(kMalformed, from.error(), request.path);
  const auto count = Number(request, "count", kUsual, kMostPerPage);
  if (!count) co_return Problem(kMalformed, count.error(), request.path);
  auto records = context.audit.Read(*from, *count);
  if (!records) co_return Problem(records.error(), request.path);
  json out = {{"count", context.audit.count()}, {"items", json::array()}};
  const uint64_t next = *from + records->size();
  for (auto& record : *records) out["items"].push_back(std::move(record));
  if (next <= context.audit.count() && !out["items"].empty()) out["next"] = next;
  co_return Json(200, out);
}

Answer GetAuditCheckpoint(Context& context, Request& request) {
  const auto checkpoint = context.audit.Checkpoint();
  if (!checkpoint) co_return Problem(checkpoint.error(), request.path);
  co_return Json(200, audit::ToJson(*checkpoint));
}

}  // namespace portcullis::rest
