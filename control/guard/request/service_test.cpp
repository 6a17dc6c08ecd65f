// Requests as a client meets them, over real TLS on both sides; only control is a stand-in.
#include "control/guard/request/test_requests.hpp"

namespace portcullis::guard {
namespace {

TEST_F(RequestServiceTest, WhatIsPermittedGoesOnAndComesBack) {
  server_->Then(TestServer::Http("200 OK", R"({"id": 1})", kClose + "X-Own: yes\r\n"));
  const auto client = ConnectedTo();
  const Reply reply = Ask(*client, "GET", "/slices/1", Shown({{"Accept", "application/json"}}));
  EXPECT_EQ(reply.status, 200U);
  EXPECT_EQ(reply.body, json({{"id", 1}}));
  EXPECT_EQ(reply.Header("X-Own"), "yes");
  ASSERT_EQ(Reached(), 1U);
  const std::string request = server_->Requests()[0];
  EXPECT_TRUE(request.starts_with("GET /slices/1 HTTP/1.1\r\nHost: 127.0.0.1:")) << request;
  EXPECT_NE(request.find(R"(Portcullis-Client: peer="csmf-1", tenant="operator-a")"),
            std::string::npos);
  EXPECT_NE(request.find("Accept: application/json\r\n"), std::string::npos);
  EXPECT_EQ(request.find("Bearer"), std::string::npos);

  const admission::Operate operate = control_.Wait(admission::Request::kOperate).operate();
  EXPECT_EQ(operate.peer(), "csmf-1");
  EXPECT_EQ(operate.operations(0), "monitor");
  EXPECT_EQ(operate.resource(), "1");
  EXPECT_FALSE(operate.change());
  const admission::Outcome outcome = control_.Wait(admission::Request::kOutcome).outcome();
  EXPECT_EQ(outcome.id(), operate.id());
  EXPECT_EQ(outcome.status(), 200U);
  EXPECT_EQ(outcome.response_bytes(), 9U);
}

TEST_F(RequestServiceTest, NothingGoesOnThatIsNotPermitted) {
  server_->Then(TestServer::Http("200 OK", "{}", kClose));
  struct Case {
    const char* method;
    const char* target;
    bool token;
    unsigned status;
    Reason reason;
  };
  for (const Case& c : {Case{"GET", "/slices/1", false, 401, Reason::token_missing},
                        Case{"GET", "/slices/2", true, 403, Reason::tenant_violation},
                        Case{"GET", "/slices/3", true, 403, Reason::tenant_violation},
                        Case{"GET", "/nodes/1", true, 404, Reason::request_unlisted},
                        Case{"POST", "/slices/1", true, 404, Reason::request_unlisted},
                        Case{"GET", "/slices/../1", true, 400, Reason::request_malformed},
                        Case{"GET", "/slices//1", true, 400, Reason::request_malformed},
                        Case{"GET", "/slices/%31", true, 400, Reason::request_malformed}}) {
    const uint64_t before = Refused(c.reason);
    const auto client = ConnectedTo();
    const Reply reply = Ask(*client, c.method, c.target, c.token ? Shown() : Headers());
    EXPECT_EQ(reply.status, c.status) << c.method << " " << c.target;
    EXPECT_EQ(Refused(c.reason), before + 1) << c.target;
    EXPECT_EQ(reply.Header("WWW-Authenticate").empty(), c.status != 401);
    EXPECT_EQ(reply.body.value("reference", "").size(), 16U);
    // The connection is good for what is permitted.
    EXPECT_EQ(Ask(*client, "GET", "/slices/1", Shown()).status, 200U);
  }
  EXPECT_EQ(Reached(), 8U);
  Permit({"modify"});
  const auto client = ConnectedTo();
  EXPECT_EQ(Ask(*client, "GET", "/slices/1", Shown()).status, 403U);
  EXPECT_EQ(Refused(Reason::operation_denied), 1U);
  Permit({"monitor"});
  EXPECT_EQ(Ask(*client, "GET", "/slices/1", Shown()).status, 200U);
  EXPECT_EQ(Reached(), 9U);
}

TEST_F(RequestServiceTest, TheBodySaysWhatAPatchIs) {
  server_->Then(TestServer::Http("200 OK", "{}", kClose));
  const auto client = ConnectedTo();
  const Headers patch = Shown({{"Content-Type", "application/merge-patch+json"}});
  EXPECT_EQ(Ask(*client, "PATCH", "/slices/1", patch, R"({"name": "a"})").status, 200U);
  EXPECT_EQ(Ask(*client, "PATCH", "/slices/1", patch, R"({"state": "UNLOCKED"})").status, 403U);
  EXPECT_EQ(Reached(), 1U);
  EXPECT_TRUE(server_->Requests()[0].ends_with("\r\n\r\n{\"name\": \"a\"}"));
  Permit({"activate"});
  EXPECT_EQ(Ask(*client, "PATCH", "/slices/1", patch, R"({"state": "UNLOCKED"})").status, 200U);
  EXPECT_EQ(Ask(*client, "PATCH", "/slices/1", patch, R"({"name": "a"})").status, 403U);
  EXPECT_EQ(
      Ask(*client, "PATCH", "/slices/1", patch, R"({"state": "UNLOCKED", "name": "a"})").status,
      403U);
  Permit({"activate", "modify"});
  EXPECT_EQ(
      Ask(*client, "PATCH", "/slices/1", patch, R"({"state": "UNLOCKED", "name": "a"})").status,
      200U);
  EXPECT_EQ(Ask(*client, "PATCH", "/slices/1", patch, "{").status, 400U);
  EXPECT_EQ(
      Ask(*client, "PATCH", "/slices/1", Shown({{"Content-Type", "text/plain"}}), "{}").status,
      400U);
  EXPECT_EQ(Reached(), 3U);
}

TEST_F(RequestServiceTest, WhoCreatesASliceOwnsIt) {
  server_->Then(TestServer::Http("201 Created", "{}", kClose + "Location: /slices/77\r\n"));
  server_->Then(TestServer::Http("200 OK", "{}", kClose));
  const auto client = ConnectedTo();
  EXPECT_EQ(Ask(*client, "GET", "/slices/77", Shown()).status, 403U);
  EXPECT_EQ(Ask(*client, "POST", "/slices", Shown(), "{}").status, 201U);
  const auto outcomes = Asked(admission::Request::kOutcome);
  ASSERT_EQ(outcomes.size(), 1U);
  EXPECT_EQ(outcomes[0].outcome().created(), "77");
  EXPECT_EQ(outcomes[0].outcome().created_kind(), "slice");
  EXPECT_TRUE(Asked(admission::Request::kOperate)[0].operate().change());
  EXPECT_EQ(Ask(*client, "GET", "/slices/77", Shown()).status, 200U);
  EXPECT_EQ(Ask(*client, "DELETE", "/slices/77", Shown()).status, 200U);
  const auto end = std::chrono::steady_clock::now() + kLongest;
  while (Asked(admission::Request::kOutcome).size() < 3) {
    ASSERT_LT(std::chrono::steady_clock::now(), end);
  }
  EXPECT_TRUE(Asked(admission::Request::kOutcome)[2].outcome().deleted());
}

TEST_F(RequestServiceTest, WhatIsCreatedWhileControlIsAwayIsTheTenantsWhenItIsBack) {
  server_->Then(TestServer::Http("201 Created", "{}", kClose + "Location: /slices/77\r\n"));
  server_->Then(TestServer::Http("200 OK", "{}", kClose));
  Refuse(admission::Request::kOutcome, "gate_unavailable");
  const auto client = ConnectedTo();
  EXPECT_EQ(Ask(*client, "POST", "/slices", Shown(), "{}").status, 201U);
  EXPECT_EQ(Ask(*client, "GET", "/slices/77", Shown()).status, 403U);
  EXPECT_FALSE(On([&] { return outcomes_.idle(); }));
  Relent();
  const auto end = std::chrono::steady_clock::now() + kLongest;
  while (!On([&] { return outcomes_.idle(); })) ASSERT_LT(std::chrono::steady_clock::now(), end);
  EXPECT_EQ(Ask(*client, "GET", "/slices/77", Shown()).status, 200U);
}

TEST_F(RequestServiceTest, NothingGoesOnThatIsNotWrittenDown) {
  server_->Then(TestServer::Http("200 OK", "{}", kClose));
  Refuse(admission::Request::kOperate, "quota_exceeded");
  const auto client = ConnectedTo();
  const Reply reply = Ask(*client, "DELETE", "/slices/1", Shown());
  EXPECT_EQ(reply.status, 429U);
  EXPECT_EQ(reply.Header("Retry-After"), "1");
  EXPECT_EQ(reply.body.value("reference", ""), kReference);
  EXPECT_EQ(Reached(), 0U);
  Relent();
  EXPECT_EQ(Ask(*client, "DELETE", "/slices/1", Shown()).status, 200U);
  EXPECT_EQ(Reached(), 1U);
}

TEST_F(RequestServiceTest, AnotherServerIsToldNothing) {
  server_->Then(TestServer::Http("200 OK", "{}", kClose));
  const std::string another = folder_.Write("another", "");
  identity::test::MakeCertificate(another);
  UseServer(another);
  const auto client = ConnectedTo();
  EXPECT_EQ(Ask(*client, "GET", "/slices/1", Shown()).status, 502U);
  EXPECT_EQ(Refused(Reason::server_unavailable), 1U);
  EXPECT_EQ(Reached(), 0U);
  UseServer(certificate_);
  const auto again = ConnectedTo();
  EXPECT_EQ(Ask(*again, "GET", "/slices/1", Shown()).status, 200U);
}

TEST_F(RequestServiceTest, AmbiguousFramingIsRefusedAndEndsTheConnection) {
  server_->Then(TestServer::Http("200 OK", "{}", kClose));
  const std::string token = "Authorization: " + Bearer(peer_)[0].second + "\r\n";
  for (const std::string fields :
       {"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: xchunked\r\n",
        "Content-Length: 4\r\nContent-Length: 0\r\n", "X: a\r\n b\r\n"}) {
    const auto client = ConnectedTo();
    ASSERT_TRUE(
        Write(*client, fmt::format("PUT /slices/1 HTTP/1.1\r\nHost: a\r\n{0}{1}\r\n0\r\n\r\n"
                                   "GET /slices/1 HTTP/1.1\r\nHost: a\r\n{0}\r\n",
                                   token, fields)));
    EXPECT_EQ(ReadReply(*client).status, 400U) << fields;
    EXPECT_TRUE(Closed(*client));
  }
  EXPECT_EQ(Reached(), 0U);
  const auto client = ConnectedTo();
  ASSERT_TRUE(
      Write(*client, "PUT /slices/1 HTTP/1.1\r\nHost: a\r\n" + token +
                         "Content-Length: 4\r\n\r\nbodyGET /slices/1 HTTP/1.1\r\nHost: a\r\n" +
                         token + "\r\n"));
  EXPECT_EQ(ReadReply(*client).status, 200U);
  EXPECT_EQ(ReadReply(*client).status, 200U);
  ASSERT_EQ(Reached(), 2U);
  EXPECT_TRUE(server_->Requests()[0].ends_with("\r\n\r\nbody"));
}

// What comes behind a chunked body is a field to Beast, and was never looked at.
TEST_F(RequestServiceTest, TrailersGoNoFurther) {
  server_->Then(TestServer::Http("200 OK", "{}", kClose));
  const auto client = ConnectedTo();
  ASSERT_TRUE(Write(
      *client, "PATCH /slices/1 HTTP/1.1\r\nHost: a\r\nAuthorization: " + Bearer(peer_)[0].second +
                   "\r\nContent-Type: application/merge-patch+json\r\n"
                   "Transfer-Encoding: chunked\r\n\r\nc\r\n{\"name\":\"a\"}\r\n0\r\n"
                   "X-HTTP-Method-Override: DELETE\r\nContent-Type: a/b\r\n\r\n"));
  EXPECT_EQ(ReadReply(*client).status, 200U);
  ASSERT_EQ(Reached(), 1U);
  const std::string request = server_->Requests()[0];
  EXPECT_TRUE(request.ends_with("\r\n\r\n{\"name\":\"a\"}")) << request;
  EXPECT_EQ(request.find("Override"), std::string::npos);
  EXPECT_EQ(request.find("a/b"), std::string::npos);
}

TEST_F(RequestServiceTest, WhatIsRevokedWhileItsBodyComesDoesNotEnd) {
  server_->Then(TestServer::Http("200 OK", "{}", kClose));
  const std::string head =
      "PUT /slices/1 HTTP/1.1\r\nHost: a\r\nAuthorization: " + Bearer(peer_)[0].second +
      "\r\nContent-Length: 8\r\n\r\nhalf";
  const auto revoked = ConnectedTo();
  ASSERT_TRUE(Write(*revoked, head));
  control_.Wait(admission::Request::kOperate);
  Permit({});
  ASSERT_TRUE(Write(*revoked, "half"));
  EXPECT_EQ(ReadReply(*revoked).status, 403U);
  ASSERT_TRUE(Write(*revoked, head + "half"));  // all of it was read: the connection goes on
  EXPECT_EQ(ReadReply(*revoked).status, 403U);
  Permit({"modify"});
  const auto client = ConnectedTo();
  ASSERT_TRUE(Write(*client, head));
  ASSERT_TRUE(Write(*client, "half"));
  EXPECT_EQ(ReadReply(*client).status, 200U);
  const auto requests = server_->Requests();
  ASSERT_FALSE(requests.empty());
  EXPECT_TRUE(requests.back().ends_with("\r\n\r\nhalfhalf"));
  EXPECT_EQ(std::ranges::count_if(requests, [](const auto& r) { return r.ends_with("halfhalf"); }),
            1);
}

TEST_F(RequestServiceTest, AChangeOfPolicyLosesNothingThatIsStillPermitted) {
  for (const auto* method : {"PUT", "PATCH"}) {  // streamed; read, in order to decide
    server_->Then(TestServer::Http("200 OK", "{}", kClose));
    const auto client = ConnectedTo();
    const std::string head = fmt::format(
        "{} /slices/1 HTTP/1.1\r\nHost: a\r\nAuthorization: {}\r\n"
        "Content-Type: application/merge-patch+json\r\nContent-Length: 10\r\n\r\n",
        method, Bearer(peer_)[0].second);
    ASSERT_TRUE(Write(*client, head + "{\"a\""));
    if (method == std::string("PUT")) control_.Wait(admission::Request::kOperate);
    Permit({"modify", "create"});
    ASSERT_TRUE(Write(*client, ": \"b\"}"));
    EXPECT_EQ(ReadReply(*client).status, 200U) << method;
  }
  const auto client = ConnectedTo();
  ASSERT_TRUE(Write(
      *client, "PATCH /slices/1 HTTP/1.1\r\nHost: a\r\nAuthorization: " + Bearer(peer_)[0].second +
                   "\r\nContent-Type: application/merge-patch+json" +
                   "\r\nContent-Length: 10\r\n\r\n{\"a\""));
  Permit({"monitor"});
  ASSERT_TRUE(Write(*client, ": \"b\"}"));
  EXPECT_EQ(ReadReply(*client).status, 403U);
}

// An answer may be the first that the guard hears of a change.
TEST_F(RequestServiceTest, PolicyThatIsNewerThanWhatTheGuardHasHeardIsThePolicy) {
  const auto client = ConnectedTo();
  for (int change = 0; change < 20; ++change) {
    const bool permitted = change % 2 == 0;
    {
      const std::lock_guard lock(deciding_);
      operations_ = {permitted ? "monitor" : "modify"};
      ++version_;
    }
    if (permitted) server_->Then(TestServer::Http("200 OK", "{}", kClose));
    // A token that is shown for the first time, so that control is asked.
    const Headers shown = Bearer(peer_, {{"jti", std::to_string(change)}});
    EXPECT_EQ(Ask(*client, "GET", "/slices/1", shown).status, permitted ? 200U : 403U) << change;
  }
}

TEST_F(RequestServiceTest, LargeBodiesPassBothWays) {
  const std::string large(3U << 20U, 'x');
  server_->Then(TestServer::Http("200 OK", json(large).dump(), kClose));
  const auto client = ConnectedTo();
  const Reply reply = Ask(*client, "PUT", "/slices/1", Shown(), large);
  EXPECT_EQ(reply.status, 200U);
  EXPECT_EQ(reply.body, json(large));
  ASSERT_EQ(Reached(), 1U);
  EXPECT_TRUE(server_->Requests()[0].ends_with("\r\n\r\n" + large));
}

TEST_F(RequestServiceTest, WithoutControlNobodyMayDoAnything) {
  server_->Then(TestServer::Http("200 OK", "{}", kClose));
  const auto client = ConnectedTo();
  EXPECT_EQ(Ask(*client, "GET", "/slices/1", Shown()).status, 200U);
  On([this] {
    link_.Stop();
    return 0;
  });
  WaitForControl(false);
  EXPECT_EQ(Ask(*client, "GET", "/slices/1", Shown()).status, 503U);
  EXPECT_EQ(Reached(), 1U);
}

}  // namespace
}  // namespace portcullis::guard
