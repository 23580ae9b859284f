/*
 * snapshot.h: an instance's state at a seq, bound to the log.
 */
#ifndef WF_SNAPSHOT_H
#define WF_SNAPSHOT_H

#include "utils/snapshot.h"

#include "process.h"

extern bool wf_snapshot_load(int64 instance_id, Snapshot snapshot, WfFold *fold, const char **problem);
extern void wf_snapshot_store(int64 instance_id, const WfFold *fold);

#endif
