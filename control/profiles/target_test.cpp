// Hostile request-targets: each is refused, for its own reason, and the clean one beside it is
// found.
#include "control/profiles/target.hpp"

#include <algorithm>
#include <random>
#include <set>

#include "base/test_seed.hpp"
#include "control/profiles/test_profiles.hpp"

namespace portcullis::profiles {
namespace {

using test::FaultOf;
using test::Shipped;

std::string Read(std::string_view text) {
  Target target;
  const auto fault = target.Read(text);
  return fault ? std::string(Info(*fault).name) : "";
}

struct Case {
  std::string_view text, fault;
};

TEST(Target, IsRefusedForItsReason) {
  for (const auto& [text, fault] : std::initializer_list<Case>{
           {"/a", ""},
           {"/a/b=c,d/e:f@g!$&'()*+~-._", ""},
           {"/%20%22%3C%3E%5B%5D%5E%60%7B%7C%7D", ""},  // cannot stand for themselves
           {"/%C3%A9/%E2%82%AC/%F0%9F%98%80/%F4%8F%BF%BF", ""},
           {"/...", ""},
           {"", "not_origin_form"},
           {"*", "not_origin_form"},
           {"a", "not_origin_form"},
           {"http://h/a", "not_origin_form"},
           {"//h/a", "empty_segment"},
           {"/", "empty_segment"},
           {"/a/", "empty_segment"},
           {"/a//b", "empty_segment"},
           {"/./a", "dot_segment"},
           {"/a/..", "dot_segment"},
           {"/a/../b", "dot_segment"},
           {"/a\\b", "backslash"},
           {"/a#b", "fragment"},
           {"/a?b#c", "fragment"},
           {"/a;v=1", "path_parameters"},
           {"/a;/b", "path_parameters"},
           {"/a b", "illegal_character"},
           {"/a\tb", "illegal_character"},
           {"/a\"", "illegal_character"},
           {"/a<", "illegal_character"},
           {"/a[0]", "illegal_character"},
           {"/a|b", "illegal_character"},
           {"/a^b`{c}", "illegal_character"},
           {"/a\xC3\xA9", "illegal_character"},
           {std::string_view("/a\0b", 4), "illegal_character"},
           {"/a\x7F", "illegal_character"},
           {"/a%", "percent_malformed"},
           {"/a%4", "percent_malformed"},
           {"/a%zz", "percent_malformed"},
           {"/a%u0041", "percent_malformed"},
           {"/a%c3%a9", "percent_malformed"},  // one spelling: upper case (RFC 3986 6.2.2.1)
           {"/a%C3%a9", "percent_malformed"},
           {"/%41", "percent_needless"},
           {"/%7E", "percent_needless"},
           {"/%2E%2E/a", "percent_needless"},
           {"/.%2E/a", "percent_needless"},
           {"/a%3Db", "percent_needless"},
           {"/a%3Bb", "percent_needless"},
           {"/a%40b", "percent_needless"},
           {"/a%2Fb", "percent_delimiter"},
           {"/a%5Cb", "percent_delimiter"},
           {"/a%3Fb", "percent_delimiter"},
           {"/a%23b", "percent_delimiter"},
           {"/a%25", "percent_percent"},
           {"/a%252Fb", "percent_percent"},
           {"/a%00", "percent_control"},
           {"/a%0D%0A", "percent_control"},
           {"/a%1F", "percent_control"},
           {"/a%7F", "percent_control"},
           {"/a%C0%AF", "percent_utf8"},  // overlong slash
           {"/a%C1%81", "percent_utf8"},
           {"/a%E0%80%AF", "percent_utf8"},
           {"/a%F0%80%80%AF", "percent_utf8"},
           {"/a%ED%A0%80", "percent_utf8"},  // surrogate
           {"/a%F4%90%80%80", "percent_utf8"},
           {"/a%F8%88%80%80%80", "percent_utf8"},
           {"/a%80", "percent_utf8"},
           {"/a%C3", "percent_utf8"},
           {"/a%C3b", "percent_utf8"},
           {"/a%C3/%A9", "percent_utf8"},
           {"/a%C3%C3", "percent_utf8"},
           {"/a%C3%20", "percent_utf8"},
           {"/a%C2%85", "percent_utf8"},  // a C1 control
           {"/a%FF", "percent_utf8"},
           {"/a?b=c&d=e", ""},
           {"/a?b", ""},
           {"/a?b=", ""},
           {"/a?b=/?:@=,(eq)", ""},
           {"/a?b=%2F%5B%7B%22ipv4Addr%22%3A%2210.0.0.1%22%7D%5D", ""},
           {"/a?b=%C3%A9", ""},
           {"/a?", "query_malformed"},
           {"/a?b=c&", "query_malformed"},
           {"/a?&b=c", "query_malformed"},
           {"/a?=c", "query_malformed"},
           {"/a?b%5B=c", "query_malformed"},
           {"/a?b=c;d=e", "query_malformed"},
           {"/a?b;c", "query_malformed"},
           {"/a?b=c&b=d", "query_repeated"},
           {"/a?b&c&b", "query_repeated"},
           {"/a?b=%41", "percent_needless"},
           {"/a?b=%00", "percent_control"},
           {"/a?b=%0A", "percent_control"},
           {"/a?b=%25", "percent_percent"},
           {"/a?b=%c3%a9", "percent_malformed"},
           {"/a?b=%C0%AF", "percent_utf8"},
           {"/a?b=[c]", "illegal_character"},
           {"/a?b=c d", "illegal_character"},
           {"/a?b=\\", "backslash"},
       }) {
    EXPECT_EQ(Read(text), fault) << text;
  }
}

TEST(Target, HasLimits) {
  const auto repeated = [](std::string_view text, size_t times) {
    std::string all;
    for (size_t i = 0; i < times; ++i) all += text;
    return all;
  };
  EXPECT_EQ(Read(repeated("/a", Target::kMostSegments)), "");
  EXPECT_EQ(Read(repeated("/a", Target::kMostSegments + 1)), "too_many_segments");
  EXPECT_EQ(Read("/" + repeated("a", Target::kLongestPath - 1)), "");
  EXPECT_EQ(Read("/" + repeated("a", Target::kLongestPath)), "target_too_long");
  EXPECT_EQ(Read("/a?b=" + repeated("c", Target::kLongest - 5)), "");
  EXPECT_EQ(Read("/a?b=" + repeated("c", Target::kLongest - 4)), "target_too_long");
  std::string many = "/a?q0";
  for (size_t i = 1; i < Target::kMostQueries; ++i) many += "&q" + std::to_string(i);
  EXPECT_EQ(Read(many), "");
  EXPECT_EQ(Read(many + "&one-more"), "query_malformed");
}

// A second opinion on percent-encodings: every octet, alone, against the rule in words.
TEST(Target, EachOctetEncodedIsRefusedUnlessItMustBe) {
  constexpr std::string_view kMust = " \"<>[]^`{|}";
  for (int octet = 0; octet < 256; ++octet) {
    const std::string text = fmt::format("/a%{:02X}b", octet);
    const bool must = octet != 0 && kMust.find(static_cast<char>(octet)) != std::string_view::npos;
    EXPECT_EQ(Read(text).empty(), must) << text << " " << Read(text);
  }
}

TEST(Target, NeedsNoFaultTwice) {
  std::set<std::string_view> names;
  for (const FaultInfo& fault : kFaults) {
    EXPECT_TRUE(names.insert(fault.name).second) << fault.name;
    EXPECT_FALSE(fault.text.empty());
  }
}

constexpr std::string_view kSlice = "/ProvMnS/v1/SubNetwork=1/NetworkSlice=7";

// Ways in which one path has been spelt to get past a gate, at each place of a path.
std::vector<std::string> Variants(const std::string& clean) {
  std::vector<std::string> all;
  const auto add = [&](std::string variant) {
    if (variant != clean) all.push_back(std::move(variant));
  };
  for (size_t at = 0; at < clean.size(); ++at) {
    const std::string before = clean.substr(0, at), behind = clean.substr(at + 1);
    const auto octet = static_cast<uint8_t>(clean[at]);
    const unsigned high = octet >> 6U, low = 0x80U | (octet & 0x3FU);
    add(fmt::format("{}%{:02X}{}", before, octet, behind));
    add(fmt::format("{}%{:02x}{}", before, octet, behind));
    add(fmt::format("{}%25{:02X}{}", before, octet, behind));  // decoded twice
    add(fmt::format("{}%C{}%{:02X}{}", before, high, low, behind));
    add(fmt::format("{}%E0%8{}%{:02X}{}", before, high, low, behind));
    add(fmt::format("{}%u{:04X}{}", before, octet, behind));  // IIS
    if (clean[at] == '/') {
      for (const char* slash :
           {"//",     "/./",       "/x/../", "/%2E/",   "/%2e%2e/x/", "\\",    "%2F",      "%5C",
            "/\\",    "/;/",       "/;a=b/", "/x;/../", "%252F",      "/%00/", "/%20/../", "/.%00/",
            "%C0%AF", "%E0%80%AF", "/?/",    "/#/",     "///",        "/..;/"}) {
        add(fmt::format("{}{}{}", before, slash, behind));
      }
    }
  }
  for (const char* tail : {"/",
                           "//",
                           "/.",
                           "/..",
                           ";",
                           ";a",
                           ";a=b",
                           "%00",
                           "%20/",
                           "%0A",
                           "%0D%0A",
                           "?",
                           "#",
                           "#a",
                           "/%2E",
                           "/;",
                           "\\",
                           "%2F",
                           "%5C",
                           " ",
                           "\t",
                           "%3B",
                           "?a=b",
                           "?filter=a&filter=b",
                           "?fields=a;scope=b",
                           "?x%00=1",
                           "/..%2F",
                           "%23",
                           "%3F",
                           "%E2%80",
                           "\xE2\x80\x8B",
                           "%FF"}) {
    add(clean + tail);
  }
  for (const char* head :
       {"/", ".", "/.", "/x/..", "%2F", "\\", "http://h", "//h", "/%2E%2E", " "}) {
    add(head + clean);
  }
  return all;
}

TEST(HostilePaths, NoneOfThemIsTheSlice) {
  const Profile& profile = Shipped("management-exposure");
  const auto variants = Variants(std::string(kSlice));
  ASSERT_GT(variants.size(), 300U);
  for (const std::string& variant : variants) {
    EXPECT_FALSE(profile.Find("DELETE", variant)) << variant;
    EXPECT_TRUE(profile.Find("DELETE", kSlice));
  }
}

TEST(HostilePaths, NorOfAnyOtherProfile) {
  for (const auto& [name, profile] : Shipped()) {
    size_t refused = 0;
    for (const Path& path : profile.paths) {
      std::string clean = path.form.text();
      for (const auto& parameter : path.form.parameters()) {
        for (const char* sign : {"", "*", "+"}) {
          const std::string hole = fmt::format("{{{}{}}}", parameter, sign);
          if (const size_t at = clean.find(hole); at != std::string::npos) {
            clean.replace(at, hole.size(), "v-1");
          }
        }
      }
      const Rule& rule = path.rules.front();
      ASSERT_TRUE(profile.Find(rule.method, clean)) << clean;
      for (const std::string& variant : Variants(clean)) {
        const auto found = profile.Find(rule.method, variant);
        EXPECT_FALSE(found) << name << " " << variant << " is " << found->path->form.text();
        ++refused;
      }
    }
    EXPECT_GT(refused, 500U) << name;
  }
}

/// The template with its parameters put in.
std::string Filled(const Match& match) {
  std::string text = match.path->form.text();
  const auto& names = match.path->form.parameters();
  for (size_t i = 0; i < names.size(); ++i) {
    for (const char* sign : {"", "*", "+"}) {
      // No segments, no slash.
      const std::string hole =
          fmt::format("{}{{{}{}}}", match.values[i].empty() ? "/" : "", names[i], sign);
      if (const size_t at = text.find(hole); at != std::string::npos) {
        text.replace(at, hole.size(), match.values[i]);
      }
    }
  }
  return text;
}

// Whatever is done to a path: it is refused, or what was read from it says all of it again. So the
// path that is authorised is the path that is forwarded.
TEST(HostilePaths, MutationsAreRefusedOrReadBackByteForByte) {
  constexpr size_t kMutations = 40000;
  std::mt19937_64 random(TestSeed(20261121));
  constexpr std::string_view kPieces[] = {"/",        "//",
                                          ".",        "..",
                                          "/../",     "%",
                                          "%2F",      "%2E",
                                          "%00",      "%C3%A9",
                                          "%c3",      "%20",
                                          ";",        "?",
                                          "&",        "=",
                                          "#",        "\\",
                                          "{",        "}",
                                          "{id}",     "*",
                                          "+",        ",",
                                          "a",        "Z",
                                          "0",        "~",
                                          ":",        "@",
                                          " ",        "\t",
                                          "\xC3\xA9", "%25",
                                          "%7B",      "/NetworkSlice=",
                                          "/v1",      "/SubNetwork=1"};
  std::vector<std::pair<const Profile*, std::string>> valid;
  for (const auto& [name, profile] : Shipped()) {
    for (const Path& path : profile.paths) valid.emplace_back(&profile, path.form.text());
  }
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  size_t found = 0;
  for (size_t i = 0; i < kMutations; ++i) {
    auto [profile, text] = valid[below(valid.size())];
    for (size_t open = 0; (open = text.find('{')) != std::string::npos;) {
      const size_t close = text.find('}', open);
      const bool many = text[close - 1] == '*';
      text.replace(open, close - open + 1, many ? "A=1/B=2" : fmt::format("p{}", below(1000)));
    }
    for (size_t n = below(4); n > 0; --n) {
      const size_t at = below(text.size() + 1);
      const auto piece = kPieces[below(std::size(kPieces))];
      switch (below(3)) {
        case 0:
          text.insert(at, piece);
          break;
        case 1:
          text.replace(at, std::min(text.size() - at, piece.size()), piece);
          break;
        default:
          text.erase(at, below(8));
      }
      if (text.empty()) text = "/";
    }
    for (const char* method : {"GET", "POST", "PUT", "PATCH", "DELETE"}) {
      const auto match = profile->Find(method, text);
      if (!match) continue;
      ++found;
      EXPECT_EQ(Filled(*match), text.substr(0, text.find('?'))) << text;
      // Nor does any other template of the profile have it.
      size_t fitting = 0;
      Target target;
      ASSERT_FALSE(target.Read(text));
      for (const Path& path : profile->paths) {
        PathTemplate::Values values;
        const bool has = std::ranges::any_of(
            path.rules, [&](const Rule& rule) { return rule.method == method; });
        fitting += has && path.form.Match(target.segments(), values) ? 1 : 0;
      }
      EXPECT_EQ(fitting, 1U) << method << " " << text;
    }
  }
  EXPECT_GT(found, kMutations / 10);  // and not all of them were refused
}

TEST(Query, OnlyListedParametersAreAdmitted) {
  const Profile& profile = Shipped("management-exposure");
  const std::string slice(kSlice);
  EXPECT_TRUE(profile.Find("GET", slice + "?scopeType=BASE_ALL&scopeLevel=1&fields=attributes"));
  EXPECT_TRUE(profile.Find("GET", slice + "?filter=%2F%2FNetworkSlice%5B%40id%3D%221%22%5D"));
  EXPECT_EQ(FaultOf(profile.Find("GET", slice + "?Scope=1")), "query_unlisted");
  EXPECT_EQ(FaultOf(profile.Find("DELETE", slice + "?fields=a")), "query_unlisted");
  EXPECT_EQ(FaultOf(profile.Find("GET", slice + "?fields=a&fields=b")), "query_repeated");
  EXPECT_TRUE(profile.Find("DELETE", slice));
  const Profile& nfvo = Shipped("os-ma-nfvo");
  EXPECT_TRUE(
      nfvo.Find("GET", "/nslcm/v2/ns_instances?filter=(eq,nsState,INSTANTIATED)&exclude_default"));
  EXPECT_EQ(FaultOf(nfvo.Find("GET", "/nslcm/v2/ns_instances?filter=(a);(b)")), "query_malformed");
  EXPECT_TRUE(nfvo.Find("GET", "/nslcm/v2/ns_instances?filter=(a)%3B(b)"));
}

TEST(Decoding, GivesBackWhatWasMeant) {
  EXPECT_EQ(Decoded("a%20b%C3%A9"), "a b\xC3\xA9");
  EXPECT_EQ(Decoded("plain"), "plain");
}

}  // namespace
}  // namespace portcullis::profiles
