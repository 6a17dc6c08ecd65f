#include "control/registry/audit/verify.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <vector>

namespace portcullis::audit {

using nlohmann::json;

namespace {

class Verifier {
 public:
  explicit Verifier(const Against& against) : against_(against) {}

  /// Takes the next line, without its newline. Nothing: it is sound.
  std::optional<Finding> Take(std::string_view text) {
    const uint64_t number = report_.count + 1;
    const auto line = ParseLine(text);
    if (!line) return Wrong(number, "not a record: expected a hash, a blank and JSON");
    if (Chain(report_.head, line->json) != line->hash) {
      return Wrong(number, NotTheNext(number, line->json));
    }
    const json record = json::parse(line->json, nullptr, /*allow_exceptions=*/false);
    if (NumberOf(record) != number) {
      return Wrong(number, fmt::format("it is numbered {}", Shown(NumberOf(record))));
    }
    if (const auto checkpoint = CheckpointIn(record)) {
      if (auto wrong = CheckInner(number, *checkpoint)) return wrong;
      ++report_.checkpoints;
      report_.covered = report_.count;
    }
    if (against_.anchor && against_.anchor->count == number &&
        against_.anchor->head != line->hash) {
      return Wrong(number, fmt::format("it or one before it is not the one that the anchor of {} "
                                       "names: the log was written anew",
                                       against_.anchor->time));
    }
    report_.count = number;
    report_.head = line->hash;
    report_.bytes += text.size() + 1;
    return {};
  }

  /// After the last line.
  std::optional<Finding> End() const {
    if (!against_.anchor || against_.anchor->count <= report_.count) return {};
    return Wrong(
        report_.count + 1,
        fmt::format("it is missing: the log was cut off, the anchor of {} counts {} records",
                    against_.anchor->time, against_.anchor->count));
  }

  Report& report() { return report_; }

 private:
  static Finding Wrong(uint64_t number, std::string text) { return {number, std::move(text)}; }

  static std::optional<uint64_t> NumberOf(const json& record) {
    const auto at = record.is_object() ? record.find("number") : record.end();
    if (at == record.end() || !at->is_number_unsigned()) return {};
    return at->get<uint64_t>();
  }
  static std::string Shown(std::optional<uint64_t> number) {
    return number ? std::to_string(*number) : "not at all";
  }

  // What breaks the chain, as far as it can be told: a record that is missing, moved or put in
  // announces itself by its number.
  static std::string NotTheNext(uint64_t number, std::string_view text) {
    const auto found = NumberOf(json::parse(text, nullptr, /*allow_exceptions=*/false));
    if (found == number) {
      return number == 1 ? "its content is not what its hash was made of"
                         : fmt::format(
                               "its hash does not follow from record {}: one of the two was "
                               "changed",
                               number - 1);
    }
    return fmt::format("another record stands in its place, numbered {}", Shown(found));
  }

  // The chain up to here was followed, so the checkpoint must say what was seen.
  std::optional<Finding> CheckInner(uint64_t number, const Result<Checkpoint>& checkpoint) const {
    if (!checkpoint) return Wrong(number, "it claims to be a checkpoint but is none");
    if (checkpoint->count != report_.count || checkpoint->head != report_.head) {
      return Wrong(number, fmt::format("the checkpoint contradicts the records before it; the last "
                                       "{} were written anew",
                                       report_.count - report_.covered));
    }
    return CheckSignature(number, *checkpoint, "the checkpoint");
  }

  std::optional<Finding> CheckSignature(uint64_t number, const Checkpoint& checkpoint,
                                        const char* what) const {
    if (!against_.key) return {};
    if (const std::string key = against_.key->Fingerprint(); checkpoint.key != key) {
      return Wrong(number, fmt::format("{} names key {}, expected {}", what,
                                       checkpoint.key.substr(0, 2 * kHashBytes), key));
    }
    if (!against_.key->Verifies(checkpoint.SignedText(), checkpoint.signature)) {
      return Wrong(number, fmt::format("the signature of {} is wrong", what));
    }
    return {};
  }

  const Against& against_;
  Report report_;
};

}  // namespace

Result<Report> Verify(const std::string& path, const Against& against,
                      const std::function<void(uint64_t offset)>& on_record) {
  const auto unreadable = [&] {
    return Invalid(path, "the audit log cannot be read", "a readable file", std::strerror(errno));
  };
  if (against.anchor && against.key &&
      (against.anchor->key != against.key->Fingerprint() ||
       !against.key->Verifies(against.anchor->SignedText(), against.anchor->signature))) {
    return Invalid("anchor", "the anchor is not signed with the key", against.key->Fingerprint(),
                   against.anchor->key.substr(0, 2 * kHashBytes));
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) return unreadable();
  Verifier verifier(against);
  Report& report = verifier.report();
  std::vector<char> line(kLongestLine);
  while (!report.wrong) {
    file.getline(line.data(), static_cast<std::streamsize>(line.size()));
    const auto got = static_cast<uint64_t>(file.gcount());
    if (file.bad()) return unreadable();
    if (file.eof()) {  // no newline came
      report.incomplete_bytes = got;
      break;
    }
    if (file.fail()) {
      report.wrong = {report.count + 1,
                      fmt::format("longer than {} bytes, which no record is", kLongestLine)};
      break;
    }
    const uint64_t offset = report.bytes;
    report.wrong = verifier.Take(std::string_view(line.data(), got - 1));
    if (!report.wrong && on_record) on_record(offset);
  }
  if (!report.wrong) report.wrong = verifier.End();
  return std::move(report);
}

}  // namespace portcullis::audit
