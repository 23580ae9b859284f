/*
 * resident.c: the processes in this backend's memory, longest idle first.
 *
 * A set belongs to turn.c: a worker's lives as long as the worker holds its shards, run()'s for the call.  What is here is
 * as of the last commit, so that a turn that fails has nothing to take back.
 */
#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "check.h"
#include "registry.h"
#include "resident.h"

/* what an entry costs besides its strings and its state: itself, its hash link and chunk headers */
#define OVERHEAD (sizeof(WfProcess) + 64)

struct WfResidents
{
	MemoryContext memory;
	HTAB	   *processes;
	dlist_head	lru;			/* longest idle first */
	Size		bytes;
	bool		registered;		/* whether the registry is told */
};

/*
 * An empty set.  registered: a worker's, which the registry shows.
 */
WfResidents *
wf_resident_create(MemoryContext parent, bool registered)
{
	MemoryContext memory = AllocSetContextCreate(parent, "wfproc residents", ALLOCSET_DEFAULT_SIZES);
	WfResidents *residents = MemoryContextAllocZero(memory, sizeof(WfResidents));
	HASHCTL		ctl = {.keysize = sizeof(int64),.entrysize = sizeof(WfProcess),.hcxt = memory};

	residents->memory = memory;
	residents->processes = hash_create("wfproc residents", 1024, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	residents->registered = registered;
	dlist_init(&residents->lru);
	return residents;
}

/*
 * A process that is here, or NULL.
 */
WfProcess *
wf_resident_find(WfResidents *residents, int64 instance_id)
{
	return hash_search(residents->processes, &instance_id, HASH_FIND, NULL);
}

static char *
keep_string(MemoryContext memory, char *old, const char *fresh)
{
	if (old == fresh)
		return old;
	if (old != NULL)
		pfree(old);
	return fresh == NULL ? NULL : MemoryContextStrdup(memory, fresh);
}

static Jsonb *
keep_state(MemoryContext memory, Jsonb *old, Jsonb *fresh)
{
	if (old == fresh)
		return old;
	if (old != NULL && VARSIZE(old) == VARSIZE(fresh))
		return memcpy(old, fresh, VARSIZE(fresh));
	if (old != NULL)
		pfree(old);
	return memcpy(MemoryContextAlloc(memory, VARSIZE(fresh)), fresh, VARSIZE(fresh));
}

/*
 * Attributes: most have none, and share the empty object.
 */
static Jsonb *
keep_attributes(MemoryContext memory, Jsonb *old, Jsonb *fresh)
{
	Jsonb	   *empty = wf_check_empty_object();

	if (old == fresh)
		return old;
	if (old == empty)
		old = NULL;
	if (JB_ROOT_COUNT(fresh) > 0)
		return keep_state(memory, old, fresh);
	if (old != NULL)
		pfree(old);
	return empty;
}

static void
keep_timers(MemoryContext memory, WfTimers *timers, const WfTimers *fresh)
{
	MemoryContext old = MemoryContextSwitchTo(memory);

	wf_timers_free(timers);
	if (fresh->known)
		wf_timers_copy(timers, fresh);
	MemoryContextSwitchTo(old);
}

static void
copy_into(WfResidents *residents, WfProcess *process, const WfInstance *row, const WfFold *fold, const WfTimers *timers)
{
	char	   *id = keep_string(residents->memory, process->row.id, row->id);
	char	   *error = keep_string(residents->memory, process->row.error, row->error);
	char	   *error_context = keep_string(residents->memory, process->row.error_context, row->error_context);
	char	   *parent = keep_string(residents->memory, process->row.parent, row->parent);
	Jsonb	   *attributes = keep_attributes(residents->memory, process->row.attributes, row->attributes);
	Jsonb	   *state = keep_state(residents->memory, process->fold.state, fold->state);

	process->row = *row;
	process->row.id = id;
	process->row.error = error;
	process->row.error_context = error_context;
	process->row.parent = parent;
	process->row.attributes = attributes;
	process->row.result = NULL;
	process->fold = *fold;
	process->fold.state = state;
	keep_timers(residents->memory, &process->timers, timers);
}

static Size
bytes_of(const WfProcess *process)
{
	return OVERHEAD + VARSIZE(process->fold.state) + strlen(process->row.id) + VARSIZE(process->row.attributes) +
		(process->row.parent == NULL ? 0 : strlen(process->row.parent)) + wf_timers_bytes(&process->timers);
}

/*
 * Makes a process as of this commit: adds it, or replaces what is here.  The caller sets the fields that are not given.
 */
WfProcess *
wf_resident_store(WfResidents *residents, const WfInstance *row, const WfFold *fold, const WfTimers *timers, TimestampTz now)
{
	bool		found;
	WfProcess  *process = hash_search(residents->processes, &row->instance_id, HASH_ENTER, &found);

	if (!found)
		memset((char *) process + sizeof(int64), 0, sizeof(WfProcess) - sizeof(int64));
	else
		dlist_delete(&process->lru_node);
	copy_into(residents, process, row, fold, timers);
	process->last_used = now;
	dlist_push_tail(&residents->lru, &process->lru_node);
	residents->bytes -= process->bytes;
	process->bytes = bytes_of(process);
	residents->bytes += process->bytes;
	if (!found && residents->registered)
		(void) wf_registry_enter(row->instance_id, VARSIZE(process->fold.state));
	return process;
}

/*
 * Forgets a process, if it is here.
 */
void
wf_resident_drop(WfResidents *residents, int64 instance_id)
{
	WfProcess  *process = wf_resident_find(residents, instance_id);

	if (process == NULL)
		return;
	dlist_delete(&process->lru_node);
	residents->bytes -= process->bytes;
	pfree(process->row.id);
	pfree(process->fold.state);
	if (process->row.error != NULL)
		pfree(process->row.error);
	if (process->row.error_context != NULL)
		pfree(process->row.error_context);
	if (process->row.parent != NULL)
		pfree(process->row.parent);
	if (process->row.attributes != wf_check_empty_object())
		pfree(process->row.attributes);
	wf_timers_free(&process->timers);
	hash_search(residents->processes, &instance_id, HASH_REMOVE, NULL);
	if (residents->registered)
		wf_registry_leave(instance_id);
}

/*
 * The process that has been idle longest, or NULL.
 */
WfProcess *
wf_resident_oldest(WfResidents *residents)
{
	if (dlist_is_empty(&residents->lru))
		return NULL;
	return dlist_container(WfProcess, lru_node, dlist_head_node(&residents->lru));
}

/*
 * The next one after it, or NULL.
 */
WfProcess *
wf_resident_newer(WfResidents *residents, WfProcess *process)
{
	if (!dlist_has_next(&residents->lru, &process->lru_node))
		return NULL;
	return dlist_container(WfProcess, lru_node, dlist_next_node(&residents->lru, &process->lru_node));
}

/*
 * Memory that they take, for comparison with wfproc.worker_memory.
 */
Size
wf_resident_bytes(const WfResidents *residents)
{
	return residents->bytes;
}
