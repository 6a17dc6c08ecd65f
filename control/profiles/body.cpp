#include "control/profiles/body.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "control/model/fields.hpp"
#include "control/profiles/target.hpp"

namespace portcullis::profiles {

using nlohmann::json;

namespace {

constexpr std::string_view k3gppJsonPatch = "application/3gpp-json-patch+json";

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return lower;
}

/// type/subtype in lower case (RFC 9110 8.3.1); nothing when there is more than charset=utf-8.
std::optional<std::string> MediaType(std::string_view text) {
  const auto trimmed = [](std::string_view t) {
    constexpr std::string_view kSpace = " \t";
    const size_t start = t.find_first_not_of(kSpace);
    if (start == std::string_view::npos) return std::string_view();
    return t.substr(start, t.find_last_not_of(kSpace) - start + 1);
  };
  const size_t end = text.find(';');
  if (end != std::string_view::npos) {
    const std::string parameter = Lower(trimmed(text.substr(end + 1)));
    if (parameter != "charset=utf-8" && parameter != "charset=\"utf-8\"") return {};
  }
  return Lower(trimmed(text.substr(0, end)));
}

/// Reads one body. The first thing that is wrong stays, and ends it.
class Reader {
 public:
  explicit Reader(const Match& match) : match_(match), rules_(match.rule->body) {}

  void ReadPatch(const json& patch, bool of_3gpp);
  void ReadTree(const json& document) {
    if (!document.is_object()) {
      return Refuse(Fault::body_malformed, {}, "not an object", "an object",
                    model::Describe(document));
    }
    Visit({}, document);
  }
  tl::expected<Classified, BodyRefusal> Finish();

 private:
  /// How a member is touched: set to a value; only compared; or changed to what is not in the body.
  enum class How : uint8_t { set, test, unknown };

  void PatchOne(const json& one, const std::string& where, bool of_3gpp);
  std::optional<JsonPointer> Place(const json& one, const char* field, const std::string& where,
                                   bool of_3gpp);
  void Visit(const JsonPointer& at, const json& value);
  void Replace(const JsonPointer& at, const json& value);
  void Touch(const JsonPointer& at, How how, const json* value);
  void TouchState(const JsonPointer& at, How how, const json* value);
  void TouchSame(const SameRule& rule, How how, const json* value);
  void Collect(const std::vector<JsonPointer>& members, const JsonPointer& at, How how,
               const json* value, bool may_go, std::vector<std::string>& into);

  /// A rule is about a member below.
  /// It is not a member that decides, but some reader would take it for one.
  [[nodiscard]] bool IsMistakable(const JsonPointer& at) const;
  [[nodiscard]] bool Decides(const JsonPointer& at) const {
    return std::ranges::find(rules_.above, at) != rules_.above.end();
  }
  void Need(const Operation* operation) {
    auto& all = found_.operations;
    if (std::ranges::find(all, operation) == all.end()) all.push_back(operation);
  }
  void Refuse(Fault fault, std::string where, std::string message, std::string expected,
              std::string found) {
    if (refusal_) return;
    refusal_ = BodyRefusal{fault, Error{ErrorKind::kInvalid, std::move(message), std::move(where),
                                        std::move(expected), std::move(found)}};
  }

  const Match& match_;
  const BodyRules& rules_;
  Classified found_;
  size_t callers_seen_ = 0;
  std::optional<BodyRefusal> refusal_;
};

bool Reader::IsMistakable(const JsonPointer& at) const {
  const JsonPointer folded = at.Folded();
  for (size_t i = 0; i < rules_.all.size(); ++i) {
    const bool alike = rules_.folded[i].Holds(folded) || folded.Holds(rules_.folded[i]);
    const bool exact = rules_.all[i].Holds(at) || at.Holds(rules_.all[i]);
    if (alike && !exact) return true;
  }
  return false;
}

void Reader::Visit(const JsonPointer& at, const json& value) {
  if (!Decides(at)) return Touch(at, How::set, &value);
  if (!value.is_object()) {
    // Null in a merge patch removes it, with all that decides.
    return Refuse(Fault::body_undecided, at.Text(), "members of it decide, and it has none",
                  "an object", model::Describe(value));
  }
  JsonPointer member = at;
  member.tokens.emplace_back();
  for (const auto& [name, inner] : value.items()) {
    member.tokens.back() = name;
    Visit(member, inner);
  }
}

/// Not merged: what the value does not say is gone.
void Reader::Replace(const JsonPointer& at, const json& value) {
  Visit(at, value);
  if (!Decides(at)) return;
  Need(match_.rule->operation);
  for (const FenceRule& fence : rules_.fences) {
    const auto below = [&](const JsonPointer& member) { return at.Holds(member); };
    if (std::ranges::any_of(fence.members, below)) Need(fence.operation);
  }
  for (const StateRule& state : rules_.states) {
    if (at.Holds(state.member) && state.member.In(value, at.tokens.size()) == nullptr) {
      Refuse(Fault::body_undecided, at.Text(), "this would remove " + state.member.Text(),
             "the member with its value, or changes of single members", "neither");
    }
  }
}

void Reader::TouchState(const JsonPointer& at, How how, const json* value) {
  if (how == How::test) return;  // it must have this value already
  std::string all;
  for (const StateRule& rule : rules_.states) {
    if (!rule.member.Holds(at)) continue;
    const bool it = how == How::set && rule.member == at && value->is_string();
    if (it && value->get_ref<const std::string&>() == rule.value) return Need(rule.operation);
    all += (all.empty() ? "" : ", ") + rule.value;
  }
  Refuse(Fault::body_undecided, at.Text(), "its value decides about the operation", "one of " + all,
         value == nullptr ? "no value" : model::Describe(*value));
}

void Reader::TouchSame(const SameRule& rule, How how, const json* value) {
  const std::string text = rule.parameter ? Decoded(match_.values[*rule.parameter]) : rule.text;
  if (how != How::unknown && *value == json(text)) return;
  Refuse(Fault::body_contradicts, rule.member.Text(), "not what the path says",
         model::Describe(text), value == nullptr ? "no value" : model::Describe(*value));
}

void Reader::Collect(const std::vector<JsonPointer>& members, const JsonPointer& at, How how,
                     const json* value, bool may_go, std::vector<std::string>& into) {
  for (const JsonPointer& member : members) {
    if (!member.Holds(at) || how == How::test) continue;
    if (how == How::set && member == at && value->is_string()) {
      into.push_back(value->get<std::string>());
    } else if (!(may_go && how == How::set && member == at && value->is_null())) {
      Refuse(Fault::body_undecided, at.Text(), "its value must be known", "a string",
             value == nullptr ? "no value" : model::Describe(*value));
    }
  }
}

void Reader::Touch(const JsonPointer& at, How how, const json* value) {
  if (IsMistakable(at)) {
    return Refuse(Fault::body_undecided, at.Text(), "too like a member that decides",
                  "names as the standard writes them", "upper and lower case differ");
  }
  const auto holds = [&](const JsonPointer& member) { return member.Holds(at); };
  if (!rules_.only.empty() && std::ranges::none_of(rules_.only, holds)) {
    std::string all;
    for (const auto& member : rules_.only) all += (all.empty() ? "" : ", ") + member.Text();
    return Refuse(Fault::body_unlisted, at.Text(), "a member that may not be named here", all,
                  "another one");
  }
  if (std::ranges::any_of(rules_.states, holds, &StateRule::member)) {
    return TouchState(at, how, value);
  }
  const auto same = std::ranges::find_if(rules_.same, holds, &SameRule::member);
  if (same != rules_.same.end()) {
    return same->member == at ? TouchSame(*same, how, value)
                              : TouchSame(*same, How::unknown, nullptr);
  }
  Collect(rules_.callers, at, how, value, false, found_.callers);
  Collect(rules_.callbacks, at, how, value, true, found_.callbacks);
  const auto fence = std::ranges::find_if(
      rules_.fences, [&](const auto& f) { return std::ranges::any_of(f.members, holds); });
  Need(fence != rules_.fences.end() ? fence->operation : match_.rule->operation);
}

void Reader::ReadPatch(const json& patch, bool of_3gpp) {
  if (!patch.is_array()) {
    return Refuse(Fault::body_malformed, {}, "not a JSON Patch", "an array (RFC 6902 3)",
                  model::Describe(patch));
  }
  for (size_t i = 0; i < patch.size() && !refusal_; ++i) {
    PatchOne(patch[i], "/" + std::to_string(i), of_3gpp);
  }
}

std::optional<JsonPointer> Reader::Place(const json& one, const char* field,
                                         const std::string& where, bool of_3gpp) {
  const char* expected = of_3gpp ? "#/member of the resource itself" : "a JSON pointer (RFC 6901)";
  const auto found = one.find(field);
  if (found != one.end() && found->is_string()) {
    std::string_view text = found->get_ref<const std::string&>();
    // TS 32.158: a resource below the one addressed, then # and the pointer. Only the one addressed
    // has been looked up; a percent sign could be decoded into another name.
    if (of_3gpp && text.starts_with('#')) text.remove_prefix(1);
    const bool own = !of_3gpp || text.find_first_of("#%") == std::string_view::npos;
    if (auto pointer = own ? JsonPointer::Parse(text) : std::nullopt) return pointer;
  }
  Refuse(Fault::body_malformed, where + "/" + field, "not a place in the resource", expected,
         found == one.end() ? "nothing" : model::Describe(*found));
  return {};
}

void Reader::PatchOne(const json& one, const std::string& where, bool of_3gpp) {
  enum class Does : uint8_t { sets, tests, removes, takes };
  constexpr model::Choices<std::pair<Does, bool>, 6> kOps = {{{"add", {Does::sets, false}},
                                                              {"replace", {Does::sets, false}},
                                                              {"test", {Does::tests, false}},
                                                              {"remove", {Does::removes, false}},
                                                              {"move", {Does::takes, true}},
                                                              {"copy", {Does::takes, false}}}};
  const auto op = std::ranges::find_if(kOps, [&](const auto& known) {
    return one.is_object() && one.contains("op") && one["op"] == known.first;
  });
  if (op == kOps.end()) {
    return Refuse(Fault::body_malformed, where + "/op", "not an operation of RFC 6902",
                  "one of add, replace, test, remove, move, copy", "another one");
  }
  const auto [does, moves] = op->second;
  const bool has_value = does == Does::sets || does == Does::tests;
  const char* argument = has_value ? "value" : "from";
  const size_t members = does == Does::removes ? 2 : 3;
  if (one.size() != members || (members == 3 && !one.contains(argument))) {
    return Refuse(Fault::body_malformed, where, "not the members that this operation has",
                  members == 2 ? "op, path" : std::string("op, path, ") + argument, "others");
  }
  const auto at = Place(one, "path", where, of_3gpp);
  const auto from = does == Does::takes ? Place(one, "from", where, of_3gpp) : at;
  if (!at || !from) return;
  if (does == Does::sets) return Replace(*at, one["value"]);
  // Whoever moves, copies, removes or compares what holds members that decide is asked to name
  // them.
  for (const JsonPointer& place : {*at, *from}) {
    if (!Decides(place)) continue;
    return Refuse(Fault::body_undecided, where, "members of " + place.Text() + " decide",
                  "operations on single members, or replace with a value", "the whole");
  }
  if (does == Does::tests) return Touch(*at, How::test, &one["value"]);
  Touch(*at, How::unknown, nullptr);
  if (moves) Touch(*from, How::unknown, nullptr);
}

tl::expected<Classified, BodyRefusal> Reader::Finish() {
  if (!refusal_ && found_.callers.size() < rules_.callers.size()) {
    Refuse(Fault::body_caller_missing, rules_.callers.front().Text(), "who sends it is not said",
           "the sender's own id", "nothing");
  }
  if (refusal_) return tl::unexpected(*refusal_);
  // Only a patch may be nothing but a change of state.
  if (match_.rule->method != "PATCH" || found_.operations.empty()) Need(match_.rule->operation);
  return std::move(found_);
}

}  // namespace

bool IsJsonPatch(std::string_view media_type) {
  return media_type.ends_with("json-patch+json");
}

bool IsJson(std::string_view media_type) {
  return media_type == "application/json" || media_type.ends_with("+json");
}

bool Accepts(const Rule& rule, std::string_view media_type) {
  if (rule.media_types.empty()) return true;
  const auto type = MediaType(media_type);
  return type && std::ranges::find(rule.media_types, *type) != rule.media_types.end();
}

tl::expected<Classified, BodyRefusal> Classify(const Profile& profile, const Match& match,
                                               std::string_view media_type, std::string_view body) {
  const auto refuse = [](Fault fault, std::string expected, std::string found) {
    return tl::unexpected(BodyRefusal{fault, Error{ErrorKind::kInvalid,
                                                   std::string(Info(fault).text),
                                                   {},
                                                   std::move(expected),
                                                   std::move(found)}});
  };
  if (!Accepts(*match.rule, media_type)) {
    return refuse(Fault::body_media_type,
                  fmt::format("{}", fmt::join(match.rule->media_types, ", ")),
                  model::Describe(std::string(media_type)));
  }
  if (body.size() > profile.body_limit) {
    return refuse(Fault::body_too_large, fmt::format("at most {} octets", profile.body_limit),
                  std::to_string(body.size()));
  }
  // Some readers pass over a byte order mark, others are at a loss (RFC 8259 8.1).
  if (body.starts_with("\xEF\xBB\xBF")) {
    return refuse(Fault::body_malformed, "JSON from its first octet", "a byte order mark");
  }
  const auto parsed = model::ParseJson(body);
  if (!parsed) return tl::unexpected(BodyRefusal{Fault::body_malformed, parsed.error()});
  const std::string type = *MediaType(media_type);
  Reader reader(match);
  if (IsJsonPatch(type)) {
    reader.ReadPatch(*parsed, type == k3gppJsonPatch);
  } else {
    reader.ReadTree(*parsed);
  }
  return reader.Finish();
}

}  // namespace portcullis::profiles
