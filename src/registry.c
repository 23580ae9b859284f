/*
 * registry.c: the extension's shared memory, and the life of a worker's slot.
 *
 * The launcher reserves a slot, remembers its generation and starts a worker with both; the worker attaches, works, and on
 * its way out says why it leaves; the launcher takes note and frees the slot.  So only the launcher makes and frees slots,
 * and it hears of every end, be it only once it has been restarted itself.  After a crash shared memory is made anew.
 *
 * All that is here is a cache and a meeting place: what must not be lost is in tables.  Where the library is not preloaded
 * there is no registry, and every function of registry.h does nothing.
 *
 * touched.c has a table of its own in the same shared memory.
 *
 * registry_launch.c has the launcher's side and that of DDL, registry_wake.c rings and waiters, roster.c who is resident,
 * registry_view.c what SQL sees of it.  Locking: registry_internal.h.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "guc.h"
#include "registry_internal.h"
#include "touched.h"

/* locks by their place in the tranche; each slot has two */
enum
{
	REGISTRY_LOCK,
	WAITERS_LOCK,
	TOUCHED_LOCK,
	FIRST_SLOT_LOCK
};

WfRegistry *wf_registry = NULL;
WfSlot	   *MyWfSlot = NULL;

#if WF_HAVE_SHMEM_REQUEST_HOOK
static shmem_request_hook_type next_shmem_request_hook = NULL;
#endif
static shmem_startup_hook_type next_shmem_startup_hook = NULL;

static Size
slots_size(void)
{
	return MAXALIGN(add_size(offsetof(WfRegistry, slots), mul_size(wf_max_workers, sizeof(WfSlot))));
}

/*
 * Backends are numbered from 0 or from 1, depending on the server's version.
 */
static int
waiters_wanted(void)
{
	return WF_MAX_BACKENDS + 1;
}

static Size
registry_size(void)
{
	return add_size(slots_size(), mul_size(waiters_wanted(), sizeof(WfWaiter)));
}

/*
 * Asks for memory, and for a lock for the registry, one for the waiters, one for touched.c and two a slot.
 */
static void
request(void)
{
#if WF_HAVE_SHMEM_REQUEST_HOOK
	if (next_shmem_request_hook)
		next_shmem_request_hook();
#endif
	RequestAddinShmemSpace(add_size(registry_size(), wf_touched_size()));
	RequestNamedLWLockTranche("wfproc", FIRST_SLOT_LOCK + 2 * wf_max_workers);
}

static void
lay_out(WfRegistry *registry, LWLockPadded *locks)
{
	memset(registry, 0, registry_size());
	registry->lock = &locks[REGISTRY_LOCK].lock;
	registry->waiters_lock = &locks[WAITERS_LOCK].lock;
	registry->slot_count = wf_max_workers;
	registry->waiter_count = waiters_wanted();
	registry->waiters = (WfWaiter *) ((char *) registry + slots_size());
	pg_atomic_init_u32(&registry->step_waiters, 0);
	for (int i = 0; i < registry->slot_count; i++)
	{
		registry->slots[i].lock = &locks[FIRST_SLOT_LOCK + 2 * i].lock;
		registry->slots[i].roster_lock = &locks[FIRST_SLOT_LOCK + 2 * i + 1].lock;
	}
}

static void
startup(void)
{
	LWLockPadded *locks = GetNamedLWLockTranche("wfproc");
	bool		found;

	if (next_shmem_startup_hook)
		next_shmem_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	wf_registry = ShmemInitStruct("wfproc", registry_size(), &found);
	if (!found)
		lay_out(wf_registry, locks);
	wf_touched_init(&locks[TOUCHED_LOCK].lock);
	LWLockRelease(AddinShmemInitLock);
}

/*
 * Arranges for shared memory; only while shared_preload_libraries are loaded, later it cannot be had any more.
 */
void
wf_registry_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
#if WF_HAVE_SHMEM_REQUEST_HOOK
	next_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request;
#else
	request();
#endif
	next_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup;
}

bool
wf_registry_available(void)
{
	return wf_registry != NULL;
}

bool
wf_registry_is_worker(void)
{
	return MyWfSlot != NULL;
}

/*
 * A new tenant begins with nothing of the old one's.
 */
static void
reset_work(WfSlot *slot)
{
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	slot->shares = 0;
	slot->shards = 0;
	slot->events = slot->turns = slot->failed_turns = 0;
	slot->last_error[0] = '\0';
	slot->sweep = 0;
	slot->ring_first = slot->ring_count = 0;
	LWLockRelease(slot->lock);
}

/*
 * Makes this process the tenant of a slot.  False where it came too late, or its database is to be left alone: it leaves
 * then without having connected.
 */
bool
wf_registry_attach(int slot_no, uint32 generation, Oid *database, int *share)
{
	WfSlot	   *slot = &wf_registry->slots[slot_no];
	bool		ok;

	Assert(MyWfSlot == NULL);
	LWLockAcquire(wf_registry->lock, LW_EXCLUSIVE);
	ok = slot->state == WF_SLOT_RESERVED && slot->generation == generation;
	if (ok)
	{
		MyWfSlot = slot;
		slot->state = WF_SLOT_RUNNING;
		slot->pid = MyProcPid;
		slot->proc = MyProc;
		slot->since = GetCurrentTimestamp();
		*database = slot->database;
		*share = slot->share;
		ok = !slot->stop && !wf_registry_is_blocked(slot->database);
		reset_work(slot);
	}
	LWLockRelease(wf_registry->lock);
	return ok;
}

/*
 * Leaves the slot, if there is one.  Called while the process exits, in whatever state it is.
 */
void
wf_registry_detach(WfOutcome outcome)
{
	WfSlot	   *slot = MyWfSlot;

	if (slot == NULL)
		return;
	MyWfSlot = NULL;
	wf_roster_forget(slot);
	LWLockAcquire(wf_registry->lock, LW_EXCLUSIVE);
	slot->state = WF_SLOT_LEFT;
	slot->outcome = outcome;
	slot->pid = 0;
	slot->proc = NULL;
	reset_work(slot);
	wf_registry_wake_launcher();
	LWLockRelease(wf_registry->lock);
}

/*
 * The worker has seen the extension: the launcher may start the others of this database.
 */
void
wf_registry_confirm(void)
{
	LWLockAcquire(wf_registry->lock, LW_EXCLUSIVE);
	MyWfSlot->confirmed = true;
	wf_registry_wake_launcher();
	LWLockRelease(wf_registry->lock);
}

/*
 * Whether the worker is to leave.  Read without the lock, in each of its rounds: who says so sets its latch afterwards.
 */
bool
wf_registry_should_stop(void)
{
	return ((volatile WfSlot *) MyWfSlot)->stop;
}

/*
 * Whether the extension may have been dropped or changed since the last call; to be called before looking.  As above, the
 * lock is for who has been told so.
 */
bool
wf_registry_should_look(void)
{
	if (!((volatile WfSlot *) MyWfSlot)->look_again)
		return false;
	LWLockAcquire(wf_registry->lock, LW_EXCLUSIVE);
	MyWfSlot->look_again = false;
	LWLockRelease(wf_registry->lock);
	return true;
}

/*
 * Claims these shards and no others.  From here on their wake-ups come here, so a sweep that begins afterwards misses
 * nothing.
 */
void
wf_registry_hold_shards(uint64 shards)
{
	if (MyWfSlot == NULL)
		return;
	LWLockAcquire(MyWfSlot->lock, LW_EXCLUSIVE);
	MyWfSlot->shards = shards;
	LWLockRelease(MyWfSlot->lock);
}

void
wf_registry_set_shares(int shares)
{
	LWLockAcquire(MyWfSlot->lock, LW_EXCLUSIVE);
	MyWfSlot->shares = shares;
	LWLockRelease(MyWfSlot->lock);
}

/*
 * The shards that other workers of this database claim.  A worker's locks go when a transaction of its is rolled back, until
 * it takes them again at the next one's beginning; its claim stays.
 */
uint64
wf_registry_claimed_shards(void)
{
	uint64		claimed = 0;

	if (wf_registry == NULL)
		return 0;
	LWLockAcquire(wf_registry->lock, LW_SHARED);
	for (int i = 0; i < wf_registry->slot_count; i++)
	{
		WfSlot	   *slot = &wf_registry->slots[i];

		if (slot->state != WF_SLOT_RUNNING || slot->database != MyDatabaseId || slot == MyWfSlot)
			continue;
		LWLockAcquire(slot->lock, LW_SHARED);
		claimed |= slot->shards;
		LWLockRelease(slot->lock);
	}
	LWLockRelease(wf_registry->lock);
	return claimed;
}

/*
 * Counts a turn; error may be NULL.
 */
void
wf_registry_count_turn(int64 events, bool failed, const char *error)
{
	WfSlot	   *slot = MyWfSlot;
	int			len = error != NULL ? pg_mbcliplen(error, strlen(error), WF_LAST_ERROR_SIZE - 1) : 0;

	if (slot == NULL)
		return;
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	slot->events += events;
	slot->turns++;
	if (failed)
		slot->failed_turns++;
	if (error != NULL)
	{
		memcpy(slot->last_error, error, len);
		slot->last_error[len] = '\0';
	}
	LWLockRelease(slot->lock);
}
