// From HTTP answers to exit codes and sentences; see outcome.hpp.
#include "control/cli/outcome.hpp"

namespace portcullis::cli {
namespace {

using nlohmann::json;

ExitCode CodeOf(unsigned status) {
  constexpr unsigned kUnauthorized = 401;
  constexpr unsigned kForbidden = 403;
  constexpr unsigned kFirstServerError = 500;
  if (status == kUnauthorized || status == kForbidden) return ExitCode::kNotAllowed;
  return status < kFirstServerError ? ExitCode::kRefused : ExitCode::kServerError;
}

std::string Member(const json& body, const char* name) {
  const auto it = body.find(name);
  if (it == body.end()) return {};
  return it->is_string() ? it->get<std::string>() : it->dump();
}

std::string Sentence(unsigned status, const json& problem) {
  std::string text = Member(problem, "detail");
  if (text.empty()) text = Member(problem, "title");
  if (text.empty()) text = fmt::format("control answered {}", status);
  while (!text.empty() && text.back() == '.') text.pop_back();
  std::string more;
  const auto add = [&more](std::string_view label, const std::string& value) {
    if (!value.empty()) more += fmt::format("{}{} {}", more.empty() ? "" : ", ", label, value);
  };
  add("field", Member(problem, "field"));
  add("expected", Member(problem, "expected"));
  add("found", Member(problem, "found"));
  return more.empty() ? text : text + " (" + more + ")";
}

}  // namespace

Failure FailureOf(unsigned status, const std::string& body) {
  const json problem = json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (!problem.is_object()) {
    return {CodeOf(status),
            fmt::format("control answered {} without saying why (no problem body)", status),
            nullptr};
  }
  return {CodeOf(status), Sentence(status, problem), problem};
}

json ToProblem(const Failure& failure) {
  json problem = failure.problem.is_object()
                     ? failure.problem
                     : json{{"type", "about:blank"}, {"detail", failure.text}};
  problem["exit_code"] = static_cast<int>(failure.code);
  return problem;
}

}  // namespace portcullis::cli
