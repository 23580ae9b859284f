/*
 * process.h: the fold: (state, event) -> (state', actions).
 */
#ifndef WF_PROCESS_H
#define WF_PROCESS_H

#include "action.h"
#include "event.h"
#include "workflow.h"

/* an instance as far as its log has been folded */
typedef struct WfFold
{
	int64		seq;			/* last event handled; 0: none */
	TimestampTz clock;			/* greatest stamp handled; DT_NOBEGIN: none */
	bool		started;		/* whether start has been handled */
	int			version;
	Jsonb	   *state;
	uint8		hash[WF_SHA256_LEN];	/* of the log up to seq */
} WfFold;

extern void wf_process_init_fold(WfFold *fold, int version);
extern bool wf_process_step(WfWorkflow *workflow, WfVersion *version, const char *id, const WfFold *before,
							const WfEvent *event, WfFold *after, List **actions, int64 *digest, ErrorData **error);

#endif
