// Where the gate asks an authorisation server, and as whom, as configuration files say it.
#pragma once

#include <filesystem>

#include "control/identity/token/oauth_endpoint.hpp"
#include "control/identity/token/token_exchanger.hpp"
#include "dataplane/yaml_section.hpp"

namespace portcullis::identity {

/// `url`, `ca`, and either `certificate` and `key` or `client_id` and `client_secret` in `s`;
/// `named`: `client_id` with a certificate, too (RFC 8705 2.2). Relative paths are relative to
/// `folder`. Throws WrongField.
OauthEndpointConfig ReadOauthEndpoint(const Section& s, const std::filesystem::path& folder,
                                      bool named);

/// What stands under `exchange` in `server`. Throws WrongField.
TokenExchangeConfig ReadTokenExchange(const Section& server, const std::filesystem::path& folder);

}  // namespace portcullis::identity
