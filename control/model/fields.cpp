#include "control/model/fields.hpp"

#include <algorithm>
#include <cctype>

namespace portcullis::model {

using nlohmann::json;

std::string Describe(const json& value) {
  constexpr size_t kShown = 60;
  constexpr size_t kKeyLike = 32;  // hex digits: a 128-bit key pasted into the wrong field
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    const auto digits = static_cast<size_t>(
        std::count_if(text.begin(), text.end(), [](unsigned char c) { return isxdigit(c) != 0; }));
    if (digits >= kKeyLike) return std::to_string(text.size()) + " characters";
    return text.size() <= kShown ? json(text).dump(-1, ' ', false, json::error_handler_t::replace)
                                 : std::to_string(text.size()) + " characters";
  }
  if (value.is_array()) return "an array of " + std::to_string(value.size());
  if (value.is_object()) return "an object";
  return value.dump();
}

std::optional<uint64_t> AsUnsigned(const json& value) {
  if (value.is_number_unsigned()) return value.get<uint64_t>();
  if (value.is_number_integer() && value.get<int64_t>() >= 0) return value.get<uint64_t>();
  return {};
}

bool IsName(std::string_view text) {
  constexpr size_t kLongest = 63;
  const auto alnum = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  return !text.empty() && text.size() <= kLongest && alnum(text[0]) &&
         std::all_of(text.begin(), text.end(),
                     [&](char c) { return alnum(c) || c == '.' || c == '_' || c == '-'; });
}

namespace {
// Builds the value and sees each member as it comes; json's own reader keeps the last of two.
class StrictReader : public nlohmann::json_sax<json> {
 public:
  static constexpr size_t kDeepest = 32;

  json root;
  bool too_deep = false;
  std::optional<std::string> repeated;
  size_t error_byte = 0;  // counted from 1

  bool null() override { return Add(nullptr); }
  bool boolean(bool value) override { return Add(value); }
  bool number_integer(int64_t value) override { return Add(value); }
  bool number_unsigned(uint64_t value) override { return Add(value); }
  bool number_float(double value, const std::string& /*text*/) override { return Add(value); }
  bool string(std::string& value) override { return Add(std::move(value)); }
  bool binary(json::binary_t& /*value*/) override { return false; }  // not in JSON texts
  bool start_object(size_t /*members*/) override { return Open(json::object()); }
  bool start_array(size_t /*elements*/) override { return Open(json::array()); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }
  bool key(std::string& name) override {
    auto& members = open_.back()->get_ref<json::object_t&>();
    const auto [member, is_new] = members.try_emplace(name);
    if (!is_new) repeated = name;
    member_ = &member->second;
    return is_new;
  }
  bool parse_error(size_t position, const std::string& /*token*/,
                   const json::exception& /*error*/) override {
    error_byte = position;
    return false;
  }

 private:
  json& Place(json&& value) {
    if (open_.empty()) return root = std::move(value);
    if (open_.back()->is_object()) return *member_ = std::move(value);
    return open_.back()->emplace_back(std::move(value));
  }
  bool Add(json&& value) {
    Place(std::move(value));
    return true;
  }
  bool Open(json&& value) {
    too_deep = open_.size() >= kDeepest;
    if (!too_deep) open_.push_back(&Place(std::move(value)));
    return !too_deep;
  }
  bool Close() {
    open_.pop_back();
    return true;
  }

  std::vector<json*> open_;  // from the outside in; none moves while it is open
  json* member_ = nullptr;   // of the innermost one, when it is an object
};
}  // namespace

Result<json> ParseJson(std::string_view text) {
  StrictReader reader;
  if (json::sax_parse(text.begin(), text.end(), &reader)) return std::move(reader.root);
  if (reader.too_deep) {
    return Invalid("", "the body is nested too deeply",
                   fmt::format("at most {} levels", StrictReader::kDeepest), "more");
  }
  if (reader.repeated) {
    return Invalid("", "a member appears twice in one object", "each member once",
                   Describe(*reader.repeated));
  }
  // The library's own text quotes what was last read, which may be a key.
  const size_t at = std::min(reader.error_byte == 0 ? 0 : reader.error_byte - 1, text.size());
  const auto before = text.substr(0, at);
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const auto start = before.rfind('\n');
  const size_t column = start == std::string_view::npos ? at + 1 : at - start;
  return Invalid(fmt::format("line {}, column {}", line, column), "the body is not JSON",
                 "a JSON object");
}

Fields::Fields(const json& value, std::string where, std::optional<Error>& error)
    : where_(std::move(where)), error_(error) {
  if (value.is_object()) {
    object_ = &value;
  } else if (!error_) {
    error_ = Error{ErrorKind::kInvalid, "not an object", where_, "an object", Describe(value)};
  }
}

void Fields::Refuse(const char* field, std::string message, std::string expected,
                    std::string found) {
  if (error_) return;
  error_ = Error{ErrorKind::kInvalid, std::move(message), Pointer(field), std::move(expected),
                 std::move(found)};
}

const json* Fields::Find(const char* field, Presence presence) {
  known_.push_back(field);
  if (object_ == nullptr || error_) return nullptr;
  const auto found = object_->find(field);
  if (found != object_->end()) return &*found;
  if (presence == Presence::required) {
    Refuse(field, "a required field is missing", std::string("the field ") + field, "nothing");
  }
  return nullptr;
}

std::string Fields::Name(const char* field, Presence presence) {
  const json* value = Find(field, presence);
  if (value == nullptr) return {};
  if (value->is_string() && IsName(value->get_ref<const std::string&>())) {
    return value->get<std::string>();
  }
  Refuse(field, "not a name", "1 to 63 of a-z, 0-9, '.', '_', '-', the first a letter or digit",
         Describe(*value));
  return {};
}

std::string Fields::Text(const char* field, size_t longest, Presence presence) {
  const json* value = Find(field, presence);
  if (value == nullptr) return {};
  const size_t least = presence == Presence::required ? 1 : 0;
  if (value->is_string()) {
    const auto& text = value->get_ref<const std::string&>();
    const bool printable =
        std::none_of(text.begin(), text.end(), [](unsigned char c) { return c < ' ' || c == 127; });
    if (printable && text.size() >= least && text.size() <= longest) return text;
  }
  Refuse(field, "not an admitted text",
         fmt::format("{} to {} printable characters", least, longest), Describe(*value));
  return {};
}

bool Fields::Flag(const char* field, bool fallback) {
  const json* value = Find(field, Presence::optional);
  if (value == nullptr) return fallback;
  if (value->is_boolean()) return value->get<bool>();
  Refuse(field, "not true or false", "true or false", Describe(*value));
  return fallback;
}

uint64_t Fields::Number(const char* field, uint64_t least, uint64_t most,
                        std::optional<uint64_t> fallback) {
  const json* value = Find(field, fallback ? Presence::optional : Presence::required);
  if (value == nullptr) return fallback.value_or(least);
  const auto number = AsUnsigned(*value);
  if (number && *number >= least && *number <= most) return *number;
  Refuse(field, "not an admitted number", fmt::format("an integer from {} to {}", least, most),
         Describe(*value));
  return least;
}

namespace {
template <class T>
std::optional<T> Parsed(const json& value, std::optional<Error>& error, const std::string& where,
                        const char* expected) {
  if (!value.is_string()) {
    if (!error) {
      error = Error{ErrorKind::kInvalid, "not a string", where, expected, Describe(value)};
    }
    return {};
  }
  auto parsed = T::Parse(value.get_ref<const std::string&>());
  if (parsed) return *parsed;
  if (!error) {
    error = parsed.error();
    error->where = where;
    error->found = Describe(value);
  }
  return {};
}
constexpr const char* kPrefixText = "a prefix such as 10.0.0.0/8 or 2001:db8::/32";
}  // namespace

std::optional<Address> Fields::Ip(const char* field, Presence presence) {
  const json* value = Find(field, presence);
  if (value == nullptr) return {};
  return Parsed<Address>(*value, error_, Pointer(field),
                         "an IPv4 or IPv6 address such as 192.0.2.1");
}

std::optional<Prefix> Fields::Net(const char* field) {
  const json* value = Find(field, Presence::optional);
  if (value == nullptr) return {};
  return Parsed<Prefix>(*value, error_, Pointer(field), kPrefixText);
}

std::vector<Prefix> Fields::Nets(const char* field, Presence presence) {
  std::vector<Prefix> nets;
  Each(field, presence, [&](const json& element, const std::string& where) {
    if (const auto net = Parsed<Prefix>(element, error_, where, kPrefixText)) nets.push_back(*net);
  });
  return nets;
}

void Fields::Each(const char* field, Presence presence,
                  const std::function<void(const json&, const std::string&)>& read) {
  const json* value = Find(field, presence);
  if (value == nullptr) return;
  if (!value->is_array() || (presence == Presence::required && value->empty())) {
    Refuse(field, "not an array of the expected length",
           presence == Presence::required ? "an array of at least one" : "an array",
           Describe(*value));
    return;
  }
  for (size_t i = 0; i < value->size() && !error_; ++i) {
    read((*value)[i], Pointer(field) + "/" + std::to_string(i));
  }
}

const json* Fields::Object(const char* field, Presence presence) {
  const json* value = Find(field, presence);
  if (value == nullptr || value->is_object()) return value;
  Refuse(field, "not an object", "an object", Describe(*value));
  return nullptr;
}

void Fields::RefuseOthers() {
  if (object_ == nullptr || error_) return;
  const std::set<std::string, std::less<>> known_names(known_.begin(), known_.end());
  for (const auto& [name, value] : object_->items()) {
    if (known_names.contains(name)) continue;
    std::string all;
    for (const auto& known : known_names) all += (all.empty() ? "" : ", ") + known;
    // RFC 6901 3: '~' and '/' in a member's name are escaped in a pointer.
    std::string escaped;
    for (const char c : name.substr(0, 63)) {
      escaped += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
    }
    Refuse(escaped.c_str(), "unknown field", "only " + all, Describe(name));
    return;
  }
}

}  // namespace portcullis::model
