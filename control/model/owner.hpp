// To whom what peers create through the guard belongs.
#pragma once

#include <chrono>
#include <compare>
#include <string>

namespace portcullis::model {

/// A resource of a protected server, as the guard names it.
struct Resource {
  std::string interface;
  std::string kind;  // the profile's name for what the path parameter names
  std::string id;

  auto operator<=>(const Resource&) const = default;
};

struct Owner {
  using Time = std::chrono::system_clock::time_point;

  Resource resource;
  std::string tenant;
  Time since{};  // seconds
};

/// The resource came to be, or it is gone; `owner.tenant` is whoever did it.
struct OwnerChange {
  Owner owner;
  bool gone = false;
};

}  // namespace portcullis::model
