/*
 * process.h: the fold: (state, event) -> (state', actions).
 */
#ifndef WF_PROCESS_H
#define WF_PROCESS_H

#include "action.h"
#include "event.h"
#include "instance.h"
#include "workflow.h"

/* an instance as far as its log has been folded */
typedef struct WfFold
{
	int64		seq;			/* last event handled; 0: none */
	TimestampTz clock;			/* greatest stamp handled; DT_NOBEGIN: none */
	int64		changed_seq;	/* the last event that changed the state or
								 * the version */
	bool		started;		/* whether start has been handled */
	int			version;
	Jsonb	   *state;
	uint8		hash[WF_SHA256_LEN];	/* of the log up to seq */
} WfFold;

/* how a step went */
typedef enum WfStepEnd
{
	WF_STEP_DONE,
	WF_STEP_FAILED,				/* the handler raised */
	WF_STEP_POSTPONED			/* ... or does not want the event now: in both
								 * cases nothing has happened */
} WfStepEnd;

extern void wf_process_init_fold(WfFold *fold, int version);
extern int64 wf_process_digest(Jsonb *state, const List *actions);
extern int	wf_process_upgrade_to(const WfEvent *event);
extern int	wf_process_next_on_way(WfWorkflow *workflow, int from, int to);
extern char *wf_process_problem(const WfWorkflow *workflow, const WfVersion *version);
extern const WfVersion *wf_process_blocked_by(WfWorkflow *workflow, int from, int to);
extern Jsonb *wf_process_accepted_state(const WfEvent *event);
extern bool wf_process_same_state(const Jsonb *a, const Jsonb *b);
extern WfStepEnd wf_process_step(WfWorkflow *workflow, WfVersion *version, const WfInstance *instance,
								 const WfFold *before, const WfEvent *event, bool replaying,
								 WfFold *after, List **actions, int64 *digest, ErrorData **error);

#endif
