/*
 * replay.c: folds the log of an instance again, from its snapshot or from the first event.
 *
 * Called to activate a process (turn.c) and by the functions that read (monitor.c).  Nothing is carried out: what a step
 * asks for is only compared, by its digest, with what the log says that it led to.  A difference is told to the caller,
 * never passed over.  Runs within a stretch of handler.h: wf_replay_begin() ... wf_replay_end().  Works on a standby.
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
 * Two memory contexts in turn: a step's result is in one while the state that it came from is in the other.
 */
typedef struct PingPong
{
	MemoryContext memory[2];
	int			current;
} PingPong;

void
wf_replay_begin(void)
{
	wf_handler_begin();
}

void
wf_replay_end(void)
{
	wf_handler_end();
}

static void
diverge(WfDivergence *divergence, MemoryContext memory, int64 seq, const char *reason)
{
	divergence->seq = seq;
	divergence->reason = MemoryContextStrdup(memory, reason);
}

/*
 * Whether the row is the next one of its chain: the seq that is due, and the hash that its content gives.
 */
static bool
check_chain(const WfFold *fold, const WfLogRow *row, MemoryContext memory, WfDivergence *divergence)
{
	uint8		hash[WF_SHA256_LEN];

	if (row->seq != fold->seq + 1)
	{
		diverge(divergence, memory, fold->seq + 1, "row missing");
		return false;
	}
	wf_eventlog_chain(fold->hash, row, hash);
	if (memcmp(hash, row->hash, WF_SHA256_LEN) != 0)
	{
		diverge(divergence, memory, row->seq, "hash differs");
		return false;
	}
	return true;
}

/*
 * Folds one row.  *fold becomes what the code leads to; where that is not what the log says, *divergence says so.  False
 * where there is no next state at all.
 */
static bool
fold_row(WfWorkflow *workflow, WfVersion *version, const char *id, WfFold *fold, const WfLogRow *row, List **actions,
		 MemoryContext memory, WfDivergence *divergence)
{
	WfFold		after;
	int64		digest;
	ErrorData  *error;

	if (!wf_process_step(workflow, version, id, fold, &row->event, &after, actions, &digest, &error))
	{
		diverge(divergence, memory, row->seq, psprintf("handler failed: %s", error->message));
		return false;
	}
	if (digest != row->digest)
		diverge(divergence, memory, row->seq, "digest differs");
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
 * Folds the rows after *fold up to upto, until the first that differs.  The state that comes out is in the caller's memory
 * context.
 */
static void
fold_log(WfWorkflow *workflow, const WfInstance *instance, Snapshot snapshot, int64 upto, WfReplayVisitor visitor, void *arg,
		 WfFold *fold, WfDivergence *divergence)
{
	MemoryContext caller = CurrentMemoryContext;
	PingPong	ping = {{NULL, NULL}, 0};
	WfLogScan  *scan = wf_eventlog_open(instance->instance_id, fold->seq, snapshot);
	WfVersion  *version = NULL;
	WfLogRow	row;
	bool		going = true;
	bool		failed = false;

	for (int i = 0; i < 2; i++)
		ping.memory[i] = AllocSetContextCreate(caller, "wfproc replay", ALLOCSET_DEFAULT_SIZES);
	while (going && fold->seq < upto && wf_eventlog_next(scan, &row))
	{
		List	   *actions = NIL;

		CHECK_FOR_INTERRUPTS();
		if (version == NULL)
			version = usable_version(workflow, fold->version);
		ping.current = 1 - ping.current;
		MemoryContextReset(ping.memory[ping.current]);
		MemoryContextSwitchTo(ping.memory[ping.current]);
		going = check_chain(fold, &row, caller, divergence);
		if (going)
			failed = !fold_row(workflow, version, instance->id, fold, &row, &actions, caller, divergence);
		going = going && !failed;
		if (going && visitor != NULL)
			going = visitor(&row, fold, actions, divergence->seq != 0, arg);
		else
			going = going && divergence->seq == 0;
		MemoryContextSwitchTo(caller);
	}
	/* a handler that raised took the scan with it: it belonged to the subtransaction that was rolled back */
	if (!failed)
		wf_eventlog_close(scan);
	fold->state = memcpy(palloc(VARSIZE(fold->state)), fold->state, VARSIZE(fold->state));
	for (int i = 0; i < 2; i++)
		MemoryContextDelete(ping.memory[i]);
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
	fold_log(workflow, instance, snapshot, PG_INT64_MAX, NULL, NULL, fold, divergence);
}

/*
 * Folds from the first event up to seq upto, calling visitor (or NULL) for each; without one it stops where the log and
 * the replay part.
 */
void
wf_replay_all(WfWorkflow *workflow, const WfInstance *instance, Snapshot snapshot, int64 upto, WfReplayVisitor visitor,
			  void *arg, WfFold *fold, WfDivergence *divergence)
{
	memset(divergence, 0, sizeof(WfDivergence));
	first_fold(instance, fold);
	fold_log(workflow, instance, snapshot, upto, visitor, arg, fold, divergence);
}
