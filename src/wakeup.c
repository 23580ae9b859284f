/*
 * wakeup.c: what a transaction will have to say to workers and waiters once it has committed.
 *
 * Called by whoever writes mail or instances.  Notes are kept for each subtransaction level that makes any: rolling it back
 * drops them, its commit hands them to its parent.  All that can fail happens when a note is made; the callback at commit
 * only pushes (registry_wake.c), for an error there would be a PANIC.
 *
 * Notes are bounded: beyond MAX_NOTES a bit per shard asks its worker to look through the mailbox, and a flag wakes all who
 * wait for an instance to close, another all who wait for each step of one.  Steps are noted whether or not anybody waits:
 * who begins to before the commit must hear of them too.  A prepared transaction pushes nothing: a sweep finds what it has left.  A transaction that
 * notes nothing costs a test in the callbacks.
 *
 * Besides, there is the set of instances that this transaction has started or written to.  What a subtransaction added stays
 * there when it is rolled back: a start that has left no row is looked for in vain, which does no harm.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "utils/memutils.h"

#include "catalog.h"
#include "registry.h"
#include "wakeup.h"

#define MAX_NOTES 1024
/* of instances that were only written to; where there are more, each is taken for one of them */
#define MAX_WRITTEN 1000000

/* where the notes of a subtransaction level begin, and what it noted beyond them */
typedef struct Level
{
	int			nesting;
	int			first_wakeup;
	int			first_closed;
	int			first_stepped;
	uint64		shards;
	bool		closed_many;
	bool		stepped_many;
} Level;

/* an instance that this transaction has started or written to */
typedef struct Touched
{
	int64		instance_id;
	char		status;
	bool		started;
} Touched;

#define SH_PREFIX touched
#define SH_ELEMENT_TYPE Touched
#define SH_KEY_TYPE int64
#define SH_KEY instance_id
#define SH_HASH_KEY(tb, key) ((uint32) (((uint64) (key) * UINT64CONST(0x9E3779B97F4A7C15)) >> 32))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

static WfWakeup wakeups[MAX_NOTES];
static int	wakeup_count = 0;
static int64 closed[MAX_NOTES];
static int	closed_count = 0;
static int64 stepped[MAX_NOTES];
static int	stepped_count = 0;

/* the levels that have notes, outermost first */
static Level *levels = NULL;
static int	level_count = 0;
static int	level_size = 0;

/* in TopTransactionContext; NULL: empty */
static struct touched_hash *touched = NULL;
static int	started_count = 0;

/*
 * The current subtransaction's level, made where it has noted nothing so far.
 */
static Level *
current_level(void)
{
	int			nesting = GetCurrentTransactionNestLevel();

	if (level_count > 0 && levels[level_count - 1].nesting == nesting)
		return &levels[level_count - 1];
	if (level_count == level_size)
	{
		int			size = Max(level_size * 2, 8);

		levels = levels == NULL ? MemoryContextAlloc(TopMemoryContext, size * sizeof(Level)) :
			repalloc(levels, size * sizeof(Level));
		level_size = size;
	}
	levels[level_count] = (Level)
	{
		.nesting = nesting,.first_wakeup = wakeup_count,.first_closed = closed_count,.first_stepped = stepped_count
	};
	return &levels[level_count++];
}

/*
 * Whether a note of this level covers a new one already: many events to one instance come one after the other.
 */
static bool
is_covered(const Level *level, int64 instance_id, TimestampTz at)
{
	WfWakeup   *last = &wakeups[wakeup_count - 1];

	if (wakeup_count == level->first_wakeup || last->instance_id != instance_id)
		return false;
	last->at = Min(last->at, at);
	return true;
}

static void
touch(int64 instance_id, bool started)
{
	Touched    *entry;
	bool		found;

	/* a worker runs no statements that could ask, and writes a lot */
	if (wf_registry_is_worker())
		return;
	if (touched == NULL)
		touched = touched_create(TopTransactionContext, 64, NULL);
	if (!started && touched->members >= MAX_WRITTEN)
		return;
	entry = touched_insert(touched, instance_id, &found);
	if (!found)
		entry->started = false;
	if (started && !entry->started)
	{
		entry->started = true;
		started_count++;
	}
}

/*
 * This transaction put mail into an instance's mailbox.
 */
void
wf_wakeup_note(int64 instance_id, TimestampTz at)
{
	Level	   *level = current_level();

	if (is_covered(level, instance_id, at))
		return;
	if (wakeup_count < MAX_NOTES)
	{
		wakeups[wakeup_count].instance_id = instance_id;
		wakeups[wakeup_count++].at = at;
	}
	else
		level->shards |= UINT64CONST(1) << wf_shard_of(instance_id);
	touch(instance_id, false);
}

/*
 * This transaction put mail into many mailboxes, or changed what is to be handled, in these shards.
 */
void
wf_wakeup_note_shards(uint64 shards)
{
	current_level()->shards |= shards;
}

/*
 * This transaction inserted the instance's row.
 */
void
wf_wakeup_note_started(int64 instance_id)
{
	touch(instance_id, true);
}

/*
 * This transaction closed the instance.
 */
void
wf_wakeup_note_closed(int64 instance_id)
{
	Level	   *level = current_level();

	if (closed_count < MAX_NOTES)
		closed[closed_count++] = instance_id;
	else
		level->closed_many = true;
}

/*
 * This transaction added to the instance's log, or made mail of its a dead letter: whoever waits for that looks again.
 */
void
wf_wakeup_note_stepped(int64 instance_id)
{
	Level	   *level = current_level();

	if (stepped_count > level->first_stepped && stepped[stepped_count - 1] == instance_id)
		return;
	if (stepped_count < MAX_NOTES)
		stepped[stepped_count++] = instance_id;
	else
		level->stepped_many = true;
}

/*
 * Whether this transaction has started the instance or written to it.  After more writes than are counted: true.
 */
bool
wf_wakeup_has_written(int64 instance_id)
{
	return touched != NULL &&
		(touched->members >= MAX_WRITTEN || touched_lookup(touched, instance_id) != NULL);
}

/*
 * Whether this transaction has started the instance.
 */
bool
wf_wakeup_has_started(int64 instance_id)
{
	Touched    *entry = touched == NULL ? NULL : touched_lookup(touched, instance_id);

	return entry != NULL && entry->started;
}

int
wf_wakeup_started_count(void)
{
	return started_count;
}

/*
 * The instances that this transaction has started, in no order, at most max; returns how many.
 */
int
wf_wakeup_started(int64 *instance_ids, int max)
{
	touched_iterator it;
	Touched    *entry;
	int			count = 0;

	if (touched == NULL)
		return 0;
	touched_start_iterate(touched, &it);
	while (count < max && (entry = touched_iterate(touched, &it)) != NULL)
		if (entry->started)
			instance_ids[count++] = entry->instance_id;
	return count;
}

/*
 * Tells what has been committed.  Neither allocates nor throws.
 */
static void
push_all(void)
{
	uint64		shards = 0;
	bool		closed_many = false;
	bool		stepped_many = false;

	for (int i = 0; i < level_count; i++)
	{
		shards |= levels[i].shards;
		closed_many |= levels[i].closed_many;
		stepped_many |= levels[i].stepped_many;
	}
	wf_registry_wake(wakeups, wakeup_count);
	wf_registry_wake_shards(shards);
	wf_registry_closed(closed, closed_count);
	if (closed_many)
		wf_registry_closed_many();
	if (stepped_many)
		wf_registry_stepped_many();
	else
		wf_registry_stepped(stepped, stepped_count);
}

static void
at_transaction_event(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			if (level_count > 0)
				push_all();
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			break;
		default:
			return;
	}
	level_count = wakeup_count = closed_count = stepped_count = started_count = 0;
	touched = NULL;
}

/*
 * A subtransaction's notes become its parent's.
 */
static void
merge_level(void)
{
	Level	   *level = &levels[level_count - 1];
	Level	   *parent = level_count > 1 ? level - 1 : NULL;

	if (parent == NULL || parent->nesting < level->nesting - 1)
	{
		level->nesting--;
		return;
	}
	parent->shards |= level->shards;
	parent->closed_many |= level->closed_many;
	parent->stepped_many |= level->stepped_many;
	level_count--;
}

static void
drop_level(void)
{
	Level	   *level = &levels[--level_count];

	wakeup_count = level->first_wakeup;
	closed_count = level->first_closed;
	stepped_count = level->first_stepped;
}

static void
at_subtransaction_event(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	if (level_count == 0 || levels[level_count - 1].nesting < GetCurrentTransactionNestLevel())
		return;
	if (event == SUBXACT_EVENT_COMMIT_SUB)
		merge_level();
	else if (event == SUBXACT_EVENT_ABORT_SUB)
		drop_level();
}

/*
 * Registers the callbacks; once per process.
 */
void
wf_wakeup_init(void)
{
	RegisterXactCallback(at_transaction_event, NULL);
	RegisterSubXactCallback(at_subtransaction_event, NULL);
}
