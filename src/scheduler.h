/*
 * scheduler.h: which instances have mail that is due, and when the next will have.
 */
#ifndef WF_SCHEDULER_H
#define WF_SCHEDULER_H

#include "datatype/timestamp.h"

typedef struct WfScheduler WfScheduler;

/* an instance whose turn it is; its mail is to be read from the stamp low on */
typedef struct WfReady
{
	int64		instance_id;
	TimestampTz low;
	TimestampTz due;			/* later than low where it had to wait */
	bool		last;			/* ... for all others */
	bool		fresh;			/* taken because its mail is new */
} WfReady;

extern WfScheduler *wf_scheduler_create(MemoryContext parent);
extern void wf_scheduler_wake(WfScheduler *scheduler, int64 instance_id, TimestampTz at, bool fresh);
extern void wf_scheduler_put(WfScheduler *scheduler, int64 instance_id, TimestampTz low, TimestampTz due);
extern void wf_scheduler_put_last(WfScheduler *scheduler, int64 instance_id, TimestampTz low, TimestampTz due);
extern int	wf_scheduler_take(WfScheduler *scheduler, TimestampTz now, int max, int max_with_ties, WfReady *ready);
extern bool wf_scheduler_claim(WfScheduler *scheduler, int64 instance_id, TimestampTz *low);
extern TimestampTz wf_scheduler_next(const WfScheduler *scheduler);
extern Size wf_scheduler_bytes(const WfScheduler *scheduler);

#endif
