/*
 * turn.h: one transaction's work, from mail to what is to be committed.
 */
#ifndef WF_TURN_H
#define WF_TURN_H

#include "draft.h"
#include "resident.h"
#include "scheduler.h"

typedef struct WfTurn
{
	/* given */
	WfScheduler *scheduler;
	WfResidents *residents;
	MemoryContext memory;		/* reset by the owner after wf_turn_settle() */
	bool		worker;			/* a worker's, not run()'s */
	TimestampTz now;
	TimestampTz horizon;		/* what is due later is left to a later sweep */
	int			max_instances;
	int			max_events;

	/* found */
	WfReady    *ready;			/* whose turn it is */
	int			ready_count;
	WfDraft   **drafts;			/* those of them that exist and act here */
	int			draft_count;
	WfOutput	output;			/* what is to be written */
} WfTurn;

/* the instance whose mail somebody else had in hand when wf_turn_run() raised 40001; 0: none */
extern int64 wf_turn_conflict;

extern int	wf_turn_run(WfTurn *turn);
extern void wf_turn_settle(WfTurn *turn);
extern void wf_turn_blame(WfTurn *turn, const int64 *instance_ids, const int64 *seqs, int count);
extern void wf_turn_put_back(WfTurn *turn, int64 except, TimestampTz except_due);

#endif
