#include "base/unix_socket.hpp"

#include <fcntl.h>
#include <pwd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

namespace portcullis {
namespace {

std::string Reason(int error) {
  return std::generic_category().message(error);
}

Result<sockaddr_un> SocketAddress(const std::string& path, const std::string& where) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return Invalid(where, "the path of a UNIX socket cannot be used",
                   fmt::format("1 to {} characters", sizeof address.sun_path - 1),
                   fmt::format("{} characters in '{}'", path.size(), path));
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

Result<Fd> TakeLock(const std::string& path) {
  const std::string lock = path + ".lock";
  Fd fd(open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (fd.get() < 0) {
    return Fail(ErrorKind::kInternal, fmt::format("cannot open {}: {}", lock, Reason(errno)));
  }
  if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    return Fail(ErrorKind::kConflict,
                fmt::format("another process serves the socket {} (it holds {}); stop it, or "
                            "configure another path",
                            path, lock));
  }
  return fd;
}

// Removes what a crash left at `path`; the lock is held.
Result<void> RemoveStale(const std::string& path, const sockaddr_un& address) {
  struct stat info {};
  if (lstat(path.c_str(), &info) != 0) return {};
  if (!S_ISSOCK(info.st_mode)) {
    return tl::unexpected(Error{ErrorKind::kConflict, "something else is in the socket's place",
                                path, "a socket or nothing", "another kind of file"});
  }
  const Fd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ||
      errno == EAGAIN) {
    return Fail(ErrorKind::kConflict,
                fmt::format("another process listens on the socket {}", path));
  }
  if (unlink(path.c_str()) != 0) {
    return Fail(ErrorKind::kInternal,
                fmt::format("cannot remove the stale socket {}: {}", path, Reason(errno)));
  }
  return {};
}

Result<Fd> Bind(const std::string& path, const sockaddr_un& address,
                const std::vector<uid_t>& users, std::string& note) {
  Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  constexpr mode_t kMode = 0660;
  // The mode before bind() is the one the file is born with, so there is no moment of 0777.
  if (fd.get() < 0 || fchmod(fd.get(), kMode) != 0 ||
      bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      chmod(path.c_str(), kMode) != 0 || listen(fd.get(), SOMAXCONN) != 0) {
    return Fail(ErrorKind::kInternal, fmt::format("cannot listen on {}: {}", path, Reason(errno)));
  }
  const auto user = std::find_if(users.begin(), users.end(), [](uid_t u) { return u != 0; });
  const passwd* entry = user == users.end() ? nullptr : getpwuid(*user);
  if (entry != nullptr && chown(path.c_str(), static_cast<uid_t>(-1), entry->pw_gid) != 0) {
    note = fmt::format("{} cannot be given to the group of user {}: {}", path, entry->pw_name,
                       Reason(errno));
  }
  return fd;
}

}  // namespace

Result<UnixListener> UnixListener::Listen(std::string path, std::vector<uid_t> users,
                                          const std::string& where) {
  const Result<sockaddr_un> address = SocketAddress(path, where);
  if (!address) return tl::unexpected(address.error());
  std::error_code error;
  const auto folder = std::filesystem::path(path).parent_path();
  if (!folder.empty()) std::filesystem::create_directories(folder, error);
  if (error) {
    return Fail(ErrorKind::kInternal,
                fmt::format("cannot create the folder of {}: {}", path, error.message()));
  }
  UnixListener listener(std::move(path), std::move(users));
  Result<Fd> lock = TakeLock(listener.path_);
  if (!lock) return tl::unexpected(lock.error());
  listener.lock_ = std::move(*lock);
  if (const auto removed = RemoveStale(listener.path_, *address); !removed) {
    return tl::unexpected(removed.error());
  }
  Result<Fd> fd = Bind(listener.path_, *address, listener.users_, listener.note_);
  if (!fd) return tl::unexpected(fd.error());
  listener.fd_ = std::move(*fd);
  return listener;
}

UnixListener::~UnixListener() {
  // Only what we bound ourselves: a failed Listen must leave another's socket alone.
  if (fd_.get() >= 0) unlink(path_.c_str());
}

std::optional<UnixListener::Peer> UnixListener::PeerOf(int connection) const {
  ucred peer{};
  socklen_t length = sizeof peer;
  if (getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return {};
  const bool admitted =
      peer.uid == 0 || std::find(users_.begin(), users_.end(), peer.uid) != users_.end();
  return Peer{peer.pid, peer.uid, admitted};
}

}  // namespace portcullis
