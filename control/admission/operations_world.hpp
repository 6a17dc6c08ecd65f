// Operations over the real core, store and audit log: for the tests beside.
#pragma once

#include "control/admission/operations.hpp"
#include "control/admission/requests_world.hpp"

namespace portcullis::admission {

class OperationsWorld : public RequestsWorld {
 protected:
  void SetUp() override {
    RequestsWorld::SetUp();
    journal_.emplace(io_.get_executor(), events_, *log_);
    Begin({});
  }
  void TearDown() override {
    operations_->Stop();
    journal_->Stop();
    RequestsWorld::TearDown();
  }
  using RequestsWorld::Begin;
  void Begin(Operations::Times times) {
    if (operations_) operations_->Stop();
    io_.poll();
    operations_.emplace(io_.get_executor(), *gate_, *permits_, *log_, *journal_, times);
    ASSERT_TRUE(operations_->Restore());
    boost::asio::co_spawn(io_, operations_->Run(), boost::asio::detached);
  }

  admission::Operate Ask(const std::string& operation, const std::string& resource = "",
                         int number = 1) {
    admission::Operate r;
    r.set_id(fmt::format("{:016x}", ++last_));
    r.set_peer(fmt::format("csmf-{}", number));
    r.set_tenant(number == 1 ? "a" : "b");
    r.set_interface("nsmf");
    r.set_method("POST");
    r.set_path("/nsi");
    r.add_operations(operation);
    r.set_kind("slice");
    r.set_resource(resource);
    r.set_change(operation != "nsi:read");
    r.set_source(std::string("\xc0\x00\x02\x02", 4));
    *r.mutable_token() = TokenOf(number);
    return r;
  }
  static admission::Outcome Ended(const std::string& id, uint32_t status = 200) {
    admission::Outcome r;
    r.set_id(id);
    r.set_status(status);
    r.set_request_bytes(7);
    r.set_response_bytes(11);
    return r;
  }
  auto Operate(const admission::Operate& r) { return Run(operations_->Operate(r, 1)); }
  auto Outcome(const admission::Outcome& r) { return Run(operations_->Outcome(r)); }
  identity::Reason WhyNot(const admission::Operate& r) {
    const auto done = Operate(r);
    EXPECT_FALSE(done);
    return done ? identity::Reason::tls_failed : done.error().reason;
  }
  /// Created, all the way.
  void Create(const std::string& resource, int number = 1) {
    const auto r = Ask("nsi:create", "", number);
    ASSERT_TRUE(Operate(r));
    auto ended = Ended(r.id(), 201);
    ended.set_created(resource);
    const auto done = Outcome(ended);
    ASSERT_TRUE(done) << done.error().Text();
  }
  std::string OwnerOf(const std::string& resource) {
    admission::FindOwner r;
    r.set_interface("nsmf");
    r.set_kind("slice");
    r.set_resource(resource);
    const auto tenant = operations_->FindOwner(r);
    EXPECT_TRUE(tenant) << tenant.error().Text();
    return tenant.value_or("?");
  }
  /// Of operations, once everything is written.
  std::vector<nlohmann::json> Records() {
    journal_->Stop();
    std::vector<nlohmann::json> records;
    const auto all = log_->Read(1, 100'000);
    EXPECT_TRUE(all);
    for (const nlohmann::json& record : all.value_or(std::vector<nlohmann::json>{})) {
      if (record["action"] == "operation") records.push_back(record);
    }
    return records;
  }
  [[nodiscard]] uint64_t Counted(const std::string& operation, const std::string& outcome) const {
    const auto at = operations_->counts().find({"nsmf", operation, outcome});
    return at == operations_->counts().end() ? 0 : at->second;
  }

  std::optional<Journal> journal_;
  std::optional<Operations> operations_;
  uint64_t last_ = 0;
};

}  // namespace portcullis::admission
