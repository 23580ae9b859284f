/*
 * engine.c: turns, one after the other.
 *
 * A worker's engine lives as long as the process; its functions are called by worker.c outside of any transaction, and run
 * each turn in a transaction of its own.  run()'s is made for one call, inside the caller's transaction.
 *
 * Where a turn fails in its own SQL, nobody can say whose fault it was: it is rolled back, and those who were in it take
 * the next turns one by one, so that the one that cannot is found and waits, and the others go on.
 *
 * The sweep is the safety net under the wake-ups: it walks the index on (shard, at) piece by piece, so that a backlog of a
 * million does not hold up a turn.  It advances in all shards about evenly, and turns handle nothing that is later than
 * where it has got to: so processes of different shards catch up together.
 */
#include "postgres.h"

#include <limits.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "address.h"
#include "catalog.h"
#include "check.h"
#include "clock.h"
#include "engine.h"
#include "gate.h"
#include "guc.h"
#include "handler.h"
#include "mailbox.h"
#include "registry.h"
#include "snapshot.h"
#include "turn.h"
#include "wakeup.h"
#include "worker.h"

/* kept between turns: what a full batch needs, so that its pages are not given back and faulted in again */
#define TURN_MEMORY_KEPT (16 * 1024 * 1024)
/* one piece of a sweep, and what is read of one shard at a time */
#define SWEEP_ROWS 20000
#define SWEEP_SHARD_ROWS 500
/* instances that a turn takes */
#define MAX_INSTANCES 2000
/* one piece of passivation */
#define PASSIVATE_MAX 1000
/* of what is in memory, how much more may be free there, and not the system's */
#define FREE_PART 16
#define FREE_BYTES (1024 * 1024)
/* of wfproc.worker_memory, for addresses */
#define ADDRESSES_PART 8
/* how long an instance waits whose turn fails, for somebody else's lock or not, and one whose mail somebody has in hand */
#define FAILED_DELAY_US (5 * USECS_PER_SEC)
#define LOCKED_DELAY_US (100 * 1000)
#define CONFLICT_DELAY_US (20 * 1000)
/* shortest time between two lines in the log that speak of locks */
#define LOCKED_TELL_US (10 * USECS_PER_SEC)

typedef struct Sweep
{
	uint64		shards;			/* still to be looked through */
	TimestampTz from[WF_SHARDS];	/* from here on */
} Sweep;

typedef struct Engine
{
	MemoryContext memory;
	MemoryContext turn_memory;
	WfScheduler *scheduler;
	WfResidents *residents;
	WfAddresses *addresses;
	Sweep		sweep;
	uint64		shards;			/* run()'s */
	int			single;			/* so many turns take one instance only */
	TimestampTz cut_at;			/* where the last turn had to stop reading */
	TimestampTz told_at;		/* when the log was told of locks */
	Size		peak;			/* of what processes had from the system,
								 * since it got some back */
} Engine;

static Engine *worker_engine = NULL;

static Engine *
create_engine(MemoryContext parent, bool worker)
{
	MemoryContext memory = AllocSetContextCreate(parent, "wfproc engine", ALLOCSET_SMALL_SIZES);
	Engine	   *engine = MemoryContextAllocZero(memory, sizeof(Engine));

	engine->memory = memory;
	engine->cut_at = DT_NOEND;
	engine->turn_memory = AllocSetContextCreate(memory, "wfproc turn", worker ? TURN_MEMORY_KEPT : 0,
												1024 * 1024, Max(TURN_MEMORY_KEPT, ALLOCSET_DEFAULT_MAXSIZE));
	engine->scheduler = wf_scheduler_create(memory);
	engine->residents = wf_resident_create(memory, worker);
	engine->addresses = wf_addresses_create(memory);
	return engine;
}

/*
 * The worker's engine, made when first asked for.
 */
static Engine *
my_engine(void)
{
	if (worker_engine == NULL)
		worker_engine = create_engine(TopMemoryContext, true);
	return worker_engine;
}

/*
 * Mail that is due later than this is left to a later sweep, so that the scheduler holds what is near and not a million
 * timers of next year.
 */
static TimestampTz
horizon(TimestampTz now)
{
	return now + 2 * (int64) wf_sweep_interval * 1000;
}

void
wf_engine_wake(int64 instance_id, TimestampTz at)
{
	if (at <= horizon(wf_clock_now()))
		wf_scheduler_wake(my_engine()->scheduler, instance_id, at, true);
}

static void
sweep_all(Engine *engine, uint64 shards)
{
	Sweep	   *sweep = &engine->sweep;

	/* mail may have come behind the place that a sweep under way has reached */
	sweep->shards |= shards;
	for (int shard = 0; shard < WF_SHARDS; shard++)
		if ((shards & (UINT64CONST(1) << shard)) != 0)
			sweep->from[shard] = DT_NOBEGIN;
}

void
wf_engine_sweep(uint64 shards)
{
	sweep_all(my_engine(), shards);
}

static void
wake_due(int64 instance_id, TimestampTz at, void *scheduler)
{
	wf_scheduler_wake(scheduler, instance_id, at, false);
}

/*
 * The shard whose sweep is furthest behind, or -1: there is none to be swept.
 */
static int
rearmost_shard(const Sweep *sweep)
{
	int			rearmost = -1;

	for (int shard = 0; shard < WF_SHARDS; shard++)
		if ((sweep->shards & (UINT64CONST(1) << shard)) != 0 &&
			(rearmost < 0 || sweep->from[shard] < sweep->from[rearmost]))
			rearmost = shard;
	return rearmost;
}

/*
 * One piece of the sweep that has been asked for: about so many rows.
 */
static void
sweep_piece(Engine *engine, TimestampTz upto, int rows)
{
	Sweep	   *sweep = &engine->sweep;
	int			shard;

	while (rows > 0 && (shard = rearmost_shard(sweep)) >= 0)
	{
		int			share = Min(rows, SWEEP_SHARD_ROWS);
		int			left = share;

		if (wf_mailbox_find_due(shard, &sweep->from[shard], upto, &left, wake_due, engine->scheduler))
			sweep->shards &= ~(UINT64CONST(1) << shard);
		rows -= Max(share - left, 1);
	}
}

/*
 * All that is due before this is known.
 */
static TimestampTz
frontier(const Sweep *sweep)
{
	int			shard = rearmost_shard(sweep);

	return shard < 0 ? DT_NOEND : sweep->from[shard];
}

static void
init_turn(WfTurn *turn, Engine *engine, bool worker, uint64 shards, int max_events)
{
	memset(turn, 0, sizeof(WfTurn));
	turn->scheduler = engine->scheduler;
	turn->residents = engine->residents;
	turn->memory = engine->turn_memory;
	turn->addresses = engine->addresses;
	turn->worker = worker;
	turn->userid = GetUserId();
	turn->shards = shards;
	turn->now = wf_clock_now();
	turn->horizon = worker ? horizon(turn->now) : DT_NOEND;
	turn->max_events = max_events;
	turn->before = frontier(&engine->sweep);
	turn->unswept = engine->sweep.shards;
	turn->cut_at = engine->cut_at;
	turn->single = engine->single > 0;
	turn->max_instances = turn->single ? 1 : Min(max_events, MAX_INSTANCES);
}

/*
 * Whether a turn has failed for what others had locked for too long: a catalog or a table of somebody's, for ours are locked
 * before it begins (gate.c).
 */
static bool
is_locked(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE || error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED;
}

/*
 * Says that a turn was rolled back; of locks not each time, for such turns follow each other.
 */
static void
tell_of_failure(Engine *engine, const WfTurn *turn, const ErrorData *error)
{
	bool		harmless = is_locked(error) || error->sqlerrcode == ERRCODE_QUERY_CANCELED;

	if (is_locked(error))
	{
		if (engine->told_at > turn->now - LOCKED_TELL_US && engine->told_at <= turn->now)
			return;
		engine->told_at = turn->now;
	}
	ereport(harmless ? LOG : WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("wfproc: a turn of %d instances was rolled back: %s", turn->taken_count, error->message),
			 errdetail("Their events stay in the mailbox and are handled again.")));
}

/*
 * A turn of the worker has failed, and is rolled back.  What is known of those who were in it is forgotten where it may be
 * the cause.  A cancel may come again, too, with the same instance.
 */
static void
recover(Engine *engine, WfTurn *turn, const ErrorData *error)
{
	bool		cancelled = error->sqlerrcode == ERRCODE_QUERY_CANCELED;

	wf_registry_count_turn(0, true, error->message);
	if (wf_turn_conflict != 0)
	{
		wf_turn_put_back(turn, wf_turn_conflict, wf_clock_now() + CONFLICT_DELAY_US);
		return;
	}
	tell_of_failure(engine, turn, error);
	for (int i = 0; i < turn->ready_count && !cancelled && !is_locked(error); i++)
		wf_resident_drop(engine->residents, turn->ready[i].instance_id);
	if (turn->taken_count == 1)
		wf_turn_put_back(turn, turn->ready[0].instance_id,
						 wf_clock_now() + (is_locked(error) ? LOCKED_DELAY_US : FAILED_DELAY_US));
	else
	{
		wf_turn_put_back(turn, 0, 0);
		engine->single = turn->taken_count;
	}
}

/*
 * The transaction of one turn.  Returns how many events were handled.
 */
static int
turn_transaction(Engine *engine, WfTurn *turn)
{
	int			handled;

	wf_worker_begin();
	handled = wf_turn_run(turn);
	wf_worker_commit();
	wf_handler_keep_settings();
	wf_turn_settle(turn);
	engine->cut_at = turn->cut_at;
	wf_registry_count_turn(handled, false, NULL);
	if (engine->single > 0)
		engine->single--;
	return handled;
}

static void
worker_turn(Engine *engine)
{
	MemoryContext old = CurrentMemoryContext;
	WfTurn		turn;

	init_turn(&turn, engine, true, wf_worker_shards(), wf_batch_size);
	PG_TRY();
	{
		(void) turn_transaction(engine, &turn);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(engine->turn_memory);
		error = CopyErrorData();
		FlushErrorState();
		AbortCurrentTransaction();
		recover(engine, &turn, error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	MemoryContextReset(engine->turn_memory);
}

/*
 * A piece of the sweep, where one is asked for, and a turn, where somebody is due.  Returns false where there was neither.
 */
bool
wf_engine_work(void)
{
	Engine	   *engine = my_engine();
	bool		worked = false;

	if (engine->sweep.shards != 0)
	{
		wf_worker_begin();
		sweep_piece(engine, horizon(wf_clock_now()), SWEEP_ROWS);
		wf_worker_commit();
		worked = true;
	}
	if (wf_scheduler_next(engine->scheduler) <= wf_clock_now())
	{
		worker_turn(engine);
		worked = true;
	}
	return worked;
}

TimestampTz
wf_engine_next(void)
{
	return wf_scheduler_next(my_engine()->scheduler);
}

/*
 * Whether a process is to leave: idle for long, or one of those that do not fit.
 */
static bool
is_to_leave(const WfProcess *process, Size excess, TimestampTz now)
{
	return excess > 0 ||
		(wf_passivate_after >= 0 && process->last_used <= now - wf_passivate_after * USECS_PER_SEC);
}

/*
 * What processes may take of wfproc.worker_memory: what else grows with their number takes the rest of it, but never all.
 */
static Size
resident_limit(const Engine *engine)
{
	Size		limit = (Size) wf_worker_memory * 1024;
	Size		others = wf_scheduler_bytes(engine->scheduler) + wf_addresses_bytes(engine->addresses) +
		wf_registry_roster_bytes();

	return limit - Min(others, limit / 2);
}

/*
 * Collects those that are to leave, longest idle first.
 */
static int
choose_leavers(Engine *engine, WfProcess **leavers, bool *unsaved)
{
	Size		limit = resident_limit(engine);
	Size		bytes = wf_resident_bytes(engine->residents);
	TimestampTz now = wf_clock_now();
	WfProcess  *process = wf_resident_oldest(engine->residents);
	int			count = 0;

	*unsaved = false;
	while (process != NULL && count < PASSIVATE_MAX && is_to_leave(process, bytes > limit ? bytes - limit : 0, now))
	{
		leavers[count++] = process;
		bytes -= wf_resident_bytes_of(process);
		if (process->fold.started && process->fold.seq > process->snapshot_seq)
			*unsaved = true;
		process = wf_resident_newer(engine->residents, process);
	}
	return count;
}

/*
 * Puts some processes away: with a snapshot where theirs is not of the present.  Returns true where there may be more.
 */
static bool
passivate(Engine *engine)
{
	WfProcess  *leavers[PASSIVATE_MAX];
	bool		unsaved;
	int			count = choose_leavers(engine, leavers, &unsaved);

	if (unsaved)
	{
		wf_worker_begin();
		for (int i = 0; i < count; i++)
			if (leavers[i]->fold.started && leavers[i]->fold.seq > leavers[i]->snapshot_seq)
				wf_snapshot_store(leavers[i]->node.instance_id, &leavers[i]->fold);
		wf_worker_commit();
	}
	for (int i = 0; i < count; i++)
		wf_resident_drop(engine->residents, leavers[i]->node.instance_id);
	return count == PASSIVATE_MAX;
}

/*
 * What was freed goes back to the system.  glibc keeps it, as far as it is not at the very end of what it has, and up to
 * twice the size of the largest block that it has ever been given back.
 */
static void
give_back(Engine *engine)
{
	Size		bytes = wf_resident_allocated(engine->residents) + wf_scheduler_bytes(engine->scheduler) +
		wf_addresses_bytes(engine->addresses);

	engine->peak = Max(engine->peak, bytes);
	if (engine->peak - bytes < FREE_BYTES + bytes / FREE_PART)
		return;
	engine->peak = bytes;
#ifdef __GLIBC__
	(void) malloc_trim(0);
#endif
}

/*
 * Puts processes away: those that do not fit all at once, those that are idle some at a time.  Returns true where there may
 * be more to be done.
 */
bool
wf_engine_passivate(void)
{
	Engine	   *engine = my_engine();
	bool		more;

	if (wf_addresses_bytes(engine->addresses) > (Size) wf_worker_memory * 1024 / ADDRESSES_PART)
		wf_addresses_forget(engine->addresses);
	while ((more = passivate(engine)) && wf_resident_bytes(engine->residents) > resident_limit(engine))
		CHECK_FOR_INTERRUPTS();
	more |= wf_resident_tidy(engine->residents);
	give_back(engine);
	return more;
}

/*
 * The worker's shards are given up, or what it knows is in doubt: forgets everything.
 */
void
wf_engine_forget(void)
{
	WfProcess  *process;

	if (worker_engine == NULL)
		return;
	while ((process = wf_resident_oldest(worker_engine->residents)) != NULL)
		wf_resident_drop(worker_engine->residents, process->node.instance_id);
	MemoryContextDelete(worker_engine->memory);
	worker_engine = NULL;
}

/*
 * Counts, in a transaction of its own and before anything is handled again, that a worker died while these instances
 * handled these events.
 */
void
wf_engine_blame(const WfSuspect *suspects, int count)
{
	Engine	   *engine = my_engine();
	WfTurn		turn;

	init_turn(&turn, engine, true, wf_worker_shards(), 1);
	wf_worker_begin();
	wf_turn_blame(&turn, suspects, count);
	wf_worker_commit();
	MemoryContextReset(engine->turn_memory);
}

/*
 * An instance is not as it was.  Where it could not be activated it pauses, as if it had been, and leaves memory without a
 * snapshot: what is in the tables stays as it was found.
 */
void
wf_engine_recheck(int64 instance_id)
{
	Engine	   *engine = my_engine();
	WfTurn		turn;
	bool		broken;

	init_turn(&turn, engine, true, wf_worker_shards(), 1);
	wf_worker_begin();
	broken = wf_turn_recheck(&turn, instance_id);
	wf_worker_commit();
	if (broken)
		wf_resident_drop(engine->residents, instance_id);
	MemoryContextReset(engine->turn_memory);
}

void
wf_engine_recheck_here(int64 instance_id, uint64 shards)
{
	Engine	   *engine = create_engine(CurrentMemoryContext, false);
	WfTurn		turn;

	init_turn(&turn, engine, false, shards, 1);
	turn.userid = BOOTSTRAP_SUPERUSERID;
	(void) wf_turn_recheck(&turn, instance_id);
	MemoryContextDelete(engine->memory);
}

/*
 * run()'s scheduler: what is due in the shards that nobody holds, and the instances that this very transaction has
 * started, which nobody else can see yet.
 */
static void
find_due(Engine *engine)
{
	int			count = wf_wakeup_started_count();
	int64	   *started = palloc(Max(count, 1) * sizeof(int64));

	engine->shards = wf_gate_take_free_shards();
	sweep_all(engine, engine->shards);
	sweep_piece(engine, wf_clock_now(), INT_MAX);
	count = wf_wakeup_started(started, count);
	for (int i = 0; i < count; i++)
		wf_scheduler_wake(engine->scheduler, started[i], WF_AT_ONCE, false);
	pfree(started);
}

static int64
run_turns(Engine *engine, int64 max_events)
{
	int64		handled = 0;

	while (max_events < 0 || handled < max_events)
	{
		int			batch = max_events < 0 ? wf_batch_size : (int) Min(wf_batch_size, max_events - handled);
		WfTurn		turn;

		if (wf_scheduler_next(engine->scheduler) > wf_clock_now())
			break;
		init_turn(&turn, engine, false, engine->shards, batch);
		handled += wf_turn_run(&turn);
		wf_turn_settle(&turn);
		engine->cut_at = turn.cut_at;
		MemoryContextReset(engine->turn_memory);
	}
	return handled;
}

int64
wf_engine_run(int64 max_events)
{
	Engine	   *engine;
	int64		handled;

	wf_check_not_in_handler("run");
	wf_check_can_write("handle events");
	if (XactIsoLevel != XACT_READ_COMMITTED)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("run() needs a READ COMMITTED transaction, this one is %s",
						XactIsoLevel == XACT_SERIALIZABLE ? "SERIALIZABLE" : "REPEATABLE READ"),
				 errhint("It must see events that were committed since the transaction began.")));

	/*
	 * what the calling statement itself has sent, as in SELECT send(...),
	 * run()
	 */
	CommandCounterIncrement();
	engine = create_engine(CurrentMemoryContext, false);
	find_due(engine);
	handled = run_turns(engine, max_events);
	MemoryContextDelete(engine->memory);
	return handled;
}
