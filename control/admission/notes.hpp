// What the journal gets of the guard's requests.
#pragma once

#include "control/admission/server.hpp"

namespace portcullis::admission {

/// A refusal of control's own. Puts its reference in, which the guard tells the peer.
void NoteRefusal(Context& context, const Request& request, Refusal& refusal);
/// One of the guard's, decided before control was asked.
void NoteRefusal(Context& context, const Refused& refused);
void NoteAdmission(Context& context, const Admit& request, const Terms& terms);
void NoteNews(Journal& journal, const SessionNews& news);

}  // namespace portcullis::admission
