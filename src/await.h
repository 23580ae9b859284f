/*
 * await.h: waiting until something holds for an instance.
 */
#ifndef WF_AWAIT_H
#define WF_AWAIT_H

#include "fmgr.h"

/*
 * Looks, with a snapshot of its own, and returns whether there is nothing more to wait for.  It runs in a memory context
 * that is emptied before the next look.  told: this is the first look, or somebody said that there may be something new;
 * false: it has only been long.
 */
typedef bool (*WfAwaitLook) (bool told, void *arg);

/* an interval argument in microseconds; negative: no limit */
extern int64 wf_await_get_timeout(FunctionCallInfo fcinfo, int argno);

/* refuses to wait for workers where there are none */
extern void wf_await_require_workers(void);

/* false: the time was over first */
extern bool wf_await_until(int64 instance_id, bool each_step, int64 timeout_us, WfAwaitLook look, void *arg);

#endif
