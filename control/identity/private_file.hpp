// Files with key material: nobody but root and the user that this process runs as may be able to
// read or replace them.
#pragma once

#include <string>

#include "base/result.hpp"
#include "base/secret.hpp"

namespace portcullis::identity {

/// The content of a regular file of at most 64 KiB, owned by root or the process's effective user,
/// without any right for group and others. `where` is the setting that names the file, for
/// messages.
Result<Secret> ReadPrivateFile(const std::string& path, const std::string& where);

}  // namespace portcullis::identity
