// What stands in for control in the guard's tests: a thread at the other end of the real socket. It
// writes down what it is asked and answers as it is told to.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "control/admission/admission.pb.h"
#include "dataplane/steer/frame.hpp"

namespace portcullis::guard {

class TestControl {
 public:
  /// Nothing: no answer at all. The response's id is set afterwards.
  using Answer = std::function<std::optional<admission::Response>(const admission::Request&)>;

  explicit TestControl(const std::string& path, Answer answer = Agree)
      : path_(path), answer_(std::move(answer)), listener_(socket(AF_UNIX, SOCK_STREAM, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
    unlink(path.c_str());
    EXPECT_EQ(bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(listen(listener_, 8), 0);
    thread_ = std::thread([this] { Serve(); });
  }
  ~TestControl() {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
      if (client_ >= 0) shutdown(client_, SHUT_RDWR);
    }
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    close(listener_);
    unlink(path_.c_str());
  }
  TestControl(const TestControl&) = delete;
  TestControl& operator=(const TestControl&) = delete;

  static std::optional<admission::Response> Agree(const admission::Request& request) {
    admission::Response response;
    if (request.has_hello()) response.mutable_hello()->set_protocol(1);
    return response;
  }

  /// The one before is in use no more when this returns.
  void OnRequest(Answer answer) {
    const std::scoped_lock lock(answering_, mutex_);
    answer_ = std::move(answer);
  }
  /// Breaks the connection; the next one is accepted.
  void HangUp() {
    const std::lock_guard lock(mutex_);
    if (client_ >= 0) shutdown(client_, SHUT_RDWR);
  }
  /// All that was asked so far, greetings left out.
  std::vector<admission::Request> asked() {
    const std::lock_guard lock(mutex_);
    return asked_;
  }
  /// The first of this kind, also one that is still to come; an empty one when none does.
  admission::Request Wait(admission::Request::KindCase kind) {
    constexpr std::chrono::seconds kLongest{60};
    std::unique_lock lock(mutex_);
    admission::Request found;
    const auto there = [&] {
      for (const auto& request : asked_) {
        if (request.kind_case() == kind) found = request;
        if (request.kind_case() == kind) return true;
      }
      return false;
    };
    EXPECT_TRUE(changed_.wait_for(lock, kLongest, there)) << "control was not asked";
    return found;
  }

 private:
  void Serve() {
    for (;;) {
      const int client = accept(listener_, nullptr, nullptr);
      {
        const std::lock_guard lock(mutex_);
        if (ending_ || client < 0) {
          if (client >= 0) close(client);
          return;
        }
        client_ = client;
      }
      Talk(client);
      const std::lock_guard lock(mutex_);
      client_ = -1;
      close(client);
    }
  }

  void Talk(int client) {
    steer::FrameReader reader;
    for (;;) {
      admission::Request request;
      const auto next = reader.Next(request);
      if (!next) {
        ADD_FAILURE() << next.error().Text();
        return;
      }
      if (!*next) {
        constexpr size_t kSome = 4096;
        const auto room = reader.Room(kSome);
        const ssize_t got = read(client, room.data(), room.size());
        if (got <= 0) return;
        reader.Filled(static_cast<size_t>(got));
        continue;
      }
      Answer answer;
      const std::lock_guard answering(answering_);
      {
        const std::lock_guard lock(mutex_);
        if (!request.has_hello()) asked_.push_back(request);
        answer = answer_;
        changed_.notify_all();
      }
      auto response = answer(request);
      if (!response) continue;
      response->set_id(request.id());
      const auto frame = steer::ToFrame(*response);
      if (send(client, frame->data(), frame->size(), MSG_NOSIGNAL) < 0) return;
    }
  }

  std::string path_;
  std::mutex answering_;  // before the other, where both are taken
  std::mutex mutex_;
  std::condition_variable changed_;
  Answer answer_;
  std::vector<admission::Request> asked_;
  bool ending_ = false;
  int client_ = -1;
  int listener_;
  std::thread thread_;
};

}  // namespace portcullis::guard
