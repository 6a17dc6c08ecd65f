#include "control/profiles/path_template.hpp"

#include <gtest/gtest.h>

#include "control/profiles/target.hpp"

namespace portcullis::profiles {
namespace {

PathTemplate Form(const std::string& text) {
  auto form = PathTemplate::Parse(text);
  EXPECT_TRUE(form) << text << ": " << form.error().Text();
  return form ? *form : PathTemplate();
}

std::string Matched(const std::string& form, std::string_view path) {
  Target target;
  if (target.Read(path)) return "not canonical";
  PathTemplate::Values values;
  const PathTemplate parsed = Form(form);
  if (!parsed.Match(target.segments(), values)) return "no";
  std::string all;
  for (size_t i = 0; i < parsed.parameters().size(); ++i) {
    all += (i == 0 ? "" : " ") + parsed.parameters()[i] + "=" + std::string(values[i]);
  }
  return all;
}

TEST(PathTemplate, Matches) {
  EXPECT_EQ(Matched("/a/b", "/a/b"), "");
  EXPECT_EQ(Matched("/a/b", "/a"), "no");
  EXPECT_EQ(Matched("/a/b", "/a/b/c"), "no");
  EXPECT_EQ(Matched("/a/b", "/a/B"), "no");
  EXPECT_EQ(Matched("/a/{x}/c/{y}", "/a/1/c/2"), "x=1 y=2");
  EXPECT_EQ(Matched("/a/{x}", "/a/1/2"), "no");
  EXPECT_EQ(Matched("/C={id}", "/C=7"), "id=7");
  EXPECT_EQ(Matched("/C={id}", "/C=7=8"), "id=7=8");
  EXPECT_EQ(Matched("/C={id}", "/C="), "no");
  EXPECT_EQ(Matched("/C={id}", "/D=7"), "no");
  EXPECT_EQ(Matched("/C={id}", "/c=7"), "no");
  EXPECT_EQ(Matched("/p/{l*}/C={id}", "/p/C=7"), "l= id=7");
  EXPECT_EQ(Matched("/p/{l*}/C={id}", "/p/A=1/C=7"), "l=A=1 id=7");
  EXPECT_EQ(Matched("/p/{l*}/C={id}", "/p/C=1/x/C=7"), "l=C=1/x id=7");
  EXPECT_EQ(Matched("/p/{l*}/C={id}", "/p/C=1/x"), "no");
  EXPECT_EQ(Matched("/p/{l*}/C={id}", "/p"), "no");
  EXPECT_EQ(Matched("/p/{l*}", "/p"), "l=");
  EXPECT_EQ(Matched("/p/{l+}", "/p"), "no");
  EXPECT_EQ(Matched("/p/{l+}", "/p/a/b"), "l=a/b");
  EXPECT_EQ(Matched("/{l+}/z", "/a/b/z"), "l=a/b");
}

TEST(PathTemplate, RefusesWhatCouldNotBeOrIsNotClear) {
  for (const char* text : {"",
                           "/",
                           "a",
                           "/a/",
                           "//a",
                           "/a//b",
                           "/.",
                           "/a/../b",
                           "/a b",
                           "/a;b",
                           "/a%2Fb",
                           "/a%41",
                           "/a?b",
                           "/a#b",
                           "/{}",
                           "/{a",
                           "/a}",
                           "/{a}b",
                           "/x{a}",
                           "/{a}/{a}",
                           "/{a*}/{b*}",
                           "/{a*}/{b+}",
                           "/C={a*}",
                           "/{a-b}",
                           "/{{a}}",
                           "/{a}{b}",
                           "/{*}",
                           "/{a**}",
                           "/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}"}) {
    EXPECT_FALSE(PathTemplate::Parse(text)) << text;
  }
  EXPECT_TRUE(PathTemplate::Parse("/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}"));
}

TEST(PathTemplate, OverlapsWhereOnePathFitsBoth) {
  const auto overlap = [](const char* a, const char* b) {
    EXPECT_EQ(Form(a).Overlaps(Form(b)), Form(b).Overlaps(Form(a))) << a << " " << b;
    return Form(a).Overlaps(Form(b));
  };
  EXPECT_TRUE(overlap("/a", "/a"));
  EXPECT_FALSE(overlap("/a", "/b"));
  EXPECT_FALSE(overlap("/a", "/a/b"));
  EXPECT_TRUE(overlap("/a/{x}", "/a/b"));
  EXPECT_TRUE(overlap("/a/{x}/c", "/a/b/{y}"));
  EXPECT_FALSE(overlap("/a/{x}/c", "/a/b/d"));
  EXPECT_TRUE(overlap("/C={x}", "/{y}"));
  EXPECT_TRUE(overlap("/C={x}", "/C=7"));
  EXPECT_FALSE(overlap("/C={x}", "/C"));
  EXPECT_FALSE(overlap("/C={x}", "/D={y}"));
  EXPECT_FALSE(overlap("/CC={x}", "/C={y}"));
  EXPECT_TRUE(overlap("/C=C={x}", "/C={y}"));
  EXPECT_TRUE(overlap("/p/{l*}", "/p"));
  EXPECT_FALSE(overlap("/p/{l+}", "/p"));
  EXPECT_TRUE(overlap("/p/{l+}", "/p/a"));
  EXPECT_TRUE(overlap("/p/{l*}/z", "/p/{m*}/{n}"));
  EXPECT_FALSE(overlap("/p/{l*}/z", "/p/{m*}/y"));
  EXPECT_FALSE(overlap("/p/{l*}/C={x}", "/p/{m*}/D={x}"));
  EXPECT_TRUE(overlap("/{l*}/z", "/a/{m*}"));
  EXPECT_FALSE(overlap("/b/{l*}/z", "/a/{m*}"));
  EXPECT_TRUE(overlap("/a/{l+}/z", "/{m+}/y/z"));
  EXPECT_FALSE(overlap("/a/{l+}/z", "/a/z"));
  EXPECT_TRUE(overlap("/a/{l+}", "/{m+}"));
}

}  // namespace
}  // namespace portcullis::profiles
