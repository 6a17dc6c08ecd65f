#include "control/registry/test_store.hpp"

namespace portcullis {
namespace {

using Time = std::chrono::system_clock::time_point;

using StoreRegistrations = InAFolder;

TEST_F(StoreRegistrations, OutliveARestartAndEnd) {
  const Time first{std::chrono::seconds(1'700'000'000)};
  {
    Store store = OpenStore();
    EXPECT_TRUE(store.ReadRegistrations()->empty());
    ASSERT_TRUE(store.AddRegistration("msgin5g", "gw-1", first));
    ASSERT_TRUE(store.AddRegistration("msgin5g", "gw-2", first));
    // Who is registered already stays so since then.
    ASSERT_TRUE(store.AddRegistration("msgin5g", "gw-1", first + std::chrono::hours(1)));
    ASSERT_TRUE(store.RemoveRegistration("msgin5g", "gw-2"));
    ASSERT_TRUE(store.RemoveRegistration("nsmf", "gw-1"));  // another interface
  }
  Store store = OpenStore();
  const auto all = store.ReadRegistrations();
  ASSERT_TRUE(all) << all.error().Text();
  ASSERT_EQ(all->size(), 1U);
  EXPECT_EQ(all->begin()->first, std::pair(std::string("msgin5g"), std::string("gw-1")));
  EXPECT_EQ(all->begin()->second, first);
}

}  // namespace
}  // namespace portcullis
