/*
 * inbox.h: the mail of a process during a turn.
 */
#ifndef WF_INBOX_H
#define WF_INBOX_H

#include "draft.h"

extern int	wf_inbox_compare(const WfPlace *a, const WfPlace *b);
extern WfMail *wf_inbox_make(WfOutput *output, int64 instance_id, const WfEvent *event, int depth);
extern void wf_inbox_add(WfDraft *draft, WfMail *mail);
extern WfMail *wf_inbox_next(const WfDraft *draft, TimestampTz now);
extern void wf_inbox_remove(WfDraft *draft, WfMail *mail);
extern void wf_inbox_drop_deadlines(WfDraft *draft, WfOutput *output);
extern void wf_inbox_set_aside(WfDraft *draft, WfMail *mail);
extern void wf_inbox_offer_again(WfDraft *draft);
extern bool wf_inbox_place(const WfDraft *draft, TimestampTz now, WfPlace *place, bool *unread);
extern void wf_inbox_read(WfDraft *draft, const WfOutput *output);
extern bool wf_inbox_is_terminated(const WfDraft *draft, Snapshot snapshot);
extern List *wf_inbox_rest(const WfDraft *draft);
extern List *wf_inbox_take_all(WfDraft *draft, Snapshot snapshot, int max);

#endif
