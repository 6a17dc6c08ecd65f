// check-host: what this host can and cannot do for a gate. Needs no control.
#include <memory>

#include "control/cli/cli.hpp"
#include "control/cli/host/check.hpp"
#include "control/cli/table.hpp"

namespace portcullis::cli {
namespace {

constexpr const char* Name(host::Status status) {
  switch (status) {
    case host::Status::kOk:
      return "ok";
    case host::Status::kWarn:
      return "warn";
    case host::Status::kMissing:
      return "missing";
  }
  return "";
}

struct HostArguments {
  std::vector<std::string> interfaces;
  std::string configuration;
};

Outcome<ExitCode> CheckHost(Cli& cli, const HostArguments& arguments) {
  const std::vector<host::Finding> findings =
      host::CheckHost(arguments.interfaces, arguments.configuration);
  const bool fit = std::none_of(findings.begin(), findings.end(), [](const host::Finding& finding) {
    return finding.status == host::Status::kMissing;
  });
  if (cli.json()) {
    nlohmann::json list = nlohmann::json::array();
    for (const host::Finding& finding : findings) {
      list.push_back({{"what", finding.what},
                      {"status", Name(finding.status)},
                      {"found", finding.found},
                      {"fix", finding.fix}});
    }
    cli.Print({{"can_run", fit}, {"findings", list}});
  } else {
    Table table({{"WHAT"}, {"STATUS"}, {"FOUND"}, {"HOW TO FIX"}});
    for (const host::Finding& finding : findings) {
      table.Add({finding.what, Name(finding.status), finding.found, finding.fix});
    }
    cli.out() << table.Text() << '\n'
              << (fit ? "This host can run the gate.\n"
                      : "This host cannot run the gate: see what is missing.\n");
  }
  return fit ? ExitCode::kOk : ExitCode::kRefused;
}

}  // namespace

void AddHostCommands(Cli& cli) {
  const auto arguments = std::make_shared<HostArguments>();
  CLI::App* command = cli.Command(nullptr, "check-host",
                                  "Everything that this host lacks to run a gate, all at once",
                                  [&cli, arguments] { return CheckHost(cli, *arguments); });
  command->add_option("--interface", arguments->interfaces, "Also check this one; may be repeated")
      ->type_name("NAME");
  command
      ->add_option("--dataplane", arguments->configuration,
                   "Also check what this configuration of portcullis-dataplane asks for")
      ->type_name("FILE");
}

}  // namespace portcullis::cli
