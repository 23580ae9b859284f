/*
 * eventlog.c: the event log: its hash chain, and the only code that reads and writes wfproc.event.
 *
 * Appended to by record.c, for instances whose shard this backend holds: so nobody else appends to the same chain, and the
 * primary key is the last fence (its violation is an error, and whoever meets it drops what it had cached).  Read by
 * replay.c, snapshot.c, verify.c and monitor.c, on a standby too.  Rows are never changed, but for a payload that redact() has
 * erased: its SHA-256, which the chain goes through, takes its place.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "check.h"
#include "clock.h"
#include "eventlog.h"
#include "rows.h"
#include "touched.h"

/* what the first hash of a chain is made from, before the id */
#define CHAIN_TAG "wfproc/1"
/* between the fields of a row as it is hashed; names, senders and keys cannot contain it */
#define FIELD_SEPARATOR '\x1f'

/* of rows that come one by one, how many may wait to be written */
#define WRITER_ROWS 1000

/* columns of wfproc.event */
enum
{
	COL_INSTANCE_ID = 1,
	COL_SEQ,
	COL_AT,
	COL_RECORDED_AT,
	COL_MAIL_ID,
	COL_DIGEST,
	COL_LIVE,
	COL_NAME,
	COL_PAYLOAD,
	COL_SENDER,
	COL_IDEMPOTENCY_KEY,
	COL_REPLY,
	COL_PAYLOAD_SHA256,
	COL_HASH,
	COLUMNS = COL_HASH
};

struct WfLogScan
{
	Relation	rel;
	Relation	index;
	SysScanDesc scan;
	MemoryContext memory;		/* the row handed out; reset at the next */
};

/*
 * What stands before the first row: SHA-256 of "wfproc/1" and the instance's id.
 */
void
wf_eventlog_first_hash(const char *id, uint8 *hash)
{
	WfBytes		parts[] = {{CHAIN_TAG, strlen(CHAIN_TAG)}, {id, strlen(id)}};

	wf_hash_sha256(parts, 2, hash);
}

static void
append_int64(StringInfo buf, int64 value)
{
	enlargeStringInfo(buf, MAXINT8LEN + 1);
	buf->len += pg_lltoa(value, buf->data + buf->len);
	appendStringInfoCharMacro(buf, FIELD_SEPARATOR);
}

static void
append_text(StringInfo buf, const char *value)
{
	if (value != NULL)
		appendStringInfoString(buf, value);
	appendStringInfoCharMacro(buf, FIELD_SEPARATOR);
}

/*
 * The row's own hash: SHA-256 of the previous one and the row as text.  The payload goes in by its own hash, so that it can
 * be erased later without breaking the chain.  Plain SQL can compute the same: see docs/DESIGN.md.
 */
void
wf_eventlog_chain(const uint8 *previous, const WfLogRow *row, uint8 *hash)
{
	StringInfo	buf;
	uint8		payload[WF_SHA256_LEN];
	WfBytes		parts[2];

	if (row->event.payload_sha256 != NULL)
		memcpy(payload, row->event.payload_sha256, WF_SHA256_LEN);
	else
		wf_hash_jsonb(row->event.payload, payload);
	buf = wf_hash_buffer();
	append_int64(buf, row->seq);
	append_int64(buf, wf_clock_unix_us(row->event.at));
	append_int64(buf, wf_clock_unix_us(row->recorded_at));
	append_text(buf, row->event.name);
	wf_hash_append_hex(buf, payload, WF_SHA256_LEN);
	appendStringInfoCharMacro(buf, FIELD_SEPARATOR);
	append_text(buf, row->event.sender);
	append_text(buf, row->event.key);
	append_int64(buf, row->digest);
	parts[0].data = previous;
	parts[0].len = WF_SHA256_LEN;
	parts[1].data = buf->data;

	/* between fields, not after the last */
	parts[1].len = buf->len - 1;

	wf_hash_sha256(parts, 2, hash);
	wf_hash_buffer_done();
}

static void
fill_row(TupleTableSlot *slot, const WfLogRow *row)
{
	Datum	   *values = slot->tts_values;
	bool	   *nulls = slot->tts_isnull;

	wf_row_set(values, nulls, COL_INSTANCE_ID, Int64GetDatum(row->instance_id));
	wf_row_set(values, nulls, COL_SEQ, Int64GetDatum(row->seq));
	wf_row_set(values, nulls, COL_AT, TimestampTzGetDatum(row->event.at));
	wf_row_set(values, nulls, COL_RECORDED_AT, TimestampTzGetDatum(row->recorded_at));
	if (row->event.mail_id != 0)
		wf_row_set(values, nulls, COL_MAIL_ID, Int64GetDatum(row->event.mail_id));
	wf_row_set(values, nulls, COL_DIGEST, Int64GetDatum(row->digest));
	wf_row_set(values, nulls, COL_LIVE, BoolGetDatum(row->event.live));
	wf_row_set_text(values, nulls, COL_NAME, row->event.name);
	wf_row_set_jsonb(values, nulls, COL_PAYLOAD, row->event.payload);
	wf_row_set_text(values, nulls, COL_SENDER, row->event.sender);
	wf_row_set_text(values, nulls, COL_IDEMPOTENCY_KEY, row->event.key);
	wf_row_set_jsonb(values, nulls, COL_REPLY, row->reply);
	if (row->event.payload_sha256 != NULL)
		wf_row_set_bytes(values, nulls, COL_PAYLOAD_SHA256, row->event.payload_sha256, WF_SHA256_LEN);
	wf_row_set_bytes(values, nulls, COL_HASH, row->hash, WF_SHA256_LEN);
}

static int
compare_rows(const void *a, const void *b)
{
	const WfLogRow *x = *(WfLogRow *const *) a;
	const WfLogRow *y = *(WfLogRow *const *) b;

	if (x->instance_id != y->instance_id)
		return x->instance_id < y->instance_id ? -1 : 1;
	return x->seq < y->seq ? -1 : x->seq > y->seq;
}

/*
 * Says which logs change, for the next seal.  The rows are in order.
 */
static void
note_touched(WfLogRow *const *rows, int count)
{
	int64	   *instance_ids = palloc(count * sizeof(int64));
	int			noted = 0;

	for (int i = 0; i < count; i++)
		if (noted == 0 || instance_ids[noted - 1] != rows[i]->instance_id)
			instance_ids[noted++] = rows[i]->instance_id;
	wf_touched_note(instance_ids, noted);
	pfree(instance_ids);
}

/*
 * Writes rows, which have their hashes already, in the order of their key: so neighbours go to one page of the index, and
 * an instance's rows lie together for who folds them.
 */
void
wf_eventlog_append(WfLogRow **rows, int count)
{
	WfBatch    *batch;

	if (count == 0)
		return;
	qsort(rows, count, sizeof(WfLogRow *), compare_rows);
	note_touched(rows, count);
	batch = wf_batch_open(WF_EVENT, COLUMNS, count);
	for (int i = 0; i < count; i++)
	{
		fill_row(wf_batch_begin_row(batch), rows[i]);
		wf_batch_end_row(batch);
	}
	wf_batch_close(batch);
}

struct WfLogWriter
{
	WfBatch    *batch;
	MemoryContext memory;		/* where it was opened */
	int64		instance_id;	/* of the last row */
};

/*
 * For a log that comes from elsewhere, row by row: each has its recorded_at and its hash already.
 */
WfLogWriter *
wf_eventlog_writer_open(void)
{
	WfLogWriter *writer = palloc0(sizeof(WfLogWriter));

	writer->batch = wf_batch_open(WF_EVENT, COLUMNS, WRITER_ROWS);
	writer->memory = CurrentMemoryContext;
	return writer;
}

/*
 * The row is copied, whatever memory it is in.
 */
void
wf_eventlog_writer_put(WfLogWriter *writer, const WfLogRow *row)
{
	MemoryContext old = MemoryContextSwitchTo(writer->memory);

	if (row->instance_id != writer->instance_id)
		wf_touched_note(&row->instance_id, 1);
	writer->instance_id = row->instance_id;
	fill_row(wf_batch_begin_row(writer->batch), row);
	wf_batch_end_row(writer->batch);
	MemoryContextSwitchTo(old);
}

void
wf_eventlog_writer_close(WfLogWriter *writer)
{
	wf_batch_close(writer->batch);
	pfree(writer);
}

/*
 * Begins to read the rows of an instance after seq "after".  The scan belongs to the current (sub)transaction, its memory
 * to the current context.
 */
WfLogScan *
wf_eventlog_open(int64 instance_id, int64 after, Snapshot snapshot)
{
	WfLogScan  *scan = palloc(sizeof(WfLogScan));
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], COL_INSTANCE_ID, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(instance_id));
	ScanKeyInit(&keys[1], COL_SEQ, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(after));
	scan->rel = wf_rows_open(WF_EVENT, AccessShareLock, COLUMNS);
	scan->index = index_open(wf_catalog_oid(WF_EVENT_PKEY), AccessShareLock);
	scan->scan = systable_beginscan_ordered(scan->rel, scan->index, snapshot, 2, keys);
	scan->memory = AllocSetContextCreate(CurrentMemoryContext, "wfproc log row", ALLOCSET_DEFAULT_SIZES);
	return scan;
}

/*
 * Takes a tuple apart; what the row points to is palloc'ed here.
 */
static void
read_tuple(HeapTuple tuple, TupleDesc desc, WfLogRow *row)
{
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS];

	heap_deform_tuple(tuple, desc, values, nulls);
	row->instance_id = DatumGetInt64(values[COL_INSTANCE_ID - 1]);
	row->seq = DatumGetInt64(values[COL_SEQ - 1]);
	row->recorded_at = DatumGetTimestampTz(values[COL_RECORDED_AT - 1]);
	row->digest = DatumGetInt64(values[COL_DIGEST - 1]);
	row->event.live = DatumGetBool(values[COL_LIVE - 1]);
	row->event.mail_id = nulls[COL_MAIL_ID - 1] ? 0 : DatumGetInt64(values[COL_MAIL_ID - 1]);
	row->event.at = DatumGetTimestampTz(values[COL_AT - 1]);
	row->event.name = wf_row_text(values, nulls, COL_NAME);
	row->event.payload = wf_row_jsonb(values, nulls, COL_PAYLOAD);
	row->event.sender = wf_row_text(values, nulls, COL_SENDER);
	row->event.key = wf_row_text(values, nulls, COL_IDEMPOTENCY_KEY);
	row->reply = wf_row_jsonb(values, nulls, COL_REPLY);
	row->event.payload_sha256 = NULL;
	if (!nulls[COL_PAYLOAD_SHA256 - 1])
	{
		row->event.payload_sha256 = palloc(WF_SHA256_LEN);
		wf_row_bytes(values, nulls, COL_PAYLOAD_SHA256, row->event.payload_sha256, WF_SHA256_LEN);
	}
	wf_row_bytes(values, nulls, COL_HASH, row->hash, WF_SHA256_LEN);
}

/*
 * The next row, or false at the end of the log.  The row lives until the next call.
 */
bool
wf_eventlog_next(WfLogScan *scan, WfLogRow *row)
{
	MemoryContext old;
	HeapTuple	tuple = systable_getnext_ordered(scan->scan, ForwardScanDirection);

	if (!HeapTupleIsValid(tuple))
		return false;
	MemoryContextReset(scan->memory);
	old = MemoryContextSwitchTo(scan->memory);
	read_tuple(tuple, RelationGetDescr(scan->rel), row);
	MemoryContextSwitchTo(old);
	return true;
}

void
wf_eventlog_close(WfLogScan *scan)
{
	systable_endscan_ordered(scan->scan);
	index_close(scan->index, AccessShareLock);
	table_close(scan->rel, AccessShareLock);
	MemoryContextDelete(scan->memory);
	pfree(scan);
}

/*
 * The last seq of an instance's log, with its hash where hash is not NULL; 0, and no hash, where the log is empty.
 */
int64
wf_eventlog_last(int64 instance_id, Snapshot snapshot, uint8 *hash)
{
	WfLogScan  *scan = wf_eventlog_open(instance_id, 0, snapshot);
	HeapTuple	tuple = systable_getnext_ordered(scan->scan, BackwardScanDirection);
	int64		seq = 0;

	if (HeapTupleIsValid(tuple))
	{
		Datum		values[COLUMNS];
		bool		nulls[COLUMNS];

		heap_deform_tuple(tuple, RelationGetDescr(scan->rel), values, nulls);
		seq = DatumGetInt64(values[COL_SEQ - 1]);
		if (hash != NULL)
			wf_row_bytes(values, nulls, COL_HASH, hash, WF_SHA256_LEN);
	}
	wf_eventlog_close(scan);
	return seq;
}

/*
 * The row without its payload, which must be there.
 */
static HeapTuple
without_payload(Relation rel, HeapTuple tuple)
{
	TupleDesc	desc = RelationGetDescr(rel);
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS];
	uint8		sha256[WF_SHA256_LEN];

	heap_deform_tuple(tuple, desc, values, nulls);
	wf_hash_jsonb(wf_row_jsonb(values, nulls, COL_PAYLOAD), sha256);
	wf_row_set_jsonb(values, nulls, COL_PAYLOAD, wf_check_empty_object());
	wf_row_set_bytes(values, nulls, COL_PAYLOAD_SHA256, sha256, WF_SHA256_LEN);
	return heap_form_tuple(desc, values, nulls);
}

/*
 * Erases the payload of a row and leaves its SHA-256.  The caller holds the instance's shard, or the instance has closed.
 * Returns false where there is no such row, or its payload was erased already.  What is erased is in the table's file until
 * VACUUM, and in WAL and backups.
 */
bool
wf_eventlog_erase(int64 instance_id, int64 seq)
{
	Relation	rel = wf_rows_open(WF_EVENT, RowExclusiveLock, COLUMNS);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	old;
	bool		intact;

	ScanKeyInit(&keys[0], COL_INSTANCE_ID, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(instance_id));
	ScanKeyInit(&keys[1], COL_SEQ, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(seq));
	scan = systable_beginscan(rel, wf_catalog_oid(WF_EVENT_PKEY), true, snapshot, 2, keys);
	old = systable_getnext(scan);
	intact = HeapTupleIsValid(old) && heap_attisnull(old, COL_PAYLOAD_SHA256, RelationGetDescr(rel));
	if (intact)
		CatalogTupleUpdate(rel, &old->t_self, without_payload(rel, old));
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
	CommandCounterIncrement();
	return intact;
}
