// Connections that came in ESP, as a client meets them; only control is a stand-in. The loopback
// interface is the device at which what was decrypted would come in.
#include "control/guard/request/test_requests.hpp"

namespace portcullis::guard {
namespace {

class CarriedTest : public RequestServiceTest {
 protected:
  CarriedTest() {
    server_->Then(TestServer::Http("200 OK", "{}", kClose));
    boost::asio::post(io_,
                      [this] { boost::asio::co_spawn(io_, in_esp_.Run(), boost::asio::detached); });
    AtEnd([this] { in_esp_.Stop(); });
  }
  ~CarriedTest() override { End(); }  // NOLINT(bugprone-exception-escape)

  unsigned Get(Client& client) { return Ask(client, "GET", "/slices/1", shown_).status; }
  /// Control has been asked about that many connections since the last change.
  void AwaitStays(size_t count) {
    const auto end = std::chrono::steady_clock::now() + kLongest;
    while (Asked(admission::Request::kStay).size() < count) {
      ASSERT_LT(std::chrono::steady_clock::now(), end) << "control was not asked";
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }

  const Headers shown_ = Shown();  // one token for all
  Listener in_esp_ = ListenFor(
      [this](const ListenerLimits& limits) { return ServeRequests(requests_, interface_, limits); },
      "lo");
};

TEST_F(CarriedTest, WhatIsPermittedThereIsPermittedFromOneAddress) {
  Permit({"monitor"});  // the guard has heard what holds: nothing is asked twice for that
  for (const char* source : {"127.0.0.1", "127.0.0.2", "127.0.0.1"}) {
    EXPECT_EQ(Get(*ConnectedTo(in_esp_, source)), 200U);
  }
  auto asked = Asked(admission::Request::kPermit);
  ASSERT_EQ(asked.size(), 2U);
  for (const auto& one : asked) EXPECT_TRUE(one.permit().identity().decrypted());
  EXPECT_NE(asked[0].permit().identity().source(), asked[1].permit().identity().source());
  // Elsewhere one answer does for all, and says nothing of ESP.
  for (const char* source : {"127.0.0.1", "127.0.0.2"}) {
    EXPECT_EQ(Get(*ConnectedTo(listener_, source)), 200U);
  }
  asked = Asked(admission::Request::kPermit);
  ASSERT_EQ(asked.size(), 3U);
  EXPECT_FALSE(asked[2].permit().identity().decrypted());
}

TEST_F(CarriedTest, WhatNoSessionCarriesIsRefused) {
  Refuse(admission::Request::kPermit, "session_missing");
  EXPECT_EQ(Get(*ConnectedTo(in_esp_)), 403U);
  Relent();
  EXPECT_EQ(Get(*ConnectedTo(in_esp_)), 200U);
}

TEST_F(CarriedTest, AConnectionEndsWithItsSessionThoughNothingIsAsked) {
  const auto in_esp = ConnectedTo(in_esp_);
  const auto without = ConnectedTo();
  ASSERT_EQ(Get(*in_esp), 200U);
  ASSERT_EQ(Get(*without), 200U);
  const size_t before = Asked(admission::Request::kStay).size();
  Permit({"monitor", "create"});  // a change that takes it nothing
  AwaitStays(before + 1);
  EXPECT_EQ(Get(*in_esp), 200U);
  const auto stay = Asked(admission::Request::kStay).back().stay();
  EXPECT_EQ(stay.interface(), pki::kInterface);
  EXPECT_EQ(stay.identity().source(), std::string("\x7f\0\0\1", 4));
  EXPECT_TRUE(stay.identity().decrypted());

  Refuse(admission::Request::kStay, "session_missing");
  Permit({"monitor"});
  EXPECT_TRUE(in_esp->socket().WaitForEnd());
  EXPECT_EQ(Get(*without), 200U);  // which no session carries
}

TEST_F(CarriedTest, WithoutAWordFromControlConnectionsStay) {
  const auto client = ConnectedTo(in_esp_);
  ASSERT_EQ(Get(*client), 200U);
  const size_t before = Asked(admission::Request::kStay).size();
  Refuse(admission::Request::kStay, "gate_unavailable");
  Permit({"monitor"});
  AwaitStays(before + 2);  // it is asked until it knows
  EXPECT_EQ(Get(*client), 200U);
  Refuse(admission::Request::kStay, "session_missing");
  EXPECT_TRUE(client->socket().WaitForEnd());
}

}  // namespace
}  // namespace portcullis::guard
