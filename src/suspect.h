/*
 * suspect.h: which instance a worker was stepping when it died.
 */
#ifndef WF_SUSPECT_H
#define WF_SUSPECT_H

extern void wf_suspect_init(void);

/*
 * around each step; these cost a few stores, and in what is no worker they write to nobody's record.  seq 0: its log is being
 * checked
 */
extern void wf_suspect_begin(int64 instance_id, int64 seq);
extern void wf_suspect_end(void);

/* by a worker: from now on its steps are recorded; to be called before it connects */
extern void wf_suspect_attach(int slot);

/* what earlier workers of this database died on, as far as it is in these shards; to be cleared once it has been counted */
extern int	wf_suspect_take(uint64 shards, int64 *instance_ids, int64 *seqs, int max);
extern void wf_suspect_clear(const int64 *instance_ids, const int64 *seqs, int count);

#endif
