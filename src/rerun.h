/*
 * rerun.h: an instance that handles events in memory, of which nothing stays.
 */
#ifndef WF_RERUN_H
#define WF_RERUN_H

#include "instance.h"
#include "process.h"

typedef struct WfRerun
{
	WfWorkflow *workflow;
	WfVersion  *version;		/* whose code handles all */
	const WfInstance *instance;
	bool		replaying;		/* events that were within the limits of their
								 * time */
	WfFold		fold;			/* its hash means nothing */
	bool		cancelling;		/* a cancel was deferred */
	List	   *aside;			/* of WfEvent *: postponed */
	List	   *withdrawn;		/* of char *: timers cancelled or set anew */
	Jsonb	   *upgrade_actions;	/* what migrate functions asked for; NULL:
									 * there was no upgrade */

	/* how it ended */
	bool		ended;
	WfStatus	status;			/* WF_RUNNING where there is an error */
	Jsonb	   *result;
	char	   *reason;			/* of a fail() */
	char	   *error;			/* SQLSTATE and message: the handler raised */

	MemoryContext memory;		/* where all this is kept */
	MemoryContext step_memory[2];
	int			current;
} WfRerun;

extern void wf_rerun_init(WfRerun *rerun, WfWorkflow *workflow, WfVersion *version, const WfInstance *instance);
extern void wf_rerun_upgrade(WfRerun *rerun, int version);
extern void wf_rerun_pass(WfRerun *rerun, const WfEvent *event);
extern void wf_rerun_offer(WfRerun *rerun, const WfEvent *event);
extern void wf_rerun_end(WfRerun *rerun, WfStatus status, Jsonb *result, const char *reason);

#endif
