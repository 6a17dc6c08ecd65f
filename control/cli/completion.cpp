// Commands and options are a table of command path -> words, which each shell looks up in its own
// way. File names are offered where nothing else fits.
#include "control/cli/completion.hpp"

#include <fmt/format.h>

#include <vector>

namespace portcullis::cli {
namespace {

struct Word {
  std::string text;
  std::string description;
  bool command;
};
struct Place {
  std::string path;  // "peers revoke"; "" is the top
  std::vector<Word> words;
};

void Collect(const CLI::App& command, const std::string& path, std::vector<Place>& places) {
  Place place{path, {}};
  const auto subs = command.get_subcommands([](const CLI::App*) { return true; });
  for (const CLI::App* sub : subs) {
    place.words.push_back({sub->get_name(), sub->get_description(), true});
  }
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) {
      place.words.push_back({"--" + name, option->get_description(), false});
    }
  }
  if (command.get_name() == "completion") {
    for (const char* shell : {"bash", "zsh", "fish"}) place.words.push_back({shell, "", true});
  }
  places.push_back(std::move(place));
  for (const CLI::App* sub : subs) {
    Collect(*sub, path.empty() ? sub->get_name() : path + " " + sub->get_name(), places);
  }
}

// Global options may stand after each command.
std::string Words(const Place& place, const Place& top) {
  std::string text;
  for (const Word& word : place.words) text += (text.empty() ? "" : " ") + word.text;
  if (&place == &top) return text;
  for (const Word& word : top.words) {
    if (!word.command && word.text != "--help" && word.text != "--version") text += " " + word.text;
  }
  return text;
}

// Walks the words before the cursor as long as they name commands; shared by bash and zsh
// (where a variable named path would be PATH).
std::string Bash(const std::vector<Place>& places, const char* words, const char* last) {
  std::string cases;
  std::string commands;
  for (const Place& place : places) {
    cases +=
        fmt::format("    \"{}\") offers=\"{}\" ;;\n", place.path, Words(place, places.front()));
    if (!place.path.empty()) commands += (commands.empty() ? "\"" : "|\"") + place.path + "\"";
  }
  return fmt::format(R"(  local place="" word next offers=""
  for word in {}; do
    next="${{place:+$place }}$word"
    case "$next" in
    {}) place="$next" ;;
    esac
  done
  case "$place" in
{}  esac
)",
                     words, commands, cases) +
         last;
}

std::string FishQuoted(std::string text) {
  for (size_t at = 0; (at = text.find('\'', at)) != std::string::npos; at += 2) {
    text.insert(at, "\\");
  }
  return "'" + text + "'";
}

std::string Fish(const std::vector<Place>& places) {
  std::string text =
      "function __portcullisctl_at --description 'Is the cursor after this command'\n"
      "  set -l words (string match --invert -- '-*' (commandline -opc)[2..-1])\n"
      "  test \"$words\" = \"$argv\"\n"
      "end\n";
  for (const Place& place : places) {
    for (const Word& word : place.words) {
      const bool everywhere = place.path.empty() && !word.command;
      text += fmt::format("complete -c portcullisctl{}{} -d {}\n",
                          everywhere ? "" : fmt::format(" -n '__portcullisctl_at {}'", place.path),
                          word.command ? " -f -a " + word.text : " -l " + word.text.substr(2),
                          FishQuoted(word.description));
    }
  }
  return text;
}

}  // namespace

std::string Completion(const CLI::App& app, const std::string& shell) {
  std::vector<Place> places;
  Collect(app, "", places);
  if (shell == "fish") return Fish(places);
  if (shell == "zsh") {
    return "#compdef portcullisctl\n_portcullisctl() {\n" +
           Bash(places, "${words[2,CURRENT-1]}",
                "  compadd -- ${=offers}\n  [[ $PREFIX == -* ]] || _files\n") +
           "}\ncompdef _portcullisctl portcullisctl\n";
  }
  return "_portcullisctl() {\n" +
         Bash(places, "\"${COMP_WORDS[@]:1:COMP_CWORD-1}\"",
              "  COMPREPLY=($(compgen -W \"$offers\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n") +
         "}\ncomplete -o default -F _portcullisctl portcullisctl\n";
}

}  // namespace portcullis::cli
