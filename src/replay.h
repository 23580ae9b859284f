/*
 * replay.h: folding the log of an instance.
 */
#ifndef WF_REPLAY_H
#define WF_REPLAY_H

#include "utils/snapshot.h"

#include "instance.h"
#include "process.h"
#include "snapshot.h"

/* where a replay and the log part */
typedef struct WfDivergence
{
	int64		seq;			/* 0: they agree */
	char	   *reason;
	int			code;			/* SQLSTATE where the code cannot be run, else
								 * 0 */
	int64		stuck_seq;		/* where the fold could not go on, the handler
								 * having raised or the log being broken; 0:
								 * nowhere */
	char	   *stuck_reason;
	char	   *passing;		/* why the log could not be folded for now, or
								 * NULL: neither good nor bad */
	char	   *passing_context;
} WfDivergence;

/* how far to fold: up to the last row that is within all three, which only grow along a log */
typedef struct WfReplayLimit
{
	int64		upto;			/* seq */
	TimestampTz as_of;			/* of the instance's clock */
	TimestampTz known_at;		/* of recorded_at */
} WfReplayLimit;

#define WF_REPLAY_NO_LIMIT ((WfReplayLimit) {PG_INT64_MAX, DT_NOEND, DT_NOEND})

/* called for each event replayed; false stops */
typedef bool (*WfReplayVisitor) (const WfLogRow *row, const WfFold *fold, const List *actions, bool diverged, void *arg);

extern void wf_replay_first_fold(const WfInstance *instance, WfFold *fold);
extern void wf_replay_pass(WfFold *fold, const WfLogRow *row);
extern void wf_replay_activate(WfWorkflow *workflow, const WfInstance *instance, Snapshot snapshot, WfFold *fold,
							   int64 *snapshot_seq, WfDivergence *divergence, WfKept *kept);
extern void wf_replay_load(WfWorkflow *workflow, const WfInstance *instance, Snapshot snapshot, WfFold *fold,
						   int64 *snapshot_seq, WfDivergence *divergence);
extern void wf_replay_upto(WfWorkflow *workflow, const WfInstance *instance, Snapshot snapshot, WfReplayLimit limit,
						   WfFold *fold, WfDivergence *divergence);
extern void wf_replay_on(WfWorkflow *workflow, const WfInstance *instance, Snapshot snapshot, int64 upto,
						 WfReplayVisitor visitor, void *arg, WfFold *fold, WfDivergence *divergence);
extern WfVersion *wf_replay_version(WfWorkflow *workflow, int number);
extern const char *wf_replay_question(const WfDivergence *divergence);
extern void wf_replay_require(const WfInstance *instance, const WfDivergence *divergence);
extern void wf_replay_under(WfWorkflow *workflow, WfVersion *version, const WfInstance *instance, Snapshot snapshot,
							int64 upto, WfReplayVisitor visitor, void *arg, WfFold *fold, WfDivergence *divergence);
extern void wf_replay_all(WfWorkflow *workflow, const WfInstance *instance, Snapshot snapshot, int64 upto,
						  WfReplayVisitor visitor, void *arg, WfFold *fold, WfDivergence *divergence);

#endif
