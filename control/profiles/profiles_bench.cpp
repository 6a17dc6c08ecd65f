// What a request pays before it is decided upon: its target against the biggest profile (first,
// last and no path of it), and a patch of 2 KiB read to see what it asks for.
#include <benchmark/benchmark.h>

#include "control/model/fields.hpp"
#include "control/profiles/body.hpp"
#include "control/profiles/load.hpp"

namespace portcullis::profiles {
namespace {

const Profile& Load(const char* name) {
  static const auto kProfiles = *LoadProfiles(SHIPPED_INTERFACES);
  return kProfiles.find(name)->second;
}

void Find(benchmark::State& state, const char* method, const std::string& target, bool found) {
  const Profile& profile = Load("scef");
  for ([[maybe_unused]] auto _ : state) {
    auto match = profile.Find(method, target);
    if (match.has_value() != found) state.SkipWithError("not what was expected");
    benchmark::DoNotOptimize(match);
  }
  state.counters["templates"] = static_cast<double>(profile.paths.size());
}

std::string Patch() {
  std::string body = R"({"id":"7","attributes":{"administrativeState":"UNLOCKED")";
  for (int i = 0; body.size() < 2030; ++i) {
    body += R"(,"attribute)" + std::to_string(i) + R"(":{"value":)" + std::to_string(i) + "}";
  }
  return body + "}}";
}

// What no decision by the body can do without.
void ParseAlone(benchmark::State& state) {
  const std::string body = Patch();
  for ([[maybe_unused]] auto _ : state) {
    auto parsed = model::ParseJson(body);
    benchmark::DoNotOptimize(parsed);
  }
}

void ClassifyPatch(benchmark::State& state) {
  const Profile& profile = Load("management-exposure");
  const auto match = profile.Find("PATCH", "/ProvMnS/v1/SubNetwork=1/NetworkSlice=7");
  const std::string body = Patch();
  for ([[maybe_unused]] auto _ : state) {
    auto classified = Classify(profile, *match, "application/merge-patch+json", body);
    if (!classified) state.SkipWithError("refused");
    benchmark::DoNotOptimize(classified);
  }
}

BENCHMARK_CAPTURE(Find, first, "GET", "/3gpp-monitoring-event/v1/as-1/subscriptions/42", true);
BENCHMARK_CAPTURE(Find, last, "DELETE", "/3gpp-eas-deployment/v1/af-1/eas-deployment-info/42",
                  true);
BENCHMARK_CAPTURE(Find, longest, "GET",
                  "/3gpp-nidd/v1/as-1.vertical.example/configurations/0c9a2b5e-7d0e-4c55-9d07-"
                  "3f1a52bd3b13/downlink-data-deliveries/4b2f7f54-58c5-4d2e-8a39-6f1f0f1f2f3f",
                  true);
BENCHMARK_CAPTURE(Find, query, "GET",
                  "/3gpp-as-session-with-qos/v1/as-1/subscriptions?ip-addrs=%5B%7B%22ipv4Addr%22%3A"
                  "%22198.51.100.7%22%7D%5D&ip-domain=vertical",
                  true);
BENCHMARK_CAPTURE(Find, unlisted, "GET", "/3gpp-unlisted/v1/as-1/subscriptions/42", false);
BENCHMARK_CAPTURE(Find, hostile, "GET", "/3gpp-nidd/v1/as-1/configurations/%2E%2E/42", false);
BENCHMARK(ParseAlone);
BENCHMARK(ClassifyPatch);

}  // namespace
}  // namespace portcullis::profiles

BENCHMARK_MAIN();
