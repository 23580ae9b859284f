/*
 * scheduler.c: whose turn it is, and when the next one's will be.
 *
 * A scheduler is a backend's own memory: a worker has one for its life, run() one for a call (turn.c).  For each instance
 * that has mail as far as is known there is one entry: low, the oldest stamp to read from, and due, when to look, which is
 * later than low where a failed step waits for its retry.  Ready set and timers are one heap by due; ties go by
 * instance_id, so that the order is total.
 *
 * Mail that has just come is also in a queue of its own, and part of each turn is for that queue: a million old events of
 * one instance must not keep a new one waiting.
 */
#include "postgres.h"

#include "lib/ilist.h"
#include "lib/pairingheap.h"
#include "utils/memutils.h"

#include "idtable.h"
#include "scheduler.h"

#define BLOCK_BYTES (64 * 1024)

typedef struct Entry
{
	WfIdNode	node;			/* with its instance_id */
	TimestampTz low;
	TimestampTz due;
	pairingheap_node heap_node;
	dlist_node	fresh_node;
	bool		fresh;			/* in the queue of new mail */
	bool		last;			/* to act after all who are due by then */
} Entry;

struct WfScheduler
{
	MemoryContext memory;		/* of entries: a block whose entries are gone
								 * is given back */
	WfIdTable	entries;
	pairingheap *heap;
	dlist_head	fresh;
};

/*
 * Earliest due first: a pairingheap gives its greatest.
 */
static int
compare_due(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	const Entry *x = pairingheap_const_container(Entry, heap_node, a);
	const Entry *y = pairingheap_const_container(Entry, heap_node, b);

	if (x->due != y->due)
		return x->due < y->due ? 1 : -1;
	if (x->node.instance_id != y->node.instance_id)
		return x->node.instance_id < y->node.instance_id ? 1 : -1;
	return 0;
}

/*
 * An empty scheduler, which lives as long as its parent.
 */
WfScheduler *
wf_scheduler_create(MemoryContext parent)
{
	MemoryContext old = MemoryContextSwitchTo(parent);
	WfScheduler *scheduler = palloc0(sizeof(WfScheduler));

	scheduler->memory = SlabContextCreate(parent, "wfproc scheduler", BLOCK_BYTES, sizeof(Entry));
	wf_idtable_init(&scheduler->entries, parent);
	scheduler->heap = pairingheap_allocate(compare_due, NULL);
	dlist_init(&scheduler->fresh);
	MemoryContextSwitchTo(old);
	return scheduler;
}

static void
forget(WfScheduler *scheduler, Entry *entry)
{
	pairingheap_remove(scheduler->heap, &entry->heap_node);
	if (entry->fresh)
		dlist_delete(&entry->fresh_node);
	wf_idtable_remove(&scheduler->entries, &entry->node);
	pfree(entry);
}

/*
 * Makes or lowers an entry: one that is there keeps the older of the stamps, and looks at the earlier
 * of the times.
 */
static Entry *
lower(WfScheduler *scheduler, int64 instance_id, TimestampTz low, TimestampTz due)
{
	Entry	   *entry = wf_idtable_find(&scheduler->entries, instance_id);

	if (entry == NULL)
	{
		entry = MemoryContextAlloc(scheduler->memory, sizeof(Entry));
		entry->node.instance_id = instance_id;
		wf_idtable_add(&scheduler->entries, &entry->node);
		entry->low = low;
		entry->due = due;
		entry->fresh = entry->last = false;
		pairingheap_add(scheduler->heap, &entry->heap_node);
		return entry;
	}
	entry->low = Min(entry->low, low);
	if (due < entry->due)
	{
		pairingheap_remove(scheduler->heap, &entry->heap_node);
		entry->due = due;
		pairingheap_add(scheduler->heap, &entry->heap_node);
	}
	return entry;
}

/*
 * A wake-up, or what a sweep found.
 */
void
wf_scheduler_wake(WfScheduler *scheduler, int64 instance_id, TimestampTz at, bool fresh)
{
	Entry	   *entry = lower(scheduler, instance_id, at, at);

	if (fresh && !entry->fresh)
	{
		entry->fresh = true;
		dlist_push_tail(&scheduler->fresh, &entry->fresh_node);
	}
}

/*
 * A turn puts an instance back: read from low on, at due.
 */
void
wf_scheduler_put(WfScheduler *scheduler, int64 instance_id, TimestampTz low, TimestampTz due)
{
	(void) lower(scheduler, instance_id, low, due);
}

/*
 * The same for an instance that goes after all who are due by then, whatever the stamp of its mail.
 */
void
wf_scheduler_put_last(WfScheduler *scheduler, int64 instance_id, TimestampTz low, TimestampTz due)
{
	lower(scheduler, instance_id, low, due)->last = true;
}

static void
hand_out(WfScheduler *scheduler, Entry *entry, bool fresh, WfReady *ready)
{
	ready->instance_id = entry->node.instance_id;
	ready->low = entry->low;
	ready->due = entry->due;
	ready->last = entry->last;
	ready->fresh = fresh;
	forget(scheduler, entry);
}

/*
 * Due entries of the queue of new mail, oldest first, at most max.  The others leave the queue: their time is in the heap.
 */
static int
take_fresh(WfScheduler *scheduler, TimestampTz now, int max, WfReady *ready)
{
	int			count = 0;

	while (count < max && !dlist_is_empty(&scheduler->fresh))
	{
		Entry	   *entry = dlist_container(Entry, fresh_node, dlist_head_node(&scheduler->fresh));

		if (entry->due <= now)
			hand_out(scheduler, entry, true, &ready[count++]);
		else
		{
			dlist_delete(&entry->fresh_node);
			entry->fresh = false;
		}
	}
	return count;
}

/*
 * Takes out at most max instances that are due: up to a quarter of them new mail, the rest, at least one, those that wait
 * longest, and as far as max_with_ties those that are due at the very time of the last of these.  Returns how many.  Who is taken is not
 * known here any more until it is put back.
 */
int
wf_scheduler_take(WfScheduler *scheduler, TimestampTz now, int max, int max_with_ties, WfReady *ready)
{
	int			count = take_fresh(scheduler, now, Max(max / 4, 1), ready);
	TimestampTz last = DT_NOBEGIN;

	while (count < max_with_ties && !pairingheap_is_empty(scheduler->heap))
	{
		Entry	   *entry = pairingheap_container(Entry, heap_node, pairingheap_first(scheduler->heap));

		if (entry->due > now || (count >= max && last != DT_NOBEGIN && entry->due != last))
			break;
		last = entry->due;
		hand_out(scheduler, entry, false, &ready[count++]);
	}
	return count;
}

/*
 * Takes out one instance, due or not: *low becomes its.  False where none is known.
 */
bool
wf_scheduler_claim(WfScheduler *scheduler, int64 instance_id, TimestampTz *low)
{
	Entry	   *entry = wf_idtable_find(&scheduler->entries, instance_id);

	if (entry == NULL)
		return false;
	*low = entry->low;
	forget(scheduler, entry);
	return true;
}

/*
 * When the next instance is due; DT_NOEND where none is known.
 */
TimestampTz
wf_scheduler_next(const WfScheduler *scheduler)
{
	if (pairingheap_is_empty(scheduler->heap))
		return DT_NOEND;
	return pairingheap_container(Entry, heap_node, pairingheap_first(scheduler->heap))->due;
}

/*
 * Memory that it takes.
 */
Size
wf_scheduler_bytes(const WfScheduler *scheduler)
{
	return MemoryContextMemAllocated(scheduler->memory, false) + wf_idtable_bytes(&scheduler->entries);
}
