// What the guard saw protected servers say: owners, to which tenant their resources belong, and
// registrations, which peers they have taken in.
#include <memory>

#include "control/cli/cli.hpp"
#include "control/cli/json_text.hpp"
#include "control/cli/render.hpp"

namespace portcullis::cli {
namespace {

using nlohmann::json;
using Verb = ControlClient::Verb;

struct OwnerArguments {
  std::string interface;
  std::string tenant;
  std::string id;
  bool dry_run = false;
};

// All pages.
Outcome<ExitCode> List(Cli& cli, const OwnerArguments& arguments) {
  const auto control = cli.Control();
  if (!control) return tl::unexpected(control.error());
  std::string first = "/v1/owners?limit=1000";
  if (!arguments.interface.empty()) first += "&interface=" + UrlEncode(arguments.interface);
  if (!arguments.tenant.empty()) first += "&tenant=" + UrlEncode(arguments.tenant);
  json items = json::array();
  for (std::string target = first;;) {
    const auto page = (*control)->Get(target);
    if (!page) return tl::unexpected(page.error());
    for (const json& item : At(*page, "items")) items.push_back(item);
    const std::string next = Text(*page, "next");
    if (next.empty()) break;
    target = fmt::format("{}&after={}", first, UrlEncode(next));
  }
  if (cli.json()) {
    cli.Print({{"items", items}});
  } else {
    cli.out() << RenderOwners(items);
  }
  return ExitCode::kOk;
}

struct RegistrationArguments {
  std::string interface;
  std::string id;
  bool dry_run = false;
};

Outcome<ExitCode> ListRegistrations(Cli& cli, const RegistrationArguments& arguments) {
  const auto control = cli.Control();
  if (!control) return tl::unexpected(control.error());
  std::string target = "/v1/registrations";
  if (!arguments.interface.empty()) target += "?interface=" + UrlEncode(arguments.interface);
  const auto all = (*control)->Get(target);
  if (!all) return tl::unexpected(all.error());
  if (cli.json()) {
    cli.Print(*all);
  } else {
    cli.out() << RenderRegistrations(At(*all, "items"));
  }
  return ExitCode::kOk;
}

void AddRegistrationCommands(Cli& cli) {
  const auto arguments = std::make_shared<RegistrationArguments>();
  const auto list = [&cli, arguments] { return ListRegistrations(cli, *arguments); };
  CLI::App* group =
      cli.Group("registrations",
                "Which peers are registered with protected servers, as the guard saw it", list);
  CLI::App* all = cli.Command(group, "list", "All of them; the same as no command", list);
  all->add_option("--interface", arguments->interface, "Only on this interface")->type_name("NAME");
  CLI::App* end = cli.Command(
      group, "end", "The peer may do nothing but register anew, and is sent nothing until then",
      [&cli, arguments] {
        return cli.Change(Verb::delete_,
                          fmt::format("/v1/registrations/{}{}", UrlEncode(arguments->id),
                                      arguments->dry_run ? "?dryRun=true" : ""),
                          nullptr, "registration ended", arguments->dry_run);
      });
  end->add_option("ID", arguments->id, "As list shows it")->required();
  end->add_flag("--dry-run", arguments->dry_run, "Say what would change; change nothing");
}

}  // namespace

void AddOwnerCommands(Cli& cli) {
  AddRegistrationCommands(cli);
  const auto arguments = std::make_shared<OwnerArguments>();
  const auto list = [&cli, arguments] { return List(cli, *arguments); };
  CLI::App* group = cli.Group(
      "owners", "Whose what peers created on protected servers is, as the guard saw it", list);
  CLI::App* all = cli.Command(group, "list", "All of them; the same as no command", list);
  all->add_option("--interface", arguments->interface, "Only on this interface")->type_name("NAME");
  all->add_option("--tenant", arguments->tenant, "Only of this tenant")->type_name("TENANT");
  CLI::App* forget = cli.Command(
      group, "forget", "It is nobody's from now on, and the next that creates it has it",
      [&cli, arguments] {
        return cli.Change(Verb::delete_,
                          fmt::format("/v1/owners/{}{}", UrlEncode(arguments->id),
                                      arguments->dry_run ? "?dryRun=true" : ""),
                          nullptr, "owner forgotten", arguments->dry_run);
      });
  forget->add_option("ID", arguments->id, "As list shows it")->required();
  forget->add_flag("--dry-run", arguments->dry_run, "Say what would change; change nothing");
}

}  // namespace portcullis::cli
