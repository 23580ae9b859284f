/*
 * draft_internal.h: what draft*.c have from each other.
 */
#ifndef WF_DRAFT_INTERNAL_H
#define WF_DRAFT_INTERNAL_H

#include "draft.h"

/* draft.c */
extern ErrorData *wf_draft_log_engine_event(WfDraft *draft, WfOutput *output, const char *name, Jsonb *payload, const WfMail *mail);
extern ErrorData *wf_draft_log_upgrade(WfDraft *draft, WfOutput *output, const WfMail *mail, List **actions);
extern void wf_draft_bury(WfDraft *draft, WfOutput *output, WfMail *mail, const char *reason);
extern void wf_draft_finish_mail(WfDraft *draft, WfOutput *output, WfMail *mail);
extern void wf_draft_close(WfDraft *draft, WfOutput *output, WfStatus status, Jsonb *result, const char *error);
extern void wf_draft_pause(WfDraft *draft, WfOutput *output, const char *reason);
extern bool wf_draft_roll_out(WfDraft *draft, WfOutput *output, WfMail *mail);

/* draft_actions.c */
extern void wf_draft_carry_out(WfDraft *draft, WfOutput *output, WfMail *mail, const List *actions);
extern void wf_draft_tell_others(WfDraft *draft, WfOutput *output);
extern bool wf_draft_move_timer(WfDraft *draft, WfOutput *output, int64 mail_id, TimestampTz at);
extern void wf_draft_forget_timer(WfDraft *draft, WfMail *mail);
extern void wf_draft_cancel_state_timers(WfDraft *draft, WfOutput *output, Jsonb *before, Jsonb *after);
extern void wf_draft_set_attributes(WfDraft *draft, Jsonb *changes);

/* draft_control.c */
extern bool wf_draft_upgrade(WfDraft *draft, WfOutput *output, WfMail *mail);
extern void wf_draft_obey(WfDraft *draft, WfOutput *output, WfMail *mail);

#endif
