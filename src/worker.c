/*
 * worker.c: the life of a worker: attach to a slot, connect, work, leave.
 *
 * Started by the launcher for one share of the shards of one database.  It holds those shards for its life, keeps their
 * processes in memory (engine.c) and sleeps on its latch until somebody has mail or something is due.  No transaction is
 * open while it sleeps.
 *
 * Shards: a worker claims a shard in the registry after it has got its lock, and unclaims it before it lets go.  The lock
 * is a session's, but of the ordinary lock method, and PostgreSQL releases those too whenever a transaction is rolled back.
 * The claim stays then, whoever gets the lock meanwhile respects it (wf_registry_claimed_shards()), and the next transaction
 * begins by taking the locks again.  Nor does PostgreSQL release them when an idle session ends: that is done on the way out.
 *
 * Leaving: by itself with exit code 0 where it is not wanted any more: the extension is gone or of another version,
 * wfproc.enabled is off, its share does not exist, its database is to be left alone; by SIGTERM; and with exit code 1 where
 * it cannot go on.  The launcher is told which, and starts another where one is wanted.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/pmsignal.h"
#include "storage/lock.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "bgworker.h"
#include "catalog.h"
#include "clock.h"
#include "compat.h"
#include "engine.h"
#include "errors.h"
#include "gate.h"
#include "guc.h"
#include "registry.h"
#include "scrub.h"
#include "suspect.h"
#include "watchdog.h"
#include "worker.h"

/* longest wait for a lock of somebody else's */
#define LOCK_TIMEOUT_MS 100
/* first and longest time between two tries to get a shard that another holds */
#define SHARD_RETRY_MS 20
#define MAX_SHARD_RETRY_MS 1000
/* how long to try to get shards back whose locks were lost */
#define RETAKE_MS 5000
/* first and longest pause after errors in a row */
#define ERROR_PAUSE_MS 100
#define MAX_ERROR_PAUSE_MS 10000
/* longest sleep, so that a clock that was set back or forth heals */
#define MAX_SLEEP_MS 60000
/* statistics that a short burst has left are reported after that */
#define STATISTICS_MS 1000
#define DRAIN_MAX 1024
#define MAX_SUSPECTS 64
#define MAX_COUNT_TRIES 5

/* what ALTER DATABASE and ALTER ROLE may have set otherwise; missing_ok: not every version has it */
static const struct
{
	const char *name;
	const char *value;
}			session_settings[] =

{
	{"application_name", "wfproc worker"},
	{"search_path", "pg_catalog, pg_temp"},
	{"session_replication_role", "origin"},
	{"default_transaction_isolation", "read committed"},
	{"default_transaction_read_only", "off"},
	{"default_transaction_deferrable", "off"},
	{"row_security", "off"},
	{"lock_timeout", CppAsString2(LOCK_TIMEOUT_MS)},
	{"statement_timeout", "0"},
	{"transaction_timeout", "0"},
	{"idle_in_transaction_session_timeout", "0"},
	{"jit", "off"},
	{"max_parallel_workers_per_gather", "0"},
	{"TimeZone", "UTC"},
	{"DateStyle", "ISO, MDY"},
	{"IntervalStyle", "postgres"},
	{"extra_float_digits", "1"},
	{"bytea_output", "hex"},
};

static int	my_share;
static Oid	my_extension = InvalidOid;

/* how many workers the database has, as far as this one knows */
static int	shares = 0;

/* a bit each: the shards of this share, those that are held, those of them whose dead have not been counted yet */
static uint64 my_shards = 0;
static uint64 held_shards = 0;
static uint64 uncounted_shards = 0;

/* a transaction was rolled back, and the locks of the shards went with it */
static bool locks_lost = false;

/* on the monotonic clock, in milliseconds */
static int64 next_sweep = 0;
static int64 next_shard_try = 0;
static int	shard_retry = 0;
static int64 statistics_due = 0;	/* 0: all are reported */

static volatile sig_atomic_t terminated = false;
static WfOutcome outcome = WF_LEFT_FAILED;

/*
 * SIGTERM.
 */
static void
on_sigterm(SIGNAL_ARGS)
{
	terminated = true;
	die(postgres_signal_arg);
}

/*
 * The process ends, in whatever state it is.
 */
static void
detach(int code, Datum arg)
{
	if (wf_watchdog_has_condemned())
	{
		terminated = true;
		ereport(LOG,
				(errmsg("wfproc: worker ends: a handler did not end at its limit"),
				 errhint("The instance says so, from its next worker on: see \"error\" in the view \"instances\".")));
	}
	wf_suspect_end();
	LWLockReleaseAll();
	/* servers before 17 assert that it is among the backends by now */
	if (OidIsValid(MyDatabaseId))
		LockReleaseAll(DEFAULT_LOCKMETHOD, true);
	wf_registry_detach(terminated ? WF_LEFT_TERMINATED : outcome);
}

static void
leave(WfOutcome why)
{
	outcome = why;
	if (IsTransactionState())
		AbortCurrentTransaction();
	proc_exit(0);
}

static void
at_transaction_event(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT)
		locks_lost = true;
}

static void
assert_settings(void)
{
	for (int i = 0; i < lengthof(session_settings); i++)
		if (GetConfigOption(session_settings[i].name, true, false) != NULL)
			SetConfigOption(session_settings[i].name, session_settings[i].value, PGC_SUSET, PGC_S_OVERRIDE);
}

/*
 * Enters the gate.  DDL on the extension may hold it for long, and there is nothing to do until it is over: so no time-out.
 */
static bool
enter_gate(void)
{
	bool		entered;

	LockTimeout = 0;
	entered = wf_gate_enter();
	LockTimeout = LOCK_TIMEOUT_MS;
	if (!entered)
		return false;
	if (!OidIsValid(my_extension))
		my_extension = wf_catalog_extension();
	/* dropped and made anew: what is in memory is of the old one */
	return wf_catalog_extension() == my_extension;
}

/*
 * What rewrites a table of ours may take long, too, and there is as little to do until it is over.
 */
static void
lock_tables(void)
{
	LockTimeout = 0;
	wf_gate_lock_tables();
	LockTimeout = LOCK_TIMEOUT_MS;
}

static void
leave_at_gate(void)
{
	if (wf_catalog_exists() && strcmp(wf_catalog_version(), WF_EXTENSION_VERSION) != 0)
		ereport(LOG,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("wfproc: worker leaves: extension \"wfproc\" is of version %s in this database, the library of %s",
						wf_catalog_version(), WF_EXTENSION_VERSION),
				 errhint("Run ALTER EXTENSION wfproc UPDATE, or restart the server where it has loaded an old library.")));
	/* where it was made anew, the launcher is to start another worker at once */
	leave(wf_catalog_exists() && wf_catalog_extension() != my_extension && OidIsValid(my_extension) ?
		  WF_LEFT_STOPPED : WF_LEFT_ABSENT);
}

static void
nap(long ms)
{
	static uint32 wait_event = 0;

	if (wait_event == 0)
		wait_event = WF_WAIT_EVENT("WfprocWorkerNap");
	(void) WaitLatch(MyLatch, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms, wait_event);
	CHECK_FOR_INTERRUPTS();
}

/*
 * Takes the locks again that a rollback has released.  Others may hold one for a moment, until they see that it is claimed.
 */
static void
retake_shards(void)
{
	int64		give_up = wf_clock_monotonic_ms() + RETAKE_MS;

	locks_lost = false;
	for (int shard = 0; shard < WF_SHARDS; shard++)
	{
		if ((held_shards & (UINT64CONST(1) << shard)) == 0)
			continue;
		while (!wf_gate_try_shard(shard, true))
		{
			if (wf_clock_monotonic_ms() > give_up)
				ereport(FATAL,
						(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
						 errmsg("wfproc: worker lost shard %d to another session", shard)));
			nap(1);
		}
	}
}

/*
 * Begins a transaction of this worker.
 */
void
wf_worker_begin(void)
{
	SetCurrentStatementStartTimestamp();
	pgstat_report_activity(STATE_RUNNING, "wfproc: handling events");
	StartTransactionCommand();
	if (!enter_gate())
		leave_at_gate();
	if (locks_lost)
		retake_shards();
	lock_tables();
}

void
wf_worker_commit(void)
{
	CommitTransactionCommand();
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
	if (statistics_due == 0)
		statistics_due = wf_clock_monotonic_ms() + STATISTICS_MS;
}

/*
 * Looks for the first time.
 */
static void
look_for_extension(void)
{
	(void) wf_registry_should_look();
	wf_worker_begin();
	wf_worker_commit();
	wf_registry_confirm();
}

uint64
wf_worker_shards(void)
{
	return held_shards;
}

/*
 * Gives all shards back, and forgets what belongs to them.
 */
static void
release_shards(void)
{
	wf_engine_forget();
	wf_scrub_forget();
	wf_registry_hold_shards(0);
	LockReleaseAll(DEFAULT_LOCKMETHOD, true);
	held_shards = uncounted_shards = 0;
	locks_lost = false;
}

static void
set_share(void)
{
	if (held_shards != 0)
		release_shards();
	shares = wf_workers;
	my_shards = 0;
	for (int shard = my_share; shard < WF_SHARDS; shard += shares)
		my_shards |= UINT64CONST(1) << shard;
	wf_registry_set_shares(shares);
	shard_retry = SHARD_RETRY_MS;
	next_shard_try = 0;
}

/*
 * Tries to get those locks that are missing.  Returns the shards that have come.
 */
static uint64
try_shards(uint64 missing)
{
	uint64		got = 0;
	uint64		claimed;

	for (int shard = 0; shard < WF_SHARDS; shard++)
		if ((missing & (UINT64CONST(1) << shard)) != 0 && wf_gate_try_shard(shard, true))
			got |= UINT64CONST(1) << shard;
	claimed = got & wf_registry_claimed_shards();
	for (int shard = 0; shard < WF_SHARDS; shard++)
		if ((claimed & (UINT64CONST(1) << shard)) != 0)
			wf_gate_release_shard(shard);
	return got & ~claimed;
}

/*
 * Takes the shards of this share that are not held yet; where another has one, again later.
 */
static void
take_shards(void)
{
	uint64		got;

	if (held_shards == my_shards || wf_clock_monotonic_ms() < next_shard_try)
		return;
	wf_worker_begin();
	got = try_shards(my_shards & ~held_shards);
	held_shards |= got;
	/* before the sweep looks: what is committed later comes by the ring */
	wf_registry_hold_shards(held_shards);
	wf_worker_commit();
	if (got != 0)
		wf_engine_sweep(got);
	uncounted_shards |= got;
	next_shard_try = wf_clock_monotonic_ms() + shard_retry;
	shard_retry = Min(shard_retry * 2, MAX_SHARD_RETRY_MS);
}

/*
 * Counts what earlier workers died on, before any of it is handled again.  Where that itself fails again and again, the
 * others must not wait for it for ever.
 */
static void
count_dead(void)
{
	static int	tries = 0;
	WfSuspect	suspects[MAX_SUSPECTS];
	int			count;

	while ((count = wf_suspect_take(uncounted_shards, suspects, MAX_SUSPECTS)) > 0)
	{
		if (tries++ < MAX_COUNT_TRIES)
		{
			wf_engine_blame(suspects, count);
			wf_scrub_blame(suspects, count);
		}
		else
			ereport(WARNING,
					(errmsg("wfproc: could not note down which instances a worker died on"),
					 errdetail("They are handled as if it had not.")));
		tries = 0;
		wf_suspect_clear(suspects, count);
	}
	uncounted_shards = 0;
}

/*
 * Takes in new settings, and leaves where the worker is not wanted any more.
 */
static void
leave_if_unwanted(void)
{
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		assert_settings();
		next_sweep = Min(next_sweep, wf_clock_monotonic_ms() + wf_sweep_interval);
		wf_scrub_hurry();
	}
	if (!wf_enabled || my_share >= wf_workers || wf_registry_should_stop())
		leave(WF_LEFT_STOPPED);
}

/*
 * Takes in what has happened outside: signals, settings, DDL.
 */
static void
attend(void)
{
	CHECK_FOR_INTERRUPTS();
	leave_if_unwanted();
	if (wf_registry_should_look())
	{
		wf_worker_begin();
		wf_worker_commit();
	}
	if (shares != wf_workers)
		set_share();
}

static bool
is_held(int shard)
{
	return (held_shards & (UINT64CONST(1) << shard)) != 0;
}

/*
 * Hands the ring's wake-ups to the engine, and has it sweep where that is due.
 */
static void
drain(void)
{
	WfWakeup	wakeups[DRAIN_MAX];
	uint64		sweep;
	int			count = wf_registry_drain(wakeups, DRAIN_MAX, &sweep);

	/*
	 * what came for a shard that has been given back since is its new
	 * holder's affair, whose sweep finds it
	 */
	for (int i = 0; i < count; i++)
		if (is_held(wf_shard_of(wakeups[i].instance_id)))
			wf_engine_wake(wakeups[i].instance_id, wakeups[i].at);
	if (wf_clock_monotonic_ms() >= next_sweep)
	{
		sweep = held_shards;
		next_sweep = wf_clock_monotonic_ms() + wf_sweep_interval;
	}
	if ((sweep & held_shards) != 0)
		wf_engine_sweep(sweep & held_shards);
}

/*
 * How often to look for processes to put away, where there are any: so that none stays much longer than it may.
 */
static int64
passivation_interval(void)
{
	if (wf_passivate_after < 0 || wf_registry_resident_count() == 0)
		return MAX_SLEEP_MS;
	return Max((int64) wf_passivate_after * 250, 500);
}

/*
 * Milliseconds until something is due.
 */
static long
time_to_sleep(void)
{
	int64		now = wf_clock_monotonic_ms();
	int64		ms = Min(MAX_SLEEP_MS, next_sweep - now);
	TimestampTz next = wf_engine_next();

	if (next != DT_NOEND)
		ms = Min(ms, TimestampDifferenceMilliseconds(wf_clock_now(), next));
	if (held_shards != my_shards)
		ms = Min(ms, next_shard_try - now);
	if (statistics_due != 0)
		ms = Min(ms, statistics_due - now);
	ms = Min(ms, passivation_interval());
	ms = Min(ms, wf_scrub_wait());
	return (long) Max(ms, 0);
}

static void
report_statistics(void)
{
	if (statistics_due == 0 || wf_clock_monotonic_ms() < statistics_due)
		return;
	(void) pgstat_report_stat(true);
	statistics_due = 0;
}

static void
sleep_until_due(void)
{
	static uint32 wait_event = 0;
	long		ms = time_to_sleep();

	if (wait_event == 0)
		wait_event = WF_WAIT_EVENT("WfprocWorkerMain");
	if (ms > 0)
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms, wait_event);
}

/*
 * One round: everything that is to be done now.  Sleeps where there was nothing.
 */
static void
work_once(void)
{
	bool		worked;

	ResetLatch(MyLatch);

	/*
	 * one that never sleeps must notice by itself, or the server cannot be
	 * started again
	 */
	if (!PostmasterIsAlive())
		proc_exit(1);
	attend();
	take_shards();
	count_dead();
	drain();
	worked = wf_engine_work();
	worked |= wf_engine_passivate();
	report_statistics();
	/* only who has nothing else to do */
	if (!worked && !wf_scrub_work())
		sleep_until_due();
}

/*
 * An error that no turn has dealt with: reports it and puts the process in order.  What the engine knows is forgotten unless
 * the error says that it is as true as before.
 */
static void
recover(MemoryContext memory)
{
	int			sqlerrcode;

	HOLD_INTERRUPTS();
	disable_all_timeouts(false);
	QueryCancelPending = false;
	EmitErrorReport();
	sqlerrcode = geterrcode();
	/* what a transaction's end does not do where there is none */
	LWLockReleaseAll();
	ConditionVariableCancelSleep();
	pgstat_report_wait_end();
	AbortCurrentTransaction();
	MemoryContextSwitchTo(memory);
	FlushErrorState();
	LockTimeout = LOCK_TIMEOUT_MS;
	if (!wf_error_is_harmless(sqlerrcode))
	{
		wf_engine_forget();
		wf_scrub_forget();
		wf_engine_sweep(held_shards);
	}
	pgstat_report_activity(STATE_IDLE, NULL);
	RESUME_INTERRUPTS();
}

/*
 * Works until an error; returns after having recovered from it.  *errors is how many there were in a row.
 */
static void
work_until_error(MemoryContext memory, int *errors)
{
	PG_TRY();
	{
		for (;;)
		{
			work_once();
			*errors = 0;
			MemoryContextSwitchTo(memory);
			MemoryContextReset(memory);
		}
	}
	PG_CATCH();
	{
		recover(memory);
	}
	PG_END_TRY();
}

static void
pause_after_error(int errors)
{
	int64		until = wf_clock_monotonic_ms() + Min(ERROR_PAUSE_MS << Min(errors, 16), MAX_ERROR_PAUSE_MS);

	while (wf_clock_monotonic_ms() < until)
	{
		nap(ERROR_PAUSE_MS);
		leave_if_unwanted();
	}
}

static void
connect_to(Oid database)
{
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	assert_settings();
	RegisterXactCallback(at_transaction_event, NULL);
}

/*
 * A worker's main function; its argument is the slot.
 */
void
wfproc_worker_main(Datum main_arg)
{
	int			slot = DatumGetInt32(main_arg);
	MemoryContext memory;
	Oid			database;
	int			errors = 0;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	/* one that came since the fork was ignored */
	ConfigReloadPending = true;
	pqsignal(SIGTERM, on_sigterm);
	/* called after the server's own, when the transaction is over */
	before_shmem_exit(detach, (Datum) 0);
	if (!wf_registry_attach(slot, wf_bgworker_generation(), &database, &my_share))
		leave(WF_LEFT_STOPPED);
	wf_suspect_attach(slot);
	BackgroundWorkerUnblockSignals();
	connect_to(database);
	look_for_extension();

	memory = AllocSetContextCreate(TopMemoryContext, "wfproc worker", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(memory);
	for (;;)
	{
		work_until_error(memory, &errors);
		pause_after_error(errors++);
	}
}
