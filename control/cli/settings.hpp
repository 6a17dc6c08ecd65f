// Where control is and who we are to it.
#pragma once

#include <string>

#include "control/cli/outcome.hpp"

namespace portcullis::cli {

struct Settings {
  std::string url = "https://127.0.0.1:8443";
  std::string ca;           // PEM file: who may call itself control
  std::string certificate;  // PEM file: who we are
  std::string key;          // PEM file
  std::string server_name;  // to look for in control's certificate; empty: the URL's host
  std::string token_file;   // access token to show beside the certificate; empty: none
};

/// What the command line said; empty: nothing.
struct SettingsFlags {
  std::string config;
  Settings values{
      .url = {}, .ca = {}, .certificate = {}, .key = {}, .server_name = {}, .token_file = {}};
};

/// Command line before environment (PORTCULLIS_URL, _CA, _CERT, _KEY, _SERVER_NAME, _TOKEN_FILE)
/// before file. The file is `config`, or ~/.config/portcullis/ctl.yaml where it exists; paths in it
/// are relative to it.
Outcome<Settings> LoadSettings(const SettingsFlags& flags);

struct Url {
  std::string host;  // IPv6 without brackets
  std::string port;
};
/// https only; no path, since control's paths are fixed.
Outcome<Url> ParseUrl(const std::string& url);

}  // namespace portcullis::cli
