/*
 * census.h: which instances a workflow has.
 */
#ifndef WF_CENSUS_H
#define WF_CENSUS_H

#include "fmgr.h"

#include "workflow.h"

/* whom to count */
typedef struct WfCensus
{
	bool		closed_only;
	bool		order_by_id;	/* else in the order in which they were made */
	TimestampTz started_by;		/* DT_NOEND: whenever */
} WfCensus;

extern WfWorkflow *wf_census_workflow(FunctionCallInfo fcinfo, WfPrivilege privilege);
extern int64 *wf_census_take(const WfWorkflow *workflow, const WfCensus *which, int *count);
extern int	wf_census_sample(int64 *instance_ids, int count, int sample);

#endif
