/*
 * resident.c: the processes in this backend's memory, longest idle first.
 *
 * A set belongs to turn.c: a worker's lives as long as the worker holds its shards, run()'s for the call.  What is here is
 * as of the last commit, so that a turn that fails has nothing to take back.
 */
#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/memutils.h"

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

static void
copy_into(WfResidents *residents, WfProcess *process, const WfInstance *row, const WfFold *fold)
{
	char	   *id = keep_string(residents->memory, process->row.id, row->id);
	char	   *error = keep_string(residents->memory, process->row.error, row->error);
	Jsonb	   *state = keep_state(residents->memory, process->fold.state, fold->state);

	process->row = *row;
	process->row.id = id;
	process->row.error = error;
	process->row.result = NULL;
	process->fold = *fold;
	process->fold.state = state;
}

/*
 * Makes a process as of this commit: adds it, or replaces what is here.
 */
WfProcess *
wf_resident_store(WfResidents *residents, const WfInstance *row, const WfFold *fold, int64 snapshot_seq, TimestampTz now)
{
	bool		found;
	WfProcess  *process = hash_search(residents->processes, &row->instance_id, HASH_ENTER, &found);

	if (!found)
		memset((char *) process + sizeof(int64), 0, sizeof(WfProcess) - sizeof(int64));
	else
		dlist_delete(&process->lru_node);
	copy_into(residents, process, row, fold);
	process->snapshot_seq = snapshot_seq;
	process->last_used = now;
	dlist_push_tail(&residents->lru, &process->lru_node);
	residents->bytes -= process->bytes;
	process->bytes = OVERHEAD + VARSIZE(process->fold.state) + strlen(process->row.id);
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
