/*
 * gate.c: the heavyweight locks that say who may act.
 *
 * The gate: a worker's transaction first locks the extension's object in share mode, as any user of an object does, so that
 * DROP and ALTER EXTENSION wait for the transaction's end and the next transaction sees what they did.
 *
 * Shards: one holder each.  The tag is our row of pg_extension with objsubid = shard + 1: visible in pg_locks, and out of
 * reach of pg_advisory_unlock_all().  What a rollback does to them: see worker.c.
 *
 * Tables: who acts for shards locks all that a turn writes before the first row is read, in the mode in which it will be
 * written, to the end of the transaction.  So no table is rewritten between reading and writing: VACUUM FULL and CLUSTER
 * move rows, ALTER TABLE may do worse to who reads with an older snapshot.  And nothing in the middle of a turn waits for
 * such a statement.
 */
#include "postgres.h"

#include "catalog/pg_extension.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"

#include "catalog.h"
#include "gate.h"
#include "registry.h"

/*
 * Locks the gate until the end of the transaction.  Returns false, which means leave, where the extension is not installed
 * or is of a version that this library does not know.
 */
bool
wf_gate_enter(void)
{
	Oid			extension;

	if (!wf_catalog_exists())
		return false;
	extension = wf_catalog_extension();
	LockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
	/* the lock has taken in what was committed meanwhile */
	if (!wf_catalog_exists() || wf_catalog_extension() != extension)
		return false;
	return strcmp(wf_catalog_version(), WF_EXTENSION_VERSION) == 0;
}

/*
 * Locks the tables.  Waits for one while none of the others is held, so that who locks several is in no deadlock with us.
 */
void
wf_gate_lock_tables(void)
{
	static const WfRelation tables[] = {
		WF_MAILBOX, WF_EVENT, WF_INSTANCE, WF_SNAPSHOT, WF_KEPT_SNAPSHOT, WF_LINK, WF_IDEMPOTENCY, WF_DEAD_LETTER, WF_ROLLOUT
	};
	int			locked = 0;

	while (locked < lengthof(tables))
	{
		Oid			table = wf_catalog_oid(tables[locked]);

		if (ConditionalLockRelationOid(table, RowExclusiveLock))
		{
			locked++;
			continue;
		}
		while (locked > 0)
			UnlockRelationOid(wf_catalog_oid(tables[--locked]), RowExclusiveLock);
		LockRelationOid(table, RowExclusiveLock);
		UnlockRelationOid(table, RowExclusiveLock);
	}
}

static void
shard_tag(LOCKTAG *tag, int shard)
{
	Assert(shard >= 0 && shard < WF_SHARDS);
	SET_LOCKTAG_OBJECT(*tag, MyDatabaseId, ExtensionRelationId, wf_catalog_extension(), shard + 1);
}

/*
 * Takes a shard's lock without waiting.
 */
bool
wf_gate_try_shard(int shard, bool session)
{
	LOCKTAG		tag;

	shard_tag(&tag, shard);
	return LockAcquire(&tag, ExclusiveLock, session, true) != LOCKACQUIRE_NOT_AVAIL;
}

/*
 * Gives a session's shard lock back.
 */
void
wf_gate_release_shard(int shard)
{
	LOCKTAG		tag;

	shard_tag(&tag, shard);
	(void) LockRelease(&tag, ExclusiveLock, true);
}

/*
 * Takes, for this transaction, all shards that nobody else holds, and returns them, a bit each; with the tables, for which it
 * waits.  A worker whose transaction was rolled back is without its locks for a moment, but still claims its shards.
 */
uint64
wf_gate_take_free_shards(void)
{
	uint64		locked = 0;
	uint64		claimed;

	wf_gate_lock_tables();
	for (int shard = 0; shard < WF_SHARDS; shard++)
		if (wf_gate_try_shard(shard, false))
			locked |= UINT64CONST(1) << shard;
	claimed = locked & wf_registry_claimed_shards();
	for (int shard = 0; shard < WF_SHARDS; shard++)
	{
		LOCKTAG		tag;

		if ((claimed & (UINT64CONST(1) << shard)) == 0)
			continue;
		shard_tag(&tag, shard);
		(void) LockRelease(&tag, ExclusiveLock, false);
	}
	return locked & ~claimed;
}
