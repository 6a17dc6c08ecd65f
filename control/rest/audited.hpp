// What the audit log gets of a request: nothing for what only reads; one record for what is refused
// before anything happens, as long as
// nobody makes a flood of them (admission/journal.hpp); and for a change one before it and one when
// its outcome is known, so that nothing is done that could not be recorded. Of a body its digest
// and nothing else: it may hold keys.
#pragma once

#include "control/registry/audit/log.hpp"
#include "control/rest/routes.hpp"

namespace portcullis::rest {

class Audited {
 public:
  /// Before anybody wipes the body.
  Audited(Context& context, const Request& request);

  /// Before a change. An error: the log cannot be written, and the change must not be made.
  Result<void> Begin();
  /// What the client is going to be told.
  void End(const Response& response);

 private:
  Context& context_;
  audit::Entry entry_;
  bool reads_;
  bool known_;  // one of the operators, of whom there are few
  bool begun_ = false;
};

}  // namespace portcullis::rest
