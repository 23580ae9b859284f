/*
 * accept.h: whether a log that the present code leads away from can be accepted as it is.
 */
#ifndef WF_ACCEPT_H
#define WF_ACCEPT_H

#include "replay.h"

extern char *wf_accept_loggable(const char *reason);
extern bool wf_accept_find(WfWorkflow *workflow, const WfInstance *instance, WfDivergence *bad);

#endif
