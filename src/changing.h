/*
 * changing.h: what the server has to call, and would not give the same in a replay.
 */
#ifndef WF_CHANGING_H
#define WF_CHANGING_H

#include "nodes/primnodes.h"

/* *instead: what to call in a handler, or NULL */
extern bool wf_changing_function(Oid function, const char **instead);
extern const char *wf_changing_value(SQLValueFunctionOp op, const char **instead);

#endif
