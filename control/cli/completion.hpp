// Shell completion from the command tree.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace portcullis::cli {

/// `shell`: bash, zsh or fish.
std::string Completion(const CLI::App& app, const std::string& shell);

}  // namespace portcullis::cli
