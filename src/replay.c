/*
 * replay.c: folds the log of an instance again, from its snapshot or from the first event.
 *
 * Called to activate a process (turn.c) and by the functions that read (monitor.c).  Nothing is carried out: what a step
 * asks for is only compared, by its digest, with what the log says that it led to.  A difference is told to the caller,
 * never passed over.  Works on a standby.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "check.h"
#include "eventlog.h"
#include "handler.h"
#include "replay.h"
#include "snapshot.h"

/*
 * A fold under way.  A step's result is in one memory context while the state that it came from is in the other.
 */
typedef struct Replay
{
	WfWorkflow *workflow;
	WfVersion  *version;
	const WfInstance *instance;
	Snapshot	snapshot;
	int64		upto;			/* the last seq wanted */
	WfReplayVisitor visitor;	/* or NULL */
	void	   *visitor_arg;
	MemoryContext memory;		/* the caller's, for what is returned */
	MemoryContext step_memory[2];
	int			current;
	WfFold	   *fold;
	WfDivergence *divergence;
	bool		differs;		/* the row just folded */
	bool		failed;			/* the handler has raised */
} Replay;

/*
 * The first difference is what counts.
 */
static void
diverge(Replay *replay, int64 seq, const char *reason)
{
	if (replay->divergence->seq != 0)
		return;
	replay->divergence->seq = seq;
	replay->divergence->reason = MemoryContextStrdup(replay->memory, reason);
}

/*
 * Whether the row is the next one of its chain: the seq that is due, and the hash that its content gives.
 */
static bool
check_chain(Replay *replay, const WfLogRow *row)
{
	uint8		hash[WF_SHA256_LEN];

	if (row->seq != replay->fold->seq + 1)
	{
		diverge(replay, replay->fold->seq + 1, "row missing");
		return false;
	}
	wf_eventlog_chain(replay->fold->hash, row, hash);
	if (memcmp(hash, row->hash, WF_SHA256_LEN) != 0)
	{
		diverge(replay, row->seq, "hash differs");
		return false;
	}
	return true;
}

/*
 * Folds one row.  The fold becomes what the code leads to; where that is not what the log says, the divergence says so.
 * False where there is no next state at all.
 */
static bool
fold_row(Replay *replay, const WfLogRow *row, List **actions)
{
	WfFold	   *fold = replay->fold;
	WfFold		after;
	int64		digest;
	ErrorData  *error;

	switch (wf_process_step(replay->workflow, replay->version, replay->instance, fold, &row->event, true, &after, actions,
							&digest, &error))
	{
		case WF_STEP_FAILED:
			diverge(replay, row->seq, psprintf("handler failed: %s", error->message));
			replay->failed = true;
			return false;
		case WF_STEP_POSTPONED:
			diverge(replay, row->seq, "handler postpones the event");
			return false;
		case WF_STEP_DONE:
			break;
	}
	replay->differs = digest != row->digest;
	if (replay->differs)
		diverge(replay, row->seq, "digest differs");
	memcpy(after.hash, row->hash, WF_SHA256_LEN);
	/* a state that was kept is still in the memory of the step that made it */
	if (after.state == fold->state)
		after.state = memcpy(palloc(VARSIZE(fold->state)), fold->state, VARSIZE(fold->state));
	*fold = after;
	return true;
}

/*
 * The version's code, or an error that says why it cannot be run.
 */
static WfVersion *
usable_version(WfWorkflow *workflow, int number)
{
	WfVersion  *version = wf_workflow_version(workflow, number);

	if (version->problem != NULL)
		ereport(ERROR,
				(errcode(version->problem_code),
				 errmsg("version %d of workflow \"%s\" cannot be run: %s", number, workflow->name, version->problem)));
	return version;
}

/*
 * Takes one row.  False: stop here.
 */
static bool
take_row(Replay *replay, const WfLogRow *row)
{
	List	   *actions = NIL;
	bool		going;

	CHECK_FOR_INTERRUPTS();
	if (replay->version == NULL || replay->version->version != replay->fold->version)
		replay->version = usable_version(replay->workflow, replay->fold->version);
	replay->current = 1 - replay->current;
	MemoryContextReset(replay->step_memory[replay->current]);
	MemoryContextSwitchTo(replay->step_memory[replay->current]);
	going = check_chain(replay, row) && fold_row(replay, row, &actions);
	if (going && replay->visitor != NULL)
		going = replay->visitor(row, replay->fold, actions, replay->differs, replay->visitor_arg);
	else
		going = going && replay->divergence->seq == 0;
	MemoryContextSwitchTo(replay->memory);
	return going;
}

/*
 * The rows after the fold's seq, up to the last one wanted or the first that differs.
 */
static void
take_rows(void *arg)
{
	Replay	   *replay = arg;
	WfLogScan  *scan = wf_eventlog_open(replay->instance->instance_id, replay->fold->seq, replay->snapshot);
	WfLogRow	row;

	while (replay->fold->seq < replay->upto && wf_eventlog_next(scan, &row))
		if (!take_row(replay, &row))
			break;

	/*
	 * a handler that raised took the scan with it: it belonged to the
	 * subtransaction that was rolled back
	 */
	if (!replay->failed)
		wf_eventlog_close(scan);
}

/*
 * Folds.  The state that comes out is in the caller's memory context.
 */
static void
fold_log(Replay *replay)
{
	WfFold	   *fold = replay->fold;

	replay->memory = CurrentMemoryContext;
	for (int i = 0; i < 2; i++)
		replay->step_memory[i] = AllocSetContextCreate(CurrentMemoryContext, "wfproc replay", ALLOCSET_DEFAULT_SIZES);
	wf_handler_stretch(take_rows, replay);
	fold->state = memcpy(palloc(VARSIZE(fold->state)), fold->state, VARSIZE(fold->state));
	for (int i = 0; i < 2; i++)
		MemoryContextDelete(replay->step_memory[i]);
}

static void
first_fold(const WfInstance *instance, WfFold *fold)
{
	wf_process_init_fold(fold, instance->version);
	wf_eventlog_first_hash(instance->id, fold->hash);
}

/*
 * Fills *fold with the present state, from the snapshot and the log after it; *snapshot_seq is the snapshot's, or 0.  A
 * snapshot that does not fit is a WARNING and does not count.  Where *divergence is set, *fold is where the fold stopped.
 */
void
wf_replay_load(WfWorkflow *workflow, const WfInstance *instance, Snapshot snapshot, WfFold *fold, int64 *snapshot_seq,
			   WfDivergence *divergence)
{
	const char *problem = NULL;
	Replay		replay = {
		.workflow = workflow,.instance = instance,.snapshot = snapshot,.upto = PG_INT64_MAX,
		.fold = fold,.divergence = divergence
	};

	memset(divergence, 0, sizeof(WfDivergence));
	*snapshot_seq = 0;
	if (wf_snapshot_load(instance->instance_id, snapshot, fold, &problem))
		*snapshot_seq = fold->seq;
	else
		first_fold(instance, fold);
	if (problem != NULL)
		ereport(WARNING,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("snapshot of instance \"%s\" is not used: %s", instance->id, problem),
				 errdetail("Its state comes from the log.")));
	fold_log(&replay);
}

/*
 * Folds from the first event up to seq upto, calling visitor (or NULL) for each; without one it stops where the log and
 * the replay part.
 */
void
wf_replay_all(WfWorkflow *workflow, const WfInstance *instance, Snapshot snapshot, int64 upto, WfReplayVisitor visitor,
			  void *arg, WfFold *fold, WfDivergence *divergence)
{
	Replay		replay = {
		.workflow = workflow,.instance = instance,.snapshot = snapshot,.upto = upto,
		.visitor = visitor,.visitor_arg = arg,.fold = fold,.divergence = divergence
	};

	memset(divergence, 0, sizeof(WfDivergence));
	first_fold(instance, fold);
	fold_log(&replay);
}
