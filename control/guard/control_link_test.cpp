#include "control/guard/control_link.hpp"

#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>
#include <future>

#include "control/guard/session/test_pki.hpp"
#include "control/guard/test_control.hpp"

namespace portcullis::guard {
namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;

admission::Request Ask(const std::string& session) {
  admission::Request request;
  request.mutable_confirm()->set_session(session);
  return request;
}

class ControlLinkTest : public testing::Test {
 protected:
  ~ControlLinkTest() override {
    link_->Stop();
    io_.restart();
    io_.run();
  }

  void Start(uid_t user = getuid()) {
    link_ = std::make_unique<ControlLink>(io_.get_executor(), path_, user);
    asio::co_spawn(io_, link_->Run(), asio::detached);
  }
  // Runs everything until `done`, or for very long.
  template <class Done>
  bool Until(Done done) {
    const auto end = std::chrono::steady_clock::now() + 60s;
    while (!done() && std::chrono::steady_clock::now() < end) {
      io_.restart();
      io_.run_for(5ms);
    }
    return done();
  }
  Result<admission::Response> Call(admission::Request request,
                                   std::chrono::milliseconds timeout = 60s) {
    auto answer = asio::co_spawn(io_, link_->Call(std::move(request), timeout), asio::use_future);
    EXPECT_TRUE(Until([&] { return answer.wait_for(0s) == std::future_status::ready; }));
    return answer.get();
  }

  TestFolder folder_;
  std::string path_ = folder_.Write("place", "") + ".sock";
  asio::io_context io_{1};
  std::unique_ptr<ControlLink> link_;
};

TEST_F(ControlLinkTest, CallsAreAnsweredEachWithItsOwn) {
  TestControl control(path_, [](const admission::Request& request) {
    auto response = TestControl::Agree(request);
    if (request.has_confirm()) response->mutable_refusal()->set_detail(request.confirm().session());
    return response;
  });
  Start();
  ASSERT_TRUE(Until([&] { return link_->ready(); })) << link_->error();
  auto first = asio::co_spawn(io_, link_->Call(Ask("a")), asio::use_future);
  auto second = asio::co_spawn(io_, link_->Call(Ask("b")), asio::use_future);
  ASSERT_TRUE(Until([&] {
    return first.wait_for(0s) == std::future_status::ready &&
           second.wait_for(0s) == std::future_status::ready;
  }));
  EXPECT_EQ(first.get()->refusal().detail(), "a");
  EXPECT_EQ(second.get()->refusal().detail(), "b");
}

TEST_F(ControlLinkTest, WhileControlIsAwayCallsFailAtOnceAndItIsFoundWhenItComes) {
  Start();
  const auto before = Call(Ask("a"));
  ASSERT_FALSE(before);
  EXPECT_EQ(before.error().kind, ErrorKind::kUnavailable);
  EXPECT_FALSE(link_->Tell(Ask("a")));

  TestControl control(path_);
  ASSERT_TRUE(Until([&] { return link_->ready(); })) << link_->error();
  EXPECT_TRUE(Call(Ask("a")));

  control.OnRequest([&](const admission::Request& request) -> std::optional<admission::Response> {
    if (!request.has_confirm()) return TestControl::Agree(request);
    return {};
  });
  auto hanging = asio::co_spawn(io_, link_->Call(Ask("b"), 60s), asio::use_future);
  ASSERT_TRUE(Until([&] { return control.asked().size() == 2; }));
  control.HangUp();
  ASSERT_TRUE(Until([&] { return hanging.wait_for(0s) == std::future_status::ready; }));
  EXPECT_EQ(hanging.get().error().kind, ErrorKind::kUnavailable);
  control.OnRequest(TestControl::Agree);
  ASSERT_TRUE(Until([&] { return link_->ready(); })) << link_->error();
  EXPECT_TRUE(Call(Ask("c")));
}

TEST_F(ControlLinkTest, NoAnswerInTimeIsUnavailableAndTheLinkGoesOn) {
  TestControl control(path_, [](const admission::Request& request) {
    return request.confirm().session() == "slow" ? std::nullopt : TestControl::Agree(request);
  });
  Start();
  ASSERT_TRUE(Until([&] { return link_->ready(); })) << link_->error();
  const auto late = Call(Ask("slow"), 50ms);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().kind, ErrorKind::kUnavailable);
  EXPECT_TRUE(Call(Ask("quick")));
}

TEST_F(ControlLinkTest, TellDoesNotWait) {
  TestControl control(path_);
  Start();
  ASSERT_TRUE(Until([&] { return link_->ready(); })) << link_->error();
  EXPECT_TRUE(link_->Tell(Ask("told")));
  ASSERT_TRUE(Until([&] { return control.asked().size() == 1; }));
  EXPECT_EQ(control.asked()[0].confirm().session(), "told");
}

TEST_F(ControlLinkTest, MessagesBeyondTheProtocolsSizeAreNotSent) {
  TestControl control(path_);
  Start();
  ASSERT_TRUE(Until([&] { return link_->ready(); })) << link_->error();
  constexpr size_t kTooLong = 65U << 10U;
  const auto refused = Call(Ask(std::string(kTooLong, 'x')));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kExhausted);
  EXPECT_TRUE(Call(Ask("short")));
}

TEST_F(ControlLinkTest, AnotherProtocolIsRefused) {
  TestControl control(path_, [](const admission::Request& request) {
    auto response = TestControl::Agree(request);
    if (request.has_hello()) response->mutable_hello()->set_protocol(2);
    return response;
  });
  Start();
  ASSERT_TRUE(Until([&] { return link_->error().find("protocol") != std::string::npos; }));
  EXPECT_FALSE(link_->ready());
  control.OnRequest(TestControl::Agree);
  EXPECT_TRUE(Until([&] { return link_->ready(); })) << link_->error();
}

// Who is not root cannot pose as control: the twin is every other test here. Root is always
// believed, so as root the listener has to become somebody else for this.
TEST_F(ControlLinkTest, SomebodyElsesSocketGetsNothing) {
  constexpr uid_t kNobody = 65534;
  const bool root = getuid() == 0;
  // The kernel notes the effective user at listen().
  if (root) {
    ASSERT_EQ(chmod(std::filesystem::path(path_).parent_path().c_str(), 0777), 0);
    ASSERT_EQ(seteuid(kNobody), 0);
  }
  TestControl control(path_);
  if (root) {
    ASSERT_EQ(seteuid(0), 0);
  }
  Start(root ? getuid() : kNobody);
  ASSERT_TRUE(Until([&] { return link_->error().find("somebody else") != std::string::npos; }))
      << link_->error();
  EXPECT_FALSE(link_->ready());
  EXPECT_TRUE(control.asked().empty());
}

}  // namespace
}  // namespace portcullis::guard
