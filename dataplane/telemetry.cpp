#include "dataplane/telemetry.hpp"

#include <rte_telemetry.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "dataplane/supervisor.hpp"

namespace portcullis {
namespace {

// What was last read. Telemetry's callbacks carry no context, so there is one for the process; its
// lock is taken by the main and the telemetry thread, never by a worker.
struct Readings {
  CounterValues total;
  std::map<std::string, CounterValues> peers;
  std::map<std::string, CounterValues> sas;
};
struct Shared {
  std::mutex mutex;
  std::shared_ptr<const Readings> readings = std::make_shared<Readings>();
};
Shared& Latest() {
  static Shared shared;
  return shared;
}
std::shared_ptr<const Readings> Take() {
  const std::lock_guard lock(Latest().mutex);
  return Latest().readings;
}

void AddCounters(rte_tel_data* data, const CounterValues& values) {
  rte_tel_data_start_dict(data);
  for (size_t i = 0; i < kVerdictCount; ++i) {
    rte_tel_data_add_dict_u64(data, std::string(kVerdicts[i].name).c_str(), values.packets[i]);
  }
  rte_tel_data_add_dict_u64(data, "bytes", values.bytes);
}

int AnswerCounters(const char*, const char*, rte_tel_data* data) {
  AddCounters(data, Take()->total);
  return 0;
}

// Without a parameter the names, with a name its counters.
int AnswerNamed(const std::map<std::string, CounterValues>& named, const char* name,
                rte_tel_data* data) {
  if (name == nullptr || *name == '\0') {
    rte_tel_data_start_array(data, RTE_TEL_STRING_VAL);
    for (const auto& [key, values] : named) {
      if (rte_tel_data_add_array_string(data, key.c_str()) != 0) break;  // telemetry's own limit
    }
    return 0;
  }
  const auto found = named.find(name);
  if (found == named.end()) return -1;
  AddCounters(data, found->second);
  return 0;
}

int AnswerPeers(const char*, const char* name, rte_tel_data* data) {
  return AnswerNamed(Take()->peers, name, data);
}
int AnswerSas(const char*, const char* name, rte_tel_data* data) {
  return AnswerNamed(Take()->sas, name, data);
}

}  // namespace

Result<void> StartTelemetry(const Supervisor& supervisor) {
  RefreshTelemetry(supervisor);
  struct {
    const char* command;
    telemetry_cb answer;
    const char* help;
  } const commands[] = {
      {"/portcullis/counters", AnswerCounters, "Packets by verdict, all workers"},
      {"/portcullis/peers", AnswerPeers, "Names of the peers, or with a name its counters"},
      {"/portcullis/sas", AnswerSas, "Ids of the SAs, or with an id its counters"},
  };
  for (const auto& c : commands) {
    if (rte_telemetry_register_cmd(c.command, c.answer, c.help) != 0) {
      return Fail(ErrorKind::kInternal, std::string("telemetry refused ") + c.command);
    }
  }
  return {};
}

void RefreshTelemetry(const Supervisor& supervisor) {
  auto readings = std::make_shared<Readings>();
  readings->total = supervisor.Total();
  readings->peers = supervisor.parts().state.PeerCounters();
  for (const auto& [id, sa] : supervisor.parts().state.sas()) {
    readings->sas[id] = sa->counters.Read();
  }
  const std::lock_guard lock(Latest().mutex);
  Latest().readings = std::move(readings);
}

}  // namespace portcullis
