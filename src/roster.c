/*
 * roster.c: the processes that each worker has in memory, for others to see.
 *
 * A worker's roster is a hash table by instance_id (linear probing, at most three quarters full) in a dynamic shared memory
 * segment of its own, which the system takes back when the worker ends, however it ends.  Only the worker writes: it changes
 * entries under the roster's lock in exclusive mode, others read under it in shared mode.
 *
 * The roster is information and nothing depends on it.  So where there is no memory for more entries, the worker goes on
 * without them.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "registry_internal.h"

#define MIN_BITS 10
/* after a failure to get a segment: how long not to try again */
#define RETRY_US (60 * USECS_PER_SEC)

/* in the segment */
typedef struct Roster
{
	uint32		bits;			/* size = 1 << bits */
	WfRosterEntry entries[FLEXIBLE_ARRAY_MEMBER];
} Roster;

/* this worker's */
static dsm_segment *segment = NULL;
static Roster *roster = NULL;
static TimestampTz resize_not_before = 0;

static uint32
size_of(const Roster *table)
{
	return (uint32) 1 << table->bits;
}

/*
 * Where an instance's entry is looked for first.  Numbers that follow each other are spread (Knuth's multiplicative hash).
 */
static uint32
home_of(const Roster *table, int64 instance_id)
{
	return (uint32) (((uint64) instance_id * UINT64CONST(0x9E3779B97F4A7C15)) >> (64 - table->bits));
}

/*
 * The instance's entry, or the empty one where it would go.
 */
static WfRosterEntry *
probe(Roster *table, int64 instance_id)
{
	uint32		mask = size_of(table) - 1;
	uint32		i = home_of(table, instance_id);

	while (table->entries[i].instance_id != 0 && table->entries[i].instance_id != instance_id)
		i = (i + 1) & mask;
	return &table->entries[i];
}

/*
 * Makes a segment, or returns NULL where that cannot be had; never throws.
 */
static dsm_segment *
create_segment(Size size)
{
	MemoryContext old = CurrentMemoryContext;
	dsm_segment *volatile made = NULL;

	PG_TRY();
	{
		made = dsm_create(size, DSM_CREATE_NULL_IF_MAXSEGMENTS);
		if (made != NULL)
			dsm_pin_mapping(made);
	}
	PG_CATCH();
	{
		/* dsm_create() holds no lock when it throws */
		MemoryContextSwitchTo(old);
		FlushErrorState();
	}
	PG_END_TRY();
	return made;
}

static Size
bytes_of(uint32 bits)
{
	return offsetof(Roster, entries) + ((Size) 1 << bits) * sizeof(WfRosterEntry);
}

/*
 * Moves the roster to a segment of another size.  False where there is none to be had.
 */
static bool
resize(uint32 bits)
{
	dsm_segment *fresh = bits < 32 ? create_segment(bytes_of(bits)) : NULL;
	dsm_segment *old = segment;
	Roster	   *table;

	if (fresh == NULL)
	{
		resize_not_before = GetCurrentTimestamp() + RETRY_US;
		return false;
	}
	table = dsm_segment_address(fresh);
	memset(table, 0, bytes_of(bits));
	table->bits = bits;
	for (uint32 i = 0; roster != NULL && i < size_of(roster); i++)
		if (roster->entries[i].instance_id != 0)
			*probe(table, roster->entries[i].instance_id) = roster->entries[i];

	LWLockAcquire(MyWfSlot->roster_lock, LW_EXCLUSIVE);
	MyWfSlot->roster = dsm_segment_handle(fresh);
	LWLockRelease(MyWfSlot->roster_lock);
	segment = fresh;
	roster = table;
	if (old != NULL)
		dsm_detach(old);
	return true;
}

static bool
has_room(void)
{
	if (roster != NULL && MyWfSlot->residents < size_of(roster) / 4 * 3)
		return true;
	return GetCurrentTimestamp() >= resize_not_before && resize(roster == NULL ? MIN_BITS : roster->bits + 1);
}

/*
 * A process has come into this worker's memory.  False where that could not be noted.
 */
bool
wf_registry_enter(int64 instance_id, Size state_bytes)
{
	WfRosterEntry *entry;

	if (MyWfSlot == NULL || !has_room())
		return false;
	entry = probe(roster, instance_id);
	LWLockAcquire(MyWfSlot->roster_lock, LW_EXCLUSIVE);
	if (entry->instance_id == 0)
	{
		entry->instance_id = instance_id;
		MyWfSlot->residents++;
	}
	else
		MyWfSlot->resident_bytes -= entry->state_bytes;
	entry->since = GetCurrentTimestamp();
	entry->state_bytes = state_bytes;
	MyWfSlot->resident_bytes += state_bytes;
	LWLockRelease(MyWfSlot->roster_lock);
	return true;
}

/*
 * Empties an entry, and moves up those after it that were put there because their place was taken.
 */
static void
remove_entry(uint32 hole)
{
	uint32		mask = size_of(roster) - 1;

	for (uint32 i = (hole + 1) & mask; roster->entries[i].instance_id != 0; i = (i + 1) & mask)
	{
		uint32		home = home_of(roster, roster->entries[i].instance_id);

		if (((i - home) & mask) < ((i - hole) & mask))
			continue;
		roster->entries[hole] = roster->entries[i];
		hole = i;
	}
	roster->entries[hole].instance_id = 0;
}

/*
 * A process has left this worker's memory.
 */
void
wf_registry_leave(int64 instance_id)
{
	WfRosterEntry *entry;

	if (MyWfSlot == NULL || roster == NULL)
		return;
	entry = probe(roster, instance_id);
	if (entry->instance_id == 0)
		return;
	LWLockAcquire(MyWfSlot->roster_lock, LW_EXCLUSIVE);
	MyWfSlot->residents--;
	MyWfSlot->resident_bytes -= entry->state_bytes;
	remove_entry(entry - roster->entries);
	LWLockRelease(MyWfSlot->roster_lock);
	if (roster->bits > MIN_BITS && MyWfSlot->residents < size_of(roster) / 16 && GetCurrentTimestamp() >= resize_not_before)
		(void) resize(roster->bits - 2 > MIN_BITS ? roster->bits - 2 : MIN_BITS);
}

/*
 * Memory that this worker's roster takes.
 */
Size
wf_registry_roster_bytes(void)
{
	return roster != NULL ? bytes_of(roster->bits) : 0;
}

/*
 * How many processes this worker has noted as being in its memory.
 */
int64
wf_registry_resident_count(void)
{
	return MyWfSlot != NULL ? MyWfSlot->residents : 0;
}

/*
 * The tenant of the slot ends; the segment goes with it.
 */
void
wf_roster_forget(WfSlot *slot)
{
	LWLockAcquire(slot->roster_lock, LW_EXCLUSIVE);
	slot->roster = 0;
	slot->residents = 0;
	slot->resident_bytes = 0;
	LWLockRelease(slot->roster_lock);
}

/*
 * A copy of a slot's entries in the current memory context; *count says how many.
 */
WfRosterEntry *
wf_roster_copy(WfSlot *slot, int64 *count)
{
	WfRosterEntry *copy = NULL;
	dsm_segment *mapping;
	dsm_segment *attached = NULL;

	*count = 0;
	LWLockAcquire(slot->roster_lock, LW_SHARED);
	if (slot->roster != 0 && slot->residents > 0)
	{
		/* a worker has its own mapped already */
		mapping = dsm_find_mapping(slot->roster);
		if (mapping == NULL)
			mapping = attached = dsm_attach(slot->roster);
		copy = MemoryContextAllocHuge(CurrentMemoryContext, slot->residents * sizeof(WfRosterEntry));
		if (mapping != NULL)
		{
			const Roster *table = dsm_segment_address(mapping);

			for (uint32 i = 0; i < size_of(table); i++)
				if (table->entries[i].instance_id != 0)
					copy[(*count)++] = table->entries[i];
		}
	}
	LWLockRelease(slot->roster_lock);
	if (attached != NULL)
		dsm_detach(attached);
	return copy;
}
