#include "bench/requests/load.hpp"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <deque>
#include <stdexcept>

namespace portcullis::bench {

namespace {

using Clock = std::chrono::steady_clock;
using Clients = std::vector<std::unique_ptr<Client>>;

constexpr int kEvents = 256;
constexpr auto kPatience = std::chrono::seconds(30);

Clock::duration Seconds(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

double Milliseconds(Clock::duration time) {
  return std::chrono::duration<double, std::milli>(time).count();
}

// Tells which clients got somewhere.
class Watch {
 public:
  Watch() : fd_(epoll_create1(EPOLL_CLOEXEC)) {}
  ~Watch() { close(fd_); }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  void Add(Client& client) const {
    epoll_event event{};
    // Edges: a request is far smaller than what a socket takes, so nobody waits for room.
    event.events = EPOLLIN | EPOLLOUT | EPOLLET;
    event.data.ptr = &client;
    if (epoll_ctl(fd_, EPOLL_CTL_ADD, client.fd(), &event) != 0) {
      throw std::runtime_error("epoll_ctl");
    }
  }
  /// Each client that became idle or closed.
  template <class Use>
  void Wait(Clock::time_point until, Use use) {
    const auto left = std::max(until - Clock::now(), Clock::duration::zero());
    const auto seconds = std::chrono::floor<std::chrono::seconds>(left);
    const timespec most{seconds.count(), (left - seconds).count()};
    const int count = epoll_pwait2(fd_, events_.data(), kEvents, &most, nullptr);
    for (int i = 0; i < count; ++i) {
      auto& client = *static_cast<Client*>(events_.at(static_cast<size_t>(i)).data.ptr);
      if (client.Go()) use(client);
    }
  }

 private:
  int fd_;
  std::array<epoll_event, kEvents> events_{};
};

class Tally {
 public:
  explicit Tally(unsigned expected) : expected_(expected) {}
  void Add(const Client& client, Clock::time_point since) {
    if (client.state() == Client::State::idle && client.status() == expected_) {
      Add(since);
    } else {
      Fail(client);
    }
  }
  void Add(Clock::time_point since) { took_.push_back(Milliseconds(Clock::now() - since)); }
  void Fail(const Client& client) {
    const bool closed = client.state() == Client::State::closed;
    ++failed_[closed ? "closed" : std::to_string(client.status())];
  }
  Told Tell(double seconds) {
    std::ranges::sort(took_);
    const auto at = [&](double share) {
      if (took_.empty()) return 0.0;
      return took_[static_cast<size_t>(share * static_cast<double>(took_.size() - 1))];
    };
    return {{"done", took_.size()},
            {"failed", failed_},
            {"seconds", seconds},
            {"ms", {{"p50", at(0.5)}, {"p99", at(0.99)}, {"max", at(1)}}}};
  }

 private:
  unsigned expected_;
  std::vector<double> took_;
  std::map<std::string, size_t> failed_;
};

// At most 64 on their way at once: servers bound them.
Clients OpenAll(SSL_CTX* context, const Load& load, Watch& watch) {
  constexpr size_t kAtOnce = 64;
  Clients all;
  size_t open = 0;
  const auto end = Clock::now() + kPatience + std::chrono::milliseconds(load.connections * 10);
  while (open < load.connections) {
    while (all.size() < load.connections && all.size() - open < kAtOnce) {
      all.push_back(std::make_unique<Client>(context, load.port));
      watch.Add(*all.back());
    }
    watch.Wait(end, [&](Client& client) {
      if (client.state() != Client::State::idle) throw std::runtime_error("a handshake failed");
      ++open;
    });
    if (Clock::now() > end) throw std::runtime_error("handshakes take too long");
  }
  return all;
}

double Since(Clock::time_point began) {
  return std::chrono::duration<double>(Clock::now() - began).count();
}

}  // namespace

Told KeepAlive(SSL_CTX* context, const Load& load) {
  Watch watch;
  Clients all = OpenAll(context, load, watch);
  Tally tally(load.expected);
  std::map<const Client*, Clock::time_point> since;
  const auto began = Clock::now();
  const auto end = began + Seconds(load.seconds);
  for (auto& client : all) {
    since[client.get()] = began;
    client->Ask(load.request);
  }
  while (Clock::now() < end) {
    watch.Wait(end, [&](Client& client) {
      tally.Add(client, since[&client]);
      if (client.state() != Client::State::idle) return;
      since[&client] = Clock::now();
      client.Ask(load.request);
    });
  }
  return tally.Tell(Since(began));
}

Told Paced(SSL_CTX* context, const Load& load) {
  Watch watch;
  Clients all = OpenAll(context, load, watch);
  std::deque<Client*> idle;
  for (auto& client : all) idle.push_back(client.get());
  std::map<const Client*, Clock::time_point> since;
  Tally tally(load.expected);
  const auto began = Clock::now();
  const auto count = static_cast<size_t>(load.seconds * load.per_second);
  const auto due = [&](size_t n) {
    return began + Seconds(static_cast<double>(n) / load.per_second);
  };
  size_t next = 0;
  size_t under_way = 0;
  const auto end = due(count) + kPatience;
  while ((next < count || under_way > 0) && Clock::now() < end) {
    for (; next < count && !idle.empty() && due(next) <= Clock::now(); ++next, ++under_way) {
      Client& client = *idle.front();
      idle.pop_front();
      since[&client] = due(next);
      client.Ask(load.request);
    }
    watch.Wait(next < count && !idle.empty() ? due(next) : end, [&](Client& client) {
      --under_way;
      tally.Add(client, since[&client]);
      if (client.state() == Client::State::idle) idle.push_back(&client);
    });
  }
  return tally.Tell(Since(began));
}

Told Handshakes(SSL_CTX* context, const Load& load) {
  Watch watch;
  std::map<const Client*, std::unique_ptr<Client>> all;
  std::map<const Client*, Clock::time_point> since;
  std::vector<const Client*> ended;
  Tally tally(0);
  const auto add = [&] {
    auto client = std::make_unique<Client>(context, load.port);
    watch.Add(*client);
    since[client.get()] = Clock::now();
    all[client.get()] = std::move(client);
  };
  const auto began = Clock::now();
  const auto end = began + Seconds(load.seconds);
  for (size_t i = 0; i < load.connections; ++i) add();
  while (Clock::now() < end) {
    watch.Wait(end, [&](Client& client) {
      if (client.state() == Client::State::idle) {
        client.Close();
        if (!client.Go()) return;
      }
      if (client.status() == 0) tally.Add(since[&client]);
      ended.push_back(&client);
    });
    for (const Client* client : ended) {
      since.erase(client);
      all.erase(client);
      add();
    }
    ended.clear();
  }
  return tally.Tell(Since(began));
}

Told Idlers::Open(SSL_CTX* context, const Load& load) {
  Watch watch;
  const auto began = Clock::now();
  all_ = OpenAll(context, load, watch);
  Tally tally(load.expected);
  for (auto& client : all_) {
    const auto since = Clock::now();
    client->Ask(load.request);
    bool answered = client->state() != Client::State::asking;
    while (!answered && Clock::now() < since + kPatience) {
      watch.Wait(since + kPatience, [&](Client& one) { answered = &one == client.get(); });
    }
    tally.Add(*client, since);
  }
  return tally.Tell(Since(began));
}

Told Idlers::Close() {
  const size_t count = all_.size();
  all_.clear();
  return {{"closed", count}};
}

}  // namespace portcullis::bench
