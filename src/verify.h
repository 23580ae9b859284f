/*
 * verify.h: whether an instance's log, its snapshot and its code are what they were.
 */
#ifndef WF_VERIFY_H
#define WF_VERIFY_H

#include "replay.h"

extern void wf_verify_instance(WfWorkflow *workflow, const WfInstance *instance, Snapshot snapshot, WfDivergence *bad);

#endif
