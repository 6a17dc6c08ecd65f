// One epoll instance over the listening socket and the clients. A client's requests are answered in
// order; while its answers pile up unread, its requests are not read either.
#include "dataplane/steer/server.hpp"

#include <fcntl.h>
#include <pwd.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <filesystem>
#include <list>
#include <system_error>
#include <utility>

#include "dataplane/steer/frame.hpp"
#include "dataplane/steer/messages.hpp"

namespace portcullis {
namespace {

constexpr size_t kMaxClients = 64;
constexpr size_t kReadBytes = 64U << 10U;      // at once
constexpr int kReadsPerPoll = 8;               // so that one client cannot starve the others
constexpr size_t kMaxUnsentBytes = 1U << 20U;  // of answers, before reading pauses

class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() {
    if (fd_ >= 0) close(fd_);
  }
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

std::string Reason(int error) {
  return std::generic_category().message(error);
}

struct Frame {
  steer::FrameBytes bytes;
  bool event;
};

struct Client {
  Fd fd;
  pid_t pid = 0;
  steer::FrameReader reader;
  std::deque<Frame> out;
  size_t sent = 0;           // bytes of out.front() that are gone
  size_t unsent_bytes = 0;   // of answers in `out`
  size_t queued_events = 0;  // events in `out`
  uint32_t interest = EPOLLIN;
  bool subscribed = false;
  bool closing = false;  // reaped at the end of Poll, when nobody iterates

  [[nodiscard]] bool Paused() const { return unsent_bytes > kMaxUnsentBytes; }
};

Result<sockaddr_un> SocketAddress(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return Invalid("steering.socket", "the path of the steering socket cannot be used",
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
                fmt::format("another process serves the steering socket {} (it holds {}); stop it, "
                            "or give this instance another name",
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
                fmt::format("another process listens on the steering socket {}", path));
  }
  if (unlink(path.c_str()) != 0) {
    return Fail(ErrorKind::kInternal,
                fmt::format("cannot remove the stale socket {}: {}", path, Reason(errno)));
  }
  return {};
}

Result<Fd> Bind(const std::string& path, const sockaddr_un& address,
                const std::vector<uid_t>& users) {
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
    spdlog::warn("steering: {} cannot be given to the group of user {}: {}", path, entry->pw_name,
                 Reason(errno));
  }
  return fd;
}

}  // namespace

struct SteerServer::Impl {
  std::string path;
  std::vector<uid_t> users;
  Handler handler;
  Fd lock;
  Fd listener;
  Fd epoll;
  std::list<Client> clients;  // stable addresses, for epoll

  void HangUp(Client& client, std::string_view why) {
    if (client.closing) return;
    client.closing = true;
    spdlog::warn("steering: hung up on process {}: {}", client.pid, why);
  }

  void Accept() {
    while (true) {
      Fd fd(accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (fd.get() < 0) return;
      ucred peer{};
      socklen_t length = sizeof peer;
      if (getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) continue;
      if (peer.uid != 0 && std::find(users.begin(), users.end(), peer.uid) == users.end()) {
        spdlog::warn("steering: refused process {} of user {}: not among steering.users", peer.pid,
                     peer.uid);
        continue;
      }
      if (clients.size() >= kMaxClients) {
        spdlog::warn("steering: refused process {}: {} clients are connected already", peer.pid,
                     clients.size());
        continue;
      }
      Client& client = clients.emplace_back();
      client.fd = std::move(fd);
      client.pid = peer.pid;
      epoll_event event{.events = client.interest, .data = {.ptr = &client}};
      if (epoll_ctl(epoll.get(), EPOLL_CTL_ADD, client.fd.get(), &event) != 0) {
        HangUp(client, Reason(errno));
      }
    }
  }

  void Read(Client& client) {
    for (int i = 0; i < kReadsPerPoll && !client.closing && !client.Paused(); ++i) {
      const auto room = client.reader.Room(kReadBytes);
      const ssize_t got = read(client.fd.get(), room.data(), room.size());
      if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
      if (got <= 0) {  // its end of the connection, and nothing to complain about
        client.closing = true;
        return;
      }
      client.reader.Filled(static_cast<size_t>(got));
      Answer(client);
    }
  }

  // Answers the complete requests that were read, until the client has to read answers first.
  void Answer(Client& client) {
    while (!client.closing && !client.Paused()) {
      steer::Request request;
      const Result<bool> next = client.reader.Next(request);
      if (!next) return HangUp(client, next.error().Text());
      if (!*next) return;
      steer::ServerMessage message;
      steer::Response& response = *message.mutable_response();
      response.set_id(request.id());
      if (request.has_subscribe()) {
        client.subscribed = true;
      } else {
        handler(request, response);
        steer::WipeKeys(request);
      }
      Result<steer::FrameBytes> frame = steer::ToFrame(message);
      steer::WipeKeys(response);
      if (!frame) {
        response.Clear();
        response.set_id(request.id());
        *response.mutable_failure() = steer::ToFailure(frame.error());
        frame = steer::ToFrame(message);
      }
      client.unsent_bytes += frame->size();
      client.out.push_back({std::move(*frame), false});
      Write(client);
    }
  }

  void Write(Client& client) {
    while (!client.closing && !client.out.empty()) {
      Frame& frame = client.out.front();
      const ssize_t put = send(client.fd.get(), frame.bytes.data() + client.sent,
                               frame.bytes.size() - client.sent, MSG_NOSIGNAL);
      if (put < 0 && (errno == EAGAIN || errno == EINTR)) break;
      if (put < 0) {
        client.closing = true;
        break;
      }
      client.sent += static_cast<size_t>(put);
      if (client.sent < frame.bytes.size()) continue;
      if (frame.event) {
        --client.queued_events;
      } else {
        client.unsent_bytes -= frame.bytes.size();
      }
      client.out.pop_front();
      client.sent = 0;
    }
    Watch(client);
  }

  void Watch(Client& client) {
    const uint32_t wanted = (client.Paused() ? 0U : EPOLLIN) | (client.out.empty() ? 0U : EPOLLOUT);
    if (client.closing || wanted == client.interest) return;
    epoll_event event{.events = wanted, .data = {.ptr = &client}};
    if (epoll_ctl(epoll.get(), EPOLL_CTL_MOD, client.fd.get(), &event) != 0) {
      HangUp(client, Reason(errno));
    }
    client.interest = wanted;
  }

  ~Impl() {
    // Only what we bound ourselves: a failed Listen must leave another's socket alone.
    if (listener.get() >= 0) unlink(path.c_str());
  }
};

Result<SteerServer> SteerServer::Listen(std::string path, std::vector<uid_t> users,
                                        Handler handler) {
  const Result<sockaddr_un> address = SocketAddress(path);
  if (!address) return tl::unexpected(address.error());
  std::error_code error;
  const auto folder = std::filesystem::path(path).parent_path();
  if (!folder.empty()) std::filesystem::create_directories(folder, error);
  if (error) {
    return Fail(ErrorKind::kInternal,
                fmt::format("cannot create the folder of {}: {}", path, error.message()));
  }
  auto impl = std::make_unique<Impl>();
  Result<Fd> lock = TakeLock(path);
  if (!lock) return tl::unexpected(lock.error());
  impl->lock = std::move(*lock);
  if (const auto removed = RemoveStale(path, *address); !removed) {
    return tl::unexpected(removed.error());
  }
  Result<Fd> listener = Bind(path, *address, users);
  if (!listener) return tl::unexpected(listener.error());
  impl->listener = std::move(*listener);
  impl->epoll = Fd(epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{.events = EPOLLIN, .data = {.ptr = nullptr}};
  if (epoll_ctl(impl->epoll.get(), EPOLL_CTL_ADD, impl->listener.get(), &event) != 0) {
    return Fail(ErrorKind::kInternal, fmt::format("cannot watch {}: {}", path, Reason(errno)));
  }
  impl->path = std::move(path);
  impl->users = std::move(users);
  impl->handler = std::move(handler);
  return SteerServer(std::move(impl));
}

SteerServer::SteerServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SteerServer::SteerServer(SteerServer&&) noexcept = default;
SteerServer& SteerServer::operator=(SteerServer&&) noexcept = default;
SteerServer::~SteerServer() = default;

int SteerServer::fd() const {
  return impl_->epoll.get();
}

void SteerServer::Poll(std::chrono::milliseconds timeout) {
  constexpr int kBatch = 32;
  std::array<epoll_event, kBatch> events{};
  const int ready =
      epoll_wait(impl_->epoll.get(), events.data(), kBatch, static_cast<int>(timeout.count()));
  for (int i = 0; i < ready; ++i) {
    auto* client = static_cast<Client*>(events[i].data.ptr);
    if (client == nullptr) {
      impl_->Accept();
      continue;
    }
    if ((events[i].events & EPOLLOUT) != 0) {
      impl_->Write(*client);
      impl_->Answer(*client);  // requests that waited for room
    }
    if ((events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) impl_->Read(*client);
    // A client that is gone while reading is paused would be reported for ever.
    if ((events[i].events & (EPOLLHUP | EPOLLERR)) != 0) client->closing = true;
  }
  impl_->clients.remove_if([](const Client& client) { return client.closing; });
}

void SteerServer::Publish(const steer::Event& event) {
  steer::ServerMessage message;
  *message.mutable_event() = event;
  const Result<steer::FrameBytes> frame = steer::ToFrame(message);
  if (!frame) return;  // an event is a few hundred bytes
  for (Client& client : impl_->clients) {
    if (!client.subscribed || client.closing) continue;
    if (client.queued_events >= kMaxQueuedEvents) {
      impl_->HangUp(client, "it does not read its events");
      continue;
    }
    client.out.push_back({*frame, true});
    ++client.queued_events;
    impl_->Write(client);
  }
}

}  // namespace portcullis
