/*
 * resident.h: the processes that are in this backend's memory.
 */
#ifndef WF_RESIDENT_H
#define WF_RESIDENT_H

#include "lib/ilist.h"

#include "instance.h"
#include "process.h"
#include "timer.h"

/* a process: an instance's row and the fold of its log, as of the last commit */
typedef struct WfProcess
{
	int64		instance_id;	/* hash key */
	WfInstance	row;
	WfFold		fold;
	int64		snapshot_seq;	/* what its snapshot covers; 0: none */
	int			repeats;		/* times in a row that its step met a
								 * serialization failure or the like */
	TimestampTz held_until;		/* as of a draft */
	WfTimers	timers;
	TimestampTz postponed_low;	/* oldest stamp of postponed mail; DT_NOEND:
								 * none */
	TimestampTz last_used;
	Size		bytes;			/* what it takes of the memory limit */
	dlist_node	lru_node;
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

#endif
