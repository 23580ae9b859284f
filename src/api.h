/*
 * api.h: what the SQL functions that write have in common.
 */
#ifndef WF_API_H
#define WF_API_H

#include "fmgr.h"
#include "utils/jsonb.h"

extern void wf_api_prepare_to_write(const char *function, const char *what);
extern Jsonb *wf_api_check_attributes(FunctionCallInfo fcinfo, int argno);

#endif
