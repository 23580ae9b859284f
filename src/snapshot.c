/*
 * snapshot.c: an instance's state at a seq, bound to the log by SHA-256, and the only code that reads and writes
 * wfproc.snapshot.
 *
 * Written by turn.c, for instances whose shard this backend holds; read by replay.c and monitor.c.  A snapshot is a shortcut
 * and never the truth: one that does not fit is not used.
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

/* columns of wfproc.snapshot */
enum
{
	COL_INSTANCE_ID = 1,
	COL_SEQ,
	COL_AT,
	COL_TAKEN_AT,
	COL_VERSION,
	COL_STATE,
	COL_LOG_SHA256,
	COL_STATE_SHA256,
	COLUMNS = COL_STATE_SHA256
};

static SysScanDesc
begin_scan(Relation rel, int64 instance_id, Snapshot snapshot)
{
	ScanKeyData key;

	ScanKeyInit(&key, COL_INSTANCE_ID, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(instance_id));
	return systable_beginscan(rel, wf_catalog_oid(WF_SNAPSHOT_PKEY), true, snapshot, 1, &key);
}

/*
 * Reads the row as a fold, in the current memory context.  False where there is none.
 */
static bool
read_row(int64 instance_id, Snapshot snapshot, WfFold *fold, uint8 *state_sha256)
{
	Relation	rel = wf_rows_open(WF_SNAPSHOT, AccessShareLock, COLUMNS);
	SysScanDesc scan = begin_scan(rel, instance_id, snapshot);
	HeapTuple	tuple = systable_getnext(scan);
	bool		found = HeapTupleIsValid(tuple);

	if (found)
	{
		Datum		values[COLUMNS];
		bool		nulls[COLUMNS];

		heap_deform_tuple(tuple, RelationGetDescr(rel), values, nulls);
		fold->seq = fold->changed_seq = DatumGetInt64(values[COL_SEQ - 1]);
		fold->clock = DatumGetTimestampTz(values[COL_AT - 1]);
		fold->started = true;
		fold->version = DatumGetInt32(values[COL_VERSION - 1]);
		fold->state = wf_row_jsonb(values, nulls, COL_STATE);
		wf_row_bytes(values, nulls, COL_LOG_SHA256, fold->hash, WF_SHA256_LEN);
		wf_row_bytes(values, nulls, COL_STATE_SHA256, state_sha256, WF_SHA256_LEN);
	}
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
 * Fills *fold, in the current memory context, from an instance's snapshot.  Returns false where there is none, or where it
 * does not fit: then *problem says why, else it is NULL.
 */
bool
wf_snapshot_load(int64 instance_id, Snapshot snapshot, WfFold *fold, const char **problem)
{
	uint8		expected[WF_SHA256_LEN];
	uint8		actual[WF_SHA256_LEN];

	*problem = NULL;
	if (!read_row(instance_id, snapshot, fold, expected))
		return false;
	wf_hash_jsonb(fold->state, actual);
	if (memcmp(actual, expected, WF_SHA256_LEN) != 0)
		*problem = "its state does not have its state_sha256";
	else
		*problem = check_against_log(instance_id, snapshot, fold);
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
	wf_row_set(values, nulls, COL_AT, TimestampTzGetDatum(fold->clock));
	wf_row_set(values, nulls, COL_TAKEN_AT, TimestampTzGetDatum(wf_clock_now()));
	wf_row_set(values, nulls, COL_VERSION, Int32GetDatum(fold->version));
	wf_row_set_jsonb(values, nulls, COL_STATE, fold->state);
	wf_row_set_bytes(values, nulls, COL_LOG_SHA256, fold->hash, WF_SHA256_LEN);
	wf_row_set_bytes(values, nulls, COL_STATE_SHA256, sha256, WF_SHA256_LEN);
	return heap_form_tuple(desc, values, nulls);
}

/*
 * Writes an instance's snapshot in place of the one before.  The caller holds its shard, so nobody else writes the row.
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
