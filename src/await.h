/*
 * await.h: waiting for an instance to close.
 */
#ifndef WF_AWAIT_H
#define WF_AWAIT_H

#include "instance.h"

/* waits at most timeout_us, negative: for ever; 0: looks only; and fills *instance with what was seen last */
extern void wf_await_closed(WfInstance *instance, int64 timeout_us);

#endif
