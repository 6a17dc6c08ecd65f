// How a command ends. The exit code says who has to act: nobody, the author of the request, the
// caller of the program, the network, whoever hands out rights, or control's administrator.
#pragma once

#include <array>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

#include "base/result.hpp"

namespace portcullis::cli {

enum class ExitCode {
  kOk = 0,
  kRefused = 1,
  kUsage = 2,
  kUnreachable = 3,
  kNotAllowed = 4,
  kServerError = 5,
  kDifference = 6,
  kHeld = 7,
};

struct ExitCodeText {
  ExitCode code;
  std::string_view text;
};
inline constexpr auto kExitCodes = std::to_array<ExitCodeText>({
    {ExitCode::kOk, "done; policy diff: no difference; check-host: this host can run the gate"},
    {ExitCode::kRefused,
     "control refused the request (4xx); check-host: something is missing; audit verify: not "
     "intact"},
    {ExitCode::kUsage, "wrong command line, configuration or file"},
    {ExitCode::kUnreachable, "control cannot be reached"},
    {ExitCode::kNotAllowed, "not authenticated, in either direction, or not authorised"},
    {ExitCode::kServerError, "control failed, or the dataplane is away (5xx)"},
    {ExitCode::kDifference, "policy diff: there is a difference"},
    {ExitCode::kHeld, "nothing changed yet: the change waits for another person's approval"},
});

/// Why a command did not end well. `problem` is the RFC 9457 body, where there is one.
struct Failure {
  ExitCode code;
  std::string text;
  nlohmann::json problem;
};

template <class T>
using Outcome = tl::expected<T, Failure>;

inline tl::unexpected<Failure> Fails(ExitCode code, std::string text) {
  return tl::unexpected(Failure{code, std::move(text), nullptr});
}

/// The failure that an HTTP answer of 400 and above stands for. The body may be anything; a problem
/// body becomes one sentence with the field, what was expected and what was found.
Failure FailureOf(unsigned status, const std::string& body);

/// The failure as a problem body, for --json.
nlohmann::json ToProblem(const Failure& failure);

}  // namespace portcullis::cli
