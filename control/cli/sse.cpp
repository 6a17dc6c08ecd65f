// See sse.hpp. Lines end in CR LF, LF or CR; a message ends at an empty line.
#include "control/cli/sse.hpp"

#include <utility>

namespace portcullis::cli {

std::vector<std::string> SseParser::Feed(std::string_view bytes) {
  std::vector<std::string> complete;
  for (const char c : bytes) {
    const bool lf_of_crlf = c == '\n' && after_cr_;
    after_cr_ = c == '\r';
    if (lf_of_crlf) continue;
    if (c != '\n' && c != '\r') {
      line_ += c;
      continue;
    }
    const std::string line = std::exchange(line_, {});
    if (line.empty()) {
      if (has_data_) complete.push_back(std::exchange(data_, {}));
      has_data_ = false;
      continue;
    }
    constexpr std::string_view kData = "data";
    const size_t colon = std::min(line.find(':'), line.size());
    if (std::string_view(line).substr(0, colon) != kData) continue;  // id, event, a comment
    std::string_view value = std::string_view(line).substr(std::min(colon + 1, line.size()));
    if (value.starts_with(' ')) value.remove_prefix(1);
    if (has_data_) data_ += '\n';
    data_ += value;
    has_data_ = true;
  }
  return complete;
}

}  // namespace portcullis::cli
