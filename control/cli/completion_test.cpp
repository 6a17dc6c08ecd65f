#include "control/cli/completion.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "control/cli/cli.hpp"

namespace portcullis::cli {
namespace {

// What bash itself offers after `line`, the last word of which is being typed.
std::set<std::string> Offered(const std::vector<std::string>& line) {
  std::ostringstream out;
  std::ostringstream err;
  Cli cli(out, err);
  std::string pattern = std::filesystem::temp_directory_path() / "complete-XXXXXX";
  const int fd = mkstemp(pattern.data());
  close(fd);
  std::ofstream script(pattern);
  script << Completion(cli.app(), "bash") << "COMP_WORDS=(portcullisctl";
  for (const std::string& word : line) script << " '" << word << "'";
  script << ")\nCOMP_CWORD=" << line.size() << "\n_portcullisctl\necho \"${COMPREPLY[@]}\"\n";
  script.close();
  FILE* pipe = popen(("bash " + pattern).c_str(), "r");
  std::string text;
  std::array<char, 4096> chunk{};
  while (std::fgets(chunk.data(), chunk.size(), pipe) != nullptr) text += chunk.data();
  EXPECT_EQ(pclose(pipe), 0);
  std::filesystem::remove(pattern);
  std::istringstream words(text);
  std::set<std::string> offered;
  for (std::string word; words >> word;) offered.insert(word);
  return offered;
}

using Words = std::set<std::string>;

TEST(CompletionTest, BashOffersWhatFits) {
  EXPECT_EQ(Offered({"po"}), (Words{"policies", "policy"}));
  EXPECT_EQ(Offered({"peers", "re"}), (Words{"revoke"}));
  EXPECT_EQ(Offered({"peers", "revoke", "--u"}), (Words{"--undo", "--url"}));
  EXPECT_EQ(Offered({"--json", "sas", "d"}), (Words{"delete"}));
  EXPECT_EQ(Offered({"completion", ""}).count("fish"), 1U);
  EXPECT_EQ(Offered({"status", "po"}), Words{});
}

TEST(CompletionTest, EveryShellKnowsEveryCommand) {
  std::ostringstream out;
  std::ostringstream err;
  Cli cli(out, err);
  for (const char* shell : {"bash", "zsh", "fish"}) {
    const std::string script = Completion(cli.app(), shell);
    for (const CLI::App* command :
         cli.app().get_subcommands([](const CLI::App*) { return true; })) {
      EXPECT_NE(script.find(command->get_name()), std::string::npos) << shell;
    }
  }
}

TEST(CliTest, UsageErrorsExitWithTwoAndHelpWithZero) {
  const auto run = [](std::vector<const char*> argv) {
    argv.insert(argv.begin(), "portcullisctl");
    std::ostringstream out;
    std::ostringstream err;
    return Cli(out, err).Run(static_cast<int>(argv.size()), argv.data());
  };
  EXPECT_EQ(run({}), 2);
  EXPECT_EQ(run({"nonsense"}), 2);
  EXPECT_EQ(run({"counters", "--by", "colour"}), 2);
  EXPECT_EQ(run({"counters", "--times", "1"}), 2);  // without --watch
  EXPECT_EQ(run({"policy", "apply"}), 2);
  EXPECT_EQ(run({"--help"}), 0);
  EXPECT_EQ(run({"peers", "revoke", "--help"}), 0);
  EXPECT_EQ(run({"verdicts"}), 0);
  EXPECT_EQ(run({"verdicts", "--json"}), 0);
}

}  // namespace
}  // namespace portcullis::cli
