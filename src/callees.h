/*
 * callees.h: what a version's code calls outside of its copies.
 */
#ifndef WF_CALLEES_H
#define WF_CALLEES_H

#include "nodes/pg_list.h"

#include "workflow.h"

/* codes: of WfCode *, as published: the handler first; search_path: under which the version is run */
extern void wf_callees_point_out(const WfWorkflow *workflow, int version, const List *codes, const char *search_path);

#endif
