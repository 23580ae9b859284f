/*
 * replay.h: folding the log of an instance.
 */
#ifndef WF_REPLAY_H
#define WF_REPLAY_H

#include "utils/snapshot.h"

#include "instance.h"
#include "process.h"

/* where a replay and the log part */
typedef struct WfDivergence
{
	int64		seq;			/* 0: they agree */
	char	   *reason;
} WfDivergence;

/* called for each event replayed; false stops */
typedef bool (*WfReplayVisitor) (const WfLogRow *row, const WfFold *fold, const List *actions, bool diverged, void *arg);

extern void wf_replay_load(WfWorkflow *workflow, const WfInstance *instance, Snapshot snapshot, WfFold *fold,
						   int64 *snapshot_seq, WfDivergence *divergence);
extern void wf_replay_all(WfWorkflow *workflow, const WfInstance *instance, Snapshot snapshot, int64 upto,
						  WfReplayVisitor visitor, void *arg, WfFold *fold, WfDivergence *divergence);

#endif
