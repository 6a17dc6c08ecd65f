// For tests: a store in a folder of its own, which can be opened again and again.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <utility>

#include "control/registry/store.hpp"

namespace portcullis {

class InAFolder : public testing::Test {
 protected:
  InAFolder() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "portcullis-store-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
  }
  ~InAFolder() override { std::filesystem::remove_all(folder_); }

  [[nodiscard]] std::string Path() const { return folder_ / "control.db"; }
  Store OpenStore() const {
    auto store = Store::Open(Path());
    EXPECT_TRUE(store) << store.error().Text();
    return std::move(*store);
  }

  std::filesystem::path folder_;
};

}  // namespace portcullis
