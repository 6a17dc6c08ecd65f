#include "control/identity/private_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

namespace portcullis::identity {

namespace {

constexpr size_t kMostBytes = 64U << 10U;

// Checks and reads what was opened, not what the name may mean a moment later.
Result<Secret> ReadOpened(int fd, const std::string& path, const std::string& where) {
  struct stat info {};
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    return Invalid(where, "not a regular file: " + path, "a file with a key", "something else");
  }
  if ((info.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    return Invalid(where, "others have rights on this key: " + path, "mode 0600 or less",
                   fmt::format("mode {:04o}", info.st_mode & 07777U));
  }
  if (info.st_uid != 0 && info.st_uid != geteuid()) {
    return Invalid(where, "this key belongs to somebody else: " + path,
                   fmt::format("owner 0 or {}, mode 0600 or less", geteuid()),
                   fmt::format("owner {}, mode {:04o}", info.st_uid, info.st_mode & 07777U));
  }
  if (info.st_size <= 0 || static_cast<size_t>(info.st_size) > kMostBytes) {
    return Invalid(where, "not a key: " + path, fmt::format("1 to {} bytes", kMostBytes),
                   fmt::format("{} bytes", info.st_size));
  }
  std::vector<uint8_t> content(static_cast<size_t>(info.st_size));
  const auto got = read(fd, content.data(), content.size());
  if (got != static_cast<ssize_t>(content.size())) {
    Wipe(content);
    return Invalid(where, "cannot be read whole: " + path, fmt::format("{} bytes", content.size()),
                   got < 0 ? std::strerror(errno) : fmt::format("{} bytes", got));
  }
  Secret secret(content);
  Wipe(content);
  return secret;
}

}  // namespace

Result<Secret> ReadPrivateFile(const std::string& path, const std::string& where) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    return Invalid(where, "cannot be opened: " + path, "a file with a key", std::strerror(errno));
  }
  auto content = ReadOpened(fd, path, where);
  close(fd);
  return content;
}

}  // namespace portcullis::identity
