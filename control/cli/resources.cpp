// interfaces, peers, policies, request-blocks and sas: collections that REST treats alike, so these
// commands are built once. And what is revoked.
#include <memory>

#include "control/cli/cli.hpp"
#include "control/cli/document.hpp"
#include "control/cli/json_text.hpp"
#include "control/cli/render.hpp"

namespace portcullis::cli {
namespace {

using nlohmann::json;
using Verb = ControlClient::Verb;

struct Collection {
  const char* command;
  const char* one;  // what one is called
  const char* path;
  const char* id;           // member that names one
  const char* placeholder;  // the same, in a usage line
  std::string (*render)(const json& items);
};
constexpr Collection kInterfaces = {"interfaces", "interface", "/v1/interfaces",
                                    "name",       "NAME",      RenderInterfaces};
constexpr Collection kPeers = {"peers", "peer", "/v1/peers", "name", "NAME", RenderPeers};
constexpr Collection kPolicies = {"policies", "policy", "/v1/policies",
                                  "name",     "NAME",   RenderPolicies};
constexpr Collection kBlocks = {"request-blocks", "block", "/v1/request-blocks",
                                "name",           "NAME",  RenderRequestBlocks};
constexpr Collection kSas = {"sas", "security association", "/v1/sas", "id", "ID", RenderSas};

struct ResourceArguments {
  std::string name;
  std::string kind;  // of a revocation, with the next three
  std::string issuer;
  std::string reason;
  std::string until;
  std::string file;
  bool dry_run = false;
  bool replace = false;
  bool undo = false;
};

// All pages of a collection.
Outcome<json> ListAll(ControlClient& control, const Collection& collection) {
  json items = json::array();
  std::string target = collection.path;
  while (true) {
    auto page = control.Get(target);
    if (!page) return page;
    for (const json& item : At(*page, "items")) items.push_back(item);
    const std::string next = Text(*page, "next");
    if (next.empty()) return items;
    target = fmt::format("{}?after={}", collection.path, UrlEncode(next));
  }
}

Outcome<ExitCode> List(Cli& cli, const Collection& collection) {
  const auto control = cli.Control();
  if (!control) return tl::unexpected(control.error());
  const auto items = ListAll(**control, collection);
  if (!items) return tl::unexpected(items.error());
  if (cli.json()) {
    cli.Print({{"items", *items}});
  } else {
    cli.out() << collection.render(*items);
  }
  return ExitCode::kOk;
}

std::string Target(const Collection& collection, const std::string& name, const char* below,
                   bool dry_run) {
  return fmt::format("{}{}{}{}{}", collection.path, name.empty() ? "" : "/", UrlEncode(name), below,
                     dry_run ? "?dryRun=true" : "");
}

// The file holds one resource, a list of them, or what `list --json` prints.
Outcome<ExitCode> Add(Cli& cli, const Collection& collection, const ResourceArguments& arguments) {
  const auto document = ReadDocument(arguments.file);
  if (!document) return tl::unexpected(document.error());
  const json items = document->contains("items") ? (*document)["items"]
                     : document->is_array()      ? *document
                                                 : json::array({*document});
  size_t number = 0;
  for (const json& item : items) {
    ++number;
    const std::string name = Text(item, collection.id);
    if (name.empty()) {
      return Fails(
          ExitCode::kUsage,
          fmt::format("{}: item {}: expected a {} with '{}', found {}", arguments.file, number,
                      collection.one, collection.id, item.is_object() ? "none" : item.type_name()));
    }
    auto outcome = cli.Change(
        arguments.replace ? Verb::put : Verb::post,
        Target(collection, arguments.replace ? name : "", "", arguments.dry_run), item,
        fmt::format("{} {} {}", collection.one, name, arguments.replace ? "is set" : "added"),
        arguments.dry_run);
    // The first that waits ends it too: what follows may rest on it, and would wait on a policy
    // that is gone when the first is made.
    if (outcome && *outcome == ExitCode::kHeld) return outcome;
    if (outcome) continue;
    Failure failure = outcome.error();
    failure.text = fmt::format("{} {}: {}", collection.one, name, failure.text);
    if (number > 1) failure.text += fmt::format(" [the {} before it went in]", number - 1);
    return tl::unexpected(std::move(failure));
  }
  return ExitCode::kOk;
}

CLI::App* AddCollection(Cli& cli, const Collection& collection, const char* description) {
  const auto arguments = std::make_shared<ResourceArguments>();
  const auto list = [&cli, &collection] { return List(cli, collection); };
  CLI::App* group = cli.Group(collection.command, description, list);
  cli.Command(group, "list", "All of them; the same as no command", list);

  CLI::App* show =
      cli.Command(group, "show", fmt::format("One {}, as YAML", collection.one),
                  [&cli, &collection, arguments] {
                    return cli.Show(Target(collection, arguments->name, "", false), ToYaml);
                  });
  show->add_option(collection.placeholder, arguments->name)->required();

  CLI::App* add =
      cli.Command(group, "add",
                  fmt::format("Add what FILE describes, one {} or a list; the first "
                              "refusal ends it",
                              collection.one),
                  [&cli, &collection, arguments] { return Add(cli, collection, *arguments); });
  add->add_option("FILE", arguments->file, "YAML or JSON; - is standard input")->required();
  add->add_flag("--dry-run", arguments->dry_run, "Say what would change; change nothing");
  add->add_flag("--replace", arguments->replace, "Replace the one of that name");

  CLI::App* remove = cli.Command(
      group, "delete", fmt::format("Remove one {}", collection.one),
      [&cli, &collection, arguments] {
        return cli.Change(
            Verb::delete_, Target(collection, arguments->name, "", arguments->dry_run), nullptr,
            fmt::format("{} {} removed", collection.one, arguments->name), arguments->dry_run);
      });
  remove->add_option(collection.placeholder, arguments->name)->required();
  remove->add_flag("--dry-run", arguments->dry_run, "Say what would change; change nothing");
  return group;
}

Outcome<ExitCode> Revoke(Cli& cli, const ResourceArguments& arguments, bool revoked) {
  json wish = {{"kind", arguments.kind}, {"id", arguments.name}, {"revoked", revoked}};
  if (!arguments.issuer.empty()) wish["issuer"] = arguments.issuer;
  if (!arguments.reason.empty()) wish["reason"] = arguments.reason;
  if (!arguments.until.empty()) wish["until"] = arguments.until;
  return cli.Change(Verb::post,
                    fmt::format("/v1/revocations{}", arguments.dry_run ? "?dryRun=true" : ""), wish,
                    fmt::format("{} {} {}", arguments.kind, arguments.name,
                                revoked ? "is revoked" : "is admitted again"),
                    arguments.dry_run);
}

void AddRevocations(Cli& cli) {
  const auto list = [&cli] {
    return cli.Show("/v1/revocations",
                    [](const json& answer) { return RenderRevocations(At(answer, "items")); });
  };
  CLI::App* group = cli.Group("revocations", "What is denied, whatever the policy says", list);
  cli.Command(group, "list", "All of them; the same as no command", list);
  const auto arguments = std::make_shared<ResourceArguments>();
  const auto name_it = [arguments](CLI::App* command) {
    command->add_option("KIND", arguments->kind, "certificate, token, key, issuer, policy or peer")
        ->required();
    command
        ->add_option("ID", arguments->name,
                     "Serial number (hex), jti, kid, the issuer's URL, or name")
        ->required();
    command->add_option("--issuer", arguments->issuer, "Of a certificate, token or key");
    command->add_flag("--dry-run", arguments->dry_run, "Say what would change; change nothing");
  };
  CLI::App* add = cli.Command(group, "add", "Revoke it: what rests on it ends at once",
                              [&cli, arguments] { return Revoke(cli, *arguments, true); });
  name_it(add);
  add->add_option("--reason", arguments->reason, "For those who read the list");
  add->add_option("--until", arguments->until,
                  "When it expires by itself, as 2027-01-31T12:00:00Z; never forgotten without");
  name_it(cli.Command(group, "remove", "Admit it again",
                      [&cli, arguments] { return Revoke(cli, *arguments, false); }));
}

}  // namespace

void AddResourceCommands(Cli& cli) {
  AddCollection(cli, kInterfaces, "Protected management interfaces");
  CLI::App* peers = AddCollection(cli, kPeers, "Who may come at all");
  const auto arguments = std::make_shared<ResourceArguments>();
  CLI::App* revoke = cli.Command(
      peers, "revoke", "Shut a peer out at once, without deleting it", [&cli, arguments] {
        return cli.Change(Verb::post,
                          Target(kPeers, arguments->name, "/revoke", arguments->dry_run),
                          {{"revoked", !arguments->undo}},
                          fmt::format("peer {} {}", arguments->name,
                                      arguments->undo ? "is admitted again" : "is shut out"),
                          arguments->dry_run);
      });
  revoke->add_option("NAME", arguments->name)->required();
  revoke->add_flag("--undo", arguments->undo, "Admit it again");
  revoke->add_flag("--dry-run", arguments->dry_run, "Say what would change; change nothing");
  AddCollection(cli, kPolicies, "Which role may reach which interface");
  AddCollection(cli, kBlocks, "Requests that are refused for now, whatever policy grants");
  AddRevocations(cli);
  AddCollection(cli, kSas, "Security associations; adding keys by hand is for laboratories");
}

}  // namespace portcullis::cli
