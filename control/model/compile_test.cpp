// What the dataplane gets of a document, told as text so that an expectation reads like a rule.
#include "control/model/compile.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "control/model/json.hpp"
#include "dataplane/steer/messages.hpp"

namespace portcullis::model {
namespace {

using nlohmann::json;

Document Parse(const char* text) {
  return *ParseDocument(json::parse(text));
}

std::string Text(const steer::Selector& s) {
  const auto net = [](bool there, const steer::Prefix& p) {
    return there ? steer::FromMessage(p, "")->Text() : std::string("any");
  };
  const auto ports = [](bool there, const steer::Ports& p) {
    return there ? fmt::format(":{}-{}", p.first(), p.last()) : std::string();
  };
  return fmt::format("{}{} <-> {}{} proto {}", net(s.has_local(), s.local()),
                     ports(s.has_local_ports(), s.local_ports()), net(s.has_remote(), s.remote()),
                     ports(s.has_remote_ports(), s.remote_ports()), s.protocol());
}

std::vector<std::string> Rules(const steer::Peer& peer) {
  std::vector<std::string> out;
  for (const auto& r : peer.rules()) out.push_back(r.policy() + ": " + Text(r.selector()));
  return out;
}

using Texts = std::vector<std::string>;

constexpr const char* kGate = R"({
  "interfaces": [{"name":"nsmf","type":"nf-vi","side":"local",
    "prefixes":["10.2.0.10/32","2001:db8:2::10/128"],
    "ports":[{"protocol":"tcp","first":8080,"last":8081},{"protocol":"icmp"}],
    "zone":"external","protection":"esp"}],
  "peers": [
    {"name":"a","identity":"a","role":"csmf","prefixes":["10.1.0.2/32"],
     "rate":{"packets_per_second":7}},
    {"name":"b","identity":"b","role":"vnfm","prefixes":["10.1.0.3/32"]}],
  "policies": [{"name":"p","role":"csmf","interface":"nsmf",
    "callback_ports":[{"protocol":"tcp","first":9090,"last":9090}]}]})";

TEST(Compile, ServersBehindThisGate) {
  const auto s = CompileFull(Parse(kGate), 7);
  EXPECT_EQ(s.generation(), 7U);
  EXPECT_TRUE(s.full());
  ASSERT_EQ(s.peers_size(), 2);
  EXPECT_EQ(Rules(s.peers(0)), (Texts{"p: 10.2.0.10/32:8080-8081 <-> 10.1.0.2/32 proto 6",
                                      "p: 10.2.0.10/32 <-> 10.1.0.2/32 proto 1",
                                      "p: 10.2.0.10/32 <-> 10.1.0.2/32:9090-9090 proto 6"}));
  EXPECT_EQ(s.peers(0).rate().packets_per_second(), 7U);
  EXPECT_EQ(Rules(s.peers(1)), Texts{});  // its role reaches nothing
  ASSERT_EQ(s.interfaces_size(), 1);
  EXPECT_EQ(s.interfaces(0).prefixes_size(), 2);
  EXPECT_EQ(s.bypasses_size(), 0);
}

TEST(Compile, ServersBehindThePeer) {
  const auto s = CompileFull(Parse(R"({
    "interfaces": [{"name":"nsmf","type":"other","side":"remote","prefixes":["10.2.0.0/24"],
      "ports":[{"protocol":"tcp","first":8080,"last":8080}],"zone":"external","protection":"esp",
      "clients":["10.1.0.2/32"]}],
    "peers": [{"name":"gate","identity":"g","role":"gate",
               "prefixes":["10.2.0.10/32","10.8.0.0/16"]}],
    "policies": [{"name":"p","role":"gate","interface":"nsmf",
      "callback_ports":[{"protocol":"tcp","first":9090,"last":9090}]}]})"),
                             1);
  // Only what is both the interface's and the peer's.
  EXPECT_EQ(Rules(s.peers(0)), (Texts{"p: 10.1.0.2/32 <-> 10.2.0.10/32:8080-8080 proto 6",
                                      "p: 10.1.0.2/32:9090-9090 <-> 10.2.0.10/32 proto 6"}));
}

TEST(Compile, WhatNeedsTlsIsNotReachedPastTheGuard) {
  Document d = Parse(kGate);
  d.interfaces[0].protection = Protection::tls;
  auto s = CompileFull(d, 1);
  EXPECT_EQ(Rules(s.peers(0)), Texts{});
  EXPECT_EQ(s.interfaces_size(), 1);  // and XDP still guards it
  d.interfaces[0].protection = Protection::tls_esp;
  d.interfaces[0].guard = {*Address::Parse("10.9.0.1"), 4443};
  s = CompileFull(d, 1);
  EXPECT_EQ(Rules(s.peers(0)), (Texts{"p: 10.9.0.1/32:4443-4443 <-> 10.1.0.2/32 proto 6",
                                      "p: 10.9.0.1/32 <-> 10.1.0.2/32:9090-9090 proto 6"}));
  ASSERT_EQ(s.interfaces(0).prefixes_size(), 3);  // cleartext to the guard is none
  EXPECT_EQ(steer::FromMessage(s.interfaces(0).prefixes(2), "")->Text(), "10.9.0.1/32");
}

TEST(Compile, AGuardBehindThePeerIsAllThatClientsReach) {
  Document d = Parse(R"({
    "interfaces": [{"name":"nsmf","type":"other","side":"remote","prefixes":["10.2.0.0/24"],
      "ports":[{"protocol":"tcp","first":443,"last":443}],"zone":"external",
      "protection":"tls+esp","clients":["10.1.0.2/32"],
      "guard":{"address":"10.9.0.1","port":4443}}],
    "peers": [{"name":"gate","identity":"g","role":"gate",
               "prefixes":["10.2.0.0/24","10.9.0.1/32"]}],
    "policies": [{"name":"p","role":"gate","interface":"nsmf"}]})");
  EXPECT_EQ(Rules(CompileFull(d, 1).peers(0)),
            Texts{"p: 10.1.0.2/32 <-> 10.9.0.1/32:4443-4443 proto 6"});
  d.peers[0].prefixes.pop_back();
  EXPECT_EQ(Rules(CompileFull(d, 1).peers(0)), Texts{});
}

TEST(Compile, NoProtectionIsABypassAndNoRule) {
  Document d = Parse(kGate);
  d.interfaces[0].zone = Zone::internal;
  d.interfaces[0].protection = Protection::none;
  const auto s = CompileFull(d, 1);
  EXPECT_EQ(Rules(s.peers(0)), Texts{});
  ASSERT_EQ(s.bypasses_size(), 4);
  EXPECT_EQ(Text(s.bypasses(0).selector()), "10.2.0.10/32:8080-8081 <-> any proto 6");
}

TEST(Compile, DisabledPeerIsKnownAndMayNothing) {
  Document d = Parse(kGate);
  d.peers[0].enabled = false;
  const auto s = CompileFull(d, 1);
  ASSERT_EQ(s.peers_size(), 2);
  EXPECT_EQ(Rules(s.peers(0)), Texts{});
}

TEST(Compile, ChangeCarriesOnlyThePeersThatDiffer) {
  const Document before = Parse(kGate);
  Document after = before;
  after.peers[0].rate.packets_per_second = 8;
  auto s = CompileChange(before, 7, after, 8);
  EXPECT_FALSE(s.full());
  EXPECT_EQ(s.base_generation(), 7U);
  EXPECT_EQ(s.generation(), 8U);
  ASSERT_EQ(s.peers_size(), 1);
  EXPECT_EQ(s.peers(0).name(), "a");
  EXPECT_EQ(s.interfaces_size(), 1);

  after = before;
  after.peers.erase(after.peers.begin());
  s = CompileChange(before, 7, after, 8);
  EXPECT_EQ(s.peers_size(), 0);
  ASSERT_EQ(s.removed_peers_size(), 1);
  EXPECT_EQ(s.removed_peers(0), "a");

  after = before;  // a policy change reaches exactly the peers with that role
  after.policies[0].callback_ports.clear();
  s = CompileChange(before, 7, after, 8);
  ASSERT_EQ(s.peers_size(), 1);
  EXPECT_EQ(s.peers(0).name(), "a");
}

}  // namespace
}  // namespace portcullis::model
