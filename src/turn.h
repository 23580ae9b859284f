/*
 * turn.h: one transaction's work, from mail to what is to be committed.
 */
#ifndef WF_TURN_H
#define WF_TURN_H

#include "address.h"
#include "draft.h"
#include "lineup.h"
#include "resident.h"
#include "scheduler.h"

typedef struct WfTurn
{
	/* given */
	WfScheduler *scheduler;
	WfResidents *residents;
	WfAddresses *addresses;		/* of instances that were found in the table */
	MemoryContext memory;		/* reset by the owner after wf_turn_settle() */
	bool		worker;			/* a worker's, not run()'s */
	Oid			userid;			/* run()'s caller */
	uint64		shards;			/* whose instances it may act for */
	uint64		unswept;		/* of which there may be mail that the
								 * scheduler has not been told of */
	TimestampTz now;
	TimestampTz horizon;		/* what is due later is left to a later sweep */
	TimestampTz before;			/* only earlier events, but for new mail;
								 * DT_NOEND: all that are due */
	TimestampTz cut_at;			/* where the turn before had to stop reading,
								 * and after this one: where this had;
								 * DT_NOEND: nowhere */
	bool		single;			/* one instance a turn, whatever its order */
	int			max_instances;
	int			max_events;

	/* found */
	WfReady    *ready;			/* whose turn it is */
	int			ready_count;
	int			ready_size;
	int			taken_count;	/* those of them that were due */
	List	   *fresh;			/* of WfDraft *: those whose mail is new */
	WfLineup   *lineup;			/* their drafts, and those of who had a
								 * message */
	List	   *newborns;		/* of WfDraft *: started in this turn */
	WfAddresses *newborn_addresses;
	bool		acted;			/* something was handled, or tried */
	MemoryContext scratch;		/* NULL: not made yet */
	WfOutput	output;			/* what is to be written */
} WfTurn;

/* a turn reads no more mail, and activates no more processes, when it has taken that much memory */
#define WF_MAX_TURN_BYTES ((Size) 128 * 1024 * 1024)

/* the instance that somebody else had in hand when wf_turn_run() raised 40001; 0: none */
extern int64 wf_turn_conflict;

extern TimestampTz wf_turn_low(const WfTurn *turn, int64 instance_id, TimestampTz low);
extern bool wf_turn_is_full(const WfTurn *turn);
extern bool wf_turn_may_act(const WfTurn *turn, const WfWorkflow *workflow);
extern bool wf_turn_find_resident(WfTurn *turn, WfDraft *draft);
extern void wf_turn_load_cold(WfTurn *turn, WfDraft *first, int64 us);
extern void wf_turn_add_ready(WfTurn *turn, int64 instance_id, TimestampTz low);
extern int	wf_turn_run(WfTurn *turn);
extern void wf_turn_settle(WfTurn *turn);
extern bool wf_turn_recheck(WfTurn *turn, int64 instance_id);
extern void wf_turn_blame(WfTurn *turn, const WfSuspect *suspects, int count);
extern void wf_turn_put_back(WfTurn *turn, int64 except, TimestampTz except_due);

#endif
