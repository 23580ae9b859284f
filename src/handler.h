/*
 * handler.h: calling the user's function: as its owner, read-only, with fixed settings, within limits.
 */
#ifndef WF_HANDLER_H
#define WF_HANDLER_H

#include "step.h"
#include "workflow.h"

/* runs body(arg) as a stretch of steps: one read-only subtransaction */
extern void wf_handler_stretch(void (*body) (void *arg), void *arg);

/*
 * One call inside such a stretch.  Returns the new state, or NULL with *error where the handler raised, which has then been
 * undone and a new stretch begun.  Both live in the current memory context.  What is not the handler's fault is thrown.
 */
extern Jsonb *wf_handler_call(WfWorkflow *workflow, WfVersion *version, WfStep *step, Jsonb *state, ErrorData **error);

/* another one than before such a call: what the stretch had opened, as a scan, is gone */
extern int64 wf_handler_stretch_number(void);

/* the same for a version's migrate function, which the version must have */
extern Jsonb *wf_handler_migrate(WfWorkflow *workflow, WfVersion *version, WfStep *step, Jsonb *state, int from, int to,
								 ErrorData **error);

/* between the transactions of a worker: spares the next steps a part of their cost */
extern void wf_handler_keep_settings(void);

#endif
