#include "control/guard/request/judge.hpp"

#include <gtest/gtest.h>

#include "control/profiles/load.hpp"

namespace portcullis::guard {
namespace {

using identity::Reason;

constexpr const char* kSlices = R"(
name: slices
title: Slices
source: none, for tests
operations: { read: [monitor], change: [create, modify] }
apis:
  - name: slice
    title: Slices
    resource: [id]
    paths:
      - path: /slices/{id}
        PUT: { operation: create, creates: path }
        PATCH: modify
        GET: monitor
)";

class JudgeTest : public testing::Test {
 protected:
  JudgeTest() {
    permit_.set_peer("csmf-1");
    permit_.set_tenant("operator-a");
    permit_.set_self("client-1");
    permit_.add_operations("create");
    permit_.add_operations("monitor");
  }

  std::string Ask(std::string_view method, std::string_view path,
                  const std::optional<std::string>& owner,
                  const std::vector<std::string>& callers = {},
                  const std::vector<std::string>& callbacks = {}) {
    const auto match = profile_.Find(method, path);
    if (!match) return std::string(profiles::Info(match.error()).name);
    const Reading reading{method, path, *match, {match->rule->operation}, callers, callbacks};
    const auto judged = Judge(permit_, reading, owner);
    return judged ? "" : std::string(identity::Info(judged.error().reason).name);
  }
  void Block(const std::string& method, const std::string& path) {
    admission::Block& block = *permit_.add_blocks();
    block.set_name("cve");
    block.set_method(method);
    block.set_path(path);
  }

  profiles::Profile profile_ = [] {
    auto loaded = profiles::ParseProfile(kSlices, "slices.yaml");
    if (!loaded) throw std::runtime_error(loaded.error().Text());
    return *std::move(loaded);
  }();
  admission::Permitted permit_;
};

TEST_F(JudgeTest, OnlyOperationsThatAreGranted) {
  EXPECT_EQ(Ask("GET", "/slices/1", "operator-a"), "");
  EXPECT_EQ(Ask("PATCH", "/slices/1", "operator-a"), "operation_denied");
  permit_.add_operations("modify");
  EXPECT_EQ(Ask("PATCH", "/slices/1", "operator-a"), "");
}

TEST_F(JudgeTest, OnlyOnesOwnResources) {
  EXPECT_EQ(Ask("GET", "/slices/1", "operator-b"), "tenant_violation");
  EXPECT_EQ(Ask("GET", "/slices/1", ""), "tenant_violation");
  EXPECT_EQ(Ask("GET", "/slices/1", "operator-a"), "");
  // What is not there yet may be made, and what is somebody else's may not be made again.
  EXPECT_EQ(Ask("PUT", "/slices/1", ""), "");
  EXPECT_EQ(Ask("PUT", "/slices/1", "operator-b"), "tenant_violation");
  // Nobody's is not theirs who belong to nobody.
  permit_.clear_tenant();
  EXPECT_EQ(Ask("GET", "/slices/1", ""), "tenant_violation");
  EXPECT_EQ(Ask("PUT", "/slices/1", ""), "tenant_violation");
}

TEST_F(JudgeTest, OnlyInOnesOwnName) {
  EXPECT_EQ(Ask("GET", "/slices/1", "operator-a", {"client-1"}), "");
  EXPECT_EQ(Ask("GET", "/slices/1", "operator-a", {"client-1", "client-2"}), "tenant_violation");
}

TEST_F(JudgeTest, OnlyToBeCalledWherePolicySays) {
  const auto ask = [&](const std::vector<std::string>& callbacks) {
    return Ask("GET", "/slices/1", "operator-a", {}, callbacks);
  };
  EXPECT_EQ(ask({"https://csmf-1.example/cb"}), "callback_denied");
  permit_.add_callbacks("https://csmf-1.example/");
  permit_.add_callbacks("https://192.0.2.7:8443/cb/");
  EXPECT_EQ(ask({"https://csmf-1.example/cb"}), "");
  EXPECT_EQ(ask({"https://csmf-1.example/cb", "https://192.0.2.7:8443/cb/1"}), "");
  for (const char* other :
       {"https://192.0.2.7:8443/x", "https://192.0.2.7/cb/1", "https://192.0.2.8:8443/cb/1",
        "https://csmf-1.example:8443/cb", "https://csmf-1.example@csmf-2.example/cb",
        "https://csmf-1.example/a/%2e%2e/b", "http://csmf-1.example/cb", "nonsense", ""}) {
    EXPECT_EQ(ask({"https://csmf-1.example/cb", other}), "callback_denied") << other;
  }
}

TEST_F(JudgeTest, BlocksGoBeforeEverything) {
  Block("GET", "/slices/7");
  EXPECT_EQ(Ask("GET", "/slices/7", "operator-a"), "request_blocked");
  EXPECT_EQ(Ask("PUT", "/slices/7", "operator-a"), "");
  EXPECT_EQ(Ask("GET", "/slices/70", "operator-a"), "");
  Block("", "/slices/9*");
  EXPECT_EQ(Ask("PUT", "/slices/9", "operator-a"), "request_blocked");
  EXPECT_EQ(Ask("GET", "/slices/91", "operator-a"), "request_blocked");
  EXPECT_EQ(Ask("GET", "/slices/8", "operator-a"), "");
}

}  // namespace
}  // namespace portcullis::guard
