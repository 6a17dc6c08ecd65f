// Copies of packets that the first line drops, for whoever looks. The dataplane makes them only
// while somebody does; that is said again and again, so that it stops when control is gone. One
// thread.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <utility>
#include <vector>

#include "control/link/link.hpp"

namespace portcullis {

class Drops {
 public:
  static constexpr uint32_t kMostOneIn = 1U << 20U;
  static constexpr size_t kMostWaiting = 1024;  // for each who looks; newer ones are lost

  Drops(boost::asio::any_io_executor executor, DataplaneLink& link);

  /// Looks as long as it lives. One drop in `one_in` is asked for; others who look at the same time
  /// may have asked for more of them, and then all get more.
  class Watcher {
   public:
    /// `wake` is called after each that comes.
    Watcher(Drops& drops, uint32_t one_in, std::function<void()> wake);
    ~Watcher();  // NOLINT(bugprone-exception-escape): without memory the process ends
    Watcher(const Watcher&) = delete;
    Watcher& operator=(const Watcher&) = delete;

    /// What came since the last call, oldest first.
    [[nodiscard]] std::vector<steer::Drop> Take() { return std::exchange(waiting_, {}); }

   private:
    friend class Drops;
    Drops& drops_;
    uint32_t one_in_;
    std::function<void()> wake_;
    std::vector<steer::Drop> waiting_;
  };

 private:
  /// 0: nobody looks.
  [[nodiscard]] uint32_t OneIn() const;
  boost::asio::awaitable<bool> Ask(uint32_t one_in);
  boost::asio::awaitable<void> Keep();
  void Changed();
  void OnDrop(const steer::Drop& drop);

  boost::asio::any_io_executor executor_;
  DataplaneLink& link_;
  std::list<Watcher*> watchers_;
  boost::asio::steady_timer again_;
  bool keeping_ = false;  // Keep() runs
};

}  // namespace portcullis
