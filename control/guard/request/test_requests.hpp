// For tests of requests as a client meets them, over real TLS on both sides; only control is a
// stand-in.
#pragma once

#include "control/guard/request/service.hpp"
#include "control/guard/session/test_service.hpp"
#include "control/identity/token/test_server.hpp"
#include "control/profiles/load.hpp"

namespace portcullis::guard {

using identity::test::TestServer;

inline constexpr const char* kProfile = R"(
name: slices
title: Slices
source: none, for tests
operations: { read: [monitor], change: [create, modify, activate, delete] }
apis:
  - name: slice
    title: Slices
    resource: [id]
    paths:
      - path: /slices
        POST: { operation: create, creates: location }
      - path: /slices/{id}
        GET: { operation: monitor, query: [a, fields] }
        PUT: { operation: modify, query: [a] }
        DELETE: delete
        PATCH:
          operation: modify
          media_types: [application/merge-patch+json]
          states:
            - { member: /state, value: UNLOCKED, operation: activate }
)";
inline const std::string kClose = "Connection: close\r\n";

class RequestServiceTest : public ServiceTest {
 protected:
  RequestServiceTest() {
    control_.OnRequest([this](const auto& request) { return Answer(request); });
    auto profile = profiles::ParseProfile(kProfile, "slices.yaml");
    EXPECT_TRUE(profile) << profile.error().Text();
    interface_->name = pki::kInterface;
    interface_->profile = std::make_shared<const profiles::Profile>(*std::move(profile));
    UseServer(certificate_);
    boost::asio::post(io_, [this] {
      boost::asio::co_spawn(io_, permits_.Run(), boost::asio::detached);
      boost::asio::co_spawn(io_, outcomes_.Run(), boost::asio::detached);
      boost::asio::co_spawn(io_, carried_.Run(), boost::asio::detached);
      boost::asio::co_spawn(io_, listener_.Run(), boost::asio::detached);
    });
    AtEnd([this] {
      permits_.Stop();
      carried_.Stop();
      outcomes_.Stop();
      listener_.Stop();
      interface_->server.reset();
    });
    WaitForVersion();  // else the first permit would be asked for twice
  }
  ~RequestServiceTest() override { End(); }  // NOLINT(bugprone-exception-escape)

  /// The one that the gate trusts has the certificate of this name.
  void UseServer(const std::string& trusted) {
    UpstreamSettings settings;
    std::string url = server_->Url();
    settings.url = url.substr(0, url.rfind('/'));
    settings.tls = {trusted + ".pem", gate_ + ".pem", gate_ + ".key"};
    auto upstream = Upstream::Create(io_.get_executor(), settings, "/server");
    ASSERT_TRUE(upstream) << upstream.error().Text();
    On([&] {
      interface_->server = *upstream;
      return 0;
    });
  }

  std::optional<admission::Response> Answer(const admission::Request& request) {
    const std::lock_guard lock(deciding_);
    admission::Response response;
    if (request.has_hello()) return TestControl::Agree(request);
    if (refusals_.contains(request.kind_case())) {
      *response.mutable_refusal() = refusals_.at(request.kind_case());
    } else if (request.has_watch()) {
      response.mutable_changed()->set_version(version_);
    } else if (request.has_permit()) {
      admission::Permitted& permitted = *response.mutable_permitted();
      permitted.set_peer("csmf-1");
      permitted.set_tenant("operator-a");
      permitted.set_role("csmf");
      for (const auto& operation : operations_) permitted.add_operations(operation);
      permitted.set_seconds(900);
      permitted.set_version(version_);
      permitted.set_one_time(one_time_);
      for (const auto& operation : approval_) permitted.add_approval(operation);
    } else if (request.has_find_owner()) {
      const auto owner = owners_.find(request.find_owner().resource());
      response.mutable_owner()->set_tenant(owner == owners_.end() ? "" : owner->second);
    } else if (request.has_outcome() && !request.outcome().created().empty()) {
      owners_[request.outcome().created()] = "operator-a";
    }
    return response;
  }
  /// As an operator who changes policy.
  void Permit(std::set<std::string> operations) {
    {
      const std::lock_guard lock(deciding_);
      operations_ = std::move(operations);
      ++version_;
    }
    WaitForVersion();
  }
  /// Until the guard knows which policy is in force.
  void WaitForVersion() {
    admission::Permitted permit;
    permit.set_version(version_);
    const auto end = std::chrono::steady_clock::now() + kLongest;
    while (!On([&] { return permits_.Current(permit); })) {
      ASSERT_LT(std::chrono::steady_clock::now(), end) << "the guard has not heard of it";
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }

  std::unique_ptr<Client> ConnectedTo() { return ConnectedTo(listener_); }
  std::unique_ptr<Client> ConnectedTo(const Listener& listener,
                                      const std::string& source = "127.0.0.1") {
    const CtxPtr context = AnyClient(TLS1_3_VERSION, TLS1_3_VERSION);
    SSL_CTX_use_certificate(context.get(), peer_.certificate.get());
    SSL_CTX_use_PrivateKey(context.get(), peer_.key.get());
    auto client = std::make_unique<Client>(listener.port(), context.get(), source);
    EXPECT_TRUE(client->Connect()) << ErrorsOfClient();
    return client;
  }
  Headers Shown(const Headers& more = {}) {
    Headers headers = Bearer(peer_);
    headers.insert(headers.end(), more.begin(), more.end());
    return headers;
  }
  /// What reached the server.
  size_t Reached() { return server_->Requests().size(); }

  std::set<std::string> operations_ = {"monitor", "create", "modify", "delete"};
  std::map<std::string, std::string> owners_ = {{"1", "operator-a"}, {"2", "operator-b"}};
  bool one_time_ = false;
  std::set<std::string> approval_;
  uint64_t version_ = 1;
  std::string certificate_ = [this] {
    std::string name = folder_.Write("server", "");
    identity::test::MakeCertificate(name);
    return name;
  }();
  std::string gate_ = [this] {
    std::string name = folder_.Write("gate-client", "");
    identity::test::MakeCertificate(name);
    return name;
  }();
  std::unique_ptr<TestServer> server_ = std::make_unique<TestServer>(certificate_, gate_);
  std::shared_ptr<RequestInterface> interface_ = std::make_shared<RequestInterface>();
  Permits permits_{io_.get_executor(), link_};
  Outcomes outcomes_{io_.get_executor(), link_};
  CarriedConnections carried_{io_.get_executor(), link_, permits_};
  RequestContext requests_{context_, permits_, outcomes_, carried_};
  Listener listener_ = ListenFor([this](const ListenerLimits& limits) {
    return ServeRequests(requests_, interface_, limits);
  });
};

}  // namespace portcullis::guard
