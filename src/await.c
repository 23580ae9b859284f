/*
 * await.c: waiting until something holds for an instance, and the SQL functions await() and await_state().
 *
 * The backend says in the registry whom it waits for, looks, and sleeps on its latch until a transaction that closes
 * the instance, or adds to its log, has committed.  It looks with a snapshot of its own each time, for the statement's
 * does not see what was committed since.  A transaction that has itself started the instance, or written to it, would
 * wait in vain: nobody else sees that before it commits.
 *
 * call() (call.c) waits in the same way.  These functions lock nothing beyond a look, and write nothing.
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
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/jsonpath.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "await.h"
#include "check.h"
#include "compat.h"
#include "errors.h"
#include "eventlog.h"
#include "guc.h"
#include "instance.h"
#include "registry.h"
#include "replay.h"
#include "wakeup.h"

PG_FUNCTION_INFO_V1(wfproc_await);
PG_FUNCTION_INFO_V1(wfproc_await_state);

/* longer than that is for ever */
#define MAX_TIMEOUT_US (INT64CONST(100) * 366 * USECS_PER_DAY)

/* for await_state() */
typedef struct StateLook
{
	WfInstance	instance;
	JsonPath   *condition;
	int64		seq;			/* the log's last when the state was last
								 * folded; -1: it was not */
	Jsonb	   *state;			/* the one that fits; NULL: none so far */
} StateLook;

/*
 * Sleeps until somebody says that there is something new, or a minute or so is over: of what a prepared transaction
 * did, nobody tells.  Returns whether somebody did.
 */
static bool
sleep_until(TimestampTz until)
{
	static uint32 wait_event = 0;
	long		ms = wf_sweep_interval;
	int			woken;

	if (wait_event == 0)
		wait_event = WF_WAIT_EVENT("WfprocAwait");
	if (until != DT_NOEND)
		ms = Min(ms, TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until));
	woken = WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms, wait_event);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	return (woken & WL_LATCH_SET) != 0;
}

/*
 * Looks and sleeps by turns.  What a look reads is in a context that the next one empties.
 */
static bool
look_and_sleep(TimestampTz until, WfAwaitLook look, void *arg)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "wfproc await", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(memory);
	bool		told = true;
	bool		found;

	while (!(found = look(told, arg)) && (until == DT_NOEND || GetCurrentTimestamp() < until))
	{
		MemoryContextReset(memory);
		told = sleep_until(until);
	}
	MemoryContextSwitchTo(old);
	return found;
}

static void
end_wait(int code, Datum arg)
{
	wf_registry_wait_end();
}

/*
 * Waits until look() says so, at most timeout_us microseconds; negative: without a limit; it looks once at least, and a
 * last time when the time is over.  each_step: after each step of the instance, not only when it has closed.  What the
 * last look left stays in a child of the current memory context.
 */
bool
wf_await_until(int64 instance_id, bool each_step, int64 timeout_us, WfAwaitLook look, void *arg)
{
	TimestampTz until = timeout_us < 0 ? DT_NOEND : GetCurrentTimestamp() + timeout_us;
	bool		found;

	/* before the first look: of what comes after that we are told */
	PG_ENSURE_ERROR_CLEANUP(end_wait, (Datum) 0);
	{
		wf_registry_wait_begin(instance_id, each_step);
		found = look_and_sleep(until, look, arg);
	}
	PG_END_ENSURE_ERROR_CLEANUP(end_wait, (Datum) 0);
	end_wait(0, (Datum) 0);
	return found;
}

/*
 * Refuses to wait for workers where there never are any.
 */
void
wf_await_require_workers(void)
{
	if (!wf_registry_available())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no wfproc worker: the library is not in shared_preload_libraries"),
				 errhint("Add wfproc to \"shared_preload_libraries\" and restart the server, or handle events with wfproc.run().")));
}

/*
 * Refuses to wait for what this transaction itself holds back.
 */
static void
require_committed(const WfInstance *instance)
{
	if (wf_wakeup_has_written(instance->instance_id))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this transaction has itself started or written to instance \"%s\"", instance->id),
				 errdetail("Nobody else can handle that before it commits."),
				 errhint("Commit first, or call wfproc.run().")));
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
				 errhint("Wait on the primary server; here a time-out of 0 looks without waiting.")));
	wf_await_require_workers();
}

/*
 * The argument "timeout" in microseconds; negative: none.  A negative or infinite one is an error.
 */
int64
wf_await_get_timeout(FunctionCallInfo fcinfo, int argno)
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

/*
 * Reads the instance's row as of the snapshot.
 */
static void
read_row(WfInstance *instance, Snapshot snapshot)
{
	int64		instance_id = instance->instance_id;

	if (!wf_instance_read(instance_id, snapshot, instance))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the instance does not exist any more"),
				 errdetail("It was removed while this session waited for it.")));
}

/*
 * A WfAwaitLook: fills the WfInstance.
 */
static bool
look_whether_closed(bool told, void *arg)
{
	WfInstance *instance = arg;
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());

	read_row(instance, snapshot);
	UnregisterSnapshot(snapshot);
	return WF_IS_CLOSED(instance->status);
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
	int64		timeout_us = wf_await_get_timeout(fcinfo, 1);
	WfInstance	instance;

	wf_check_not_in_handler("await");
	(void) wf_instance_get(id, WF_PRIV_READ, &instance);
	if (!WF_IS_CLOSED(instance.status))
	{
		require_committed(&instance);
		if (timeout_us != 0)
		{
			require_hope(&instance);
			(void) wf_await_until(instance.instance_id, false, timeout_us, look_whether_closed, &instance);
		}
	}
	return make_row(fcinfo, &instance);
}

/*
 * Whether a path's outermost operation is a predicate.  One that is neither true nor false gives a null, which counts as
 * found where one asks what the path finds.
 */
static bool
is_predicate(JsonPath *path)
{
	JsonPathItem item;

	jspInit(&item, path);
	if (jspHasNext(&item))
		return false;
	switch (item.type)
	{
		case jpiAnd:
		case jpiOr:
		case jpiNot:
		case jpiIsUnknown:
		case jpiEqual:
		case jpiNotEqual:
		case jpiLess:
		case jpiGreater:
		case jpiLessOrEqual:
		case jpiGreaterOrEqual:
		case jpiExists:
		case jpiStartsWith:
		case jpiLikeRegex:
			return true;
		default:
			return false;
	}
}

/*
 * Calls jsonb @@ jsonpath or jsonb @? jsonpath; *known becomes whether the answer is not NULL.
 */
static bool
ask_path(PGFunction function, Jsonb *state, JsonPath *path, bool *known)
{
	LOCAL_FCINFO(fcinfo, 2);
	Datum		answer;

	InitFunctionCallInfoData(*fcinfo, NULL, 2, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = JsonbPGetDatum(state);
	fcinfo->args[0].isnull = false;
	fcinfo->args[1].value = PointerGetDatum(path);
	fcinfo->args[1].isnull = false;
	answer = function(fcinfo);
	*known = !fcinfo->isnull;
	return *known && DatumGetBool(answer);
}

/*
 * Whether the state fits: where the path gives true or false, that; else where it is no predicate and finds something.
 * An error in evaluating it, such as a division by zero, is no fit.
 */
static bool
fits(Jsonb *state, JsonPath *condition)
{
	bool		known;
	bool		answer = ask_path(jsonb_path_match_opr, state, condition, &known);

	if (known || is_predicate(condition))
		return answer;
	return ask_path(jsonb_path_exists_opr, state, condition, &known);
}

/*
 * The state as of the snapshot, in the current memory context.
 */
static Jsonb *
load_state(const WfInstance *instance, Snapshot snapshot)
{
	WfWorkflow *workflow;
	WfFold		fold;
	WfDivergence divergence;
	int64		snapshot_seq;

	/* there may be a new version since the last look */
	wf_workflow_refresh();
	workflow = wf_workflow_get(instance->workflow_id);
	wf_replay_load(workflow, instance, snapshot, &fold, &snapshot_seq, &divergence);
	if (divergence.seq != 0)
		ereport(ERROR,
				(errcode(ERRCODE_WF_DIVERGED),
				 errmsg("replay of instance \"%s\" differs from its log at seq %lld: %s",
						instance->id, (long long) divergence.seq, divergence.reason),
				 errhint("wfproc.verify() checks the whole log, wfproc.replay() shows each step.")));
	return fold.state;
}

/*
 * A WfAwaitLook: whether the state fits, or never will because the instance has closed.  The log is folded only where
 * it has become longer.
 */
static bool
look_at_state(bool told, void *arg)
{
	StateLook  *look = arg;
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	int64		seq;

	read_row(&look->instance, snapshot);
	seq = wf_eventlog_last(look->instance.instance_id, snapshot, NULL);
	if (seq != look->seq)
	{
		Jsonb	   *state = load_state(&look->instance, snapshot);

		if (fits(state, look->condition))
			look->state = state;
		look->seq = seq;
	}
	UnregisterSnapshot(snapshot);
	return look->state != NULL || WF_IS_CLOSED(look->instance.status);
}

/*
 * await_state(id, condition, timeout): the state that fits; NULL where the time is over or the instance closes without.
 */
Datum
wfproc_await_state(PG_FUNCTION_ARGS)
{
	StateLook	look = {.seq = -1};
	int64		timeout_us;
	char	   *id;

	wf_check_not_in_handler("await_state");
	id = wf_check_name(fcinfo, 0, "id");
	wf_check_not_null(fcinfo, 1, "condition");
	look.condition = PG_GETARG_JSONPATH_P(1);
	timeout_us = wf_await_get_timeout(fcinfo, 2);
	(void) wf_instance_get(id, WF_PRIV_READ, &look.instance);
	if (!look_at_state(true, &look) && timeout_us != 0)
	{
		require_committed(&look.instance);
		require_hope(&look.instance);
		(void) wf_await_until(look.instance.instance_id, true, timeout_us, look_at_state, &look);
	}
	if (look.state == NULL)
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(look.state);
}
