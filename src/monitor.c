/*
 * monitor.c: the SQL functions that read an instance: state (and states), digest, history, agenda, replay, compare, verify;
 * and the trigger that keeps the log as it is.
 *
 * All look through the caller's snapshot, so that they agree with each other and with a plain SELECT in one statement.
 * They never act and never write: they work in a read-only transaction and on a standby.  The caller must have the right to
 * read the instance's workflow.  Folding calls the handler, as the workflow's owner and read-only (replay.h).
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "action.h"
#include "census.h"
#include "check.h"
#include "clock.h"
#include "compat.h"
#include "errors.h"
#include "eventlog.h"
#include "instance.h"
#include "mailbox.h"
#include "replay.h"
#include "rows.h"
#include "verify.h"

/* most rows that one call of history() or agenda() returns */
#define MAX_LIST 100000

PG_FUNCTION_INFO_V1(wfproc_state);
PG_FUNCTION_INFO_V1(wfproc_states);
PG_FUNCTION_INFO_V1(wfproc_compare);
PG_FUNCTION_INFO_V1(wfproc_digest);
PG_FUNCTION_INFO_V1(wfproc_history);
PG_FUNCTION_INFO_V1(wfproc_agenda);
PG_FUNCTION_INFO_V1(wfproc_replay);
PG_FUNCTION_INFO_V1(wfproc_verify);
PG_FUNCTION_INFO_V1(wfproc_refuse_change);

/*
 * The instance that the first argument names, for a caller who may read it.
 */
static WfWorkflow *
get_readable(FunctionCallInfo fcinfo, WfInstance *instance)
{
	return wf_instance_get(wf_check_name(fcinfo, 0, "id"), WF_PRIV_READ, instance);
}

/*
 * The arguments (id, after, max) of a list.
 */
static void
get_page(FunctionCallInfo fcinfo, int64 *after, int *max)
{
	wf_check_not_null(fcinfo, 1, "after");
	wf_check_not_null(fcinfo, 2, "max");
	*after = PG_GETARG_INT64(1);
	*max = PG_GETARG_INT32(2);
	if (*max < 1 || *max > MAX_LIST)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"max\" must be between 1 and %d, got %d", MAX_LIST, *max),
				 errhint("Read on with the last row's number as the argument \"after\".")));
}

static Datum
return_row(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/*
 * The arguments (as_of, known_at) of a look into the past.
 */
static WfReplayLimit
get_limit(FunctionCallInfo fcinfo)
{
	WfReplayLimit limit = WF_REPLAY_NO_LIMIT;

	if (!PG_ARGISNULL(1))
		limit.as_of = PG_GETARG_TIMESTAMPTZ(1);
	if (!PG_ARGISNULL(2))
		limit.known_at = PG_GETARG_TIMESTAMPTZ(2);
	return limit;
}

/*
 * state(id, as_of, known_at) -> the state after the last event within both
 */
Datum
wfproc_state(PG_FUNCTION_ARGS)
{
	WfReplayLimit limit = get_limit(fcinfo);
	WfInstance	instance;
	WfWorkflow *workflow;
	WfFold		fold;
	WfDivergence divergence;

	wf_check_not_in_handler("state");
	workflow = get_readable(fcinfo, &instance);
	wf_replay_upto(workflow, &instance, GetActiveSnapshot(), limit, &fold, &divergence);
	wf_replay_require(&instance, &divergence);
	PG_RETURN_JSONB_P(fold.state);
}

/*
 * One row of states(), in a memory context that is reset after each.
 */
static void
put_state(ReturnSetInfo *result, WfWorkflow *workflow, int64 instance_id, WfReplayLimit limit)
{
	WfInstance	instance;
	WfFold		fold;
	WfDivergence divergence;
	Datum		values[4];
	bool		nulls[4];

	CHECK_FOR_INTERRUPTS();
	if (!wf_instance_read(instance_id, GetActiveSnapshot(), &instance))
		return;
	wf_replay_upto(workflow, &instance, GetActiveSnapshot(), limit, &fold, &divergence);
	wf_replay_require(&instance, &divergence);
	wf_row_set_text(values, nulls, 1, instance.id);
	wf_row_set(values, nulls, 2, Int64GetDatum(fold.seq));
	wf_row_set(values, nulls, 3, Int32GetDatum(fold.version));
	wf_row_set_jsonb(values, nulls, 4, fold.state);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * states(workflow, as_of, known_at) -> the same for each instance that had begun by as_of
 */
Datum
wfproc_states(PG_FUNCTION_ARGS)
{
	WfReplayLimit limit = get_limit(fcinfo);
	WfCensus	which = {.order_by_id = true,.started_by = limit.as_of};
	WfWorkflow *workflow;
	MemoryContext memory;
	MemoryContext old;
	int64	   *instance_ids;
	int			count;

	wf_check_not_in_handler("states");
	workflow = wf_census_workflow(fcinfo, WF_PRIV_READ);
	InitMaterializedSRF(fcinfo, 0);
	instance_ids = wf_census_take(workflow, &which, &count);
	memory = AllocSetContextCreate(CurrentMemoryContext, "wfproc states", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(memory);
	for (int i = 0; i < count; i++)
	{
		put_state((ReturnSetInfo *) fcinfo->resultinfo, workflow, instance_ids[i], limit);
		MemoryContextReset(memory);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(memory);
	return (Datum) 0;
}

/*
 * digest(id) -> (seq, sha256): the end of the chain, which stands for the whole log
 */
Datum
wfproc_digest(PG_FUNCTION_ARGS)
{
	WfInstance	instance;
	uint8		hash[WF_SHA256_LEN];
	Datum		values[2];
	bool		nulls[2];
	int64		seq;

	(void) get_readable(fcinfo, &instance);
	seq = wf_eventlog_last(instance.instance_id, GetActiveSnapshot(), hash);
	if (seq == 0)
		wf_eventlog_first_hash(instance.id, hash);
	wf_row_set(values, nulls, 1, Int64GetDatum(seq));
	wf_row_set_bytes(values, nulls, 2, hash, WF_SHA256_LEN);
	return return_row(fcinfo, values, nulls);
}

static void
put_log_row(ReturnSetInfo *result, const WfLogRow *row)
{
	Datum		values[12];
	bool		nulls[12];

	memset(nulls, true, sizeof(nulls));
	wf_row_set(values, nulls, 1, Int64GetDatum(row->seq));
	wf_row_set(values, nulls, 2, TimestampTzGetDatum(row->event.at));
	wf_row_set(values, nulls, 3, TimestampTzGetDatum(row->recorded_at));
	wf_row_set_text(values, nulls, 4, row->event.name);
	wf_row_set_jsonb(values, nulls, 5, row->event.payload);
	wf_row_set_text(values, nulls, 6, row->event.sender);
	if (row->event.mail_id != 0)
		wf_row_set(values, nulls, 7, Int64GetDatum(row->event.mail_id));
	wf_row_set_text(values, nulls, 8, row->event.key);
	wf_row_set_jsonb(values, nulls, 9, row->reply);
	wf_row_set(values, nulls, 10, BoolGetDatum(row->event.live));
	wf_row_set(values, nulls, 11, Int64GetDatum(row->digest));
	wf_row_set_bytes(values, nulls, 12, row->hash, WF_SHA256_LEN);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * history(id, after, max) -> the log, the engine's own events with the others
 */
Datum
wfproc_history(PG_FUNCTION_ARGS)
{
	WfInstance	instance;
	WfLogScan  *scan;
	WfLogRow	row;
	int64		after;
	int			max;

	get_page(fcinfo, &after, &max);
	(void) get_readable(fcinfo, &instance);
	InitMaterializedSRF(fcinfo, 0);
	scan = wf_eventlog_open(instance.instance_id, after, GetActiveSnapshot());
	while (max-- > 0 && wf_eventlog_next(scan, &row))
	{
		CHECK_FOR_INTERRUPTS();
		put_log_row((ReturnSetInfo *) fcinfo->resultinfo, &row);
	}
	wf_eventlog_close(scan);
	return (Datum) 0;
}

static void
put_mail(ReturnSetInfo *result, const WfMail *mail, TimestampTz now)
{
	const WfEvent *event = &mail->event;
	Datum		values[9];
	bool		nulls[9];

	wf_row_set(values, nulls, 1, Int64GetDatum(event->mail_id));
	wf_row_set(values, nulls, 2, TimestampTzGetDatum(event->at));
	wf_row_set_text(values, nulls, 3, event->name);
	wf_row_set_jsonb(values, nulls, 4, event->payload);
	wf_row_set_text(values, nulls, 5, event->sender);
	wf_row_set_text(values, nulls, 6, event->key);
	wf_row_set(values, nulls, 7, BoolGetDatum(mail->timer != NULL));
	wf_row_set(values, nulls, 8, BoolGetDatum(mail->postponed != WF_NOT_POSTPONED));
	wf_row_set(values, nulls, 9, BoolGetDatum(event->at <= now));
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * Finds the mail after which agenda() goes on: *at becomes its stamp.  False where it is not there (any more): then it was
 * handled, and so was what came before it, unless that was postponed; all that is left is to be listed.
 */
static bool
find_place(const WfInstance *instance, int64 mail_id, TimestampTz *at)
{
	WfMailScan *scan;
	WfMail		mail;
	bool		found = false;

	if (mail_id <= 0)
		return false;
	scan = wf_mailbox_open(instance->instance_id, DT_NOBEGIN, GetActiveSnapshot());
	while (!found && wf_mailbox_next(scan, &mail))
	{
		CHECK_FOR_INTERRUPTS();
		found = mail.event.mail_id == mail_id;
		*at = mail.event.at;
	}
	wf_mailbox_close(scan);
	return found;
}

/*
 * agenda(id, after, max) -> the mailbox, in the order in which it will be handled
 */
Datum
wfproc_agenda(PG_FUNCTION_ARGS)
{
	TimestampTz now = wf_clock_now();
	TimestampTz from = DT_NOBEGIN;
	WfInstance	instance;
	WfMailScan *scan;
	WfMail		mail;
	bool		before;			/* still up to the place */
	int64		after;
	int			max;

	get_page(fcinfo, &after, &max);
	(void) get_readable(fcinfo, &instance);
	InitMaterializedSRF(fcinfo, 0);
	before = find_place(&instance, after, &from);
	scan = wf_mailbox_open(instance.instance_id, before ? from : DT_NOBEGIN, GetActiveSnapshot());
	while (max > 0 && wf_mailbox_next(scan, &mail))
	{
		CHECK_FOR_INTERRUPTS();
		if (before)
			/* by the same snapshot, so it is met again */
			before = mail.event.mail_id != after;
		else
		{
			put_mail((ReturnSetInfo *) fcinfo->resultinfo, &mail, now);
			max--;
		}
	}
	wf_mailbox_close(scan);
	return (Datum) 0;
}

/* where replay() puts its rows */
typedef struct WfReplayRows
{
	ReturnSetInfo *result;
	int64		last_seq;
	int64		differs_at;		/* the first seq that differs; 0: none */
} WfReplayRows;

static void
put_replay_row(WfReplayRows *rows, int64 seq, const WfLogRow *row, Jsonb *state, Jsonb *actions, bool diverged)
{
	Datum		values[6];
	bool		nulls[6];

	memset(nulls, true, sizeof(nulls));
	wf_row_set(values, nulls, 1, Int64GetDatum(seq));
	if (row != NULL)
	{
		wf_row_set(values, nulls, 2, TimestampTzGetDatum(row->event.at));
		wf_row_set_text(values, nulls, 3, row->event.name);
	}
	wf_row_set_jsonb(values, nulls, 4, state);
	wf_row_set_jsonb(values, nulls, 5, actions);
	wf_row_set(values, nulls, 6, BoolGetDatum(diverged));
	tuplestore_putvalues(rows->result->setResult, rows->result->setDesc, values, nulls);
	rows->last_seq = seq;
}

/*
 * A WfReplayVisitor: goes on after a difference, since what comes after it is of interest too.
 */
static bool
show_step(const WfLogRow *row, const WfFold *fold, const List *actions, bool diverged, void *arg)
{
	WfReplayRows *rows = arg;

	put_replay_row(rows, row->seq, row, fold->state, wf_action_as_jsonb(actions), diverged);
	if (diverged && rows->differs_at == 0)
		rows->differs_at = row->seq;
	return true;
}

/*
 * Says where a replay and the log part.  Another version is expected to lead elsewhere: there only where it gets stuck.
 */
static void
warn(const WfInstance *instance, const WfReplayRows *rows, const WfDivergence *divergence, const WfVersion *version)
{
	if (version != NULL && divergence->stuck_seq != 0)
		ereport(WARNING,
				(errcode(ERRCODE_WF_DIVERGED),
				 errmsg("version %d does not get past seq %lld of instance \"%s\": %s", version->version,
						(long long) divergence->stuck_seq, instance->id, divergence->stuck_reason)));
	else if (version == NULL && rows->differs_at != 0)
		ereport(WARNING,
				(errcode(ERRCODE_WF_DIVERGED),
				 errmsg("replay of instance \"%s\" differs from its log at seq %lld: %s", instance->id,
						(long long) rows->differs_at,
						rows->differs_at == divergence->seq ? divergence->reason : "digest differs")));
}

/*
 * replay(id, upto, version) -> each step again, from the first.  Where it cannot go on it ends in a row without a state.
 */
Datum
wfproc_replay(PG_FUNCTION_ARGS)
{
	WfReplayRows rows = {(ReturnSetInfo *) fcinfo->resultinfo, 0, 0};
	WfInstance	instance;
	WfWorkflow *workflow;
	WfVersion  *version = NULL;
	WfFold		fold;
	WfDivergence divergence;

	wf_check_not_in_handler("replay");
	if (!PG_ARGISNULL(1) && PG_GETARG_INT64(1) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"upto\" must not be negative, got %lld", (long long) PG_GETARG_INT64(1)),
				 errhint("It is a seq of the log; NULL is for all of it.")));
	workflow = get_readable(fcinfo, &instance);
	if (!PG_ARGISNULL(2))
		version = wf_replay_version(workflow, PG_GETARG_INT32(2));
	InitMaterializedSRF(fcinfo, 0);
	wf_replay_under(workflow, version, &instance, GetActiveSnapshot(), PG_ARGISNULL(1) ? PG_INT64_MAX : PG_GETARG_INT64(1),
					show_step, &rows, &fold, &divergence);
	if (divergence.code != 0)
		wf_replay_require(&instance, &divergence);
	if (divergence.stuck_seq > rows.last_seq)
		put_replay_row(&rows, divergence.stuck_seq, NULL, NULL, NULL, true);
	if (rows.differs_at == 0)
		rows.differs_at = divergence.seq;
	warn(&instance, &rows, &divergence, version);
	return (Datum) 0;
}

/* one of the two logs that compare() reads side by side */
typedef struct WfSide
{
	WfInstance	instance;
	WfWorkflow *workflow;
	WfLogScan  *scan;
	WfLogRow	row;
	bool		ended;
} WfSide;

static void
open_side(FunctionCallInfo fcinfo, int argno, const char *argument, WfSide *side)
{
	memset(side, 0, sizeof(WfSide));
	side->workflow = wf_instance_get(wf_check_name(fcinfo, argno, argument), WF_PRIV_READ, &side->instance);
}

static void
hash_payload(const WfEvent *event, uint8 *hash)
{
	if (event->payload_sha256 != NULL)
		memcpy(hash, event->payload_sha256, WF_SHA256_LEN);
	else
		wf_hash_jsonb(event->payload, hash);
}

/*
 * Whether both logs say the same here.
 */
static bool
same_row(const WfLogRow *a, const WfLogRow *b)
{
	uint8		x[WF_SHA256_LEN];
	uint8		y[WF_SHA256_LEN];

	if (a->digest != b->digest || a->event.at != b->event.at || strcmp(a->event.name, b->event.name) != 0)
		return false;
	hash_payload(&a->event, x);
	hash_payload(&b->event, y);
	return memcmp(x, y, WF_SHA256_LEN) == 0;
}

/*
 * The first seq at which the logs differ; 0: nowhere.  The rows there are left in the sides.
 */
static int64
find_parting(WfSide *a, WfSide *b)
{
	int64		seq = 0;
	bool		same = true;

	a->scan = wf_eventlog_open(a->instance.instance_id, 0, GetActiveSnapshot());
	b->scan = wf_eventlog_open(b->instance.instance_id, 0, GetActiveSnapshot());
	while (same && !a->ended)
	{
		CHECK_FOR_INTERRUPTS();
		a->ended = !wf_eventlog_next(a->scan, &a->row);
		b->ended = !wf_eventlog_next(b->scan, &b->row);
		seq++;
		same = a->ended ? b->ended : !b->ended && same_row(&a->row, &b->row);
	}
	return same ? 0 : seq;
}

/*
 * What one side has at the seq where they part: event, stamp and state, columns of the result from "column" on.
 */
static void
set_side(Datum *values, bool *nulls, int column, WfSide *side, int64 seq)
{
	WfReplayLimit limit = WF_REPLAY_NO_LIMIT;
	WfFold		fold;
	WfDivergence divergence;

	if (side->ended)
		return;
	wf_row_set_text(values, nulls, column, side->row.event.name);
	wf_row_set(values, nulls, column + 1, TimestampTzGetDatum(side->row.event.at));
	limit.upto = seq;
	wf_replay_upto(side->workflow, &side->instance, GetActiveSnapshot(), limit, &fold, &divergence);
	wf_replay_require(&side->instance, &divergence);
	wf_row_set_jsonb(values, nulls, column + 2, fold.state);
}

/*
 * compare(id1, id2) -> where two logs part
 */
Datum
wfproc_compare(PG_FUNCTION_ARGS)
{
	WfSide		sides[2];
	Datum		values[7];
	bool		nulls[7];
	int64		seq;

	wf_check_not_in_handler("compare");
	open_side(fcinfo, 0, "id1", &sides[0]);
	open_side(fcinfo, 1, "id2", &sides[1]);
	/* the second may have thrown the first one's away */
	sides[0].workflow = wf_workflow_get(sides[0].instance.workflow_id);
	memset(nulls, true, sizeof(nulls));
	seq = find_parting(&sides[0], &sides[1]);
	if (seq != 0)
	{
		wf_row_set(values, nulls, 1, Int64GetDatum(seq));
		set_side(values, nulls, 2, &sides[0], seq);
		set_side(values, nulls, 5, &sides[1], seq);
	}
	wf_eventlog_close(sides[0].scan);
	wf_eventlog_close(sides[1].scan);
	return return_row(fcinfo, values, nulls);
}

/*
 * verify(id) -> (ok, first_bad_seq, reason)
 */
Datum
wfproc_verify(PG_FUNCTION_ARGS)
{
	WfInstance	instance;
	WfWorkflow *workflow;
	WfDivergence bad;
	Datum		values[3];
	bool		nulls[3];

	wf_check_not_in_handler("verify");
	workflow = get_readable(fcinfo, &instance);
	wf_verify_instance(workflow, &instance, GetActiveSnapshot(), &bad);
	memset(nulls, true, sizeof(nulls));
	wf_row_set(values, nulls, 1, BoolGetDatum(bad.reason == NULL));
	if (bad.reason != NULL)
	{
		wf_row_set(values, nulls, 2, Int64GetDatum(bad.seq));
		wf_row_set_text(values, nulls, 3, bad.reason);
	}
	return return_row(fcinfo, values, nulls);
}

/*
 * Trigger of wfproc.event.
 */
Datum
wfproc_refuse_change(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called by trigger manager", "refuse_change")));
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("wfproc.event is append-only"),
			 errhint("What has happened stays in the log: correct it by another event.")));
	PG_RETURN_NULL();			/* not reached */
}
