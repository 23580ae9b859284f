/*
 * launcher.c: decides which workers run.
 *
 * One process, started by the postmaster (bgworker.c), that is connected to no database and reads pg_database alone.  A
 * database that takes connections and is no template has wfproc.workers workers where the extension is in it.  Whether it is
 * cannot be seen from here: the worker with share 0 is started to look, and leaves where it is not.  From then on DDL tells
 * (ddl.c).  The other shares are started once the first worker has seen the extension.
 *
 * A worker that is not wanted any more leaves by itself, for it reads the same settings.  What the launcher does is start:
 * who is missing, at once or after a delay that grows while workers of a database keep failing.
 *
 * It sleeps on its latch, which is set when a worker starts or ends, and by DDL; with a time-out only while it has put
 * something off.  What it knows is in its own memory; workers outlive it, and a new launcher finds them in their slots.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "tcop/tcopprot.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "bgworker.h"
#include "compat.h"
#include "guc.h"
#include "launcher.h"
#include "registry.h"

#define MAX_NOTICES 64
/* databases in which a worker looks for the extension at one time, so that they do not use up all slots */
#define MAX_PROBES 2
/* delay after a worker has been terminated, and after the first and any further failure in a row */
#define RESTART_MS 1000
#define MAX_RESTART_MS (60 * 1000)
/* a worker that has lived so long begins a new row */
#define GOOD_LIFE_US (60 * USECS_PER_SEC)
/* where there was no slot: when to try again */
#define NO_SLOT_MS 2000
#define NO_SLOT_LOG_US (60 * USECS_PER_SEC)
/* a worker that a former launcher has started must have come by then */
#define START_US (30 * USECS_PER_SEC)

typedef enum Extension
{
	UNKNOWN,
	PRESENT,
	MISSING
} Extension;

typedef struct Database
{
	Oid			oid;			/* hash key */
	bool		listed;			/* seen by the scan under way */
	Extension	extension;
	int			failures;		/* in a row */
	TimestampTz not_before;		/* no worker is started earlier */
} Database;

static HTAB *databases = NULL;

/* as of this round; wf_max_workers of each */
static WfSlotInfo *slots = NULL;
static BackgroundWorkerHandle **handles = NULL;
static uint32 *handle_generations = NULL;
static int	slot_count = 0;

/* when something that was put off is due; DT_NOEND: nothing was */
static TimestampTz wake_at;
static TimestampTz no_slot_until = 0;
static TimestampTz no_slot_logged = 0;

static void
put_off_until(TimestampTz at)
{
	wake_at = Min(wake_at, at);
}

static void
init_memory(void)
{
	HASHCTL		ctl = {.keysize = sizeof(Oid),.entrysize = sizeof(Database),.hcxt = TopMemoryContext};

	databases = hash_create("wfproc databases", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	slots = MemoryContextAllocZero(TopMemoryContext, wf_max_workers * sizeof(WfSlotInfo));
	handles = MemoryContextAllocZero(TopMemoryContext, wf_max_workers * sizeof(BackgroundWorkerHandle *));
	handle_generations = MemoryContextAllocZero(TopMemoryContext, wf_max_workers * sizeof(uint32));
}

static Database *
find_database(Oid oid)
{
	return hash_search(databases, &oid, HASH_FIND, NULL);
}

static void
list_database(Oid oid)
{
	bool		found;
	Database   *database = hash_search(databases, &oid, HASH_ENTER, &found);

	if (!found)
	{
		database->extension = UNKNOWN;
		database->failures = 0;
		database->not_before = 0;
	}
	database->listed = true;
}

/*
 * Forgets the databases that are not listed any more, and has their workers leave.
 */
static void
forget_unlisted(void)
{
	HASH_SEQ_STATUS seq;
	Database   *database;

	hash_seq_init(&seq, databases);
	while ((database = hash_seq_search(&seq)) != NULL)
	{
		if (database->listed)
		{
			database->listed = false;
			continue;
		}
		(void) wf_registry_stop(database->oid, false);
		(void) hash_search(databases, &database->oid, HASH_REMOVE, NULL);
	}
}

/*
 * Reads pg_database.  An invalid database (connection limit -2) is one whose DROP DATABASE was interrupted.
 */
static void
list_databases(void)
{
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);

		if (form->datallowconn && !form->datistemplate && form->datconnlimit != -2)
			list_database(form->oid);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	forget_unlisted();
}

/*
 * A delay that doubles while workers keep failing.
 */
static int
restart_delay(Database *database, TimestampTz since, TimestampTz now)
{
	int			delay = RESTART_MS;

	if (now - since > GOOD_LIFE_US)
		database->failures = 0;
	for (int i = 0; i < database->failures && delay < MAX_RESTART_MS; i++)
		delay *= 2;
	database->failures++;
	return Min(delay, MAX_RESTART_MS);
}

/*
 * Takes note of a worker's end.
 */
static void
learn(const WfSlotInfo *slot, WfOutcome outcome, TimestampTz now)
{
	Database   *database = find_database(slot->database);

	if (database == NULL)
		return;
	switch (outcome)
	{
		case WF_LEFT_ABSENT:
			/* there was DDL after it had looked: what it saw does not count */
			database->extension = slot->look_again ? UNKNOWN : MISSING;
			database->failures = 0;
			break;
		case WF_LEFT_STOPPED:
			break;
		case WF_LEFT_TERMINATED:
			database->not_before = TimestampTzPlusMilliseconds(now, RESTART_MS);
			break;
		case WF_LEFT_FAILED:
			database->not_before = TimestampTzPlusMilliseconds(now, restart_delay(database, slot->since, now));
			break;
	}
}

static void
free_slot(int i)
{
	wf_registry_release(i, slots[i].generation);
	if (handles[i] != NULL)
		pfree(handles[i]);
	handles[i] = NULL;
	slots[i].state = WF_SLOT_FREE;
}

/*
 * Whether the worker of a reserved slot will not come any more.
 */
static bool
never_came(int i, TimestampTz now)
{
	pid_t		pid;

	if (handles[i] != NULL && handle_generations[i] == slots[i].generation)
		return GetBackgroundWorkerPid(handles[i], &pid) == BGWH_STOPPED;
	/* started by a former launcher */
	put_off_until(slots[i].since + START_US);
	return now >= slots[i].since + START_US;
}

/*
 * Looks at the slots: learns what workers have found out, and frees the slots of those who have left.
 */
static void
review_slots(TimestampTz now)
{
	slot_count = wf_registry_look(slots);
	for (int i = 0; i < slot_count; i++)
	{
		Database   *database;

		switch (slots[i].state)
		{
			case WF_SLOT_FREE:
				break;
			case WF_SLOT_LEFT:
				learn(&slots[i], slots[i].outcome, now);
				free_slot(i);
				break;
			case WF_SLOT_RESERVED:
				if (never_came(i, now))
				{
					learn(&slots[i], WF_LEFT_FAILED, now);
					free_slot(i);
				}
				break;
			case WF_SLOT_RUNNING:
				database = find_database(slots[i].database);
				if (slots[i].confirmed && database != NULL)
					database->extension = PRESENT;
				break;
		}
	}
}

/*
 * Takes in what DDL has told: where the extension may have come, it is to be looked for.
 */
static void
take_notices(void)
{
	Oid			oids[MAX_NOTICES];
	bool		all;
	int			count = wf_registry_take_notices(oids, MAX_NOTICES, &all);
	HASH_SEQ_STATUS seq;
	Database   *database;

	if (count == 0 && !all)
		return;
	list_databases();
	for (int i = 0; i < count; i++)
	{
		database = find_database(oids[i]);
		if (database != NULL && database->extension == MISSING)
			database->extension = UNKNOWN;
	}
	if (!all)
		return;
	hash_seq_init(&seq, databases);
	while ((database = hash_seq_search(&seq)) != NULL)
		if (database->extension == MISSING)
			database->extension = UNKNOWN;
}

/*
 * How many workers are looking for the extension.
 */
static int
count_probes(void)
{
	int			count = 0;

	for (int i = 0; i < slot_count; i++)
	{
		Database   *database = slots[i].state == WF_SLOT_FREE ? NULL : find_database(slots[i].database);

		if (database != NULL && database->extension == UNKNOWN)
			count++;
	}
	return count;
}

static bool
has_worker(Oid oid, int share)
{
	for (int i = 0; i < slot_count; i++)
		if (slots[i].state != WF_SLOT_FREE && slots[i].database == oid && slots[i].share == share)
			return true;
	return false;
}

/*
 * Whether a worker is to be started now for that share of a database.
 */
static bool
is_wanted(const Database *database, int share, TimestampTz now)
{
	if (database->extension == MISSING || (database->extension == UNKNOWN && share > 0))
		return false;
	if (has_worker(database->oid, share) || wf_registry_blocked(database->oid))
		return false;
	if (database->extension == UNKNOWN && count_probes() >= MAX_PROBES)
		return false;
	if (database->not_before > now)
	{
		put_off_until(database->not_before);
		return false;
	}
	return true;
}

/*
 * There is no slot for a worker: waits a while, and says so, but not all the time.
 */
static void
no_slot(Oid database, const char *setting, TimestampTz now)
{
	no_slot_until = TimestampTzPlusMilliseconds(now, NO_SLOT_MS);
	put_off_until(no_slot_until);
	if (no_slot_logged != 0 && now - no_slot_logged < NO_SLOT_LOG_US)
		return;
	no_slot_logged = now;
	ereport(LOG,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("wfproc: no slot is free for a worker of database %u", database),
			 errdetail("Events that are due there wait."),
			 errhint("You might need to increase \"%s\".", setting)));
}

/*
 * Starts a worker.  False where there is no slot for it.
 */
static bool
start_worker(const Database *database, int share, TimestampTz now)
{
	uint32		generation;
	int			i = wf_registry_reserve(database->oid, share, &generation);

	if (i < 0)
	{
		no_slot(database->oid, "wfproc.max_workers", now);
		return false;
	}
	slots[i].state = WF_SLOT_RESERVED;
	slots[i].generation = generation;
	slots[i].database = database->oid;
	slots[i].share = share;
	if (!wf_bgworker_start_worker(i, generation, database->oid, share, &handles[i]))
	{
		handles[i] = NULL;
		free_slot(i);
		no_slot(database->oid, "max_worker_processes", now);
		return false;
	}
	handle_generations[i] = generation;
	return true;
}

/*
 * Starts the workers that are missing: the first of every database before the second of any.
 */
static void
start_workers(TimestampTz now)
{
	if (!wf_enabled)
		return;
	if (no_slot_until > now)
	{
		put_off_until(no_slot_until);
		return;
	}
	for (int share = 0; share < wf_workers; share++)
	{
		HASH_SEQ_STATUS seq;
		Database   *database;

		hash_seq_init(&seq, databases);
		while ((database = hash_seq_search(&seq)) != NULL)
		{
			if (!is_wanted(database, share, now) || start_worker(database, share, now))
				continue;
			hash_seq_term(&seq);
			return;
		}
	}
}

static void
wait_for_news(void)
{
	static uint32 wait_event = 0;
	int			flags = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH;
	long		timeout = -1;

	if (wait_event == 0)
		wait_event = WF_WAIT_EVENT("WfprocLauncherMain");
	if (wake_at != DT_NOEND)
	{
		flags |= WL_TIMEOUT;
		/* bounded, for the sake of a clock that is set back */
		timeout = Min(TimestampDifferenceMilliseconds(GetCurrentTimestamp(), wake_at) + 1, MAX_RESTART_MS);
	}
	(void) WaitLatch(MyLatch, flags, timeout, wait_event);
	ResetLatch(MyLatch);
}

static void
detach(int code, Datum arg)
{
	LWLockReleaseAll();
	wf_registry_launcher_detach();
}

/*
 * The launcher's main function.
 */
void
wfproc_launcher_main(Datum main_arg)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	/* one that came since the fork was ignored */
	ConfigReloadPending = true;
	pqsignal(SIGTERM, die);
	/* there is nothing to cancel */
	pqsignal(SIGINT, SIG_IGN);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	pgstat_report_appname("wfproc launcher");

	init_memory();
	before_shmem_exit(detach, (Datum) 0);
	wf_registry_launcher_attach();
	list_databases();
	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		wake_at = DT_NOEND;
		/* in this order: DDL may have come after what the workers saw */
		review_slots(now);
		take_notices();
		start_workers(now);
		wait_for_news();
	}
}
