// Control without a dataplane, a policy of two tenants on an interface whose requests are judged,
// and an audit log: for the tests beside.
#pragma once

#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "control/admission/operations.hpp"
#include "control/admission/permits.hpp"
#include "control/model/json.hpp"
#include "control/registry/audit/test_log.hpp"

namespace portcullis::admission {

class RequestsWorld : public audit::LogTest {
 protected:
  static constexpr std::chrono::seconds kLongest{60};  // on a machine that is busy otherwise

  void SetUp() override {
    LogTest::SetUp();
    log_.emplace(Open());
    link_.emplace(io_.get_executor(), (folder_ / "nobody.sock").string(), events_);
    gate_.emplace(io_.get_executor(), false, std::move(*Store::Open(folder_ / "store.db")), events_,
                  *link_);
    sessions_.emplace(io_.get_executor(), *gate_);
    permits_.emplace(io_.get_executor(), *gate_, *sessions_, std::chrono::milliseconds(300));
    Edit([](model::Document& d) { d = Policy(); });
  }
  void TearDown() override {
    permits_->Stop();
    io_.run_for(std::chrono::seconds(1));
    LogTest::TearDown();
  }

  static model::Document Policy() {
    const auto document = model::ParseDocument(nlohmann::json::parse(R"({
      "interfaces": [
        {"name":"nsmf","type":"management-exposure","side":"local","prefixes":["10.2.0.10/32"],
         "ports":[{"protocol":"tcp","first":443,"last":443}],"zone":"external","protection":"tls"},
        {"name":"oam","type":"other","side":"local","prefixes":["10.2.0.20/32"],
         "ports":[{"protocol":"tcp","first":22,"last":22}],"zone":"internal","protection":"esp"}],
      "peers": [
        {"name":"csmf-1","identity":"csmf-1.example","role":"csmf","tenant":"a","caller_id":"as-1",
         "prefixes":["10.1.0.0/24"],"token":{"issuer":"i","client_id":"csmf-1"}},
        {"name":"csmf-2","identity":"csmf-2.example","role":"csmf","tenant":"b",
         "prefixes":["10.1.1.0/24"],"token":{"issuer":"i","client_id":"csmf-2"}}],
      "policies": [
        {"name":"manage","role":"csmf","interface":"nsmf","scope":"nsi:manage","grant_seconds":600,
         "operations":["nsi:create","nsi:delete","nsi:read"],
         "quotas":[{"operation":"nsi:create","count":3,"seconds":3600}]},
        {"name":"read","role":"csmf","interface":"nsmf","scope":"nsi:read","grant_seconds":300,
         "operations":["nsi:read","nsi:list"]},
        {"name":"nothing","role":"csmf","interface":"nsmf","scope":"nsi:nothing"},
        {"name":"packets","role":"csmf","interface":"oam","scope":"nsi:manage"}]})"));
    EXPECT_TRUE(document) << document.error().Text();
    return *document;
  }

  template <class Condition>
  void Await(Condition condition) {
    const auto give_up = std::chrono::steady_clock::now() + kLongest;
    while (!condition()) {
      ASSERT_LT(std::chrono::steady_clock::now(), give_up);
      io_.restart();
      io_.run_one_for(std::chrono::milliseconds(10));
    }
  }
  /// Its result, once it is there.
  template <class T>
  std::shared_ptr<std::optional<T>> Begin(boost::asio::awaitable<T> work) {
    auto result = std::make_shared<std::optional<T>>();
    boost::asio::co_spawn(io_, std::move(work),
                          [result](const std::exception_ptr& failed, T value) {
                            ASSERT_FALSE(failed);
                            *result = std::move(value);
                          });
    return result;
  }
  template <class T>
  T Run(boost::asio::awaitable<T> work) {
    const auto result = Begin(std::move(work));
    Await([&] { return result->has_value(); });
    return std::move(**result);
  }
  void Edit(const std::function<void(model::Document&)>& change) {
    const Gate::Edit edit = [&](model::Document d) -> Result<model::Document> {
      change(d);
      return d;
    };
    const auto applied = Run(gate_->Apply(edit, {}));
    ASSERT_TRUE(applied) << applied.error().Text();
  }
  void Revoke(model::Revocable what) {
    const auto done = Run(gate_->Revoke({std::move(what), "", "", {}, {}}, {}));
    ASSERT_TRUE(done) << done.error().Text();
  }

  static Token TokenOf(int number = 1, const std::string& scope = "nsi:manage") {
    const auto expiry =
        std::chrono::system_clock::to_time_t(std::chrono::system_clock::now()) + 3600;
    Token token;
    token.set_issuer("i");
    token.set_client_id(fmt::format("csmf-{}", number));
    token.set_subject(token.client_id());
    token.set_jti(fmt::format("t{}", number));
    token.set_kid("k");
    token.add_scopes(scope);
    token.set_expiry(static_cast<uint64_t>(expiry));
    return token;
  }
  static Applicant Csmf(int number = 1, const std::string& scope = "nsi:manage",
                        const std::string& interface = "nsmf") {
    Identity identity;
    identity.set_mode(CERTIFICATE);
    identity.add_names(fmt::format("csmf-{}.example", number));
    identity.set_spki_sha256(fmt::format("key-{}", number));
    identity.set_certificate_not_after(TokenOf().expiry());
    Certificate& own = *identity.add_chain();
    own.set_issuer("CN=below");
    own.set_serial(fmt::format("0{}", number));
    return ApplicantOf(identity, TokenOf(number, scope), interface);
  }
  [[nodiscard]] size_t Told(const std::string& kind) const {
    size_t told = 0;
    for (const Event* event : events_.After(0)) told += event->kind == kind ? 1 : 0;
    return told;
  }

  boost::asio::io_context io_{1};
  Events events_;
  std::optional<AuditLog> log_;
  std::optional<DataplaneLink> link_;
  std::optional<Gate> gate_;
  std::optional<Sessions> sessions_;
  std::optional<Permits> permits_;
};

}  // namespace portcullis::admission
