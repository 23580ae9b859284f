/*
 * snapshot.c: an instance's state at a seq, bound to the log by SHA-256, and the only code that reads and writes
 * wfproc.snapshot and wfproc.kept_snapshot.
 *
 * Written by record.c, for instances whose shard this backend holds; read by replay.c, verify.c and transfer.c.  A snapshot is
 * a shortcut and never the truth: one that does not fit is not used.
 *
 * An instance has one snapshot of its own, which is replaced, and is what it is activated from.  Besides, one of each
 * KEEP_EVERY events is kept, in the other table, so that a state of the past is near to one.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "clock.h"
#include "eventlog.h"
#include "rows.h"
#include "snapshot.h"

/* of so many events the state after the last is kept; what is folded to get to any state of the past */
#define KEEP_EVERY 500
/* bytes of a state for which that holds; one of up to twice as many is kept half as often, and so on */
#define KEEP_BYTES (32 * 1024)
/* bytes of all states that one transaction keeps of an instance, lest they pile up in memory */
#define MAX_KEPT_BYTES (64 * 1024 * 1024)

/* columns of wfproc.snapshot, and of wfproc.kept_snapshot */
enum
{
	COL_INSTANCE_ID = 1,
	COL_SEQ,
	COL_CHANGED_SEQ,
	COL_AT,
	COL_TAKEN_AT,
	COL_VERSION,
	COL_STATE,
	COL_LOG_SHA256,
	COL_STATE_SHA256,
	COLUMNS = COL_STATE_SHA256
};

struct WfKeptScan
{
	Relation	rel;
	Relation	index;
	SysScanDesc scan;
	int64		instance_id;
	Snapshot	snapshot;
	HeapTuple	tuple;			/* the last one */
};

static SysScanDesc
begin_scan(Relation rel, int64 instance_id, Snapshot snapshot)
{
	ScanKeyData key;

	ScanKeyInit(&key, COL_INSTANCE_ID, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(instance_id));
	return systable_beginscan(rel, wf_catalog_oid(WF_SNAPSHOT_PKEY), true, snapshot, 1, &key);
}

/*
 * Takes a row as a fold, in the current memory context.
 */
static void
read_tuple(HeapTuple tuple, TupleDesc desc, WfFold *fold, uint8 *state_sha256)
{
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS];

	heap_deform_tuple(tuple, desc, values, nulls);
	fold->seq = DatumGetInt64(values[COL_SEQ - 1]);
	fold->changed_seq = DatumGetInt64(values[COL_CHANGED_SEQ - 1]);
	fold->clock = DatumGetTimestampTz(values[COL_AT - 1]);
	fold->started = true;
	fold->version = DatumGetInt32(values[COL_VERSION - 1]);
	fold->state = wf_row_jsonb(values, nulls, COL_STATE);
	wf_row_bytes(values, nulls, COL_LOG_SHA256, fold->hash, WF_SHA256_LEN);
	wf_row_bytes(values, nulls, COL_STATE_SHA256, state_sha256, WF_SHA256_LEN);
}

/*
 * The same of an instance's own snapshot.  False where there is none.
 */
static bool
read_row(int64 instance_id, Snapshot snapshot, WfFold *fold, uint8 *state_sha256)
{
	Relation	rel = wf_rows_open(WF_SNAPSHOT, AccessShareLock, COLUMNS);
	SysScanDesc scan = begin_scan(rel, instance_id, snapshot);
	HeapTuple	tuple = systable_getnext(scan);
	bool		found = HeapTupleIsValid(tuple);

	if (found)
		read_tuple(tuple, RelationGetDescr(rel), fold, state_sha256);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

/*
 * NULL where the fold fits the log's row of its seq, else what is wrong.
 */
static const char *
check_against_log(int64 instance_id, Snapshot snapshot, const WfFold *fold)
{
	WfLogScan  *scan = wf_eventlog_open(instance_id, fold->seq - 1, snapshot);
	WfLogRow	row;
	const char *problem = NULL;

	if (!wf_eventlog_next(scan, &row) || row.seq != fold->seq)
		problem = psprintf("the log has no row %lld", (long long) fold->seq);
	else if (memcmp(row.hash, fold->hash, WF_SHA256_LEN) != 0)
		problem = psprintf("its log_sha256 is not the hash of row %lld", (long long) fold->seq);
	wf_eventlog_close(scan);
	return problem;
}

/*
 * NULL where a row that was read is what it says, and fits the log.
 */
static const char *
find_problem(int64 instance_id, Snapshot snapshot, const WfFold *fold, const uint8 *state_sha256)
{
	uint8		actual[WF_SHA256_LEN];

	wf_hash_jsonb(fold->state, actual);
	if (memcmp(actual, state_sha256, WF_SHA256_LEN) != 0)
		return "its state does not have its state_sha256";
	return check_against_log(instance_id, snapshot, fold);
}

/*
 * Fills *fold, in the current memory context, from an instance's own snapshot.  Returns false where there is none, or where
 * it does not fit: then *problem says why, else it is NULL.
 */
bool
wf_snapshot_load(int64 instance_id, Snapshot snapshot, WfFold *fold, const char **problem)
{
	uint8		sha256[WF_SHA256_LEN];

	*problem = NULL;
	if (!read_row(instance_id, snapshot, fold, sha256))
		return false;
	*problem = find_problem(instance_id, snapshot, fold, sha256);
	return *problem == NULL;
}

static HeapTuple
form_tuple(TupleDesc desc, int64 instance_id, const WfFold *fold)
{
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS];
	uint8		sha256[WF_SHA256_LEN];

	wf_hash_jsonb(fold->state, sha256);
	wf_row_set(values, nulls, COL_INSTANCE_ID, Int64GetDatum(instance_id));
	wf_row_set(values, nulls, COL_SEQ, Int64GetDatum(fold->seq));
	wf_row_set(values, nulls, COL_CHANGED_SEQ, Int64GetDatum(fold->changed_seq));
	wf_row_set(values, nulls, COL_AT, TimestampTzGetDatum(fold->clock));
	wf_row_set(values, nulls, COL_TAKEN_AT, TimestampTzGetDatum(wf_clock_now()));
	wf_row_set(values, nulls, COL_VERSION, Int32GetDatum(fold->version));
	wf_row_set_jsonb(values, nulls, COL_STATE, fold->state);
	wf_row_set_bytes(values, nulls, COL_LOG_SHA256, fold->hash, WF_SHA256_LEN);
	wf_row_set_bytes(values, nulls, COL_STATE_SHA256, sha256, WF_SHA256_LEN);
	return heap_form_tuple(desc, values, nulls);
}

/*
 * Writes an instance's own snapshot in place of the one before.  The caller holds its shard, so nobody else writes the row.
 */
void
wf_snapshot_store(int64 instance_id, const WfFold *fold)
{
	Relation	rel = wf_rows_open(WF_SNAPSHOT, RowExclusiveLock, COLUMNS);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan = begin_scan(rel, instance_id, snapshot);
	HeapTuple	old = systable_getnext(scan);
	HeapTuple	new = form_tuple(RelationGetDescr(rel), instance_id, fold);

	Assert(fold->seq > 0 && fold->started);
	if (HeapTupleIsValid(old))
		CatalogTupleUpdate(rel, &old->t_self, new);
	else
		CatalogTupleInsert(rel, new);
	heap_freetuple(new);
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
	/* so that the next one of this transaction finds it */
	CommandCounterIncrement();
}

/*
 * Whether the state after this event is kept: of so many events one, of fewer where it is large, so that what is kept does
 * not grow beyond the log.
 */
static bool
is_to_keep(const WfFold *fold)
{
	int64		every = KEEP_EVERY;

	if (!fold->started || fold->seq % KEEP_EVERY != 0)
		return false;
	for (Size bytes = VARSIZE(fold->state); bytes > KEEP_BYTES; bytes /= 2)
		every *= 2;
	return fold->seq % every == 0;
}

/*
 * Takes note of a fold whose state is to be kept, copying it into the current memory context.  Called after each event.
 */
void
wf_snapshot_keep(WfKept *kept, const WfFold *fold)
{
	WfFold	   *copy;

	if (!is_to_keep(fold) || kept->bytes + VARSIZE(fold->state) > MAX_KEPT_BYTES)
		return;
	copy = palloc(sizeof(WfFold));
	*copy = *fold;
	copy->state = memcpy(palloc(VARSIZE(fold->state)), fold->state, VARSIZE(fold->state));
	kept->folds = lappend(kept->folds, copy);
	kept->bytes += VARSIZE(fold->state);
}

/*
 * Writes what was noted, in place of what was there: a log may have been cut by force, and have grown again.  The caller
 * holds the shard.
 */
void
wf_snapshot_store_kept(int64 instance_id, const WfKept *kept)
{
	Relation	rel;
	ListCell   *lc;

	if (kept->folds == NIL)
		return;
	wf_snapshot_forget(instance_id, ((const WfFold *) linitial(kept->folds))->seq);
	rel = wf_rows_open(WF_KEPT_SNAPSHOT, RowExclusiveLock, COLUMNS);
	foreach(lc, kept->folds)
	{
		HeapTuple	tuple = form_tuple(RelationGetDescr(rel), instance_id, lfirst(lc));

		CatalogTupleInsert(rel, tuple);
		heap_freetuple(tuple);
	}
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

/*
 * Removes the kept snapshots of an instance from this seq on.
 */
void
wf_snapshot_forget(int64 instance_id, int64 from)
{
	Relation	rel = wf_rows_open(WF_KEPT_SNAPSHOT, RowExclusiveLock, COLUMNS);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	WfKeptScan *scan = wf_snapshot_open_kept(instance_id, from, PG_INT64_MAX, snapshot);
	WfFold		fold;

	while (wf_snapshot_next_kept(scan, ForwardScanDirection, &fold))
		CatalogTupleDelete(rel, &scan->tuple->t_self);
	wf_snapshot_close_kept(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

/*
 * Begins to read the kept snapshots of an instance from one seq up to another.  The scan belongs to the current
 * (sub)transaction, its memory to the current context.
 */
WfKeptScan *
wf_snapshot_open_kept(int64 instance_id, int64 from, int64 upto, Snapshot snapshot)
{
	WfKeptScan *scan = palloc0(sizeof(WfKeptScan));
	ScanKeyData keys[3];

	ScanKeyInit(&keys[0], COL_INSTANCE_ID, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(instance_id));
	ScanKeyInit(&keys[1], COL_SEQ, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(from));
	ScanKeyInit(&keys[2], COL_SEQ, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(upto));
	scan->instance_id = instance_id;
	scan->snapshot = snapshot;
	scan->rel = wf_rows_open(WF_KEPT_SNAPSHOT, AccessShareLock, COLUMNS);
	scan->index = index_open(wf_catalog_oid(WF_KEPT_SNAPSHOT_PKEY), AccessShareLock);
	scan->scan = systable_beginscan_ordered(scan->rel, scan->index, snapshot, lengthof(keys), keys);
	return scan;
}

/*
 * The next one, in the direction that all calls for a scan must give: only *fold's seq and clock are set.  False: no more.
 */
bool
wf_snapshot_next_kept(WfKeptScan *scan, ScanDirection direction, WfFold *fold)
{
	TupleDesc	desc = RelationGetDescr(scan->rel);
	bool		isnull;

	scan->tuple = systable_getnext_ordered(scan->scan, direction);
	if (!HeapTupleIsValid(scan->tuple))
		return false;
	fold->seq = DatumGetInt64(heap_getattr(scan->tuple, COL_SEQ, desc, &isnull));
	fold->clock = DatumGetTimestampTz(heap_getattr(scan->tuple, COL_AT, desc, &isnull));
	return true;
}

/*
 * All of the one that was found last, as wf_snapshot_load() does.
 */
bool
wf_snapshot_read_kept(WfKeptScan *scan, WfFold *fold, const char **problem)
{
	uint8		sha256[WF_SHA256_LEN];

	read_tuple(scan->tuple, RelationGetDescr(scan->rel), fold, sha256);
	*problem = find_problem(scan->instance_id, scan->snapshot, fold, sha256);
	return *problem == NULL;
}

void
wf_snapshot_close_kept(WfKeptScan *scan)
{
	systable_endscan_ordered(scan->scan);
	index_close(scan->index, AccessShareLock);
	table_close(scan->rel, AccessShareLock);
	pfree(scan);
}
