// Files that say something twice, something ambiguous or something impossible: refused with the
// line and the field. Each differs in one place from one that is admitted.
#include "control/profiles/load.hpp"

#include <filesystem>
#include <fstream>

#include "control/profiles/test_profiles.hpp"

namespace portcullis::profiles {
namespace {

constexpr std::string_view kGood = R"(name: things
title: Things
source: ours
operations:
  read: [thing:read]
  change: [thing:make, thing:state, thing:fence, register, deregister, notify]
registration: { opens: register, closes: deregister }
apis:
  - name: task
    base: /tasks/v1
    resource: [taskId]
    paths:
      - path: /tasks/{taskId}
        GET: thing:read
  - name: thing
    base: /things/v1/{owner}
    caller: owner
    resource: [owner, id]
    paths:
      - path: /things
        GET: { operation: thing:read, query: [filter, fields] }
        POST: { operation: thing:make, creates: location, callbacks: [/uri] }
      - path: /things/{id}
        PUT: { operation: thing:make, creates: path, replaces: [thing:state, thing:fence] }
        PATCH:
          operation: thing:make
          media_types: [application/merge-patch+json]
          states: [{ member: /state, value: ON, operation: thing:state }]
          fences: [{ members: [/fence], operation: thing:fence }]
          same: [{ member: /id, parameter: id }]
        DELETE: thing:make
      - path: /things/{id}/run
        POST: { operation: thing:make, creates: location, creates_of: task }
  - name: registration
    paths:
      - path: /registration
        POST: { operation: register, callers: [/who] }
        DELETE: deregister
egress:
  - { operation: notify, method: POST, callbacks_of: [thing] }
  - { operation: notify, method: POST, path: "/notify/{what}" }
)";

std::string With(std::string_view from, std::string_view to) {
  std::string text(kGood);
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  if (at != std::string::npos) text.replace(at, from.size(), to);
  return text;
}

TEST(Load, TheGoodOneIsRead) {
  const auto profile = ParseProfile(std::string(kGood), "things.yaml");
  ASSERT_TRUE(profile) << profile.error().Text();
  EXPECT_EQ(profile->name, "things");
  EXPECT_EQ(profile->paths.size(), 5U);
  EXPECT_EQ(profile->FindOperation("thing:read")->effect, Effect::read);
  EXPECT_EQ(profile->FindOperation("thing:make")->effect, Effect::change);
  EXPECT_EQ(profile->FindOperation("thing:unknown"), nullptr);
  const auto put = profile->Find("PUT", "/things/v1/me/things/7");
  ASSERT_TRUE(put);
  EXPECT_FALSE(put->NeedsBody());
  ASSERT_EQ(put->rule->replaces.size(), 2U);
  EXPECT_EQ(put->rule->replaces[1]->name, "thing:fence");
  const auto run = profile->Find("POST", "/things/v1/me/things/7/run");
  EXPECT_EQ(run->Created("/tasks/v1/tasks/9", "")->kind, "task");
  EXPECT_EQ(run->Created("/tasks/v1/tasks/9", "")->id, "9");
}

TEST(Load, AMemberOfTheAnswerMayHoldTheId) {
  const auto profile =
      ParseProfile(With("creates: location, callbacks", "creates: /thing/id, callbacks"), "t");
  ASSERT_TRUE(profile) << profile.error().Text();
  const auto post = profile->Find("POST", "/things/v1/me/things");
  EXPECT_EQ(post->Created("/x/8", R"({"thing":{"id":"7"}})")->id, "me/7");
  for (const char* answer : {"", "{}", "[]", R"({"thing":{"id":7}})", R"({"thing":{"id":"a/b"}})",
                             R"({"thing":{"id":""}})", R"({"thing":{"id":".."}})",
                             R"({"thing":{"id":"7","id":"8"}})", R"({"thing":{"id":"a\u0000"}})"}) {
    EXPECT_FALSE(post->Created("/x/8", answer)) << answer;
  }
}

struct Bad {
  const char* from;
  const char* to;
  const char* where;    // file:line: field
  const char* message;  // part of the text
};

TEST(Load, BadFilesAreRefusedWithTheirPlace) {
  for (const auto& [from, to, where, message] : std::initializer_list<Bad>{
           {"name: things", "nome: things", ":1: nome", "\"name\"?"},
           {"name: things", "name: Things", ":1: name", "not a name"},
           {"title: Things\n", "", ": title", "missing"},
           {"title: Things", "title: Things\ntitle: Again", ":3: title", "given twice"},
           {"[thing:read]", "[Thing:read]", ":5: operations.read[0]", "operation's name"},
           {"[thing:read]", "[\"thing:read:all\"]", ":5: operations.read[0]", "operation's name"},
           {"change: [", "change: [thing:read, ", ":6: operations.change", "declared twice"},
           {"change: [", "change: [unused, ", ": operations", "nothing asks for it"},
           {"operations:\n  read", "operations:\n  reads", ":5: operations.reads", "\"read\"?"},
           {"opens: register", "opens: \"thing:read\"", ":7: registration.opens", "only reads"},
           {"opens: register", "opens: registers", ":7: registration.opens", "not declared"},
           {"- name: thing\n", "- name: task\n", ":15: apis[1].name", "two APIs"},
           {"caller: owner", "caller: other", ":20: apis[1].paths[0].path", "{other}"},
           {"resource: [taskId]", "resource: [other]", ":11: apis[0].resource", "no path has"},
           {"resource: [taskId]", "resource: [other, taskId]", ":13: apis[0].paths[0].path",
            "without all of what names it"},
           {"resource: [owner, id]", "resource: [other, id]", ":22: apis[1].paths[0].POST.creates",
            "not the collection"},
           {"resource: [owner, id]", "resource: [owner, thing]",
            ":24: apis[1].paths[1].PUT.creates", "names no resource"},
           {"base: /things/v1/{owner}", "base: /things/v1/{id}", ":20: apis[1].paths[0].path",
            "{owner}"},
           {"path: /things/{id}\n", "path: /things/{owner}\n", ":23: apis[1].paths[1].path",
            "two parameters of one name"},
           {"path: /things/{id}\n", "path: /things/{id}/\n", ":23: apis[1].paths[1].path",
            "empty segment"},
           {"path: /things/{id}\n", "path: /things/%41{id}\n", ":23: apis[1].paths[1].path",
            "canonical"},
           {"path: /tasks/{taskId}\n", "path: /tasks/{taskId}\n        FETCH: thing:read\n",
            ":14: apis[0].paths[0].FETCH", "unknown key"},
           {"        GET: thing:read\n", "        GET: thing:reads\n", ":14: apis[0].paths[0].GET",
            "not declared"},
           {"        GET: thing:read\n", "", ":13: apis[0].paths[0].path", "no method"},
           {"        GET: thing:read\n", "        GET: [thing:read]\n", ":14: apis[0].paths[0].GET",
            "not a value"},
           {"query: [filter, fields]", "query: [filter, a&b]", "apis[1].paths[0].GET.query[1]",
            "query parameter"},
           {"query: [filter, fields]", "queries: [filter]", "apis[1].paths[0].GET.queries",
            "\"query\"?"},
           {"query: [filter, fields]", "callbacks: [/x]", "apis[1].paths[0].GET.operation",
            "it has none"},
           {"creates: location, callbacks", "creates: path, callbacks",
            ":22: apis[1].paths[0].POST.creates", "names no resource"},
           {"creates: location, callbacks", "creates: id, callbacks",
            ":22: apis[1].paths[0].POST.creates", "JSON pointer"},
           {"creates: location, callbacks", "replaces: [thing:make], callbacks",
            ":22: apis[1].paths[0].POST.replaces", "nothing is created"},
           {"creates: location, callbacks", "creates_of: task, callbacks",
            ":22: apis[1].paths[0].POST.creates_of", "nothing is created"},
           {"creates_of: task", "creates_of: thing", "apis[1].paths[2].POST.creates_of", "no such"},
           {", creates_of: task", "", "apis[1].paths[2].POST.creates", "not the collection"},
           {"callbacks: [/uri]", "callbacks: [uri]", ":22: apis[1].paths[0].POST.callbacks[0]",
            "JSON pointer"},
           {"callbacks: [/uri]", "callbacks: [\"\"]", ":22: apis[1].paths[0].POST.callbacks[0]",
            ""},
           {"callbacks: [/uri]", "callbacks: [/uri~2]", ":22: apis[1].paths[0].POST.callbacks[0]",
            "JSON pointer"},
           {"          media_types: [application/merge-patch+json]\n", "",
            "apis[1].paths[1].PATCH.media_types", "missing"},
           {"[application/merge-patch+json]", "[text/plain]", "apis[1].paths[1].PATCH.media_types",
            "not read in this form"},
           {"[application/merge-patch+json]", "[Application/json]",
            "apis[1].paths[1].PATCH.media_types[0]", "lower case"},
           {"callbacks: [/uri] }",
            "callbacks: [/uri], media_types: [application/json-patch+json] }",
            ":22: apis[1].paths[0].POST.media_types", "not read in this form"},
           {"value: ON, operation: thing:state }",
            "value: ON, operation: thing:state }, { member: "
            "/state, value: ON, operation: thing:make }",
            "PATCH.states", "one value for two"},
           {"members: [/fence]", "members: [/state/inner]", "PATCH.fences", "two rules about one"},
           {"member: /id,", "member: /fence,", "PATCH.fences", "two rules about one"},
           {"          same: [", "          only: [/state, /fence]\n          same: [",
            "PATCH.same", "may not be named"},
           {"[application/merge-patch+json]",
            "[application/json-patch+json]\n          callers: [/who]", "PATCH.callers",
            "need not say"},
           {"value: ON, ", "", "apis[1].paths[1].PATCH.states[0].value", "missing"},
           {"value: ON, operation: thing:state", "value: ON, operation: nothing",
            "PATCH.states[0].operation", "not declared"},
           {"members: [/fence]", "members: []", "PATCH.fences[0].members", "missing"},
           {"parameter: id", "parameter: ids", "PATCH.same[0].parameter", "not in the path"},
           {"parameter: id", "parameter: id, text: x", "PATCH.same[0].parameter", "both"},
           {", parameter: id", "", "PATCH.same[0].parameter", "neither"},
           {"callbacks_of: [thing]", "callbacks_of: [task]", "egress[0].callbacks_of[0]",
            "takes callbacks"},
           {"callbacks_of: [thing]", "callbacks_of: [thing], path: /x", "egress[0].path", "both"},
           {"callbacks_of: [thing]", "callbacks_of: [thing], query: [a]", "egress[0].query",
            "its own query"},
           {"callbacks_of: [thing]", "path: /notify/me", "egress[1].path", "fit two templates"},
           {"method: POST, callbacks_of", "method: FETCH, callbacks_of", "egress[0].method",
            "not a method"},
           {"source: ours", "source: ours\nbody_limit: 99999999", ":4: body_limit", "not in range"},
           {"operations:\n", "operations: [\n", ":", "YAML"},
           // Ambiguous: the same path and method twice, or a parameter that could be a literal.
           {"  - name: registration\n    paths:\n",
            "  - name: registration\n    paths:\n      - path: /things/v1/{o}/things\n"
            "        GET: thing:read\n",
            "apis[2].paths[0].path",
            "\"/things/v1/{o}/things\" beside \"/things/v1/{owner}/things\""},
           {"  - name: registration\n    paths:\n",
            "  - name: registration\n    paths:\n      - path: /things/{rest+}\n"
            "        DELETE: thing:make\n",
            "apis[2].paths[0].path", "fit two templates with DELETE"},
           {"  - name: registration\n    paths:\n",
            "  - name: registration\n    paths:\n      - path: /tasks/v1/tasks/all\n"
            "        GET: thing:read\n",
            "apis[2].paths[0].path", "fit two templates with GET"},
       }) {
    const auto profile = ParseProfile(With(from, to), "things.yaml");
    ASSERT_FALSE(profile) << from << " -> " << to;
    const std::string text = profile.error().Text();
    EXPECT_TRUE(text.starts_with("things.yaml:")) << text;
    EXPECT_NE(text.find(where), std::string::npos) << where << " in " << text;
    EXPECT_NE(text.find(message), std::string::npos) << message << " in " << text;
  }
}

TEST(Load, AFileIsOneProfile) {
  EXPECT_FALSE(ParseProfile("", "things.yaml"));
  EXPECT_FALSE(ParseProfile(std::string(kGood) + "---\n" + std::string(kGood), "things.yaml"));
  EXPECT_TRUE(ParseProfile("---\n" + std::string(kGood), "things.yaml"));
}

// Another method on a path that fits two templates is no ambiguity: the more concrete one has it.
TEST(Load, TwoTemplatesMayShareAPathWithOtherMethods) {
  const auto profile =
      ParseProfile(With("  - name: registration\n    paths:\n",
                        "  - name: registration\n    paths:\n      - path: /tasks/v1/tasks/all\n"
                        "        DELETE: thing:make\n"),
                   "things.yaml");
  ASSERT_TRUE(profile) << profile.error().Text();
  EXPECT_EQ(test::FaultOf(profile->Find("GET", "/tasks/v1/tasks/all")), "method_unlisted");
  EXPECT_EQ(profile->Find("GET", "/tasks/v1/tasks/al")->path->api->name, "task");
  EXPECT_EQ(profile->Find("DELETE", "/tasks/v1/tasks/all")->path->api->name, "registration");
}

class Folder : public testing::Test {
 protected:
  Folder() { std::filesystem::create_directories(folder_); }
  ~Folder() override { std::filesystem::remove_all(folder_); }
  void Write(const char* file, std::string_view text) const {
    std::ofstream(folder_ / file) << text;
  }

  std::filesystem::path folder_ =
      std::filesystem::path(testing::TempDir()) / fmt::format("profiles-{}", getpid());
};

TEST_F(Folder, EachFileIsNamedAsItsProfile) {
  Write("things.yaml", kGood);
  Write("README.md", "not a profile");
  const auto good = LoadProfiles(folder_);
  ASSERT_TRUE(good) << good.error().Text();
  EXPECT_EQ(good->size(), 1U);
  EXPECT_TRUE(good->contains("things"));
  Write("others.yaml", kGood);
  const auto bad = LoadProfiles(folder_);
  ASSERT_FALSE(bad);
  EXPECT_NE(bad.error().Text().find("others.yaml"), std::string::npos) << bad.error().Text();
  EXPECT_FALSE(LoadProfiles(folder_ / "none"));
  EXPECT_FALSE(LoadProfile(folder_ / "none.yaml"));
}

}  // namespace
}  // namespace portcullis::profiles
