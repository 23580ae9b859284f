/*
 * instance.c: rows of wfproc.instance, and the only code that reads and writes them.
 *
 * A row is inserted by anybody, in the starter's transaction, and updated by the holder of the instance's shard (record.c)
 * alone; so no row needs a lock.  It is written when something changes for good, not for every event.
 *
 * Two transactions may start the same id at the same time: the one that comes second waits, and finds that the id exists
 * or that the first was rolled back.  Where an id that exists is no error, that needs ON CONFLICT, hence SQL; everything
 * else here goes without.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "acl.h"
#include "catalog.h"
#include "check.h"
#include "clock.h"
#include "guc.h"
#include "instance.h"
#include "mailbox.h"
#include "rows.h"
#include "spi.h"
#include "touched.h"
#include "wakeup.h"

/* columns of wfproc.instance */
enum
{
	COL_INSTANCE_ID = 1,
	COL_ID,
	COL_WORKFLOW_ID,
	COL_VERSION,
	COL_FIRST_VERSION,
	COL_ATTEMPTS,
	COL_CRASHES,
	COL_STATUS,
	COL_CANCELLING,
	COL_STATE_TIMERS,
	COL_UNLOGGED,
	COL_STARTED_AT,
	COL_LIVE_FROM,
	COL_CLOSED_AT,
	COL_RETRY_AT,
	COL_PARENT,
	COL_ATTRIBUTES,
	COL_RESULT,
	COL_ERROR,
	COL_ERROR_CONTEXT,
	COLUMNS = COL_ERROR_CONTEXT
};

/* most rows that one INSERT of wf_instance_start_many() is given */
#define START_BATCH 1000
/* of more new instances than that, run() in the same transaction is not told */
#define MAX_NOTED 10000

static const char *const status_names[] = {
	[WF_RUNNING] = "running",
	[WF_PAUSED] = "paused",
	[WF_COMPLETED] = "completed",
	[WF_FAILED] = "failed",
	[WF_CANCELLED] = "cancelled",
	[WF_TERMINATED] = "terminated"
};

const char *
wf_instance_status_name(WfStatus status)
{
	Assert((int) status >= 0 && status < lengthof(status_names));
	return status_names[status];
}

/*
 * Finds a status by its name.  False where there is none of that name.
 */
bool
wf_instance_parse_status(const char *name, WfStatus *status)
{
	for (int i = 0; i < lengthof(status_names); i++)
	{
		if (strcmp(status_names[i], name) == 0)
		{
			*status = (WfStatus) i;
			return true;
		}
	}
	return false;
}

static WfStatus
parse_status(const char *name)
{
	WfStatus	status = WF_RUNNING;

	if (!wf_instance_parse_status(name, &status))
		elog(ERROR, "unknown status \"%s\"", name);
	return status;
}

/*
 * Copies a row into *instance, in the current memory context.
 */
static void
read_tuple(HeapTuple tuple, TupleDesc desc, WfInstance *instance)
{
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS];

	heap_deform_tuple(tuple, desc, values, nulls);
	instance->instance_id = DatumGetInt64(values[COL_INSTANCE_ID - 1]);
	instance->id = wf_row_text(values, nulls, COL_ID);
	instance->workflow_id = DatumGetInt32(values[COL_WORKFLOW_ID - 1]);
	instance->version = DatumGetInt32(values[COL_VERSION - 1]);
	instance->first_version = DatumGetInt32(values[COL_FIRST_VERSION - 1]);
	instance->status = parse_status(wf_row_text(values, nulls, COL_STATUS));
	instance->attempts = DatumGetInt32(values[COL_ATTEMPTS - 1]);
	instance->crashes = DatumGetInt32(values[COL_CRASHES - 1]);
	instance->cancelling = DatumGetBool(values[COL_CANCELLING - 1]);
	instance->state_timers = DatumGetBool(values[COL_STATE_TIMERS - 1]);
	instance->unlogged = DatumGetBool(values[COL_UNLOGGED - 1]);
	instance->started_at = DatumGetTimestampTz(values[COL_STARTED_AT - 1]);
	instance->live_from = DatumGetTimestampTz(values[COL_LIVE_FROM - 1]);
	instance->closed_at = nulls[COL_CLOSED_AT - 1] ? 0 : DatumGetTimestampTz(values[COL_CLOSED_AT - 1]);
	instance->retry_at = nulls[COL_RETRY_AT - 1] ? DT_NOBEGIN : DatumGetTimestampTz(values[COL_RETRY_AT - 1]);
	instance->parent = wf_row_text(values, nulls, COL_PARENT);
	instance->attributes = wf_row_jsonb(values, nulls, COL_ATTRIBUTES);
	/* most have none, and share it */
	if (JB_ROOT_COUNT(instance->attributes) == 0)
		instance->attributes = wf_check_empty_object();
	instance->result = wf_row_jsonb(values, nulls, COL_RESULT);
	instance->error = wf_row_text(values, nulls, COL_ERROR);
	instance->error_context = wf_row_text(values, nulls, COL_ERROR_CONTEXT);
}

static bool
read_by(Relation rel, WfRelation index, ScanKey key, Snapshot snapshot, WfInstance *instance)
{
	SysScanDesc scan = systable_beginscan(rel, wf_catalog_oid(index), true, snapshot, 1, key);
	HeapTuple	tuple = systable_getnext(scan);

	if (HeapTupleIsValid(tuple))
		read_tuple(tuple, RelationGetDescr(rel), instance);
	systable_endscan(scan);
	return HeapTupleIsValid(tuple);
}

/*
 * Finds an instance by its id, as of now: also one that this very statement has started.  False where there is none.
 * Strings are copied into the current memory context.
 */
bool
wf_instance_find(const char *id, WfInstance *instance)
{
	/* locked first: what is rewritten meanwhile an older snapshot may not see */
	Relation	rel = wf_rows_open(WF_INSTANCE, AccessShareLock, COLUMNS);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyData key;
	bool		found;

	/* the column's collation is "C", which is what this takes */
	ScanKeyInit(&key, COL_ID, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(id));
	found = read_by(rel, WF_INSTANCE_ID_KEY, &key, snapshot, instance);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return found;
}

/*
 * The same by the primary key, and with the caller's snapshot.
 */
bool
wf_instance_read(int64 instance_id, Snapshot snapshot, WfInstance *instance)
{
	Relation	rel = wf_rows_open(WF_INSTANCE, AccessShareLock, COLUMNS);
	ScanKeyData key;
	bool		found;

	ScanKeyInit(&key, COL_INSTANCE_ID, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(instance_id));
	found = read_by(rel, WF_INSTANCE_PKEY, &key, snapshot, instance);
	table_close(rel, AccessShareLock);
	return found;
}

/*
 * Finds an instance for the current user, who must have that privilege for its workflow; returns the workflow.
 */
WfWorkflow *
wf_instance_get(const char *id, WfPrivilege privilege, WfInstance *instance)
{
	WfWorkflow *workflow;

	if (!wf_instance_find(id, instance))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("instance \"%s\" does not exist", id),
				 errhint("wfproc.start() starts one; wfproc.instances lists those that you may see.")));
	wf_workflow_refresh();
	workflow = wf_workflow_get(instance->workflow_id);
	wf_acl_require(workflow, GetUserId(), privilege);
	return workflow;
}

/*
 * An instance that has closed handles nothing more: an error for who would send to it.
 */
void
wf_instance_require_open(const WfInstance *instance)
{
	if (WF_IS_CLOSED(instance->status))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("instance \"%s\" is %s", instance->id, wf_instance_status_name(instance->status)),
				 errhint("An instance that has closed handles no more events.")));
}

/*
 * Refuses an event that clients may not send to the workflow's instances.
 */
void
wf_instance_require_accepts(const WfWorkflow *workflow, const char *event)
{
	wf_check_event_name(event, true);
	if (!wf_workflow_accepts(workflow, event))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("workflow \"%s\" does not accept event \"%s\"", workflow->name, event),
				 errhint("define(..., accepts => ...) lists the events that it accepts from outside.")));
}

/*
 * From when on an instance is live where nobody says: from its start, be that a moment ago, unless it is so old that it is
 * history.
 */
TimestampTz
wf_instance_default_live_from(TimestampTz at, TimestampTz now)
{
	return at >= now - wf_live_tolerance * USECS_PER_SEC ? Min(at, now) : now;
}

/*
 * Inserts the rows of at most START_BATCH instances, all of one workflow.  instance_ids: in, the numbers that they are to
 * have; out, 0 where another instance has the id already.
 */
static void
insert_rows(const WfWorkflow *workflow, int version, const TimestampTz *live_froms, Jsonb *attributes, const char *const *ids,
			const TimestampTz *ats, int count, int64 *instance_ids)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT8ARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, INT4OID, INT4OID, TIMESTAMPTZARRAYOID, JSONBOID};
	Datum	   *number_datums = palloc(count * sizeof(Datum));
	Datum	   *id_datums = palloc(count * sizeof(Datum));
	Datum	   *at_datums = palloc(count * sizeof(Datum));
	Datum	   *live_datums = palloc(count * sizeof(Datum));
	Datum		values[lengthof(types)];
	WfSpi		spi;
	int			returned;
	int			next = 0;

	for (int i = 0; i < count; i++)
	{
		number_datums[i] = Int64GetDatum(instance_ids[i]);
		id_datums[i] = CStringGetTextDatum(ids[i]);
		at_datums[i] = TimestampTzGetDatum(ats[i]);
		live_datums[i] = TimestampTzGetDatum(live_froms[i]);
	}
	values[0] = PointerGetDatum(construct_array(number_datums, count, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[1] = PointerGetDatum(construct_array(id_datums, count, TEXTOID, -1, false, TYPALIGN_INT));
	values[2] = PointerGetDatum(construct_array(at_datums, count, TIMESTAMPTZOID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[3] = Int32GetDatum(workflow->workflow_id);
	values[4] = Int32GetDatum(version);
	values[5] = PointerGetDatum(construct_array(live_datums, count, TIMESTAMPTZOID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[6] = JsonbPGetDatum(attributes);

	wf_spi_begin(&spi);
	returned = wf_spi_execute(&plan,
							  "INSERT INTO wfproc.instance "
							  "(instance_id, id, workflow_id, version, first_version, started_at, live_from, attributes) "
							  "SELECT u.instance_id, u.id, $4, $5, $5, u.at, u.live_from, $7 "
							  "FROM ROWS FROM (unnest($1), unnest($2), unnest($3), unnest($6)) AS u(instance_id, id, at, live_from) "
							  "ON CONFLICT (id) DO NOTHING "
							  "RETURNING instance_id",
							  lengthof(types), types, values, NULL, false, SPI_OK_INSERT_RETURNING);
	/* what comes back is a part of what was given, in the same order */
	for (int i = 0; i < count; i++)
	{
		bool		isnull;

		if (next < returned &&
			DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[next], SPI_tuptable->tupdesc, 1, &isnull)) == instance_ids[i])
			next++;
		else
			instance_ids[i] = 0;
	}
	Assert(next == returned);
	wf_spi_end(&spi);
}

/*
 * Draws an instance_id.
 */
int64
wf_instance_next_id(void)
{
	return wf_catalog_next_number(WF_INSTANCE_SEQ);
}

static char *
generate_id(void)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, DirectFunctionCall1(gen_random_uuid, (Datum) 0)));
}

/*
 * Refuses an id that is taken.
 */
void
wf_instance_refuse_id(const char *id, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_DUPLICATE_OBJECT),
			 errmsg("instance \"%s\" already exists", id),
			 errhint("%s", hint)));
}

/*
 * Inserts the row of one instance.  That its id is taken is an error, whoever has it, and since when.
 */
static void
insert_one(Datum *values, bool *nulls, const char *id, const char *hint)
{
	Relation	rel = wf_rows_open(WF_INSTANCE, RowExclusiveLock, COLUMNS);
	MemoryContext caller = CurrentMemoryContext;

	PG_TRY();
	{
		CatalogTupleInsert(rel, heap_form_tuple(RelationGetDescr(rel), values, nulls));
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		/* not caught for good: the error is only said in words of ours */
		if (error->sqlerrcode == ERRCODE_UNIQUE_VIOLATION && error->constraint_name != NULL &&
			strcmp(error->constraint_name, "instance_id_key") == 0)
			wf_instance_refuse_id(id, hint);
		ReThrowError(error);
	}
	PG_END_TRY();
	table_close(rel, NoLock);
}

/*
 * The same for one that is started.
 */
static void
insert_row(const WfStart *start, int64 instance_id, const char *id, int workflow_id)
{
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS];

	memset(nulls, true, sizeof(nulls));
	wf_row_set(values, nulls, COL_INSTANCE_ID, Int64GetDatum(instance_id));
	wf_row_set_text(values, nulls, COL_ID, id);
	wf_row_set(values, nulls, COL_WORKFLOW_ID, Int32GetDatum(workflow_id));
	wf_row_set(values, nulls, COL_VERSION, Int32GetDatum(start->version));
	wf_row_set(values, nulls, COL_FIRST_VERSION, Int32GetDatum(start->version));
	wf_row_set(values, nulls, COL_ATTEMPTS, Int32GetDatum(0));
	wf_row_set(values, nulls, COL_CRASHES, Int32GetDatum(0));
	wf_row_set_text(values, nulls, COL_STATUS, wf_instance_status_name(WF_RUNNING));
	wf_row_set(values, nulls, COL_CANCELLING, BoolGetDatum(false));
	wf_row_set(values, nulls, COL_STATE_TIMERS, BoolGetDatum(false));
	wf_row_set(values, nulls, COL_UNLOGGED, BoolGetDatum(false));
	wf_row_set(values, nulls, COL_STARTED_AT, TimestampTzGetDatum(start->at));
	wf_row_set(values, nulls, COL_LIVE_FROM, TimestampTzGetDatum(start->live_from));
	wf_row_set_jsonb(values, nulls, COL_ATTRIBUTES, start->attributes);
	insert_one(values, nulls, id, "Choose another id, or say if_exists => 'ignore'.");
}

/*
 * Inserts the row of one instance unless its id is taken, which is fine where the other is of the same workflow.  Returns
 * whether it was inserted.
 */
static bool
insert_row_if_new(const WfStart *start, int64 instance_id, const char *id, const WfWorkflow *workflow)
{
	WfInstance	existing;

	if (!wf_instance_find(id, &existing))
	{
		insert_rows(workflow, start->version, &start->live_from, start->attributes, &id, &start->at, 1, &instance_id);
		if (instance_id != 0)
			return true;
	}
	if (instance_id == 0 && !wf_instance_find(id, &existing))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("instance \"%s\" was removed by another transaction", id),
				 errhint("Try again.")));
	if (existing.workflow_id != workflow->workflow_id)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("instance \"%s\" already exists and is not of workflow \"%s\"", id, workflow->name),
				 errhint("Ids are unique in the database: choose another one.")));
	return false;
}

/*
 * Puts the first event of a new instance into its mailbox.
 */
static void
put_start_event(int64 instance_id, Jsonb *input, TimestampTz at, WfMailWriter *writer)
{
	char		name[] = "start";
	WfEvent		event = {0};

	event.at = at;
	event.name = name;
	event.payload = input;
	if (writer != NULL)
		(void) wf_mailbox_writer_put(writer, instance_id, &event);
	else
		(void) wf_mailbox_put(instance_id, &event);
}

/*
 * Starts an instance and returns its id, in the current memory context.  The caller has checked rights and arguments.
 */
char *
wf_instance_start(WfWorkflow *workflow, const WfStart *start)
{
	char	   *id = start->id != NULL ? pstrdup(start->id) : generate_id();
	int64		instance_id;

	/* raises 42704 where there is no such version */
	if (start->version != workflow->current_version)
		(void) wf_workflow_version(workflow, start->version);
	instance_id = wf_instance_next_id();
	if (!start->ignore_existing)
		insert_row(start, instance_id, id, workflow->workflow_id);
	else if (!insert_row_if_new(start, instance_id, id, workflow))
		return id;
	put_start_event(instance_id, start->input, start->at, NULL);
	wf_touched_note(&instance_id, 1);
	wf_wakeup_note_started(instance_id);
	CommandCounterIncrement();
	return id;
}

/*
 * Starts many instances of a workflow's current version, with the input {} and no attributes.  instance_ids becomes their numbers, 0 where
 * there is an instance of that id already, which is no error.
 */
void
wf_instance_start_many(WfWorkflow *workflow, const char *const *ids, const TimestampTz *ats, int count,
					   TimestampTz now, int64 *instance_ids)
{
	Jsonb	   *empty = wf_check_empty_object();
	WfMailWriter *writer = wf_mailbox_writer_open(count);
	TimestampTz *live_froms = palloc(count * sizeof(TimestampTz));

	for (int i = 0; i < count; i++)
	{
		instance_ids[i] = wf_instance_next_id();
		live_froms[i] = wf_instance_default_live_from(ats[i], now);
	}
	for (int i = 0; i < count; i += START_BATCH)
		insert_rows(workflow, workflow->current_version, live_froms + i, empty, ids + i, ats + i,
					Min(START_BATCH, count - i), instance_ids + i);
	for (int i = 0; i < count; i++)
	{
		if (instance_ids[i] == 0)
			continue;
		put_start_event(instance_ids[i], empty, ats[i], writer);
		wf_touched_note(&instance_ids[i], 1);
		if (i < MAX_NOTED)
			wf_wakeup_note_started(instance_ids[i]);
	}
	wf_mailbox_writer_close(writer);
	CommandCounterIncrement();
}

/*
 * The columns that a turn changes.
 */
static void
set_changing(Datum *values, bool *nulls, const WfInstance *instance)
{
	wf_row_set(values, nulls, COL_VERSION, Int32GetDatum(instance->version));
	wf_row_set(values, nulls, COL_ATTEMPTS, Int32GetDatum(instance->attempts));
	wf_row_set(values, nulls, COL_CRASHES, Int32GetDatum(instance->crashes));
	wf_row_set_text(values, nulls, COL_STATUS, wf_instance_status_name(instance->status));
	wf_row_set(values, nulls, COL_CANCELLING, BoolGetDatum(instance->cancelling));
	wf_row_set(values, nulls, COL_STATE_TIMERS, BoolGetDatum(instance->state_timers));
	wf_row_set(values, nulls, COL_UNLOGGED, BoolGetDatum(instance->unlogged));
	if (instance->closed_at != 0)
		wf_row_set(values, nulls, COL_CLOSED_AT, TimestampTzGetDatum(instance->closed_at));
	if (instance->retry_at != DT_NOBEGIN)
		wf_row_set(values, nulls, COL_RETRY_AT, TimestampTzGetDatum(instance->retry_at));
	wf_row_set_jsonb(values, nulls, COL_ATTRIBUTES, instance->attributes);
	wf_row_set_jsonb(values, nulls, COL_RESULT, instance->result);
	wf_row_set_text(values, nulls, COL_ERROR, instance->error);
	wf_row_set_text(values, nulls, COL_ERROR_CONTEXT, instance->error_context);
}

/*
 * The row with those columns as of *instance.
 */
static HeapTuple
changed_tuple(HeapTuple old, TupleDesc desc, const WfInstance *instance)
{
	static const int changing[] = {
		COL_VERSION, COL_ATTEMPTS, COL_CRASHES, COL_STATUS, COL_CANCELLING, COL_STATE_TIMERS, COL_UNLOGGED, COL_CLOSED_AT,
		COL_RETRY_AT, COL_ATTRIBUTES, COL_RESULT, COL_ERROR, COL_ERROR_CONTEXT
	};
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS];
	bool		replace[COLUMNS];

	memset(nulls, true, sizeof(nulls));
	memset(replace, false, sizeof(replace));
	for (int i = 0; i < lengthof(changing); i++)
		replace[changing[i] - 1] = true;
	set_changing(values, nulls, instance);
	return heap_modify_tuple(old, desc, values, nulls, replace);
}

/*
 * All columns.
 */
static void
set_all(Datum *values, bool *nulls, const WfInstance *instance)
{
	wf_row_set(values, nulls, COL_INSTANCE_ID, Int64GetDatum(instance->instance_id));
	wf_row_set_text(values, nulls, COL_ID, instance->id);
	wf_row_set(values, nulls, COL_FIRST_VERSION, Int32GetDatum(instance->first_version));
	wf_row_set(values, nulls, COL_WORKFLOW_ID, Int32GetDatum(instance->workflow_id));
	wf_row_set(values, nulls, COL_STARTED_AT, TimestampTzGetDatum(instance->started_at));
	wf_row_set(values, nulls, COL_LIVE_FROM, TimestampTzGetDatum(instance->live_from));
	wf_row_set_text(values, nulls, COL_PARENT, instance->parent);
	set_changing(values, nulls, instance);
}

/*
 * Inserts the row of an instance that comes with a log, which is the caller's affair.  That its id is taken is an error
 * (42710) with that hint.
 */
void
wf_instance_add(const WfInstance *instance, const char *hint)
{
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS];

	memset(nulls, true, sizeof(nulls));
	set_all(values, nulls, instance);
	insert_one(values, nulls, instance->id, hint);
	wf_touched_note(&instance->instance_id, 1);
	wf_wakeup_note_started(instance->instance_id);
	CommandCounterIncrement();
}

/*
 * Inserts the rows of new instances, which have their numbers, and may have closed already.  Where an id is taken that is
 * the server's own error, unique_violation.  Their mail is the caller's affair.
 */
void
wf_instance_insert(WfInstance *const *instances, int count)
{
	WfBatch    *batch = wf_batch_open(WF_INSTANCE, COLUMNS, count);

	for (int i = 0; i < count; i++)
	{
		const WfInstance *instance = instances[i];
		TupleTableSlot *slot = wf_batch_begin_row(batch);

		set_all(slot->tts_values, slot->tts_isnull, instance);
		wf_batch_end_row(batch);
		wf_touched_note(&instance->instance_id, 1);
		wf_wakeup_note_started(instance->instance_id);
		if (WF_IS_CLOSED(instance->status))
			wf_wakeup_note_closed(instance->instance_id);
	}
	wf_batch_close(batch);
}

/*
 * Writes what has changed for good in an instance whose shard this backend holds.
 */
void
wf_instance_update(const WfInstance *instance)
{
	Relation	rel = wf_rows_open(WF_INSTANCE, RowExclusiveLock, COLUMNS);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	old;

	ScanKeyInit(&key, COL_INSTANCE_ID, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(instance->instance_id));
	scan = systable_beginscan(rel, wf_catalog_oid(WF_INSTANCE_PKEY), true, snapshot, 1, &key);
	old = systable_getnext(scan);
	if (!HeapTupleIsValid(old))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("instance \"%s\" was removed by another transaction", instance->id)));
	CatalogTupleUpdate(rel, &old->t_self, changed_tuple(old, RelationGetDescr(rel), instance));
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
	if (WF_IS_CLOSED(instance->status))
		wf_wakeup_note_closed(instance->instance_id);
	/* so that the next update of this transaction finds this one's row */
	CommandCounterIncrement();
}
