/*
 * deliver.h: takes letters to their addressees.
 */
#ifndef WF_DELIVER_H
#define WF_DELIVER_H

#include "turn.h"

extern bool wf_deliver_is_mine(const WfTurn *turn, int64 instance_id);
extern void wf_deliver_all(WfTurn *turn);
extern void wf_deliver_closed(WfTurn *turn, WfDraft *draft);

#endif
