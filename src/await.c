/*
 * await.c: waiting for an instance to close, and the SQL function that does.
 *
 * The backend says in the registry whom it waits for, looks, and sleeps on its latch until a transaction that closes the
 * instance has committed.  It looks with a snapshot of its own each time, for the statement's does not see what was committed
 * since.  A transaction that has itself started the instance, or written to it, would wait in vain: nobody else sees that
 * before it commits.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "await.h"
#include "check.h"
#include "compat.h"
#include "guc.h"
#include "registry.h"
#include "wakeup.h"

PG_FUNCTION_INFO_V1(wfproc_await);

/* longer than that is for ever */
#define MAX_TIMEOUT_US (INT64CONST(100) * 366 * USECS_PER_DAY)

/*
 * Reads the instance's row as of now.
 */
static void
look(WfInstance *instance)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	int64		instance_id = instance->instance_id;

	if (!wf_instance_read(instance_id, snapshot, instance))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the instance does not exist any more"),
				 errdetail("It was removed while this session waited for it to close.")));
	UnregisterSnapshot(snapshot);
}

/*
 * Sleeps until somebody says that the instance has closed, or a minute or so is over: what a prepared transaction closes,
 * nobody tells.
 */
static void
sleep_until(TimestampTz until)
{
	static uint32 wait_event = 0;
	long		ms = wf_sweep_interval;

	if (wait_event == 0)
		wait_event = WF_WAIT_EVENT("WfprocAwait");
	if (until != DT_NOEND)
		ms = Min(ms, TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until));
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms, wait_event);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

static void
end_wait(int code, Datum arg)
{
	wf_registry_wait_end();
}

/*
 * Looks and sleeps by turns.  What a look reads is in a context that the next one empties.
 */
static void
wait_until_closed(WfInstance *instance, TimestampTz until)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "wfproc await", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(memory);

	for (;;)
	{
		look(instance);
		if (WF_IS_CLOSED(instance->status) || (until != DT_NOEND && GetCurrentTimestamp() >= until))
			break;
		sleep_until(until);
		MemoryContextReset(memory);
	}
	MemoryContextSwitchTo(old);
}

/*
 * Refuses to wait for what cannot come.
 */
static void
require_hope(const WfInstance *instance)
{
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot wait for instance \"%s\" during recovery", instance->id),
				 errhint("Await it on the primary server; here await(id, '0') looks without waiting.")));
	if (!wf_registry_available())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no wfproc worker: the library is not in shared_preload_libraries"),
				 errhint("Add wfproc to \"shared_preload_libraries\" and restart the server, or handle events with wfproc.run().")));
}

/*
 * Waits until the instance has closed, at most timeout_us microseconds; negative: without a limit.  *instance, which is as
 * wf_instance_get() returned it, is then as last seen.
 */
void
wf_await_closed(WfInstance *instance, int64 timeout_us)
{
	TimestampTz until = timeout_us < 0 ? DT_NOEND : GetCurrentTimestamp() + timeout_us;

	if (WF_IS_CLOSED(instance->status) || timeout_us == 0)
		return;
	require_hope(instance);
	/* before the first look: whoever closes it after that look tells us */
	PG_ENSURE_ERROR_CLEANUP(end_wait, (Datum) 0);
	{
		wf_registry_wait_begin(instance->instance_id);
		wait_until_closed(instance, until);
	}
	PG_END_ENSURE_ERROR_CLEANUP(end_wait, (Datum) 0);
	end_wait(0, (Datum) 0);
}

/*
 * A time-out in microseconds; negative: none.
 */
static int64
get_timeout(FunctionCallInfo fcinfo, int argno)
{
	Interval   *interval;
	double		us;

	if (PG_ARGISNULL(argno))
		return -1;
	interval = PG_GETARG_INTERVAL_P(argno);
	us = (double) interval->time + ((double) interval->month * DAYS_PER_MONTH + interval->day) * (double) USECS_PER_DAY;
#ifdef INTERVAL_NOT_FINITE
	if (INTERVAL_NOT_FINITE(interval))
		us = -1;
#endif
	if (us < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"timeout\" must not be negative or infinite, got %s",
						DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(interval)))),
				 errhint("NULL waits without a limit, 0 looks without waiting.")));
	return us > (double) MAX_TIMEOUT_US ? -1 : (int64) us;
}

static Datum
make_row(FunctionCallInfo fcinfo, const WfInstance *instance)
{
	TupleDesc	desc;
	Datum		values[2];
	bool		nulls[2] = {false, instance->result == NULL};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = CStringGetTextDatum(wf_instance_status_name(instance->status));
	values[1] = instance->result != NULL ? JsonbPGetDatum(instance->result) : (Datum) 0;
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/*
 * await(id, timeout): the status and result of an instance that has closed, or its status when the time is over.
 */
Datum
wfproc_await(PG_FUNCTION_ARGS)
{
	char	   *id = wf_check_name(fcinfo, 0, "id");
	int64		timeout_us = get_timeout(fcinfo, 1);
	WfInstance	instance;

	wf_check_not_in_handler("await");
	(void) wf_instance_get(id, WF_PRIV_READ, &instance);
	if (!WF_IS_CLOSED(instance.status) && wf_wakeup_has_written(instance.instance_id))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this transaction has itself started or written to instance \"%s\"", id),
				 errdetail("Nobody else can handle that before it commits."),
				 errhint("Commit first, or call wfproc.run().")));
	wf_await_closed(&instance, timeout_us);
	return make_row(fcinfo, &instance);
}
