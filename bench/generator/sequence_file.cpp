#include "bench/generator/sequence_file.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <fstream>

#include "bench/generator/options.hpp"

namespace portcullis::generator {

SequenceFile::SequenceFile(std::string path, uint64_t packets) : path_(std::move(path)) {
  if (path_.empty()) return;
  if (std::ifstream file(path_); file && !(file >> first_)) {
    Die(fmt::format("{}: expected a number", path_));
  }
  Write(first_ + packets);
}

void SequenceFile::Used(uint64_t highest) {
  if (!path_.empty()) Write(highest + 1);
}

void SequenceFile::Write(uint64_t next) const {
  const std::string part = path_ + ".part";  // renamed, so that a half-written number is never read
  std::ofstream file(part, std::ios::trunc);
  file << next << '\n';
  file.close();
  if (!file || std::rename(part.c_str(), path_.c_str()) != 0) Die("cannot write " + path_);
}

}  // namespace portcullis::generator
