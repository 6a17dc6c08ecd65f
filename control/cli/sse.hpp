// Server-sent events (WHATWG HTML 9.2.6), as much as is needed to get each message's data.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace portcullis::cli {

class SseParser {
 public:
  /// The data of the messages that `bytes` completes.
  std::vector<std::string> Feed(std::string_view bytes);

 private:
  std::string line_;
  std::string data_;
  bool has_data_ = false;
  bool after_cr_ = false;
};

}  // namespace portcullis::cli
