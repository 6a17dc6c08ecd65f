// Answers of the stage prefilter to the stages beside it; `accepted` where XDP has given them.
#pragma once

#include "dataplane/packet/packet.hpp"
#include "dataplane/packet/verdict.hpp"

namespace portcullis {

class Worker;

/// Of a fragment of ESP or UDP, whatever becomes of it then.
Verdict PrefilterFragment(Worker& worker, Packet& packet) noexcept;
/// Of ESP that belongs to no SA: why it ends, since it may not even be addressed to us.
Verdict JudgeUnknownEsp(Worker& worker, const Packet& packet) noexcept;

}  // namespace portcullis
