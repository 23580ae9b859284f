/*
 * definition.h: what the tables say about a workflow and its versions, read into the current memory context.
 */
#ifndef WF_DEFINITION_H
#define WF_DEFINITION_H

#include "version.h"
#include "workflow.h"

extern WfWorkflow *wf_definition_read(int workflow_id);
extern WfWorkflow *wf_definition_read_by_name(const char *name);
extern bool wf_definition_read_version(int workflow_id, int version, WfPublished *published);

#endif
