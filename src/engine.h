/*
 * engine.h: turns, one after the other: a worker's and run()'s.
 */
#ifndef WF_ENGINE_H
#define WF_ENGINE_H

#include "datatype/timestamp.h"

#include "suspect.h"

/*
 * A worker's.  None of these is called inside a transaction: they begin and commit their own (worker.h), and an error that
 * concerns single instances is dealt with inside.
 */
extern void wf_engine_wake(int64 instance_id, TimestampTz at);	/* from the ring */
extern void wf_engine_sweep(uint64 shards); /* asks for a look through the
											 * mailbox of these shards */
extern bool wf_engine_work(void);	/* a piece of a sweep and a turn; false
									 * where there was nothing to do */
extern TimestampTz wf_engine_next(void);	/* when there will be; DT_NOEND:
											 * not known */
extern bool wf_engine_passivate(void);	/* puts idle processes away; true:
										 * call again */
extern void wf_engine_forget(void); /* the shards are given up: forgets every
									 * process */
extern void wf_engine_blame(const WfSuspect *suspects, int count);	/* a worker died on
																	 * these */

extern void wf_engine_recheck(int64 instance_id);	/* it was found to be
													 * wrong: pauses where it
													 * cannot go on */

/* the same inside the caller's transaction, which holds the lock of its shard, whatever the caller may do */
extern void wf_engine_recheck_here(int64 instance_id, uint64 shards);

/* run(): inside the caller's transaction; at most max events (negative: no limit); returns how many */
extern int64 wf_engine_run(int64 max_events);

#endif
