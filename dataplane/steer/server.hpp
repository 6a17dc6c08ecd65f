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

  /// Listens on `path` (see UnixListener). Root and `users` are served, others are hung up on.
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
  /// To every subscriber that keeps up: samples may be lost.
  void Publish(const steer::Drop& drop);
  static constexpr size_t kMaxQueuedDrops = 1024;  // of them and events together

  /// Becomes readable when Poll(0) has something to do; for another epoll.
  [[nodiscard]] int fd() const;

 private:
  struct Impl;
  explicit SteerServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace portcullis
