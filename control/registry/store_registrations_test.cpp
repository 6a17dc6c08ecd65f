#include <gtest/gtest.h>

#include <filesystem>

#include "control/registry/store.hpp"

namespace portcullis {
namespace {

using Time = std::chrono::system_clock::time_point;

TEST(StoreRegistrations, OutliveARestartAndEnd) {
  std::string pattern =
      (std::filesystem::temp_directory_path() / "portcullis-registrations-XXXXXX").string();
  const std::filesystem::path folder = mkdtemp(pattern.data());
  const Time first{std::chrono::seconds(1'700'000'000)};
  const auto open = [&] { return Store::Open((folder / "control.db").string()); };
  {
    auto store = open();
    ASSERT_TRUE(store) << store.error().Text();
    EXPECT_TRUE(store->ReadRegistrations()->empty());
    ASSERT_TRUE(store->AddRegistration("msgin5g", "gw-1", first));
    ASSERT_TRUE(store->AddRegistration("msgin5g", "gw-2", first));
    // Who is registered already stays so since then.
    ASSERT_TRUE(store->AddRegistration("msgin5g", "gw-1", first + std::chrono::hours(1)));
    ASSERT_TRUE(store->RemoveRegistration("msgin5g", "gw-2"));
    ASSERT_TRUE(store->RemoveRegistration("nsmf", "gw-1"));  // another interface
  }
  auto store = open();
  ASSERT_TRUE(store) << store.error().Text();
  const auto all = store->ReadRegistrations();
  ASSERT_TRUE(all) << all.error().Text();
  ASSERT_EQ(all->size(), 1U);
  EXPECT_EQ(all->begin()->first, std::pair(std::string("msgin5g"), std::string("gw-1")));
  EXPECT_EQ(all->begin()->second, first);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace portcullis
