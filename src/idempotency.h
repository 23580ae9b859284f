/*
 * idempotency.h: keys given to send().
 */
#ifndef WF_IDEMPOTENCY_H
#define WF_IDEMPOTENCY_H

#include "event.h"

extern bool wf_idempotency_find(int64 instance_id, const WfEvent *event, bool with_at, int64 *first);
extern bool wf_idempotency_claim(int64 instance_id, WfEvent *event, bool with_at, int64 *first);

#endif
