/*
 * helper.h: functions that a version's code calls, and of which it has copies.
 */
#ifndef WF_HELPER_H
#define WF_HELPER_H

#include "fmgr.h"
#include "nodes/pg_list.h"

#include "code.h"

/* the argument regprocedure[], checked and looked up, in the order of names and arguments; of WfCode * */
extern List *wf_helper_resolve(FunctionCallInfo fcinfo, int argno, const WfCode *handler, const WfCode *migrate);

/* rows of wfproc.version_helper; the copies are code.c's */
extern void wf_helper_write(const List *helpers, int workflow_id, int version);
extern bool wf_helper_same(const List *helpers, const List *published, Oid owner);

#endif
