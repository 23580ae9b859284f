/*
 * recheck.h: what the log of an instance says of the instance's row.
 */
#ifndef WF_RECHECK_H
#define WF_RECHECK_H

#include "instance.h"
#include "process.h"

/* what the last row that says anything of it says of the status */
typedef struct WfRecheckStatus
{
	int64		seq;			/* of that row; 0: it runs since it began */
	bool		known;
	bool		either;			/* completed or cancelled: which is not known */
	WfStatus	status;
	bool		error_known;
	char	   *error;			/* or NULL */
	Jsonb	   *result;			/* or NULL */
	TimestampTz at;				/* the clock */
} WfRecheckStatus;

typedef struct WfRecheck
{
	MemoryContext memory;
	WfRecheckStatus status;		/* by events of the engine's own */
	WfRecheckStatus end;		/* by a handler; seq 0: it has not closed */
	int64		start_seq;		/* of the row start; 0: none */
	TimestampTz started_at;
	char	   *start_sender;	/* or NULL */
	bool		forked;
	bool		cancelling;
	bool		cancelling_known;
	Jsonb	   *attributes;		/* all that is known to have been set, nulls
								 * where one was removed */
	int64		attributes_seq;
	int64		last_seq;		/* that can have closed it */
	bool		last_handled;	/* by a handler */
	int64		folded_seq;
	int64		skipped_from;	/* rows of which only the handler knows what
								 * they did: after this one */
	int64		skipped_upto;
} WfRecheck;

/* in the current memory context, which must stay */
extern void wf_recheck_init(WfRecheck *recheck);

/* each row of the log by itself; and each that is folded, with the clock after it, or that the fold leaves out */
extern void wf_recheck_row(WfRecheck *recheck, const WfLogRow *row, TimestampTz clock);
extern void wf_recheck_step(WfRecheck *recheck, const WfLogRow *row, TimestampTz clock, const List *actions);
extern void wf_recheck_skip(WfRecheck *recheck, int64 upto);

/* what of the row is not as the log says, NULL: nothing; *seq is the row of the log that says otherwise */
extern const char *wf_recheck_instance(const WfRecheck *recheck, const WfInstance *instance, const WfFold *fold, int64 *seq);

#endif
