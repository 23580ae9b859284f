/*
 * deliver.h: takes letters to their addressees.
 */
#ifndef WF_DELIVER_H
#define WF_DELIVER_H

#include "turn.h"

extern void wf_deliver_all(WfTurn *turn);
extern void wf_deliver_unhandled(WfTurn *turn, WfDraft *draft, WfMail *mail);

#endif
