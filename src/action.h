/*
 * action.h: what a handler asks for while it runs: noted here, carried out by the turn once its step has ended well.
 */
#ifndef WF_ACTION_H
#define WF_ACTION_H

#include "nodes/pg_list.h"

#include "event.h"

typedef enum WfActionKind
{
	WF_ACTION_COMPLETE,
	WF_ACTION_FAIL,
	WF_ACTION_REJECT
} WfActionKind;

typedef struct WfAction
{
	WfActionKind kind;
	Jsonb	   *result;			/* complete; may be NULL */
	char	   *reason;			/* fail, reject */
} WfAction;

/* the step under way: what the handler may ask about, and what it has asked for */
typedef struct WfStep
{
	const char *id;
	int64		seq;
	TimestampTz now;			/* the instance's clock, this event's stamp
								 * taken in */
	const WfEvent *event;
	List	   *actions;		/* of WfAction *, in order */
	int			draws;			/* random numbers drawn so far */
	MemoryContext memory;		/* where actions are kept */
} WfStep;

extern WfStep *MyWfStep;		/* NULL outside a handler */

extern void wf_action_init(void);
extern int	wf_action_enter(WfStep *step);
extern void wf_action_leave(int saved_depth);
extern WfStep *wf_action_step(const char *function);
extern const WfAction *wf_action_find(const List *actions, WfActionKind kind);
extern Jsonb *wf_action_as_jsonb(const List *actions);

#endif
