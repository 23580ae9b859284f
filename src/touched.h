/*
 * touched.h: which logs may have changed since the last seal.
 */
#ifndef WF_TOUCHED_H
#define WF_TOUCHED_H

#include "access/transam.h"
#include "storage/lwlock.h"

/* so many consecutive instance_ids are noted together; seal.c has a node of its tree for them */
#define WF_GROUP_IDS 32

#define WF_TOUCHED_TOKEN_LEN 16

/* by registry.c, which makes the shared memory */
extern Size wf_touched_size(void);
extern void wf_touched_init(LWLock *lock);

/* by whoever writes heads of logs, before the commit; by the launcher when it starts */
extern void wf_touched_note(const int64 *instance_ids, int count);
extern void wf_touched_begin(void);

/* by seal.c */
extern const uint8 *wf_touched_token(void);
extern bool wf_touched_since(FullTransactionId horizon, bool forget, int64 **groups, int *count);

#endif
