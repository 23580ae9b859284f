/*
 * registry_view.c: the registry as SQL functions, which the views workers and registry are made of.
 *
 * Slots and entries are copied out under a shared lock first, so that none is held while rows are made.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "acl.h"
#include "compat.h"
#include "instance.h"
#include "registry_internal.h"

PG_FUNCTION_INFO_V1(wfproc_worker_slots);
PG_FUNCTION_INFO_V1(wfproc_residents);

/* columns of wfproc.worker_slots() */
enum
{
	WORKER_SLOT,
	WORKER_PID,
	WORKER_DATABASE,
	WORKER_SHARE,
	WORKER_SHARES,
	WORKER_SHARDS,
	WORKER_STARTED_AT,
	WORKER_EVENTS,
	WORKER_TURNS,
	WORKER_FAILED_TURNS,
	WORKER_RESIDENTS,
	WORKER_RESIDENT_BYTES,
	WORKER_LAST_ERROR,
	WORKER_COLUMNS
};

/* columns of wfproc.residents() */
enum
{
	RESIDENT_INSTANCE_ID,
	RESIDENT_SLOT,
	RESIDENT_PID,
	RESIDENT_SINCE,
	RESIDENT_STATE_BYTES,
	RESIDENT_COLUMNS
};

typedef struct Worker
{
	int			slot;
	pid_t		pid;
	Oid			database;
	int			share;
	int			shares;
	uint64		shards;
	TimestampTz started_at;
	int64		events;
	int64		turns;
	int64		failed_turns;
	int64		residents;
	int64		resident_bytes;
	char		last_error[WF_LAST_ERROR_SIZE];
} Worker;

static void
copy_worker(WfSlot *slot, Worker *worker)
{
	Assert(LWLockHeldByMe(wf_registry->lock));
	worker->pid = slot->pid;
	worker->database = slot->database;
	worker->share = slot->share;
	worker->started_at = slot->since;
	LWLockAcquire(slot->lock, LW_SHARED);
	worker->shares = slot->shares;
	worker->shards = slot->shards;
	worker->events = slot->events;
	worker->turns = slot->turns;
	worker->failed_turns = slot->failed_turns;
	strlcpy(worker->last_error, slot->last_error, WF_LAST_ERROR_SIZE);
	LWLockRelease(slot->lock);
	LWLockAcquire(slot->roster_lock, LW_SHARED);
	worker->residents = slot->residents;
	worker->resident_bytes = slot->resident_bytes;
	LWLockRelease(slot->roster_lock);
}

/*
 * Copies the running workers, by slot.
 */
static Worker *
copy_workers(int *count)
{
	Worker	   *workers;

	*count = 0;
	if (wf_registry == NULL)
		return NULL;
	workers = palloc(wf_registry->slot_count * sizeof(Worker));
	LWLockAcquire(wf_registry->lock, LW_SHARED);
	for (int i = 0; i < wf_registry->slot_count; i++)
	{
		if (wf_registry->slots[i].state != WF_SLOT_RUNNING)
			continue;
		workers[*count].slot = i;
		copy_worker(&wf_registry->slots[i], &workers[(*count)++]);
	}
	LWLockRelease(wf_registry->lock);
	return workers;
}

static int
count_bits(uint64 bits)
{
	int			count = 0;

	for (; bits != 0; bits &= bits - 1)
		count++;
	return count;
}

/*
 * The error's text may show data of any workflow, so that not everybody is to read it.
 */
static void
put_worker(ReturnSetInfo *result, const Worker *worker, bool show_error)
{
	Datum		values[WORKER_COLUMNS];
	bool		nulls[WORKER_COLUMNS] = {false};

	values[WORKER_SLOT] = Int32GetDatum(worker->slot);
	values[WORKER_PID] = Int32GetDatum(worker->pid);
	values[WORKER_DATABASE] = ObjectIdGetDatum(worker->database);
	values[WORKER_SHARE] = Int32GetDatum(worker->share);
	values[WORKER_SHARES] = Int32GetDatum(worker->shares);
	values[WORKER_SHARDS] = Int32GetDatum(count_bits(worker->shards));
	values[WORKER_STARTED_AT] = TimestampTzGetDatum(worker->started_at);
	values[WORKER_EVENTS] = Int64GetDatum(worker->events);
	values[WORKER_TURNS] = Int64GetDatum(worker->turns);
	values[WORKER_FAILED_TURNS] = Int64GetDatum(worker->failed_turns);
	values[WORKER_RESIDENTS] = Int64GetDatum(worker->residents);
	values[WORKER_RESIDENT_BYTES] = Int64GetDatum(worker->resident_bytes);
	nulls[WORKER_LAST_ERROR] = !show_error || worker->last_error[0] == '\0';
	values[WORKER_LAST_ERROR] = nulls[WORKER_LAST_ERROR] ? (Datum) 0 : CStringGetTextDatum(worker->last_error);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * A row for each running worker: of this database, and for those who may see all statistics of the others too.
 */
Datum
wfproc_worker_slots(PG_FUNCTION_ARGS)
{
	bool		show_all = has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);
	int			count;
	Worker	   *workers = copy_workers(&count);

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < count; i++)
		if (show_all || workers[i].database == MyDatabaseId)
			put_worker((ReturnSetInfo *) fcinfo->resultinfo, &workers[i], show_all);
	return (Datum) 0;
}

static void
put_resident(ReturnSetInfo *result, const Worker *worker, const WfRosterEntry *entry)
{
	Datum		values[RESIDENT_COLUMNS];
	bool		nulls[RESIDENT_COLUMNS] = {false};

	values[RESIDENT_INSTANCE_ID] = Int64GetDatum(entry->instance_id);
	values[RESIDENT_SLOT] = Int32GetDatum(worker->slot);
	values[RESIDENT_PID] = Int32GetDatum(worker->pid);
	values[RESIDENT_SINCE] = TimestampTzGetDatum(entry->since);
	values[RESIDENT_STATE_BYTES] = Int64GetDatum(entry->state_bytes);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * Whether the caller may read the instance.
 */
static bool
may_read(int64 instance_id)
{
	WfInstance	instance;
	WfWorkflow *workflow;

	if (!wf_instance_read(instance_id, GetActiveSnapshot(), &instance))
		return false;
	workflow = wf_workflow_find(instance.workflow_id);
	return workflow != NULL && wf_acl_may(workflow, GetUserId(), WF_PRIV_READ);
}

/*
 * Those of a worker's processes that the caller may read.
 */
static void
put_residents(ReturnSetInfo *result, const Worker *worker)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "wfproc residents", ALLOCSET_DEFAULT_SIZES);
	int64		count;
	WfRosterEntry *entries = wf_roster_copy(&wf_registry->slots[worker->slot], &count);
	MemoryContext old = MemoryContextSwitchTo(memory);

	for (int64 i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (may_read(entries[i].instance_id))
			put_resident(result, worker, &entries[i]);
		MemoryContextReset(memory);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(memory);
	if (entries != NULL)
		pfree(entries);
}

/*
 * A row for each process of this database that is in a worker's memory.  A worker that leaves meanwhile shows none.
 */
Datum
wfproc_residents(PG_FUNCTION_ARGS)
{
	int			count;
	Worker	   *workers = copy_workers(&count);

	wf_workflow_refresh();
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < count; i++)
		if (workers[i].database == MyDatabaseId)
			put_residents((ReturnSetInfo *) fcinfo->resultinfo, &workers[i]);
	return (Datum) 0;
}
