#include "dataplane/steer/server.hpp"

#include <grp.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pwd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

#include "dataplane/steer/frame.hpp"
#include "dataplane/steer/messages.hpp"

namespace portcullis {
namespace {

using namespace std::chrono_literals;
constexpr uid_t kAllowed = 4242;
constexpr uid_t kStranger = 4243;

// A blocking socket with a receive deadline, deliberately not our client: it can misbehave.
class RawClient {
 public:
  explicit RawClient(const std::string& path) : fd_(socket(AF_UNIX, SOCK_STREAM, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    connected_ = connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }
  ~RawClient() { close(fd_); }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  [[nodiscard]] bool connected() const { return connected_; }
  void Send(std::span<const uint8_t> bytes) const {
    ASSERT_EQ(send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  void Send(const steer::Request& request) const { Send(*steer::ToFrame(request)); }

  /// Lets `server` work until a message is there; nullopt when it hung up or stays silent.
  std::optional<steer::ServerMessage> Receive(SteerServer& server) {
    steer::ServerMessage message;
    for (int i = 0; i < 500; ++i) {
      const auto next = reader_.Next(message);
      if (!next) return std::nullopt;
      if (*next) return message;
      server.Poll(0ms);
      pollfd waiting{fd_, POLLIN, 0};
      if (poll(&waiting, 1, 2) <= 0) continue;
      const auto room = reader_.Room(65536);
      const ssize_t got = read(fd_, room.data(), room.size());
      if (got <= 0) {
        hung_up_ = true;
        return std::nullopt;
      }
      reader_.Filled(static_cast<size_t>(got));
    }
    return std::nullopt;
  }
  [[nodiscard]] bool hung_up() const { return hung_up_; }

 private:
  int fd_;
  bool connected_ = false;
  bool hung_up_ = false;
  steer::FrameReader reader_;
};

steer::Request Hello(uint64_t id, const std::string& name = "test") {
  steer::Request request;
  request.set_id(id);
  request.mutable_hello()->set_client(name);
  return request;
}

class SteerServerTest : public testing::Test {
 protected:
  SteerServerTest() {
    std::string pattern = std::filesystem::temp_directory_path() / "steer-XXXXXX";
    folder_ = mkdtemp(pattern.data());
    std::filesystem::permissions(folder_, std::filesystem::perms(0755));
    path_ = folder_ / "gate" / "steer.sock";  // a folder that Listen has to create
  }
  ~SteerServerTest() override { std::filesystem::remove_all(folder_); }

  Result<SteerServer> Listen(std::vector<uid_t> users = {}) {
    return SteerServer::Listen(
        path_, std::move(users), [this](const steer::Request& request, steer::Response& response) {
          ++handled_;
          response.mutable_hello()->set_instance(request.hello().client());
          if (request.has_read_counters()) {
            response.mutable_read_counters()->add_verdicts(std::string(answer_bytes_, 'v'));
          }
        });
  }

  std::filesystem::path folder_;
  std::string path_;
  int handled_ = 0;
  size_t answer_bytes_ = 1;
};

TEST_F(SteerServerTest, AnswersInOrder) {
  auto server = Listen();
  ASSERT_TRUE(server) << server.error().Text();
  RawClient client(path_);
  client.Send(Hello(5, "a"));
  client.Send(Hello(3, "b"));
  EXPECT_EQ(client.Receive(*server)->response().id(), 5U);
  const auto second = client.Receive(*server);
  EXPECT_EQ(second->response().id(), 3U);
  EXPECT_EQ(second->response().hello().instance(), "b");
}

TEST_F(SteerServerTest, PartialFramesAreWaitedFor) {
  auto server = Listen();
  RawClient client(path_);
  const auto frame = *steer::ToFrame(Hello(9));
  for (const uint8_t byte : frame) {
    EXPECT_EQ(handled_, 0);
    client.Send(std::array{byte});
    server->Poll(10ms);
    server->Poll(0ms);
  }
  EXPECT_EQ(client.Receive(*server)->response().id(), 9U);
}

TEST_F(SteerServerTest, PollReturnsInTime) {
  auto server = Listen();
  const auto start = std::chrono::steady_clock::now();
  server->Poll(20ms);
  const auto took = std::chrono::steady_clock::now() - start;
  EXPECT_GE(took, 15ms);
  EXPECT_LT(took, 2s);
}

TEST_F(SteerServerTest, OversizeAndGarbageAreHungUpOnAndOthersServed) {
  auto server = Listen();
  const RawClient bystander(path_);
  const std::array<std::vector<uint8_t>, 2> wrong = {
      std::vector<uint8_t>{0x01, 0x00, 0x00, 0x01},                   // 16 MiB + 1
      std::vector<uint8_t>{0x00, 0x00, 0x00, 0x03, 0xff, 0xff, 0xff}  // no protobuf
  };
  for (const auto& bytes : wrong) {
    RawClient client(path_);
    client.Send(bytes);
    EXPECT_FALSE(client.Receive(*server));
    EXPECT_TRUE(client.hung_up());
  }
  EXPECT_EQ(handled_, 0);
  RawClient good(path_);
  good.Send(Hello(1));
  EXPECT_TRUE(good.Receive(*server));
}

// Sends a request as `user`, in a child process since credentials are taken at connect().
bool AskAs(uid_t user, gid_t group, const std::string& path) {
  const pid_t child = fork();
  if (child == 0) {
    if (setgroups(0, nullptr) != 0 || setresgid(group, group, group) != 0) _exit(2);
    if (setresuid(user, user, user) != 0) _exit(2);
    RawClient client(path);
    if (!client.connected()) _exit(3);
    client.Send(Hello(1));
    _exit(testing::Test::HasFailure() ? 4 : 0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST_F(SteerServerTest, OnlyRootAndListedUsersAreServed) {
  ASSERT_EQ(getuid(), 0U) << "needs root, to connect as other users";
  auto server = Listen({kAllowed});
  ASSERT_TRUE(server);
  // The mode keeps strangers out already; open it, so that the credentials alone decide.
  ASSERT_EQ(chmod(path_.c_str(), 0666), 0);
  for (const uid_t user : {kAllowed, kStranger, uid_t{0}}) {
    const int before = handled_;
    ASSERT_TRUE(AskAs(user, user, path_)) << user;
    for (int i = 0; i < 5; ++i) server->Poll(5ms);
    EXPECT_EQ(handled_ - before, user == kStranger ? 0 : 1) << user;
  }
}

// Control runs as a user of its own: the mode has to let it in without anybody's chmod.
TEST_F(SteerServerTest, AListedUsersGroupMayConnect) {
  ASSERT_EQ(getuid(), 0U) << "needs root, to connect as other users";
  const passwd* nobody = getpwnam("nobody");
  ASSERT_NE(nobody, nullptr);
  auto server = Listen({nobody->pw_uid});
  ASSERT_TRUE(server);
  EXPECT_TRUE(AskAs(nobody->pw_uid, nobody->pw_gid, path_));
  for (int i = 0; i < 5; ++i) server->Poll(5ms);
  EXPECT_EQ(handled_, 1);
  EXPECT_FALSE(AskAs(kStranger, kStranger, path_));
}

TEST_F(SteerServerTest, TheSocketIsNotForTheWorld) {
  auto server = Listen();
  struct stat info {};
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0660U);
}

TEST_F(SteerServerTest, ASecondServerIsRefusedAndTheFirstGoesOn) {
  auto first = Listen();
  const auto second = Listen();
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind, ErrorKind::kConflict);
  RawClient client(path_);
  client.Send(Hello(1));
  EXPECT_TRUE(client.Receive(*first));
}

TEST_F(SteerServerTest, TheNextServerTakesOverCleanly) {
  { auto first = Listen(); }
  EXPECT_FALSE(std::filesystem::exists(path_));
  auto second = Listen();
  ASSERT_TRUE(second) << second.error().Text();
}

TEST_F(SteerServerTest, AStaleSocketIsReplaced) {
  const pid_t child = fork();
  if (child == 0) {
    auto server = Listen();
    _exit(server ? 0 : 1);  // as a crash does: nothing is removed
  }
  int status = 0;
  waitpid(child, &status, 0);
  ASSERT_EQ(status, 0);
  ASSERT_TRUE(std::filesystem::exists(path_));
  EXPECT_FALSE(RawClient(path_).connected());
  auto server = Listen();
  ASSERT_TRUE(server) << server.error().Text();
  EXPECT_TRUE(RawClient(path_).connected());
}

TEST_F(SteerServerTest, ASocketThatSomebodyServesIsLeftAlone) {
  std::filesystem::create_directories(folder_ / "gate");
  const int other = socket(AF_UNIX, SOCK_STREAM, 0);  // knows nothing of our lock
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path_.c_str(), sizeof address.sun_path - 1);
  ASSERT_EQ(bind(other, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(listen(other, 1), 0);
  EXPECT_EQ(Listen().error().kind, ErrorKind::kConflict);
  EXPECT_TRUE(std::filesystem::exists(path_));
  close(other);
  EXPECT_TRUE(Listen());
}

TEST_F(SteerServerTest, AFileInTheSocketsPlaceIsLeftAlone) {
  std::filesystem::create_directories(folder_ / "gate");
  std::ofstream(path_) << "precious";
  EXPECT_FALSE(Listen());
  EXPECT_EQ(std::filesystem::file_size(path_), 8U);
}

TEST_F(SteerServerTest, EventsReachSubscribersOnly) {
  auto server = Listen();
  RawClient subscriber(path_);
  RawClient other(path_);
  steer::Request subscribe;
  subscribe.set_id(1);
  subscribe.mutable_subscribe();
  subscriber.Send(subscribe);
  ASSERT_TRUE(subscriber.Receive(*server));
  other.Send(Hello(1));
  ASSERT_TRUE(other.Receive(*server));
  steer::Event event;
  event.set_kind("port_up");
  server->Publish(event);
  EXPECT_EQ(subscriber.Receive(*server)->event().kind(), "port_up");
  other.Send(Hello(2));
  EXPECT_TRUE(other.Receive(*server)->has_response());
}

TEST_F(SteerServerTest, ASlowSubscriberIsHungUpOnAndTheOthersHearAll) {
  auto server = Listen();
  steer::Request subscribe;
  subscribe.mutable_subscribe();
  RawClient slow(path_);
  RawClient keen(path_);
  slow.Send(subscribe);
  keen.Send(subscribe);
  ASSERT_TRUE(slow.Receive(*server));
  ASSERT_TRUE(keen.Receive(*server));
  steer::Event event;
  event.set_text(std::string(1000, 'x'));
  // Enough for the socket's buffer and the queue together.
  const uint64_t events = SteerServer::kMaxQueuedEvents + 4096;
  const auto start = std::chrono::steady_clock::now();
  for (uint64_t i = 1; i <= events; ++i) {
    event.set_number(i);
    server->Publish(event);
    const auto heard = keen.Receive(*server);
    ASSERT_TRUE(heard) << i;
    ASSERT_EQ(heard->event().number(), i);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, 30s);
  uint64_t heard = 0;
  while (slow.Receive(*server)) ++heard;
  EXPECT_TRUE(slow.hung_up());
  EXPECT_LT(heard, events);
}

// A flood that people look at must not cost the connection that keeps the gate in step.
TEST_F(SteerServerTest, ASlowSubscriberLosesDropsAndNothingElse) {
  auto server = Listen();
  steer::Request subscribe;
  subscribe.mutable_subscribe();
  RawClient slow(path_);
  slow.Send(subscribe);
  ASSERT_TRUE(slow.Receive(*server));
  steer::Drop drop;
  drop.set_frame(std::string(1000, 'x'));
  const uint64_t drops = 4 * SteerServer::kMaxQueuedEvents;
  for (uint64_t i = 0; i < drops; ++i) server->Publish(drop);
  steer::Event event;
  event.set_kind("port_up");
  server->Publish(event);
  uint64_t heard = 0;
  while (const auto message = slow.Receive(*server)) {
    if (message->has_event()) break;
    ASSERT_TRUE(message->has_drop());
    ++heard;
  }
  EXPECT_FALSE(slow.hung_up());
  EXPECT_GE(heard, SteerServer::kMaxQueuedDrops);
  EXPECT_LT(heard, drops);
}

// A client that asks and never reads must not grow the server; once it reads, all answers come.
TEST_F(SteerServerTest, UnreadAnswersPauseTheirClient) {
  auto server = Listen();
  answer_bytes_ = 512U << 10U;
  RawClient client(path_);
  constexpr int kRequests = 64;
  for (int i = 1; i <= kRequests; ++i) {
    steer::Request request;
    request.set_id(i);
    request.mutable_read_counters();
    client.Send(request);
  }
  for (int i = 0; i < 200; ++i) server->Poll(0ms);
  EXPECT_LT(handled_, 8);
  for (int i = 1; i <= kRequests; ++i) {
    const auto message = client.Receive(*server);
    ASSERT_TRUE(message) << i;
    EXPECT_EQ(message->response().id(), static_cast<uint64_t>(i));
  }
  EXPECT_EQ(handled_, kRequests);
}

TEST_F(SteerServerTest, AnAnswerTooLargeBecomesAFailure) {
  auto server = Listen();
  answer_bytes_ = steer::kMaxFrameBytes;
  RawClient client(path_);
  steer::Request request;
  request.set_id(4);
  request.mutable_read_counters();
  client.Send(request);
  const auto message = client.Receive(*server);
  ASSERT_TRUE(message);
  EXPECT_EQ(message->response().id(), 4U);
  EXPECT_TRUE(message->response().has_failure());
}

TEST_F(SteerServerTest, APathTooLongIsNamed) {
  const auto server = SteerServer::Listen("/tmp/" + std::string(200, 'x'), {}, nullptr);
  ASSERT_FALSE(server);
  EXPECT_EQ(server.error().where, "steering.socket");
}

}  // namespace
}  // namespace portcullis
