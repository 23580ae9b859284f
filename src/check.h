/*
 * check.h: arguments that users hand in: present, well formed, not too large.
 */
#ifndef WF_CHECK_H
#define WF_CHECK_H

#include "fmgr.h"
#include "utils/jsonb.h"

#define WF_MAX_NAME 255			/* bytes of an id, a name, a key */
#define WF_MAX_REASON 8192		/* bytes of a reason */

extern void wf_check_not_null(FunctionCallInfo fcinfo, int argno, const char *argument);
extern char *wf_check_name(FunctionCallInfo fcinfo, int argno, const char *argument);
extern char *wf_check_optional_name(FunctionCallInfo fcinfo, int argno, const char *argument);
extern char *wf_check_new_id(FunctionCallInfo fcinfo, int argno);
extern void wf_check_name_text(const char *value, const char *argument);
extern void wf_check_event_name(const char *event, bool from_client);
extern Jsonb *wf_check_payload(FunctionCallInfo fcinfo, int argno, const char *argument);
extern bool wf_check_fits(Jsonb *value, int limit);
extern void wf_check_size(Jsonb *value, int limit, const char *what, const char *setting);
extern int64 wf_check_delay(FunctionCallInfo fcinfo, int argno, const char *argument);
extern char *wf_check_reason(FunctionCallInfo fcinfo, int argno);
extern Jsonb *wf_check_empty_object(void);
extern void wf_check_not_in_handler(const char *function);
extern void wf_check_can_write(const char *what);

#endif
