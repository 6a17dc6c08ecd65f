#include "control/guard/request/head.hpp"

#include <gtest/gtest.h>

#include <boost/beast/http/message.hpp>
#include <boost/beast/http/string_body.hpp>

namespace portcullis::guard {
namespace {

std::string Get(const std::string& fields) {
  return "GET /a HTTP/1.1\r\nHost: nsmf\r\n" + fields + "\r\n";
}

std::string FaultOf(const std::string& head) {
  return FramingFault(head).value_or("");
}

TEST(Head, EndsWithTheEmptyLine) {
  EXPECT_EQ(HeadLength(""), 0U);
  EXPECT_EQ(HeadLength("GET / HTTP/1.1\r\nHost: a\r\n"), 0U);
  EXPECT_EQ(HeadLength("GET / HTTP/1.1\r\nHost: a\r\n\r\nbody"), 27U);
  EXPECT_EQ(HeadLength("GET / HTTP/1.1\nHost: a\n\n"), 0U);
}

TEST(Head, SoundOnesPass) {
  for (const char* fields :
       {"", "Content-Length: 0\r\n", "content-length: 17\r\n", "Transfer-Encoding: chunked\r\n",
        "transfer-encoding:Chunked\r\n", "X-Empty:\r\n", "X-Tab: a\tb\r\n", "X-Latin: \xe4\r\n",
        "Accept: a, b\r\nAccept: c\r\n", "Connection: close, X\r\nX: y\r\n"}) {
    EXPECT_EQ(FaultOf(Get(fields)), "") << fields;
  }
}

// Each of these has made two servers see two different messages in the same bytes.
TEST(Head, WhatCouldBeReadInTwoWaysIsRefused) {
  const std::pair<std::string, const char*> faults[] = {
      {Get("Content-Length: 1\r\nContent-Length: 1\r\n"), "Content-Length twice"},
      {Get("Content-Length: 1, 1\r\n"), "no number"},
      {Get("Content-Length: +1\r\n"), "no number"},
      {Get("Content-Length: -1\r\n"), "no number"},
      {Get("Content-Length: 0x1\r\n"), "no number"},
      {Get("Content-Length:\r\n"), "no number"},
      {Get("Content-Length: 1 2\r\n"), "no number"},
      {Get("Content-Length: 9999999999999999999\r\n"), "no number"},
      {Get("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), "both"},
      {Get("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n"), "both"},
      {Get("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), "twice"},
      {Get("Transfer-Encoding: chunked, chunked\r\n"), "other than chunked"},
      {Get("Transfer-Encoding: identity\r\n"), "other than chunked"},
      {Get("Transfer-Encoding: gzip, chunked\r\n"), "other than chunked"},
      {Get("Transfer-Encoding: xchunked\r\n"), "other than chunked"},
      {Get("Transfer-Encoding:\r\n"), "other than chunked"},
      {Get("Transfer-Encoding : chunked\r\n"), "no token"},
      {Get("Transfer-Encoding\x0b: chunked\r\n"), "control character"},
      {Get("X: a\r\n Transfer-Encoding: chunked\r\n"), "folded"},
      {Get("X: a\r\n\tb\r\n"), "folded"},
      {Get("X: a\nTransfer-Encoding: chunked\r\n"), "CR LF"},
      {Get("X: a\rTransfer-Encoding: chunked\r\n"), "CR LF"},
      {Get(std::string("X: a\0b\r\n", 8)), "control character"},
      {Get("X: \x7f\r\n"), "control character"},
      {Get("no colon\r\n"), "without a colon"},
      {Get(": nameless\r\n"), "no token"},
      {Get("Host: other\r\n"), "Host twice"},
      {Get("X-HTTP-Method-Override: DELETE\r\n"), "another method or path"},
      {Get("Portcullis_Client: x\r\n"), "underscore"},
      {Get("Content-Type: a/b\r\nContent-Type: c/d\r\n"), "Content-Type twice"},
      {Get("Connection: Content-Type\r\n"), "how to read the body"},
      {Get("Connection: close, content-encoding\r\n"), "how to read the body"},
      {Get("Expect: \xff\r\n"), "expectation"},
      {Get("x-original-url: /b\r\n"), "another method or path"},
      {"GET /a HTTP/1.1\r\n\r\n", "no Host"},
      {"GET /a HTTP/1.1\r\nHost:\r\n\r\n", "empty Host"},
      {"GET /a HTTP/1.0\r\nHost: a\r\n\r\n", "version"},
      {"GET /a HTTP/2.0\r\nHost: a\r\n\r\n", "version"},
      {"GET /a http/1.1\r\nHost: a\r\n\r\n", "version"},
      {"GET /a\r\nHost: a\r\n\r\n", "request line"},
      {"GET  /a HTTP/1.1\r\nHost: a\r\n\r\n", "white space"},
      {"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "white space"},
      {"GET\t/a HTTP/1.1\r\nHost: a\r\n\r\n", "request line"},
      {"G(T /a HTTP/1.1\r\nHost: a\r\n\r\n", "method"},
      {"\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n", "request line"},
  };
  for (const auto& [head, fault] : faults) {
    EXPECT_NE(FaultOf(head).find(fault), std::string::npos) << head << " -> " << FaultOf(head);
  }
  std::string many;
  for (int i = 0; i < 101; ++i) many += "X: y\r\n";
  EXPECT_NE(FaultOf(Get(many)).find("100 fields"), std::string::npos);
}

TEST(Head, GoesOnWithWhatIsEndToEndOnly) {
  boost::beast::http::request<boost::beast::http::string_body> request;
  for (const auto& [name, value] : std::vector<std::pair<const char*, const char*>>{
           {"Host", "gate"},
           {"Accept", "application/json"},
           {"Connection", "keep-alive, X-Hop"},
           {"X-Hop", "1"},
           {"Keep-Alive", "timeout=5"},
           {"Upgrade", "h2c"},
           {"TE", "trailers"},
           {"Authorization", "Bearer secret"},
           {"DPoP", "proof"},
           {"portcullis-client", "peer=\"somebody-else\""},
           {"Expect", "100-continue"},
           {"Content-Length", "3"},
           {"X-Twice", "a"},
           {"X-Twice", "b"}}) {
    request.insert(name, value);
  }
  EXPECT_EQ(RequestHeadText({"PUT", "/a?b=c", request, {}}, {"nsmf:8443", "peer=\"csmf-1\"", false},
                            {3, false}),
            "PUT /a?b=c HTTP/1.1\r\nHost: nsmf:8443\r\nPortcullis-Client: peer=\"csmf-1\"\r\n"
            "Content-Length: 3\r\nAccept: application/json\r\nX-Twice: a\r\nX-Twice: b\r\n\r\n");
  EXPECT_EQ(AnswerHeadText({201, "Created", request, {{}, true}}, true),
            "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n"
            "Accept: application/json\r\nX-Twice: a\r\nX-Twice: b\r\n\r\n");
}

TEST(Head, OfTheGatesOwnAnswersSaysAllThatTheGateSays) {
  Fields fields;
  fields.set("WWW-Authenticate", "Bearer");
  EXPECT_EQ(AnswerHeadText({401, "Unauthorized", fields, {2, false}, true}, false),
            "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\nWWW-Authenticate: Bearer\r\n\r\n");
  EXPECT_EQ(AnswerHeadText({401, "Unauthorized", fields, {2, false}}, false),
            "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n");
}

TEST(Head, ReplacesNothingWhereItMayOnlyCreate) {
  boost::beast::http::request<boost::beast::http::string_body> request;
  request.insert("If-None-Match", "\"a tag\"");
  EXPECT_EQ(RequestHeadText({"PUT", "/a", request, {}}, {"nsmf", "x", true}, {}),
            "PUT /a HTTP/1.1\r\nHost: nsmf\r\nPortcullis-Client: x\r\nIf-None-Match: *\r\n\r\n");
  EXPECT_EQ(RequestHeadText({"PUT", "/a", request, {}}, {"nsmf", "x", false}, {}),
            "PUT /a HTTP/1.1\r\nHost: nsmf\r\nPortcullis-Client: x\r\n"
            "If-None-Match: \"a tag\"\r\n\r\n");
}

TEST(Head, TheServerIsShownTheGatesOwnTokenOrNone) {
  boost::beast::http::request<boost::beast::http::string_body> request;
  request.insert("Authorization", "DPoP theirs");
  EXPECT_EQ(
      RequestHeadText({"GET", "/a", request, {}}, {"nsmf", "x", false, "", "Bearer ours"}, {}),
      "GET /a HTTP/1.1\r\nHost: nsmf\r\nPortcullis-Client: x\r\n"
      "Authorization: Bearer ours\r\n\r\n");
  EXPECT_EQ(RequestHeadText({"GET", "/a", request, {}}, {"nsmf", "x", false}, {}),
            "GET /a HTTP/1.1\r\nHost: nsmf\r\nPortcullis-Client: x\r\n\r\n");
}

TEST(Head, ChunksSayTheirLengthInHex) {
  EXPECT_EQ(Chunk(std::string(26, 'x')), "1a\r\n" + std::string(26, 'x') + "\r\n");
  EXPECT_EQ(Chunk(""), "0\r\n\r\n");
}

}  // namespace
}  // namespace portcullis::guard
