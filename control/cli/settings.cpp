// See settings.hpp.
#include "control/cli/settings.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "control/cli/document.hpp"

namespace portcullis::cli {
namespace {

namespace fs = std::filesystem;

struct Name {
  const char* key;  // in the file
  const char* env;  // in the environment
  std::string Settings::*field;
  bool is_path;
};
constexpr auto kNames = std::to_array<Name>({
    {"url", "PORTCULLIS_URL", &Settings::url, false},
    {"ca", "PORTCULLIS_CA", &Settings::ca, true},
    {"certificate", "PORTCULLIS_CERT", &Settings::certificate, true},
    {"key", "PORTCULLIS_KEY", &Settings::key, true},
    {"server_name", "PORTCULLIS_SERVER_NAME", &Settings::server_name, false},
    {"token_file", "PORTCULLIS_TOKEN_FILE", &Settings::token_file, true},
});

std::string DefaultFile() {
  const char* home = std::getenv("XDG_CONFIG_HOME");
  fs::path folder = home != nullptr ? home : "";
  if (folder.empty()) {
    home = std::getenv("HOME");
    if (home == nullptr) return {};
    folder = fs::path(home) / ".config";
  }
  const fs::path file = folder / "portcullis" / "ctl.yaml";
  std::error_code ignored;
  return fs::exists(file, ignored) ? file.string() : "";
}

Outcome<void> FromFile(const std::string& path, Settings& settings) {
  const auto document = ReadDocument(path);
  if (!document) return tl::unexpected(document.error());
  if (!document->is_object()) {
    return Fails(ExitCode::kUsage, fmt::format("{}: expected a mapping of settings", path));
  }
  for (const auto& [key, value] : document->items()) {
    const auto name = std::find_if(kNames.begin(), kNames.end(),
                                   [&key = key](const Name& n) { return n.key == key; });
    if (name == kNames.end()) {
      return Fails(ExitCode::kUsage,
                   fmt::format("{}: unknown setting '{}'; expected url, ca, certificate, key, "
                               "server_name or token_file",
                               path, key));
    }
    if (!value.is_string()) {
      return Fails(ExitCode::kUsage,
                   fmt::format("{}: {}: expected text, found {}", path, key, value.dump()));
    }
    std::string text = value.get<std::string>();
    if (name->is_path) text = (fs::path(path).parent_path() / text).string();
    settings.*(name->field) = std::move(text);
  }
  return {};
}

}  // namespace

Outcome<Settings> LoadSettings(const SettingsFlags& flags) {
  Settings settings;
  const std::string file = flags.config.empty() ? DefaultFile() : flags.config;
  if (!file.empty()) {
    if (const auto read = FromFile(file, settings); !read) return tl::unexpected(read.error());
  }
  for (const Name& name : kNames) {
    const char* env = std::getenv(name.env);
    if (env != nullptr && *env != '\0') settings.*(name.field) = env;
    const std::string& flag = flags.values.*(name.field);
    if (!flag.empty()) settings.*(name.field) = flag;
  }
  for (const auto& [value, what] :
       {std::pair(&settings.ca, "the CA of control (--ca, PORTCULLIS_CA or ca)"),
        std::pair(&settings.certificate,
                  "your certificate (--cert, PORTCULLIS_CERT or certificate)"),
        std::pair(&settings.key, "your key (--key, PORTCULLIS_KEY or key)")}) {
    if (value->empty()) {
      return Fails(ExitCode::kUsage,
                   fmt::format("control speaks mutual TLS and {} is not configured", what));
    }
  }
  return settings;
}

Outcome<Url> ParseUrl(const std::string& url) {
  const auto wrong = [&url] {
    return Fails(ExitCode::kUsage,
                 fmt::format("the URL of control: expected https://HOST[:PORT], found '{}'", url));
  };
  constexpr std::string_view kScheme = "https://";
  if (!url.starts_with(kScheme)) return wrong();
  std::string rest = url.substr(kScheme.size());
  if (rest.ends_with('/')) rest.pop_back();
  Url result{.host = {}, .port = "8443"};
  size_t colon = 0;
  if (rest.starts_with('[')) {  // [IPv6], RFC 3986 3.2.2
    const size_t end = rest.find(']');
    if (end == std::string::npos) return wrong();
    result.host = rest.substr(1, end - 1);
    colon = end + 1;
    if (colon < rest.size() && rest[colon] != ':') return wrong();
  } else {
    colon = std::min(rest.find(':'), rest.size());
    result.host = rest.substr(0, colon);
  }
  if (colon < rest.size()) result.port = rest.substr(colon + 1);
  const bool digits =
      !result.port.empty() && result.port.find_first_not_of("0123456789") == std::string::npos;
  constexpr size_t kMaxPortDigits = 5;
  if (result.host.empty() || result.host.find_first_of("/@?# ") != std::string::npos || !digits ||
      result.port.size() > kMaxPortDigits || std::stoul(result.port) > UINT16_MAX) {
    return wrong();
  }
  return result;
}

}  // namespace portcullis::cli
