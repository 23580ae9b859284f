/*
 * wakeup.h: what this transaction will have to say to workers and waiters once it has committed.
 */
#ifndef WF_WAKEUP_H
#define WF_WAKEUP_H

#include "datatype/timestamp.h"

extern void wf_wakeup_init(void);

/* this transaction put mail into an instance's mailbox */
extern void wf_wakeup_note(int64 instance_id, TimestampTz at);

/* ... into many, in these shards (bit per shard) */
extern void wf_wakeup_note_shards(uint64 shards);

/* this transaction inserted the instance's row */
extern void wf_wakeup_note_started(int64 instance_id);

/* this transaction closed it */
extern void wf_wakeup_note_closed(int64 instance_id);

/* this transaction added to its log, or made mail of its a dead letter */
extern void wf_wakeup_note_stepped(int64 instance_id);

/* whether this transaction has started the instance or written to it; which ones it has started */
extern bool wf_wakeup_has_written(int64 instance_id);
extern bool wf_wakeup_has_started(int64 instance_id);
extern int	wf_wakeup_started_count(void);
extern int	wf_wakeup_started(int64 *instance_ids, int max);

#endif
