/*
 * resident.h: the processes that are in this backend's memory.
 */
#ifndef WF_RESIDENT_H
#define WF_RESIDENT_H

#include "lib/ilist.h"

#include "idtable.h"
#include "instance.h"
#include "process.h"
#include "timer.h"

/*
 * A process: an instance's row and the fold of its log, as of the last commit.  What it points to is in the same piece of
 * memory.
 */
typedef struct WfProcess
{
	WfIdNode	node;			/* with its instance_id */
	WfInstance	row;
	WfFold		fold;
	int64		snapshot_seq;	/* what its snapshot covers; 0: none */
	int			repeats;		/* times in a row that its step met a
								 * serialization failure or the like */
	TimestampTz held_until;		/* as of a draft */
	int			timer_count;	/* -1: not known */
	Size		timer_bytes;
	char	   *timers;			/* packed */
	TimestampTz postponed_low;	/* oldest stamp of postponed mail; DT_NOEND:
								 * none */
	TimestampTz last_used;
	dlist_node	lru_node;
	dlist_node	age_node;
} WfProcess;

typedef struct WfResidents WfResidents;

extern WfResidents *wf_resident_create(MemoryContext parent, bool registered);
extern WfProcess *wf_resident_find(WfResidents *residents, int64 instance_id);
extern WfProcess *wf_resident_store(WfResidents *residents, const WfInstance *row, const WfFold *fold,
									const WfTimers *timers, TimestampTz now);
extern void wf_resident_drop(WfResidents *residents, int64 instance_id);
extern WfProcess *wf_resident_oldest(WfResidents *residents);
extern WfProcess *wf_resident_newer(WfResidents *residents, WfProcess *process);
extern Size wf_resident_bytes(const WfResidents *residents);
extern Size wf_resident_allocated(const WfResidents *residents);
extern Size wf_resident_bytes_of(WfProcess *process);
extern bool wf_resident_tidy(WfResidents *residents);

#endif
