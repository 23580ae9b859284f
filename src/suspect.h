/*
 * suspect.h: which instance a worker was stepping when it died.
 */
#ifndef WF_SUSPECT_H
#define WF_SUSPECT_H

typedef struct WfSuspect
{
	int64		instance_id;
	int64		seq;			/* of the event, or one of those below */
	bool		endless;		/* not a crash: its step had to be ended, and
								 * the worker with it */
} WfSuspect;

/* no step of its own: its log was being checked, or folded to bring it into memory */
#define WF_SUSPECT_CHECK 0
#define WF_SUSPECT_FOLD (-1)

extern void wf_suspect_init(void);

/* around each step; these cost a few stores, and in what is no worker they write to nobody's record */
extern void wf_suspect_begin(int64 instance_id, int64 seq);
extern void wf_suspect_end(void);

/* by a worker: from now on its steps are recorded; to be called before it connects */
extern void wf_suspect_attach(int slot);

/* in a signal handler: this worker, if it is one, is about to be ended because of its step */
extern void wf_suspect_convict(void);

/* what earlier workers of this database died on, as far as it is in these shards; to be cleared once it has been counted */
extern int	wf_suspect_take(uint64 shards, WfSuspect *taken, int max);
extern void wf_suspect_clear(const WfSuspect *counted, int count);

#endif
