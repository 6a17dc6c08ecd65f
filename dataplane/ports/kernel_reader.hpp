// Reading the kernel's tables by libnl, each whole, and asking it for neighbours. Blocking, but
// only on the kernel; for the main thread.
#pragma once

#include <cstdint>
#include <memory>

#include "base/result.hpp"
#include "dataplane/ports/kernel_routes.hpp"

struct nl_sock;

namespace portcullis {

/// Frees what libnl gave, each kind in its way.
struct NlFree {
  void operator()(nl_sock* socket) const;
};
using NlSocket = std::unique_ptr<nl_sock, NlFree>;
/// A socket of the routing family, connected. Errors: no memory, too many files.
Result<NlSocket> ConnectNetlink();
/// libnl's words for its own error code (negative).
std::string NetlinkText(int code);

class KernelReader {
 public:
  static Result<KernelReader> Open();

  // Each replaces its part of `state`; on error `state` is as it was.
  Result<void> ReadLinks(KernelState& state);
  Result<void> ReadAddresses(KernelState& state);
  Result<void> ReadRoutes(KernelState& state);
  Result<void> ReadNeighbours(KernelState& state);

  /// Asks the kernel to resolve (NTF_USE). `keep`: and to keep it resolved for ever, where the
  /// kernel can (NTF_EXT_MANAGED, 5.16 on; older ones only resolve). Not for entries that are
  /// PERMANENT or NOARP: the kernel would take that away from them.
  Result<void> Ask(int ifindex, const Address& neighbour, bool keep);

 private:
  explicit KernelReader(NlSocket socket) : socket_(std::move(socket)) {}
  NlSocket socket_;
};

}  // namespace portcullis
