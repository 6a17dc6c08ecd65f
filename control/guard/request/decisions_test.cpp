// Gateways' questions on a real UNIX socket; only control is a stand-in.
#include <sys/socket.h>
#include <sys/un.h>

#include <cctype>

#include "base/fd.hpp"
#include "control/guard/request/decision_socket.hpp"
#include "control/guard/request/test_requests.hpp"

namespace portcullis::guard {
namespace {

constexpr const char* kGateway = "edge-1";

class DecisionTest : public RequestServiceTest {
 protected:
  DecisionTest() {
    decisions_->asked = *interface_;
    decisions_->asked.server = nullptr;
    decisions_->verify = CertificateCheck(verifier_, revocations_);
    decisions_->authorities = authorities_;
    decisions_->gateways = {kGateway};
    boost::asio::post(io_,
                      [this] { boost::asio::co_spawn(io_, door_.Run(), boost::asio::detached); });
    AtEnd([this] { door_.Stop(); });
  }
  ~DecisionTest() override { End(); }  // NOLINT(bugprone-exception-escape)

  // As nginx asks; status 0: it is not answered.
  Reply Question(const pki::Issued& who, const std::string& method, const std::string& target,
                 const std::string& more = "") {
    std::string certificate;
    for (const char c : pki::Pem(who.certificate.get())) {
      const auto octet = static_cast<unsigned char>(c);
      certificate += std::isalnum(octet) != 0 ? std::string(1, c) : fmt::format("%{:02X}", octet);
    }
    return Exchanged(
        fmt::format("GET /decision HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                    "Portcullis-Request-Line: {0} {1} HTTP/1.1\r\nPortcullis-Method: {0}\r\n"
                    "Portcullis-Target: {1}\r\nPortcullis-Client-Certificate: {2}\r\n"
                    "Portcullis-Client-Address: 192.0.2.7\r\nAuthorization: {3}\r\n{4}\r\n",
                    method, target, certificate, Bearer(who)[0].second, more));
  }

  [[nodiscard]] Reply Exchanged(const std::string& text) const {
    const Fd socket(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof(address.sun_path) - 1);
    EXPECT_EQ(connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    const timeval longest{60, 0};
    setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &longest, sizeof(longest));
    EXPECT_EQ(send(socket.get(), text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
    std::string all;
    std::array<char, 4096> some{};
    for (ssize_t got = 0; (got = recv(socket.get(), some.data(), some.size(), 0)) > 0;) {
      all.append(some.data(), static_cast<size_t>(got));
    }
    namespace http = boost::beast::http;
    http::response_parser<http::string_body> parser;
    parser.eager(true);
    boost::system::error_code error;
    parser.put(boost::asio::buffer(all), error);
    if (!parser.is_done()) return {};
    Reply reply;
    reply.status = parser.get().result_int();
    for (const auto& field : parser.get()) {
      reply.headers.emplace(std::string(field.name_string()), std::string(field.value()));
    }
    if (!parser.get().body().empty()) reply.body = json::parse(parser.get().body());
    return reply;
  }

  template <class T>
  static T Sound(Result<T> result) {
    if (!result) throw std::runtime_error(result.error().Text());
    return *std::move(result);
  }

  pki::Issued middle_ = pki::Issue(pki::CaSpec("middle"), &ca_);
  pki::Issued unknown_ = pki::Issue(pki::CaSpec("unknown"), &ca_);
  std::shared_ptr<const identity::Authorities> authorities_ = Sound(identity::Authorities::Load(
      {{{folder_.Write("anchor.pem", pki::Pem(ca_.certificate.get())), "", false}},
       {folder_.Write("middle.pem", pki::Pem(middle_.certificate.get()))}}));
  std::shared_ptr<identity::CertificateVerifier> verifier_ =
      std::make_shared<identity::CertificateVerifier>(
          Sound(identity::CertificateVerifier::Create(authorities_, {})));
  std::shared_ptr<DecisionInterface> decisions_ = std::make_shared<DecisionInterface>();
  std::string path_ = folder_.Write("door", "") + ".sock";
  DecisionSocket door_ = Sound(DecisionSocket::Listen(
      io_.get_executor(), {path_, {{getuid(), kGateway}}, ListenerLimits()},
      ServeGateways(requests_, decisions_, ListenerLimits()), notes_, "/decisions"));
};

TEST_F(DecisionTest, WhatMayPassIsInTheBooksAndHasNoEndThere) {
  for (const char* method : {"GET", "PUT"}) {
    const Reply reply = Question(peer_, method, "/slices/1");
    EXPECT_EQ(reply.status, 200U);
    EXPECT_TRUE(reply.Header("Portcullis-Client").starts_with(R"(peer="csmf-1", tenant=)"));
  }
  const auto operates = Asked(admission::Request::kOperate);
  ASSERT_EQ(operates.size(), 2U);
  for (const auto& operate : operates) {
    EXPECT_EQ(operate.operate().gateway(), kGateway);
    EXPECT_EQ(operate.operate().source(), std::string("\xc0\x00\x02\x07", 4));
  }
  EXPECT_FALSE(operates[0].operate().change());
  EXPECT_TRUE(operates[1].operate().change());
  EXPECT_TRUE(On([this] { return outcomes_.idle(); }));
  EXPECT_TRUE(Asked(admission::Request::kOutcome).empty());
}

TEST_F(DecisionTest, RefusesWithWhatNginxTakesForANo) {
  struct Case {
    const char* method;
    const char* target;
    const char* more;
    unsigned status;
    const char* real;
    Reason reason;
  };
  for (const Case& c : {
           Case{"GET", "/slices/2", "", 403, "403", Reason::tenant_violation},
           Case{"GET", "/nodes", "", 403, "404", Reason::request_unlisted},
           Case{"GET", "/slices//1", "", 403, "400", Reason::request_malformed},
           Case{"GET", "/slices/1", "Authorization: x\r\n", 403, "400", Reason::request_malformed},
           Case{"GET", "/slices/1", "Portcullis-Content-Length: 1\r\n", 403, "400",
                Reason::request_malformed},
           // Whose it is, or that it is nobody's, only the answer tells; what it is, only the body.
           Case{"POST", "/slices", "", 403, "403", Reason::not_decidable},
           Case{"DELETE", "/slices/1", "", 403, "403", Reason::not_decidable},
           Case{"PATCH", "/slices/1",
                "Content-Type: application/merge-patch+json\r\nPortcullis-Content-Length: 9\r\n",
                403, "403", Reason::not_decidable},
       }) {
    const uint64_t before = Refused(c.reason);
    const Reply reply = Question(peer_, c.method, c.target, c.more);
    EXPECT_EQ(reply.status, c.status) << c.method << " " << c.target;
    EXPECT_EQ(reply.Header("Portcullis-Status"), c.real) << c.target;
    EXPECT_EQ(json::parse(reply.Header("Portcullis-Problem")), reply.body);
    EXPECT_EQ(reply.Header("Portcullis-Client"), "");
    EXPECT_EQ(Refused(c.reason), before + 1) << c.target;
  }
  EXPECT_TRUE(Asked(admission::Request::kOperate).empty());
  EXPECT_EQ(Question(peer_, "GET", "/slices/1").status, 200U);
}

// nginx passes on the client's own certificate alone.
TEST_F(DecisionTest, WhatStandsBetweenIsTheOperatorsToKnow) {
  const auto below = pki::Issue(pki::ClientSpec("csmf-1.tenant-a.example"), &middle_);
  const auto stray = pki::Issue(pki::ClientSpec("csmf-1.tenant-a.example"), &unknown_);
  EXPECT_EQ(Question(below, "GET", "/slices/1").status, 200U);
  EXPECT_EQ(Question(stray, "GET", "/slices/1").status, 403U);
  EXPECT_EQ(Refused(Reason::cert_chain_fail), 1U);
}

TEST_F(DecisionTest, WhoIsTakenOffTheListIsHeardNoMore) {
  On([this] {
    decisions_->gateways.clear();
    return 0;
  });
  EXPECT_EQ(Question(peer_, "GET", "/slices/1").status, 403U);
  EXPECT_EQ(Refused(Reason::policy_denied), 1U);
  On([this] {
    decisions_->gateways.insert(kGateway);
    return 0;
  });
  EXPECT_EQ(Question(peer_, "GET", "/slices/1").status, 200U);
}

TEST_F(DecisionTest, WithoutControlNothingPasses) {
  EXPECT_EQ(Question(peer_, "GET", "/slices/1").status, 200U);
  On([this] {
    link_.Stop();
    return 0;
  });
  WaitForControl(false);
  const Reply reply = Question(peer_, "GET", "/slices/1");
  EXPECT_EQ(reply.status, 403U);
  EXPECT_EQ(reply.Header("Portcullis-Status"), "503");
}

TEST_F(DecisionTest, WhatIsNoQuestionIsAnsweredAndEndsTheConnection) {
  EXPECT_EQ(Exchanged("GET /decision HTTP/1.1\r\n\r\n").status, 403U);  // no Host
  EXPECT_EQ(
      Exchanged("GET /decision HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").status,
      403U);
  EXPECT_EQ(Question(peer_, "GET", "/slices/1").status, 200U);
}

}  // namespace
}  // namespace portcullis::guard
