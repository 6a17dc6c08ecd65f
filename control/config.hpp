// control.yaml: what it may say and what is wrong with it, by file, line and field.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "control/admission/server.hpp"
#include "control/registry/audit/log.hpp"
#include "control/rest/operators.hpp"
#include "control/rest/server.hpp"
#include "control/syslog/syslog.hpp"

namespace portcullis {

struct ControlConfig {
  bool lab = false;
  std::string store;
  AuditLog::Settings audit;
  std::string steering;
  std::optional<Syslog::Settings> syslog;
  std::optional<admission::ServerSettings> guard;  // none: nobody opens sessions
  std::vector<std::chrono::hours> alarms;          // how long before something ends
  rest::ServerSettings rest;
  rest::Operators::Settings operators;
};

/// Relative paths are relative to the file's folder.
Result<ControlConfig> LoadControlConfig(const std::string& path);

}  // namespace portcullis
