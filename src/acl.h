/*
 * acl.h: whether a role may do something with a workflow.
 */
#ifndef WF_ACL_H
#define WF_ACL_H

#include "workflow.h"

extern WfPrivilege wf_acl_parse(const char *privilege);
extern bool wf_acl_may(const WfWorkflow *workflow, Oid role, WfPrivilege privilege);
extern void wf_acl_require(const WfWorkflow *workflow, Oid role, WfPrivilege privilege);
extern void wf_acl_require_owner(const WfWorkflow *workflow);

#endif
