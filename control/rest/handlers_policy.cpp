// The policy: four kinds of resources with the same five operations, the first line, of which
// there is one, and the document as a whole.
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "control/model/fields.hpp"
#include "control/model/json.hpp"
#include "control/rest/routes.hpp"

namespace portcullis::rest {

using nlohmann::json;

namespace {

// What the four kinds differ in.
template <class T>
struct Kind {
  const char* name;  // "peer"
  const char* list;  // "peers": in the document
  const char* path;  // after /v1/
  std::vector<T> model::Document::*in;
  Result<T> (*parse)(const json&, const std::string&);
};
constexpr Kind<model::Interface> kInterface{"interface", "interfaces", "interfaces",
                                            &model::Document::interfaces, model::ParseInterface};
constexpr Kind<model::Peer> kPeer{"peer", "peers", "peers", &model::Document::peers,
                                  model::ParsePeer};
constexpr Kind<model::Policy> kPolicy{"policy", "policies", "policies", &model::Document::policies,
                                      model::ParsePolicy};
constexpr Kind<model::RequestBlock> kBlock{"block", "request_blocks", "request-blocks",
                                           &model::Document::blocks, model::ParseRequestBlock};

// A strong entity tag (RFC 9110 8.8.3) of what GET shows.
std::string TagOf(const json& shown) {
  constexpr size_t kBytes = 8;
  const std::string text = shown.dump();
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  EVP_Digest(text.data(), text.size(), digest.data(), nullptr, EVP_sha256(), nullptr);
  std::string tag = "\"";
  for (size_t i = 0; i < kBytes; ++i) tag += fmt::format("{:02x}", digest[i]);
  return tag + "\"";
}

Response Tagged(const json& shown) {
  Response response = Json(200, shown);
  response.headers.emplace_back("ETag", TagOf(shown));
  return response;
}

constexpr const char* kStale = "precondition";

// If-Match against what is there now; null: nothing is there. Runs when it is the change's turn.
Result<void> CheckIfMatch(const std::string& if_match, const json& now) {
  if (if_match.empty()) return {};
  const std::string tag = now.is_null() ? "" : TagOf(now);
  if (if_match == tag || (if_match == "*" && !now.is_null())) return {};
  return tl::unexpected(Error{ErrorKind::kConflict, kStale, "If-Match", tag.empty() ? "none" : tag,
                              if_match.substr(0, 63)});
}

Response Refused(const Error& error, const Request& request) {
  if (error.where == "If-Match" && error.message == kStale) {
    Error stale = error;
    stale.message = "it is not, or no longer, the version that If-Match names";
    return Problem(kPrecondition, stale, request.path);
  }
  return Problem(error, request.path);
}

Result<json> Body(Request& request) {
  auto body = model::ParseJson(request.body);
  Wipe(request.body);
  return body;
}

Response Malformed(const Error& error, const Request& request) {
  return Problem(kMalformed, error, request.path);
}

template <class T>
auto Find(std::vector<T>& all, const std::string& name) {
  return std::find_if(all.begin(), all.end(), [&](const T& r) { return r.name == name; });
}

template <class T>
json ListOf(const std::vector<T>& all) {
  json items = json::array();
  for (const auto& r : all) items.push_back(model::ToJson(r));
  return {{"items", std::move(items)}};
}

template <class T>
Answer List(const Kind<T>& kind, Context& context) {
  co_return Tagged(ListOf(context.gate.document().*kind.in));
}

template <class T>
Answer Get(const Kind<T>& kind, Context& context, const Request& request) {
  const auto& all = context.gate.document().*kind.in;
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const T& r) { return r.name == request.name; });
  if (found == all.end()) {
    co_return Problem({ErrorKind::kNotFound,
                       fmt::format("there is no {} '{}'", kind.name, request.name), "", "", ""},
                      request.path);
  }
  co_return Tagged(model::ToJson(*found));
}

// The document's checks point into the document; the client sent one resource, the last of its
// list. A pointer to another one means nothing to the client: the message names both.
Error PointIntoBody(Error error, const std::string& own) {
  if (error.where.starts_with(own + "/")) {
    error.where.erase(0, own.size());
  } else if (error.where.starts_with("/")) {
    error.where.clear();
  }
  return error;
}

// POST and PUT of one resource: the edited one is last, so that of two that contradict each other
// it is the one to blame.
template <class T>
Answer Write(const Kind<T>& kind, Context& context, Request& request, bool create) {
  const auto body = Body(request);
  if (!body) co_return Malformed(body.error(), request);
  auto parsed = kind.parse(*body, "");
  if (!parsed) co_return Problem(parsed.error(), request.path);
  if (!create && parsed->name != request.name) {
    co_return Problem({ErrorKind::kInvalid, "the name differs from the path's", "/name",
                       "\"" + request.name + "\"", "\"" + parsed->name + "\""},
                      request.path);
  }
  const std::string name = parsed->name;
  bool existed = false;
  std::string own;
  const Gate::Edit edit = [&](const model::Document& now) -> Result<model::Document> {
    model::Document wanted = now;
    auto& all = wanted.*kind.in;
    const auto old = Find(all, name);
    existed = old != all.end();
    const json shown = create ? ListOf(all) : existed ? model::ToJson(*old) : json();
    if (auto r = CheckIfMatch(request.if_match, shown); !r) return tl::unexpected(r.error());
    if (existed && create) {
      return tl::unexpected(Error{ErrorKind::kConflict,
                                  fmt::format("there is a {} '{}' already", kind.name, name),
                                  "/name", "a name of its own", "\"" + name + "\""});
    }
    if (existed) all.erase(old);
    all.push_back(std::move(*parsed));
    own = fmt::format("/{}/{}", kind.list, all.size() - 1);
    return wanted;
  };
  const Gate::Wish wish = WishOf(request);
  const auto change = co_await context.gate.Apply(edit, wish);
  if (!change) {
    co_return Refused(own.empty() ? change.error() : PointIntoBody(change.error(), own), request);
  }
  Response response = AnswerTo(*change, wish.dry_run, wish.dry_run || existed ? 200 : 201);
  if (response.status == 201) {
    response.headers.emplace_back("Location", fmt::format("/v1/{}/{}", kind.path, name));
  }
  co_return response;
}

template <class T>
Answer Delete(const Kind<T>& kind, Context& context, Request& request) {
  const Gate::Edit edit = [&](const model::Document& now) -> Result<model::Document> {
    model::Document wanted = now;
    auto& all = wanted.*kind.in;
    const auto old = Find(all, request.name);
    if (old == all.end()) {
      return Fail(ErrorKind::kNotFound,
                  fmt::format("there is no {} '{}'", kind.name, request.name));
    }
    if (auto r = CheckIfMatch(request.if_match, model::ToJson(*old)); !r) {
      return tl::unexpected(r.error());
    }
    all.erase(old);
    return wanted;
  };
  const Gate::Wish wish = WishOf(request);
  const auto change = co_await context.gate.Apply(edit, wish);
  if (change) co_return AnswerTo(*change, wish.dry_run);
  Error error = PointIntoBody(change.error(), "");
  // What remains would be invalid without it: it is in use.
  if (error.kind == ErrorKind::kInvalid) error.kind = ErrorKind::kConflict;
  co_return Refused(error, request);
}

Error NoFirstLine() {
  return {ErrorKind::kNotFound, "no first line is configured: every source is admitted", "", "",
          ""};
}

// Null where there is none.
json FirstLineJson(const model::Document& document) {
  return document.first_line ? model::ToJson(*document.first_line) : json();
}

}  // namespace

Answer ListInterfaces(Context& c, Request&) {
  return List(kInterface, c);
}
Answer CreateInterface(Context& c, Request& r) {
  return Write(kInterface, c, r, true);
}
Answer GetInterface(Context& c, Request& r) {
  return Get(kInterface, c, r);
}
Answer PutInterface(Context& c, Request& r) {
  return Write(kInterface, c, r, false);
}
Answer DeleteInterface(Context& c, Request& r) {
  return Delete(kInterface, c, r);
}
Answer ListPeers(Context& c, Request&) {
  return List(kPeer, c);
}
Answer CreatePeer(Context& c, Request& r) {
  return Write(kPeer, c, r, true);
}
Answer GetPeer(Context& c, Request& r) {
  return Get(kPeer, c, r);
}
Answer PutPeer(Context& c, Request& r) {
  return Write(kPeer, c, r, false);
}
Answer DeletePeer(Context& c, Request& r) {
  return Delete(kPeer, c, r);
}
Answer ListPolicies(Context& c, Request&) {
  return List(kPolicy, c);
}
Answer CreatePolicy(Context& c, Request& r) {
  return Write(kPolicy, c, r, true);
}
Answer GetPolicy(Context& c, Request& r) {
  return Get(kPolicy, c, r);
}
Answer PutPolicy(Context& c, Request& r) {
  return Write(kPolicy, c, r, false);
}
Answer DeletePolicy(Context& c, Request& r) {
  return Delete(kPolicy, c, r);
}

Answer ListRequestBlocks(Context& c, Request&) {
  return List(kBlock, c);
}
Answer CreateRequestBlock(Context& c, Request& r) {
  return Write(kBlock, c, r, true);
}
Answer GetRequestBlock(Context& c, Request& r) {
  return Get(kBlock, c, r);
}
Answer PutRequestBlock(Context& c, Request& r) {
  return Write(kBlock, c, r, false);
}
Answer DeleteRequestBlock(Context& c, Request& r) {
  return Delete(kBlock, c, r);
}

Answer GetFirstLine(Context& context, Request& request) {
  const auto& line = context.gate.document().first_line;
  if (!line) co_return Problem(NoFirstLine(), request.path);
  co_return Tagged(model::ToJson(*line));
}

Answer PutFirstLine(Context& context, Request& request) {
  const auto body = Body(request);
  if (!body) co_return Malformed(body.error(), request);
  auto parsed = model::ParseFirstLine(*body);
  if (!parsed) co_return Problem(parsed.error(), request.path);
  bool existed = false;
  const Gate::Edit edit = [&](const model::Document& now) -> Result<model::Document> {
    existed = now.first_line.has_value();
    if (auto r = CheckIfMatch(request.if_match, FirstLineJson(now)); !r) {
      return tl::unexpected(r.error());
    }
    model::Document wanted = now;
    wanted.first_line = std::move(*parsed);
    return wanted;
  };
  const Gate::Wish wish = WishOf(request);
  const auto change = co_await context.gate.Apply(edit, wish);
  if (!change) co_return Refused(PointIntoBody(change.error(), "/first_line"), request);
  co_return AnswerTo(*change, wish.dry_run, wish.dry_run || existed ? 200 : 201);
}

Answer DeleteFirstLine(Context& context, Request& request) {
  const Gate::Edit edit = [&](const model::Document& now) -> Result<model::Document> {
    if (!now.first_line) return tl::unexpected(NoFirstLine());
    if (auto r = CheckIfMatch(request.if_match, FirstLineJson(now)); !r) {
      return tl::unexpected(r.error());
    }
    model::Document wanted = now;
    wanted.first_line.reset();
    return wanted;
  };
  const Gate::Wish wish = WishOf(request);
  const auto change = co_await context.gate.Apply(edit, wish);
  if (!change) co_return Refused(change.error(), request);
  co_return AnswerTo(*change, wish.dry_run);
}

Answer GetPolicyDocument(Context& context, Request&) {
  Response response = Tagged(model::ToJson(context.gate.document()));
  response.headers.emplace_back("Portcullis-Generation", std::to_string(context.gate.generation()));
  co_return response;
}

Answer PutPolicyDocument(Context& context, Request& request) {
  const auto body = Body(request);
  if (!body) co_return Malformed(body.error(), request);
  auto parsed = model::ParseDocument(*body);
  if (!parsed) co_return Problem(parsed.error(), request.path);
  const bool says_approval = model::Says(*body, "approval");
  const bool says_blocks = model::Says(*body, "request_blocks");
  const bool says_first_line = model::Says(*body, "first_line");
  const Gate::Edit edit = [&](const model::Document& now) -> Result<model::Document> {
    if (auto r = CheckIfMatch(request.if_match, model::ToJson(now)); !r) {
      return tl::unexpected(r.error());
    }
    if (!says_approval) parsed->approval = now.approval;
    if (!says_blocks) parsed->blocks = now.blocks;
    if (!says_first_line) parsed->first_line = now.first_line;
    return std::move(*parsed);
  };
  const Gate::Wish wish = WishOf(request);
  const auto change = co_await context.gate.Apply(edit, wish);
  if (!change) co_return Refused(change.error(), request);
  co_return AnswerTo(*change, wish.dry_run);
}

}  // namespace portcullis::rest
