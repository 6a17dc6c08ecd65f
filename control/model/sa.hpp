// Security associations as operators write and read them. A key goes from the body straight into
// locked memory; what can be read back is its fingerprint.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "base/result.hpp"
#include "base/secret.hpp"
#include "control/model/types.hpp"
#include "dataplane/steer/steer.pb.h"

namespace portcullis::model {

struct Sa {
  steer::SaSpec spec;  // its key is empty
  Secret key;
  std::string fingerprint;
};

/// Parses openapi.yaml's SaSpec and wipes the text of the key in `value`, also when it fails.
Result<Sa> ParseSa(nlohmann::json& value, bool lab);

/// The spec with its key, to be sent. The one place where a key is copied out of Secret.
steer::SaSpec WithKey(const Sa& sa, steer::Mode mode);

/// Takes the key out of `spec` (wiped there), for SAs that come back from the dataplane.
Sa Adopt(steer::SaSpec spec);

/// openapi.yaml's SaState. `live` may be null.
nlohmann::json ToJson(const steer::SaSpec& spec, const std::string& fingerprint,
                      const steer::SaState* live);

std::vector<Warning> WarningsOf(const steer::SaSpec& spec);

}  // namespace portcullis::model
