/*
 * scrub.c: checking all instances again and again: that an old log still is what it was, and still leads to the same, is known
 * only if somebody looks.
 *
 * A worker that has nothing else to do checks the instances of its shards one after the other (verify.c), in pieces of a few
 * milliseconds, each a transaction of its own, which end at once where there is mail.  What it has of a long log so far is in
 * its memory.  It goes round by instance_id, from anywhere: a worker that is restarted again and again gets to all of them
 * all the same.  When each was checked, and what was found, is in wfproc.scrub, which only the holder of its shard writes.
 *
 * How much it does is bounded by wfproc.scrub_rate: what a piece has cost must have come in again before the next one.
 *
 * wfproc.scrub() does the same inside its caller's transaction, for the shards that nobody holds and for what that transaction
 * has started itself.
 *
 * A difference that keeps an instance from being activated pauses it; any other is only shown.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "accept.h"
#include "api.h"
#include "catalog.h"
#include "check.h"
#include "clock.h"
#include "engine.h"
#include "errors.h"
#include "gate.h"
#include "guc.h"
#include "handler.h"
#include "registry.h"
#include "scrub.h"
#include "spi.h"
#include "suspect.h"
#include "verify.h"
#include "wakeup.h"
#include "worker.h"

PG_FUNCTION_INFO_V1(wfproc_scrub);

/* one piece */
#define PIECE_MS 5
/* what each costs besides its rows, in rows: an instance, and a look for a number of them */
#define INSTANCE_COST 10
#define LOOK_COST 50
#define LOOK_INSTANCES 200
/* shortest time between two rounds, where wfproc.scrub_age is not shorter still */
#define MIN_ROUND_MS 60000
#define NO_WAIT INT64CONST(86400000)
/* times that a check begins anew because payloads are being erased */
#define MAX_RESTARTS 2
/* what a check died on; the second time it is left alone */
#define DIED "the server went down while it was being checked"
#define DIED_AGAIN DIED ", twice: workers leave it alone"

/* the round of a worker */
typedef struct Round
{
	MemoryContext memory;
	uint64		shards;
	bool		under_way;
	int64		first;			/* began after this instance_id */
	int64		after;			/* how far it has come */
	bool		wrapped;		/* ... from 0 again, up to the first */
	TimestampTz next_at;		/* when the first of those that were passed
								 * over is due */
	int64		queue[LOOK_INSTANCES];	/* to be checked */
	int			queued;
	int			next;
} Round;

/* one instance */
typedef struct Check
{
	MemoryContext memory;
	WfInstance	instance;
	WfVerification *verification;
	int			restarts;
} Check;

static Round *my_round = NULL;
static Check *my_check = NULL;

/* on the monotonic clock, in milliseconds */
static int64 ready_at = 0;
static int64 piece_ends = 0;

/* rows that may be looked at, as of a time; negative: those that were too many */
static double balance = 0;
static int64 balance_at = 0;
static int64 rows_passed = 0;

/*
 * What has come in since, at most what is for one second.
 */
static void
fill_balance(int64 now)
{
	balance = Min(balance + (now - balance_at) * (double) wf_scrub_rate / 1000, wf_scrub_rate);
	balance_at = now;
}

/*
 * Pays for a piece.  Where nothing is left the next one waits until there is enough for a second, so that a small rate means
 * few wake-ups and not small pieces.
 */
static void
pay(double rows)
{
	int64		now = wf_clock_monotonic_ms();

	fill_balance(now);
	balance -= rows;
	if (balance <= 0)
		ready_at = now + (int64) ((wf_scrub_rate - balance) * 1000 / Max(wf_scrub_rate, 1));
}

int64
wf_scrub_wait(void)
{
	return wf_scrub_rate == 0 || wf_worker_shards() == 0 ? NO_WAIT : Max(ready_at - wf_clock_monotonic_ms(), 0);
}

void
wf_scrub_hurry(void)
{
	ready_at = 0;
}

static void
forget_check(void)
{
	if (my_check == NULL)
		return;
	MemoryContextDelete(my_check->memory);
	my_check = NULL;
}

void
wf_scrub_forget(void)
{
	forget_check();
	if (my_round != NULL)
		MemoryContextDelete(my_round->memory);
	my_round = NULL;
}

/*
 * A WfVerifyPause: where the piece has taken its time, or there is something better to do.
 */
static bool
should_pause(void *arg)
{
	rows_passed++;
	return wf_clock_monotonic_ms() >= piece_ends || wf_registry_is_called() || wf_engine_next() <= wf_clock_now();
}

/*
 * Writes down that an instance was checked.  Returns what was found the time before, or NULL, and in *news whether that was
 * something else.
 */
static char *
remember(int64 instance_id, int64 seq, int64 bad_seq, const char *reason, bool *news)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT8OID, TIMESTAMPTZOID, INT8OID, INT8OID, TEXTOID};
	Datum		values[lengthof(types)] = {Int64GetDatum(instance_id), TimestampTzGetDatum(wf_clock_now()), Int64GetDatum(seq)};
	char		nulls[] = {' ', ' ', ' ', reason == NULL || bad_seq < 0 ? 'n' : ' ', reason == NULL ? 'n' : ' '};
	MemoryContext caller = CurrentMemoryContext;
	char	   *before;
	bool		isnull;
	WfSpi		spi;

	values[3] = Int64GetDatum(bad_seq);
	if (reason != NULL)
		values[4] = CStringGetTextDatum(reason);
	wf_spi_begin(&spi);
	(void) wf_spi_execute(&plan,
						  "WITH old AS MATERIALIZED (SELECT first_bad_seq, reason FROM wfproc.scrub WHERE instance_id = $1)"
						  " INSERT INTO wfproc.scrub AS s (instance_id, checked_at, seq, first_bad_seq, reason, found_at)"
						  " VALUES ($1, $2, $3, $4, $5, CASE WHEN $5 IS NOT NULL THEN $2 END)"
						  " ON CONFLICT (instance_id) DO UPDATE SET checked_at = $2, seq = $3, first_bad_seq = $4, reason = $5,"
						  " found_at = CASE WHEN s.reason = $5 AND s.first_bad_seq IS NOT DISTINCT FROM $4 THEN s.found_at"
						  " ELSE excluded.found_at END"
						  " RETURNING (SELECT reason FROM old),"
						  " ROW((SELECT reason FROM old), (SELECT first_bad_seq FROM old)) IS DISTINCT FROM ROW($5, $4)",
						  lengthof(types), types, values, nulls, false, SPI_OK_INSERT_RETURNING);
	before = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	*news = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	before = before == NULL ? NULL : MemoryContextStrdup(caller, before);
	wf_spi_end(&spi);
	return before;
}

/*
 * The end of a check: writes it down, and tells of what is new.  bad_seq negative: unknown.
 */
static void
conclude(const WfInstance *instance, int64 seq, int64 bad_seq, const char *reason)
{
	bool		news;
	char	   *before = remember(instance->instance_id, seq, bad_seq, reason, &news);

	if (reason != NULL && news)
		ereport(WARNING,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 bad_seq < 0 ?
				 errmsg("wfproc: instance \"%s\" could not be checked: %s", instance->id, wf_accept_loggable(reason)) :
				 errmsg("wfproc: instance \"%s\" is not as it should be: event %lld: %s", instance->id, (long long) bad_seq,
						wf_accept_loggable(reason)),
				 errhint("wfproc.verify() checks it again; view wfproc.findings has all that was found.")));
	else if (reason == NULL && before != NULL)
		ereport(wf_registry_is_worker() ? LOG : NOTICE,
				(errmsg("wfproc: instance \"%s\" is as it should be again; what was found before: %s", instance->id,
						wf_accept_loggable(before))));
}

/*
 * What has been written of a check may be lost in a crash: it is done again then.
 */
static void
commit_lazily(void)
{
	(void) set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}

static void
begin_transaction(void)
{
	wf_worker_begin();
	pgstat_report_activity(STATE_RUNNING, "wfproc: checking logs");
	wf_workflow_refresh();
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
end_transaction(void)
{
	PopActiveSnapshot();
	wf_worker_commit();
	wf_handler_keep_settings();
}

/*
 * The greatest instance_id; 0: there is none.
 */
static int64
greatest_id(void)
{
	static SPIPlanPtr plan = NULL;
	int64		greatest;
	bool		isnull;
	WfSpi		spi;

	wf_spi_begin(&spi);
	(void) wf_spi_execute(&plan, "SELECT coalesce(max(instance_id), 0) FROM wfproc.instance", 0, NULL, NULL, NULL, true, SPI_OK_SELECT);
	greatest = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	wf_spi_end(&spi);
	return greatest;
}

/*
 * A round begins: a worker's first one anywhere.
 */
static void
begin_round(void)
{
	bool		anywhere = my_round == NULL;

	if (my_round == NULL)
	{
		MemoryContext memory = AllocSetContextCreate(TopMemoryContext, "wfproc scrub", ALLOCSET_SMALL_SIZES);

		my_round = MemoryContextAllocZero(memory, sizeof(Round));
		my_round->memory = memory;
		my_round->shards = wf_worker_shards();
	}
	my_round->first = anywhere ? (int64) ((uint64) GetCurrentTimestamp() % (greatest_id() + 1)) : 0;
	my_round->after = my_round->first;
	my_round->wrapped = my_round->first == 0;
	my_round->under_way = true;
	my_round->next_at = wf_clock_now() + wf_scrub_age * USECS_PER_SEC;
	my_round->queued = my_round->next = 0;
}

/*
 * One of those that were looked at: is it due?
 */
static void
consider(int64 instance_id, int workflow_id, TimestampTz checked_at, TimestampTz now)
{
	WfWorkflow *workflow = wf_workflow_find(workflow_id);
	TimestampTz due = checked_at == DT_NOBEGIN ? checked_at : checked_at + wf_scrub_age * USECS_PER_SEC;

	my_round->after = instance_id;
	if ((my_round->shards & (UINT64CONST(1) << wf_shard_of(instance_id))) == 0 || workflow == NULL || !workflow->at_home ||
		(my_round->wrapped && my_round->first > 0 && instance_id > my_round->first))
		return;
	/* a clock that was set back must not keep all from being checked */
	if (due <= now || checked_at > now)
		my_round->queue[my_round->queued++] = instance_id;
	else
		my_round->next_at = Min(my_round->next_at, due);
}

/*
 * Looks at the next instances.  False: the round is over.
 */
static bool
look(void)
{
	static SPIPlanPtr plan = NULL;
	const Oid	types[] = {INT8OID, INT4OID, TEXTOID};
	Datum		values[] = {Int64GetDatum(my_round->after), Int32GetDatum(LOOK_INSTANCES), CStringGetTextDatum(DIED_AGAIN)};
	TimestampTz now = wf_clock_now();
	WfSpi		spi;
	int			count;

	my_round->queued = my_round->next = 0;
	wf_spi_begin(&spi);
	/* a scalar subquery, so that it is looked up whatever the planner thinks */
	count = wf_spi_execute(&plan,
						   "SELECT i.instance_id, i.workflow_id,"
						   " (SELECT CASE WHEN s.reason = $3 THEN 'infinity' ELSE s.checked_at END"
						   " FROM wfproc.scrub s WHERE s.instance_id = i.instance_id)"
						   " FROM (SELECT instance_id, workflow_id FROM wfproc.instance WHERE instance_id > $1"
						   " ORDER BY instance_id LIMIT $2) i",
						   lengthof(types), types, values, NULL, true, SPI_OK_SELECT);
	for (int i = 0; i < count; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;
		Datum		instance_id = SPI_getbinval(tuple, desc, 1, &isnull);
		Datum		workflow_id = SPI_getbinval(tuple, desc, 2, &isnull);
		Datum		checked_at = SPI_getbinval(tuple, desc, 3, &isnull);

		if (isnull || DatumGetTimestampTz(checked_at) != DT_NOEND)
			consider(DatumGetInt64(instance_id), DatumGetInt32(workflow_id),
					 isnull ? DT_NOBEGIN : DatumGetTimestampTz(checked_at), now);
	}
	wf_spi_end(&spi);
	if (count == LOOK_INSTANCES && (!my_round->wrapped || my_round->first == 0 || my_round->after < my_round->first))
		return true;
	if (my_round->wrapped)
		return my_round->queued > 0;
	my_round->wrapped = true;
	my_round->after = 0;
	return true;
}

/*
 * All were looked at: the next round begins when the first is due.
 */
static void
end_round(void)
{
	int64		ms = TimestampDifferenceMilliseconds(wf_clock_now(), my_round->next_at);

	my_round->under_way = false;
	ready_at = wf_clock_monotonic_ms() + Max(ms, Min(wf_scrub_age * INT64CONST(1000), MIN_ROUND_MS));
}

/*
 * Finds out who is next, in a transaction.  What is in the queue was looked at a while ago, and may have been checked since by
 * somebody else: that does no harm.
 */
static void
find_next(void)
{
	bool		more;

	begin_transaction();
	if (my_round == NULL || !my_round->under_way)
		begin_round();
	more = look();
	end_transaction();
	pay(LOOK_COST);
	if (!more)
		end_round();
}

/*
 * Takes the next of the queue.  False where it is not there any more.
 */
static bool
begin_check(void)
{
	int64		instance_id = my_round->queue[my_round->next++];
	MemoryContext memory = AllocSetContextCreate(my_round->memory, "wfproc check", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(memory);

	my_check = palloc0(sizeof(Check));
	my_check->memory = memory;
	if (wf_instance_read(instance_id, GetActiveSnapshot(), &my_check->instance))
		my_check->verification = wf_verify_begin(&my_check->instance);
	MemoryContextSwitchTo(old);
	return my_check->verification != NULL;
}

/*
 * Begins the check anew where what it has found is of no use.
 */
static bool
begin_again(void)
{
	MemoryContext old;

	if (!wf_verify_is_void(my_check->verification) || my_check->restarts++ >= MAX_RESTARTS)
		return false;
	old = MemoryContextSwitchTo(my_check->memory);
	my_check->verification = wf_verify_begin(&my_check->instance);
	MemoryContextSwitchTo(old);
	return true;
}

/*
 * One piece of a check, in a transaction.  Returns whether it is the last one: then *bad says whether there is a finding.
 */
static bool
check_piece(bool *bad)
{
	const WfDivergence *finding;
	bool		done;

	*bad = false;
	begin_transaction();
	done = my_check == NULL && !begin_check();
	if (!done)
	{
		wf_suspect_begin(my_check->instance.instance_id, WF_SUSPECT_CHECK);
		done = wf_verify_go_on(my_check->verification, wf_workflow_get(my_check->instance.workflow_id), GetActiveSnapshot(),
							   should_pause, NULL);
		wf_suspect_end();
		if (done && !begin_again())
		{
			finding = wf_verify_finding(my_check->verification);
			*bad = finding->reason != NULL;
			conclude(&my_check->instance, wf_verify_seq(my_check->verification), finding->seq, finding->reason);
			commit_lazily();
		}
		else
			done = false;
	}
	end_transaction();
	return done;
}

/*
 * A check has raised: that its rows cannot be read is a finding, too.  What passes says nothing about the instance, which the
 * next round checks; it may be its handler's error, whose message may quote a payload.
 */
static void
note_failure(const ErrorData *error)
{
	if (my_check == NULL || wf_error_is_passing(error))
	{
		ereport(LOG,
				(errcode(error->sqlerrcode),
				 errmsg("wfproc: a check of an instance was given up: SQLSTATE %s", unpack_sql_state(error->sqlerrcode))));
		return;
	}
	begin_transaction();
	conclude(&my_check->instance, 0, -1, psprintf("check failed: SQLSTATE %s", unpack_sql_state(error->sqlerrcode)));
	end_transaction();
}

/*
 * check_piece(), with an error as its end.
 */
static bool
try_piece(bool *bad)
{
	MemoryContext caller = CurrentMemoryContext;
	bool		done;

	PG_TRY();
	{
		done = check_piece(bad);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		wf_suspect_end();
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		AbortCurrentTransaction();
		note_failure(error);
		done = true;
		*bad = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	return done;
}

/*
 * Checks on.
 */
static void
check_on(void)
{
	int64		recheck = 0;
	bool		bad;
	bool		done;

	piece_ends = wf_clock_monotonic_ms() + PIECE_MS;
	rows_passed = 0;
	done = try_piece(&bad);
	if (bad && !WF_IS_CLOSED(my_check->instance.status))
		recheck = my_check->instance.instance_id;
	if (done)
		forget_check();
	/* each row is met twice */
	pay(rows_passed / 2.0 + (done ? INSTANCE_COST : 0));
	if (recheck != 0)
		wf_engine_recheck(recheck);
}

/*
 * A piece of the work, where the rate allows it.
 */
bool
wf_scrub_work(void)
{
	if (wf_scrub_rate == 0 || wf_worker_shards() == 0 || wf_clock_monotonic_ms() < ready_at)
		return false;
	if (my_round != NULL && my_round->shards != wf_worker_shards())
		wf_scrub_forget();
	if (my_check == NULL && (my_round == NULL || my_round->next == my_round->queued))
		find_next();
	else
		check_on();
	return true;
}

/*
 * What was found when an instance was last checked; NULL: nothing.
 */
static char *
last_finding(int64 instance_id)
{
	static SPIPlanPtr plan = NULL;
	const Oid	types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(instance_id)};
	MemoryContext caller = CurrentMemoryContext;
	char	   *reason = NULL;
	WfSpi		spi;

	wf_spi_begin(&spi);
	if (wf_spi_execute(&plan, "SELECT reason FROM wfproc.scrub WHERE instance_id = $1", lengthof(types), types, values, NULL, true,
					   SPI_OK_SELECT) > 0)
		reason = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	reason = reason == NULL ? NULL : MemoryContextStrdup(caller, reason);
	wf_spi_end(&spi);
	return reason;
}

/*
 * A worker has died as it checked these.
 */
void
wf_scrub_blame(const WfSuspect *suspects, int count)
{
	for (int i = 0; i < count; i++)
	{
		WfInstance	instance;
		char	   *before;

		if (suspects[i].seq != WF_SUSPECT_CHECK)
			continue;
		begin_transaction();
		if (wf_instance_read(suspects[i].instance_id, GetActiveSnapshot(), &instance))
		{
			before = last_finding(instance.instance_id);
			conclude(&instance, 0, -1, before != NULL && strncmp(before, DIED, strlen(DIED)) == 0 ? DIED_AGAIN : DIED);
		}
		end_transaction();
	}
}

/*
 * What this transaction has started, as an array.
 */
static Datum
started_here(void)
{
	int			count = wf_wakeup_started_count();
	int64	   *started = palloc(Max(count, 1) * sizeof(int64));
	Datum	   *datums = palloc(Max(count, 1) * sizeof(Datum));

	count = wf_wakeup_started(started, count);
	for (int i = 0; i < count; i++)
		datums[i] = Int64GetDatum(started[i]);
	return PointerGetDatum(construct_array(datums, count, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/*
 * The instances of these shards, in the order in which they are to be checked, at most max of them.
 */
static ArrayType *
all_instances(uint64 shards, int max)
{
	static SPIPlanPtr plan = NULL;
	const Oid	types[] = {INT8OID, INT8OID, INT8ARRAYOID};
	Datum		values[] = {Int64GetDatum((int64) shards), Int64GetDatum(max < 0 ? PG_INT64_MAX : max), started_here()};
	MemoryContext caller = CurrentMemoryContext;
	ArrayType  *result;
	bool		isnull;
	WfSpi		spi;

	wf_spi_begin(&spi);
	(void) wf_spi_execute(&plan,
						  "SELECT coalesce(array_agg(instance_id), '{}') FROM (SELECT i.instance_id FROM wfproc.instance i"
						  " LEFT JOIN wfproc.scrub s USING (instance_id) WHERE ($1 >> (i.instance_id % 64)::int) & 1 = 1"
						  " OR i.instance_id = ANY ($3)"
						  " ORDER BY s.checked_at NULLS FIRST, i.instance_id LIMIT $2) x",
						  lengthof(types), types, values, NULL, false, SPI_OK_SELECT);
	result = DatumGetArrayTypeP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	MemoryContextSwitchTo(caller);
	result = memcpy(palloc(VARSIZE(result)), result, VARSIZE(result));
	wf_spi_end(&spi);
	return result;
}

/*
 * Checks one in the caller's transaction.  Returns the rows of its log, at least 1; 0: it is not there.
 */
static int64
check_here(int64 instance_id, uint64 shards)
{
	WfInstance	instance;
	WfDivergence bad;
	WfVerification *verification;
	int64		rows = 0;

	PushActiveSnapshot(GetLatestSnapshot());
	if (wf_instance_read(instance_id, GetActiveSnapshot(), &instance))
	{
		verification = wf_verify_begin(&instance);
		(void) wf_verify_go_on(verification, wf_workflow_get(instance.workflow_id), GetActiveSnapshot(), NULL, NULL);
		bad = *wf_verify_finding(verification);
		rows = Max(wf_verify_seq(verification), 1);
		conclude(&instance, wf_verify_seq(verification), bad.seq, bad.reason);
		if (bad.reason != NULL && !WF_IS_CLOSED(instance.status))
			wf_engine_recheck_here(instance_id, shards);
	}
	PopActiveSnapshot();
	return rows;
}

static void
require_owner(void)
{
	if (!has_privs_of_role(GetUserId(), wf_catalog_owner()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to check all instances"),
				 errhint("Only the owner of extension \"wfproc\", role \"%s\", can do that; wfproc.verify() checks one.",
						 GetUserNameFromId(wf_catalog_owner(), false))));
}

/*
 * scrub(max_rows) -> how many instances were checked
 */
Datum
wfproc_scrub(PG_FUNCTION_ARGS)
{
	int			max_rows = PG_ARGISNULL(0) ? -1 : PG_GETARG_INT32(0);
	MemoryContext memory;
	uint64		shards;
	ArrayType  *instances;
	int64		rows = 0;
	int64		count = 0;

	wf_api_prepare_to_write("scrub", "check instances");
	require_owner();
	if (!PG_ARGISNULL(0) && max_rows < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"max_rows\" must be positive, got %d", max_rows),
				 errhint("NULL is for all instances.")));
	CommandCounterIncrement();
	wf_workflow_refresh();
	shards = wf_gate_take_free_shards();
	PushActiveSnapshot(GetLatestSnapshot());
	instances = all_instances(shards, max_rows);
	PopActiveSnapshot();
	memory = AllocSetContextCreate(CurrentMemoryContext, "wfproc scrub", ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < ArrayGetNItems(ARR_NDIM(instances), ARR_DIMS(instances)) && (max_rows < 0 || rows < max_rows); i++)
	{
		MemoryContext old = MemoryContextSwitchTo(memory);
		int64		checked = check_here(((int64 *) ARR_DATA_PTR(instances))[i], shards);

		CHECK_FOR_INTERRUPTS();
		rows += checked;
		count += checked > 0;
		MemoryContextSwitchTo(old);
		MemoryContextReset(memory);
	}
	MemoryContextDelete(memory);
	PG_RETURN_INT64(count);
}
