/*
 * replay.c: folds the log of an instance again, from one of its snapshots or from the first event.
 *
 * Called to activate a process (turn.c) and by the functions that read (monitor.c, rehearse.c).  Nothing is carried out:
 * what a step asks for is only compared, by its digest, with what the log says that it led to.  A difference is told to the
 * caller, never passed over.  Works on a standby.
 *
 * The code is that of the version which handled each event, or one version's throughout: then $upgrade is a row like any
 * other, and changes neither code nor state.
 *
 * A row $accept says what the state is from there on, whatever came before it.  So a difference that is older is no difference
 * any more, and where a fold cannot get to such a row it goes on from it; the chain of hashes must hold all the same.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "check.h"
#include "errors.h"
#include "eventlog.h"
#include "handler.h"
#include "replay.h"
#include "snapshot.h"

#define DIGEST_DIFFERS "digest differs"

/*
 * A fold under way.  A step's result is in one memory context while the state that it came from is in the other.
 */
typedef struct Replay
{
	WfWorkflow *workflow;
	WfVersion  *version;
	bool		one_version;	/* it is that one throughout */
	bool		whole;			/* goes on after a difference */
	bool		patient;		/* notes what passes, and does not raise it */
	const WfInstance *instance;
	Snapshot	snapshot;
	WfReplayLimit limit;
	WfReplayVisitor visitor;	/* or NULL */
	void	   *visitor_arg;
	WfKept	   *kept;			/* or NULL */
	MemoryContext memory;		/* the caller's, for what is returned */
	MemoryContext step_memory[2];
	int			current;
	WfFold	   *fold;
	WfDivergence *divergence;
	bool		differs;		/* the row just folded */
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
 * The same where no state comes after the difference.
 */
static void
get_stuck(Replay *replay, int64 seq, const char *reason)
{
	diverge(replay, seq, reason);
	replay->divergence->stuck_seq = seq;
	replay->divergence->stuck_reason = MemoryContextStrdup(replay->memory, reason);
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
		get_stuck(replay, replay->fold->seq + 1, "row missing");
		return false;
	}
	wf_eventlog_chain(replay->fold->hash, row, hash);
	if (memcmp(hash, row->hash, WF_SHA256_LEN) != 0)
	{
		get_stuck(replay, row->seq, "hash differs");
		return false;
	}
	return true;
}

/*
 * The event as it is to be folded.  False where its payload, which it needs, was erased.
 */
static bool
get_event(Replay *replay, const WfLogRow *row, WfEvent *event)
{
	bool		upgrade = strcmp(row->event.name, "$upgrade") == 0;
	bool		needed = upgrade || strcmp(row->event.name, "$accept") == 0 || !WF_IS_ENGINE_EVENT(row->event.name);

	*event = row->event;
	if (replay->one_version && upgrade)
		/* to no version */
		event->payload = wf_check_empty_object();
	else if (event->payload_sha256 != NULL && needed)
	{
		get_stuck(replay, row->seq, "payload erased");
		return false;
	}
	return true;
}

/*
 * The handler has raised.  What passes leaves it open whether the log is as it should be: so that is never a difference, and
 * is raised as it is, with its own SQLSTATE, unless the caller knows what to do about it.
 */
static void
note_failure(Replay *replay, const WfLogRow *row, ErrorData *error)
{
	MemoryContext old;

	if (!wf_error_is_passing(error))
	{
		get_stuck(replay, row->seq, psprintf("handler failed: %s", wf_error_clip(error->message, WF_MAX_MESSAGE)));
		return;
	}
	if (!replay->patient)
		ThrowErrorData(error);
	old = MemoryContextSwitchTo(replay->memory);
	replay->divergence->passing = wf_error_summary(error);
	replay->divergence->passing_context = wf_error_context(error, row->event.name, row->seq);
	MemoryContextSwitchTo(old);
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
	WfEvent		event;
	int64		digest;
	ErrorData  *error;

	if (!get_event(replay, row, &event))
		return false;
	switch (wf_process_step(replay->workflow, replay->version, replay->instance, fold, &event, true, &after, actions,
							&digest, &error))
	{
		case WF_STEP_FAILED:
			note_failure(replay, row, error);
			return false;
		case WF_STEP_POSTPONED:
			get_stuck(replay, row->seq, "handler postpones the event");
			return false;
		case WF_STEP_DONE:
			break;
	}
	replay->differs = digest != row->digest;
	if (replay->differs)
		diverge(replay, row->seq, DIGEST_DIFFERS);
	else if (!replay->one_version && wf_process_accepted_state(&event) != NULL)
		memset(replay->divergence, 0, sizeof(WfDivergence));
	memcpy(after.hash, row->hash, WF_SHA256_LEN);
	/* a state that was kept is still in the memory of the step that made it */
	if (after.state == fold->state)
		after.state = memcpy(palloc(VARSIZE(fold->state)), fold->state, VARSIZE(fold->state));
	*fold = after;
	return true;
}

/*
 * A version's code, or an error that says why it cannot be run: 42704 where there is no such version.
 */
WfVersion *
wf_replay_version(WfWorkflow *workflow, int number)
{
	WfVersion  *version = wf_workflow_version(workflow, number);

	if (version->problem != NULL)
		ereport(ERROR,
				(errcode(version->problem_code),
				 errmsg("%s", wf_process_problem(workflow, version))));
	return version;
}

/*
 * The versions whose code the next row needs: the one that handles it, and those whose migrate functions it calls.  Returns
 * the one that cannot be run, or NULL.
 */
static const WfVersion *
find_blocked(const Replay *replay, const WfLogRow *row)
{
	int			version = strcmp(row->event.name, "$upgrade") == 0 ? wf_process_upgrade_to(&row->event) : 0;

	if (replay->version->problem != NULL)
		return replay->version;
	if (version == 0 || version == replay->fold->version)
		return NULL;
	return wf_process_blocked_by(replay->workflow, replay->fold->version, version);
}

/*
 * Takes the code that is to handle the next row.  False where it cannot be run.
 */
static bool
take_code(Replay *replay, const WfLogRow *row)
{
	const WfVersion *blocked;

	if (replay->one_version)
		return true;
	if (replay->version == NULL || replay->version->version != replay->fold->version)
		replay->version = wf_workflow_version_of_row(replay->workflow, replay->fold->version);
	blocked = find_blocked(replay, row);
	if (blocked == NULL)
		return true;
	if (replay->divergence->seq == 0)
		replay->divergence->code = blocked->problem_code;
	get_stuck(replay, row->seq, wf_process_problem(replay->workflow, blocked));
	/* one that is missing is known for this row only */
	replay->version = NULL;
	return false;
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
	replay->current = 1 - replay->current;
	MemoryContextReset(replay->step_memory[replay->current]);
	MemoryContextSwitchTo(replay->step_memory[replay->current]);
	going = check_chain(replay, row) && take_code(replay, row) && fold_row(replay, row, &actions);
	if (going && replay->visitor != NULL)
		going = replay->visitor(row, replay->fold, actions, replay->differs, replay->visitor_arg);
	else
		going = going && (replay->whole || replay->divergence->seq == 0);
	MemoryContextSwitchTo(replay->memory);
	if (going && replay->kept != NULL && replay->divergence->seq == 0)
		wf_snapshot_keep(replay->kept, replay->fold);
	return going;
}

/*
 * Whether a row is wanted.  The clock is the greatest stamp so far, so a row's own stamp is all that can pass the limit.
 */
static bool
is_within(const WfReplayLimit *limit, const WfLogRow *row)
{
	return row->seq <= limit->upto && row->event.at <= limit->as_of && row->recorded_at <= limit->known_at;
}

/*
 * The rows after the fold's seq, up to the last one wanted or the first that differs.
 */
static void
take_rows(void *arg)
{
	Replay	   *replay = arg;
	bool		going = true;

	while (going)
	{
		WfLogScan  *scan = wf_eventlog_open(replay->instance->instance_id, replay->fold->seq, replay->snapshot);
		int64		number = wf_handler_stretch_number();
		WfLogRow	row;

		while (going && number == wf_handler_stretch_number())
			going = replay->fold->seq < replay->limit.upto && wf_eventlog_next(scan, &row) &&
				is_within(&replay->limit, &row) && take_row(replay, &row);

		/*
		 * a step that had to be undone took the scan with it: it belonged to
		 * the subtransaction that was rolled back
		 */
		if (number == wf_handler_stretch_number())
			wf_eventlog_close(scan);
	}
}

/*
 * Takes a row in without folding it, but for the state.
 */
void
wf_replay_pass(WfFold *fold, const WfLogRow *row)
{
	fold->seq = fold->changed_seq = row->seq;
	fold->clock = Max(fold->clock, row->event.at);
	fold->started = fold->started || strcmp(row->event.name, "start") == 0;
	if (strcmp(row->event.name, "$upgrade") == 0 && wf_process_upgrade_to(&row->event) != 0)
		fold->version = wf_process_upgrade_to(&row->event);
	memcpy(fold->hash, row->hash, WF_SHA256_LEN);
}

/*
 * Whether a row has the hash and the seq that are due after the fold.
 */
static bool
is_chained(const WfFold *fold, const WfLogRow *row)
{
	uint8		hash[WF_SHA256_LEN];

	wf_eventlog_chain(fold->hash, row, hash);
	return row->seq == fold->seq + 1 && memcmp(hash, row->hash, WF_SHA256_LEN) == 0;
}

/*
 * After a difference: puts the fold before the next row that accepts it.  False where there is none within the limit, or the
 * chain does not hold up to it.
 */
static bool
skip_to_accepted(Replay *replay)
{
	WfFold		head = *replay->fold;
	WfFold		before = head;
	WfLogScan  *scan;
	WfLogRow	row;
	bool		found = false;

	if (replay->divergence->seq == 0 || replay->one_version || replay->visitor != NULL)
		return false;
	scan = wf_eventlog_open(replay->instance->instance_id, head.seq, replay->snapshot);
	while (!found && wf_eventlog_next(scan, &row) && is_within(&replay->limit, &row) && is_chained(&head, &row))
	{
		CHECK_FOR_INTERRUPTS();
		found = wf_process_accepted_state(&row.event) != NULL;
		before = head;
		wf_replay_pass(&head, &row);
	}
	wf_eventlog_close(scan);
	if (!found)
		return false;
	*replay->fold = before;
	replay->fold->state = wf_check_empty_object();
	memset(replay->divergence, 0, sizeof(WfDivergence));
	return true;
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
	do
		wf_handler_stretch(take_rows, replay);
	while (skip_to_accepted(replay));
	fold->state = memcpy(palloc(VARSIZE(fold->state)), fold->state, VARSIZE(fold->state));
	for (int i = 0; i < 2; i++)
		MemoryContextDelete(replay->step_memory[i]);
}

/*
 * The fold of an empty log.
 */
void
wf_replay_first_fold(const WfInstance *instance, WfFold *fold)
{
	wf_process_init_fold(fold, instance->first_version);
	wf_eventlog_first_hash(instance->id, fold->hash);
}

/*
 * Whether a snapshot's fold is no further than wanted.
 */
static bool
helps(const Replay *replay, const WfFold *fold)
{
	WfLogScan  *scan;
	WfLogRow	row;
	bool		known;

	if (fold->seq > replay->limit.upto || fold->clock > replay->limit.as_of)
		return false;
	if (replay->limit.known_at == DT_NOEND)
		return true;
	scan = wf_eventlog_open(replay->instance->instance_id, fold->seq - 1, replay->snapshot);
	known = wf_eventlog_next(scan, &row) && row.recorded_at <= replay->limit.known_at;
	wf_eventlog_close(scan);
	return known;
}

/*
 * A snapshot that does not fit is a WARNING and does not count.
 */
static void
warn_of_snapshot(const WfInstance *instance, const char *problem)
{
	ereport(WARNING,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("snapshot of instance \"%s\" is not used: %s", instance->id, problem),
			 errdetail("Its state comes from the log.")));
}

/*
 * Fills *fold from the newest of the kept snapshots after a seq that helps and fits.  False: there is none.
 */
static bool
find_kept(const Replay *replay, int64 after, WfFold *fold)
{
	const WfInstance *instance = replay->instance;
	WfKeptScan *scan = wf_snapshot_open_kept(instance->instance_id, after + 1, replay->limit.upto, replay->snapshot);
	bool		found = false;
	const char *problem;

	while (!found && wf_snapshot_next_kept(scan, BackwardScanDirection, fold))
	{
		CHECK_FOR_INTERRUPTS();
		if (!helps(replay, fold))
			continue;
		found = wf_snapshot_read_kept(scan, fold, &problem);
		if (!found)
			warn_of_snapshot(instance, psprintf("%s (event %lld)", problem, (long long) fold->seq));
	}
	wf_snapshot_close_kept(scan);
	return found;
}

/*
 * Begins at the newest snapshot that helps, and returns its seq, else at the first event, and returns 0.  The present begins
 * at the instance's own; without one there are none of the past either (record.c), so that none are looked for.
 */
static int64
begin_at_snapshot(Replay *replay, bool past)
{
	const char *problem = NULL;
	WfFold	   *fold = replay->fold;
	const WfInstance *instance = replay->instance;
	bool		found = wf_snapshot_load(instance->instance_id, replay->snapshot, fold, &problem);
	WfFold		kept;

	if (problem != NULL)
		warn_of_snapshot(instance, problem);
	past = past || problem != NULL;
	found = found && helps(replay, fold);
	if (past && find_kept(replay, found ? fold->seq : 0, &kept))
	{
		*fold = kept;
		found = true;
	}
	if (found)
		return fold->seq;
	wf_replay_first_fold(instance, fold);
	return 0;
}

/*
 * Folds from the instance's snapshot on; returns its seq.
 */
static int64
fold_present(Replay *replay, WfKept *kept)
{
	int64		snapshot_seq;

	memset(replay->divergence, 0, sizeof(WfDivergence));
	snapshot_seq = begin_at_snapshot(replay, false);
	if (snapshot_seq == 0)
		replay->kept = kept;
	fold_log(replay);
	return snapshot_seq;
}

/*
 * Fills *fold with the present state, from the snapshot and the log after it; *snapshot_seq is the snapshot's, or 0.  Where
 * divergence->passing is set the log could not be folded for now, which is no error here.  Where divergence->seq is set, *fold is
 * what the present code leads to all the same, or where it got stuck.  Where there was no snapshot to begin at, those of the past
 * are missing too, and are noted in *kept, unless that is NULL.
 */
void
wf_replay_activate(WfWorkflow *workflow, const WfInstance *instance, Snapshot snapshot, WfFold *fold, int64 *snapshot_seq,
				   WfDivergence *divergence, WfKept *kept)
{
	Replay		replay = {
		.workflow = workflow,.instance = instance,.snapshot = snapshot,.limit = WF_REPLAY_NO_LIMIT,
		.whole = true,.patient = true,.fold = fold,.divergence = divergence
	};

	*snapshot_seq = fold_present(&replay, kept);
}

/*
 * The same by who does not write.
 */
void
wf_replay_load(WfWorkflow *workflow, const WfInstance *instance, Snapshot snapshot, WfFold *fold, int64 *snapshot_seq,
			   WfDivergence *divergence)
{
	Replay		replay = {
		.workflow = workflow,.instance = instance,.snapshot = snapshot,.limit = WF_REPLAY_NO_LIMIT,
		.whole = true,.fold = fold,.divergence = divergence
	};

	*snapshot_seq = fold_present(&replay, NULL);
}

/*
 * The same for a state of the past: up to the last row within the limit.
 */
void
wf_replay_upto(WfWorkflow *workflow, const WfInstance *instance, Snapshot snapshot, WfReplayLimit limit, WfFold *fold,
			   WfDivergence *divergence)
{
	Replay		replay = {
		.workflow = workflow,.instance = instance,.snapshot = snapshot,.limit = limit,
		.fold = fold,.divergence = divergence
	};

	memset(divergence, 0, sizeof(WfDivergence));
	(void) begin_at_snapshot(&replay, true);
	fold_log(&replay);
}

/*
 * Goes on from *fold up to seq upto, calling visitor for each.
 */
void
wf_replay_on(WfWorkflow *workflow, const WfInstance *instance, Snapshot snapshot, int64 upto, WfReplayVisitor visitor,
			 void *arg, WfFold *fold, WfDivergence *divergence)
{
	Replay		replay = {
		.workflow = workflow,.instance = instance,.snapshot = snapshot,.limit = WF_REPLAY_NO_LIMIT,
		.visitor = visitor,.visitor_arg = arg,.fold = fold,.divergence = divergence
	};

	replay.limit.upto = upto;
	memset(divergence, 0, sizeof(WfDivergence));
	fold_log(&replay);
}

/*
 * What to ask where the code leads elsewhere for no reason that is seen here; else nothing.
 */
const char *
wf_replay_question(const WfDivergence *divergence)
{
	return strcmp(divergence->reason, DIGEST_DIFFERS) == 0 ?
		": does the handler use the clock, random values, or tables that have changed?" : "";
}

/*
 * Raises where a replay and the log have parted: WF001, or the code's problem.
 */
void
wf_replay_require(const WfInstance *instance, const WfDivergence *divergence)
{
	if (divergence->code != 0)
		ereport(ERROR,
				(errcode(divergence->code),
				 errmsg("%s", divergence->reason)));
	if (divergence->seq != 0)
		ereport(ERROR,
				(errcode(ERRCODE_WF_DIVERGED),
				 errmsg("replay of instance \"%s\" differs from its log at seq %lld: %s%s",
						instance->id, (long long) divergence->seq, divergence->reason, wf_replay_question(divergence)),
				 errhint("wfproc.verify() checks the whole log, wfproc.replay() shows each step.")));
}

/*
 * Folds from the first event up to seq upto, calling visitor (or NULL) for each; without one it stops where the log and
 * the replay part.  version: whose code handles all; NULL: of each event that version's which handled it.
 */
void
wf_replay_under(WfWorkflow *workflow, WfVersion *version, const WfInstance *instance, Snapshot snapshot, int64 upto,
				WfReplayVisitor visitor, void *arg, WfFold *fold, WfDivergence *divergence)
{
	Replay		replay = {
		.workflow = workflow,.version = version,.one_version = version != NULL,.instance = instance,
		.snapshot = snapshot,.limit = WF_REPLAY_NO_LIMIT,.visitor = visitor,.visitor_arg = arg,
		.fold = fold,.divergence = divergence
	};

	replay.limit.upto = upto;
	memset(divergence, 0, sizeof(WfDivergence));
	wf_replay_first_fold(instance, fold);
	if (version != NULL)
		fold->version = version->version;
	fold_log(&replay);
}

/*
 * The same under the versions of the log.
 */
void
wf_replay_all(WfWorkflow *workflow, const WfInstance *instance, Snapshot snapshot, int64 upto, WfReplayVisitor visitor,
			  void *arg, WfFold *fold, WfDivergence *divergence)
{
	wf_replay_under(workflow, NULL, instance, snapshot, upto, visitor, arg, fold, divergence);
}
