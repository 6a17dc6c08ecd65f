// An interface profile: which paths an interface has, which operation each request is, whose
// resource it is about. It is data (config/interfaces/*.yaml, docs/interface-profiles.md); what is
// not listed is no request of that interface. A profile says what a request is, never whether it is
// allowed: operations are what policies grant.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

#include "control/profiles/fault.hpp"
#include "control/profiles/json_pointer.hpp"
#include "control/profiles/path_template.hpp"

namespace portcullis::profiles {

/// Changes are accounted for before they are made, reads within a bounded delay.
enum class Effect : uint8_t { read, change };

struct Operation {
  std::string name;
  Effect effect = Effect::read;
};
/// Each once; all of them are needed.
using Operations = std::vector<const Operation*>;

/// A member of the body that has this value asks for this operation.
struct StateRule {
  JsonPointer member;
  std::string value;
  const Operation* operation = nullptr;
};
/// Members that need an operation of their own.
struct FenceRule {
  std::vector<JsonPointer> members;
  const Operation* operation = nullptr;
};
/// A member that must be what the path says, where it is there: a parameter, or this text.
struct SameRule {
  JsonPointer member;
  std::optional<size_t> parameter;
  std::string text;
};

struct BodyRules {
  std::vector<StateRule> states;
  std::vector<FenceRule> fences;
  std::vector<SameRule> same;
  std::vector<JsonPointer> only;       // nothing else may be named; empty: anything may
  std::vector<JsonPointer> callers;    // who sends it; must be there
  std::vector<JsonPointer> callbacks;  // where answers are to go

  // Found when the file is read.
  std::vector<JsonPointer> above;   // what holds any of these members, each once
  std::vector<JsonPointer> all;     // these members, and …
  std::vector<JsonPointer> folded;  // … each of them, folded
  [[nodiscard]] bool empty() const {
    return states.empty() && fences.empty() && same.empty() && only.empty() && callers.empty() &&
           callbacks.empty();
  }
};

struct Api;

/// Where the id of what a request made is found.
struct Creates {
  enum class From : uint8_t { nothing, path, location, member };
  From from = From::nothing;
  JsonPointer member;       // of the answer's body
  const Api* of = nullptr;  // whose resource it is
};

/// One method of one path.
struct Rule {
  std::string method;
  const Operation* operation = nullptr;
  Operations replaces;                   // needed instead when the resource is there already
  std::vector<std::string> queries;      // the parameters that it may have
  std::vector<std::string> media_types;  // of its body, in lower case; empty: any
  BodyRules body;
  Creates creates;
  bool deletes = false;  // the resource is gone afterwards
};

/// What belongs together: one API of a standard, whose resources are of one kind.
struct Api {
  std::string name;
  std::string title;
  std::string base;
  std::string caller;  // the parameter that must be the peer's own id; may be empty
  std::vector<std::string>
      resource;  // the parameters that name a resource, the last one its own id
};

struct Path {
  PathTemplate form;
  const Api* api = nullptr;
  std::optional<size_t> caller;   // of the form's parameters
  std::vector<size_t> resource;   // of the form's parameters; empty: about no one resource
  std::vector<size_t> container;  // of the resource's parameters, all but its own id
  std::vector<Rule> rules;
};

/// What the trusted side sends to peers.
struct Egress {
  const Operation* operation = nullptr;
  std::string method;
  std::optional<PathTemplate> path;  // at the peer's own address
  std::vector<std::string> queries;
  std::vector<const Api*> apis;  // where there is no path: callbacks given in requests of these
};

/// Ids are decoded, so that they compare with those in answers and in operators' hands.
struct Resource {
  std::string_view kind;  // the API's name
  std::string id;         // its parameters, joined by slashes
};

/// What a request is. Views into the target and pointers into the profile.
struct Match {
  const Path* path = nullptr;
  const Rule* rule = nullptr;
  PathTemplate::Values values;

  /// Until the body has been seen (Classify), the operation is not known.
  [[nodiscard]] bool NeedsBody() const { return !rule->body.empty(); }
  [[nodiscard]] std::string_view Value(std::string_view parameter) const;
  [[nodiscard]] std::optional<std::string> Caller() const;
  [[nodiscard]] std::optional<Resource> About() const;
  /// What the request made, once the answer says that it did. Nothing: the answer does not say it
  /// where the profile expects it, or not in a form that could come again in a path.
  [[nodiscard]] std::optional<Resource> Created(std::string_view location,
                                                std::string_view answer) const;
};

/// What an interface may have before the paths of its profile: nothing, or a canonical path.
bool IsRoot(std::string_view text);

class Profile {
 public:
  static constexpr size_t kBodyLimit = 65536;

  std::string name;
  std::string title;
  std::string source;
  size_t body_limit = kBodyLimit;  // of bodies that decide
  std::vector<Operation> operations;
  const Operation* opens = nullptr;   // before it has succeeded, a peer may do nothing else …
  const Operation* closes = nullptr;  // … and after this one again
  std::vector<Api> apis;
  std::vector<Path> paths;  // the more concrete ones first
  std::vector<Egress> egress;

  Profile() = default;
  // Pointers into the vectors: they survive being moved, not being copied.
  Profile(const Profile&) = delete;
  Profile& operator=(const Profile&) = delete;
  Profile(Profile&&) = default;
  Profile& operator=(Profile&&) = default;
  ~Profile() = default;

  /// `target` is the request-target as it came; `root` is what the interface has before every path
  /// of its profile (IsRoot).
  [[nodiscard]] tl::expected<Match, Fault> Find(std::string_view method, std::string_view target,
                                                std::string_view root = {}) const;
  /// What the trusted side may send to a path of a peer; never a callback.
  [[nodiscard]] tl::expected<const Egress*, Fault> FindEgress(std::string_view method,
                                                              std::string_view target,
                                                              std::string_view root = {}) const;
  /// Null: there is none of that name.
  [[nodiscard]] const Operation* FindOperation(std::string_view operation) const;
};

}  // namespace portcullis::profiles
