// The command tree of portcullisctl: each file of commands adds its own to it.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <map>
#include <optional>
#include <ostream>
#include <string>

#include "control/cli/control_client.hpp"
#include "control/cli/outcome.hpp"
#include "control/cli/settings.hpp"

namespace portcullis::cli {

class Cli {
 public:
  using Action = std::function<Outcome<ExitCode>()>;

  Cli(std::ostream& out, std::ostream& err);

  /// Parses, runs, reports; the process's exit code.
  int Run(int argc, const char* const* argv);

  /// A command under `parent` (or at the top) that runs `action`. The pointer stays valid.
  CLI::App* Command(CLI::App* parent, const std::string& name, const std::string& description,
                    Action action);
  /// A command that only has commands below it; `fallback` runs when none is given.
  CLI::App* Group(const std::string& name, const std::string& description, Action fallback);

  // For the commands.
  [[nodiscard]] CLI::App& app() { return app_; }
  [[nodiscard]] std::ostream& out() { return out_; }
  [[nodiscard]] bool json() const { return json_; }
  /// Connects at the first use.
  Outcome<ControlClient*> Control();
  /// GET, printed by `render` or as JSON.
  Outcome<ExitCode> Show(const std::string& target,
                         const std::function<std::string(const nlohmann::json&)>& render);
  /// A write, with what became of it in a line or more: `done`, what it would do, or that it waits.
  Outcome<ExitCode> Change(ControlClient::Verb verb, const std::string& target,
                           const nlohmann::json& body, const std::string& done, bool dry_run);
  void Print(const nlohmann::json& value) { out_ << value.dump(2) << '\n' << std::flush; }

 private:
  CLI::App app_;
  std::ostream& out_;
  std::ostream& err_;
  SettingsFlags flags_;
  bool json_ = false;
  double timeout_seconds_ = 10;
  std::map<const CLI::App*, Action> actions_;
  std::optional<ControlClient> client_;
};

void AddResourceCommands(Cli& cli);     // interfaces, peers, policies, request-blocks, sas
void AddOwnerCommands(Cli& cli);        // owners, registrations
void AddPolicyCommands(Cli& cli);       // policy
void AddApprovalCommands(Cli& cli);     // approvals
void AddHeldRequestCommands(Cli& cli);  // held-requests
void AddFirstLineCommands(Cli& cli);    // first-line, drops
void AddObserveCommands(Cli& cli);      // status, counters, events, pipeline
void AddSessionCommands(Cli& cli);      // sessions, why
void AddTimeCommands(Cli& cli);         // time
void AddAuditCommands(Cli& cli);        // audit
void AddHostCommands(Cli& cli);         // check-host
void AddReferenceCommands(Cli& cli);    // verdicts, completion, reference

}  // namespace portcullis::cli
