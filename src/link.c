/*
 * link.c: what happens when an instance closes, and the only code that reads and writes wfproc.link.
 *
 * Written by the holder of the instance's shard (record.c), read by it when the instance closes (draft.c).
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "catalog.h"
#include "link.h"
#include "rows.h"

/* columns of wfproc.link */
enum
{
	COL_INSTANCE_ID = 1,
	COL_KIND,
	COL_PEER,
	COLUMNS = COL_PEER
};

static const char *const kind_names[] = {
	[WF_LINK_MONITOR] = "monitor",
	[WF_LINK_CANCEL] = "cancel",
	[WF_LINK_TERMINATE] = "terminate"
};

/*
 * start()'s on_parent_close: *none where nothing is to happen, else *kind.  False where the value is none of them.
 */
bool
wf_link_parse_on_close(const char *value, bool *none, WfLinkKind *kind)
{
	*none = strcmp(value, "leave") == 0;
	*kind = strcmp(value, "cancel") == 0 ? WF_LINK_CANCEL : WF_LINK_TERMINATE;
	return *none || *kind == WF_LINK_CANCEL || strcmp(value, "terminate") == 0;
}

static WfLinkKind
parse_kind(const char *name)
{
	for (int i = 0; i < lengthof(kind_names); i++)
		if (strcmp(kind_names[i], name) == 0)
			return (WfLinkKind) i;
	elog(ERROR, "unknown kind of link \"%s\"", name);
	return WF_LINK_MONITOR;		/* not reached */
}

static WfLink *
read_tuple(HeapTuple tuple, TupleDesc desc)
{
	WfLink	   *link = palloc(sizeof(WfLink));
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS];

	heap_deform_tuple(tuple, desc, values, nulls);
	link->kind = parse_kind(wf_row_text(values, nulls, COL_KIND));
	link->peer = wf_row_text(values, nulls, COL_PEER);
	return link;
}

/*
 * The links of an instance, at most max, of WfLink *, in the current memory context.
 */
List *
wf_link_read(int64 instance_id, int max, Snapshot snapshot)
{
	Relation	rel = wf_rows_open(WF_LINK, AccessShareLock, COLUMNS);
	List	   *links = NIL;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, COL_INSTANCE_ID, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(instance_id));
	scan = systable_beginscan(rel, wf_catalog_oid(WF_LINK_PKEY), true, snapshot, 1, &key);
	while (list_length(links) < max && HeapTupleIsValid(tuple = systable_getnext(scan)))
		links = lappend(links, read_tuple(tuple, RelationGetDescr(rel)));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return links;
}

static SysScanDesc
begin_scan_of(Relation rel, int64 instance_id, const WfLink *link, Snapshot snapshot)
{
	ScanKeyData keys[3];

	ScanKeyInit(&keys[0], COL_INSTANCE_ID, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(instance_id));
	ScanKeyInit(&keys[1], COL_KIND, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(kind_names[link->kind]));
	ScanKeyInit(&keys[2], COL_PEER, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(link->peer));
	return systable_beginscan(rel, wf_catalog_oid(WF_LINK_PKEY), true, snapshot, lengthof(keys), keys);
}

/*
 * Whether an instance has a link, as far as the snapshot sees.
 */
bool
wf_link_exists(int64 instance_id, const WfLink *link, Snapshot snapshot)
{
	Relation	rel = wf_rows_open(WF_LINK, AccessShareLock, COLUMNS);
	SysScanDesc scan = begin_scan_of(rel, instance_id, link, snapshot);
	bool		exists = HeapTupleIsValid(systable_getnext(scan));

	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return exists;
}

/*
 * Adds a link, which is not there yet (unique_violation).
 */
void
wf_link_insert(int64 instance_id, const WfLink *link)
{
	Relation	rel = wf_rows_open(WF_LINK, RowExclusiveLock, COLUMNS);
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS];
	HeapTuple	tuple;

	wf_row_set(values, nulls, COL_INSTANCE_ID, Int64GetDatum(instance_id));
	wf_row_set_text(values, nulls, COL_KIND, kind_names[link->kind]);
	wf_row_set_text(values, nulls, COL_PEER, link->peer);
	tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);
	CatalogTupleInsert(rel, tuple);
	heap_freetuple(tuple);
	table_close(rel, NoLock);
}

/*
 * Removes a link; nothing where it is not there.  What the caller has changed itself it makes visible first, by a
 * CommandCounterIncrement().
 */
void
wf_link_delete(int64 instance_id, const WfLink *link)
{
	Relation	rel = wf_rows_open(WF_LINK, RowExclusiveLock, COLUMNS);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan = begin_scan_of(rel, instance_id, link, snapshot);
	HeapTuple	tuple = systable_getnext(scan);

	if (HeapTupleIsValid(tuple))
		CatalogTupleDelete(rel, &tuple->t_self);
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
}
