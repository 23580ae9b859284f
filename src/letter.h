/*
 * letter.h: what a process sends to others, and what the engine sends for it.
 */
#ifndef WF_LETTER_H
#define WF_LETTER_H

#include "draft.h"

extern void wf_letter_send(WfOutput *output, WfDraft *from, const WfAction *action);
extern void wf_letter_start(WfOutput *output, WfDraft *from, const WfAction *action);
extern void wf_letter_reply(WfOutput *output, WfDraft *from, const WfMail *mail, Jsonb *reply);
extern void wf_letter_cancel(WfOutput *output, WfDraft *from, const char *id, const char *reason, int64 deadline_us);
extern WfMail *wf_letter_deadline(WfOutput *output, WfDraft *draft, int64 deadline_us);
extern void wf_letter_terminate(WfOutput *output, WfDraft *from, const char *id, const char *reason);
extern void wf_letter_monitor(WfOutput *output, WfDraft *from, const char *id, bool on);
extern void wf_letter_close(WfOutput *output, WfDraft *from, const char *what, const char *id);
extern void wf_letter_not_started(WfOutput *output, WfDraft *parent, const char *id, const char *reason);
extern void wf_letter_unknown(WfOutput *output, WfDraft *watcher, const char *id);
extern WfMail *wf_letter_rollout(WfOutput *output, WfDraft *draft, const WfRollout *rollout);
extern void wf_letter_dead(WfOutput *output, const char *sender, TimestampTz at, const char *id, const WfEvent *event,
						   const char *reason);
extern TimestampTz wf_letter_stamp(const WfDraft *from);

#endif
