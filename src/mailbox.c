/*
 * mailbox.c: events that their instance has not handled yet, and the only code that reads and writes wfproc.mailbox.
 *
 * Rows are inserted by anybody, in the sender's transaction, and deleted by the holder of the instance's shard (record.c)
 * or by who takes an event back (api.c); never updated.  Timers are written by the holder alone.  A turn deletes by TID
 * without waiting.  Two things keep the TID that row's until then: the table's lock, taken before the mail was read (gate.c),
 * for a rewrite of the table moves every row; and the snapshot that it was read with, still registered, for VACUUM gives
 * the places of what is gone to others (and what is toasted cannot be deleted without one).
 *
 * Mail is handled in the order of (at, origin, mail_id): of one stamp, what comes from outside is handled before what
 * processes have made, whether that has a row already or is handed over in memory.  mail_id gives the rest an order,
 * that of sending; across sessions it is not the order of commit, so nobody may look for new mail by it.
 *
 * wfproc.dead_letter is written here, too: the holder of a shard buries, a client takes dead letters out again (control.c).
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "compat.h"
#include "clock.h"
#include "mailbox.h"
#include "rows.h"
#include "wakeup.h"

/* columns of wfproc.mailbox */
enum
{
	COL_INSTANCE_ID = 1,
	COL_AT,
	COL_ORIGIN,
	COL_MAIL_ID,
	COL_SHARD,
	COL_POSTPONED,
	COL_NAME,
	COL_PAYLOAD,
	COL_SENDER,
	COL_TIMER,
	COL_STATE_KEY,
	COL_IDEMPOTENCY_KEY,
	COLUMNS = COL_IDEMPOTENCY_KEY
};

/* columns of wfproc.dead_letter */
enum
{
	DEAD_MAIL_ID = 1,
	DEAD_INSTANCE_ID,
	DEAD_WORKFLOW_ID,
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

/* rows that wf_mailbox_find_deadline() looks at */
#define MAX_DEADLINE_ROWS 10000

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

/*
 * Draws a mail_id.
 */
int64
wf_mailbox_next_id(void)
{
	return wf_catalog_next_number(WF_MAIL_SEQ);
}

static void
fill_row(Datum *values, bool *nulls, int64 instance_id, int64 mail_id, WfOrigin origin, const WfEvent *event)
{
	wf_row_set(values, nulls, COL_INSTANCE_ID, Int64GetDatum(instance_id));
	wf_row_set(values, nulls, COL_AT, TimestampTzGetDatum(event->at));
	wf_row_set(values, nulls, COL_ORIGIN, Int16GetDatum(origin));
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
	int64		mail_id = event->mail_id != 0 ? event->mail_id : wf_mailbox_next_id();
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS];
	HeapTuple	tuple;

	memset(nulls, true, sizeof(nulls));
	fill_row(values, nulls, instance_id, mail_id, WF_FROM_OUTSIDE, event);
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
	int64		mail_id = wf_mailbox_next_id();
	TupleTableSlot *slot = wf_batch_begin_row(writer->batch);

	fill_row(slot->tts_values, slot->tts_isnull, instance_id, mail_id, WF_FROM_OUTSIDE, event);
	wf_batch_end_row(writer->batch);
	wf_wakeup_note(instance_id, event->at);
	return mail_id;
}

/*
 * The same for mail that a process has made, or that was postponed, as it is.  It gets a mail_id where it has none; its
 * addressee's worker is woken at commit where "wake".
 */
void
wf_mailbox_writer_put_mail(WfMailWriter *writer, WfMail *mail, bool wake)
{
	TupleTableSlot *slot = wf_batch_begin_row(writer->batch);
	Datum	   *values = slot->tts_values;
	bool	   *nulls = slot->tts_isnull;

	/* what this turn has made is numbered in the order of writing */
	if (mail->event.mail_id == 0 || mail->order != 0)
		mail->event.mail_id = wf_mailbox_next_id();
	fill_row(values, nulls, mail->instance_id, mail->event.mail_id, mail->origin, &mail->event);
	wf_row_set_text(values, nulls, COL_TIMER, mail->timer);
	wf_row_set_text(values, nulls, COL_STATE_KEY, mail->state_key);
	if (mail->postponed != WF_NOT_POSTPONED)
		wf_row_set(values, nulls, COL_POSTPONED, Int64GetDatum(mail->postponed));
	wf_batch_end_row(writer->batch);
	if (wake)
		wf_wakeup_note(mail->instance_id, mail->event.at);
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
	mail->origin = (WfOrigin) DatumGetInt16(values[COL_ORIGIN - 1]);
	mail->postponed = nulls[COL_POSTPONED - 1] ? WF_NOT_POSTPONED : DatumGetInt64(values[COL_POSTPONED - 1]);
	mail->timer = wf_row_text(values, nulls, COL_TIMER);
	mail->state_key = wf_row_text(values, nulls, COL_STATE_KEY);
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
 * What a row will take in memory, about: only the payload can be large.
 */
static Size
row_bytes(const Datum *values, const bool *nulls)
{
	return sizeof(WfMail) + (nulls[COL_PAYLOAD - 1] ? 0 : toast_raw_datum_size(values[COL_PAYLOAD - 1]));
}

/*
 * Reads at most max mails of one instance with from <= at <= upto, in order, into *mails, an array in the current memory
 * context (NULL where there are none); of about max_bytes together (0: no limit), but always one.  *next_at becomes the
 * stamp of the first that was not read, DT_NOEND where there is none.  Returns how many.
 */
int
wf_mailbox_read(int64 instance_id, TimestampTz from, TimestampTz upto, int max, Size max_bytes, Snapshot snapshot,
				WfMail **mails, TimestampTz *next_at)
{
	return wf_mailbox_read_on(instance_id, from, 0, upto, max, max_bytes, snapshot, mails, next_at);
}

/*
 * The same without the first "skip" of stamp "from", which were read before.
 */
int
wf_mailbox_read_on(int64 instance_id, TimestampTz from, int skip, TimestampTz upto, int max, Size max_bytes, Snapshot snapshot,
				   WfMail **mails, TimestampTz *next_at)
{
	WfMailScan *scan = wf_mailbox_open(instance_id, from, snapshot);
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS];
	ItemPointerData tid;
	int			count = 0;
	int			allocated = 0;
	Size		bytes = 0;

	*mails = NULL;
	*next_at = DT_NOEND;
	while (next_tuple(scan, values, nulls, &tid))
	{
		TimestampTz at = DatumGetTimestampTz(values[COL_AT - 1]);

		if (skip-- > 0)
			continue;
		bytes += row_bytes(values, nulls);
		if (count == max || at > upto || (max_bytes > 0 && count > 0 && bytes > max_bytes))
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
	/* locked first: what is rewritten meanwhile an older snapshot may not see */
	Relation	rel = wf_rows_open(WF_MAILBOX, AccessShareLock, COLUMNS);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	bool		found = find_mail(instance_id, mail_id, snapshot, mail);

	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return found;
}

/*
 * Whether the row at a mail's place is that mail's.  It is, as long as callers keep the table locked and a snapshot
 * registered since they have read it; else another event would be lost here, and nobody would know.
 */
static bool
is_in_place(Relation rel, const WfMail *mail)
{
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	ItemPointerData tid = mail->tid;
	bool		isnull;
	bool		result;

	result = table_tuple_fetch_row_version(rel, &tid, SnapshotAny, slot) &&
		DatumGetInt64(slot_getattr(slot, COL_INSTANCE_ID, &isnull)) == mail->instance_id &&
		DatumGetInt64(slot_getattr(slot, COL_MAIL_ID, &isnull)) == mail->event.mail_id;
	ExecDropSingleTupleTableSlot(slot);
	return result;
}

static bool
delete_by_tid(const WfMail *mail, bool wait)
{
	Relation	rel = wf_rows_open(WF_MAILBOX, RowExclusiveLock, COLUMNS);
	ItemPointerData tid = mail->tid;
	TM_FailureData tmfd;
	bool		deleted = is_in_place(rel, mail) &&
		table_tuple_delete(rel, &tid, GetCurrentCommandId(true), InvalidSnapshot, InvalidSnapshot, wait, &tmfd, false) == TM_Ok;

	table_close(rel, NoLock);
	return deleted;
}

/*
 * Deletes a mail that was read with a snapshot that is still registered, under the table's lock (gate.c), which is still
 * held.  Does not wait: where another transaction has taken it, or is about to, says so.
 */
WfMailGone
wf_mailbox_delete(const WfMail *mail)
{
	Assert(WF_HAVE_SNAPSHOT());
	return delete_by_tid(mail, false) ? WF_MAIL_DELETED : WF_MAIL_CONFLICT;
}

/*
 * Takes a mail back, by its number, for a client: false where it is not there (any more).  Waits, within lock_timeout, for
 * a turn that has it in hand.
 */
bool
wf_mailbox_take(int64 instance_id, int64 mail_id, WfMail *mail)
{
	/* locked first: what was found must still be there when it is deleted */
	Relation	rel = wf_rows_open(WF_MAILBOX, RowExclusiveLock, COLUMNS);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	bool		taken = find_mail(instance_id, mail_id, snapshot, mail) && delete_by_tid(mail, true);

	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
	if (taken)
		CommandCounterIncrement();
	return taken;
}

/*
 * Deletes the mail at a place, whose instance's shard this backend holds; the snapshot is a registered one.  False where it
 * is not there, as far as the snapshot sees, or was deleted already.  Does not wait.
 */
bool
wf_mailbox_remove(int64 instance_id, const WfPlace *place, Snapshot snapshot)
{
	Relation	rel = wf_rows_open(WF_MAILBOX, RowExclusiveLock, COLUMNS);
	ScanKeyData keys[4];
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		removed = false;

	Assert(WF_HAVE_SNAPSHOT());
	ScanKeyInit(&keys[0], COL_INSTANCE_ID, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(instance_id));
	ScanKeyInit(&keys[1], COL_AT, BTEqualStrategyNumber, F_TIMESTAMPTZ_EQ, TimestampTzGetDatum(place->at));
	ScanKeyInit(&keys[2], COL_ORIGIN, BTEqualStrategyNumber, F_INT2EQ, Int16GetDatum(place->origin));
	ScanKeyInit(&keys[3], COL_MAIL_ID, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(place->mail_id));
	scan = systable_beginscan(rel, wf_catalog_oid(WF_MAILBOX_PKEY), true, snapshot, 4, keys);
	tuple = systable_getnext(scan);

	/*
	 * what an earlier command of this transaction has deleted the snapshot
	 * still sees, but to delete it again would be an error
	 */
	if (HeapTupleIsValid(tuple) && systable_recheck_tuple(scan, tuple))
	{
		WfMail		mail = {.instance_id = instance_id,.tid = tuple->t_self,.event.mail_id = place->mail_id};

		removed = delete_by_tid(&mail, false);
	}
	systable_endscan(scan);
	table_close(rel, NoLock);
	return removed;
}

/*
 * Calls found, in the caller's memory context, for each timer among an instance's mail, all of which is looked through.
 * What is no timer is not copied.  The mail lives until the next.
 */
void
wf_mailbox_find_timers(int64 instance_id, Snapshot snapshot, WfTimerCallback found, void *arg)
{
	WfMailScan *scan = wf_mailbox_open(instance_id, DT_NOBEGIN, snapshot);
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS];
	ItemPointerData tid;

	while (next_tuple(scan, values, nulls, &tid))
	{
		WfMail		mail;
		MemoryContext caller;

		CHECK_FOR_INTERRUPTS();
		if (nulls[COL_TIMER - 1])
			continue;
		MemoryContextReset(scan->memory);
		caller = MemoryContextSwitchTo(scan->memory);
		read_row(values, nulls, &tid, &mail);
		MemoryContextSwitchTo(caller);
		found(&mail, arg);
	}
	wf_mailbox_close(scan);
}

/*
 * Reads all control events that wait ahead of an instance's other mail, as of now, and returns how many.
 */
int
wf_mailbox_read_control(int64 instance_id, WfMail **mails)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TimestampTz next_at;
	int			count = wf_mailbox_read(instance_id, WF_AT_ONCE, WF_AT_ONCE, INT_MAX, 0, snapshot, mails, &next_at);

	UnregisterSnapshot(snapshot);
	return count;
}

/*
 * Reads the first $terminate that has a stamp, due or not, of an instance's mail into *mail, in the current memory context.
 * False where there is none among the first MAX_DEADLINE_ROWS.
 */
bool
wf_mailbox_find_deadline(int64 instance_id, Snapshot snapshot, WfMail *mail)
{
	WfMailScan *scan = wf_mailbox_open(instance_id, WF_NO_STAMP, snapshot);
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS];
	ItemPointerData tid;
	bool		found = false;

	for (int i = 0; i < MAX_DEADLINE_ROWS && !found && next_tuple(scan, values, nulls, &tid); i++)
	{
		CHECK_FOR_INTERRUPTS();
		found = strcmp(TextDatumGetCString(values[COL_NAME - 1]), "$terminate") == 0;
	}
	if (found)
		read_row(values, nulls, &tid, mail);
	wf_mailbox_close(scan);
	return found;
}

/*
 * Makes a mail a dead letter: it will not be handled, for that reason.  Its row in the mailbox is the caller's affair.
 * workflow_id: the addressee's, or the sender's where there is no addressee (instance_id 0).  It gets a mail_id where it
 * has none.
 */
void
wf_mailbox_bury(const WfMail *mail, const char *id, int workflow_id, const char *reason)
{
	Relation	rel = wf_rows_open(WF_DEAD_LETTER, RowExclusiveLock, DEAD_COLUMNS);
	Datum		values[DEAD_COLUMNS];
	bool		nulls[DEAD_COLUMNS];
	HeapTuple	tuple;

	memset(nulls, true, sizeof(nulls));
	wf_row_set(values, nulls, DEAD_MAIL_ID,
			   Int64GetDatum(mail->event.mail_id != 0 ? mail->event.mail_id : wf_mailbox_next_id()));
	if (mail->instance_id != 0)
		wf_row_set(values, nulls, DEAD_INSTANCE_ID, Int64GetDatum(mail->instance_id));
	wf_row_set(values, nulls, DEAD_WORKFLOW_ID, Int32GetDatum(workflow_id));
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

static void
read_dead_letter(HeapTuple tuple, TupleDesc desc, WfMail *mail, char **id)
{
	Datum		values[DEAD_COLUMNS];
	bool		nulls[DEAD_COLUMNS];

	heap_deform_tuple(tuple, desc, values, nulls);
	memset(mail, 0, sizeof(WfMail));
	/* it has no row in the mailbox */
	ItemPointerSetInvalid(&mail->tid);
	mail->postponed = WF_NOT_POSTPONED;
	mail->instance_id = nulls[DEAD_INSTANCE_ID - 1] ? 0 : DatumGetInt64(values[DEAD_INSTANCE_ID - 1]);
	mail->event.mail_id = DatumGetInt64(values[DEAD_MAIL_ID - 1]);
	mail->event.at = DatumGetTimestampTz(values[DEAD_AT - 1]);
	mail->event.name = wf_row_text(values, nulls, DEAD_NAME);
	mail->event.payload = wf_row_jsonb(values, nulls, DEAD_PAYLOAD);
	mail->event.sender = wf_row_text(values, nulls, DEAD_SENDER);
	mail->event.key = wf_row_text(values, nulls, DEAD_IDEMPOTENCY_KEY);
	*id = wf_row_text(values, nulls, DEAD_ID);
}

/*
 * Takes a dead letter out of its table, and fills *mail and the id that it was for, in the current memory context;
 * instance_id is 0 where nobody had that id.  False where it is not there (any more).  Waits, within lock_timeout, for
 * another who takes it.
 */
bool
wf_mailbox_exhume(int64 mail_id, WfMail *mail, char **id)
{
	Relation	rel = wf_rows_open(WF_DEAD_LETTER, RowExclusiveLock, DEAD_COLUMNS);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		taken = false;

	ScanKeyInit(&key, DEAD_MAIL_ID, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(mail_id));
	scan = systable_beginscan(rel, wf_catalog_oid(WF_DEAD_LETTER_PKEY), true, snapshot, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		ItemPointerData tid = tuple->t_self;
		TM_FailureData tmfd;

		read_dead_letter(tuple, RelationGetDescr(rel), mail, id);
		taken = table_tuple_delete(rel, &tid, GetCurrentCommandId(true), InvalidSnapshot, InvalidSnapshot, true, &tmfd,
								   false) == TM_Ok;
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
	if (taken)
		CommandCounterIncrement();
	return taken;
}
