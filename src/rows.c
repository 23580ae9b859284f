/*
 * rows.c: rows of our own tables, read and written without SQL.
 *
 * Called by the modules that own a table: they know its columns by number, so a table that has not as many as they expect
 * is refused here.  No executor is in between: our tables have no insert triggers, no foreign keys, no expression indexes
 * and no row security, and rights were checked before.
 *
 * A batch inserts many rows, a few hundred at a time: heap pages and their WAL are written once for many rows, and slots
 * are kept.  A row is copied when it is complete.  Its rows are visible after the next CommandCounterIncrement().  Locks are those of INSERT and last as long.
 * After an error nothing needs to be closed.
 */
#include "postgres.h"

#include "access/heaptoast.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "rows.h"

/* a batch is written when it has so many rows, none of which is large */
#define BATCH_ROWS 500

struct WfBatch
{
	Relation	rel;
	TupleDesc	desc;			/* a copy: hundreds of slots must not each be
								 * known to the resource owner */
	CatalogIndexState indexes;
	MemoryContext memory;		/* values of the row being filled; reset after
								 * each */
	MemoryContext caller;		/* while a row is being filled */
	TupleTableSlot **slots;		/* made when first needed, then kept */
	int			max;
	int			made;
	int			filled;
};

/*
 * Opens a table of ours, which must have the columns that this library knows.
 */
Relation
wf_rows_open(WfRelation which, LOCKMODE lock, int columns)
{
	Relation	rel = table_open(wf_catalog_oid(which), lock);

	if (RelationGetNumberOfAttributes(rel) != columns)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table wfproc.%s has %d columns, but this library knows %d",
						RelationGetRelationName(rel), RelationGetNumberOfAttributes(rel), columns),
				 errhint("The extension's SQL and its library are of different versions: run ALTER EXTENSION wfproc UPDATE, or restart the server.")));
	return rel;
}

void
wf_row_set(Datum *values, bool *nulls, int column, Datum value)
{
	nulls[column - 1] = false;
	values[column - 1] = value;
}

void
wf_row_set_text(Datum *values, bool *nulls, int column, const char *value)
{
	nulls[column - 1] = value == NULL;
	if (value != NULL)
		values[column - 1] = CStringGetTextDatum(value);
}

void
wf_row_set_jsonb(Datum *values, bool *nulls, int column, Jsonb *value)
{
	nulls[column - 1] = value == NULL;
	if (value != NULL)
		values[column - 1] = JsonbPGetDatum(value);
}

void
wf_row_set_bytes(Datum *values, bool *nulls, int column, const void *bytes, int len)
{
	bytea	   *value = palloc(VARHDRSZ + len);

	SET_VARSIZE(value, VARHDRSZ + len);
	memcpy(VARDATA(value), bytes, len);
	wf_row_set(values, nulls, column, PointerGetDatum(value));
}

char *
wf_row_text(const Datum *values, const bool *nulls, int column)
{
	return nulls[column - 1] ? NULL : TextDatumGetCString(values[column - 1]);
}

Jsonb *
wf_row_jsonb(const Datum *values, const bool *nulls, int column)
{
	return nulls[column - 1] ? NULL : DatumGetJsonbPCopy(values[column - 1]);
}

/*
 * Exactly len bytes; a stored value of another length gives zeros, which as a hash fit nothing.
 */
void
wf_row_bytes(const Datum *values, const bool *nulls, int column, void *bytes, int len)
{
	bytea	   *value = nulls[column - 1] ? NULL : DatumGetByteaPP(values[column - 1]);

	if (value != NULL && VARSIZE_ANY_EXHDR(value) == len)
		memcpy(bytes, VARDATA_ANY(value), len);
	else
		memset(bytes, 0, len);
}

/*
 * Opens a table for inserting many rows.  expected: how many are to come, as far as is known.
 */
WfBatch *
wf_batch_open(WfRelation which, int columns, int expected)
{
	WfBatch    *batch = palloc0(sizeof(WfBatch));

	batch->rel = wf_rows_open(which, RowExclusiveLock, columns);
	batch->desc = CreateTupleDescCopy(RelationGetDescr(batch->rel));
	batch->indexes = CatalogOpenIndexes(batch->rel);
	batch->memory = AllocSetContextCreate(CurrentMemoryContext, "wfproc batch", ALLOCSET_DEFAULT_SIZES);
	batch->max = Max(1, Min(expected, BATCH_ROWS));
	batch->slots = palloc(sizeof(TupleTableSlot *) * batch->max);
	return batch;
}

/*
 * The next row, all NULL, for the caller to fill its tts_values and tts_isnull.  Until wf_batch_end_row() the current memory
 * context is one for this row.
 */
TupleTableSlot *
wf_batch_begin_row(WfBatch *batch)
{
	TupleTableSlot *slot;

	if (batch->filled == batch->made)
		batch->slots[batch->made++] = MakeSingleTupleTableSlot(batch->desc, &TTSOpsHeapTuple);
	slot = batch->slots[batch->filled];
	memset(slot->tts_isnull, true, sizeof(bool) * batch->desc->natts);
	batch->caller = MemoryContextSwitchTo(batch->memory);
	return slot;
}

static void
flush(WfBatch *batch)
{
	MemoryContext old = MemoryContextSwitchTo(batch->memory);

	CHECK_FOR_INTERRUPTS();
	CatalogTuplesMultiInsertWithInfo(batch->rel, batch->slots, batch->filled, batch->indexes);
	for (int i = 0; i < batch->filled; i++)
		ExecClearTuple(batch->slots[i]);
	batch->filled = 0;
	MemoryContextSwitchTo(old);
	MemoryContextReset(batch->memory);
}

/*
 * A row that must be toasted is written alone: heap_multi_insert() stores another tuple than the slot's then, and the
 * slot's, which the indexes are given, would not learn where.
 */
static bool
is_large(HeapTuple tuple)
{
	return tuple->t_len > TOAST_TUPLE_THRESHOLD || HeapTupleHasExternal(tuple);
}

/*
 * The row is complete: takes a copy of it.
 */
void
wf_batch_end_row(WfBatch *batch)
{
	TupleTableSlot *slot = batch->slots[batch->filled];
	HeapTuple	tuple;

	ExecStoreVirtualTuple(slot);
	ExecMaterializeSlot(slot);
	tuple = ExecFetchSlotHeapTuple(slot, true, NULL);
	if (is_large(tuple))
	{
		CHECK_FOR_INTERRUPTS();
		CatalogTupleInsertWithInfo(batch->rel, tuple, batch->indexes);
		ExecClearTuple(slot);
	}
	else
		batch->filled++;
	MemoryContextSwitchTo(batch->caller);
	MemoryContextReset(batch->memory);
	if (batch->filled == batch->max)
		flush(batch);
}

/*
 * Writes what is left and closes the table.
 */
void
wf_batch_close(WfBatch *batch)
{
	if (batch->filled > 0)
		flush(batch);
	for (int i = 0; i < batch->made; i++)
		ExecDropSingleTupleTableSlot(batch->slots[i]);
	CatalogCloseIndexes(batch->indexes);
	table_close(batch->rel, NoLock);
	MemoryContextDelete(batch->memory);
	FreeTupleDesc(batch->desc);
	pfree(batch->slots);
	pfree(batch);
}
