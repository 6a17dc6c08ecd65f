// Listening on a UNIX socket that only certain users may use: root and those that are named, by the
// kernel's word (SO_PEERCRED).
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "base/result.hpp"

namespace portcullis {

/// A listening socket and the lock that makes it ours. Goes with its file.
class UnixListener {
 public:
  /// Listens on `path`, whose folder is created; non-blocking. The socket has mode 0660 and, where
  /// the process may, the group of the first listed user other than root. A socket file that a
  /// crash left behind is replaced, one that somebody serves is not (kConflict); `path`.lock
  /// decides between two that start at once. `where` is the path's place in the configuration.
  static Result<UnixListener> Listen(std::string path, std::vector<uid_t> users,
                                     const std::string& where);
  UnixListener(UnixListener&&) noexcept = default;
  UnixListener& operator=(UnixListener&&) noexcept = default;
  ~UnixListener();

  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] const std::string& path() const { return path_; }
  /// What could not be done, for the log; empty when all was.
  [[nodiscard]] const std::string& note() const { return note_; }

  struct Peer {
    pid_t pid = 0;
    uid_t uid = 0;
    bool admitted = false;
  };
  /// Who is at the other end of a connection that was accepted; nothing when the kernel does not
  /// say.
  [[nodiscard]] std::optional<Peer> PeerOf(int connection) const;

 private:
  UnixListener(std::string path, std::vector<uid_t> users)
      : path_(std::move(path)), users_(std::move(users)) {}

  std::string path_;
  std::vector<uid_t> users_;
  std::string note_;
  Fd lock_;
  Fd fd_;
};

}  // namespace portcullis
