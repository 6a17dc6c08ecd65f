// Sessions over the real core, store and steering socket; only the dataplane behind the socket is a
// stand-in, which keeps what it is given and says what it is told to. For the tests beside.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>
#include <vector>

#include "control/admission/sessions.hpp"
#include "control/model/json.hpp"
#include "dataplane/steer/messages.hpp"
#include "dataplane/steer/server.hpp"

namespace portcullis::admission {

namespace asio = boost::asio;
using namespace std::chrono_literals;  // NOLINT(google-build-using-namespace): tests alone
using identity::Reason;

class TestDataplane {
 public:
  explicit TestDataplane(const std::string& path) {
    auto server = SteerServer::Listen(path, {}, [this](const auto& request, auto& response) {
      const std::lock_guard lock(mutex_);
      Handle(request, response);
    });
    EXPECT_TRUE(server) << server.error().Text();
    thread_ = std::thread([this, server = std::move(*server)]() mutable {
      while (!stop_) server.Poll(2ms);
    });
  }
  ~TestDataplane() {
    stop_ = true;
    thread_.join();
  }
  TestDataplane(const TestDataplane&) = delete;
  TestDataplane& operator=(const TestDataplane&) = delete;

  [[nodiscard]] std::vector<steer::SaSpec> Sas() const {
    const std::lock_guard lock(mutex_);
    std::vector<steer::SaSpec> all;
    for (const auto& [id, sa] : sas_) all.push_back(sa);
    return all;
  }
  [[nodiscard]] std::optional<steer::SaSpec> Sa(steer::Direction direction) const {
    for (const auto& sa : Sas()) {
      if (sa.direction() == direction) return sa;
    }
    return {};
  }
  /// Every inbound SA has accepted so many.
  void Receive(uint64_t packets) { packets_ = packets; }
  void RefuseSas(bool refuse) { refuse_ = refuse; }
  /// As another process, with nothing of what this one had.
  void BeginAgain() {
    const std::lock_guard lock(mutex_);
    ++incarnation_;
    generation_ = 0;
    sas_.clear();
  }

 private:
  void Handle(const steer::Request& request, steer::Response& response) {
    if (request.has_hello()) {
      response.mutable_hello()->set_protocol(1);
      response.mutable_hello()->set_incarnation(std::to_string(incarnation_));
      response.mutable_hello()->set_sa_capacity(16);
      response.mutable_hello()->set_generation(generation_);
    } else if (request.has_apply_snapshot()) {
      generation_ = request.apply_snapshot().generation();
      response.mutable_apply_snapshot()->set_generation(generation_);
    } else if (request.has_add_sas()) {
      for (const auto& sa : request.add_sas().sas()) {
        auto& result = *response.mutable_add_sas()->add_results();
        result.set_id(sa.id());
        if (refuse_) {
          result.mutable_failure()->set_message("no room");
        } else {
          sas_[sa.id()] = sa;
        }
      }
    } else if (request.has_remove_sas()) {
      for (const auto& id : request.remove_sas().ids()) sas_.erase(id);
      response.mutable_remove_sas();
    } else if (request.has_list_sas()) {
      auto& listed = *response.mutable_list_sas();
      const auto& ids = request.list_sas().ids();
      for (const auto& [id, sa] : sas_) {
        if (!ids.empty() && std::ranges::find(ids, id) == ids.end()) continue;
        auto& state = *listed.add_sas();
        *state.mutable_spec() = sa;
        state.set_packets(packets_);
      }
    } else if (request.has_register_()) {
      for (const auto& id : request.register_().ids()) {
        if (sas_.contains(id)) sas_[id].set_registered_seconds(request.register_().seconds());
      }
    } else if (request.has_revoke()) {
      // nothing to say
    }
  }

  mutable std::mutex mutex_;
  std::map<std::string, steer::SaSpec> sas_;
  int incarnation_ = 1;
  uint64_t generation_ = 0;
  std::atomic<uint64_t> packets_ = 0;
  std::atomic<bool> refuse_ = false;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

class SessionsTest : public testing::Test {
 protected:
  static constexpr auto kLongest = 60s;  // on a machine that is busy with something else

  SessionsTest()
      : folder_(MakeFolder()),
        dataplane_(folder_ / "steer.sock"),
        link_(io_.get_executor(), folder_ / "steer.sock", events_),
        gate_(io_.get_executor(), false, std::move(*Store::Open(folder_ / "store.db")), events_,
              link_) {
    asio::co_spawn(io_, link_.Run([this](const auto& hello) { return gate_.Reconcile(hello); }),
                   asio::detached);
    Start({});
    Await([this] { return gate_.InSync(); });
    Edit([](model::Document& d) { d = Policy(); });
  }
  ~SessionsTest() override {
    sessions_->Stop();
    link_.Stop();
    io_.run_for(1s);
    std::filesystem::remove_all(folder_);
  }

  static std::filesystem::path MakeFolder() {
    std::string pattern = std::filesystem::temp_directory_path() / "sessions-XXXXXX";
    return mkdtemp(pattern.data());
  }
  static model::Document Policy() {
    return *model::ParseDocument(nlohmann::json::parse(R"({
      "interfaces": [
        {"name":"nsmf","type":"other","side":"local","prefixes":["10.2.0.10/32"],
         "ports":[{"protocol":"tcp","first":8080,"last":8080}],"zone":"external",
         "protection":"esp"}],
      "peers": [
        {"name":"csmf-1","identity":"csmf-1.example","role":"csmf","prefixes":["10.1.0.0/24"],
         "token":{"issuer":"i","client_id":"csmf-1"}},
        {"name":"csmf-2","identity":"csmf-2.example","role":"csmf","prefixes":["10.1.1.0/24"],
         "token":{"issuer":"i","client_id":"csmf-2"}}],
      "policies": [{"name":"manage","role":"csmf","interface":"nsmf","scope":"nsi"}]})"));
  }

  void Start(Sessions::Times times) {
    sessions_ = std::make_unique<Sessions>(io_.get_executor(), gate_, times);
    asio::co_spawn(io_, sessions_->Run(), asio::detached);
  }
  /// With other times, and none of what was before.
  void Restart(Sessions::Times times) {
    sessions_->Stop();
    while (io_.poll_one() != 0) {
    }
    Start(times);
  }

  template <class Condition>
  void Await(Condition condition) {
    const auto give_up = std::chrono::steady_clock::now() + kLongest;
    while (!condition()) {
      ASSERT_LT(std::chrono::steady_clock::now(), give_up);
      io_.run_one_for(10ms);
    }
  }
  template <class T>
  T Run(asio::awaitable<T> work) {
    std::optional<T> result;
    asio::co_spawn(io_, std::move(work), [&](const std::exception_ptr& failed, T value) {
      ASSERT_FALSE(failed);
      result = std::move(value);
    });
    Await([&] { return result.has_value(); });
    return std::move(*result);
  }
  void Edit(const std::function<void(model::Document&)>& change) {
    const auto applied = Run(gate_.Apply(
        [&](model::Document d) -> Result<model::Document> {
          change(d);
          return d;
        },
        {}));
    ASSERT_TRUE(applied) << applied.error().Text();
  }

  using Kind = model::Revocable::Kind;
  void Revoke(Kind kind, const std::string& issuer, const std::string& id) {
    const auto done = Run(gate_.Revoke({{kind, issuer, id}, "", "", {}, {}}, {}));
    ASSERT_TRUE(done) << done.error().Text();
  }
  void Readmit(Kind kind, const std::string& issuer, const std::string& id) {
    const auto done = Run(gate_.Readmit({kind, issuer, id}, {}));
    ASSERT_TRUE(done) << done.error().Text();
  }

  /// With a certificate of its own under the same CA, and a token of its own by the same key.
  static Applicant Csmf(int number = 1) {
    const auto expiry = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now() + 1h);
    Identity identity;
    identity.set_mode(CERTIFICATE);
    identity.add_names(fmt::format("csmf-{}.example", number));
    identity.set_certificate_not_after(static_cast<uint64_t>(expiry));
    Certificate& own = *identity.add_chain();
    own.set_issuer("CN=below");
    own.set_serial(fmt::format("0{}", number));
    Certificate& above = *identity.add_chain();
    above.set_issuer("CN=root");
    above.set_serial("77");
    Token token;
    token.set_issuer("i");
    token.set_client_id(fmt::format("csmf-{}", number));
    token.set_jti(fmt::format("t{}", number));
    token.set_kid("k");
    token.add_scopes("nsi");
    token.set_expiry(static_cast<uint64_t>(expiry));
    return ApplicantOf(identity, token, "nsmf");
  }
  static Wanted Ask(const std::string& session = "") {
    Wanted wanted;
    wanted.session = session;
    wanted.peer_spi = 0x5001;
    wanted.algorithms = {steer::AES_128_GCM_16};
    wanted.peer_outer = *Address::Parse("192.0.2.2");
    wanted.gate_outer = *Address::Parse("192.0.2.1");
    return wanted;
  }
  static Wanted AskFirst() {
    Wanted wanted = Ask();
    wanted.initial_contact = true;
    return wanted;
  }
  Secret Key() {
    std::array<uint8_t, 20> key{};
    key[0] = ++keys_;
    return Secret(key);
  }
  tl::expected<void, identity::Refusal> Install(const Terms& terms) {
    return Run(sessions_->Install(terms.session, terms.generation, Key(), Key()));
  }
  tl::expected<void, identity::Refusal> Confirm(const Terms& terms) {
    return Run(sessions_->Confirm(terms.session, terms.generation));
  }
  /// All the way.
  Terms Open(const Applicant& who, const Wanted& wanted) {
    const auto terms = sessions_->Admit(who, wanted);
    EXPECT_TRUE(terms) << terms.error().Text();
    if (!terms) return {};
    const auto installed = Install(*terms);
    EXPECT_TRUE(installed) << installed.error().Text();
    const auto confirmed = Confirm(*terms);
    EXPECT_TRUE(confirmed) << confirmed.error().Text();
    return *terms;
  }
  void AwaitSas(size_t count) {
    Await([&] { return dataplane_.Sas().size() == count; });
  }

  std::filesystem::path folder_;
  TestDataplane dataplane_;
  asio::io_context io_{1};
  Events events_;
  DataplaneLink link_;
  Gate gate_;
  std::unique_ptr<Sessions> sessions_;
  uint8_t keys_ = 0;
};

}  // namespace portcullis::admission
