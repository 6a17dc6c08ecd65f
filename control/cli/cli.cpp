// See cli.hpp.
#include "control/cli/cli.hpp"

#include <cmath>

#include "control/cli/json_text.hpp"
#include "control/cli/render.hpp"

namespace portcullis::cli {

Cli::Cli(std::ostream& out, std::ostream& err)
    : app_("Operates a Portcullis gate through portcullis-control.", "portcullisctl"),
      out_(out),
      err_(err) {
  app_.require_subcommand(1);
  app_.fallthrough();  // global options may stand after the command
  app_.option_defaults()->always_capture_default(false);
  app_.set_version_flag("--version", "portcullisctl " PORTCULLIS_VERSION);
  app_.add_flag("--json", json_, "Print JSON, for programs; problems go to standard error as JSON");
  app_.add_option("--config", flags_.config,
                  "Settings: url, ca, certificate, key, server_name, token_file; default "
                  "~/.config/portcullis/ctl.yaml")
      ->type_name("FILE");
  app_.add_option("--url", flags_.values.url,
                  "Where control is; or PORTCULLIS_URL; default https://127.0.0.1:8443")
      ->type_name("URL");
  app_.add_option("--ca", flags_.values.ca, "CA of control's certificate; or PORTCULLIS_CA")
      ->type_name("FILE");
  app_.add_option("--cert", flags_.values.certificate, "Your certificate; or PORTCULLIS_CERT")
      ->type_name("FILE");
  app_.add_option("--key", flags_.values.key, "Your key; or PORTCULLIS_KEY")->type_name("FILE");
  app_.add_option("--server-name", flags_.values.server_name,
                  "Name to expect in control's certificate, where it is not the URL's host; or "
                  "PORTCULLIS_SERVER_NAME")
      ->type_name("NAME");
  app_.add_option("--token-file", flags_.values.token_file,
                  "Access token to show beside your certificate; or PORTCULLIS_TOKEN_FILE")
      ->type_name("FILE");
  app_.add_option("--timeout", timeout_seconds_, "For each step of a request; default 10")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.001, 3600.0).description(""));
  std::string footer = "Exit codes:\n";
  for (const ExitCodeText& exit : kExitCodes) {
    footer += fmt::format("  {}  {}\n", static_cast<int>(exit.code), exit.text);
  }
  app_.footer(footer);
  AddObserveCommands(*this);
  AddOwnerCommands(*this);
  AddPolicyCommands(*this);
  AddResourceCommands(*this);
  AddFirstLineCommands(*this);
  AddApprovalCommands(*this);
  AddHeldRequestCommands(*this);
  AddSessionCommands(*this);
  AddTimeCommands(*this);
  AddAuditCommands(*this);
  AddHostCommands(*this);
  AddReferenceCommands(*this);
}

CLI::App* Cli::Command(CLI::App* parent, const std::string& name, const std::string& description,
                       Action action) {
  CLI::App* command = (parent != nullptr ? parent : &app_)->add_subcommand(name, description);
  command->fallthrough();
  actions_[command] = std::move(action);
  return command;
}

CLI::App* Cli::Group(const std::string& name, const std::string& description, Action fallback) {
  CLI::App* group = Command(nullptr, name, description, std::move(fallback));
  group->require_subcommand(0, 1);
  return group;
}

int Cli::Run(int argc, const char* const* argv) {
  try {
    app_.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const bool help = error.get_exit_code() == 0;
    app_.exit(error, out_, err_);
    return static_cast<int>(help ? ExitCode::kOk : ExitCode::kUsage);
  }
  const CLI::App* command = &app_;
  while (!command->get_subcommands().empty()) command = command->get_subcommands().front();
  const Outcome<ExitCode> outcome = actions_.at(command)();
  out_ << std::flush;
  if (outcome) return static_cast<int>(*outcome);
  if (json_) {
    err_ << ToProblem(outcome.error()).dump() << '\n';
  } else {
    err_ << "portcullisctl: " << outcome.error().text << '\n';
  }
  return static_cast<int>(outcome.error().code);
}

Outcome<ControlClient*> Cli::Control() {
  if (!client_) {
    const auto settings = LoadSettings(flags_);
    if (!settings) return tl::unexpected(settings.error());
    constexpr double kMilliseconds = 1000;
    auto client = ControlClient::Create(
        *settings, std::chrono::milliseconds(std::lround(timeout_seconds_ * kMilliseconds)));
    if (!client) return tl::unexpected(client.error());
    client_ = std::move(*client);
  }
  return &*client_;
}

Outcome<ExitCode> Cli::Show(const std::string& target,
                            const std::function<std::string(const nlohmann::json&)>& render) {
  const auto control = Control();
  if (!control) return tl::unexpected(control.error());
  const auto answer = (*control)->Get(target);
  if (!answer) return tl::unexpected(answer.error());
  if (json_) {
    Print(*answer);
  } else {
    out_ << render(*answer);
  }
  return ExitCode::kOk;
}

Outcome<ExitCode> Cli::Change(ControlClient::Verb verb, const std::string& target,
                              const nlohmann::json& body, const std::string& done, bool dry_run) {
  const auto control = Control();
  if (!control) return tl::unexpected(control.error());
  const auto answer = (*control)->Send(verb, target, body);
  if (!answer) return tl::unexpected(answer.error());
  const ExitCode code = IsHeld(*answer) ? ExitCode::kHeld : ExitCode::kOk;
  if (json_) {
    Print(*answer);
    return code;
  }
  if (dry_run) {
    const nlohmann::json& would = At(*answer, "would");
    out_ << (IsDifference(would) ? "would change:\n" + RenderDifference(would)
                                 : "would change nothing\n")
         << RenderNeed(*answer);
  } else if (code == ExitCode::kHeld) {
    out_ << RenderHeld(*answer);
  } else {
    const bool later = answer->contains("in_force") && !Flag(*answer, "in_force");
    out_ << done << (later ? " (stored; in force once the dataplane is back)" : "") << '\n';
  }
  out_ << RenderWarnings(At(*answer, "warnings"));
  return code;
}

}  // namespace portcullis::cli
