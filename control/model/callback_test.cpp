// Addresses at which peers may be called: one spelling, and below a prefix of their own.
#include "control/model/callback.hpp"

#include <gtest/gtest.h>

namespace portcullis::model {
namespace {

struct Bad {
  const char* name;
  const char* url;
  const char* right;  // the same, made right
  const char* says;
};

class CallbackFaults : public testing::TestWithParam<Bad> {};

TEST_P(CallbackFaults, AreNamedAndTheirTwinPasses) {
  const auto fault = CallbackFault(GetParam().url);
  ASSERT_TRUE(fault) << GetParam().url;
  EXPECT_NE(fault->find(GetParam().says), std::string::npos) << *fault;
  EXPECT_EQ(CallbackFault(GetParam().right), std::nullopt);
}

constexpr const char* kRight = "https://as-1.example/cb";
INSTANTIATE_TEST_SUITE_P(
    All, CallbackFaults,
    testing::Values(
        Bad{"text", "as-1.example/cb", kRight, "not a URL"}, Bad{"empty", "", kRight, "not a URL"},
        Bad{"http", "http://as-1.example/cb", kRight, "not an https URL"},
        Bad{"scheme_in_capitals", "HTTPS://as-1.example/cb", kRight, "not an https URL"},
        Bad{"file", "file:///etc/passwd", kRight, "not an https URL"},
        Bad{"user", "https://as-1.example@10.2.0.10/cb", kRight, "a user name"},
        Bad{"empty_user", "https://@as-1.example/cb", kRight, "a user name"},
        Bad{"fragment", "https://as-1.example/cb#x", kRight, "a fragment"},
        Bad{"capital_host", "https://AS-1.example/cb", kRight, "no name in lower case"},
        Bad{"encoded_host", "https://as%2D1.example/cb", kRight, "no name in lower case"},
        Bad{"trailing_dot", "https://as-1.example./cb", kRight, "no name in lower case"},
        Bad{"underscore", "https://as_1.example/cb", kRight, "no name in lower case"},
        Bad{"number", "https://2130706433/cb", "https://n2130706433/cb", "no name"},
        Bad{"hex", "https://0x7f.1/cb", "https://0x7f.example/cb", "no name"},
        Bad{"octal", "https://0177.0.0.1/cb", "https://177.0.0.1/cb", "no name"},
        Bad{"no_host", "https:///cb", kRight, "no"},
        Bad{"v6_long", "https://[2001:db8:0:0:0:0:0:1]/cb", "https://[2001:db8::1]/cb", "one form"},
        Bad{"v6_capitals", "https://[2001:DB8::1]/cb", "https://[2001:db8::1]/cb", "one form"},
        Bad{"v4_in_v6", "https://[::ffff:192.0.2.1]/cb", "https://192.0.2.1/cb", "one form"},
        Bad{"loopback", "https://127.0.0.1/cb", "https://128.0.0.1/cb", "loopback"},
        Bad{"loopback_v6", "https://[::1]/cb", "https://[2001:db8::1]/cb", "loopback"},
        Bad{"metadata", "https://169.254.169.254/cb", "https://169.253.169.254/cb", "link-local"},
        Bad{"link_local_v6", "https://[fe80::1]/cb", "https://[2001:db8::1]/cb", "link-local"},
        Bad{"multicast", "https://224.0.0.1/cb", "https://223.0.0.1/cb", "multicast"},
        Bad{"unspecified", "https://0.0.0.0/cb", "https://1.0.0.0/cb", "no host"},
        Bad{"default_port", "https://as-1.example:443/cb", kRight, "port 443"},
        Bad{"empty_port", "https://as-1.example:/cb", kRight, "a port"},
        Bad{"port_zero", "https://as-1.example:0/cb", kRight, "a port"},
        Bad{"port_with_zero", "https://as-1.example:08443/cb", "https://as-1.example:8443/cb",
            "a port"},
        Bad{"port_too_large", "https://as-1.example:65536/cb", "https://as-1.example:65535/cb",
            "a port"},
        Bad{"no_path", "https://as-1.example", "https://as-1.example/", "not a path"},
        Bad{"dots", "https://as-1.example/cb/../x", "https://as-1.example/cb/x", "segment . or .."},
        Bad{"encoded_dots", "https://as-1.example/cb/%2e%2e/x", "https://as-1.example/cb/x",
            "percent"},
        Bad{"encoded_dots_in_capitals", "https://as-1.example/cb/%2E%2E/x",
            "https://as-1.example/cb/x", "percent"},
        Bad{"encoded_slash", "https://as-1.example/cb%2Fx", "https://as-1.example/cb/x",
            "delimiter"},
        Bad{"backslash", "https://as-1.example\\@10.2.0.10/cb", kRight, "not a URL"},
        Bad{"backslash_in_path", "https://as-1.example/cb\\..\\x", kRight, "not a URL"},
        Bad{"empty_segment", "https://as-1.example/cb//x", "https://as-1.example/cb/x",
            "empty segment"},
        Bad{"parameters", "https://as-1.example/cb;x", kRight, "parameters"},
        Bad{"line_end", "https://as-1.example/cb\r\nHost: x", kRight, "not a URL"},
        Bad{"query", "https://as-1.example/cb?a=1&a=2", "https://as-1.example/cb?a=1&b=2",
            "twice"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(CallbackPrefixes, EndWithASlashAndHaveNoQuery) {
  for (const char* good : {"https://as-1.example/", "https://as-1.example:8443/notify/",
                           "https://192.0.2.1/a/b/", "https://[2001:db8::1]:8443/"}) {
    EXPECT_EQ(CallbackPrefixFault(good), std::nullopt) << good;
  }
  for (const char* bad :
       {"https://as-1.example", "https://as-1.example/notify", "https://as-1.example/notify/?a=1",
        "https://as-1.example//", "https://as-1.example/notify//", "https://", "https:/", "/", "",
        "https://as-1.example/../", "https://127.0.0.1/"}) {
    EXPECT_TRUE(CallbackPrefixFault(bad)) << bad;
  }
}

TEST(CallbackPrefixes, MatchWholeSegmentsOfTheSameHostAndPort) {
  constexpr const char* kPrefix = "https://as-1.example:8443/notify/";
  for (const char* below :
       {"https://as-1.example:8443/notify/x", "https://as-1.example:8443/notify/x/y?to=1",
        "https://as-1.example:8443/notify", "https://as-1.example:8443/notify?to=1"}) {
    EXPECT_TRUE(IsBelow(below, kPrefix)) << below;
  }
  for (const char* beside :
       {"https://as-1.example:8443/notify2", "https://as-1.example:8443/",
        "https://as-1.example:8444/notify/x", "https://as-1.example/notify/x",
        "https://as-1.example:8443/x?/notify/", "https://as-2.example:8443/notify/x"}) {
    EXPECT_FALSE(IsBelow(beside, kPrefix)) << beside;
  }
  EXPECT_TRUE(IsBelow("https://as-1.example/x", "https://as-1.example/"));
  EXPECT_TRUE(IsBelow("https://as-1.example/", "https://as-1.example/"));
}

}  // namespace
}  // namespace portcullis::model
