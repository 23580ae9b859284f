/*
 * resident.c: the processes in this backend's memory, longest idle first.
 *
 * A set belongs to turn.c: a worker's lives as long as the worker holds its shards, run()'s for the call.  What is here is
 * as of the last commit, so that a turn that fails has nothing to take back.
 *
 * Millions of processes come and go, and what they leave must not stay behind as holes.  So a process is one piece of memory
 * with all that it points to, in a generation context, which gives a block back when all in it have left.  Where some stay
 * for long, wf_resident_tidy() moves them: those that were put into memory first, until the blocks that they were in are
 * empty.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "check.h"
#include "compat.h"
#include "registry.h"
#include "resident.h"

/* what is larger than an eighth of a block has a block of its own, and leaves no hole */
#define BLOCK_BYTES (256 * 1024)
#define LARGE_BYTES (BLOCK_BYTES / 8)
/* holes are tolerated up to this part of what processes take, and as much more */
#define HOLES_PART 8
#define HOLES_BYTES (4 * BLOCK_BYTES)
/* moving is paid for by what leaves holes: so many times as much may be moved, but not more than there is */
#define MOVED_PER_HOLE 8
/* processes that are moved at one time */
#define MAX_MOVES 5000

struct WfResidents
{
	MemoryContext memory;		/* of the processes */
	WfIdTable	processes;
	dlist_head	lru;			/* longest idle first */
	dlist_head	ages;			/* longest in its place first */
	Size		bytes;			/* of all processes */
	Size		credit;			/* how many bytes may be moved */
	bool		registered;		/* whether the registry is told */
};

/* what a process points to: those without bytes are NULL */
typedef struct Parts
{
	Size		id;
	Size		parent;
	Size		error;
	Size		error_context;
	Size		attributes;
	Size		timers;
	Size		state;
} Parts;

/*
 * An empty set.  registered: a worker's, which the registry shows.
 */
WfResidents *
wf_resident_create(MemoryContext parent, bool registered)
{
	WfResidents *residents = MemoryContextAllocZero(parent, sizeof(WfResidents));

	residents->memory = WF_GENERATION_CREATE(parent, "wfproc residents", BLOCK_BYTES);
	wf_idtable_init(&residents->processes, parent);
	residents->registered = registered;
	dlist_init(&residents->lru);
	dlist_init(&residents->ages);
	return residents;
}

/*
 * A process that is here, or NULL.
 */
WfProcess *
wf_resident_find(WfResidents *residents, int64 instance_id)
{
	return wf_idtable_find(&residents->processes, instance_id);
}

static Size
string_bytes(const char *string)
{
	return string == NULL ? 0 : strlen(string) + 1;
}

/*
 * Most have no attributes, and share the empty object.
 */
static Parts
measure(const WfInstance *row, const WfFold *fold, Size timer_bytes)
{
	Parts		parts = {
		.id = string_bytes(row->id),
		.parent = string_bytes(row->parent),
		.error = string_bytes(row->error),
		.error_context = string_bytes(row->error_context),
		.attributes = JB_ROOT_COUNT(row->attributes) == 0 ? 0 : VARSIZE(row->attributes),
		.timers = timer_bytes,
		.state = VARSIZE(fold->state)
	};

	return parts;
}

static Size
total(const Parts *parts)
{
	return MAXALIGN(sizeof(WfProcess)) + MAXALIGN(parts->id) + MAXALIGN(parts->parent) + MAXALIGN(parts->error) +
		MAXALIGN(parts->error_context) + MAXALIGN(parts->attributes) + MAXALIGN(parts->timers) + MAXALIGN(parts->state);
}

static void *
put(char **place, const void *part, Size bytes)
{
	void	   *there = *place;

	if (bytes == 0)
		return NULL;
	if (part != NULL && part != there)
		memcpy(there, part, bytes);
	*place += MAXALIGN(bytes);
	return there;
}

/*
 * Puts a process into its memory, which may be where it is already, with parts of these very sizes.  packed: its timers, or
 * NULL: there is room for them, and the caller fills it.
 */
static void
fill(WfProcess *process, const Parts *parts, const WfInstance *row, const WfFold *fold, const char *packed)
{
	char	   *place = (char *) process + MAXALIGN(sizeof(WfProcess));
	WfInstance	new_row = *row;
	WfFold		new_fold = *fold;

	new_row.id = put(&place, row->id, parts->id);
	new_row.parent = put(&place, row->parent, parts->parent);
	new_row.error = put(&place, row->error, parts->error);
	new_row.error_context = put(&place, row->error_context, parts->error_context);
	new_row.attributes = put(&place, row->attributes, parts->attributes);
	if (new_row.attributes == NULL)
		new_row.attributes = wf_check_empty_object();
	new_row.result = NULL;
	process->timers = put(&place, packed, parts->timers);
	new_fold.state = put(&place, fold->state, parts->state);
	process->row = new_row;
	process->fold = new_fold;
}

/*
 * What a process takes of the memory.
 */
Size
wf_resident_bytes_of(WfProcess *process)
{
	return GetMemoryChunkSpace(process);
}

/*
 * A piece of memory for a process.
 */
static WfProcess *
allocate(WfResidents *residents, Size bytes)
{
	WfProcess  *process = MemoryContextAllocHuge(residents->memory, bytes);

	memset(process, 0, sizeof(WfProcess));
	residents->bytes += wf_resident_bytes_of(process);
	return process;
}

static void
release(WfResidents *residents, WfProcess *process)
{
	residents->bytes -= wf_resident_bytes_of(process);
	pfree(process);
}

static void
leave(WfResidents *residents, WfProcess *process)
{
	wf_idtable_remove(&residents->processes, &process->node);
	dlist_delete(&process->lru_node);
	dlist_delete(&process->age_node);
	if (wf_resident_bytes_of(process) < LARGE_BYTES)
		residents->credit += wf_resident_bytes_of(process) * MOVED_PER_HOLE;
	release(residents, process);
	residents->credit = Min(residents->credit, residents->bytes);
}

/*
 * Memory for a process with these parts: its own where it is here and they fit.
 */
static WfProcess *
find_place(WfResidents *residents, WfProcess *old, const Parts *parts)
{
	Parts		before;

	if (old != NULL)
	{
		before = measure(&old->row, &old->fold, old->timer_bytes);
		if (memcmp(&before, parts, sizeof(Parts)) == 0)
			return old;
	}
	return allocate(residents, total(parts));
}

/*
 * Makes a process as of this commit: adds it, or replaces what is here.  The caller sets the fields that are not given.
 */
WfProcess *
wf_resident_store(WfResidents *residents, const WfInstance *row, const WfFold *fold, const WfTimers *timers, TimestampTz now)
{
	WfProcess  *old = wf_resident_find(residents, row->instance_id);
	Parts		parts = measure(row, fold, wf_timers_packed_size(timers));
	WfProcess  *process = find_place(residents, old, &parts);

	fill(process, &parts, row, fold, NULL);
	wf_timers_pack(timers, process->timers);
	process->timer_count = timers->known ? list_length(timers->timers) : -1;
	process->timer_bytes = parts.timers;
	process->last_used = now;
	if (process == old)
		dlist_delete(&process->lru_node);
	else
	{
		if (old != NULL)
			leave(residents, old);
		process->node.instance_id = row->instance_id;
		wf_idtable_add(&residents->processes, &process->node);
		dlist_push_tail(&residents->ages, &process->age_node);
	}
	dlist_push_tail(&residents->lru, &process->lru_node);
	if (old == NULL && residents->registered)
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
	leave(residents, process);
	if (residents->registered)
		wf_registry_leave(instance_id);
}

/*
 * Moves the process that has been longest in its place, unless it has a block of its own.
 */
static void
move_oldest(WfResidents *residents)
{
	WfProcess  *old = dlist_container(WfProcess, age_node, dlist_pop_head_node(&residents->ages));
	Parts		parts = measure(&old->row, &old->fold, old->timer_bytes);
	WfProcess  *process;

	if (wf_resident_bytes_of(old) >= LARGE_BYTES)
	{
		dlist_push_tail(&residents->ages, &old->age_node);
		return;
	}
	process = allocate(residents, total(&parts));
	*process = *old;
	fill(process, &parts, &old->row, &old->fold, old->timers);
	wf_idtable_remove(&residents->processes, &old->node);
	wf_idtable_add(&residents->processes, &process->node);
	dlist_insert_before(&old->lru_node, &process->lru_node);
	dlist_delete(&old->lru_node);
	dlist_push_tail(&residents->ages, &process->age_node);
	residents->credit -= Min(residents->credit, wf_resident_bytes_of(process));
	release(residents, old);
}

/*
 * Memory that they take, with holes.
 */
Size
wf_resident_allocated(const WfResidents *residents)
{
	return MemoryContextMemAllocated(residents->memory, false) + wf_idtable_bytes(&residents->processes);
}

static bool
has_holes(const WfResidents *residents)
{
	/* where there is credit there are processes */
	return residents->credit > 0 &&
		MemoryContextMemAllocated(residents->memory, false) > residents->bytes + residents->bytes / HOLES_PART + HOLES_BYTES;
}

/*
 * Closes holes, some at a time; true where there are more.  Not to be called during a turn, whose drafts point to what is
 * here.
 */
bool
wf_resident_tidy(WfResidents *residents)
{
	for (int i = 0; i < MAX_MOVES && has_holes(residents); i++)
		move_oldest(residents);
	return has_holes(residents);
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
 * Memory that they take, without holes.
 */
Size
wf_resident_bytes(const WfResidents *residents)
{
	return residents->bytes + wf_idtable_bytes(&residents->processes);
}
