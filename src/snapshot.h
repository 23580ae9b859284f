/*
 * snapshot.h: an instance's state at a seq, bound to the log.
 */
#ifndef WF_SNAPSHOT_H
#define WF_SNAPSHOT_H

#include "access/sdir.h"
#include "utils/snapshot.h"

#include "process.h"

/* snapshots of the past that are to be kept: copies of folds, in order */
typedef struct WfKept
{
	List	   *folds;			/* of WfFold * */
	Size		bytes;			/* of their states */
} WfKept;

typedef struct WfKeptScan WfKeptScan;

extern bool wf_snapshot_load(int64 instance_id, Snapshot snapshot, WfFold *fold, const char **problem);
extern void wf_snapshot_store(int64 instance_id, const WfFold *fold);

/* those of the past: noted while a log is folded, written afterwards */
extern void wf_snapshot_keep(WfKept *kept, const WfFold *fold);
extern void wf_snapshot_store_kept(int64 instance_id, const WfKept *kept);
extern void wf_snapshot_forget(int64 instance_id, int64 from);

/* read in either order: where each stands, and what it is once it is wanted */
extern WfKeptScan *wf_snapshot_open_kept(int64 instance_id, int64 from, int64 upto, Snapshot snapshot);
extern bool wf_snapshot_next_kept(WfKeptScan *scan, ScanDirection direction, WfFold *fold);
extern bool wf_snapshot_read_kept(WfKeptScan *scan, WfFold *fold, const char **problem);
extern void wf_snapshot_close_kept(WfKeptScan *scan);

#endif
