/*
 * verify.c: whether an instance's log, its snapshots, its row and its code are what they were.
 *
 * Called by verify() and verify_all(), through the caller's snapshot, read-only, on a standby too; by resume() (accept.c);
 * and by scrub.c, piece by piece: each piece may be another transaction with another snapshot, since a log only grows.  The
 * log is read twice: first all rows by themselves (the chain of hashes, what was erased, what is in the mailbox as well), then
 * as a fold.
 *
 * The payload of an event that redact() has erased cannot be folded.  So such a log is folded up to the first of those, and
 * then from the first snapshot after it on, its own or one of the past, up to the next; the chain covers all rows.  Where the
 * log says by $accept that an older difference was accepted, the fold goes on there.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
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
#include "recheck.h"
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
	int64		first_upto;		/* later rows came while this was under way */
	WfFold		head;			/* of the rows so far, without a state */
	WfDivergence bad;			/* the first row that does not fit */
	WfDivergence bad_live;		/* the same for column live */
	Numbers		mail;			/* of the mailbox */
	Numbers		erased;			/* rows without a payload */
	Numbers		redacted;		/* rows that a $redact names */
	Numbers		redacted_since; /* ... that came while this was under way */
	Numbers		upgrades;		/* versions that rows of the log switch to */
	Numbers		upgrade_seqs;	/* ... and those rows */
	List	   *accepted;		/* of WfFold *: before each $accept */
	int64		accepted_erased;	/* the last $accept whose state was erased */
	Numbers		lost;			/* erased rows that cannot be folded */
	int64		first_lost;		/* the first of them; 0: none */
} LogCheck;

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
	/* as the rows of the log have it */
	TimestampTz log_clock;
	int			log_version;
	bool		engine_row;		/* its row has no actions */
	int64		row_digest;
} SnapshotCheck;

/* what is compared while the log is folded */
typedef struct FoldCheck
{
	MemoryContext memory;		/* of the fold's state; NULL: not begun */
	WfFold		fold;
	SnapshotCheck *snapshots;	/* by seq */
	int			count;
	int			next;
	int64		bad_reply;		/* the first row whose reply is another; 0:
								 * none */
	/* where rows cannot be folded */
	int			start;			/* the first snapshot that was not tried yet */
	int64		lost;			/* the row that one is needed for */
	const char *start_problem;	/* of a snapshot that is none */
	bool		start_wrong;	/* one is, but not as it should be */
} FoldCheck;

/* done one after the other */
typedef enum Part
{
	PART_BEGIN,
	PART_MAILBOX,
	PART_SNAPSHOTS,
	PART_ROWS,
	PART_CODE,
	PART_FOLD,
	PART_REST,
	PART_END,
	PARTS
} Part;

struct WfVerification
{
	MemoryContext memory;
	Part		part;
	bool		begun;			/* the part */
	TimestampTz mail_from;		/* how far the mailbox was read */
	int64		kept_after;		/* ... and the snapshots of the past */
	WfVerifyPause pause;
	void	   *pause_arg;
	bool		paused;
	WfFold		snapshot;		/* its own; state NULL: there is none */
	LogCheck	log;
	FoldCheck	check;
	WfRecheck	recheck;
	WfDivergence bad;			/* the finding */
};

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

/*
 * Whether to stop here for now.
 */
static bool
is_paused(WfVerification *verification)
{
	CHECK_FOR_INTERRUPTS();
	verification->paused = verification->pause != NULL && verification->pause(verification->pause_arg);
	return verification->paused;
}

static bool
begin(WfVerification *verification, Snapshot snapshot)
{
	LogCheck   *log = &verification->log;

	if (verification->pause != NULL)
		log->first_upto = wf_eventlog_last(log->instance->instance_id, snapshot, NULL);
	wf_replay_first_fold(log->instance, &log->head);
	wf_replay_first_fold(log->instance, &verification->check.fold);
	return true;
}

/*
 * The numbers of all mail.  Goes on at the stamp at which it has stopped: what is read twice does no harm.
 */
static bool
read_mailbox(WfVerification *verification, Snapshot snapshot)
{
	LogCheck   *log = &verification->log;
	WfMailScan *scan = wf_mailbox_open(log->instance->instance_id, verification->mail_from, snapshot);
	TimestampTz from = verification->mail_from;
	WfMail		mail;

	while (wf_mailbox_next(scan, &mail))
	{
		verification->mail_from = mail.event.at;
		if (mail.event.at != from && is_paused(verification))
			break;
		add_number(&log->mail, mail.event.mail_id);
	}
	wf_mailbox_close(scan);
	if (verification->paused)
		return false;
	sort_numbers(&log->mail);
	return true;
}

static void
add_snapshot(FoldCheck *check, const WfFold *fold, bool kept, const char *problem)
{
	SnapshotCheck *snapshot;

	if ((check->count & (check->count - 1)) == 0)
		check->snapshots = check->count == 0 ? palloc(sizeof(SnapshotCheck)) :
			repalloc(check->snapshots, check->count * 2 * sizeof(SnapshotCheck));
	snapshot = &check->snapshots[check->count++];
	memset(snapshot, 0, sizeof(SnapshotCheck));
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
 * Those of the past, after the last one that was read.  False: stopped for now.
 */
static bool
read_kept(WfVerification *verification, Snapshot snapshot)
{
	WfKeptScan *scan = wf_snapshot_open_kept(verification->log.instance->instance_id, verification->kept_after, PG_INT64_MAX,
											 snapshot);
	const char *problem;
	WfFold		fold;

	while (wf_snapshot_next_kept(scan, ForwardScanDirection, &fold) && !is_paused(verification))
	{
		(void) wf_snapshot_read_kept(scan, &fold, &problem);
		add_snapshot(&verification->check, &fold, true, problem);
		pfree(fold.state);
		verification->kept_after = fold.seq + 1;
	}
	wf_snapshot_close_kept(scan);
	return !verification->paused;
}

/*
 * Reads the snapshots of an instance.  Its own may be another one soon, so that its state is kept here.
 */
static bool
read_snapshots(WfVerification *verification, Snapshot snapshot)
{
	FoldCheck  *check = &verification->check;
	const char *problem;

	if (!read_kept(verification, snapshot))
		return false;
	if (wf_snapshot_load(verification->log.instance->instance_id, snapshot, &verification->snapshot, &problem) || problem != NULL)
		add_snapshot(check, &verification->snapshot, false, problem);
	if (check->count > 1)
		qsort(check->snapshots, check->count, sizeof(SnapshotCheck), compare_snapshots);
	return true;
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
	if (strcmp(row->event.name, "$accept") == 0)
		check->accepted_erased = row->seq;
	else if (WF_IS_ENGINE_EVENT(row->event.name) && strcmp(row->event.name, "$upgrade") != 0)
		return;
	if (check->first_lost == 0)
		check->first_lost = row->seq;
	add_number(&check->lost, row->seq);
}

/*
 * What columns beside the hash say.
 */
static void
check_columns(LogCheck *check, const WfLogRow *row)
{
	check_erased(check, row);
	if (row->event.mail_id != 0 && row->seq <= check->first_upto && has_number(&check->mail, row->event.mail_id))
		note_bad(&check->bad, check->memory, row->seq,
				 psprintf("event " INT64_FORMAT " is in the mailbox as well", row->event.mail_id));
	if (strcmp(row->event.name, "$redact") == 0)
		add_number(row->seq <= check->first_upto ? &check->redacted : &check->redacted_since, wf_object_get_int(row->event.payload, "seq"));
	if (strcmp(row->event.name, "$upgrade") == 0)
	{
		add_number(&check->upgrades, wf_process_upgrade_to(&row->event));
		add_number(&check->upgrade_seqs, row->seq);
	}
	if (strcmp(row->event.name, "$fork") == 0)
		/* what comes before it was another instance's */
		memset(&check->bad_live, 0, sizeof(WfDivergence));
	else if (row->event.live != (check->head.clock >= check->instance->live_from))
		note_bad(&check->bad_live, check->memory, row->seq, "row changed: live differs");
}

/*
 * Keeps where a fold can go on.
 */
static void
note_accepted(LogCheck *check, const WfLogRow *row)
{
	WfFold	   *before;

	if (wf_process_accepted_state(&row->event) == NULL)
		return;
	before = palloc(sizeof(WfFold));
	*before = check->head;
	check->accepted = lappend(check->accepted, before);
}

/*
 * Takes the next row.  False: the chain is broken, and what comes after it says nothing.
 */
static bool
check_row(LogCheck *check, const WfLogRow *row)
{
	uint8		hash[WF_SHA256_LEN];
	int64		last = check->head.seq;

	if (row->seq != last + 1)
	{
		/* numbers are unique, so what is out of order is below the first */
		note_bad(&check->bad, check->memory, row->seq <= last ? row->seq : last + 1,
				 row->seq <= last ? "row added" : "row missing");
		return false;
	}
	wf_eventlog_chain(check->head.hash, row, hash);
	if (memcmp(hash, row->hash, WF_SHA256_LEN) != 0)
	{
		note_bad(&check->bad, check->memory, row->seq, "hash differs");
		return false;
	}
	note_accepted(check, row);
	wf_replay_pass(&check->head, row);
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
	sort_numbers(&check->redacted_since);
	for (int i = 0; i < check->erased.count; i++)
		if (!has_number(&check->redacted, check->erased.values[i]) && !has_number(&check->redacted_since, check->erased.values[i]))
			note_earlier(check, check->erased.values[i], "payload changed: it was erased without a $redact");
	for (int i = 0; i < check->redacted.count; i++)
		if (!has_number(&check->erased, check->redacted.values[i]))
			note_earlier(check, check->redacted.values[i], "payload changed: it is there again after a $redact");
}

/*
 * What the snapshots of this seq must be like for one that no fold leads to.
 */
static void
note_snapshots(FoldCheck *check, const WfFold *head, const WfLogRow *row)
{
	while (check->next < check->count && check->snapshots[check->next].seq < row->seq)
		check->next++;
	for (int i = check->next; i < check->count && check->snapshots[i].seq == row->seq; i++)
	{
		check->snapshots[i].log_clock = head->clock;
		check->snapshots[i].log_version = head->version;
		check->snapshots[i].engine_row = WF_IS_ENGINE_EVENT(row->event.name);
		check->snapshots[i].row_digest = row->digest;
	}
}

/*
 * All rows by themselves.
 */
static bool
check_log(WfVerification *verification, Snapshot snapshot)
{
	LogCheck   *check = &verification->log;
	WfLogScan  *scan = wf_eventlog_open(check->instance->instance_id, check->head.seq > 0 ? check->head.seq : PG_INT64_MIN, snapshot);
	WfLogRow	row;
	bool		whole = true;

	while (whole && wf_eventlog_next(scan, &row) && !is_paused(verification))
	{
		whole = check_row(check, &row);
		if (!whole)
			break;
		note_snapshots(&verification->check, &check->head, &row);
		wf_recheck_row(&verification->recheck, &row, check->head.clock);
	}
	wf_eventlog_close(scan);
	if (verification->paused)
		return false;
	if (whole)
		check_redactions(check);
	if (check->bad_live.reason != NULL && (check->bad.reason == NULL || check->bad_live.seq < check->bad.seq))
		check->bad = check->bad_live;
	verification->check.next = 0;
	return true;
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

static bool
find_code_problem(WfVerification *verification, Snapshot snapshot)
{
	if (check_code(&verification->log, &verification->bad))
		memset(&verification->bad, 0, sizeof(WfDivergence));
	return true;
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
	WfVerification *verification = arg;
	FoldCheck  *check = &verification->check;

	if (diverged)
		return false;
	check_snapshots(check, fold);
	if (check->bad_reply == 0 && !same_reply(row->reply, actions))
		check->bad_reply = row->seq;
	if (row->seq > verification->log.head.seq)
		wf_recheck_row(&verification->recheck, row, fold->clock);
	wf_recheck_step(&verification->recheck, row, fold->clock, actions);
	return !is_paused(verification);
}

/*
 * What is wrong with a snapshot to which no fold leads, or NULL, as far as the rows up to it tell.  Its state they tell
 * only where the last is an event of the engine's own, which has no actions: redact() takes a snapshot right there.
 */
static const char *
snapshot_problem(const SnapshotCheck *snapshot, const WfFold *fold)
{
	if (snapshot->log_clock != fold->clock)
		return "its clock is not the log's";
	if (snapshot->log_version != fold->version)
		return "its version is not the log's";
	if (fold->changed_seq < 1 || fold->changed_seq > fold->seq)
		return "the log has no such changed_seq";
	if (snapshot->engine_row && wf_process_digest(fold->state, NIL) != snapshot->row_digest)
		return "its state does not have the digest of its row";
	return NULL;
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
 * Fills *fold, in the memory of the fold, from a snapshot whose place is known.  False: it has gone.
 */
static bool
load_snapshot(WfVerification *verification, Snapshot snapshot, const SnapshotCheck *which, WfFold *fold)
{
	MemoryContext memory = AllocSetContextCreate(verification->memory, "wfproc verify fold", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(memory);
	WfKeptScan *scan;
	const char *problem;
	bool		found = !which->kept;

	if (which->kept)
	{
		scan = wf_snapshot_open_kept(verification->log.instance->instance_id, which->seq, which->seq, snapshot);
		found = wf_snapshot_next_kept(scan, ForwardScanDirection, fold) && wf_snapshot_read_kept(scan, fold, &problem);
		wf_snapshot_close_kept(scan);
	}
	else
		*fold = verification->snapshot;
	MemoryContextSwitchTo(old);
	if (verification->check.memory != NULL)
		MemoryContextDelete(verification->check.memory);
	verification->check.memory = memory;
	return found;
}

/*
 * Goes on with a fold whose state is elsewhere; the rows in between are not folded.
 */
static void
skip_to(WfVerification *verification, const WfFold *fold)
{
	wf_recheck_skip(&verification->recheck, fold->seq);
	verification->check.fold = *fold;
	memset(&verification->bad, 0, sizeof(WfDivergence));
}

/*
 * Whether the log says that the difference was accepted later; then that is where the fold goes on.  Where the state was
 * erased since, it can go on only from a snapshot.
 */
static bool
was_accepted(WfVerification *verification)
{
	LogCheck   *log = &verification->log;
	ListCell   *lc;

	foreach(lc, log->accepted)
	{
		WfFold	   *before = lfirst(lc);

		if (before->seq < verification->bad.seq)
			continue;
		before->state = wf_check_empty_object();
		skip_to(verification, before);
		return true;
	}
	if (log->accepted_erased > verification->bad.seq)
		memset(&verification->bad, 0, sizeof(WfDivergence));
	return false;
}

/*
 * Folds on up to a row.  False: stopped for now.  The state before is needed until there is the next one.
 */
static bool
fold_on(WfVerification *verification, Snapshot snapshot, int64 upto)
{
	LogCheck   *log = &verification->log;
	FoldCheck  *check = &verification->check;

	do
	{
		MemoryContext old_memory = check->memory;

		check->memory = AllocSetContextCreate(verification->memory, "wfproc verify fold", ALLOCSET_DEFAULT_SIZES);
		MemoryContextSwitchTo(check->memory);
		wf_replay_on(log->workflow, log->instance, snapshot, upto, check_step, verification, &check->fold, &verification->bad);
		MemoryContextSwitchTo(verification->memory);
		if (old_memory != NULL)
			MemoryContextDelete(old_memory);
		if (verification->paused)
			return false;
	} while (verification->bad.reason != NULL && was_accepted(verification));
	return true;
}

/*
 * The log as a fold, up to the first row that cannot be folded.
 */
static bool
check_fold(WfVerification *verification, Snapshot snapshot)
{
	int64		first_lost = verification->log.first_lost;

	if (verification->bad.reason != NULL)
		return true;
	return fold_on(verification, snapshot, first_lost == 0 ? PG_INT64_MAX : first_lost - 1);
}

/*
 * Puts the fold at the first good snapshot after the row that cannot be folded.  False: there is none.
 */
static bool
find_start(WfVerification *verification, Snapshot snapshot)
{
	FoldCheck  *check = &verification->check;
	WfFold		fold;

	for (; check->start < check->count; check->start++)
	{
		SnapshotCheck *start = &check->snapshots[check->start];

		if (start->seq < check->lost)
			continue;
		if (start->problem != NULL)
		{
			check->start_problem = start->problem;
			continue;
		}
		if (!load_snapshot(verification, snapshot, start, &fold))
		{
			check->start_problem = "it has gone";
			continue;
		}
		start->problem = snapshot_problem(start, &fold);
		check->start_wrong = start->problem != NULL;
		if (check->start_wrong)
			continue;
		check->lost = next_lost(&verification->log, start->seq + 1);
		check->next = check->start++;
		check_snapshots(check, &fold);
		skip_to(verification, &fold);
		return true;
	}
	return false;
}

/*
 * A log with rows that cannot be folded: goes on from the first good snapshot after each, to the next such row.
 */
static bool
check_rest(WfVerification *verification, Snapshot snapshot)
{
	LogCheck   *log = &verification->log;
	FoldCheck  *check = &verification->check;
	WfDivergence *bad = &verification->bad;

	if (bad->reason != NULL || log->first_lost == 0 || log->bad.reason != NULL)
		return true;
	check->lost = Max(check->lost, log->first_lost);
	while (bad->reason == NULL && (verification->begun || find_start(verification, snapshot)))
	{
		verification->begun = true;
		if (!fold_on(verification, snapshot, check->lost == PG_INT64_MAX ? check->lost : check->lost - 1))
			return false;
		verification->begun = false;
	}
	if (bad->reason != NULL || check->lost == PG_INT64_MAX || check->start_wrong)
		return true;
	bad->seq = check->lost;
	bad->reason = psprintf("payload erased, and no snapshot after it%s%s", check->start_problem != NULL ? ": " : "",
						   check->start_problem != NULL ? check->start_problem : "");
	return true;
}

/*
 * What is wrong with snapshots; the log is as it was.
 */
static void
take_snapshot_problem(WfVerification *verification)
{
	const FoldCheck *check = &verification->check;

	for (int i = 0; i < check->count && verification->bad.reason == NULL; i++)
	{
		if (check->snapshots[i].problem == NULL)
			continue;
		verification->bad.seq = check->snapshots[i].seq;
		verification->bad.reason = psprintf("snapshot differs: %s", check->snapshots[i].problem);
	}
}

/*
 * What is wrong with the instance's row, read with the snapshot with which the end of the log was.
 */
static void
check_instance(WfVerification *verification, Snapshot snapshot)
{
	const WfFold *fold = &verification->check.fold;
	WfInstance	instance;
	const char *problem;

	if (!wf_instance_read(verification->log.instance->instance_id, snapshot, &instance))
		return;
	problem = wf_recheck_instance(&verification->recheck, &instance, fold, &verification->bad.seq);
	if (problem != NULL)
		verification->bad.reason = psprintf("instance differs: %s", problem);
}

/*
 * What comes first is the finding.  Faults of the log go before those of snapshots, and those before the instance's.
 */
static bool
conclude(WfVerification *verification, Snapshot snapshot)
{
	const LogCheck *log = &verification->log;
	WfDivergence *bad = &verification->bad;
	int64		bad_reply = verification->check.bad_reply;

	if (bad_reply != 0 && (bad->reason == NULL || bad_reply < bad->seq))
	{
		bad->seq = bad_reply;
		bad->reason = pstrdup("row changed: reply differs");
	}
	if (log->bad.reason != NULL && (bad->reason == NULL || log->bad.seq <= bad->seq))
		*bad = log->bad;
	if (bad->reason == NULL)
		take_snapshot_problem(verification);
	if (bad->reason == NULL)
		check_instance(verification, snapshot);
	return true;
}

/*
 * Begins to check an instance, which must stay.  What it takes is in the current memory context.
 */
WfVerification *
wf_verify_begin(const WfInstance *instance)
{
	WfVerification *verification = palloc0(sizeof(WfVerification));

	verification->memory = CurrentMemoryContext;
	verification->mail_from = DT_NOBEGIN;
	verification->kept_after = PG_INT64_MIN;
	verification->log.instance = instance;
	verification->log.memory = CurrentMemoryContext;
	verification->log.first_upto = PG_INT64_MAX;
	wf_recheck_init(&verification->recheck);
	return verification;
}

/*
 * Goes on until all is checked: true; or until pause, which is asked before each row, says to stop for now: false.  Where it
 * is NULL, all is done at one go.
 */
bool
wf_verify_go_on(WfVerification *verification, WfWorkflow *workflow, Snapshot snapshot, WfVerifyPause pause, void *arg)
{
	static bool (*const parts[PARTS]) (WfVerification *verification, Snapshot snapshot) = {
		[PART_BEGIN] = begin,
		[PART_MAILBOX] = read_mailbox,
		[PART_SNAPSHOTS] = read_snapshots,
		[PART_ROWS] = check_log,
		[PART_CODE] = find_code_problem,
		[PART_FOLD] = check_fold,
		[PART_REST] = check_rest,
		[PART_END] = conclude
	};
	MemoryContext old = MemoryContextSwitchTo(verification->memory);

	verification->log.workflow = workflow;
	verification->pause = pause;
	verification->pause_arg = arg;
	verification->paused = false;
	while (verification->part < PARTS && parts[verification->part] (verification, snapshot))
	{
		verification->part++;
		verification->begun = false;
	}
	MemoryContextSwitchTo(old);
	return verification->part == PARTS;
}

/*
 * The first thing that does not fit; its reason is NULL where all does.
 */
const WfDivergence *
wf_verify_finding(const WfVerification *verification)
{
	return &verification->bad;
}

/*
 * The same as far as the rows of the log say it by themselves, without any code.
 */
const WfDivergence *
wf_verify_rows(const WfVerification *verification)
{
	return &verification->log.bad;
}

/*
 * How far the log was folded.
 */
int64
wf_verify_seq(const WfVerification *verification)
{
	return Max(verification->check.fold.seq, verification->log.head.seq);
}

/*
 * Whether what was found may be so because somebody has erased a payload while the check was under way: check again.
 */
bool
wf_verify_is_void(const WfVerification *verification)
{
	return verification->bad.reason != NULL && verification->pause != NULL &&
		strncmp(verification->bad.reason, "payload erased", strlen("payload erased")) == 0;
}

/*
 * Checks an instance; *bad is the first thing that does not fit, its reason NULL where all does.  Reasons are words, some
 * with what they are about: row missing, row added, hash differs, row changed, payload changed, payload erased, digest differs,
 * handler failed, snapshot differs, code changed, code cannot be run, instance differs.  In the current memory context.
 */
void
wf_verify_instance(WfWorkflow *workflow, const WfInstance *instance, Snapshot snapshot, WfDivergence *bad)
{
	WfVerification *verification = wf_verify_begin(instance);

	(void) wf_verify_go_on(verification, workflow, snapshot, NULL, NULL);
	*bad = *wf_verify_finding(verification);
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
