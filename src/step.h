/*
 * step.h: the step under way, and what a handler may ask about it.
 */
#ifndef WF_STEP_H
#define WF_STEP_H

#include "nodes/pg_list.h"

#include "event.h"
#include "instance.h"

/* the step under way: what the handler may ask about, and what it has asked for */
typedef struct WfStep
{
	const WfInstance *instance; /* id and parent are what counts */
	int64		seq;
	TimestampTz now;			/* the instance's clock, this event's stamp
								 * taken in */
	const WfEvent *event;
	bool		live;			/* acts outside */
	bool		replaying;		/* limits that may have changed since do not
								 * count */
	char	   *overrun;		/* NULL, or the limit that it has exceeded: it
								 * fails, even where the handler has caught
								 * that */
	List	   *actions;		/* of WfAction *, in order */
	int			draws;			/* random numbers drawn so far */
	MemoryContext memory;		/* where actions are kept */
} WfStep;

extern WfStep *MyWfStep;		/* NULL outside a handler */

extern void wf_step_init(void);
extern int	wf_step_enter(WfStep *step);
extern void wf_step_leave(int saved_depth);
extern WfStep *wf_step_current(const char *function);
extern WfStep *wf_step_acting(const char *function);
extern char *wf_step_draw_uuid(const char *function);

#endif
