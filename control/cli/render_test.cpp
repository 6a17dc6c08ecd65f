#include "control/cli/render.hpp"

#include <gtest/gtest.h>

#include "dataplane/packet/verdict.hpp"

namespace portcullis::cli {
namespace {

using nlohmann::json;

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

json Report(uint64_t accepted, uint64_t replayed) {
  json verdicts = json::object();
  for (const VerdictInfo& info : kVerdicts) verdicts[std::string(info.name)] = 0;
  verdicts["accepted"] = accepted;
  verdicts["replayed"] = replayed;
  return {{"by", "verdict"},
          {"total", {{"verdicts", verdicts}, {"bytes", 1}}},
          {"rows", json::array()}};
}

TEST(RenderTest, CountersShowWhatIsNotZeroInOrder) {
  const std::string text = RenderCounters(Report(1500, 3), false);
  EXPECT_EQ(text,
            "VERDICT   PACKETS  MEANING\n"
            "accepted    1 500  passed every check and was forwarded\n"
            "replayed        3  a sequence number that was already accepted\n");
  EXPECT_EQ(RenderCounters(Report(0, 0), false), "no packets yet\n");
}

TEST(RenderTest, AllCountersAreEveryVerdict) {
  const std::string text = RenderCounters(Report(0, 0), true);
  for (const VerdictInfo& info : kVerdicts) EXPECT_TRUE(Contains(text, std::string(info.text)));
}

TEST(RenderTest, AVerdictOfANewerControlIsShown) {
  json report = Report(1, 0);
  report["total"]["verdicts"]["unheard_of"] = 7;
  EXPECT_TRUE(Contains(RenderCounters(report, false), "unheard_of        7\n"));
}

TEST(RenderTest, RatesAreOfTheTimeBetween) {
  const json before = Report(1000, 3);
  const std::string text = RenderCounters(Report(3000, 3), false, &before, 2.0);
  EXPECT_TRUE(Contains(text, "accepted    3 000        1000")) << text;
  EXPECT_TRUE(Contains(text, "replayed        3           0")) << text;
  // The dataplane restarted: not minus a million.
  const json much = Report(1000000, 0);
  EXPECT_TRUE(Contains(RenderCounters(Report(10, 0), false, &much, 1.0), "10          10"));
}

TEST(RenderTest, CountersByPeer) {
  const json report = {{"by", "peer"},
                       {"total", {{"verdicts", json::object()}}},
                       {"rows",
                        {{{"name", "csmf-1"}, {"verdicts", {{"replayed", 2}, {"accepted", 9}}}},
                         {{"name", "idle"}, {"verdicts", json::object()}}}}};
  EXPECT_EQ(RenderCounters(report, false),
            "PEER    VERDICT   PACKETS\n"
            "csmf-1  accepted        9\n"
            "        replayed        2\n"
            "idle                    0\n");
}

TEST(RenderTest, Differences) {
  const json nothing = {
      {"added", json::array()}, {"changed", json::array()}, {"removed", json::array()}};
  EXPECT_FALSE(IsDifference(nothing));
  EXPECT_EQ(RenderDifference(nothing), "");
  const json some = {{"added", {{{"kind", "peer"}, {"name", "a"}}}},
                     {"changed",
                      {{{"kind", "interface"},
                        {"name", "b"},
                        {"fields",
                         {{{"field", "/zone"}, {"from", "internal"}, {"to", "external"}},
                          {{"field", "/clients"}, {"to", {"10.0.0.0/8"}}}}}}}},
                     {"removed", {{{"kind", "policy"}, {"name", "c"}}}}};
  EXPECT_TRUE(IsDifference(some));
  EXPECT_EQ(RenderDifference(some),
            "+ peer a\n"
            "~ interface b\n"
            "    /zone: \"internal\" -> \"external\"\n"
            "    /clients: (absent) -> [\"10.0.0.0/8\"]\n"
            "- policy c\n");
}

TEST(RenderTest, StatusShoutsWhatIsWrong) {
  json status = {{"version", "1"},
                 {"ready", true},
                 {"lab", false},
                 {"clock", "ok"},
                 {"operator", "alice"},
                 {"role", "viewer"},
                 {"policy", {{"generation", 7}, {"in_force", true}}},
                 {"dataplane", {{"connected", true}, {"instance", "gate"}}}};
  EXPECT_FALSE(Contains(RenderStatus(status), "NOT"));
  EXPECT_FALSE(Contains(RenderStatus(status), "LAB"));
  EXPECT_FALSE(Contains(RenderStatus(status), "CLEARTEXT"));
  status["lab"] = true;
  status["clock"] = "stepped_back";
  status["bypasses"] = {"dns"};
  status["policy"]["in_force"] = false;
  status["dataplane"] = {{"connected", false}, {"error", "no such file"}};
  const std::string text = RenderStatus(status);
  EXPECT_TRUE(Contains(text, "LAB"));
  EXPECT_TRUE(Contains(text, "NOT TO BE BELIEVED: stepped_back"));
  EXPECT_TRUE(Contains(text, "CLEARTEXT  passes to dns"));
  EXPECT_TRUE(Contains(text, "NOT IN FORCE"));
  EXPECT_TRUE(Contains(text, "NOT CONNECTED: no such file"));
}

TEST(RenderTest, StatusSaysHowTheGuardFaresAndWhatRunsOut) {
  json status = {
      {"guard",
       {{"connected", true},
        {"since", "2026-01-01T00:00:00.000Z"},
        {"refusals", {{"token_expired", 2}, {"cert_revoked", 1}}},
        {"listeners", {{{"open", 4}}}},
        {"lists", {{{"name", "a.crl"}}}}}},
      {"expiring",
       {{{"where", "guard"}, {"what", "list"}, {"alarm", false}, {"seconds_left", 60}}}}};
  std::string text = RenderStatus(status);
  EXPECT_TRUE(Contains(text, "4 connections open, 3 refusals since its start")) << text;
  EXPECT_FALSE(Contains(text, "expires"));
  EXPECT_FALSE(Contains(text, "RENEWED"));
  status["guard"]["lists"][0]["error"] = "no such file";
  status["expiring"][0]["alarm"] = true;
  status["expiring"].push_back({{"where", "control"},
                                {"what", "certificate"},
                                {"alarm", true},
                                {"when", "2026-01-01"},
                                {"seconds_left", -5}});
  text = RenderStatus(status);
  EXPECT_TRUE(Contains(text, "NOT RENEWED: a.crl: no such file")) << text;
  EXPECT_TRUE(Contains(text, "expires    guard: list, in 1 min 0 s\n")) << text;
  EXPECT_TRUE(Contains(text, "EXPIRED    control: certificate, at 2026-01-01\n")) << text;
  EXPECT_TRUE(Contains(RenderStatus({{"guard", {{"connected", false}}}}), "NOT CONNECTED: nobody"));
}

TEST(RenderTest, WhySaysHowASessionStands) {
  json answer = {
      {"id", "s-1"},
      {"items",
       {{{"id", "s-1"}, {"what", "admitted"}, {"peer", "csmf-1"}, {"generation", 1}},
        {{"id", "s-1"}, {"what", "in_force"}, {"peer", "csmf-1"}, {"generation", 1}}}},
      {"session",
       {{"confirmed", true}, {"peer", "csmf-1"}, {"interface", "nsmf"}, {"expires_in", 60}}}};
  EXPECT_TRUE(
      Contains(RenderWhy(answer), "s-1 is in force, of csmf-1 on nsmf; ends in 1 min 0 s\n"));
  answer.erase("session");
  answer["items"].push_back({{"id", "s-1"}, {"what", "ended"}, {"who", "alice"}});
  const std::string text = RenderWhy(answer);
  EXPECT_TRUE(Contains(text, "ended by alice")) << text;
  EXPECT_TRUE(Contains(text, "s-1 is over\n")) << text;
  const json refused = {{"id", "r-1"},
                        {"items", {{{"what", "refused"}, {"reason", "token_expired"}}}}};
  EXPECT_EQ(RenderWhy(refused), "WHAT\nrefused: token_expired\n");
}

TEST(RenderTest, ManyWarningsAreCounted) {
  json warnings = json::array();
  const auto add = [&] { warnings.push_back({{"kind", "sa"}, {"name", "a"}, {"text", "lab"}}); };
  for (int i = 0; i < 10; ++i) add();
  EXPECT_FALSE(Contains(RenderWarnings(warnings), "more"));
  for (int i = 0; i < 90; ++i) add();
  EXPECT_TRUE(Contains(RenderWarnings(warnings), "... and 90 more\n"));
}

TEST(RenderTest, AnswersWithoutTheExpectedMembersDoNotCrash) {
  for (const json& odd : {json::object(), json(nullptr), json::array({1, "x"}), json("x")}) {
    RenderStatus(odd);
    RenderCounters(odd, true);
    RenderDifference(odd);
    RenderEvent(odd);
    RenderPipeline(odd);
    RenderSas(json::array({odd}));
    RenderPeers(json::array({odd}));
    RenderInterfaces(json::array({odd}));
    RenderPolicies(json::array({odd}));
  }
}

TEST(RenderTest, Resources) {
  EXPECT_EQ(RenderPeers(json::array()), "no peers\n");
  EXPECT_EQ(
      RenderPeers({{{"name", "csmf-1"},
                    {"role", "csmf"},
                    {"identity", "csmf-1.example"},
                    {"prefixes", {"10.1.0.2/32", "2001:db8::2/128"}},
                    {"rate", {{"packets_per_second", 1000}, {"bits_per_second", 10000000}}},
                    {"enabled", true}}}),
      "NAME    ROLE  IDENTITY        PREFIXES                      RATE\n"
      "csmf-1  csmf  csmf-1.example  10.1.0.2/32, 2001:db8::2/128  1000 packets/s, 10 Mbit/s\n");
  EXPECT_TRUE(Contains(RenderInterfaces({{{"name", "n"},
                                          {"ports",
                                           {{{"protocol", "tcp"}, {"first", 80}, {"last", 90}},
                                            {{"protocol", "icmp"}}}}}}),
                       "tcp 80-90, icmp"));
  const json sa = {{"id", "a"},
                   {"direction", "inbound"},
                   {"in_force", true},
                   {"replay_window", 1024},
                   {"state", {{"suspect", true}, {"age_seconds", 5}}}};
  EXPECT_TRUE(Contains(RenderSas(json::array({sa})), "suspect"));
  EXPECT_EQ(SelectorText({{"local", "10.2.0.10/32"},
                          {"protocol", "tcp"},
                          {"local_ports", {{"first", 8080}, {"last", 8080}}}}),
            "10.2.0.10/32 port 8080 <-> any tcp");
}

TEST(RenderTest, ThePipelineKeepsItsOrderAndWraps) {
  json stages = json::array();
  for (int i = 0; i < 20; ++i) stages.push_back("stage_" + std::to_string(i));
  const json pipeline = {{"inbound", stages}, {"outbound", {"parse", "seal"}}};
  const std::string text = RenderPipeline(pipeline);
  size_t at = 0;
  for (const json& stage : stages) {
    at = text.find("│ " + stage.get<std::string>() + " ├", at);
    ASSERT_NE(at, std::string::npos) << stage;
  }
  EXPECT_TRUE(Contains(text,
                       "┌───────┐  ┌──────┐\n"
                       "│ parse ├─▶│ seal ├─▶ untrusted side\n"
                       "└───────┘  └──────┘\n"));
  const std::string dot = RenderPipelineDot(pipeline);
  EXPECT_TRUE(Contains(dot,
                       "\"outbound/trusted\" -> \"outbound/parse\" -> \"outbound/seal\" -> "
                       "\"outbound/untrusted\";"));
}

TEST(RenderTest, Events) {
  EXPECT_EQ(RenderEvent({{"id", "5"},
                         {"time", "2026-01-02T03:04:05.678Z"},
                         {"source", "dataplane"},
                         {"kind", "sa_suspect"},
                         {"peer", "csmf-1"},
                         {"text", "Too many forgeries."}}),
            "2026-01-02T03:04:05.678Z  dataplane  sa_suspect       Too many forgeries.  "
            "[peer=csmf-1]\n");
}

}  // namespace
}  // namespace portcullis::cli
