// What keeps the keys that pass through this process inside it: no core dump, no debugger of the
// same user, no swap; and freed memory is wiped (wiping_delete.cpp).
#pragma once

namespace portcullis {

/// Call first. What the host does not permit is logged as a warning.
void HardenProcess();

}  // namespace portcullis
