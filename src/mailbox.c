/*
 * mailbox.c: events that their instance has not handled yet, and the only code that reads and writes wfproc.mailbox.
 *
 * Rows are inserted by anybody, in the sender's transaction, and deleted by the holder of the instance's shard (turn.c) or
 * by who takes an event back (api.c); never updated.  A turn deletes by TID without waiting: the caller keeps the snapshot
 * that a mail was read with registered until then, since only that keeps VACUUM from giving the TID to another row (and
 * what is toasted cannot be deleted without one).
 *
 * mail_id gives events of one stamp an order, that of sending; across sessions it is not the order of commit, so nobody
 * may look for new mail by it.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "clock.h"
#include "mailbox.h"
#include "rows.h"
#include "wakeup.h"

/* columns of wfproc.mailbox */
enum
{
	COL_INSTANCE_ID = 1,
	COL_AT,
	COL_MAIL_ID,
	COL_SHARD,
	COL_NAME,
	COL_PAYLOAD,
	COL_SENDER,
	COL_TIMER,
	COL_IDEMPOTENCY_KEY,
	COLUMNS = COL_IDEMPOTENCY_KEY
};

/* columns of wfproc.dead_letter */
enum
{
	DEAD_MAIL_ID = 1,
	DEAD_INSTANCE_ID,
	DEAD_ID,
	DEAD_AT,
	DEAD_NAME,
	DEAD_PAYLOAD,
	DEAD_SENDER,
	DEAD_IDEMPOTENCY_KEY,
	DEAD_REASON,
	DEAD_DIED_AT,
	DEAD_COLUMNS = DEAD_DIED_AT
};

struct WfMailScan
{
	Relation	rel;
	Relation	index;
	SysScanDesc scan;
	MemoryContext memory;		/* the mail handed out; reset at the next */
};

struct WfMailWriter
{
	WfBatch    *batch;
};

static int64
next_mail_id(void)
{
	return nextval_internal(wf_catalog_oid(WF_MAIL_SEQ), false);
}

static void
fill_row(Datum *values, bool *nulls, int64 instance_id, int64 mail_id, const WfEvent *event)
{
	wf_row_set(values, nulls, COL_INSTANCE_ID, Int64GetDatum(instance_id));
	wf_row_set(values, nulls, COL_AT, TimestampTzGetDatum(event->at));
	wf_row_set(values, nulls, COL_MAIL_ID, Int64GetDatum(mail_id));
	wf_row_set(values, nulls, COL_SHARD, Int16GetDatum(wf_shard_of(instance_id)));
	wf_row_set_text(values, nulls, COL_NAME, event->name);
	wf_row_set_jsonb(values, nulls, COL_PAYLOAD, event->payload);
	wf_row_set_text(values, nulls, COL_SENDER, event->sender);
	wf_row_set_text(values, nulls, COL_IDEMPOTENCY_KEY, event->key);
}

/*
 * Puts one event into an instance's mailbox, whose owner is woken at commit, and returns its mail_id: the event's own where
 * it has one already.
 */
int64
wf_mailbox_put(int64 instance_id, const WfEvent *event)
{
	Relation	rel = wf_rows_open(WF_MAILBOX, RowExclusiveLock, COLUMNS);
	int64		mail_id = event->mail_id != 0 ? event->mail_id : next_mail_id();
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS];
	HeapTuple	tuple;

	memset(nulls, true, sizeof(nulls));
	fill_row(values, nulls, instance_id, mail_id, event);
	tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);
	CatalogTupleInsert(rel, tuple);
	heap_freetuple(tuple);
	table_close(rel, NoLock);
	wf_wakeup_note(instance_id, event->at);
	return mail_id;
}

/*
 * The same for many events, of any number of instances: expected is how many, as far as is known.
 */
WfMailWriter *
wf_mailbox_writer_open(int expected)
{
	WfMailWriter *writer = palloc(sizeof(WfMailWriter));

	writer->batch = wf_batch_open(WF_MAILBOX, COLUMNS, expected);
	return writer;
}

int64
wf_mailbox_writer_put(WfMailWriter *writer, int64 instance_id, const WfEvent *event)
{
	int64		mail_id = next_mail_id();
	TupleTableSlot *slot = wf_batch_begin_row(writer->batch);

	fill_row(slot->tts_values, slot->tts_isnull, instance_id, mail_id, event);
	wf_batch_end_row(writer->batch);
	wf_wakeup_note(instance_id, event->at);
	return mail_id;
}

void
wf_mailbox_writer_close(WfMailWriter *writer)
{
	wf_batch_close(writer->batch);
	pfree(writer);
}

/*
 * Begins to read an instance's mail from stamp "from" on, in the order in which it will be handled.  The scan belongs to the
 * current (sub)transaction, its memory to the current context.
 */
WfMailScan *
wf_mailbox_open(int64 instance_id, TimestampTz from, Snapshot snapshot)
{
	WfMailScan *scan = palloc(sizeof(WfMailScan));
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], COL_INSTANCE_ID, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(instance_id));
	ScanKeyInit(&keys[1], COL_AT, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE, TimestampTzGetDatum(from));
	scan->rel = wf_rows_open(WF_MAILBOX, AccessShareLock, COLUMNS);
	scan->index = index_open(wf_catalog_oid(WF_MAILBOX_PKEY), AccessShareLock);
	/* without a bound the key would only cost */
	scan->scan = systable_beginscan_ordered(scan->rel, scan->index, snapshot, from == DT_NOBEGIN ? 1 : 2, keys);
	scan->memory = AllocSetContextCreate(CurrentMemoryContext, "wfproc mail", ALLOCSET_DEFAULT_SIZES);
	return scan;
}

static bool
next_tuple(WfMailScan *scan, Datum *values, bool *nulls, ItemPointer tid)
{
	HeapTuple	tuple = systable_getnext_ordered(scan->scan, ForwardScanDirection);

	if (!HeapTupleIsValid(tuple))
		return false;
	heap_deform_tuple(tuple, RelationGetDescr(scan->rel), values, nulls);
	*tid = tuple->t_self;
	return true;
}

/*
 * Copies a row into *mail, in the current memory context.
 */
static void
read_row(const Datum *values, const bool *nulls, ItemPointer tid, WfMail *mail)
{
	memset(mail, 0, sizeof(WfMail));
	mail->instance_id = DatumGetInt64(values[COL_INSTANCE_ID - 1]);
	mail->tid = *tid;
	mail->event.mail_id = DatumGetInt64(values[COL_MAIL_ID - 1]);
	mail->event.at = DatumGetTimestampTz(values[COL_AT - 1]);
	mail->event.name = wf_row_text(values, nulls, COL_NAME);
	mail->event.payload = wf_row_jsonb(values, nulls, COL_PAYLOAD);
	mail->event.sender = wf_row_text(values, nulls, COL_SENDER);
	mail->event.key = wf_row_text(values, nulls, COL_IDEMPOTENCY_KEY);
}

/*
 * The next mail, or false at the end.  It lives until the next call.
 */
bool
wf_mailbox_next(WfMailScan *scan, WfMail *mail)
{
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS];
	ItemPointerData tid;
	MemoryContext old;

	if (!next_tuple(scan, values, nulls, &tid))
		return false;
	MemoryContextReset(scan->memory);
	old = MemoryContextSwitchTo(scan->memory);
	read_row(values, nulls, &tid, mail);
	MemoryContextSwitchTo(old);
	return true;
}

void
wf_mailbox_close(WfMailScan *scan)
{
	systable_endscan_ordered(scan->scan);
	index_close(scan->index, AccessShareLock);
	table_close(scan->rel, AccessShareLock);
	MemoryContextDelete(scan->memory);
	pfree(scan);
}

/*
 * Reads at most max mails of one instance with from <= at <= upto, in order, into *mails, an array in the current memory
 * context (NULL where there are none).  *next_at becomes the stamp of the first that was not read, DT_NOEND where there is
 * none.  Returns how many.
 */
int
wf_mailbox_read(int64 instance_id, TimestampTz from, TimestampTz upto, int max, Snapshot snapshot, WfMail **mails,
				TimestampTz *next_at)
{
	WfMailScan *scan = wf_mailbox_open(instance_id, from, snapshot);
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS];
	ItemPointerData tid;
	int			count = 0;
	int			allocated = 0;

	*mails = NULL;
	*next_at = DT_NOEND;
	while (next_tuple(scan, values, nulls, &tid))
	{
		TimestampTz at = DatumGetTimestampTz(values[COL_AT - 1]);

		if (count == max || at > upto)
		{
			*next_at = at;
			break;
		}
		if (count == allocated)
		{
			allocated = Max(4, allocated * 2);
			*mails = *mails == NULL ? palloc(allocated * sizeof(WfMail)) :
				repalloc_huge(*mails, allocated * sizeof(WfMail));
		}
		read_row(values, nulls, &tid, &(*mails)[count++]);
	}
	wf_mailbox_close(scan);
	return count;
}

/*
 * Looks through the mail of one shard with *from <= at <= upto, in the order of stamps, about *rows rows of it.  Returns true
 * where that was all; else *from is the stamp to go on from, between two stamps, so that each look gets further.
 */
bool
wf_mailbox_find_due(int shard, TimestampTz *from, TimestampTz upto, int *rows, WfDueCallback found, void *arg)
{
	Relation	rel = wf_rows_open(WF_MAILBOX, AccessShareLock, COLUMNS);
	Relation	index = index_open(wf_catalog_oid(WF_MAILBOX_DUE_IDX), AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TimestampTz last = *from;
	ScanKeyData keys[3];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], COL_SHARD, BTEqualStrategyNumber, F_INT2EQ, Int16GetDatum(shard));
	ScanKeyInit(&keys[1], COL_AT, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE, TimestampTzGetDatum(*from));
	ScanKeyInit(&keys[2], COL_AT, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE, TimestampTzGetDatum(upto));
	scan = systable_beginscan_ordered(rel, index, snapshot, 3, keys);
	while (HeapTupleIsValid(tuple = systable_getnext_ordered(scan, ForwardScanDirection)))
	{
		bool		isnull;
		TimestampTz at = DatumGetTimestampTz(heap_getattr(tuple, COL_AT, RelationGetDescr(rel), &isnull));

		CHECK_FOR_INTERRUPTS();
		if ((*rows)-- <= 0 && at != last)
		{
			*from = at;
			break;
		}
		last = at;
		found(DatumGetInt64(heap_getattr(tuple, COL_INSTANCE_ID, RelationGetDescr(rel), &isnull)), at, arg);
	}
	systable_endscan_ordered(scan);
	UnregisterSnapshot(snapshot);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	return !HeapTupleIsValid(tuple);
}

static bool
find_mail(int64 instance_id, int64 mail_id, Snapshot snapshot, WfMail *mail)
{
	WfMailScan *scan = wf_mailbox_open(instance_id, DT_NOBEGIN, snapshot);
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS];
	ItemPointerData tid;
	bool		found = false;

	while (!found && next_tuple(scan, values, nulls, &tid))
	{
		CHECK_FOR_INTERRUPTS();
		found = DatumGetInt64(values[COL_MAIL_ID - 1]) == mail_id;
	}
	if (found)
		read_row(values, nulls, &tid, mail);
	wf_mailbox_close(scan);
	return found;
}

/*
 * Finds a mail by its number among those of an instance.  False where there is none.
 */
bool
wf_mailbox_find(int64 instance_id, int64 mail_id, WfMail *mail)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	bool		found = find_mail(instance_id, mail_id, snapshot, mail);

	UnregisterSnapshot(snapshot);
	return found;
}

static TM_Result
delete_by_tid(const WfMail *mail, bool wait)
{
	Relation	rel = wf_rows_open(WF_MAILBOX, RowExclusiveLock, COLUMNS);
	ItemPointerData tid = mail->tid;
	TM_FailureData tmfd;
	TM_Result	result = table_tuple_delete(rel, &tid, GetCurrentCommandId(true), InvalidSnapshot, InvalidSnapshot,
											wait, &tmfd, false);

	table_close(rel, NoLock);
	return result;
}

/*
 * Deletes a mail that was read with a snapshot that is still registered.  Does not wait: where another transaction has
 * taken it, or is about to, says so.
 */
WfMailGone
wf_mailbox_delete(const WfMail *mail)
{
	Assert(HaveRegisteredOrActiveSnapshot());
	return delete_by_tid(mail, false) == TM_Ok ? WF_MAIL_DELETED : WF_MAIL_CONFLICT;
}

/*
 * Takes a mail back, by its number, for a client: false where it is not there (any more).  Waits, within lock_timeout, for
 * a turn that has it in hand.
 */
bool
wf_mailbox_take(int64 instance_id, int64 mail_id, WfMail *mail)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	bool		taken = find_mail(instance_id, mail_id, snapshot, mail) && delete_by_tid(mail, true) == TM_Ok;

	UnregisterSnapshot(snapshot);
	if (taken)
		CommandCounterIncrement();
	return taken;
}

/*
 * Makes a mail a dead letter: it will not be handled, for that reason.  Its row in the mailbox is the caller's affair.
 */
void
wf_mailbox_bury(const WfMail *mail, const char *id, const char *reason)
{
	Relation	rel = wf_rows_open(WF_DEAD_LETTER, RowExclusiveLock, DEAD_COLUMNS);
	Datum		values[DEAD_COLUMNS];
	bool		nulls[DEAD_COLUMNS];
	HeapTuple	tuple;

	memset(nulls, true, sizeof(nulls));
	wf_row_set(values, nulls, DEAD_MAIL_ID, Int64GetDatum(mail->event.mail_id));
	wf_row_set(values, nulls, DEAD_INSTANCE_ID, Int64GetDatum(mail->instance_id));
	wf_row_set_text(values, nulls, DEAD_ID, id);
	wf_row_set(values, nulls, DEAD_AT, TimestampTzGetDatum(mail->event.at));
	wf_row_set_text(values, nulls, DEAD_NAME, mail->event.name);
	wf_row_set_jsonb(values, nulls, DEAD_PAYLOAD, mail->event.payload);
	wf_row_set_text(values, nulls, DEAD_SENDER, mail->event.sender);
	wf_row_set_text(values, nulls, DEAD_IDEMPOTENCY_KEY, mail->event.key);
	wf_row_set_text(values, nulls, DEAD_REASON, reason);
	wf_row_set(values, nulls, DEAD_DIED_AT, TimestampTzGetDatum(wf_clock_now()));
	tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);
	CatalogTupleInsert(rel, tuple);
	heap_freetuple(tuple);
	table_close(rel, NoLock);
}
