/*
 * registry_wake.c: who is told what after a commit: workers through their rings, waiters through their latches.
 *
 * The functions that push are called after the commit, where an error would be a PANIC: they copy under LWLocks and set
 * latches, and do nothing else.  A ring that is full is no loss: its slot's sweep bits say which shards to look through.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "catalog.h"
#include "compat.h"
#include "registry_internal.h"

/*
 * Adds what concerns a slot to its ring.  Returns whether there was anything.
 */
static bool
push(WfSlot *slot, const WfWakeup *wakeups, int count)
{
	bool		pushed = false;

	for (int i = 0; i < count; i++)
	{
		uint64		bit = UINT64CONST(1) << wf_shard_of(wakeups[i].instance_id);

		if ((slot->shards & bit) == 0)
			continue;
		pushed = true;
		if (slot->ring_count < WF_RING_SIZE)
			slot->ring[(slot->ring_first + slot->ring_count++) % WF_RING_SIZE] = wakeups[i];
		else
			slot->sweep |= bit;
	}
	return pushed;
}

/*
 * Hands wake-ups, and shards to look through, to the workers of this database.
 */
static void
tell_workers(const WfWakeup *wakeups, int count, uint64 shards)
{
	LWLockAcquire(wf_registry->lock, LW_SHARED);
	for (int i = 0; i < wf_registry->slot_count; i++)
	{
		WfSlot	   *slot = &wf_registry->slots[i];
		bool		wake;

		if (slot->state != WF_SLOT_RUNNING || slot->database != MyDatabaseId)
			continue;
		LWLockAcquire(slot->lock, LW_EXCLUSIVE);
		wake = push(slot, wakeups, count);
		if ((slot->shards & shards) != 0)
		{
			slot->sweep |= slot->shards & shards;
			wake = true;
		}
		LWLockRelease(slot->lock);
		/* a worker that woke itself comes by its ring anyway */
		if (wake && slot != MyWfSlot)
			SetLatch(&slot->proc->procLatch);
	}
	LWLockRelease(wf_registry->lock);
}

void
wf_registry_wake(const WfWakeup *wakeups, int count)
{
	if (wf_registry != NULL && count > 0)
		tell_workers(wakeups, count, 0);
}

void
wf_registry_wake_shards(uint64 shards)
{
	if (wf_registry != NULL && shards != 0)
		tell_workers(NULL, 0, shards);
}

/*
 * Whether somebody has told this worker anything since it last drained its ring.  Read without the lock: a turn asks after
 * each event, and may as well learn it after the next.
 */
bool
wf_registry_is_called(void)
{
	volatile WfSlot *slot = MyWfSlot;

	return slot != NULL && (slot->ring_count > 0 || slot->sweep != 0);
}

/*
 * Takes at most max wake-ups out of this worker's ring, and the shards that it is asked to look through.
 */
int
wf_registry_drain(WfWakeup *wakeups, int max, uint64 *sweep)
{
	WfSlot	   *slot = MyWfSlot;
	int			count;

	*sweep = 0;
	if (slot == NULL)
		return 0;
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	count = Min(slot->ring_count, max);
	for (int i = 0; i < count; i++)
		wakeups[i] = slot->ring[(slot->ring_first + i) % WF_RING_SIZE];
	slot->ring_first = (slot->ring_first + count) % WF_RING_SIZE;
	slot->ring_count -= count;
	*sweep = slot->sweep;
	slot->sweep = 0;
	LWLockRelease(slot->lock);
	return count;
}

static bool
is_among(int64 instance_id, const int64 *instance_ids, int count)
{
	for (int i = 0; i < count; i++)
		if (instance_ids[i] == instance_id)
			return true;
	return false;
}

/*
 * Sets the latches of those of this database who wait for one of these instances; instance_ids NULL: for whichever.
 */
static void
wake_waiters(const int64 *instance_ids, int count, bool each_step_only)
{
	LWLockAcquire(wf_registry->waiters_lock, LW_SHARED);
	for (int i = 0; i < wf_registry->waiter_count; i++)
	{
		WfWaiter   *waiter = &wf_registry->waiters[i];

		if (waiter->database != MyDatabaseId || (each_step_only && !waiter->each_step))
			continue;
		if (instance_ids == NULL || is_among(waiter->instance_id, instance_ids, count))
			SetLatch(&waiter->proc->procLatch);
	}
	LWLockRelease(wf_registry->waiters_lock);
}

/*
 * These instances have closed: tells both kinds of waiters.
 */
void
wf_registry_closed(const int64 *instance_ids, int count)
{
	if (wf_registry != NULL && count > 0)
		wake_waiters(instance_ids, count, false);
}

/*
 * More instances have closed than could be noted.
 */
void
wf_registry_closed_many(void)
{
	if (wf_registry != NULL)
		wake_waiters(NULL, 0, false);
}

/*
 * Whether anybody waits for steps, in whatever database.  Each turn asks, and mostly the answer is no: so no lock.
 *
 * Whoever begins to wait is counted first and takes a snapshot then; the caller's transaction has ended before.  With the
 * barrier one of them sees the other: a waiter that is not counted here yet will find what was committed by itself.
 */
static bool
somebody_waits_for_steps(void)
{
	if (wf_registry == NULL)
		return false;
	pg_memory_barrier();
	return pg_atomic_read_u32(&wf_registry->step_waiters) > 0;
}

/*
 * The logs of these instances have become longer.
 */
void
wf_registry_stepped(const int64 *instance_ids, int count)
{
	if (count > 0 && somebody_waits_for_steps())
		wake_waiters(instance_ids, count, true);
}

/*
 * The logs of more instances have become longer than could be noted.
 */
void
wf_registry_stepped_many(void)
{
	if (somebody_waits_for_steps())
		wake_waiters(NULL, 0, true);
}

/*
 * What this backend waits for.  Counts by what its entry said before, so to end a wait that never began does no harm.
 */
static void
set_waiter(Oid database, int64 instance_id, bool each_step)
{
	WfWaiter   *waiter = &wf_registry->waiters[WF_MY_BACKEND_ID];

	Assert(WF_MY_BACKEND_ID >= 0 && WF_MY_BACKEND_ID < wf_registry->waiter_count);
	LWLockAcquire(wf_registry->waiters_lock, LW_EXCLUSIVE);
	if (waiter->each_step)
		pg_atomic_fetch_sub_u32(&wf_registry->step_waiters, 1);
	waiter->database = database;
	waiter->instance_id = instance_id;
	waiter->each_step = each_step;
	waiter->proc = MyProc;
	if (each_step)
		pg_atomic_fetch_add_u32(&wf_registry->step_waiters, 1);
	LWLockRelease(wf_registry->waiters_lock);
}

/*
 * From now on this backend's latch is set when the instance closes, and with each_step also when its log has become
 * longer.  The caller looks afterwards whether that has happened already.
 */
void
wf_registry_wait_begin(int64 instance_id, bool each_step)
{
	if (wf_registry != NULL)
		set_waiter(MyDatabaseId, instance_id, each_step);
}

void
wf_registry_wait_end(void)
{
	if (wf_registry != NULL)
		set_waiter(InvalidOid, 0, false);
}
