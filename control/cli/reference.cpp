// What the program says about itself, all from the command tree and the list of verdicts: the
// reference in docs/cli.md, the verdict table, and completion for three shells.
#include <memory>

#include "control/cli/cli.hpp"
#include "control/cli/completion.hpp"
#include "control/cli/render.hpp"
#include "control/cli/table.hpp"
#include "dataplane/packet/verdict.hpp"

namespace portcullis::cli {
namespace {

std::string VerdictsMarkdown() {
  std::string text = "| verdict | a packet that ends so |\n| --- | --- |\n";
  for (const VerdictInfo& info : kVerdicts) {
    text += fmt::format("| `{}` | {} |\n", info.name, info.text);
  }
  for (const Verdict verdict : kFirstLineVerdicts) {
    text += fmt::format("| `{}` | {} |\n", XdpName(verdict), XdpText(verdict));
  }
  return text;
}

Outcome<ExitCode> ShowVerdicts(Cli& cli, bool markdown) {
  if (cli.json()) {
    nlohmann::json list = nlohmann::json::array();
    for (const VerdictInfo& info : kVerdicts) {
      list.push_back({{"name", info.name}, {"text", info.text}});
    }
    for (const Verdict verdict : kFirstLineVerdicts) {
      list.push_back({{"name", XdpName(verdict)}, {"text", XdpText(verdict)}});
    }
    cli.Print(list);
  } else if (markdown) {
    cli.out() << VerdictsMarkdown();
  } else {
    Table table({{"VERDICT"}, {"A PACKET THAT ENDS SO"}});
    for (const VerdictInfo& info : kVerdicts) {
      table.Add({std::string(info.name), std::string(info.text)});
    }
    for (const Verdict verdict : kFirstLineVerdicts)
      table.Add({XdpName(verdict), XdpText(verdict)});
    cli.out() << table.Text();
  }
  return ExitCode::kOk;
}

std::string OptionsMarkdown(const CLI::App& command) {
  std::string text;
  for (const CLI::Option* option : command.get_options()) {
    if (option->get_name() == "--help") continue;
    std::string name = option->get_name(false, true);
    if (const std::string type = option->get_type_name();
        !option->get_positional() && option->get_expected_max() > 0 && !type.empty()) {
      name += " " + type.substr(0, type.find(':'));
    }
    text += fmt::format("- `{}`{}{}\n", name, option->get_description().empty() ? "" : ": ",
                        option->get_description());
  }
  return text.empty() ? text : text + '\n';
}

void CommandsMarkdown(const CLI::App& command, const std::string& path, std::string& text) {
  for (const CLI::App* sub : command.get_subcommands([](const CLI::App*) { return true; })) {
    std::string usage = path + " " + sub->get_name();
    for (const CLI::Option* option : sub->get_options()) {
      if (option->get_positional()) usage += " " + option->get_name(true);
    }
    text += fmt::format("### `{}`\n\n{}\n\n", usage, sub->get_description());
    text += OptionsMarkdown(*sub);
    CommandsMarkdown(*sub, path + " " + sub->get_name(), text);
  }
}

std::string Reference(const CLI::App& app) {
  std::string text =
      "# portcullisctl\n\n"
      "<!-- Written by `portcullisctl reference`; a test compares. -->\n\n" +
      app.get_description() +
      " Tables are for people; `--json`, which every command knows, is for programs.\n\n"
      "## Exit codes\n\n| code | meaning |\n| --- | --- |\n";
  for (const ExitCodeText& exit : kExitCodes) {
    text += fmt::format("| {} | {} |\n", static_cast<int>(exit.code), exit.text);
  }
  text += "\n## Options of every command\n\n" + OptionsMarkdown(app) +
          "The command line wins over the environment, the environment over the file. Paths in the "
          "file are relative to it:\n\n"
          "```yaml\nurl: https://gate.example:8443\nca: ca.pem\ncertificate: alice.pem\n"
          "key: alice.key\n```\n\n## Commands\n\n";
  CommandsMarkdown(app, "portcullisctl", text);
  return text + "## Verdicts\n\nWhat can become of a packet, in the order of its way.\n\n" +
         VerdictsMarkdown();
}

}  // namespace

void AddReferenceCommands(Cli& cli) {
  const auto markdown = std::make_shared<bool>(false);
  CLI::App* verdicts = cli.Command(nullptr, "verdicts", "What each verdict means",
                                   [&cli, markdown] { return ShowVerdicts(cli, *markdown); });
  verdicts->add_flag("--markdown", *markdown, "For the documentation");

  const auto shell = std::make_shared<std::string>();
  CLI::App* completion = cli.Command(nullptr, "completion",
                                     "Completion for a shell, to be sourced by it", [&cli, shell] {
                                       cli.out() << Completion(cli.app(), *shell);
                                       return Outcome<ExitCode>(ExitCode::kOk);
                                     });
  completion->add_option("SHELL", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}).description(""));

  cli.Command(nullptr, "reference", "This program's documentation, in Markdown", [&cli] {
    cli.out() << Reference(cli.app());
    return Outcome<ExitCode>(ExitCode::kOk);
  });
}

}  // namespace portcullis::cli
