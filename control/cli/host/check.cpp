// The list of checks, in the order in which a host is put right.
#include "control/cli/host/check.hpp"

#include <fstream>
#include <sstream>

namespace portcullis::cli::host {

std::vector<Finding> CheckHost(const std::vector<std::string>& interfaces,
                               const std::string& configuration) {
  std::vector<Finding> all;
  const auto add = [&all](std::vector<Finding> some) {
    for (Finding& finding : some) all.push_back(std::move(finding));
  };
  add(CheckPrivileges());
  add(CheckKernel());
  add(CheckNetwork());
  add(CheckMachine());
  add(CheckDrivers());
  for (const std::string& name : interfaces) add(CheckInterface(name, {}));
  if (!configuration.empty()) add(CheckConfiguration(configuration));
  return all;
}

std::string FirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::vector<std::string> LabelledWords(const std::string& path, const std::string& label) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos || !line.starts_with(label)) continue;
    if (line.find_first_not_of(" \t", label.size()) != colon) continue;
    std::istringstream words(line.substr(colon + 1));
    std::vector<std::string> found;
    for (std::string word; words >> word;) found.push_back(word);
    return found;
  }
  return {};
}

}  // namespace portcullis::cli::host
