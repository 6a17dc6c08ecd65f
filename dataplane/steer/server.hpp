// The dataplane's end of the steering socket, served by its main thread. Poll-driven, so that the
// main thread can wait for it beside netlink and its timers; nothing here ever waits for a client.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "dataplane/steer/steer.pb.h"

namespace portcullis {

class SteerServer {
 public:
  /// Fills in the response; its id is set. Runs inside Poll() and may block, for instance until
  /// every worker was quiescent. Subscribe never gets here: the server answers it.
  using Handler = std::function<void(const steer::Request&, steer::Response&)>;

  /// Listens on `path`, whose folder is created. The socket has mode 0660 and, where the process
  /// may, the group of the first listed user other than root; root and `users` are served, by
  /// SO_PEERCRED, and others are hung up on. A socket file that a crash left behind is replaced,
  /// one that somebody serves is not (kConflict); `path`.lock decides between two that start at
  /// once.
  static Result<SteerServer> Listen(std::string path, std::vector<uid_t> users, Handler handler);

  SteerServer(SteerServer&&) noexcept;
  SteerServer& operator=(SteerServer&&) noexcept;
  ~SteerServer();  // hangs up and removes the socket

  /// Accepts, reads, answers and writes what is ready; waits at most `timeout` for the first.
  void Poll(std::chrono::milliseconds timeout);

  /// To every subscriber. One that has kMaxQueuedEvents waiting is hung up on: it would not learn
  /// of a gap otherwise, and reconnecting tells it everything. May be called inside a handler.
  void Publish(const steer::Event& event);
  static constexpr size_t kMaxQueuedEvents = 4096;

  /// Becomes readable when Poll(0) has something to do; for another epoll.
  [[nodiscard]] int fd() const;

 private:
  struct Impl;
  explicit SteerServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace portcullis
