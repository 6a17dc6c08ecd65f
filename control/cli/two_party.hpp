// What two people do together: one asks for it, the other looks at exactly that and says yes or no.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "control/cli/cli.hpp"

namespace portcullis::cli {

/// The words of such a group of commands: list, show, and POST {path}/{id}/{verb} for the two
/// answers, where the first says by its digest what was looked at.
struct TwoParty {
  struct Command {
    const char* verb;
    const char* about;
    const char* done;  // "change {} is made", of an ID
  };
  const char* path;  // of the collection
  const char* group;
  const char* about;
  const char* id;      // what the argument ID is
  const char* digest;  // and DIGEST
  const char* show;    // what it does
  Command approval;
  Command refusal;
  std::string (*render_all)(const nlohmann::json& items);
  std::string (*render)(const nlohmann::json& answer);       // one, with all that was asked for
  std::string (*render_done)(const nlohmann::json& answer);  // what came of it
};

/// `words` outlives the commands.
void AddTwoPartyCommands(Cli& cli, const TwoParty& words);

}  // namespace portcullis::cli
