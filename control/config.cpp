#include "control/config.hpp"

#include <pwd.h>
#include <yaml-cpp/yaml.h>

#include <filesystem>
#include <optional>
#include <set>
#include <stdexcept>

#include "control/config_operators.hpp"
#include "control/identity/private_key.hpp"

namespace portcullis {

namespace {

// Carries the first error out of the reading below; start-up is where exceptions are for.
struct Wrong : std::runtime_error {
  explicit Wrong(Error e) : std::runtime_error(e.Text()), error(std::move(e)) {}
  Error error;
};

class Section {
 public:
  Section(std::string file, const YAML::Node& node, std::string path)
      : file_(std::move(file)), node_(node), path_(std::move(path)) {
    if (!node_.IsMap()) Refuse(node_, "", "not a mapping", "a mapping", "something else");
  }

  std::string Text(const char* field) { return Scalar(field, "a text"); }

  bool Flag(const char* field, bool fallback) {
    const YAML::Node value = Find(field);
    if (!value) return fallback;
    bool flag = false;
    if (!value.IsScalar() || !YAML::convert<bool>::decode(value, flag)) {
      Refuse(value, field, "not true or false", "true or false", Shown(value));
    }
    return flag;
  }

  uint32_t Number(const char* field, uint32_t fallback, uint32_t least, uint32_t most) {
    const YAML::Node value = Find(field);
    if (!value) return fallback;
    uint32_t number = 0;
    if (!value.IsScalar() || !YAML::convert<uint32_t>::decode(value, number) || number < least ||
        number > most) {
      Refuse(value, field, "not an admitted number",
             fmt::format("a number from {} to {}", least, most), Shown(value));
    }
    return number;
  }

  uint16_t Port(const char* field, uint16_t fallback) {
    constexpr uint32_t kMost = 65535;
    return static_cast<uint16_t>(Number(field, fallback, 0, kMost));
  }

  std::string Text(const char* field, const std::string& fallback) {
    return Find(field) ? Text(field) : fallback;
  }

  std::optional<Section> OptionalInner(const char* field) {
    const YAML::Node value = Find(field);
    if (!value) return {};
    return Section(file_, value, Path(field));
  }

  Section Inner(const char* field) {
    const YAML::Node value = Required(field, "a mapping");
    return {file_, value, Path(field)};
  }

  YAML::Node List(const char* field) {
    YAML::Node value = Required(field, "a list");
    if (!value.IsSequence() || value.size() == 0) {
      Refuse(value, field, "not a list with entries", "a list with at least one entry",
             Shown(value));
    }
    return value;
  }

  void RefuseOthers() {
    for (const auto& entry : node_) {
      const auto name = entry.first.as<std::string>("");
      if (known_.contains(name)) continue;
      std::string all;
      for (const auto& known : known_) all += (all.empty() ? "" : ", ") + known;
      Refuse(entry.first, name, "unknown field", "one of " + all, name);
    }
  }

  [[noreturn]] void Refuse(const YAML::Node& at, const std::string& field, std::string message,
                           std::string expected, std::string found) const {
    throw Wrong({ErrorKind::kInvalid, std::move(message),
                 fmt::format("{}:{}: {}", file_, at.Mark().line + 1, Path(field)),
                 std::move(expected), std::move(found)});
  }

  YAML::Node Required(const char* field, const char* expected) {
    YAML::Node value = Find(field);
    if (!value) Refuse(node_, field, "a required field is missing", expected, "nothing");
    return value;
  }

  static std::string Shown(const YAML::Node& value) {
    return value.IsScalar() ? "\"" + value.Scalar() + "\"" : "something else";
  }

 private:
  [[nodiscard]] std::string Path(const std::string& field) const {
    return path_.empty() || field.empty() ? path_ + field : path_ + "." + field;
  }
  YAML::Node Find(const char* field) {
    known_.insert(field);
    return node_[field];
  }
  std::string Scalar(const char* field, const char* expected) {
    const YAML::Node value = Required(field, expected);
    if (!value.IsScalar() || value.Scalar().empty()) {
      Refuse(value, field, "not a text", expected, Shown(value));
    }
    return value.Scalar();
  }

  std::string file_;
  const YAML::Node node_;  // const: operator[] of a mutable one adds what it does not find
  std::string path_;
  std::set<std::string> known_;
};

Syslog::Settings ReadSyslog(Section& syslog) {
  Syslog::Settings settings;
  const YAML::Node address = syslog.Required("address", "an IP address");
  boost::system::error_code wrong;
  settings.address =
      boost::asio::ip::make_address(address.IsScalar() ? address.Scalar() : "", wrong);
  if (wrong) {
    syslog.Refuse(address, "address", "not an IP address", "such as 192.0.2.9",
                  Section::Shown(address));
  }
  settings.port = syslog.Port("port", settings.port);
  const std::string transport = syslog.Text("transport", "udp");
  if (transport != "udp" && transport != "tcp") {
    syslog.Refuse(syslog.Required("transport", ""), "transport", "not a transport", "udp or tcp",
                  "\"" + transport + "\"");
  }
  settings.transport = transport == "tcp" ? Syslog::Transport::tcp : Syslog::Transport::udp;
  syslog.RefuseOthers();
  return settings;
}

// By name, as in the dataplane's configuration.
std::vector<uid_t> ReadUsers(Section& section) {
  std::vector<uid_t> users;
  const YAML::Node names = section.List("users");
  for (const YAML::Node& name : names) {
    const passwd* entry = name.IsScalar() ? getpwnam(name.Scalar().c_str()) : nullptr;
    if (entry == nullptr) {
      section.Refuse(name, "users", "there is no such user", "users of this host",
                     Section::Shown(name));
    }
    users.push_back(entry->pw_uid);
  }
  return users;
}

std::vector<std::chrono::hours> ReadDays(Section& alarms) {
  constexpr uint32_t kMost = 3650;
  std::vector<std::chrono::hours> thresholds;
  const YAML::Node days = alarms.List("days");
  for (const YAML::Node& one : days) {
    uint32_t number = 0;
    if (!one.IsScalar() || !YAML::convert<uint32_t>::decode(one, number) || number < 1 ||
        number > kMost) {
      alarms.Refuse(one, "days", "not a number of days", fmt::format("numbers from 1 to {}", kMost),
                    Section::Shown(one));
    }
    thresholds.emplace_back(std::chrono::days(number));
  }
  return thresholds;
}

ControlConfig Read(const std::string& path) {
  const std::filesystem::path folder = std::filesystem::absolute(path).parent_path();
  const auto from_here = [&](const std::string& file) { return (folder / file).string(); };

  Section top(path, YAML::LoadFile(path), "");
  ControlConfig config;
  config.lab = top.Flag("lab", false);
  config.store = from_here(top.Text("store"));
  config.steering = from_here(top.Text("steering"));

  // Beside the store: a folder that only control writes.
  config.audit.file = std::filesystem::path(config.store).replace_filename("audit.log");
  config.audit.key = std::filesystem::path(config.store).replace_filename("audit.key");
  if (auto audit = top.OptionalInner("audit")) {
    constexpr uint32_t kMost = 1'000'000;
    config.audit.file = from_here(audit->Text("file", config.audit.file));
    config.audit.key = from_here(audit->Text("key", config.audit.key));
    config.audit.checkpoint_every = audit->Number(
        "checkpoint_every", static_cast<uint32_t>(config.audit.checkpoint_every), 1, kMost);
    if (auto syslog = audit->OptionalInner("syslog")) config.syslog = ReadSyslog(*syslog);
    audit->RefuseOthers();
  }

  config.alarms = {std::chrono::days(30), std::chrono::days(7), std::chrono::days(1)};
  if (auto alarms = top.OptionalInner("alarms")) {
    config.alarms = ReadDays(*alarms);
    alarms->RefuseOthers();
  }

  if (auto guard = top.OptionalInner("guard")) {
    config.guard.emplace();
    config.guard->path = from_here(guard->Text("socket"));
    config.guard->users = ReadUsers(*guard);
    guard->RefuseOthers();
  }

  Section rest = top.Inner("rest");
  config.rest.address = rest.Text("address");
  config.rest.port = rest.Port("port", config.rest.port);
  config.rest.tls.certificate = from_here(rest.Text("certificate"));
  config.rest.tls.key = rest.Text("key");
  if (!identity::IsPkcs11Uri(config.rest.tls.key)) {
    config.rest.tls.key = from_here(config.rest.tls.key);
  }
  config.rest.tls.client_ca = from_here(rest.Text("client_ca"));
  rest.List("operators");
  rest.OptionalInner("tokens");
  auto operators = ReadOperators(path);
  if (!operators) throw Wrong(operators.error());
  config.operators = std::move(*operators);
  rest.RefuseOthers();
  top.RefuseOthers();
  return config;
}

}  // namespace

Result<ControlConfig> LoadControlConfig(const std::string& path) {
  try {
    return Read(path);
  } catch (const Wrong& wrong) {
    return tl::unexpected(wrong.error);
  } catch (const YAML::BadFile&) {
    return Invalid(path, "the configuration cannot be read", "a YAML file");
  } catch (const YAML::Exception& e) {
    return Invalid(fmt::format("{}:{}", path, e.mark.line + 1), e.msg, "YAML");
  }
}

}  // namespace portcullis
