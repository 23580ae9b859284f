/*
 * registry_launch.c: the registry as the launcher uses it, and those who have something to tell the launcher: DDL that
 * concerns the extension or a database.
 *
 * All of it is under the registry's lock.  It is called rarely, so that nothing here is made to be fast.
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "storage/procarray.h"
#include "utils/timestamp.h"

#include "registry_internal.h"
#include "touched.h"

void
wf_registry_wake_launcher(void)
{
	Assert(LWLockHeldByMe(wf_registry->lock));
	if (wf_registry->launcher != NULL)
		SetLatch(&wf_registry->launcher->procLatch);
}

void
wf_registry_launcher_attach(void)
{
	LWLockAcquire(wf_registry->lock, LW_EXCLUSIVE);
	wf_registry->launcher = MyProc;
	LWLockRelease(wf_registry->lock);
	wf_touched_begin();
}

void
wf_registry_launcher_detach(void)
{
	LWLockAcquire(wf_registry->lock, LW_EXCLUSIVE);
	if (wf_registry->launcher == MyProc)
		wf_registry->launcher = NULL;
	LWLockRelease(wf_registry->lock);
}

/*
 * Copies what the launcher wants to know of all slots, wf_max_workers of them, and returns their number.
 */
int
wf_registry_look(WfSlotInfo *infos)
{
	LWLockAcquire(wf_registry->lock, LW_SHARED);
	for (int i = 0; i < wf_registry->slot_count; i++)
	{
		const WfSlot *slot = &wf_registry->slots[i];

		infos[i].state = slot->state;
		infos[i].generation = slot->generation;
		infos[i].database = slot->database;
		infos[i].share = slot->share;
		infos[i].confirmed = slot->confirmed;
		infos[i].look_again = slot->look_again;
		infos[i].outcome = slot->outcome;
		infos[i].since = slot->since;
	}
	LWLockRelease(wf_registry->lock);
	return wf_registry->slot_count;
}

static int
find_free(void)
{
	for (int i = 0; i < wf_registry->slot_count; i++)
		if (wf_registry->slots[i].state == WF_SLOT_FREE)
			return i;
	return -1;
}

/*
 * Reserves a slot for a worker that is about to be started.  -1: all are in use.
 */
int
wf_registry_reserve(Oid database, int share, uint32 *generation)
{
	int			slot_no;

	LWLockAcquire(wf_registry->lock, LW_EXCLUSIVE);
	slot_no = find_free();
	if (slot_no >= 0)
	{
		WfSlot	   *slot = &wf_registry->slots[slot_no];

		slot->state = WF_SLOT_RESERVED;
		slot->database = database;
		slot->share = share;
		slot->since = GetCurrentTimestamp();
		slot->confirmed = slot->look_again = slot->stop = false;
		*generation = ++slot->generation;
	}
	LWLockRelease(wf_registry->lock);
	return slot_no;
}

/*
 * Frees a slot whose tenant has left or never came.
 */
void
wf_registry_release(int slot_no, uint32 generation)
{
	WfSlot	   *slot = &wf_registry->slots[slot_no];

	LWLockAcquire(wf_registry->lock, LW_EXCLUSIVE);
	if (slot->generation == generation && slot->state != WF_SLOT_RUNNING)
		slot->state = WF_SLOT_FREE;
	LWLockRelease(wf_registry->lock);
}

/*
 * Takes the databases in which the extension may have come or gone.  *all: it may have in any.
 */
int
wf_registry_take_notices(Oid *databases, int max, bool *all)
{
	int			count;

	LWLockAcquire(wf_registry->lock, LW_EXCLUSIVE);
	*all = wf_registry->notices_all || wf_registry->notice_count > max;
	count = Min(wf_registry->notice_count, max);
	memcpy(databases, wf_registry->notices, count * sizeof(Oid));
	wf_registry->notice_count = 0;
	wf_registry->notices_all = false;
	LWLockRelease(wf_registry->lock);
	return count;
}

static void
add_notice(Oid database)
{
	for (int i = 0; i < wf_registry->notice_count; i++)
		if (wf_registry->notices[i] == database)
			return;
	if (wf_registry->notice_count < WF_NOTICES)
		wf_registry->notices[wf_registry->notice_count++] = database;
	else
		wf_registry->notices_all = true;
}

/*
 * The extension has come, gone or changed in a database: its workers and the launcher are to look.
 */
void
wf_registry_note_database(Oid database)
{
	if (wf_registry == NULL)
		return;
	LWLockAcquire(wf_registry->lock, LW_EXCLUSIVE);
	add_notice(database);
	for (int i = 0; i < wf_registry->slot_count; i++)
	{
		WfSlot	   *slot = &wf_registry->slots[i];

		if (slot->state == WF_SLOT_FREE || slot->database != database)
			continue;
		slot->look_again = true;
		if (slot->proc != NULL)
			SetLatch(&slot->proc->procLatch);
	}
	wf_registry_wake_launcher();
	LWLockRelease(wf_registry->lock);
}

/*
 * There is another database, or one less, or one that has other properties.
 */
void
wf_registry_note_databases(void)
{
	if (wf_registry == NULL)
		return;
	LWLockAcquire(wf_registry->lock, LW_EXCLUSIVE);
	add_notice(InvalidOid);
	wf_registry_wake_launcher();
	LWLockRelease(wf_registry->lock);
}

/*
 * Whether workers are to keep out of a database.  A block whose maker is gone does not count.
 */
bool
wf_registry_is_blocked(Oid database)
{
	bool		blocked = false;

	Assert(LWLockHeldByMeInMode(wf_registry->lock, LW_EXCLUSIVE));
	for (int i = 0; i < WF_BLOCKS; i++)
	{
		WfBlock    *block = &wf_registry->blocks[i];

		if (block->database != database)
			continue;
		if (BackendPidGetProc(block->pid) != NULL)
			blocked = true;
		else
			block->database = InvalidOid;
	}
	return blocked;
}

bool
wf_registry_blocked(Oid database)
{
	bool		blocked;

	LWLockAcquire(wf_registry->lock, LW_EXCLUSIVE);
	blocked = wf_registry_is_blocked(database);
	LWLockRelease(wf_registry->lock);
	return blocked;
}

/*
 * Keeps workers out of a database from now on.  False where too many want that of some database: then they are not kept
 * out.
 */
bool
wf_registry_block(Oid database)
{
	bool		done = false;

	if (wf_registry == NULL)
		return false;
	LWLockAcquire(wf_registry->lock, LW_EXCLUSIVE);
	for (int i = 0; i < WF_BLOCKS && !done; i++)
	{
		WfBlock    *block = &wf_registry->blocks[i];

		if (OidIsValid(block->database))
			continue;
		block->database = database;
		block->pid = MyProcPid;
		done = true;
	}
	LWLockRelease(wf_registry->lock);
	return done;
}

void
wf_registry_unblock(Oid database)
{
	LWLockAcquire(wf_registry->lock, LW_EXCLUSIVE);
	for (int i = 0; i < WF_BLOCKS; i++)
	{
		WfBlock    *block = &wf_registry->blocks[i];

		if (block->database == database && block->pid == MyProcPid)
			block->database = InvalidOid;
	}
	wf_registry_wake_launcher();
	LWLockRelease(wf_registry->lock);
}

/*
 * Tells the workers of a database to leave, and returns how many have not left yet.  terminate: not by a word but by
 * SIGTERM, which also ends a step that goes on.
 */
int
wf_registry_stop(Oid database, bool terminate)
{
	int			remaining = 0;

	LWLockAcquire(wf_registry->lock, LW_EXCLUSIVE);
	for (int i = 0; i < wf_registry->slot_count; i++)
	{
		WfSlot	   *slot = &wf_registry->slots[i];

		if (slot->database != database || (slot->state != WF_SLOT_RESERVED && slot->state != WF_SLOT_RUNNING))
			continue;
		remaining++;
		slot->stop = true;
		if (slot->proc != NULL)
			SetLatch(&slot->proc->procLatch);
		/* who has not left the slot is there: the pid is nobody else's */
		if (terminate && slot->pid != 0)
			(void) kill(slot->pid, SIGTERM);
	}
	LWLockRelease(wf_registry->lock);
	return remaining;
}
