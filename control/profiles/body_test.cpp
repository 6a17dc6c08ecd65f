// What a body asks for: the six operations of the management exposure interface apart in every form
// of a patch, and bodies that could be read in two ways refused.
#include "control/profiles/body.hpp"

#include <algorithm>
#include <set>

#include "control/profiles/test_profiles.hpp"

namespace portcullis::profiles {
namespace {

using test::Shipped;

constexpr const char* kMerge = "application/merge-patch+json";
constexpr const char* k3gppMerge = "application/3gpp-merge-patch+json";
constexpr const char* kPatch = "application/json-patch+json";
constexpr const char* k3gppPatch = "application/3gpp-json-patch+json";
constexpr const char* kJson = "application/json";

struct Sent {
  const char* profile;
  const char* method;
  const char* target;
};
constexpr Sent kSlice = {"management-exposure", "PATCH", "/ProvMnS/v1/SubNetwork=1/NetworkSlice=7"};
constexpr Sent kPutSlice = {"management-exposure", "PUT", kSlice.target};

auto Classified(const Sent& sent, std::string_view media_type, std::string_view body) {
  const Profile& profile = Shipped(sent.profile);
  const auto match = profile.Find(sent.method, sent.target);
  EXPECT_TRUE(match) << sent.target;
  EXPECT_TRUE(match->NeedsBody());
  return Classify(profile, *match, media_type, body);
}

/// The operations, sorted, or the fault.
std::string Asked(const Sent& sent, std::string_view media_type, std::string_view body) {
  const auto found = Classified(sent, media_type, body);
  if (!found) {
    EXPECT_FALSE(found.error().error.Text().empty());
    return "! " + std::string(Info(found.error().fault).name);
  }
  std::set<std::string> names;
  for (const Operation* operation : found->operations) names.insert(operation->name);
  EXPECT_EQ(names.size(), found->operations.size()) << "each once";
  return fmt::format("{}", fmt::join(names, " "));
}

struct Case {
  const char* body;
  const char* asked;
};

TEST(Body, MergePatches) {
  for (
      const auto& [body, asked] : std::initializer_list<Case>{
          {R"({"attributes":{"administrativeState":"UNLOCKED"}})", "nsi:activate"},
          {R"({"attributes":{"administrativeState":"LOCKED"}})", "nsi:deactivate"},
          {R"({"attributes":{"administrativeState":"SHUTTINGDOWN"}})", "nsi:deactivate"},
          {R"({"id":"7","attributes":{"administrativeState":"UNLOCKED"}})", "nsi:activate"},
          {R"({"id":"7","objectClass":"NetworkSlice","attributes":{"administrativeState":"LOCKED"}})",
           "nsi:deactivate"},
          {R"({"attributes":{"administr\u0061tiveState":"UNLOCKED"}})", "nsi:activate"},
          {R"({"attributes":{"serviceProfileList":[]}})", "nsi:modify"},
          {R"({"attributes":{"userLabel":null}})", "nsi:modify"},
          {R"({"attributes":{"administrativeState":"UNLOCKED","userLabel":"a"}})",
           "nsi:activate nsi:modify"},
          {R"({"attributes":{"administrativeState":"LOCKED","isolationProfileRef":"x"}})",
           "nsi:deactivate nsi:modify-topology"},
          {R"({"attributes":{"networkSliceSubnetRef":null}})", "nsi:modify-topology"},
          {R"({"attributes":{"networkSliceControllerRef":{"a":1}}})", "nsi:modify-topology"},
          {R"({"attributes":{"isolationProfileRef":"x","userLabel":"a"}})",
           "nsi:modify nsi:modify-topology"},
          {R"({})", "nsi:modify"},
          {R"({"id":"7"})", "nsi:modify"},
          {R"({"attributes":{}})", "nsi:modify"},
          // The name in another place is another member; in another case, some servers take it for
          // the member.
          {R"({"attributes":{"AdministrativeState":"LOCKED"}})", "! body_undecided"},
          {R"({"attributes":{"administrativeState":"UNLOCKED","ADMINISTRATIVESTATE":"LOCKED"}})",
           "! body_undecided"},
          {R"({"attributes":{"admini\u017ftrativeState":"LOCKED"}})", "! body_undecided"},
          {R"({"attributes":{"administrativeState\u0000":"LOCKED"}})", "! body_undecided"},
          {R"({"Attributes":{"administrativeState":"LOCKED"}})", "! body_undecided"},
          {R"({"attributes":{"ISOLATIONPROFILEREF":"x"}})", "! body_undecided"},
          {R"({"ID":"8"})", "! body_undecided"},
          {R"({"attributes":{"administrativeStates":"LOCKED"}})", "nsi:modify"},
          {R"({"attributes":{"x":{"administrativeState":"LOCKED"}}})", "nsi:modify"},
          // What decides has no value that says which operation it is.
          {R"({"attributes":{"administrativeState":"unlocked"}})", "! body_undecided"},
          {R"({"attributes":{"administrativeState":null}})", "! body_undecided"},
          {R"({"attributes":{"administrativeState":["UNLOCKED"]}})", "! body_undecided"},
          {R"({"attributes":{"administrativeState":{"a":"UNLOCKED"}}})", "! body_undecided"},
          {R"({"attributes":{"administrativeState":1}})", "! body_undecided"},
          {R"({"attributes":null})", "! body_undecided"},
          {R"({"attributes":[{"administrativeState":"LOCKED"}]})", "! body_undecided"},
          {R"({"attributes":"x"})", "! body_undecided"},
          {R"({"id":"8","attributes":{"administrativeState":"LOCKED"}})", "! body_contradicts"},
          {R"({"id":7})", "! body_contradicts"},
          {R"({"id":null})", "! body_contradicts"},
          {R"({"id":{"x":"7"}})", "! body_contradicts"},
          {R"({"objectClass":"SubNetwork"})", "! body_contradicts"},
          {R"({"NetworkSlice":[{"id":"8","attributes":{"administrativeState":"LOCKED"}}]})",
           "! body_unlisted"},
          {R"({"administrativeState":"LOCKED"})", "! body_unlisted"},
          {R"({"attributes/administrativeState":"LOCKED"})", "! body_unlisted"},
          {R"({"":{"administrativeState":"LOCKED"}})", "! body_unlisted"},
          {R"([{"attributes":{"administrativeState":"LOCKED"}}])", "! body_malformed"},
          {R"("LOCKED")", "! body_malformed"},
          {R"(null)", "! body_malformed"},
          {"", "! body_malformed"},
          {"{", "! body_malformed"},
          {"\xEF\xBB\xBF{\"attributes\":{\"administrativeState\":\"LOCKED\"}}", "! body_malformed"},
          {R"({"attributes":{}}{})", "! body_malformed"},
          {R"({"attributes":{"administrativeState":"LOCKED","administrativeState":"UNLOCKED"}})",
           "! body_malformed"},
          {R"({"attributes":{"administrativeState":"LOCKED","administr\u0061tiveState":"UNLOCKED"}})",
           "! body_malformed"},
          {R"({"attributes":{"x":1},"attributes":{"administrativeState":"LOCKED"}})",
           "! body_malformed"},
          {"{\"attributes\":{\"a\xC0\xAF\":1}}", "! body_malformed"},
      }) {
    EXPECT_EQ(Asked(kSlice, kMerge, body), asked) << body;
    EXPECT_EQ(Asked(kSlice, k3gppMerge, body), asked) << body;
  }
}

TEST(Body, JsonPatches) {
  for (
      const auto& [body, asked] : std::initializer_list<Case>{
          {R"([{"op":"replace","path":"/attributes/administrativeState","value":"UNLOCKED"}])",
           "nsi:activate"},
          {R"([{"op":"add","path":"/attributes/administrativeState","value":"LOCKED"}])",
           "nsi:deactivate"},
          {R"([{"op":"replace","path":"/attributes/userLabel","value":"a"}])", "nsi:modify"},
          {R"([{"op":"remove","path":"/attributes/userLabel"}])", "nsi:modify"},
          {R"([{"op":"replace","path":"/attributes/isolationProfileRef/0","value":"a"}])",
           "nsi:modify-topology"},
          {R"([{"op":"remove","path":"/attributes/networkSliceSubnetRef"}])",
           "nsi:modify-topology"},
          {R"([{"op":"add","path":"/attributes/serviceProfileList/-","value":{}}])", "nsi:modify"},
          {R"([{"op":"replace","path":"/attributes/administrativeState","value":"UNLOCKED"},
                {"op":"replace","path":"/attributes/userLabel","value":"a"}])",
           "nsi:activate nsi:modify"},
          {R"([{"op":"replace","path":"/attributes/administrativeState","value":"UNLOCKED"},
                {"op":"replace","path":"/attributes/administrativeState","value":"LOCKED"}])",
           "nsi:activate nsi:deactivate"},
          {R"([{"op":"test","path":"/attributes/administrativeState","value":"LOCKED"},
                {"op":"replace","path":"/attributes/administrativeState","value":"UNLOCKED"}])",
           "nsi:activate"},
          {R"([{"op":"test","path":"/attributes/userLabel","value":"a"},
                {"op":"replace","path":"/attributes/administrativeState","value":"UNLOCKED"}])",
           "nsi:activate nsi:modify"},
          {R"([{"op":"test","path":"/attributes/administrativeState","value":"LOCKED"}])",
           "nsi:modify"},
          {R"([{"op":"test","path":"/id","value":"7"},
                {"op":"add","path":"/attributes/administrativeState","value":"LOCKED"}])",
           "nsi:deactivate"},
          {R"([])", "nsi:modify"},
          {R"([{"op":"copy","from":"/attributes/a","path":"/attributes/b"}])", "nsi:modify"},
          {R"([{"op":"move","from":"/attributes/isolationProfileRef","path":"/attributes/b"}])",
           "nsi:modify nsi:modify-topology"},
          {R"([{"op":"copy","from":"/attributes/b","path":"/attributes/isolationProfileRef"}])",
           "nsi:modify-topology"},
          // ~1 is a slash in a name, ~0 a tilde (RFC 6901 4), and neither is the member that
          // decides.
          {R"([{"op":"add","path":"/attributes/a~1administrativeState","value":"LOCKED"}])",
           "nsi:modify"},
          {R"([{"op":"add","path":"/attributes/~0administrativeState","value":"LOCKED"}])",
           "nsi:modify"},
          {R"([{"op":"add","path":"/attributes~1administrativeState","value":"LOCKED"}])",
           "! body_unlisted"},
          {R"([{"op":"add","path":"/attributes/AdministrativeState","value":"LOCKED"}])",
           "! body_undecided"},
          {R"([{"op":"add","path":"/Attributes/administrativeState","value":"LOCKED"}])",
           "! body_undecided"},
          {R"([{"op":"copy","from":"/attributes/a","path":"/attributes/Administrativestate"}])",
           "! body_undecided"},
          // The whole: what it does not say is gone, and what is fenced with it.
          {R"([{"op":"replace","path":"/attributes","value":{"administrativeState":"LOCKED"}}])",
           "nsi:deactivate nsi:modify nsi:modify-topology"},
          {R"([{"op":"add","path":"","value":{"attributes":{"administrativeState":"LOCKED"}}}])",
           "nsi:deactivate nsi:modify nsi:modify-topology"},
          {R"([{"op":"replace","path":"/attributes","value":{"userLabel":"a"}}])",
           "! body_undecided"},
          {R"([{"op":"replace","path":"/attributes","value":null}])", "! body_undecided"},
          {R"([{"op":"replace","path":"","value":{"id":"7"}}])", "! body_undecided"},
          {R"([{"op":"replace","path":"","value":{"id":"8","attributes":{"administrativeState":"LOCKED"}}}])",
           "! body_contradicts"},
          {R"([{"op":"remove","path":"/attributes"}])", "! body_undecided"},
          {R"([{"op":"remove","path":""}])", "! body_undecided"},
          {R"([{"op":"test","path":"/attributes","value":{}}])", "! body_undecided"},
          {R"([{"op":"copy","from":"/attributes","path":"/attributes/x"}])", "! body_undecided"},
          {R"([{"op":"move","from":"/attributes/x","path":"/attributes"}])", "! body_undecided"},
          // Whatever leaves the state to what is not in the body.
          {R"([{"op":"remove","path":"/attributes/administrativeState"}])", "! body_undecided"},
          {R"([{"op":"copy","from":"/attributes/a","path":"/attributes/administrativeState"}])",
           "! body_undecided"},
          {R"([{"op":"move","from":"/attributes/a","path":"/attributes/administrativeState"}])",
           "! body_undecided"},
          {R"([{"op":"move","from":"/attributes/administrativeState","path":"/attributes/a"}])",
           "! body_undecided"},
          {R"([{"op":"add","path":"/attributes/administrativeState/0","value":"LOCKED"}])",
           "! body_undecided"},
          {R"([{"op":"replace","path":"/id","value":"8"}])", "! body_contradicts"},
          {R"([{"op":"remove","path":"/id"}])", "! body_contradicts"},
          {R"([{"op":"test","path":"/id","value":"8"}])", "! body_contradicts"},
          {R"([{"op":"add","path":"/NetworkSlice=8/attributes/administrativeState","value":"LOCKED"}])",
           "! body_unlisted"},
          // What is no JSON Patch.
          {R"({"attributes":{"administrativeState":"LOCKED"}})", "! body_malformed"},
          {R"([{"op":"merge","path":"/attributes/userLabel","value":"a"}])", "! body_malformed"},
          {R"([{"op":"Replace","path":"/attributes/userLabel","value":"a"}])", "! body_malformed"},
          {R"([{"path":"/attributes/userLabel","value":"a"}])", "! body_malformed"},
          {R"([{"op":"replace","value":"a"}])", "! body_malformed"},
          {R"([{"op":"replace","path":"/attributes/userLabel"}])", "! body_malformed"},
          {R"([{"op":"replace","path":"/attributes/userLabel","value":"a","from":"/id"}])",
           "! body_malformed"},
          {R"([{"op":"replace","path":"/attributes/userLabel","value":"a","x":1}])",
           "! body_malformed"},
          {R"([{"op":"remove","path":"/attributes/userLabel","value":"a"}])", "! body_malformed"},
          {R"([{"op":"move","path":"/attributes/userLabel"}])", "! body_malformed"},
          {R"([{"op":"move","path":"/attributes/userLabel","from":1}])", "! body_malformed"},
          {R"([{"op":"replace","path":"attributes/userLabel","value":"a"}])", "! body_malformed"},
          {R"([{"op":"replace","path":"/attributes/a~2","value":"a"}])", "! body_malformed"},
          {R"([{"op":"replace","path":"/attributes/a~","value":"a"}])", "! body_malformed"},
          {R"([{"op":"replace","path":1,"value":"a"}])", "! body_malformed"},
          {R"([["replace","/attributes/userLabel","a"]])", "! body_malformed"},
          {R"([null])", "! body_malformed"},
          {R"([{"op":"replace","op":"test","path":"/attributes/userLabel","value":"a"}])",
           "! body_malformed"},
      }) {
    EXPECT_EQ(Asked(kSlice, kPatch, body), asked) << body;
    EXPECT_EQ(Asked(kSlice, k3gppPatch, body), asked) << body;
  }
}

// TS 32.158: the resource below the one addressed, #, the pointer into it.
TEST(Body, JsonPatchesOf3gpp) {
  for (const auto& [body, asked] : std::initializer_list<Case>{
           {R"([{"op":"replace","path":"#/attributes/administrativeState","value":"UNLOCKED"}])",
            "nsi:activate"},
           {R"([{"op":"replace","path":"#/attributes/administrativeState","value":"LOCKED"},
                {"op":"replace","path":"#/attributes/userLabel","value":"a"}])",
            "nsi:deactivate nsi:modify"},
           {R"([{"op":"copy","from":"#/attributes/a","path":"#/attributes/b"}])", "nsi:modify"},
           {R"([{"op":"replace","path":"/X=1#/attributes/administrativeState","value":"LOCKED"}])",
            "! body_malformed"},
           {R"([{"op":"replace","path":"##/attributes/administrativeState","value":"LOCKED"}])",
            "! body_malformed"},
           {R"([{"op":"replace","path":"#/attributes/administr%61tiveState","value":"LOCKED"}])",
            "! body_malformed"},
           {R"([{"op":"copy","from":"/X=1#/attributes/a","path":"#/attributes/b"}])",
            "! body_malformed"},
           {R"([{"op":"add","path":"/X=1","value":{"id":"1"}}])", "! body_unlisted"},
           {R"([{"op":"remove","path":"/X=1"}])", "! body_unlisted"},
       }) {
    EXPECT_EQ(Asked(kSlice, k3gppPatch, body), asked) << body;
  }
  // In the plain form # is a character like others.
  EXPECT_EQ(Asked(kSlice, kPatch, R"([{"op":"remove","path":"#/attributes/a"}])"),
            "! body_malformed");
}

TEST(Body, OnlyListedMediaTypesAreRead) {
  const char* body = R"({"attributes":{"administrativeState":"UNLOCKED"}})";
  for (const char* type :
       {kMerge, "Application/Merge-Patch+JSON", "application/merge-patch+json; charset=utf-8",
        "application/merge-patch+json;charset=\"UTF-8\"", " application/merge-patch+json "}) {
    EXPECT_EQ(Asked(kSlice, type, body), "nsi:activate") << type;
  }
  for (const char* type :
       {"", "application/json", "text/plain", "application/merge-patch+xml", "*/*",
        "application/merge-patch+json; charset=utf-16", "application/merge-patch+json; charset",
        "application/merge-patch+json; charset=utf-8; charset=utf-16",
        "application/merge-patch+json;",
        "application/merge-patch+json, application/json-patch+json", "merge-patch+json"}) {
    EXPECT_EQ(Asked(kSlice, type, body), "! body_media_type") << type;
  }
}

TEST(Body, LimitsAreKept) {
  const auto padded = [](size_t size) {
    const std::string start = R"({"attributes":{"administrativeState":"UNLOCKED"}})";
    return start + std::string(size - start.size(), ' ');
  };
  EXPECT_EQ(Asked(kSlice, kMerge, padded(Profile::kBodyLimit)), "nsi:activate");
  EXPECT_EQ(Asked(kSlice, kMerge, padded(Profile::kBodyLimit + 1)), "! body_too_large");
  const auto nested = [](size_t levels) {
    std::string text = R"({"attributes":{"x":)";
    for (size_t i = 0; i < levels; ++i) text += "[";
    for (size_t i = 0; i < levels; ++i) text += "]";
    return text + "}}";
  };
  EXPECT_EQ(Asked(kSlice, kMerge, nested(30)), "nsi:modify");
  EXPECT_EQ(Asked(kSlice, kMerge, nested(31)), "! body_malformed");
}

// A token with exactly one operation is good for exactly that one: every form in which each of the
// six can be asked for, against each of the six.
TEST(Matrix, SixOperationsAreSixApart) {
  const Profile& profile = Shipped("management-exposure");
  struct Request {
    const char* operation;
    const char* method;
    std::string target;
    const char* media_type = "";
    const char* body = "";
  };
  const std::string slice = kSlice.target;
  const std::vector<Request> requests = {
      {"nsi:create", "POST", "/NSProvMnS/v1/ServiceProfiles"},
      {"nsi:create", "POST", "/ObjectManagement/NS/ServiceProfiles"},
      {"nsi:create", "PUT", slice, kJson,
       R"({"id":"7","attributes":{"administrativeState":"LOCKED"}})"},
      {"nsi:activate", "PATCH", slice, kMerge,
       R"({"attributes":{"administrativeState":"UNLOCKED"}})"},
      {"nsi:activate", "PATCH", slice, k3gppMerge,
       R"({"id":"7","attributes":{"administrativeState":"UNLOCKED"}})"},
      {"nsi:activate", "PATCH", slice, kPatch,
       R"([{"op":"replace","path":"/attributes/administrativeState","value":"UNLOCKED"}])"},
      {"nsi:activate", "PATCH", slice, k3gppPatch,
       R"([{"op":"replace","path":"#/attributes/administrativeState","value":"UNLOCKED"}])"},
      {"nsi:deactivate", "PATCH", slice, kMerge,
       R"({"attributes":{"administrativeState":"LOCKED"}})"},
      {"nsi:deactivate", "PATCH", slice, k3gppMerge,
       R"({"attributes":{"administrativeState":"LOCKED"}})"},
      {"nsi:deactivate", "PATCH", slice, kPatch,
       R"([{"op":"add","path":"/attributes/administrativeState","value":"LOCKED"}])"},
      {"nsi:deactivate", "PATCH", slice, k3gppPatch,
       R"([{"op":"add","path":"#/attributes/administrativeState","value":"LOCKED"}])"},
      {"nsi:modify", "PATCH", slice, kMerge, R"({"attributes":{"userLabel":"a"}})"},
      {"nsi:modify", "PATCH", slice, k3gppMerge, R"({"attributes":{"userLabel":"a"}})"},
      {"nsi:modify", "PATCH", slice, kPatch, R"([{"op":"remove","path":"/attributes/userLabel"}])"},
      {"nsi:modify", "PATCH", slice, k3gppPatch,
       R"([{"op":"remove","path":"#/attributes/userLabel"}])"},
      {"nsi:delete", "DELETE", slice},
      {"nsi:delete", "DELETE", "/NSProvMnS/v1/ServiceProfiles/1"},
      {"nsi:monitor", "GET", slice + "?scopeType=BASE_ALL"},
      {"nsi:monitor", "GET", "/FaultSupervisionMnS/v1/alarms"},
  };
  size_t accepted = 0;
  for (const char* granted : {"nsi:create", "nsi:activate", "nsi:deactivate", "nsi:modify",
                              "nsi:delete", "nsi:monitor"}) {
    const Operation* const grant = profile.FindOperation(granted);
    ASSERT_NE(grant, nullptr);
    for (const Request& request : requests) {
      const auto match = profile.Find(request.method, request.target);
      ASSERT_TRUE(match) << request.target;
      Operations needed = {match->rule->operation};
      if (match->NeedsBody()) {
        const auto body = Classify(profile, *match, request.media_type, request.body);
        ASSERT_TRUE(body) << request.body << body.error().error.Text();
        needed = body->operations;
      }
      const bool may = std::ranges::all_of(needed, [&](const auto* one) { return one == grant; });
      EXPECT_EQ(may, granted == std::string(request.operation))
          << granted << ": " << request.method << " " << request.target << " " << request.body;
      accepted += may ? 1 : 0;
    }
  }
  EXPECT_EQ(accepted, requests.size());
}

TEST(Body, AReplacementIsAllThatItCouldChange) {
  const auto match = Shipped(kPutSlice.profile).Find("PUT", kPutSlice.target);
  std::set<std::string> needed;
  for (const Operation* operation : match->rule->replaces) needed.insert(operation->name);
  EXPECT_EQ(needed, (std::set<std::string>{"nsi:modify", "nsi:modify-topology", "nsi:activate",
                                           "nsi:deactivate"}));
  EXPECT_EQ(Asked(kPutSlice, kJson, R"({"id":"7","attributes":{}})"), "nsi:create");
  EXPECT_EQ(Asked(kPutSlice, kJson, R"({"id":"8","attributes":{}})"), "! body_contradicts");
  EXPECT_EQ(Asked(kPutSlice, kJson, R"({"id":"7","NetworkSlice":[]})"), "! body_unlisted");
  EXPECT_EQ(Asked(kPutSlice, kMerge, R"({"id":"7"})"), "! body_media_type");
}

// An id that is encoded in the path is the plain one in the body.
TEST(Body, IdsCompareDecoded) {
  const Sent spaced = {"management-exposure", "PATCH", "/ProvMnS/v1/NetworkSlice=a%20%C3%A9"};
  EXPECT_EQ(Asked(spaced, kMerge, "{\"id\":\"a \xC3\xA9\"}"), "nsi:modify");
  EXPECT_EQ(Asked(spaced, kMerge, R"({"id":"a \u00e9"})"), "nsi:modify");
  EXPECT_EQ(Asked(spaced, kMerge, R"({"id":"a%20%C3%A9"})"), "! body_contradicts");
}

TEST(Body, TheSenderIsSaid) {
  const Sent message = {"msgin5g-4", "POST", "/msgs-msgdelivery/v1/deliver-ue-message"};
  const auto good = Classified(message, kJson, R"({"oriAddr":{"addrType":"UE","addr":"ue-7"},
                                                   "destAddr":{"addr":"ue-8"},"msgId":"1"})");
  ASSERT_TRUE(good) << good.error().error.Text();
  EXPECT_EQ(good->callers, std::vector<std::string>{"ue-7"});
  ASSERT_EQ(good->operations.size(), 1U);
  EXPECT_EQ(good->operations[0]->name, "message:send");
  EXPECT_EQ(Asked(message, kJson, R"({"destAddr":{"addr":"ue-8"}})"), "! body_caller_missing");
  EXPECT_EQ(Asked(message, kJson, R"({"oriAddr":{"addrType":"UE"}})"), "! body_caller_missing");
  EXPECT_EQ(Asked(message, kJson, R"({"oriAddr":{"addr":["ue-7"]}})"), "! body_undecided");
  EXPECT_EQ(Asked(message, kJson, R"({"oriAddr":{"addr":null}})"), "! body_undecided");
  EXPECT_EQ(Asked(message, kJson, R"({"oriAddr":"ue-7"})"), "! body_undecided");
  EXPECT_EQ(Asked(message, kJson, R"({"oriAddr":{"addr":"ue-7"},"OriAddr":{"addr":"ue-9"}})"),
            "! body_undecided");
  EXPECT_EQ(Asked(message, kJson, R"({"oriAddr":{"addr":"ue-7","ADDR":"ue-9"}})"),
            "! body_undecided");
  EXPECT_EQ(Asked(message, kJson, R"({"oriAddr":{"addr":"a","addr":"b"}})"), "! body_malformed");
}

TEST(Body, CallbacksAreCollected) {
  const Sent subscribe = {"scef", "POST", "/3gpp-monitoring-event/v1/as-1/subscriptions"};
  const auto both = Classified(
      subscribe, kJson,
      R"({"notificationDestination":"https://as/n","revocationNotifUri":"https://as/r","x":1})");
  ASSERT_TRUE(both);
  EXPECT_EQ(both->callbacks.size(), 2U);
  EXPECT_EQ(Asked(subscribe, kJson, R"({"notificationDestination":"https://as/n"})"),
            "context:create");
  EXPECT_EQ(Asked(subscribe, kJson, R"({"msisdn":"1"})"), "context:create");
  EXPECT_EQ(Asked(subscribe, kJson, R"({"notificationDestination":["https://as/n"]})"),
            "! body_undecided");
  const Sent change = {"scef", "PATCH", "/3gpp-monitoring-event/v1/as-1/subscriptions/1"};
  const auto patched = Classified(
      change, kPatch,
      R"([{"op":"replace","path":"/notificationDestination","value":"http://10.0.0.1"}])");
  ASSERT_TRUE(patched);
  EXPECT_EQ(patched->callbacks, std::vector<std::string>{"http://10.0.0.1"});
  // Taken over from another member, it would be seen by nobody.
  EXPECT_EQ(
      Asked(change, kPatch, R"([{"op":"copy","from":"/x","path":"/notificationDestination"}])"),
      "! body_undecided");
  const auto whole = Classified(
      change, kPatch, R"([{"op":"add","path":"","value":{"notificationDestination":"u"}}])");
  ASSERT_TRUE(whole);
  EXPECT_EQ(whole->callbacks, std::vector<std::string>{"u"});
  const Sent merged = {"scef", "PATCH", "/3gpp-bdt/v1/as-1/subscriptions/1"};
  const auto gone = Classified(merged, kMerge, R"({"notificationDestination":null})");
  ASSERT_TRUE(gone);
  EXPECT_TRUE(gone->callbacks.empty());
  const Sent nested = {"scef", "POST", "/3gpp-am-policyauthorization/v1/af/app-am-contexts"};
  const auto inner = Classified(nested, kJson, R"({"evSubscs":{"eventNotifUri":"https://af/e"}})");
  ASSERT_TRUE(inner);
  EXPECT_EQ(inner->callbacks, std::vector<std::string>{"https://af/e"});
}

// Outside a PATCH, what the method is stays needed whatever the body names.
TEST(Body, OnlyAPatchIsNothingButItsBody) {
  const auto profile = ParseProfile(R"(
name: t
title: t
source: t
operations: { change: [make, fence] }
apis:
  - name: t
    paths:
      - path: /t
        POST: { operation: make, fences: [{ members: [/f], operation: fence }] }
        PATCH: { operation: make, media_types: [application/json], fences: [{ members: [/f], operation: fence }] }
)",
                                    "t");
  ASSERT_TRUE(profile) << profile.error().Text();
  EXPECT_EQ(
      Classify(*profile, *profile->Find("POST", "/t"), kJson, R"({"f":1})")->operations.size(), 2U);
  EXPECT_EQ(
      Classify(*profile, *profile->Find("PATCH", "/t"), kJson, R"({"f":1})")->operations.size(),
      1U);
}

TEST(Body, AcceptsWhatIsListed) {
  const auto& profile = Shipped("api-registry");
  const auto token = profile.Find("POST", "/capif-security/v1/securities/s/token");
  EXPECT_FALSE(token->NeedsBody());
  EXPECT_TRUE(Accepts(*token->rule, "application/x-www-form-urlencoded"));
  EXPECT_FALSE(Accepts(*token->rule, kJson));
  EXPECT_TRUE(Accepts(*profile.Find("GET", "/logs/v1/apiInvocationLogs")->rule, "text/anything"));
}

}  // namespace
}  // namespace portcullis::profiles
