/*
 * fork.c: fork(): a new instance that begins with the past of another.
 *
 * The rows of the source's log are copied with their stamps and digests and chained anew from the new id; then the copy
 * is folded, from its first event, to see that it leads to the same digests under that id.  All of it is the caller's
 * transaction: until it commits nobody else knows the instance, so its rows may be written here whatever shard it is in.
 * The source is only read.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "api.h"
#include "check.h"
#include "clock.h"
#include "errors.h"
#include "eventlog.h"
#include "object.h"
#include "replay.h"
#include "snapshot.h"

#define TAKEN_HINT "Choose another id for the fork."

PG_FUNCTION_INFO_V1(wfproc_fork);

typedef struct Fork
{
	WfInstance	source;
	WfWorkflow *workflow;
	int64		seq;			/* the last that is copied */
	uint8		source_hash[WF_SHA256_LEN]; /* of the last row read */
	WfInstance	row;			/* the new one's */
	WfFold		fold;			/* of its log */
	MemoryContext memory;		/* where this is */
	WfKept		kept;
	bool		differs;		/* the fold from the copy, and that is not
								 * accepted yet */
} Fork;

/*
 * Where the new instance begins: it is live from now on, and nobody's child.
 */
static void
fill_row(Fork *fork, const char *new_id, bool paused)
{
	WfInstance *row = &fork->row;

	*row = fork->source;
	row->instance_id = wf_instance_next_id();
	row->id = pstrdup(new_id);
	row->status = paused ? WF_PAUSED : WF_RUNNING;
	row->attempts = row->crashes = 0;
	row->cancelling = row->state_timers = false;
	/* what its past says of its status was the source's */
	row->unlogged = paused;
	row->live_from = wf_clock_now();
	row->closed_at = 0;
	row->retry_at = DT_NOBEGIN;
	row->parent = NULL;
	row->result = NULL;
	row->error = row->error_context = NULL;
}

static void
no_such_seq(const Fork *fork, int64 last)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the log of instance \"%s\" has no event %lld", fork->source.id, (long long) fork->seq),
			 errhint("Its events are numbered 1 to %lld.", (long long) last)));
}

/*
 * Whether the instance goes on after the seq: what is logged of one that has closed says nothing more of it.
 */
static bool
goes_on(const Fork *fork, Snapshot snapshot)
{
	WfLogScan  *scan = wf_eventlog_open(fork->source.instance_id, fork->seq, snapshot);
	WfLogRow	row;
	bool		found = false;

	while (!found && wf_eventlog_next(scan, &row))
		found = strcmp(row.event.name, "$redact") != 0;
	wf_eventlog_close(scan);
	return found;
}

/*
 * Refuses a seq that is not in the log, and one at which the instance had closed: it could not go on from there.
 */
static void
check_seq(const Fork *fork, Snapshot snapshot)
{
	int64		last = wf_eventlog_last(fork->source.instance_id, snapshot, NULL);

	if (fork->seq < 1 || fork->seq > last)
		no_such_seq(fork, last);
	if (WF_IS_CLOSED(fork->source.status) && !goes_on(fork, snapshot))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("instance \"%s\" was %s at event %lld", fork->source.id,
						wf_instance_status_name(fork->source.status), (long long) fork->seq),
				 errhint("Fork it at an earlier event.")));
}

/*
 * A log that was tampered with must not get a new chain that holds.
 */
static void
check_chain(Fork *fork, const WfLogRow *row, int64 due)
{
	uint8		hash[WF_SHA256_LEN];

	wf_eventlog_chain(fork->source_hash, row, hash);
	if (row->seq != due || memcmp(hash, row->hash, WF_SHA256_LEN) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_WF_DIVERGED),
				 errmsg("the log of instance \"%s\" does not hold at event %lld: %s", fork->source.id, (long long) due,
						row->seq != due ? "row missing" : "hash differs"),
				 errhint("wfproc.verify() checks the whole log.")));
	memcpy(fork->source_hash, hash, WF_SHA256_LEN);
}

/*
 * A row of the source as one of the new log.  Its mail was the source's, and live is what its handler was told.
 */
static void
adopt_row(Fork *fork, WfLogRow *row, uint8 *hash)
{
	if (row->event.payload_sha256 != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the payload of event %lld of instance \"%s\" was erased", (long long) row->seq, fork->source.id),
				 errhint("A past that cannot be folded again cannot be forked.")));
	row->instance_id = fork->row.instance_id;
	row->event.mail_id = 0;
	wf_eventlog_chain(hash, row, row->hash);
	memcpy(hash, row->hash, WF_SHA256_LEN);
}

/*
 * Copies the log up to the seq.
 */
static void
copy_log(Fork *fork, Snapshot snapshot)
{
	WfLogScan  *scan = wf_eventlog_open(fork->source.instance_id, 0, snapshot);
	WfLogWriter *writer = wf_eventlog_writer_open();
	int64		due = 1;
	uint8		hash[WF_SHA256_LEN];
	WfLogRow	row;

	wf_eventlog_first_hash(fork->source.id, fork->source_hash);
	wf_eventlog_first_hash(fork->row.id, hash);
	while (wf_eventlog_next(scan, &row) && row.seq <= fork->seq)
	{
		CHECK_FOR_INTERRUPTS();
		check_chain(fork, &row, due++);
		adopt_row(fork, &row, hash);
		wf_eventlog_writer_put(writer, &row);
	}
	wf_eventlog_writer_close(writer);
	wf_eventlog_close(scan);
	CommandCounterIncrement();
}

/*
 * A WfReplayVisitor: whether a cancel was deferred on the way, and snapshots to be kept.  Goes on after a difference, which
 * may have been accepted later.
 */
static bool
look_at_step(const WfLogRow *row, const WfFold *fold, const List *actions, bool diverged, void *arg)
{
	Fork	   *fork = arg;
	MemoryContext old = MemoryContextSwitchTo(fork->memory);
	ListCell   *lc;

	foreach(lc, actions)
		if (((const WfAction *) lfirst(lc))->kind == WF_ACTION_DEFER_CANCEL)
		fork->row.cancelling = true;
	fork->differs = diverged || (fork->differs && wf_process_accepted_state(&row->event) == NULL);
	if (!fork->differs)
		wf_snapshot_keep(&fork->kept, fold);
	MemoryContextSwitchTo(old);
	return true;
}

/*
 * Folds the copy.  What a handler has made of its instance's id is not the same under another.
 */
static void
fold_copy(Fork *fork)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	WfDivergence divergence;

	fork->memory = CurrentMemoryContext;
	wf_replay_all(fork->workflow, &fork->row, snapshot, fork->seq, look_at_step, fork, &fork->fold, &divergence);
	UnregisterSnapshot(snapshot);
	if (divergence.seq != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the past of instance \"%s\" cannot be folded under another id", fork->source.id),
				 errdetail("At event %lld: %s.", (long long) divergence.seq, divergence.reason),
				 errhint("Where its handler uses self(), parent(), random() or uuid(), its past depends on who it is.")));
	if (!fork->fold.started)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("instance \"%s\" has not handled start at event %lld", fork->source.id, (long long) fork->seq),
				 errhint("Fork it at a later event.")));
	fork->row.version = fork->fold.version;
}

/*
 * {"by": role, "id": source, "seq": n, "hash": hex}
 */
static Jsonb *
origin_of(const Fork *fork)
{
	JsonbParseState *parse = NULL;
	StringInfoData hex;

	initStringInfo(&hex);
	wf_hash_append_hex(&hex, fork->source_hash, WF_SHA256_LEN);
	wf_object_begin(&parse);
	wf_object_text(&parse, "by", GetUserNameFromId(GetUserId(), false));
	wf_object_text(&parse, "id", fork->source.id);
	wf_object_int(&parse, "seq", fork->seq);
	wf_object_text(&parse, "hash", hex.data);
	return wf_object_end(&parse);
}

/*
 * Adds the event that says where the past comes from, at the clock as it was then.
 */
static void
log_origin(Fork *fork)
{
	WfLogRow	row = {0};
	WfLogRow   *rows[] = {&row};
	WfFold		after;
	List	   *actions;
	ErrorData  *error;

	row.instance_id = fork->row.instance_id;
	row.seq = fork->seq + 1;
	row.recorded_at = wf_clock_now();
	row.event.at = fork->fold.clock;
	row.event.name = "$fork";
	row.event.payload = origin_of(fork);
	row.event.live = row.event.at >= fork->row.live_from;
	(void) wf_process_step(fork->workflow, NULL, &fork->row, &fork->fold, &row.event, false, &after, &actions, &row.digest,
						   &error);
	wf_eventlog_chain(fork->fold.hash, &row, row.hash);
	wf_eventlog_append(rows, 1);
	fork->fold = after;
	memcpy(fork->fold.hash, row.hash, WF_SHA256_LEN);
}

/*
 * fork(id, seq, new_id, paused) -> new_id
 */
Datum
wfproc_fork(PG_FUNCTION_ARGS)
{
	Fork		fork = {0};
	WfInstance	other;
	Snapshot	snapshot;
	char	   *id;
	char	   *new_id;

	wf_api_prepare_to_write("fork", "fork instances");
	id = wf_check_name(fcinfo, 0, "id");
	wf_check_not_null(fcinfo, 1, "seq");
	new_id = wf_check_name(fcinfo, 2, "new_id");
	wf_check_not_null(fcinfo, 3, "paused");
	fork.seq = PG_GETARG_INT64(1);
	fork.workflow = wf_instance_get(id, WF_PRIV_OPERATE, &fork.source);
	if (wf_instance_find(new_id, &other))
		wf_instance_refuse_id(new_id, TAKEN_HINT);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	check_seq(&fork, snapshot);
	fill_row(&fork, new_id, PG_GETARG_BOOL(3));
	copy_log(&fork, snapshot);
	UnregisterSnapshot(snapshot);
	fold_copy(&fork);
	log_origin(&fork);
	wf_instance_add(&fork.row, TAKEN_HINT);
	/* so that it need not be folded from the first event when it acts */
	wf_snapshot_store(fork.row.instance_id, &fork.fold);
	wf_snapshot_store_kept(fork.row.instance_id, &fork.kept);
	PG_RETURN_TEXT_P(cstring_to_text(new_id));
}
