/*
 * action.h: what a handler asks for while it runs: noted here, carried out by the turn once its step has ended well.
 */
#ifndef WF_ACTION_H
#define WF_ACTION_H

#include "fmgr.h"
#include "nodes/pg_list.h"

#include "event.h"

typedef enum WfActionKind
{
	WF_ACTION_SEND,
	WF_ACTION_START,
	WF_ACTION_SET_TIMER,
	WF_ACTION_CANCEL_TIMER,
	WF_ACTION_SET_ATTRIBUTES,
	WF_ACTION_REPLY,
	WF_ACTION_MONITOR,
	WF_ACTION_DEMONITOR,
	WF_ACTION_CANCEL,
	WF_ACTION_TERMINATE,
	WF_ACTION_DEFER_CANCEL,
	/* each of the rest is the last of its step */
	WF_ACTION_COMPLETE,
	WF_ACTION_FAIL,
	WF_ACTION_REJECT,
	WF_ACTION_POSTPONE
} WfActionKind;

/* which fields a kind has is in action.c; the others are zero */
typedef struct WfAction
{
	WfActionKind kind;
	int			nesting;		/* subtransaction level that asked for it */
	char	   *id;				/* whom it concerns */
	bool		id_generated;	/* of a child: not asked for */
	char	   *name;			/* of the event, the timer, the workflow */
	char	   *or_start;		/* workflow, or NULL */
	char	   *key;			/* idempotency key, or NULL */
	char	   *state_key;		/* whose change cancels the timer, or NULL */
	char	   *on_parent_close;
	char	   *reason;			/* or NULL */
	Jsonb	   *json;			/* payload, input, result, attributes, reply;
								 * or NULL */
	Jsonb	   *attributes;		/* of a child */
	TimestampTz at;				/* or WF_NO_STAMP; as is live_from */
	TimestampTz live_from;
	int64		deadline_us;	/* of a cancel or its deferral; negative: none */
	int			version;		/* 0: the current one */
	bool		ignore_existing;
} WfAction;

extern void wf_action_init(void);
extern const WfAction *wf_action_last(const List *actions);
extern Jsonb *wf_action_as_jsonb(const List *actions);

/* start(), send(), cancel() and terminate() inside a handler: what they note */
extern char *wf_action_start(FunctionCallInfo fcinfo);
extern void wf_action_send(FunctionCallInfo fcinfo);
extern void wf_action_cancel(FunctionCallInfo fcinfo);
extern void wf_action_terminate(FunctionCallInfo fcinfo);

#endif
