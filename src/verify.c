/*
 * verify.c: whether an instance's log, its snapshot and its code are what they were.
 *
 * Called by verify() and verify_all(), through the caller's snapshot, read-only, on a standby too.  The log is read twice:
 * first all rows by themselves (the chain of hashes, what was erased, what is in the mailbox as well), then as a fold.
 *
 * The payload of an event that redact() has erased cannot be folded.  So such a log is folded up to the first of those, and
 * then from the first snapshot after it on, its own or one of the past, up to the next; the chain covers all rows.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "acl.h"
#include "action.h"
#include "check.h"
#include "compat.h"
#include "errors.h"
#include "eventlog.h"
#include "mailbox.h"
#include "object.h"
#include "process.h"
#include "rows.h"
#include "snapshot.h"
#include "spi.h"
#include "verify.h"
#include "version.h"

/* most rows that one call of verify_all() returns */
#define MAX_LIST 100000

PG_FUNCTION_INFO_V1(wfproc_verify_all);

/* numbers, which once all are there are sorted */
typedef struct Numbers
{
	int64	   *values;
	int			count;
	int			size;
} Numbers;

/* what the rows of a log say by themselves */
typedef struct LogCheck
{
	WfWorkflow *workflow;
	const WfInstance *instance;
	MemoryContext memory;
	int64		seq;			/* the last row; 0: none */
	TimestampTz clock;
	uint8		hash[WF_SHA256_LEN];
	WfDivergence bad;			/* the first row that does not fit */
	WfDivergence bad_live;		/* the same for column live */
	Numbers		mail;			/* of the mailbox */
	Numbers		erased;			/* rows without a payload */
	Numbers		redacted;		/* rows that a $redact names */
	Numbers		upgrades;		/* versions that rows of the log switch to */
	Numbers		upgrade_seqs;	/* ... and those rows */
	Numbers		lost;			/* erased rows that cannot be folded */
	int64		first_lost;		/* the first of them; 0: none */
} LogCheck;

static void
add_number(Numbers *numbers, int64 value)
{
	if (numbers->count == numbers->size)
	{
		numbers->size = Max(numbers->size * 2, 16);
		numbers->values = numbers->values == NULL ? palloc(numbers->size * sizeof(int64)) :
			repalloc(numbers->values, numbers->size * sizeof(int64));
	}
	numbers->values[numbers->count++] = value;
}

static int
compare_numbers(const void *a, const void *b)
{
	int64		x = *(const int64 *) a;
	int64		y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}

static bool
has_number(const Numbers *numbers, int64 value)
{
	return numbers->count > 0 &&
		bsearch(&value, numbers->values, numbers->count, sizeof(int64), compare_numbers) != NULL;
}

static void
sort_numbers(Numbers *numbers)
{
	if (numbers->count > 1)
		qsort(numbers->values, numbers->count, sizeof(int64), compare_numbers);
}

/*
 * The first that does not fit is what counts.
 */
static void
note_bad(WfDivergence *bad, MemoryContext memory, int64 seq, const char *reason)
{
	if (bad->reason != NULL)
		return;
	bad->seq = seq;
	bad->reason = MemoryContextStrdup(memory, reason);
}

static void
read_mailbox(LogCheck *check, Snapshot snapshot)
{
	WfMailScan *scan = wf_mailbox_open(check->instance->instance_id, DT_NOBEGIN, snapshot);
	WfMail		mail;

	while (wf_mailbox_next(scan, &mail))
	{
		CHECK_FOR_INTERRUPTS();
		add_number(&check->mail, mail.event.mail_id);
	}
	wf_mailbox_close(scan);
	sort_numbers(&check->mail);
}

/*
 * A row without its payload: what stands for it must be empty, or it would be taken for what has happened.
 */
static void
check_erased(LogCheck *check, const WfLogRow *row)
{
	if (row->event.payload_sha256 == NULL)
		return;
	if (!JB_ROOT_IS_OBJECT(row->event.payload) || JB_ROOT_COUNT(row->event.payload) != 0)
		note_bad(&check->bad, check->memory, row->seq, "payload changed: it is said to be erased");
	add_number(&check->erased, row->seq);
	if (WF_IS_ENGINE_EVENT(row->event.name) && strcmp(row->event.name, "$upgrade") != 0)
		return;
	if (check->first_lost == 0)
		check->first_lost = row->seq;
	add_number(&check->lost, row->seq);
}

/*
 * The seq that a $redact names; 0: none.
 */
static int64
redacted_seq(Jsonb *payload)
{
	Jsonb	   *value = wf_object_get(payload, "seq");
	JsonbValue	scalar;

	if (value == NULL || !JB_ROOT_IS_SCALAR(value) || !JsonbExtractScalar(&value->root, &scalar) ||
		scalar.type != jbvNumeric)
		return 0;
	return DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(scalar.val.numeric)));
}

/*
 * What columns beside the hash say.
 */
static void
check_columns(LogCheck *check, const WfLogRow *row)
{
	check_erased(check, row);
	if (row->event.mail_id != 0 && has_number(&check->mail, row->event.mail_id))
		note_bad(&check->bad, check->memory, row->seq,
				 psprintf("event " INT64_FORMAT " is in the mailbox as well", row->event.mail_id));
	if (strcmp(row->event.name, "$redact") == 0)
		add_number(&check->redacted, redacted_seq(row->event.payload));
	if (strcmp(row->event.name, "$upgrade") == 0)
	{
		add_number(&check->upgrades, wf_process_upgrade_to(&row->event));
		add_number(&check->upgrade_seqs, row->seq);
	}
	if (strcmp(row->event.name, "$fork") == 0)
		/* what comes before it was another instance's */
		memset(&check->bad_live, 0, sizeof(WfDivergence));
	else if (row->live != (check->clock >= check->instance->live_from))
		note_bad(&check->bad_live, check->memory, row->seq, "row changed: live differs");
}

/*
 * Takes the next row.  False: the chain is broken, and what comes after it says nothing.
 */
static bool
check_row(LogCheck *check, const WfLogRow *row)
{
	uint8		hash[WF_SHA256_LEN];

	if (row->seq != check->seq + 1)
	{
		/* numbers are unique, so what is out of order is below the first */
		note_bad(&check->bad, check->memory, row->seq <= check->seq ? row->seq : check->seq + 1,
				 row->seq <= check->seq ? "row added" : "row missing");
		return false;
	}
	wf_eventlog_chain(check->hash, row, hash);
	if (memcmp(hash, row->hash, WF_SHA256_LEN) != 0)
	{
		note_bad(&check->bad, check->memory, row->seq, "hash differs");
		return false;
	}
	check->seq = row->seq;
	check->clock = Max(check->clock, row->event.at);
	memcpy(check->hash, row->hash, WF_SHA256_LEN);
	check_columns(check, row);
	return true;
}

/*
 * Notes what is wrong with a row that has been read already.
 */
static void
note_earlier(LogCheck *check, int64 seq, const char *reason)
{
	if (check->bad.reason != NULL && check->bad.seq <= seq)
		return;
	check->bad.seq = seq;
	check->bad.reason = pstrdup(reason);
}

/*
 * Each erased row must have been asked for, by a later row of the log, and the other way round.
 */
static void
check_redactions(LogCheck *check)
{
	sort_numbers(&check->redacted);
	for (int i = 0; i < check->erased.count; i++)
		if (!has_number(&check->redacted, check->erased.values[i]))
			note_earlier(check, check->erased.values[i], "payload changed: it was erased without a $redact");
	for (int i = 0; i < check->redacted.count; i++)
		if (!has_number(&check->erased, check->redacted.values[i]))
			note_earlier(check, check->redacted.values[i], "payload changed: it is there again after a $redact");
}

static void
check_log(LogCheck *check, Snapshot snapshot)
{
	WfLogScan  *scan;
	WfLogRow	row;
	bool		whole = true;

	read_mailbox(check, snapshot);
	check->clock = DT_NOBEGIN;
	wf_eventlog_first_hash(check->instance->id, check->hash);
	scan = wf_eventlog_open(check->instance->instance_id, PG_INT64_MIN, snapshot);
	while (whole && wf_eventlog_next(scan, &row))
	{
		CHECK_FOR_INTERRUPTS();
		whole = check_row(check, &row);
	}
	wf_eventlog_close(scan);
	if (whole)
		check_redactions(check);
	if (check->bad_live.reason != NULL && (check->bad.reason == NULL || check->bad_live.seq < check->bad.seq))
		check->bad = check->bad_live;
}

/*
 * NULL where a version's row is as it was published, as far as it tells, and its code can be run; else what is wrong.
 * passed_by: an upgrade went by it, so that it matters only where it has a migrate function.
 */
static char *
code_problem(WfWorkflow *workflow, int version, bool passed_by)
{
	static SPIPlanPtr plan = NULL;
	const Oid	types[] = {INT4OID, INT4OID};
	Datum		values[] = {Int32GetDatum(workflow->workflow_id), Int32GetDatum(version)};
	const char *problem = NULL;
	bool		needed = true;
	WfVersion  *known;
	WfSpi		spi;
	bool		isnull;

	wf_spi_begin(&spi);
	if (wf_spi_execute(&plan,
					   "SELECT sha256(convert_to(code, 'UTF8')) = code_sha256 AND (migrate_code IS NULL) = (migrate_sha256 IS NULL)"
					   " AND coalesce(sha256(convert_to(migrate_code, 'UTF8')) = migrate_sha256, true)"
					   " AND NOT EXISTS (SELECT FROM wfproc.version_helper h WHERE h.workflow_id = $1 AND h.version = $2"
					   " AND sha256(convert_to(h.code, 'UTF8')) <> h.code_sha256), migrate IS NOT NULL"
					   " FROM wfproc.version WHERE workflow_id = $1 AND version = $2",
					   lengthof(types), types, values, NULL, true, SPI_OK_SELECT) == 0)
		problem = "its row is missing";
	else if (passed_by && !DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull)))
		needed = false;
	else if (!DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull)))
		problem = "its code does not have its SHA-256";
	wf_spi_end(&spi);
	if (problem != NULL)
		return psprintf("code changed: version %d: %s", version, problem);
	if (!needed)
		return NULL;
	known = wf_workflow_version(workflow, version);
	if (known->problem == NULL)
	{
		problem = wf_version_check_schema(workflow, known);
		return problem == NULL ? NULL : psprintf("code changed: version %d: %s", version, problem);
	}
	return psprintf("%s: version %d: %s", known->problem_code == ERRCODE_WF_CODE_CHANGED ? "code changed" : "code cannot be run",
					version, known->problem);
}

/*
 * The first version after one, up to another, that is not there any more; 0: none.
 */
static int
missing_version(const WfWorkflow *workflow, int from, int to)
{
	static SPIPlanPtr plan = NULL;
	const Oid	types[] = {INT4OID, INT4OID, INT4OID};
	Datum		values[] = {Int32GetDatum(workflow->workflow_id), Int32GetDatum(from), Int32GetDatum(to)};
	int			missing = 0;
	WfSpi		spi;
	bool		isnull;

	wf_spi_begin(&spi);
	if (wf_spi_execute(&plan,
					   "SELECT n FROM generate_series($2 + 1, $3) n WHERE NOT EXISTS (SELECT FROM wfproc.version"
					   " WHERE workflow_id = $1 AND version = n) ORDER BY n LIMIT 1",
					   lengthof(types), types, values, NULL, true, SPI_OK_SELECT) > 0)
		missing = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	wf_spi_end(&spi);
	return missing;
}

/*
 * What is wrong with the versions that an upgrade goes by; NULL: nothing.
 */
static char *
way_problem(WfWorkflow *workflow, int from, int to)
{
	int			missing = missing_version(workflow, from, to);
	char	   *problem = NULL;

	if (missing != 0)
		return psprintf("code changed: version %d: its row is missing", missing);
	while (from != to && problem == NULL)
	{
		from = wf_process_next_on_way(workflow, from, to);
		problem = code_problem(workflow, from, from != to);
	}
	return problem;
}

/*
 * Whether the code of the versions that the log needs is there; else *bad says where that is first needed.
 */
static bool
check_code(const LogCheck *check, WfDivergence *bad)
{
	int			from = check->instance->first_version;

	bad->seq = 1;
	bad->reason = code_problem(check->workflow, from, false);
	for (int i = 0; i < check->upgrades.count && bad->reason == NULL; i++)
	{
		int			to = (int) check->upgrades.values[i];

		bad->seq = check->upgrade_seqs.values[i];
		bad->reason = way_problem(check->workflow, from, to);
		from = to;
	}
	return bad->reason == NULL;
}

/* a snapshot, its own or one of the past, as the log is to lead to it */
typedef struct SnapshotCheck
{
	bool		kept;			/* of the past */
	int64		seq;
	int64		changed_seq;
	TimestampTz clock;
	int			version;
	uint8		state_sha256[WF_SHA256_LEN];
	const char *problem;		/* NULL: none so far */
} SnapshotCheck;

/* what is compared while the log is folded */
typedef struct FoldCheck
{
	SnapshotCheck *snapshots;	/* by seq */
	int			count;
	int			next;
	int64		bad_reply;		/* the first row whose reply is another; 0:
								 * none */
} FoldCheck;

static void
add_snapshot(FoldCheck *check, const WfFold *fold, bool kept, const char *problem)
{
	SnapshotCheck *snapshot;

	if ((check->count & (check->count - 1)) == 0)
		check->snapshots = check->count == 0 ? palloc(sizeof(SnapshotCheck)) :
			repalloc(check->snapshots, check->count * 2 * sizeof(SnapshotCheck));
	snapshot = &check->snapshots[check->count++];
	snapshot->kept = kept;
	snapshot->seq = fold->seq;
	snapshot->clock = fold->clock;
	snapshot->version = fold->version;
	snapshot->problem = problem;
	snapshot->changed_seq = fold->changed_seq;
	wf_hash_jsonb(fold->state, snapshot->state_sha256);
}

static int
compare_snapshots(const void *a, const void *b)
{
	const SnapshotCheck *x = a;
	const SnapshotCheck *y = b;

	if (x->seq != y->seq)
		return x->seq < y->seq ? -1 : 1;
	return (int) y->kept - (int) x->kept;
}

/*
 * Reads the snapshots of an instance.
 */
static void
read_snapshots(const LogCheck *log, Snapshot snapshot, FoldCheck *check)
{
	int64		instance_id = log->instance->instance_id;
	WfKeptScan *scan = wf_snapshot_open_kept(instance_id, PG_INT64_MIN, PG_INT64_MAX, snapshot);
	const char *problem;
	WfFold		fold;

	while (wf_snapshot_next_kept(scan, ForwardScanDirection, &fold))
	{
		CHECK_FOR_INTERRUPTS();
		(void) wf_snapshot_read_kept(scan, &fold, &problem);
		add_snapshot(check, &fold, true, problem);
		pfree(fold.state);
	}
	wf_snapshot_close_kept(scan);
	if (wf_snapshot_load(instance_id, snapshot, &fold, &problem) || problem != NULL)
		add_snapshot(check, &fold, false, problem);
	if (check->count > 1)
		qsort(check->snapshots, check->count, sizeof(SnapshotCheck), compare_snapshots);
}

static bool
same_reply(Jsonb *logged, const List *actions)
{
	ListCell   *lc;

	foreach(lc, actions)
	{
		const WfAction *action = lfirst(lc);

		if (action->kind == WF_ACTION_REPLY)
			return logged != NULL && action->json != NULL &&
				compareJsonbContainers(&logged->root, &action->json->root) == 0;
	}
	return logged == NULL;
}

/*
 * Compares the snapshots of this seq with the fold.
 */
static void
check_snapshots(FoldCheck *check, const WfFold *fold)
{
	uint8		sha256[WF_SHA256_LEN];

	while (check->next < check->count && check->snapshots[check->next].seq < fold->seq)
		check->next++;
	if (check->next == check->count || check->snapshots[check->next].seq > fold->seq)
		return;
	wf_hash_jsonb(fold->state, sha256);
	for (; check->next < check->count && check->snapshots[check->next].seq == fold->seq; check->next++)
	{
		SnapshotCheck *snapshot = &check->snapshots[check->next];

		if (snapshot->problem == NULL &&
			(memcmp(sha256, snapshot->state_sha256, WF_SHA256_LEN) != 0 || snapshot->clock != fold->clock ||
			 snapshot->version != fold->version || snapshot->changed_seq != fold->changed_seq))
			snapshot->problem = "the log leads to another state";
	}
}

/*
 * A WfReplayVisitor: compares the row's reply, and the state with the snapshots of this seq; stops where the log differs.
 */
static bool
check_step(const WfLogRow *row, const WfFold *fold, const List *actions, bool diverged, void *arg)
{
	FoldCheck  *check = arg;

	check_snapshots(check, fold);
	if (!diverged && check->bad_reply == 0 && !same_reply(row->reply, actions))
		check->bad_reply = row->seq;
	return !diverged;
}

/*
 * Whether the state, with no actions, gives the digest.
 */
static bool
gives_digest(Jsonb *state, int64 digest)
{
	uint8		sha256[WF_SHA256_LEN];
	uint64		result = 0;
	StringInfoData buf;
	WfBytes		part;

	initStringInfo(&buf);
	wf_hash_append_jsonb(&buf, state);
	appendStringInfoString(&buf, "\x1f[]");
	part.data = buf.data;
	part.len = buf.len;
	wf_hash_sha256(&part, 1, sha256);
	pfree(buf.data);
	for (int i = 0; i < 8; i++)
		result = result << 8 | sha256[i];
	return (int64) result == digest;
}

/*
 * What is wrong with a snapshot to which no fold leads, or NULL, as far as the rows up to it tell.  Its state they tell
 * only where the last is an event of the engine's own, which has no actions: redact() takes a snapshot right there.
 */
static const char *
snapshot_problem(const LogCheck *log, Snapshot snapshot, const WfFold *fold)
{
	WfLogScan  *scan = wf_eventlog_open(log->instance->instance_id, 0, snapshot);
	TimestampTz clock = DT_NOBEGIN;
	const char *problem = NULL;
	int64		version = log->upgrades.count == 0 ? log->instance->version : 0;
	WfLogRow	row;

	while (wf_eventlog_next(scan, &row) && row.seq <= fold->seq)
	{
		clock = Max(clock, row.event.at);
		if (row.seq == fold->seq && WF_IS_ENGINE_EVENT(row.event.name) && !gives_digest(fold->state, row.digest))
			problem = "its state does not have the digest of its row";
	}
	wf_eventlog_close(scan);
	for (int i = 0; i < log->upgrades.count && log->upgrade_seqs.values[i] <= fold->seq; i++)
		version = log->upgrades.values[i];
	if (clock != fold->clock)
		problem = "its clock is not the log's";
	else if (version != 0 && version != fold->version)
		problem = "its version is not the log's";
	else if (fold->changed_seq < 1 || fold->changed_seq > fold->seq)
		problem = "the log has no such changed_seq";
	return problem;
}

/*
 * The first row from a seq on that cannot be folded; PG_INT64_MAX: none.
 */
static int64
next_lost(const LogCheck *log, int64 from)
{
	for (int i = 0; i < log->lost.count; i++)
		if (log->lost.values[i] >= from)
			return log->lost.values[i];
	return PG_INT64_MAX;
}

/*
 * Reads a snapshot whose place is known.
 */
static void
load_snapshot(const LogCheck *log, Snapshot snapshot, const SnapshotCheck *which, WfFold *fold)
{
	const char *problem;
	WfKeptScan *scan;

	if (!which->kept)
	{
		(void) wf_snapshot_load(log->instance->instance_id, snapshot, fold, &problem);
		return;
	}
	scan = wf_snapshot_open_kept(log->instance->instance_id, which->seq, which->seq, snapshot);
	if (wf_snapshot_next_kept(scan, ForwardScanDirection, fold))
		(void) wf_snapshot_read_kept(scan, fold, &problem);
	wf_snapshot_close_kept(scan);
}

/*
 * A log with rows that cannot be folded: goes on from the first good snapshot after each, to the next such row.
 */
static void
fold_rest(const LogCheck *log, Snapshot snapshot, FoldCheck *check, WfDivergence *bad)
{
	int64		lost = log->first_lost;
	const char *problem = NULL; /* of a snapshot that is none */
	bool		wrong = false;	/* one is, but not as it should be */

	for (int i = 0; i < check->count && bad->reason == NULL; i++)
	{
		SnapshotCheck *start = &check->snapshots[i];
		WfFold		fold;

		if (start->seq < lost)
			continue;
		if (start->problem != NULL)
		{
			problem = start->problem;
			continue;
		}
		load_snapshot(log, snapshot, start, &fold);
		start->problem = snapshot_problem(log, snapshot, &fold);
		wrong = start->problem != NULL;
		if (wrong)
			continue;
		lost = next_lost(log, start->seq + 1);
		check->next = i;
		check_snapshots(check, &fold);
		wf_replay_on(log->workflow, log->instance, snapshot, lost == PG_INT64_MAX ? lost : lost - 1, check_step, check,
					 &fold, bad);
	}
	if (bad->reason != NULL || lost == PG_INT64_MAX || wrong)
		return;
	bad->seq = lost;
	bad->reason = psprintf("payload erased, and no snapshot after it%s%s", problem != NULL ? ": " : "",
						   problem != NULL ? problem : "");
}

/*
 * Folds the log.  Its own faults go before those of snapshots.
 */
static void
check_fold(const LogCheck *log, Snapshot snapshot, WfDivergence *bad)
{
	FoldCheck	check = {0};
	WfFold		fold;

	read_snapshots(log, snapshot, &check);
	wf_replay_all(log->workflow, log->instance, snapshot, log->first_lost == 0 ? PG_INT64_MAX : log->first_lost - 1, check_step,
				  &check, &fold, bad);
	if (bad->reason == NULL && log->first_lost != 0 && log->bad.reason == NULL)
		fold_rest(log, snapshot, &check, bad);
	if (check.bad_reply != 0 && (bad->reason == NULL || check.bad_reply < bad->seq))
	{
		bad->seq = check.bad_reply;
		bad->reason = "row changed: reply differs";
	}
	for (int i = 0; i < check.count && bad->reason == NULL && log->bad.reason == NULL; i++)
	{
		if (check.snapshots[i].problem == NULL)
			continue;
		bad->seq = check.snapshots[i].seq;
		bad->reason = psprintf("snapshot differs: %s", check.snapshots[i].problem);
	}
}

/*
 * Checks an instance; *bad is the first thing that does not fit, its reason NULL where all does.  Reasons are words, some
 * with what they are about: row missing, row added, hash differs, row changed, payload changed, payload erased, digest differs,
 * handler failed, snapshot differs, code changed, code cannot be run.  In the current memory context.
 */
void
wf_verify_instance(WfWorkflow *workflow, const WfInstance *instance, Snapshot snapshot, WfDivergence *bad)
{
	LogCheck	log = {.workflow = workflow,.instance = instance,.memory = CurrentMemoryContext};

	memset(bad, 0, sizeof(WfDivergence));
	check_log(&log, snapshot);
	if (check_code(&log, bad))
	{
		memset(bad, 0, sizeof(WfDivergence));
		check_fold(&log, snapshot, bad);
	}
	if (log.bad.reason != NULL && (bad->reason == NULL || log.bad.seq <= bad->seq))
		*bad = log.bad;
}

static void
put_result(ReturnSetInfo *result, const char *id, const WfDivergence *bad)
{
	Datum		values[4];
	bool		nulls[4] = {true, true, true, true};

	wf_row_set_text(values, nulls, 1, id);
	wf_row_set(values, nulls, 2, BoolGetDatum(bad->reason == NULL));
	if (bad->reason != NULL)
	{
		wf_row_set(values, nulls, 3, Int64GetDatum(bad->seq));
		wf_row_set_text(values, nulls, 4, bad->reason);
	}
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * The instances of a workflow after an id, at most max: their instance_ids, palloc'ed; returns how many.
 */
static int
select_instances(const WfWorkflow *workflow, const char *after, int max, int64 **instance_ids)
{
	static SPIPlanPtr plan = NULL;
	const Oid	types[] = {INT4OID, TEXTOID, INT4OID};
	Datum		values[] = {Int32GetDatum(workflow->workflow_id), CStringGetTextDatum(after), Int32GetDatum(max)};
	WfSpi		spi;
	int			count;

	wf_spi_begin(&spi);
	count = wf_spi_execute(&plan,
						   "SELECT instance_id FROM wfproc.instance WHERE workflow_id = $1 AND id > $2 COLLATE \"C\" ORDER BY id LIMIT $3",
						   lengthof(types), types, values, NULL, true, SPI_OK_SELECT);
	*instance_ids = SPI_palloc(Max(count, 1) * sizeof(int64));
	for (int i = 0; i < count; i++)
	{
		bool		isnull;

		(*instance_ids)[i] = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	}
	wf_spi_end(&spi);
	return count;
}

/*
 * verify_all(workflow, max, after) -> (id, ok, first_bad_seq, reason) for each instance.  NULL: no limit but that of a list,
 * and from the first.
 */
Datum
wfproc_verify_all(PG_FUNCTION_ARGS)
{
	MemoryContext memory;
	WfWorkflow *workflow;
	int64	   *instance_ids;
	int			workflow_id;
	int			max = PG_ARGISNULL(1) ? MAX_LIST : PG_GETARG_INT32(1);
	int			count;
	char	   *name;

	wf_check_not_in_handler("verify_all");
	name = wf_check_name(fcinfo, 0, "workflow");
	if (max < 1 || max > MAX_LIST)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"max\" must be between 1 and %d, got %d", MAX_LIST, max),
				 errhint("Read on with the last row's id as the argument \"after\".")));
	wf_workflow_refresh();
	workflow = wf_workflow_by_name(name, false);
	wf_acl_require(workflow, GetUserId(), WF_PRIV_READ);
	workflow_id = workflow->workflow_id;
	InitMaterializedSRF(fcinfo, 0);
	count = select_instances(workflow, PG_ARGISNULL(2) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(2)), max, &instance_ids);
	memory = AllocSetContextCreate(CurrentMemoryContext, "wfproc verify", ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < count; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(memory);
		WfInstance	instance;
		WfDivergence bad;

		CHECK_FOR_INTERRUPTS();
		if (wf_instance_read(instance_ids[i], GetActiveSnapshot(), &instance))
		{
			wf_verify_instance(wf_workflow_get(workflow_id), &instance, GetActiveSnapshot(), &bad);
			put_result((ReturnSetInfo *) fcinfo->resultinfo, instance.id, &bad);
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(memory);
	}
	MemoryContextDelete(memory);
	return (Datum) 0;
}
