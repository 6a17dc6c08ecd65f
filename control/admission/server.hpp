// The socket at which the guard asks control (admission.proto). Whoever is not the guard's user or
// root is turned away by the kernel's word for who connects (SO_PEERCRED). The guard parses hostile
// bytes and may be taken over: what it says is checked here as any other input, and it can have
// nothing that policy does not give the peers it speaks for.
#pragma once

#include <sys/types.h>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <memory>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "control/admission/admission.pb.h"
#include "control/admission/guard_state.hpp"
#include "control/admission/journal.hpp"
#include "control/admission/operations.hpp"
#include "control/admission/permits.hpp"
#include "control/admission/sessions.hpp"

namespace portcullis::admission {

struct ServerSettings {
  std::string path;
  std::vector<uid_t> users;  // beside root
};

/// What its requests are worked on with; all of it outlives the server.
struct Context {
  const Gate& gate;
  Sessions& sessions;
  Permits& permits;
  Operations& operations;
  Journal& journal;
  GuardState& guard;
  Events& events;
};

class Server {
 public:
  /// kUnavailable when the socket cannot be made. A socket that a dead process left is replaced.
  static Result<Server> Listen(const boost::asio::any_io_executor& executor,
                               ServerSettings settings, Context context);

  /// Accepts until Stop().
  boost::asio::awaitable<void> Run();
  void Stop();

 private:
  struct State;
  explicit Server(std::shared_ptr<State> state) : state_(std::move(state)) {}
  std::shared_ptr<State> state_;
};

/// One request, as the socket carries it, of the guard that has this number; its keys are wiped.
/// All outlive the answer.
boost::asio::awaitable<Response> Answer(Context& context, Request& request, uint64_t guard);

}  // namespace portcullis::admission
