/*
 * idempotency.h: keys given to send().
 */
#ifndef WF_IDEMPOTENCY_H
#define WF_IDEMPOTENCY_H

#include "event.h"

/* what a key stands for */
typedef enum WfKeyState
{
	WF_KEY_NEW,					/* nothing yet */
	WF_KEY_SAME,				/* this very event */
	WF_KEY_OTHER				/* another one */
} WfKeyState;

extern WfKeyState wf_idempotency_look(int64 instance_id, const WfEvent *event, bool with_at, int64 *first);
extern bool wf_idempotency_same(const WfEvent *a, const WfEvent *b, bool with_at);
extern bool wf_idempotency_find(int64 instance_id, const WfEvent *event, bool with_at, int64 *first);
extern bool wf_idempotency_claim(int64 instance_id, WfEvent *event, bool with_at, int64 *first);

#endif
