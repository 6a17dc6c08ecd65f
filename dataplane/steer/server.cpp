// One epoll instance over the listening socket and the clients. A client's requests are answered in
// order; while its answers pile up unread, its requests are not read either.
#include "dataplane/steer/server.hpp"

#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <list>
#include <system_error>
#include <utility>

#include "base/unix_socket.hpp"
#include "dataplane/steer/frame.hpp"
#include "dataplane/steer/messages.hpp"

namespace portcullis {
namespace {

constexpr size_t kMaxClients = 64;
constexpr size_t kReadBytes = 64U << 10U;      // at once
constexpr int kReadsPerPoll = 8;               // so that one client cannot starve the others
constexpr size_t kMaxUnsentBytes = 1U << 20U;  // of answers, before reading pauses

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

}  // namespace

struct SteerServer::Impl {
  UnixListener listener;
  Handler handler;
  Fd epoll;
  std::list<Client> clients;  // stable addresses, for epoll

  void HangUp(Client& client, std::string_view why) {
    if (client.closing) return;
    client.closing = true;
    spdlog::warn("steering: hung up on process {}: {}", client.pid, why);
  }

  void Accept() {
    while (true) {
      Fd fd(accept4(listener.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (fd.get() < 0) return;
      const auto peer = listener.PeerOf(fd.get());
      if (!peer) continue;
      if (!peer->admitted) {
        spdlog::warn("steering: refused process {} of user {}: not among steering.users", peer->pid,
                     peer->uid);
        continue;
      }
      if (clients.size() >= kMaxClients) {
        spdlog::warn("steering: refused process {}: {} clients are connected already", peer->pid,
                     clients.size());
        continue;
      }
      Client& client = clients.emplace_back();
      client.fd = std::move(fd);
      client.pid = peer->pid;
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
};

Result<SteerServer> SteerServer::Listen(std::string path, std::vector<uid_t> users,
                                        Handler handler) {
  auto listener = UnixListener::Listen(std::move(path), std::move(users), "steering.socket");
  if (!listener) return tl::unexpected(listener.error());
  if (!listener->note().empty()) spdlog::warn("steering: {}", listener->note());
  Fd epoll(epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{.events = EPOLLIN, .data = {.ptr = nullptr}};
  if (epoll_ctl(epoll.get(), EPOLL_CTL_ADD, listener->fd(), &event) != 0) {
    return Fail(ErrorKind::kInternal,
                fmt::format("cannot watch {}: {}", listener->path(), Reason(errno)));
  }
  auto impl =
      std::make_unique<Impl>(Impl{std::move(*listener), std::move(handler), std::move(epoll), {}});
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

void SteerServer::Publish(const steer::Drop& drop) {
  steer::ServerMessage message;
  *message.mutable_drop() = drop;
  const Result<steer::FrameBytes> frame = steer::ToFrame(message);
  if (!frame) return;  // a drop is a few hundred bytes
  for (Client& client : impl_->clients) {
    if (!client.subscribed || client.closing || client.queued_events >= kMaxQueuedDrops) continue;
    client.out.push_back({*frame, true});
    ++client.queued_events;
    impl_->Write(client);
  }
}

}  // namespace portcullis
