// Requests whose token is good for one, and requests that an operator must approve.
#include "control/guard/request/test_requests.hpp"

namespace portcullis::guard {
namespace {

TEST_F(RequestServiceTest, AOneTimeTokenIsAskedAboutEachTime) {
  server_->Then(TestServer::Http("200 OK", "{}", kClose));
  const auto client = ConnectedTo();
  const Headers shown = Shown();  // another second, another token
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Ask(*client, "GET", "/slices/1", shown).status, 200U);
  EXPECT_EQ(Asked(admission::Request::kPermit).size(), 1U);
  one_time_ = true;
  Permit(operations_);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Ask(*client, "GET", "/slices/1", shown).status, 200U);
  EXPECT_EQ(Asked(admission::Request::kPermit).size(), 4U);
  EXPECT_FALSE(Asked(admission::Request::kOperate).back().operate().token().jti().empty());
  Refuse(admission::Request::kOperate, "token_used");
  const Reply reply = Ask(*client, "GET", "/slices/1", Shown());
  EXPECT_EQ(reply.status, 401U);
  EXPECT_EQ(reply.Header("WWW-Authenticate"), "Bearer error=\"invalid_token\"");
}

// Control is told all of what somebody is to approve, and of nothing else.
TEST_F(RequestServiceTest, WhatMustBeApprovedIsToldInFull) {
  server_->Then(TestServer::Http("200 OK", "{}", kClose));
  approval_ = {"modify"};
  Permit(operations_);
  const auto client = ConnectedTo();
  const Headers put = Shown({{"Content-Type", "application/json"}});
  EXPECT_EQ(Ask(*client, "GET", "/slices/1", Shown()).status, 200U);
  EXPECT_FALSE(Asked(admission::Request::kOperate).back().operate().has_whole());
  EXPECT_EQ(Ask(*client, "PUT", "/slices/1?a=b", put, R"({"a": 1})").status, 200U);
  const auto whole = Asked(admission::Request::kOperate).back().operate().whole();
  EXPECT_EQ(whole.target(), "/slices/1?a=b");
  EXPECT_EQ(whole.content_type(), "application/json");
  EXPECT_EQ(whole.body(), R"({"a": 1})");
  EXPECT_TRUE(server_->Requests().back().ends_with("\r\n\r\n{\"a\": 1}"));
  const Headers patch = Shown({{"Content-Type", "application/merge-patch+json"}});
  EXPECT_EQ(Ask(*client, "PATCH", "/slices/1", patch, R"({"name": "a"})").status, 200U);
  EXPECT_EQ(Asked(admission::Request::kOperate).back().operate().whole().body(),
            R"({"name": "a"})");
  const size_t before = Reached();
  for (const Headers& more :
       {Headers{{"Content-Type", "application/json"}, {"Content-Encoding", "gzip"}},
        Headers{{"Content-Type", "application/json"}, {"Connection", "content-type"}}}) {
    const auto other = ConnectedTo();
    EXPECT_EQ(Ask(*other, "PUT", "/slices/1", Shown(more), "{}").status, 400U);
  }
  const auto large = ConnectedTo();
  EXPECT_EQ(Ask(*large, "PUT", "/slices/1", put, '"' + std::string(32768, 'x') + '"').status, 400U);
  EXPECT_EQ(Reached(), before);
}

TEST_F(RequestServiceTest, WhatIsHeldIsToldByItsReference) {
  server_->Then(TestServer::Http("200 OK", "{}", kClose));
  approval_ = {"delete"};
  Permit(operations_);
  admission::Refusal& refusal = refusals_[admission::Request::kOperate];
  refusal.set_reason("approval_needed");
  refusal.set_reference(kReference);
  refusal.set_held("00000000000000aa");
  const auto client = ConnectedTo();
  const Reply held = Ask(*client, "DELETE", "/slices/1", Shown());
  EXPECT_EQ(held.status, 403U);
  EXPECT_EQ(held.body.value("type", ""), "urn:portcullis:problem:guard:approval_needed");
  EXPECT_EQ(held.body.value("held", ""), "00000000000000aa");
  EXPECT_EQ(held.body.value("reference", ""), kReference);
  EXPECT_EQ(Reached(), 0U);
  Relent();
  EXPECT_EQ(Ask(*client, "DELETE", "/slices/1", Shown()).status, 200U);
}

}  // namespace
}  // namespace portcullis::guard
