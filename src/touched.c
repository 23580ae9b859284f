/*
 * touched.c: which logs may have changed since the last seal: a table in shared memory, so that seal() need not look at all.
 *
 * Whoever inserts an instance's row or appends to a log (instance.c, eventlog.c) notes it here in the same transaction,
 * before the commit: for 32 instance_ids at a time the greatest transaction id that has.  A seal remembers the horizon of a
 * snapshot, below which all transactions had ended, and the next one looks at what was noted with that id or a later one.
 * It reads this table after it has taken the snapshot whose horizon it will remember, and before the one that it reads logs
 * with: so what commits in between is seen by this seal or noted for the next.
 *
 * The table knows of transactions that have begun since it was made; one that was prepared before a restart may end later.
 * Hence "since": a horizon below it is none that this table can answer.  Nor can it for what found no room, or was forgotten.
 *
 * Without the preloaded library there is no table, and each seal looks at all.
 *
 * Locking: one LWLock, shared to note in entries that are there (they are atomic and only grow), exclusive for the rest.
 * Noting never fails, but for the lack of a transaction id.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"

#include "touched.h"

/* groups in one entry */
#define STRETCH_GROUPS 32
#define STRETCH_IDS (WF_GROUP_IDS * STRETCH_GROUPS)
/* entries, for all databases: 33 million instances, in 10 MB */
#define MAX_STRETCHES 32768
/* beyond them, for FORGOTTEN_STRETCH of each database */
#define SPARE_STRETCHES 1024
/* room for so many is made at once, for more when they come */
#define FIRST_STRETCHES 256
/* where a database's entry says up to which horizon its notes were forgotten */
#define FORGOTTEN_STRETCH (-1)

typedef struct StretchKey
{
	int64		stretch;		/* instance_id / STRETCH_IDS */
	int64		database;		/* as wide, so that there is no padding to be
								 * hashed */
} StretchKey;

typedef struct Stretch
{
	StretchKey	key;
	pg_atomic_uint64 xids[STRETCH_GROUPS];	/* 0: never */
} Stretch;

typedef struct Touched
{
	LWLock	   *lock;
	bool		has_token;
	uint8		token[WF_TOUCHED_TOKEN_LEN];	/* of this start of the server */
	uint64		since;			/* later ones are noted; 0: not known yet */
	uint64		lost;			/* the greatest one that found no room */
} Touched;

static Touched *touched = NULL;
static HTAB *stretches = NULL;

Size
wf_touched_size(void)
{
	return add_size(MAXALIGN(sizeof(Touched)), hash_estimate_size(MAX_STRETCHES + SPARE_STRETCHES, sizeof(Stretch)));
}

/*
 * Makes the table, or finds it.  The caller holds AddinShmemInitLock.
 */
void
wf_touched_init(LWLock *lock)
{
	HASHCTL		control = {.keysize = sizeof(StretchKey),.entrysize = sizeof(Stretch)};
	bool		found;

	touched = ShmemInitStruct("wfproc touched", sizeof(Touched), &found);
	if (!found)
	{
		memset(touched, 0, sizeof(Touched));
		touched->lock = lock;
		touched->has_token = pg_strong_random(touched->token, WF_TOUCHED_TOKEN_LEN);
	}
	stretches = ShmemInitHash("wfproc touched stretches", FIRST_STRETCHES, MAX_STRETCHES + SPARE_STRETCHES, &control, HASH_ELEM | HASH_BLOBS);
}

/*
 * Recovery has ended, and transactions that begin from now on are noted.  Called by the launcher as it starts, and by seal() in
 * case it never did.
 */
void
wf_touched_begin(void)
{
	if (touched == NULL)
		return;
	LWLockAcquire(touched->lock, LW_EXCLUSIVE);
	if (touched->since == 0)
		touched->since = U64FromFullTransactionId(ReadNextFullTransactionId());
	LWLockRelease(touched->lock);
}

/*
 * A number that is another one after each start of the server; NULL where nothing is noted.
 */
const uint8 *
wf_touched_token(void)
{
	return touched != NULL && touched->has_token ? touched->token : NULL;
}

static Stretch *
find_stretch(int64 number)
{
	StretchKey	key = {number, MyDatabaseId};

	return hash_search(stretches, &key, HASH_FIND, NULL);
}

/*
 * The same, made where it is not there.  NULL: there is no room.
 */
static Stretch *
make_stretch(int64 number)
{
	StretchKey	key = {number, MyDatabaseId};
	Stretch    *stretch = find_stretch(number);

	Assert(LWLockHeldByMeInMode(touched->lock, LW_EXCLUSIVE));
	if (stretch != NULL || (number != FORGOTTEN_STRETCH && hash_get_num_entries(stretches) >= MAX_STRETCHES))
		return stretch;
	stretch = hash_search(stretches, &key, HASH_ENTER_NULL, NULL);
	for (int i = 0; stretch != NULL && i < STRETCH_GROUPS; i++)
		pg_atomic_init_u64(&stretch->xids[i], 0);
	return stretch;
}

static void
raise_xid(pg_atomic_uint64 *xid, uint64 value)
{
	uint64		old = pg_atomic_read_u64(xid);

	while (old < value && !pg_atomic_compare_exchange_u64(xid, &old, value))
		;
}

/*
 * Notes in entries that get_stretch gives.  Returns how many instances it got to before there was none.
 */
static int
note(const int64 *instance_ids, int count, uint64 xid, Stretch *(*get_stretch) (int64 number))
{
	Stretch    *stretch = NULL;

	for (int i = 0; i < count; i++)
	{
		int64		number = instance_ids[i] / STRETCH_IDS;

		if (stretch == NULL || stretch->key.stretch != number)
			stretch = get_stretch(number);
		if (stretch == NULL)
			return i;
		raise_xid(&stretch->xids[instance_ids[i] % STRETCH_IDS / WF_GROUP_IDS], xid);
	}
	return count;
}

/*
 * The current transaction changes the heads of these logs.  Fast where they are in order.
 */
void
wf_touched_note(const int64 *instance_ids, int count)
{
	uint64		xid;
	int			done;

	if (touched == NULL || count == 0)
		return;

	/*
	 * this may be a subtransaction; what a snapshot's horizon speaks of is
	 * the whole
	 */
	xid = U64FromFullTransactionId(GetTopFullTransactionId());
	LWLockAcquire(touched->lock, LW_SHARED);
	done = note(instance_ids, count, xid, find_stretch);
	LWLockRelease(touched->lock);
	if (done == count)
		return;
	LWLockAcquire(touched->lock, LW_EXCLUSIVE);
	if (note(instance_ids + done, count - done, xid, make_stretch) < count - done)
		touched->lost = Max(touched->lost, xid);
	LWLockRelease(touched->lock);
}

/*
 * Whether all that transactions from horizon on have changed in this database is noted.
 */
static bool
knows_since(uint64 horizon)
{
	Stretch    *forgotten = find_stretch(FORGOTTEN_STRETCH);

	return touched->since != 0 && horizon >= touched->since && horizon > touched->lost &&
		(forgotten == NULL || horizon >= pg_atomic_read_u64(&forgotten->xids[0]));
}

/*
 * The numbers of a stretch's groups that were noted from horizon on; returns how many.
 */
static int
groups_of(Stretch *stretch, uint64 horizon, int64 *groups)
{
	int			count = 0;

	for (int i = 0; i < STRETCH_GROUPS; i++)
		if (pg_atomic_read_u64(&stretch->xids[i]) >= horizon)
			groups[count++] = stretch->key.stretch * STRETCH_GROUPS + i;
	return count;
}

/*
 * Nobody will ask for less than horizon any more, so entries that have nothing else may go; should somebody yet, the answer
 * is that it is not known.  Returns whether that could be written down.
 */
static bool
begin_to_forget(uint64 horizon)
{
	Stretch    *forgotten = make_stretch(FORGOTTEN_STRETCH);

	if (forgotten != NULL)
		raise_xid(&forgotten->xids[0], horizon);
	return forgotten != NULL;
}

/*
 * The groups of this database (instance_id / WF_GROUP_IDS) whose logs transactions with the given id or a later one may have
 * changed, in no order.  False: that is not known, so all may.  forget: a seal with this horizon has been committed, so
 * that older notes are of no use.
 */
bool
wf_touched_since(FullTransactionId horizon, bool forget, int64 **groups, int *count)
{
	uint64		from = U64FromFullTransactionId(horizon);
	HASH_SEQ_STATUS scan;
	Stretch    *stretch;
	bool		known;

	LWLockAcquire(touched->lock, LW_EXCLUSIVE);
	known = knows_since(from);
	forget = forget && begin_to_forget(from);
	*groups = palloc_extended((hash_get_num_entries(stretches) + 1) * STRETCH_GROUPS * sizeof(int64), MCXT_ALLOC_HUGE);
	*count = 0;
	hash_seq_init(&scan, stretches);
	while ((stretch = hash_seq_search(&scan)) != NULL)
	{
		int			found;

		if (stretch->key.database != MyDatabaseId || stretch->key.stretch == FORGOTTEN_STRETCH)
			continue;
		found = groups_of(stretch, from, *groups + *count);
		*count += found;
		if (found == 0 && forget)
			(void) hash_search(stretches, &stretch->key, HASH_REMOVE, NULL);
	}
	LWLockRelease(touched->lock);
	return known;
}
