#include "control/guard/request/decision_request.hpp"

#include <gtest/gtest.h>

#include <cctype>
#include <map>

#include "control/identity/test_pki.hpp"

namespace portcullis::guard {
namespace {

namespace pki = identity::test;
using Protocol = DecisionProtocol;

// As nginx and Envoy write it.
std::string Escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) != 0;
    out += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return out;
}

class Questions : public testing::Test {
 protected:
  using Lines = std::map<std::string, std::string>;  // an empty value: the field is not there

  static Step<ClientRequest> Read(Protocol protocol, const std::string& line, const Lines& lines,
                                  const std::string& body = "") {
    std::string text = line + "\r\nHost: portcullis\r\n";
    for (const auto& [name, value] : lines) {
      if (!value.empty()) text += fmt::format("{}: {}\r\n", name, value);
    }
    auto head = ParseHead(text + "\r\n");
    EXPECT_TRUE(head) << text;
    if (!head) return tl::unexpected(head.error());
    return ReadQuestion(protocol, {*std::move(head), body});
  }

  // A sound question, but for what `change` says.
  Step<ClientRequest> Nginx(const Lines& change = {},
                            const std::string& line = "GET /decision HTTP/1.1") {
    Lines lines = change;
    lines.merge(Lines{{"Portcullis-Request-Line", "POST /a?b=%20 HTTP/1.1"},
                      {"Portcullis-Method", "POST"},
                      {"Portcullis-Target", "/a?b=%20"},
                      {"Portcullis-Client-Certificate", pem_},
                      {"Portcullis-Client-Address", "192.0.2.7"},
                      {"Portcullis-Content-Length", "7"},
                      {"Authorization", "Bearer x"},
                      {"Content-Type", "application/json"}});
    return Read(Protocol::auth_request, line, lines);
  }
  Step<ClientRequest> Envoy(const Lines& change = {}, const std::string& body = "",
                            const std::string& line = "POST /a?b HTTP/1.1") {
    Lines lines = change;
    lines.merge(Lines{{"X-Forwarded-Client-Cert", "Hash=00;Cert=\"" + pem_ + "\""},
                      {"X-Forwarded-For", "10.0.0.1, 2001:db8::7"},
                      {"X-Envoy-Auth-Partial-Body", "false"},
                      {"Authorization", "Bearer x"}});
    return Read(Protocol::ext_authz, line, lines, body);
  }

  pki::Issued ca_ = pki::Issue(pki::CaSpec("ca"));
  pki::Issued client_ = pki::Issue(pki::ClientSpec("csmf-1.example"), &ca_);
  std::string pem_ = Escaped(pki::Pem(client_.certificate.get()));
};

bool Malformed(const Step<ClientRequest>& read) {
  return !read && read.error().why.reason == identity::Reason::request_malformed;
}

TEST_F(Questions, OfNginxAreTheClientsRequest) {
  const auto read = Nginx();
  ASSERT_TRUE(read) << read.error().why.Text();
  EXPECT_EQ(read->head.method, "POST");
  EXPECT_EQ(read->head.target, "/a?b=%20");
  EXPECT_EQ(read->head.fields["Authorization"], "Bearer x");
  EXPECT_EQ(read->head.fields["Content-Type"], "application/json");
  EXPECT_EQ(read->head.fields.count("Portcullis-Target"), 0U);
  EXPECT_TRUE(read->has_body);
  EXPECT_FALSE(read->body);
  EXPECT_EQ(X509_cmp(read->certificate.get(), client_.certificate.get()), 0);
  EXPECT_EQ(read->from.address().to_string(), "192.0.2.7");
}

TEST_F(Questions, OfNginxSayWhetherThereIsABody) {
  const auto has_body = [&](const Lines& change) {
    const auto read = Nginx(change);
    EXPECT_TRUE(read) << read.error().why.Text();
    return read && read->has_body;
  };
  EXPECT_FALSE(has_body({{"Portcullis-Content-Length", ""}}));
  EXPECT_FALSE(has_body({{"Portcullis-Content-Length", "0"}}));
  EXPECT_TRUE(
      has_body({{"Portcullis-Content-Length", ""}, {"Portcullis-Transfer-Encoding", "chunked"}}));
}

// What the guard would take for another request than nginx passes on, or for none.
TEST_F(Questions, OfNginxAreReadAsStrictlyAsAnyRequest) {
  const auto line = [&](const std::string& method, const std::string& target,
                        const std::string& request_line) {
    return Nginx({{"Portcullis-Request-Line", request_line},
                  {"Portcullis-Method", method},
                  {"Portcullis-Target", target}});
  };
  EXPECT_TRUE(line("GET", "/b", "GET /b HTTP/1.1"));
  EXPECT_TRUE(Malformed(line("PUT", "/b", "GET /b HTTP/1.1")));
  EXPECT_TRUE(Malformed(line("GET", "/c", "GET /b HTTP/1.1")));
  EXPECT_TRUE(Malformed(line("GET", "/b", "GET http://a/b HTTP/1.1")));
  EXPECT_TRUE(Malformed(line("GET", "/b", "GET /b HTTP/1.0")));
  EXPECT_TRUE(Malformed(line("GET", "/b", "GET /b HTTP/2.0")));
  EXPECT_TRUE(Malformed(line("GET", "/b", "GET /b")));
  EXPECT_TRUE(Malformed(line("GET", "/b", "GET  /b HTTP/1.1")));
  EXPECT_TRUE(Malformed(line("GET", "/b", "")));
  for (const Lines& change :
       {Lines{{"Portcullis-Content-Length", "+7"}}, Lines{{"Portcullis-Content-Length", "7, 7"}},
        Lines{{"Portcullis-Transfer-Encoding", "chunked"}},  // and a length
        Lines{{"Portcullis-Client-Address", ""}}, Lines{{"Portcullis-Client-Address", "here"}},
        Lines{{"Portcullis-Client-Certificate", "x"}},
        Lines{{"Portcullis-Client-Certificate", pem_ + pem_}},
        Lines{{"Portcullis-Client-Certificate", pem_.substr(0, pem_.size() / 2)}}}) {
    EXPECT_TRUE(Malformed(Nginx(change))) << change.begin()->first;
  }
  EXPECT_TRUE(Malformed(Nginx({}, "GET /other HTTP/1.1")));
  EXPECT_TRUE(Malformed(Nginx({}, "POST /decision HTTP/1.1")));
  EXPECT_TRUE(Nginx());
}

TEST_F(Questions, WhatIsSaidTwiceIsNotBelieved) {
  const auto twice = [&](const std::string& more) {
    auto head = ParseHead(
        "GET /decision HTTP/1.1\r\nHost: a\r\nPortcullis-Request-Line: GET /a "
        "HTTP/1.1\r\nPortcullis-Method: GET\r\nPortcullis-Target: /a\r\n"
        "Portcullis-Client-Address: ::1\r\n" +
        more + "\r\n");
    EXPECT_TRUE(head);
    return ReadQuestion(Protocol::auth_request, {*std::move(head), ""});
  };
  EXPECT_TRUE(twice("Authorization: a\r\n"));
  EXPECT_TRUE(Malformed(twice("Authorization: a\r\nAuthorization: b\r\n")));
  EXPECT_TRUE(Malformed(twice("Portcullis-Target: /a\r\n")));
  EXPECT_TRUE(Malformed(twice("portcullis-method: GET\r\n")));
}

// Who showed none is refused later, by the reason that he would have at any listener.
TEST_F(Questions, NoCertificateIsNoFaultOfTheForm) {
  const auto nginx = Nginx({{"Portcullis-Client-Certificate", ""}});
  ASSERT_TRUE(nginx);
  EXPECT_EQ(nginx->certificate, nullptr);
  const auto envoy = Envoy({{"X-Forwarded-Client-Cert", "Hash=00"}});
  ASSERT_TRUE(envoy);
  EXPECT_EQ(envoy->certificate, nullptr);
}

TEST_F(Questions, OfEnvoyAreTheClientsRequestItself) {
  const auto read = Envoy({}, "{\"a\":1}");
  ASSERT_TRUE(read) << read.error().why.Text();
  EXPECT_EQ(read->head.method, "POST");
  EXPECT_EQ(read->head.target, "/a?b");
  EXPECT_EQ(read->body, "{\"a\":1}");
  EXPECT_TRUE(read->has_body);
  EXPECT_EQ(read->head.body.bytes, 7U);
  EXPECT_EQ(X509_cmp(read->certificate.get(), client_.certificate.get()), 0);
  EXPECT_EQ(read->from.address().to_string(), "2001:db8::7");
}

TEST_F(Questions, ABodyThatEnvoyDoesNotSendWholeIsNotThere) {
  for (const auto& [partial, body] :
       {std::pair{"true", "{\"a\""}, {"", "{}"}, {"false", ""}, {"", ""}}) {
    const auto read = Envoy({{"X-Envoy-Auth-Partial-Body", partial}}, body);
    ASSERT_TRUE(read);
    EXPECT_TRUE(read->has_body) << partial;
    EXPECT_FALSE(read->body) << partial;
  }
  const auto get = Envoy({}, "", "GET /a HTTP/1.1");
  ASSERT_TRUE(get);
  EXPECT_FALSE(get->has_body);
  const auto with_one = Envoy({}, "x", "GET /a HTTP/1.1");
  ASSERT_TRUE(with_one);
  EXPECT_TRUE(with_one->has_body);
}

TEST_F(Questions, WhatEnvoySaysOfTheCertificateIsOneElement) {
  const auto with = [&](const std::string& forwarded) {
    return Envoy({{"X-Forwarded-Client-Cert", forwarded}});
  };
  const std::string ca = Escaped(pki::Pem(ca_.certificate.get()));
  const auto all = with("By=spiffe://a;Hash=00;Cert=" + pem_ + ";Chain=\"" + pem_ + ca +
                        R"(";Subject="CN=\"a\",O=b;c";URI=a;URI=b;DNS=a;DNS=b)");
  ASSERT_TRUE(all) << all.error().why.Text();
  ASSERT_NE(all->chain, nullptr);
  EXPECT_EQ(sk_X509_num(all->chain.get()), 2);
  for (const std::string& forwarded :
       {"Cert=" + pem_ + ",Cert=" + pem_, "Hash=00,Cert=\"" + pem_ + "\"", "Cert=\"" + pem_,
        "Cert=" + pem_ + ";Cert=" + pem_, "Cert=\"" + pem_ + "\"x", std::string("Cert"),
        "Cert=\"" + pem_ + "\";Chain=x", "Subject=a\"b;Cert=" + pem_}) {
    EXPECT_TRUE(Malformed(with(forwarded))) << forwarded.substr(0, 40);
  }
  EXPECT_TRUE(Malformed(Envoy({{"X-Forwarded-For", ""}})));
  EXPECT_TRUE(Malformed(Envoy({{"X-Forwarded-For", "192.0.2.1, x"}})));
}

}  // namespace
}  // namespace portcullis::guard
